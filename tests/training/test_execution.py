from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from errors import UserError
from training.execution import Execution

BFLOAT16 = "_is_avx512_bf16_supported", "_is_amx_tile_supported"


def cpu_with(monkeypatch: pytest.MonkeyPatch, *features: str) -> None:
    for name in BFLOAT16:
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in features)


@pytest.mark.parametrize("name", ["tpu", "cuda:1", ""])
def test_an_unknown_device(name: str) -> None:
    with pytest.raises(UserError, match=f"unknown device '{name}': use cpu or cuda"):
        Execution(name).torch_device()


def test_cuda_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="PyTorch sees no CUDA device here: use --device cpu"):
        Execution("cuda").torch_device()
    assert Execution("cpu").torch_device() == torch.device("cpu")


@pytest.mark.parametrize("feature", BFLOAT16)
def test_bfloat16_is_chosen_where_the_cpu_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, feature: str
) -> None:
    cpu_with(monkeypatch, feature)
    assert Execution().chosen_arithmetic() == "bf16"
    assert Execution(arithmetic="fp32").chosen_arithmetic() == "fp32"
    assert isinstance(Execution().autocast(), torch.autocast)
    assert isinstance(Execution(arithmetic="fp32").autocast(), nullcontext)


def test_emulated_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_with(monkeypatch)
    assert Execution().chosen_arithmetic() == "fp32"
    with pytest.raises(UserError, match=r"in emulation only, many times slower.*: use --arithmetic fp32"):
        Execution(arithmetic="bf16").chosen_arithmetic()


def test_an_unknown_arithmetic() -> None:
    with pytest.raises(UserError, match="unknown arithmetic 'int4': use fp32 or bf16"):
        Execution(arithmetic="int4").chosen_arithmetic()


def test_activations_are_too_much_above_half_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr("machine.memory.os.sysconf", pages.__getitem__)
    monkeypatch.setattr("machine.memory._CONTAINER_LIMIT", tmp_path / "memory.max")
    assert Execution().is_too_much(4096 * 500 + 1)
    assert not Execution().is_too_much(4096 * 500)
    assert Execution().is_too_much(4096 * 250 + 1, sharing=2)
    (tmp_path / "memory.max").write_text("max\n")
    assert not Execution().is_too_much(4096 * 500)
    (tmp_path / "memory.max").write_text("2048000\n")
    assert Execution().is_too_much(4096 * 250 + 1)
