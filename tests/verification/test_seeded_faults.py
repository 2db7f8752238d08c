"""The judge is tested: verification catches every fault seeded in a graph."""

import pytest
from cpu_engines import ON_CPU
from fault_injection import graph_in, publish
from made_up_tables import subjects_in
from seeded_faults import (
    Fault,
    fold_with_epsilon_of_other_frameworks,
    lose_one_channel,
    put_nan,
    quantize_by_another_scale,
    scale_one_weight,
    shift_one_logit,
    shrink_range_of_activation,
    shrink_range_of_branch,
    shrink_range_of_input,
    swap_two_classes,
    with_few_test_images,
)

from artifacts.names import (
    MODEL,
    MODEL_BF16,
    MODEL_FP8_GPU,
    MODEL_FP8_RTX,
    MODEL_FP16,
    MODEL_INT8_CPU,
    MODEL_INT8_GPU,
    MODEL_INT8_OPENVINO,
    MODEL_INT8_RTX,
)
from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import CheckFailed
from verification.verify import verdicts_from_artifacts


@pytest.fixture
def few(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    return with_few_test_images(digits, monkeypatch)


FLOAT_FAULTS = [
    swap_two_classes,
    scale_one_weight,
    shift_one_logit,
    lose_one_channel,
    put_nan,
    fold_with_epsilon_of_other_frameworks,
]
FAULTS = [
    (swap_two_classes, MODEL, "openvino", "fp32"),
    (fold_with_epsilon_of_other_frameworks, MODEL, "openvino", "fp32"),
    (put_nan, MODEL, "openvino", "fp32"),
    (swap_two_classes, MODEL_FP16, "reference", "fp16"),
    (scale_one_weight, MODEL_FP16, "reference", "fp16"),
    (put_nan, MODEL_FP16, "reference", "fp16"),
    (swap_two_classes, MODEL_INT8_CPU, "ort", "int8"),
    (swap_two_classes, MODEL_INT8_OPENVINO, "openvino", "int8"),
    (swap_two_classes, MODEL_INT8_GPU, "reference", "int8"),
    (shrink_range_of_input, MODEL_INT8_CPU, "ort", "int8"),
    (shrink_range_of_input, MODEL_INT8_OPENVINO, "openvino", "int8"),
    (shrink_range_of_input, MODEL_INT8_GPU, "reference", "int8"),
    (shrink_range_of_branch, MODEL_INT8_CPU, "ort", "int8"),
    (swap_two_classes, MODEL_BF16, "reference", "bf16"),
    (scale_one_weight, MODEL_BF16, "reference", "bf16"),
    (swap_two_classes, MODEL_FP8_GPU, "reference", "fp8"),
    (shrink_range_of_activation, MODEL_FP8_GPU, "reference", "fp8"),
    (swap_two_classes, MODEL_INT8_RTX, "reference-rtx", "int8"),
    (quantize_by_another_scale, MODEL_INT8_RTX, "reference-rtx", "int8"),
    (swap_two_classes, MODEL_FP8_RTX, "reference-rtx", "fp8"),
    (shrink_range_of_branch, MODEL_INT8_OPENVINO, "openvino", "int8"),
]


def _assert_caught(
    run: RunDirectory, dataset: Dataset, fault: Fault, name: str, engine: str, precision: str
) -> None:
    graph = graph_in(run, name)
    fault(graph, run)
    publish(run, name, graph)
    try:
        (row,), _ = verdicts_from_artifacts(run, dataset, subjects_in(run, (engine, precision)))
    except CheckFailed:
        return
    assert not row["passed"]
    assert row["failures"]


@pytest.mark.parametrize("fault", FLOAT_FAULTS)
def test_seeded_fault_of_the_exported_graph_is_caught(run: RunDirectory, few: Dataset, fault: Fault) -> None:
    _assert_caught(run, few, fault, MODEL, "ort", "fp32")


@pytest.mark.parametrize(("fault", "name", "engine", "precision"), FAULTS)
def test_seeded_fault_is_caught_in_every_engine_and_precision(
    preact_run: RunDirectory, few: Dataset, fault: Fault, name: str, engine: str, precision: str
) -> None:
    _assert_caught(preact_run, few, fault, name, engine, precision)


def test_graphs_published_without_a_fault_pass(preact_run: RunDirectory, few: Dataset) -> None:
    """The tests above would prove nothing if publishing a graph failed the verification by itself."""
    for name in (MODEL, MODEL_FP16, MODEL_INT8_CPU, MODEL_INT8_GPU):
        publish(preact_run, name, graph_in(preact_run, name))
    rows, _ = verdicts_from_artifacts(preact_run, few, subjects_in(preact_run, *ON_CPU))
    assert all(row["passed"] for row in rows)
