import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from fault_injection import bypass_dequantize, graph_in, publish, set_card
from pretended_gpus import set_gpus
from sample_networks import sample_card

import runtimes.tensorrt.package
from artifacts.names import (
    MODEL,
    MODEL_BF16,
    MODEL_FP8_GPU,
    MODEL_FP8_RTX,
    MODEL_FP16,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_INT8_RTX,
)
from artifacts.run_directory import RunDirectory
from artifacts.versions import version_of
from calibration.quantizing.qdq import qdq_from_ranges
from calibration.quantizing.scheme import RTX as RTX_SCHEME
from calibration.quantizing.scheme import RTX_FP8, Scheme
from data.dataset import Dataset
from errors import CheckFailed, UserError
from graphs.card import INPUT, OUTPUT
from graphs.onnx_file import card_from_file
from machine.gpu import Gpu
from models.config import resnet_config
from runtimes.engines import GPU_GRAPHS, GRAPHS_OF_BUILDERS
from runtimes.tensorrt.engine_card import card_of_engine, engine_name
from runtimes.tensorrt.engine_from_onnx import (
    BATCHES,
    _config,
    _is_expected,
    _logger,
    _strongly_typed,
    build,
    engine_from_onnx,
)
from runtimes.tensorrt.package import BUILDERS, Builder

RTX = BUILDERS["rtx"]
FP32 = sample_card(resnet_config("preact", 8))
TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8", "fp8": "float8"}
# Of the nine of the pre-activation network, those that a graph does not leave in float16.
OF_THAT_TYPE = {"fp32": 9, "fp16": 9, "bf16": 9, "int8": 5, "fp8": 1}
# FP8 is in two of the four GPUs that TensorRT for RTX builds for by itself.
TARGETS = {precision: ("sm89", "sm120") if precision == "fp8" else () for precision in TYPES}

GRAPHS = GRAPHS_OF_BUILDERS["rtx"]
PARTLY_FLOAT = [replace(scheme, float_blocks=("stage2.0.add",)) for scheme in (RTX_SCHEME, RTX_FP8)]

needs_rtx = pytest.mark.skipif(RTX.version is None, reason="tensorrt-rtx is not installed")


def _build(run: RunDirectory, precision: str, targets: tuple[str, ...] = (), force: bool = False):
    """With TensorRT for RTX, whatever this machine would choose."""
    return engine_from_onnx(run, precision, targets, "rtx", force)


def _convolutions(path: Path) -> int:
    return sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)


def _types(precision: str, graph: Path) -> dict[str, int]:
    """All convolutions are of one type, but those that a quantized graph leaves in float16."""
    in_float = card_from_file(graph).float_convolutions
    types = {TYPES[precision]: _convolutions(graph) - in_float}
    return types | ({"float16": in_float} if in_float else {})


