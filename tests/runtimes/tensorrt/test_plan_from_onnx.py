from pathlib import Path
from typing import Any

import pytest
from fault_injection import bypass_dequantize, graph_in, publish, set_card
from pretended_tensorrt import PretendedTensorRT, classic_convolution, inspector_document
from recorded_plans import CONVOLUTIONS
from sample_networks import sample_card

from artifacts.names import MODEL, MODEL_FP8_GPU, MODEL_INT8_CPU, MODEL_INT8_GPU
from artifacts.run_directory import RunDirectory
from errors import CheckFailed
from graphs.onnx_file import card_from_file
from models.config import resnet_config
from runtimes.tensorrt.package import BUILDERS, Builder
from runtimes.tensorrt.plan_from_onnx import BuiltPlan, plan_from_onnx
from runtimes.tensorrt.plan_options import PlanOptions, Profile

RTX, TENSORRT = BUILDERS["rtx"], BUILDERS["tensorrt"]
FP32 = sample_card(resnet_config("preact", 8))
ONE_PROFILE = PlanOptions(profiles=(Profile(1, 32, 128),))

needs_rtx = pytest.mark.skipif(RTX.version is None, reason="tensorrt-rtx is not installed")


def _of_type(kind: str) -> str:
    return inspector_document(*[classic_convolution(c.name, c.weights, kind) for c in CONVOLUTIONS])


