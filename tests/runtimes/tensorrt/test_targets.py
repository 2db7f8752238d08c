import pytest
from pretended_gpus import set_gpus

import runtimes.tensorrt.package
from errors import UserError
from machine.gpu import Gpu
from runtimes.tensorrt.package import BUILDERS
from runtimes.tensorrt.targets import precisions_for, targets_for
from vocabulary import Precision

RTX, TENSORRT = BUILDERS["rtx"], BUILDERS["tensorrt"]
T4, A10, H200 = Gpu("NVIDIA T4", 75), Gpu("NVIDIA A10", 86), Gpu("NVIDIA H200", 90)

needs_rtx = pytest.mark.skipif(RTX.version is None, reason="tensorrt-rtx is not installed")


@pytest.fixture
def tensorrt_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes.tensorrt.package, "version_of", {"tensorrt": "11.0"}.get)


@pytest.mark.parametrize("precision", [name for name in Precision if name != "fp8"])
def test_the_builder_chooses_where_its_default_has_the_precision(precision: str) -> None:
    assert targets_for(RTX, (), precision) == ()


@needs_rtx
def test_fp8_is_built_for_all_gpus_that_have_it() -> None:
    assert targets_for(RTX, (), "fp8") == ("sm89", "sm120", "sm121")


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "target"),
    [
        ("fp8", "sm75"),
        ("fp8", "sm80"),
        ("fp8", "sm86"),
        ("bf16", "sm75"),
        ("fp32", "sm75"),
        ("int8", "sm75"),
    ],
)
def test_target_without_the_precision_is_refused_by_name(precision: str, target: str) -> None:
    with pytest.raises(UserError, match=f"{target} has no {precision} for TensorRT for RTX") as refusal:
        targets_for(RTX, ("sm120", target), precision)
    assert refusal.value.exit_status == 2
    assert f"build {target} in fp16, apart from {precision} with --target sm120" in refusal.value.fix


@needs_rtx
def test_a_plan_for_turing_among_others_would_cost_all_of_them_int8() -> None:
    with pytest.raises(
        UserError, match=r"sm75 has no int8 .* would run in float16; a plan for sm75,sm86,sm89 uses"
    ):
        targets_for(RTX, ("sm89", "sm75", "sm86"), "int8")
    with pytest.raises(UserError, match="sm75 and sm86 have no fp8"):
        targets_for(RTX, ("sm89", "sm75", "sm86"), "fp8")


@needs_rtx
def test_the_refusal_of_one_target_names_the_gpus_that_have_the_precision() -> None:
    with pytest.raises(UserError) as refusal:
        targets_for(RTX, ("sm75",), "int8")
    assert refusal.value.fix == "build sm75 in fp16, or int8 for sm80, sm86, sm89, sm120 or later"


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "target"),
    [
        ("fp8", "sm89"),
        ("fp8", "sm120"),
        ("fp8", "sm121"),
        ("bf16", "sm80"),
        ("int8", "sm80"),
        ("fp16", "sm75"),
    ],
)
def test_target_with_the_precision_is_taken(precision: str, target: str) -> None:
    assert targets_for(RTX, (target,), precision) == (target,)


@needs_rtx
@pytest.mark.parametrize(
    ("targets", "precisions"),
    [
        ((), list(Precision)),
        (("sm89",), list(Precision)),
        (("sm86", "sm120"), ["fp32", "fp16", "bf16", "int8"]),
        (("sm75",), ["fp16"]),
        (("sm75", "sm86", "sm89"), ["fp16"]),
    ],
)
def test_precisions_are_those_of_all_targets(targets: tuple[str, ...], precisions: list[str]) -> None:
    assert precisions_for(targets, "rtx") == precisions


@pytest.mark.usefixtures("tensorrt_alone")
@pytest.mark.parametrize(
    ("gpu", "precisions"),
    [
        (T4, ["fp32", "fp16", "int8"]),
        (A10, ["fp32", "fp16", "bf16", "int8"]),
        (H200, list(Precision)),
    ],
)
def test_precisions_of_tensorrt_are_those_of_the_gpu_here(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu, precisions: list[str]
) -> None:
    set_gpus(monkeypatch, gpu)
    assert precisions_for((), "tensorrt") == precisions
    for precision in Precision:
        if precision in precisions:
            assert targets_for(TENSORRT, (), precision) == ()
        else:
            with pytest.raises(
                UserError, match=f"sm{gpu.compute_capability} has no {precision} for TensorRT"
            ):
                targets_for(TENSORRT, (), precision)


@needs_rtx
@pytest.mark.parametrize("targets", [("sm90",), ("sm",), ("sm89", "ampere")])
def test_unknown_target_has_no_precisions(targets: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=f"unknown --target '{targets[-1]}'"):
        precisions_for(targets, "rtx")


@pytest.mark.parametrize(("version", "has_int8"), [("1.5.0.114", False), ("1.6.1.120", False), ("1.7", True)])
def test_rtx_builds_int8_since_1_7(monkeypatch: pytest.MonkeyPatch, version: str, has_int8: bool) -> None:
    monkeypatch.setattr(runtimes.tensorrt.package, "version_of", {"tensorrt-rtx": version}.get)
    assert ("int8" in precisions_for((), "rtx")) == has_int8
    assert "fp16" in precisions_for((), "rtx")
    if has_int8:
        assert targets_for(RTX, (), "int8") == ()
    else:
        with pytest.raises(UserError, match=f"TensorRT for RTX {version} has no INT8 convolution"):
            targets_for(RTX, (), "int8")
