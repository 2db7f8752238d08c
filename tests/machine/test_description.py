import json
import os
from pathlib import Path

import pytest
from pretended_gpus import set_gpus

import machine.cpu
import machine.description
from machine.cpu import adds_products_in_16_bits, available_threads, instruction_sets
from machine.description import Machine, this_machine
from machine.gpu import Gpu

KNOWN = ("AVX2", "AVX-VNNI", "AVX512", "AVX512-VNNI", "AVX512-bf16", "AMX")


def test_this_machine_is_described_in_json_values() -> None:
    document = this_machine().to_json()
    assert json.loads(json.dumps(document)).keys() == document.keys()
    assert document["cpu"]
    assert document["cores"] >= 1
    assert document["system"].count("Python") == 1


def test_description_is_the_same_each_time() -> None:
    """Figures are kept by comparing it."""
    assert this_machine() == this_machine()


def test_sentence_names_cpu_instruction_sets_cores_and_gpus() -> None:
    machine = Machine("EPYC", ("AVX2", "AMX"), 2, ("A (sm89)", "B (sm86)"), "Linux")
    assert machine.sentence() == "EPYC (AVX2, AMX), 2 cores, A (sm89), B (sm86)"


def test_sentence_says_that_there_is_no_gpu() -> None:
    assert Machine("EPYC", ("AVX2",), 2, (), "Linux").sentence().endswith("2 cores, no NVIDIA GPU")


def test_gpus_are_named_with_their_target(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, Gpu("NVIDIA L4", 89))
    assert this_machine().gpus == ("NVIDIA L4 (sm89)",)
    set_gpus(monkeypatch)
    assert this_machine().gpus == ()


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="no /proc/cpuinfo to compare with")
@pytest.mark.skipif(
    "without_vnni" in os.environ.get("LD_PRELOAD", ""), reason="the libraries are made to find less here"
)
def test_instruction_sets_are_those_the_kernel_reports() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    names = {"AVX2": "avx2", "AVX512-VNNI": "avx512_vnni", "AVX512-bf16": "avx512_bf16"}
    found = instruction_sets()
    assert {name for name in names if name in found} == {n for n, flag in names.items() if flag in flags}
    assert " without its " not in this_machine().cpu


def test_cpu_is_named_with_what_is_hidden_from_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = [f"model name\t: EPYC {core}\nflags\t\t: fpu avx2 avx512f avx512_vnni\n" for core in "12"]
    monkeypatch.setattr(Path, "read_text", lambda path: "\n".join(cores))
    for found, expected in {
        ("AVX2",): "EPYC 1 without its AVX512, AVX512-VNNI",
        ("AVX2", "AVX512", "AVX512-VNNI"): "EPYC 1",
    }.items():
        monkeypatch.setattr(machine.description, "instruction_sets", lambda found=found: found)
        assert this_machine().cpu == expected


def test_instruction_sets_are_known_ones_in_order() -> None:
    found = instruction_sets()
    assert list(found) == [name for name in KNOWN if name in found]


def test_threads_are_the_cores_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5, 7}, raising=False)
    assert available_threads() == 3


def test_threads_without_affinity_are_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_threads() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_threads() == 1


@pytest.mark.parametrize(
    ("architecture", "present", "expected"),
    [
        ("x86_64", ("AVX2",), True),
        ("AMD64", ("AVX2", "AVX512"), True),
        ("x86_64", ("AVX2", "AVX-VNNI"), False),
        ("x86_64", ("AVX2", "AVX512", "AVX512-VNNI"), False),
        ("aarch64", (), False),
    ],
)
def test_x86_without_vnni_adds_products_in_16_bits(
    monkeypatch: pytest.MonkeyPatch, architecture: str, present: tuple[str, ...], expected: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: architecture)
    monkeypatch.setattr(machine.cpu, "instruction_sets", lambda: present)
    assert adds_products_in_16_bits() is expected
