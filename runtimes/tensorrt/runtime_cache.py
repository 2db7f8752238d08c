"""The kernels that TensorRT for RTX compiles for the GPU when an engine is opened, kept for the next time.

The file lies beside the engine. It belongs to one GPU and one driver, so that it is not part of the run's
record: TensorRT itself refuses a cache of another machine, and the kernels are then compiled again.
"""

from pathlib import Path
from typing import Any

from artifacts.files import write_atomically

_SUFFIX = ".runtime-cache"


class RuntimeCache:
    """The cache file of one engine.

    Attributes:
        kernels: TensorRT's own cache object.
        state: what became of the file, in words, for the description of a measurement.
    """

    def __init__(self, plan: Path, cache: Any) -> None:
        self.path = plan.with_suffix(_SUFFIX)
        self.state = "no file yet"
        self.kernels = cache
        self._before = b""

    def load(self) -> None:
        """Take the file's kernels over, if there is a file and TensorRT finds it fit."""
        if not self.path.is_file():
            return
        with self._lock():
            content = self.path.read_bytes()
        if self.kernels.deserialize(content):
            self.state, self._before = "loaded", content
        else:
            self.state = "of another machine or damaged, and made again"

    def save(self) -> None:
        """Write the file where the kernels have changed; a folder that cannot be written is left alone."""
        content = bytes(self.kernels.serialize())
        if content == self._before:
            return
        try:
            with self._lock():
                write_atomically(self.path, content)
        except OSError as error:
            self.state = f"not written ({error.strerror})"

    def _lock(self) -> Any:
        from filelock import FileLock

        return FileLock(self.path.with_suffix(f"{_SUFFIX}.lock"))
