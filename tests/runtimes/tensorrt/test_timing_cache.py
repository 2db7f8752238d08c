from pathlib import Path

import pytest
from pretended_tensorrt import PretendedConfig

from errors import UserError
from runtimes.tensorrt.timing_cache import load_timing_cache, save_timing_cache


def test_timings_of_one_build_reach_the_next(tmp_path: Path) -> None:
    path = tmp_path / "new" / "timing.cache"
    first = PretendedConfig()
    load_timing_cache(first, path)
    assert first.timing_cache == b""
    save_timing_cache(first, path)
    second = PretendedConfig()
    load_timing_cache(second, path)
    assert second.timing_cache == path.read_bytes() == b" and more"


def test_a_file_of_another_gpu_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "timing.cache"
    path.write_bytes(b"of another GPU")
    with pytest.raises(UserError, match=r"does not take --timing-cache .*timing\.cache") as refusal:
        load_timing_cache(PretendedConfig(refused=("set_timing_cache",)), path)
    assert "delete" in refusal.value.fix
    assert path.read_bytes() == b"of another GPU"