@needs_rtx
@pytest.mark.parametrize("precision", GRAPHS)
def test_engine_of_each_precision_is_built_without_a_gpu(
    run: RunDirectory, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_gpus(monkeypatch)
    graph = run.verified(GRAPHS[precision])
    name, done = _build(run, precision)
    assert (name, done) == (engine_name(precision, RTX, TARGETS[precision]), True)
    plan = run.verified(name)
    card = card_of_engine(run.verified(name.replace(".engine", ".json")).with_suffix(".engine"))
    assert (card.builder, card.version) == ("rtx", version_of("tensorrt-rtx"))
    assert (card.precision, card.targets, card.batches) == (precision, TARGETS[precision], BATCHES)
    assert card.convolutions == _types(precision, graph)
    assert card.source == run.record(graph.name).sha256
    assert card.plan == run.record(name).sha256
    assert card.size == plan.stat().st_size > 10_000
    assert 0 < card.seconds < 60
    assert card.graph == card_from_file(graph)


@needs_rtx
def test_engine_that_is_up_to_date_is_kept(preact_run: RunDirectory) -> None:
    name, _ = _build(preact_run, "fp32")
    written = preact_run.verified(name).stat().st_mtime_ns
    assert _build(preact_run, "fp32") == (name, False)
    assert preact_run.verified(name).stat().st_mtime_ns == written
    assert _build(preact_run, "fp32", force=True) == (name, True)


@needs_rtx
def test_engine_of_a_changed_graph_is_built_again(preact_run: RunDirectory) -> None:
    name, _ = _build(preact_run, "fp32")
    graph = graph_in(preact_run, MODEL)
    graph.doc_string = "changed"
    publish(preact_run, MODEL, graph)
    assert _build(preact_run, "fp32") == (name, True)
    assert card_of_engine(preact_run.verified(name)).source == preact_run.record(MODEL).sha256


@needs_rtx
def test_targets_have_one_order(preact_run: RunDirectory) -> None:
    name, done = _build(preact_run, "fp16", ("sm89", "sm86"))
    assert (name, done) == ("engines/fp16.rtx-sm86-sm89.engine", True)
    assert card_of_engine(preact_run.verified(name)).targets == ("sm86", "sm89")
    for same in (("sm86", "sm89"), ("sm89", "sm86", "sm89")):
        assert _build(preact_run, "fp16", same) == (name, False)


@needs_rtx
def test_order_of_targets_is_that_of_their_numbers(preact_run: RunDirectory) -> None:
    name, _ = _build(preact_run, "fp32", ("sm120", "sm89"))
    assert name == "engines/fp32.rtx-sm89-sm120.engine"


@needs_rtx
@pytest.mark.parametrize("target", ["sm90", "89", "SM89", "sm", "ampere", "current"])
def test_unknown_target_is_refused_and_the_known_are_listed(preact_run: RunDirectory, target: str) -> None:
    with pytest.raises(UserError, match=f"unknown target '{target}'") as refusal:
        _build(preact_run, "fp32", ("sm89", target))
    assert "sm86, sm89" in refusal.value.fix
    assert not preact_run.recorded("engines/")


def test_tensorrt_takes_no_targets(preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, Gpu("NVIDIA L4", 89))
    monkeypatch.setattr(runtimes.tensorrt.package, "version_of", {"tensorrt": "11.0"}.get)
    with pytest.raises(UserError, match="for the GPU of this machine alone"):
        engine_from_onnx(preact_run, "fp32", ("sm89",), "tensorrt")


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "source"),
    [
        ("int8", MODEL_INT8_CPU),
        ("int8", MODEL),
        ("fp16", MODEL),
        ("bf16", MODEL_FP16),
        ("fp32", MODEL_INT8_GPU),
        ("fp8", MODEL_INT8_GPU),
        ("int8", MODEL_FP8_GPU),
        # Made for TensorRT, which fuses other patterns.
        ("int8", MODEL_INT8_GPU),
        ("fp8", MODEL_FP8_GPU),
    ],
)
def test_graph_made_for_something_else_is_refused(
    preact_run: RunDirectory, precision: str, source: str
) -> None:
    publish(preact_run, GRAPHS[precision], graph_in(preact_run, source))
    with pytest.raises(UserError, match=f"not {precision} for TensorRT") as refusal:
        _build(preact_run, precision)
    assert not isinstance(refusal.value, CheckFailed)


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "source"),
    [pair for pair in itertools.product(GRAPHS, GRAPHS) if pair[0] != pair[1]],
)
def test_graph_passed_off_as_another_precision_is_a_failed_check(
    preact_run: RunDirectory, precision: str, source: str
) -> None:
    """What TensorRT would build without a word: an engine of the precision that the graph has."""
    graph = graph_in(preact_run, GRAPHS[source])
    set_card(graph, precision=precision, flavour="rtx" if precision in ("int8", "fp8") else "any")
    publish(preact_run, GRAPHS[precision], graph)
    with pytest.raises(
        CheckFailed,
        match=f"would not run .* in {precision}.*'{TYPES[source]}': {OF_THAT_TYPE[source]}",
    ):
        _build(preact_run, precision)
    assert not preact_run.recorded("engines/")
    assert not (preact_run.path / "engines").exists()


