import ctypes
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from machine import memory
from machine.memory import gpu_memory, gpu_memory_in_use, host_memory, resident_memory

GIB = 2**30


@pytest.fixture
def container_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file in which cgroup v2 would keep a container's limit; there is none until a test writes one."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CONTAINER_LIMIT", limit)
    return limit


@pytest.fixture
def posix_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host of 1000 pages of 4096 bytes."""
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)


def set_windows(monkeypatch: pytest.MonkeyPatch, total: int, succeeds: bool = True) -> None:
    """Pretend to be a Windows host: `sysconf` is not there, and kernel32 answers."""

    def status(reference: object) -> int:
        structure = reference._obj  # type: ignore[attr-defined]
        # Windows refuses a structure that does not state the documented 64 bytes as its length.
        assert structure.length == 64
        assert memory._MemoryStatus.total_physical.offset == 8
        structure.total_physical = total
        return int(succeeds)

    libraries = {"kernel32.dll": SimpleNamespace(GlobalMemoryStatusEx=status)}
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", libraries.__getitem__)


@pytest.mark.usefixtures("posix_host", "container_limit")
def test_without_a_container_all_of_the_host_may_be_used() -> None:
    assert host_memory() == 4096 * 1000


@pytest.mark.usefixtures("posix_host")
@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max\n", 4096 * 1000), ("2048000\n", 2048000), ("9223372036854771712\n", 4096 * 1000)],
)
def test_container_may_use_no_more_than_its_limit(container_limit: Path, limit: str, expected: int) -> None:
    container_limit.write_text(limit)
    assert host_memory() == expected


@pytest.mark.usefixtures("container_limit")
def test_windows_is_asked_without_sysconf(monkeypatch: pytest.MonkeyPatch) -> None:
    set_windows(monkeypatch, 16 * GIB)
    assert host_memory() == 16 * GIB


@pytest.mark.usefixtures("container_limit")
def test_windows_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_windows(monkeypatch, 16 * GIB, succeeds=False)
    with pytest.raises(OSError, match="GlobalMemoryStatusEx failed"):
        host_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/meminfo is Linux's")
@pytest.mark.usefixtures("container_limit")
def test_memory_of_this_host_is_what_the_kernel_reports() -> None:
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    kibibytes = int(fields["MemTotal"].split()[0])
    assert host_memory() == pytest.approx(1024 * kibibytes, rel=0.01)


def test_memory_of_a_gpu_is_all_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (3 * GIB, 8 * GIB))
    assert gpu_memory() == 8 * GIB


def test_resident_memory_is_the_second_number_of_pages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "statm").write_text("9000 250 30 1 0 700 0\n")
    monkeypatch.setattr(memory, "_OWN_PAGES", tmp_path / "statm")
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096}.__getitem__)
    assert resident_memory() == 250 * 4096
    monkeypatch.setattr(memory, "_OWN_PAGES", tmp_path / "not there")
    assert resident_memory() is None


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_resident_memory_grows_with_what_is_written() -> None:
    before = resident_memory()
    written = bytearray(b"x" * 2**26)
    after = resident_memory()
    assert before is not None and after is not None
    assert after - before == pytest.approx(len(written), rel=0.2)


def test_gpu_memory_in_use_is_what_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (5 * GIB, 8 * GIB))
    assert gpu_memory_in_use() == 3 * GIB
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_memory_in_use() is None
