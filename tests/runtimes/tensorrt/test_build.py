"""How the network is handed to TensorRT, and what becomes of TensorRT's errors."""

from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from built_engines import FP32, RTX, build_with_rtx, needs_rtx
from fault_injection import graph_in, publish, set_card

from artifacts.names import MODEL, MODEL_INT8_CPU, MODEL_INT8_GPU
from artifacts.run_directory import RunDirectory
from errors import CheckFailed
from graphs.card import INPUT, OUTPUT
from runtimes.tensorrt.engine_from_onnx import (
    BATCHES,
    _config,
    _strongly_typed,
    build,
)
from runtimes.tensorrt.logger import collecting_logger
from runtimes.tensorrt.package import BUILDERS, Builder


@needs_rtx
def test_refusal_to_parse_gives_the_reason(preact_run: RunDirectory) -> None:
    """The graph has uint8 codes with a zero point, which TensorRT does not support."""
    graph = graph_in(preact_run, MODEL_INT8_CPU)
    set_card(graph, flavour="gpu")
    publish(preact_run, MODEL_INT8_GPU, graph)
    with pytest.raises(CheckFailed, match=r"cannot parse model\.int8\.gpu\.onnx \(.*zero.?point") as failure:
        build_with_rtx(preact_run, "int8")
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
    logger = collecting_logger(trt)
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
    logger = collecting_logger(trt)
    logger.log(trt.ILogger.Severity.ERROR, "wrong")
    logger.log(trt.ILogger.Severity.WARNING, "odd")
    assert logger.errors == ["wrong"]
    assert capfd.readouterr() == ("", "")


class FakeTensorRT:
    """The part of the package that `build` uses, without a GPU and without libraries."""

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
    """TensorRT 10 lets the caller choose strong typing; later versions have no other networks."""
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
