"""What a runtime refuses to open: a precision without support, and an INT8 graph that would run wrongly."""

from pathlib import Path

import pytest
from fault_injection import graph_in, publish, set_card

import runtimes.acceptance
from artifacts.names import MODEL_INT8_CPU
from artifacts.run_directory import RunDirectory
from calibration.quantizing.qdq import qdq_from_ranges
from calibration.quantizing.scheme import Scheme
from errors import CheckFailed, UserError
from runtimes.engines import ENGINES
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.ort_runtime import OrtRuntime, ReferenceRuntime
from runtimes.runtime import Runtime

CLASSES = {spec.name: spec.runtime() for spec in ENGINES.values()}
REFUSED = [
    ("torch", "cpu", "fp16"),
    ("torch", "cpu", "int8"),
    ("torch", "cuda", "int8"),
    ("ort", "cpu", "fp16"),
    ("ort", "cuda", "int8"),
    ("openvino", "cpu", "fp16"),
    ("openvino", "cuda", "fp32"),
    ("openvino", "cuda", "int8"),
    ("trt", "cpu", "fp32"),
    ("trt", "cpu", "int8"),
    ("reference", "cuda", "fp32"),
    ("reference-rtx", "cpu", "fp16"),
    ("reference-rtx", "cuda", "int8"),
    ("ort", "cpu", "bf16"),
    ("ort", "cpu", "fp8"),
    ("ort", "cuda", "bf16"),
    ("ort", "cuda", "fp8"),
    ("openvino", "cpu", "bf16"),
    ("openvino", "cpu", "fp8"),
    ("torch", "cpu", "fp16"),
    ("torch", "cuda", "int8"),
    ("torch-compile", "cpu", "fp16"),
    ("ort", "npu", "fp32"),
]


@pytest.mark.parametrize(("engine", "device", "precision"), REFUSED)
def test_pair_of_device_and_precision_without_support_is_refused(
    engine: str, device: str, precision: str
) -> None:
    with pytest.raises(UserError, match=f"{engine} cannot run {precision} on {device}") as refusal:
        CLASSES[engine](Path("nowhere"), precision, device)
    assert "--" in refusal.value.fix


@pytest.mark.parametrize("engine", [OrtRuntime, OpenVinoRuntime])
def test_full_weights_are_refused_where_products_are_added_in_16_bits(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, engine: type[Runtime]
) -> None:
    qdq_from_ranges(preact_run, Scheme("cpu", saturation="full"))
    path = preact_run.verified(MODEL_INT8_CPU)
    monkeypatch.setattr(runtimes.acceptance, "adds_products_in_16_bits", lambda: True)
    with pytest.raises(UserError, match="this CPU has no VNNI") as refusal, engine(path, "int8"):
        pass
    assert "--saturation stem or proved" in refusal.value.fix
    with engine(path, "int8", allow_saturation=True) as runtime:
        assert runtime.card.saturation == "full"
    # The reference computes each operator by itself and has no integer kernels that could saturate.
    with ReferenceRuntime(path, "int8"):
        pass
    monkeypatch.setattr(runtimes.acceptance, "adds_products_in_16_bits", lambda: False)
    with engine(path, "int8"):
        pass


@pytest.mark.parametrize("saturation", ["stem", "proved"])
def test_kept_weights_are_not_refused(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, saturation: str
) -> None:
    qdq_from_ranges(preact_run, Scheme("cpu", saturation=saturation))
    monkeypatch.setattr(runtimes.acceptance, "adds_products_in_16_bits", lambda: True)
    with OrtRuntime(preact_run.verified(MODEL_INT8_CPU), "int8") as runtime:
        assert runtime.card.saturation == saturation


@pytest.mark.parametrize("engine", [OrtRuntime, OpenVinoRuntime])
def test_blocks_left_in_float_are_opened_where_the_card_tells_of_them(
    run: RunDirectory, engine: type[Runtime]
) -> None:
    qdq_from_ranges(run, Scheme("cpu", float_blocks=("stage2.0.add",)))
    with engine(run.verified(MODEL_INT8_CPU), "int8") as runtime:
        left = runtime.card.float_convolutions
        assert runtime.describe()["convolutions"].keys() & {"Conv", "f32"}
    assert left >= 3
    for claimed in (0, left - 1, left + 1):
        graph = graph_in(run, MODEL_INT8_CPU)
        set_card(graph, float_convolutions=claimed)
        publish(run, MODEL_INT8_CPU, graph)
        with pytest.raises(CheckFailed, match=r"float convolutions \("):
            engine(run.verified(MODEL_INT8_CPU), "int8").__enter__()


@pytest.mark.parametrize("engine", [OrtRuntime, OpenVinoRuntime])
def test_integer_graph_whose_card_tells_of_float_convolutions_is_a_failed_check(
    preact_run: RunDirectory, engine: type[Runtime]
) -> None:
    graph = graph_in(preact_run, MODEL_INT8_CPU)
    set_card(graph, float_convolutions=1)
    publish(preact_run, MODEL_INT8_CPU, graph)
    with pytest.raises(CheckFailed, match=r"float convolutions \("):
        engine(preact_run.verified(MODEL_INT8_CPU), "int8").__enter__()
