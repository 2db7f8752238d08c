"""One table of runtimes × checks: what every runtime that runs on a CPU has to do."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fault_injection import graph_in, publish, set_card

import runtimes.runtime
from artifacts.names import MODEL_INT8_CPU
from artifacts.run_directory import RunDirectory
from calibration.quantizing.qdq import qdq_from_ranges
from calibration.quantizing.scheme import Scheme
from data.dataset import Dataset
from errors import CheckFailed, UserError
from graphs.card import Batch
from models.config import VARIANTS
from runtimes.engines import ENGINES
from runtimes.openvino_runtime import OpenVinoRuntime
from runtimes.ort_runtime import OrtRuntime, ReferenceRuntime, RtxReferenceRuntime
from runtimes.runtime import Runtime
from runtimes.subjects import open_subject, precisions_of, subject_in
from runtimes.torch_runtime import TorchRuntime
from runtimes.trt_runtime import TrtRuntime

REFERENCES = (ReferenceRuntime, RtxReferenceRuntime)
CLASSES = {c.name: c for c in (TorchRuntime, OrtRuntime, OpenVinoRuntime, TrtRuntime, *REFERENCES)}
RUNTIMES = [
    ("torch", "fp32"),
    ("ort", "fp32"),
    ("ort", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
    ("reference", "fp32"),
    ("reference", "fp16"),
    ("reference", "bf16"),
    ("reference", "int8"),
    ("reference", "fp8"),
    ("reference-rtx", "int8"),
    ("reference-rtx", "fp8"),
]
# Largest difference between batch sizes, relative to the largest logit. Kernels may be chosen by
# batch size; in INT8 and FP8 that may move a code by one, in FP16 the last of 11 bits, in bfloat16 of 8.
ACROSS_BATCHES = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 5e-2, "int8": 5e-2, "fp8": 0.1}
# ReLU kernels of OpenVINO turn NaN into 0, and codes of INT8 saturate: there, the logits stay finite.
OVERFLOWING = [
    ("torch", "fp32"),
    ("ort", "fp32"),
    ("reference", "fp32"),
    ("reference", "fp16"),
    ("reference", "bf16"),
]
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
    ("torch", "cpu", "bf16"),
    ("ort", "npu", "fp32"),
]


def _opened(run: RunDirectory, engine: str, precision: str) -> Runtime:
    return open_subject(run, subject_in(run, engine, precision))


def _id(case: tuple[str, tuple[str, str]]) -> str:
    return "-".join((case[0], *case[1]))


@pytest.fixture(params=RUNTIMES, ids="-".join)
def named(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture(scope="module", params=itertools.product(VARIANTS, RUNTIMES), ids=_id)
def runtime(request: pytest.FixtureRequest, trained_runs: dict[str, Path]) -> Iterator[Runtime]:
    """Opened once for all checks."""
    variant, named = request.param
    with _opened(RunDirectory(trained_runs[variant]), *named) as opened:
        yield opened


@pytest.fixture
def images(digits: Dataset) -> Batch:
    return digits.normalised(digits.test.images[:7])


@pytest.mark.parametrize("count", [1, 3, 7])
def test_logits_are_float32_for_each_image_and_class(runtime: Runtime, images: Batch, count: int) -> None:
    logits = runtime.infer(images[:count])
    assert logits.shape == (count, 10)
    assert logits.dtype == np.float32


@pytest.mark.parametrize("count", [3, 7])
def test_batch_agrees_with_single_images(runtime: Runtime, images: Batch, count: int) -> None:
    single = np.concatenate([runtime.infer(image[None]) for image in images[:count]])
    error = np.abs(runtime.infer(images[:count]) - single).max()
    assert error <= ACROSS_BATCHES[runtime.precision] * np.abs(single).max()


def test_order_in_the_batch_does_not_matter(runtime: Runtime, images: Batch) -> None:
    forwards = runtime.infer(images)
    error = np.abs(runtime.infer(images[::-1])[::-1] - forwards).max()
    assert error <= ACROSS_BATCHES[runtime.precision] * np.abs(forwards).max()


def test_non_contiguous_images_are_read_as_they_stand(runtime: Runtime, images: Batch) -> None:
    strided = np.asfortranarray(images)
    assert not strided.flags.c_contiguous
    np.testing.assert_array_equal(runtime.infer(strided), runtime.infer(images))


def test_result_belongs_to_the_caller(runtime: Runtime, images: Batch) -> None:
    first = runtime.infer(images[:1])
    kept = first.copy()
    second = runtime.infer(images[1:2])
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(second, kept)


def test_images_are_not_changed(runtime: Runtime, images: Batch) -> None:
    before = images.copy()
    runtime.infer(images)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2, 3, 32, 32), np.float64),
        ((2, 3, 32, 32), np.float16),
        ((2, 3, 32, 32), np.uint8),
        ((3, 32, 32), np.float32),
        ((1, 2, 3, 32, 32), np.float32),
        ((2, 1, 32, 32), np.float32),
        ((2, 4, 32, 32), np.float32),
        ((2, 32, 32, 3), np.float32),
        ((2, 3, 16, 16), np.float32),
        ((2, 3, 64, 32), np.float32),
    ],
)
def test_other_images_are_refused(runtime: Runtime, shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ValueError, match=rf"{runtime.name} takes float32 \[N, 3, 32, 32\]"):
        runtime.infer(np.zeros(shape, dtype))


def test_no_images_are_refused(runtime: Runtime) -> None:
    with pytest.raises(ValueError, match="no images"):
        runtime.infer(np.zeros((0, 3, 32, 32), np.float32))


@pytest.mark.parametrize(("engine", "precision"), OVERFLOWING)
def test_overflow_is_a_failed_check(trained_runs: dict[str, Path], engine: str, precision: str) -> None:
    message = f"{engine} {precision} gave logits that are not finite"
    with (
        _opened(RunDirectory(trained_runs["preact"]), engine, precision) as runtime,
        pytest.raises(CheckFailed, match=message),
    ):
        runtime.infer(np.full((1, 3, 32, 32), np.finfo(np.float32).max))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_refused(runtime: Runtime, images: Batch, value: float) -> None:
    spoilt = images.copy()
    spoilt[-1, 2, 31, 31] = value
    with pytest.raises(ValueError, match="images that are not finite"):
        runtime.infer(spoilt)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_logit_that_is_not_finite_is_a_failed_check(
    runtime: Runtime, images: Batch, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    logits = runtime.infer(images)
    logits[-1, -1] = value
    monkeypatch.setattr(runtime, "_infer", lambda images: logits)
    with pytest.raises(CheckFailed, match="not finite"):
        runtime.infer(images)


@pytest.mark.parametrize(
    "logits", [np.zeros((7, 9), np.float32), np.zeros((6, 10), np.float32), np.zeros((7, 10))]
)
def test_logits_of_another_shape_or_type_are_a_failed_check(
    runtime: Runtime, images: Batch, monkeypatch: pytest.MonkeyPatch, logits: np.ndarray
) -> None:
    monkeypatch.setattr(runtime, "_infer", lambda images: logits)
    with pytest.raises(CheckFailed, match="for 7 images of 10 classes"):
        runtime.infer(images)


def test_closed_runtime_raises(trained_runs: dict[str, Path], named: tuple[str, str], images: Batch) -> None:
    runtime = _opened(RunDirectory(trained_runs["preact"]), *named)
    with pytest.raises(RuntimeError, match="is not open"):
        runtime.infer(images)
    with runtime:
        runtime.infer(images)
    with pytest.raises(RuntimeError, match="is not open"):
        runtime.infer(images)


def test_runtime_can_be_opened_again(
    trained_runs: dict[str, Path], named: tuple[str, str], images: Batch
) -> None:
    runtime = _opened(RunDirectory(trained_runs["preact"]), *named)
    with runtime:
        first = runtime.infer(images)
    with runtime:
        np.testing.assert_array_equal(runtime.infer(images), first)


def test_card_says_what_was_opened(runtime: Runtime, digits: Dataset) -> None:
    card = runtime.card
    assert (card.precision, card.dataset, card.classes) == (runtime.precision, "digits", digits.classes)
    assert card.trained


def test_all_runtimes_open_the_same_network(trained_runs: dict[str, Path]) -> None:
    for path in trained_runs.values():
        cards = []
        for named in RUNTIMES:
            with _opened(RunDirectory(path), *named) as runtime:
                cards.append(runtime.card)
        assert all(card.is_same_network(cards[0]) for card in cards)


def test_description_is_json_with_version_device_and_threads(
    trained_runs: dict[str, Path], named: tuple[str, str]
) -> None:
    run = RunDirectory(trained_runs["preact"])
    with open_subject(run, subject_in(run, *named), threads=1) as runtime:
        description = runtime.describe()
    assert json.loads(json.dumps(description)) == description
    assert description["version"]
    assert description["device"]
    assert description["threads"] == 1


@pytest.mark.parametrize(("engine", "device", "precision"), REFUSED)
def test_pair_of_device_and_precision_that_it_does_not_compute_in_is_refused(
    engine: str, device: str, precision: str
) -> None:
    with pytest.raises(UserError, match=f"{engine} cannot run {precision} on {device}") as refusal:
        CLASSES[engine](Path("nowhere"), precision, device)
    assert "--" in refusal.value.fix


def test_nothing_that_runs_on_a_cpu_is_left_out_of_the_table() -> None:
    assert [(engine, p) for engine in ENGINES for p in precisions_of(engine, "cpu")] == RUNTIMES


@pytest.mark.parametrize("engine", [OrtRuntime, OpenVinoRuntime])
def test_full_weights_are_refused_where_products_are_added_in_16_bits(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, engine: type[Runtime]
) -> None:
    qdq_from_ranges(preact_run, Scheme("cpu", saturation="full"))
    path = preact_run.verified(MODEL_INT8_CPU)
    monkeypatch.setattr(runtimes.runtime, "adds_products_in_16_bits", lambda: True)
    with pytest.raises(UserError, match="this CPU has no VNNI") as refusal, engine(path, "int8"):
        pass
    assert "--saturation stem or proved" in refusal.value.fix
    with engine(path, "int8", allow_saturation=True) as runtime:
        assert runtime.card.saturation == "full"
    # Operator by operator there is no integer kernel.
    with ReferenceRuntime(path, "int8"):
        pass
    monkeypatch.setattr(runtimes.runtime, "adds_products_in_16_bits", lambda: False)
    with engine(path, "int8"):
        pass


@pytest.mark.parametrize("saturation", ["stem", "proved"])
def test_kept_weights_are_not_refused(
    preact_run: RunDirectory, monkeypatch: pytest.MonkeyPatch, saturation: str
) -> None:
    qdq_from_ranges(preact_run, Scheme("cpu", saturation=saturation))
    monkeypatch.setattr(runtimes.runtime, "adds_products_in_16_bits", lambda: True)
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