@needs_rtx
def test_one_convolution_that_is_not_quantized_is_a_failed_check(preact_run: RunDirectory) -> None:
    graph = graph_in(preact_run, MODEL_INT8_RTX)
    bypass_dequantize(graph, "stage1.0.residual.conv1")
    publish(preact_run, MODEL_INT8_RTX, graph)
    with pytest.raises(CheckFailed, match=r"would not run .* in int8.*'float16': 5"):
        _build(preact_run, "int8")


@needs_rtx
def test_one_convolution_that_is_not_in_fp8_is_a_failed_check(preact_run: RunDirectory) -> None:
    graph = graph_in(preact_run, MODEL_FP8_RTX)
    bypass_dequantize(graph, "stage1.0.residual.conv1")
    publish(preact_run, MODEL_FP8_RTX, graph)
    with pytest.raises(CheckFailed, match=r"would not run .* in fp8.*'float16': 9"):
        _build(preact_run, "fp8")


@needs_rtx
@pytest.mark.parametrize("scheme", PARTLY_FLOAT, ids=lambda scheme: f"{scheme.precision}-{scheme.stream}")
def test_engine_with_blocks_in_float_counts_them(run: RunDirectory, scheme: Scheme) -> None:
    source = GRAPHS[scheme.precision]
    assert qdq_from_ranges(run, scheme)
    graph = run.verified(source)
    name, _ = _build(run, scheme.precision)
    card = card_of_engine(run.verified(name))
    assert card.convolutions == _types(scheme.precision, graph)
    assert card.graph == card_from_file(graph)


@needs_rtx
@pytest.mark.parametrize(("precision", "claimed"), [("int8", 1), ("fp8", 0), ("fp8", 2), ("fp32", 1)])
def test_other_number_of_float_convolutions_than_the_card_tells_is_a_failed_check(
    preact_run: RunDirectory, precision: str, claimed: int
) -> None:
    graph = graph_in(preact_run, GRAPHS[precision])
    set_card(graph, float_convolutions=claimed)
    publish(preact_run, GRAPHS[precision], graph)
    with pytest.raises(CheckFailed, match=f"would not run .* in {precision}"):
        _build(preact_run, precision)
    assert not preact_run.recorded("engines/")


@pytest.mark.parametrize(
    ("precision", "left", "found", "expected"),
    [
        ("int8", 0, {"int8": 9}, True),
        ("int8", 3, {"int8": 6, "float16": 3}, True),
        ("int8", 3, {"int8": 6, "float32": 3}, True),
        ("int8", 3, {"int8": 5, "float16": 1, "float32": 2}, True),
        ("int8", 3, {"int8": 7, "float16": 2}, False),
        ("int8", 2, {"int8": 6, "float16": 3}, False),
        ("int8", 9, {"float16": 9}, False),
        ("int8", 1, {"int8": 8, "bfloat16": 1}, False),
        ("int8", 0, {"int8": 8, "float8": 1}, False),
        ("fp8", 1, {"float8": 8, "float16": 1}, True),
        ("fp8", 1, {"float8": 7, "float16": 1, "int8": 1}, False),
        ("fp32", 0, {"float32": 9}, True),
        ("fp32", 0, {"float32": 8, "float16": 1}, False),
        ("fp16", 0, {"float16": 8, "float32": 1}, False),
        ("fp32", 0, {}, False),
    ],
)
def test_convolutions_are_those_of_the_precision_and_as_many_in_float_as_the_card_tells(
    precision: str, left: int, found: dict[str, int], expected: bool
) -> None:
    card = FP32.with_precision(precision, "gpu", float_convolutions=left)
    assert _is_expected(Counter(found), card) == expected


