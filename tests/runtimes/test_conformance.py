"""One table of runtimes and checks: what every runtime must do with images.

What needs a GPU and ONNX Runtime runs on a double, which computes on the CPU.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from ort_double import OrtDouble

import runtimes.subjects
import runtimes.torch_runtime
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import CheckFailed
from graphs.card import Batch
from models.config import VARIANTS
from runtimes.engines import ENGINES
from runtimes.runtime import Runtime
from runtimes.subjects import open_subject, precisions_of, subject_in
from runtimes.torch_compile_runtime import TorchCompileRuntime

RUNTIMES = [
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("torch-compile", "fp32"),
    ("torch-compile", "bf16"),
    ("ort", "fp32"),
    ("ort", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
    *(("reference", precision) for precision in ("fp32", "fp16", "bf16", "int8", "fp8")),
    ("reference-rtx", "int8"),
    ("reference-rtx", "fp8"),
]
ON_DOUBLE = [
    ("ort", "fp32"),
    ("ort", "fp16"),
    ("ort-trt", "fp32"),
    ("ort-trt", "fp16"),
    ("ort-trt", "int8"),
    ("ort-rtx", "fp32"),
    ("ort-rtx", "fp16"),
    ("ort-rtx", "int8"),
]
ALL = [*((*named, "cpu") for named in RUNTIMES), *((*named, "cuda") for named in ON_DOUBLE)]


# The largest difference between batch sizes, relative to the largest logit. A library may choose another
# kernel for another batch size. In INT8 and FP8 that may move a code by one, in FP16 the last of 11 bits and
# in bfloat16 the last of 8 bits.
ACROSS_BATCHES = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 5e-2, "int8": 5e-2, "fp8": 0.1}


# The other runtimes give finite logits even for the largest images, because the ReLU kernels of OpenVINO turn
# NaN into 0 and INT8 codes saturate.
OVERFLOWING = [
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("torch-compile", "fp32"),
    ("ort", "fp32"),
    ("reference", "fp32"),
    ("reference", "fp16"),
    ("reference", "bf16"),
]


def _opened(run: RunDirectory, engine: str, precision: str, device: str = "cpu") -> Runtime:
    return open_subject(run, subject_in(run, engine, precision, device))


def _id(case: tuple[str, tuple[str, str, str]]) -> str:
    return "-".join((case[0], *case[1]))


@contextmanager
def _doubled(device: str) -> Iterator[None]:
    """Put the double into the place of ONNX Runtime's GPU providers."""
    with pytest.MonkeyPatch.context() as patched:
        if device == "cuda":
            OrtDouble().install(patched)
        yield


@pytest.fixture(scope="module", autouse=True)
def quick_compilation_and_bfloat16() -> Iterator[None]:
    """TorchDynamo captures the graphs and PyTorch runs them, since a C++ compiler takes 10 s for each.

    bfloat16 computes the same where the CPU only emulates it, in more time.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchCompileRuntime, "backend", "eager")
        for module in (runtimes.torch_runtime, runtimes.subjects):
            patch.setattr(module, "computes_in_bfloat16", lambda device: True)
        yield


@pytest.fixture(params=ALL, ids="-".join)
def named(request: pytest.FixtureRequest) -> Iterator[tuple[str, str, str]]:
    with _doubled(request.param[-1]):
        yield request.param


@pytest.fixture(scope="module", params=itertools.product(VARIANTS, ALL), ids=_id)
def runtime(request: pytest.FixtureRequest, trained_runs: dict[str, Path]) -> Iterator[Runtime]:
    """A runtime that is open for all checks of this module."""
    variant, named = request.param
    with _doubled(named[-1]), _opened(RunDirectory(trained_runs[variant]), *named) as opened:
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


def test_closed_runtime_raises(
    trained_runs: dict[str, Path], named: tuple[str, str, str], images: Batch
) -> None:
    runtime = _opened(RunDirectory(trained_runs["preact"]), *named)
    with pytest.raises(RuntimeError, match="is not open"):
        runtime.infer(images)
    with runtime:
        runtime.infer(images)
    with pytest.raises(RuntimeError, match="is not open"):
        runtime.infer(images)


def test_runtime_can_be_opened_again(
    trained_runs: dict[str, Path], named: tuple[str, str, str], images: Batch
) -> None:
    runtime = _opened(RunDirectory(trained_runs["preact"]), *named)
    with runtime:
        first = runtime.infer(images)
    with runtime:
        np.testing.assert_array_equal(runtime.infer(images), first)


def test_what_has_no_clock_of_a_device_gives_no_time(runtime: Runtime, images: Batch) -> None:
    assert runtime.device_ms(images) is None


def test_only_openvino_has_a_profile_of_layers_on_a_cpu(runtime: Runtime, images: Batch) -> None:
    layers = runtime.layer_times(images, calls=1)
    if runtime.name != "openvino":
        assert layers is None
        return
    assert layers and all(layer.ms > 0 for layer in layers)
    with pytest.raises(ValueError, match="at least one call"):
        runtime.layer_times(images, calls=0)


def test_card_describes_the_artifact(runtime: Runtime, digits: Dataset) -> None:
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
    trained_runs: dict[str, Path], named: tuple[str, str, str]
) -> None:
    run = RunDirectory(trained_runs["preact"])
    with open_subject(run, subject_in(run, *named), threads=1) as runtime:
        description = runtime.describe()
    assert json.loads(json.dumps(description)) == description
    assert description["version"]
    assert description["device"]
    assert description["threads"] == 1


def test_nothing_that_runs_on_a_cpu_is_left_out_of_the_table() -> None:
    assert [(engine, p) for engine in ENGINES for p in precisions_of(engine, "cpu")] == RUNTIMES


def test_nothing_of_onnx_runtime_that_runs_on_cuda_is_left_out_of_the_table() -> None:
    of_ort = [engine for engine in ENGINES if engine.split("-")[0] == "ort"]
    assert [(engine, p) for engine in of_ort for p in precisions_of(engine, "cuda")] == ON_DOUBLE
