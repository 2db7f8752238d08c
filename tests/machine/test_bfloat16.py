import pytest
import torch

from machine.bfloat16 import computes_in_bfloat16

CPU = "_is_avx512_bf16_supported", "_is_amx_tile_supported"


@pytest.mark.parametrize(("there", "expected"), [((), False), (CPU[:1], True), (CPU[1:], True)])
def test_cpu_has_it_with_either_instruction_set(
    monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], expected: bool
) -> None:
    for name in CPU:
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in there)
    assert computes_in_bfloat16("cpu") is expected


@pytest.mark.parametrize("emulated_only", [False, True])
def test_emulation_on_a_gpu_does_not_count(monkeypatch: pytest.MonkeyPatch, emulated_only: bool) -> None:
    def supported(including_emulation: bool) -> bool:
        return including_emulation or not emulated_only

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert computes_in_bfloat16("cuda") is not emulated_only
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert computes_in_bfloat16("cuda") is False