@needs_rtx
@pytest.mark.parametrize("target", ["sm89", "sm120"])
def test_fp8_engine_is_built_for_one_target(preact_run: RunDirectory, target: str) -> None:
    assert _build(preact_run, "fp8", (target,)) == (f"engines/fp8.rtx-{target}.engine", True)


@needs_rtx
def test_refusal_to_parse_gives_the_reason(preact_run: RunDirectory) -> None:
    """uint8 codes with a zero point, which TensorRT has not."""
    graph = graph_in(preact_run, MODEL_INT8_CPU)
    set_card(graph, flavour="rtx")
    publish(preact_run, MODEL_INT8_RTX, graph)
    with pytest.raises(CheckFailed, match=r"cannot parse model\.int8\.rtx\.onnx \(.*zero.?point") as failure:
        _build(preact_run, "int8")
    assert failure.value.exit_status == 1


@needs_rtx
@pytest.mark.parametrize("content", [b"", b"no protobuf"])
def test_garbage_is_a_failed_check(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / MODEL
    path.write_bytes(content)
    with pytest.raises(CheckFailed):
        build(path, FP32, RTX, ())


@needs_rtx
def test_float32_means_float32_and_the_batch_is_free(trained_runs: dict[str, Path]) -> None:
    trt = RTX.load()
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse((trained_runs["preact"] / MODEL).read_bytes())
    config = _config(trt, builder, network, ())
    assert not config.get_flag(trt.BuilderFlag.TF32)
    assert config.num_optimization_profiles == 1
    assert [network.get_input(i).name for i in range(network.num_inputs)] == [INPUT]
    assert [network.get_output(i).name for i in range(network.num_outputs)] == [OUTPUT]
    assert network.get_input(0).shape[0] == -1


@needs_rtx
def test_errors_of_tensorrt_are_collected_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    trt = RTX.load()
    logger = _logger(trt)
    logger.log(trt.ILogger.Severity.ERROR, "wrong")
    logger.log(trt.ILogger.Severity.WARNING, "odd")
    assert logger.errors == ["wrong"]
    assert capfd.readouterr() == ("", "")


class FakeTensorRT:
    """As much of the package as `build` asks for, and no GPU or library."""

    LayerType = SimpleNamespace(CONVOLUTION=1, DEQUANTIZE=2)
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(TF32="TF32")

    class ILogger:
        Severity = IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING"], start=0)

    def __init__(self, parser_errors: list[str], builder_error: str = "") -> None:
        tensor = SimpleNamespace(name=INPUT, shape=(-1, 3, 32, 32), dtype=SimpleNamespace(name="FLOAT"))
        conv = SimpleNamespace(
            type=1,
            num_outputs=1,
            get_output=lambda i: SimpleNamespace(name="y"),
            get_input=[tensor, None].__getitem__,
        )
        network = SimpleNamespace(num_layers=1, get_layer=lambda i: conv, get_input=lambda i: tensor)
        self.network_flags: list[int] = []
        self.cleared: list[str] = []
        self.profile: list[object] = []
        self.parser_errors = parser_errors

        def create_network(flags: int) -> SimpleNamespace:
            self.network_flags.append(flags)
            return network

        def build_serialized_network(network: object, config: object) -> bytes | None:
            if not builder_error:
                return b"plan"
            self.logger.log(self.ILogger.Severity.ERROR, builder_error)
            self.logger.log(self.ILogger.Severity.WARNING, "and a warning")
            return None

        self.builder = SimpleNamespace(
            create_network=create_network,
            create_builder_config=lambda: SimpleNamespace(
                clear_flag=self.cleared.append, add_optimization_profile=lambda profile: None
            ),
            create_optimization_profile=lambda: SimpleNamespace(
                set_shape=lambda *shapes: self.profile.extend(shapes)
            ),
            build_serialized_network=build_serialized_network,
        )

    def Builder(self, logger: object) -> SimpleNamespace:  # noqa: N802
        self.logger = logger
        return self.builder

    def OnnxParser(self, network: object, logger: object) -> SimpleNamespace:  # noqa: N802
        errors = [SimpleNamespace(desc=lambda text=text: text) for text in self.parser_errors]
        return SimpleNamespace(
            parse=lambda content: not errors, num_errors=len(errors), get_error=errors.__getitem__
        )


@pytest.fixture
def fake_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeTensorRT], Any]:
    path = tmp_path / MODEL
    path.write_bytes(b"a graph")

    def call(fake: FakeTensorRT) -> Any:
        monkeypatch.setattr(Builder, "load", lambda builder: fake)
        return build(path, FP32, BUILDERS["tensorrt"], ())

    return call


