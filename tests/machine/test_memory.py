"""Memory of the host and of a container, with and without `sysconf`."""

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from machine import memory

GIB = 2**30


@pytest.fixture(autouse=True)
def no_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CONTAINER_LIMIT", limit)
    return limit


def test_a_container_may_have_less_than_the_host(monkeypatch: pytest.MonkeyPatch, no_container: Path) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    assert memory.host_memory() == 4096 * 1000
    for limit, expected in (("max\n", 4096 * 1000), ("2048000\n", 2_048_000), ("9999999999\n", 4096 * 1000)):
        no_container.write_text(limit)
        assert memory.host_memory() == expected


def test_windows_is_asked_through_its_own_api(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(reference: Any) -> int:
        status = reference._obj
        assert status.length == ctypes.sizeof(status) == (64 if ctypes.sizeof(ctypes.c_ulong) == 4 else 72)
        status.total_physical = 16 * GIB
        return 1

    monkeypatch.delattr(os, "sysconf", raising=False)
    api = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=fill))
    monkeypatch.setattr(ctypes, "windll", api, raising=False)
    assert memory.host_memory() == 16 * GIB