@pytest.fixture
def built(preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Build with a stand-in for TensorRT, from a real graph."""

    def call(package: PretendedTensorRT, options: PlanOptions = ONE_PROFILE) -> BuiltPlan:
        monkeypatch.setattr(Builder, "load", lambda builder: package)
        return plan_from_onnx(preact_run.path / MODEL, FP32, TENSORRT, (), options)

    return call


def test_a_plan_of_tensorrt_is_proved_by_its_inspector(built: Any) -> None:
    package = PretendedTensorRT(inspector=_of_type("Float"))
    plan = built(package)
    assert plan.content == b"plan"
    assert (plan.evidence.source, plan.convolutions) == ("inspector", {"float32": 9})
    assert plan.types == {conv.name: "float32" for conv in CONVOLUTIONS}
    assert package.network_flags == [1 << package.NetworkDefinitionCreationFlag.STRONGLY_TYPED]
    assert package.host_code_allowed


def test_a_plan_of_tensorrt_in_another_precision_is_refused(built: Any) -> None:
    with pytest.raises(CheckFailed, match=r"TensorRT would not run model\.onnx in fp32: .* 9 run in float16"):
        built(PretendedTensorRT(inspector=_of_type("Half")))


def test_a_plan_that_cannot_be_loaded_again_proves_nothing(built: Any) -> None:
    plan = built(PretendedTensorRT(inspector=None))
    assert (plan.evidence.source, plan.types, plan.convolutions) == ("none", {}, {})
    assert plan.evidence.sentence == "none, because the plan cannot be loaded here (wrong device)"


def test_an_inspector_that_lists_no_convolution_proves_the_wrong_thing(built: Any) -> None:
    with pytest.raises(CheckFailed, match="9 run in a type that the plan does not tell"):
        built(PretendedTensorRT())


def test_a_log_without_layers_proves_nothing(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Builder, "load", lambda builder: PretendedTensorRT())
    plan = plan_from_onnx(preact_run.path / MODEL, FP32, RTX, (), ONE_PROFILE)
    assert plan.evidence.source == "none"
    assert plan.evidence.sentence.startswith("none, because TensorRT for RTX ")
    assert plan.evidence.sentence.endswith("lists no final layers in its log")


def test_a_log_with_layers_that_are_not_known_fails(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log_layers(monitor: Any) -> None:
        package.logger.log(4, "Layers:\nName: of another form")

    package = PretendedTensorRT(while_building=log_layers)
    monkeypatch.setattr(Builder, "load", lambda builder: package)
    with pytest.raises(CheckFailed, match="'Name: of another form'"):
        plan_from_onnx(preact_run.path / MODEL, FP32, RTX, (), ONE_PROFILE)


def test_all_reasons_of_the_parser_are_given(built: Any) -> None:
    words = r"TensorRT cannot parse model\.onnx \(no such operator; no such type\)"
    with pytest.raises(CheckFailed, match=words):
        built(PretendedTensorRT(["no such operator", "no such type"]))


def test_build_that_fails_gives_the_errors_of_tensorrt(built: Any) -> None:
    with pytest.raises(CheckFailed, match=r"TensorRT could not build model\.onnx \(out of memory\)"):
        built(PretendedTensorRT(builder_error="out of memory"))


def test_timings_are_kept_for_the_next_build(built: Any, tmp_path: Path) -> None:
    path = tmp_path / "timing.cache"
    options = PlanOptions(profiles=ONE_PROFILE.profiles, timing_cache=path)
    built(PretendedTensorRT(inspector=_of_type("Float")), options)
    assert path.read_bytes() == b" and more"
    package = PretendedTensorRT(inspector=_of_type("Float"))
    built(package, options)
    assert package.config.timing_cache == b" and more"


def test_timings_of_a_build_that_failed_are_not_kept(built: Any, tmp_path: Path) -> None:
    path = tmp_path / "timing.cache"
    options = PlanOptions(profiles=ONE_PROFILE.profiles, timing_cache=path)
    with pytest.raises(CheckFailed):
        built(PretendedTensorRT(builder_error="out of memory"), options)
    assert not path.exists()


@needs_rtx
@pytest.mark.parametrize("content", [b"", b"no protobuf"])
def test_garbage_is_a_failed_check(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / MODEL
    path.write_bytes(content)
    with pytest.raises(CheckFailed):
        plan_from_onnx(path, FP32, RTX)


@needs_rtx
def test_refusal_to_parse_gives_the_reason(preact_run: RunDirectory) -> None:
    """uint8 codes with a zero point, which TensorRT has not."""
    graph = graph_in(preact_run, MODEL_INT8_CPU)
    set_card(graph, flavour="gpu")
    publish(preact_run, MODEL_INT8_GPU, graph)
    path = preact_run.path / MODEL_INT8_GPU
    with pytest.raises(CheckFailed, match=r"cannot parse model\.int8\.gpu\.onnx \(.*zero.?point") as failure:
        plan_from_onnx(path, card_from_file(path), RTX)
    assert failure.value.exit_status == 1


@needs_rtx
@pytest.mark.parametrize("conv", ["stem.conv", "stage2.0.residual.conv1"])
@pytest.mark.parametrize(("name", "precision"), [(MODEL_INT8_GPU, "int8"), (MODEL_FP8_GPU, "fp8")])
def test_one_convolution_that_is_not_quantized_is_named(
    run: RunDirectory, conv: str, name: str, precision: str
) -> None:
    if (precision, conv) == ("fp8", "stem.conv"):
        pytest.skip("FP8 leaves the stem in float")
    graph = graph_in(run, name)
    bypass_dequantize(graph, conv)
    publish(run, name, graph)
    path = run.path / name
    with pytest.raises(CheckFailed, match=rf"would not run .* in {precision}: .*run in float16 \(.*{conv}"):
        plan_from_onnx(path, card_from_file(path), RTX, ("sm89",))


@needs_rtx
@pytest.mark.parametrize("targets", [("sm75",), ("sm75", "sm86", "sm89")])
def test_int8_for_turing_is_seen_in_the_plan(preact_run: RunDirectory, targets: tuple[str, ...]) -> None:
    """`targets_for` refuses this before the build; the proof does not rely on that."""
    path = preact_run.path / MODEL_INT8_GPU
    with pytest.raises(CheckFailed, match=r"would not run .* in int8: of 9 convolutions 9 run in float16"):
        plan_from_onnx(path, card_from_file(path), RTX, targets)


@needs_rtx
def test_ctrl_c_stops_tensorrt(preact_run: RunDirectory) -> None:
    def interrupted(items: Any, description: Any, total: int | None = None) -> Any:
        for item in items:
            yield item
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan_from_onnx(preact_run.path / MODEL, FP32, RTX, progress=interrupted)


@needs_rtx
def test_nothing_is_printed(preact_run: RunDirectory, capfd: pytest.CaptureFixture[str]) -> None:
    path = preact_run.path / MODEL_INT8_GPU
    assert plan_from_onnx(path, card_from_file(path), RTX).warnings
    assert capfd.readouterr() == ("", "")
