"""The file in which TensorRT keeps how long kernels took here, so that the next build measures less."""

from pathlib import Path
from typing import Any

from artifacts.files import write_atomically
from errors import UserError


def load_timing_cache(config: Any, path: Path) -> None:
    """Give a build the timings of earlier builds; none where the file does not exist.

    Raises:
        UserError: TensorRT does not take the file, because another GPU or version wrote it.
    """
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise UserError(
            f"TensorRT does not take --timing-cache {path}, because another GPU or version wrote the file",
            "name another file, or delete this one",
        )


def save_timing_cache(config: Any, path: Path) -> None:
    """Keep the timings of a build that ended well; of two processes that write at once, the last is kept."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        write_atomically(path, bytes(config.get_timing_cache().serialize()))