def test_network_is_strongly_typed_without_tf32_and_for_all_batches(fake_build) -> None:
    """What TensorRT 10 leaves to choose; later versions have no other networks."""
    fake = FakeTensorRT([])
    assert fake_build(fake) == (b"plan", {"float32": 1})
    assert fake.network_flags == [1 << FakeTensorRT.NetworkDefinitionCreationFlag.STRONGLY_TYPED]
    assert fake.cleared == ["TF32"]
    assert fake.profile == [INPUT, *[(batch, 3, 32, 32) for batch in BATCHES]]


def test_all_reasons_of_the_parser_are_given(fake_build) -> None:
    with pytest.raises(
        CheckFailed, match=r"TensorRT cannot parse model\.onnx \(no such operator; no such type\)"
    ):
        fake_build(FakeTensorRT(["no such operator", "no such type"]))


def test_build_that_fails_gives_the_errors_of_tensorrt(fake_build) -> None:
    with pytest.raises(CheckFailed, match=r"TensorRT could not build model\.onnx \(out of memory\)"):
        fake_build(FakeTensorRT([], "out of memory"))


def test_names_say_precision_builder_and_targets() -> None:
    assert engine_name("int8", RTX, ("sm86", "sm89")) == "engines/int8.rtx-sm86-sm89.engine"
    assert engine_name("fp16", BUILDERS["tensorrt"], ()) == "engines/fp16.tensorrt.engine"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '"text"', "{}", '{"targets": [], "batches": []}', '{"targets": null}']
)
def test_sidecar_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "fp32.rtx.json").write_text(text)
    with pytest.raises(UserError, match=r"fp32\.rtx\.json does not describe an engine") as refusal:
        card_of_engine(tmp_path / "fp32.rtx.engine")
    assert refusal.value.fix == "build it again"


def test_missing_sidecar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fp32\.rtx\.json does not describe an engine"):
        card_of_engine(tmp_path / "fp32.rtx.engine")


@needs_rtx
def test_sidecar_is_readable_json_with_the_graphs_metadata(preact_run: RunDirectory, digits: Dataset) -> None:
    _build(preact_run, "int8")
    document = json.loads(preact_run.verified("engines/int8.rtx.json").read_text())
    assert json.loads(document["properties"]["skipfold.classes"]) == list(digits.classes)
    assert json.loads(document["properties"]["skipfold.mean"]) == list(digits.mean)
    assert json.loads(document["properties"]["skipfold.flavour"]) == "rtx"


def test_sources_are_the_graphs_made_for_tensorrt() -> None:
    assert GPU_GRAPHS == {
        "fp32": MODEL,
        "fp16": MODEL_FP16,
        "bf16": MODEL_BF16,
        "int8": MODEL_INT8_GPU,
        "fp8": MODEL_FP8_GPU,
    }
    assert GRAPHS_OF_BUILDERS["tensorrt"] is GPU_GRAPHS
    assert GRAPHS == {**GPU_GRAPHS, "int8": MODEL_INT8_RTX, "fp8": MODEL_FP8_RTX}
