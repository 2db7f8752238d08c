"""Which GPU an engine runs on, and what is said where it runs on none."""

from dataclasses import replace

import pytest

from errors import UserError
from machine.gpu import Gpu
from runtimes.tensorrt.engine_card import EngineCard
from runtimes.tensorrt.fit import RTX_CAPABILITIES, fitting_gpu, rtx_supports
from runtimes.tensorrt.plan_options import DEFAULT_PROFILES
from vocabulary import BuilderName, Precision

T4, A100, L4 = Gpu("NVIDIA T4", 75, 0), Gpu("NVIDIA A100", 80, 1), Gpu("NVIDIA L4", 89, 2)
H100, B200, RTX5090 = Gpu("NVIDIA H100", 90, 0), Gpu("NVIDIA B200", 100, 0), Gpu("NVIDIA RTX 5090", 120, 3)

RTX = EngineCard(
    builder=BuilderName.rtx,
    version="1.7",
    precision=Precision.fp16,
    targets=(),
    convolutions={"float16": 9},
    proof="plan",
    proof_sentence="made up",
    batches=DEFAULT_PROFILES,
    options={},
    traffic=(),
    warnings={},
    source="source",
    plan="plan",
    seconds=1.0,
    size=9,
    properties={},
)
CLASSIC = replace(RTX, builder=BuilderName.tensorrt, gpu=A100.name, capability=80)


@pytest.mark.parametrize("capability", [*RTX_CAPABILITIES, 122, 130])
def test_what_tensorrt_for_rtx_runs_on(capability: int) -> None:
    assert rtx_supports(capability)


@pytest.mark.parametrize("capability", [70, 87, 90, 100, 103, 110])
def test_what_tensorrt_for_rtx_has_no_kernels_for(capability: int) -> None:
    assert not rtx_supports(capability)


@pytest.mark.parametrize(
    ("targets", "gpus", "chosen"),
    [
        ((), [L4], L4),
        ((), [H100, L4], L4),
        ((), [T4, A100], A100),
        (("sm75",), [T4, A100], T4),
        (("sm89", "sm120"), [A100, RTX5090, L4], RTX5090),
    ],
)
def test_the_first_gpu_that_fits_is_taken(targets: tuple[str, ...], gpus: list[Gpu], chosen: Gpu) -> None:
    assert fitting_gpu(replace(RTX, targets=targets), gpus) == chosen


@pytest.mark.parametrize(
    ("card", "gpus", "reason", "fix"),
    [
        (RTX, [H100], "TensorRT for RTX has no kernels for sm90", "--builder tensorrt"),
        (RTX, [B200], "no kernels for sm100", "--engine ort --device cuda"),
        (RTX, [T4], "it was built for sm80 and later", "build it with --target sm75"),
        (replace(RTX, targets=("sm89",)), [A100], "it was built for sm89", "build it with --target sm80"),
        (replace(RTX, targets=("sm89",)), [H100, A100], "no kernels for sm90", "build it with --target sm80"),
        (CLASSIC, [L4], "it was built on NVIDIA A100 (sm80)", "build it again here"),
        (CLASSIC, [replace(A100, name="NVIDIA A30")], "it was built on NVIDIA A100", "build it again here"),
        (replace(CLASSIC, gpu="", capability=0), [A100], "built on an unknown GPU", "build it again here"),
    ],
)
def test_every_gpu_that_does_not_fit_is_named_with_the_reason(
    card: EngineCard, gpus: list[Gpu], reason: str, fix: str
) -> None:
    with pytest.raises(UserError) as refusal:
        fitting_gpu(card, gpus)
    assert reason in refusal.value.problem
    assert all(f"GPU {gpu.index}, {gpu.name}" in refusal.value.problem for gpu in gpus)
    assert fix in refusal.value.fix
    assert "sm90" not in refusal.value.fix


def test_a_classic_engine_runs_on_the_kind_of_gpu_it_was_built_on() -> None:
    assert fitting_gpu(CLASSIC, [L4, A100]) == A100
