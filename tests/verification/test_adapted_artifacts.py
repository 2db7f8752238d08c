"""Adapted graphs have a verdict of their own, and a fault seeded in one of them is caught."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from fault_injection import change_initializer, graph_in, publish
from made_up_tables import subjects_in
from onnx import helper, numpy_helper
from seeded_faults import Fault, scale_one_weight, swap_two_classes, with_few_test_images

from artifacts.run_directory import RunDirectory
from data.dataset import Dataset
from errors import CheckFailed
from export.adapted_graph import Adaptation, adapted_from_graph
from reporting.summary import summary_of
from runtimes.subjects import Subject
from verification.rows import Row
from verification.verify import verdicts_from_artifacts

PIXELS, BATCH_OF_7 = Adaptation(pixels=True), Adaptation(batch=7)
ON_CPU = [("ort", "fp32"), ("ort", "int8"), ("openvino", "fp32"), ("openvino", "int8")]


@pytest.fixture
def few(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    return with_few_test_images(digits, monkeypatch)


def _adapted(run: RunDirectory, adaptation: Adaptation, *engines: tuple[str, str]) -> list[Subject]:
    subjects = subjects_in(run, *engines)
    return [replace(s, artifact=adapted_from_graph(run, s.artifact, adaptation)[0]) for s in subjects]


@pytest.mark.parametrize("adaptation", [PIXELS, BATCH_OF_7, Adaptation(True, 7)], ids=["u8", "b7", "u8-b7"])
def test_adapted_graphs_pass_beside_those_they_were_made_of(
    run: RunDirectory, few: Dataset, adaptation: Adaptation
) -> None:
    originals, _ = verdicts_from_artifacts(run, few, subjects_in(run, *ON_CPU))
    rows, _ = verdicts_from_artifacts(run, few, _adapted(run, adaptation, *ON_CPU))
    assert all(row["passed"] for row in rows)
    for row, original in zip(rows, originals, strict=True):
        assert row["artifact"] == adaptation.name_of(original["artifact"])
        assert (row["agreement"], row["saturation"]) == (original["agreement"], original["saturation"])
        # The signal of centred logits is smaller, and so is the noise.
        assert row["snr_db"] == pytest.approx(original["snr_db"], abs=6)
    lines = summary_of(run).lines
    assert len({(line.title, line.precision) for line in lines}) == len(lines) == 8


def _shift_the_normalisation(graph: onnx.ModelProto, run: RunDirectory) -> None:
    change_initializer(graph, "pixels.shift", lambda shift: shift + 0.05)


def _skip_softmax(graph: onnx.ModelProto, run: RunDirectory) -> None:
    softmax = graph.graph.node[-1]
    assert softmax.op_type == "Softmax"
    softmax.op_type = "Identity"
    del softmax.attribute[:]


def _halve_the_probabilities(graph: onnx.ModelProto, run: RunDirectory) -> None:
    """Divide all of them by 2, which changes neither an answer nor a ratio."""
    graph.graph.node[-1].output[0] = "whole"
    graph.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
    graph.graph.node.append(helper.make_node("Mul", ["whole", "half"], ["probabilities"]))


def _sharpen(graph: onnx.ModelProto, run: RunDirectory) -> None:
    """Scale all logits, which changes the probabilities and no answer."""
    for name in ("classifier.weight", "classifier.bias"):
        change_initializer(graph, name, lambda array: 1.2 * array)


NO_PROBABILITIES = [_skip_softmax, _halve_the_probabilities]
FAULTS = [*NO_PROBABILITIES, _shift_the_normalisation, _sharpen, swap_two_classes, scale_one_weight]


def _judged(run: RunDirectory, few: Dataset) -> Row:
    (row,), _ = verdicts_from_artifacts(run, few, _adapted_by_name(run))
    return row


def _adapted_by_name(run: RunDirectory) -> list[Subject]:
    return [replace(s, artifact=PIXELS.name_of(s.artifact)) for s in subjects_in(run, ("ort", "fp32"))]


@pytest.mark.parametrize("fault", FAULTS)
def test_seeded_fault_of_a_graph_that_takes_pixels_is_caught(
    preact_run: RunDirectory, few: Dataset, fault: Fault
) -> None:
    (subject,) = _adapted(preact_run, PIXELS, ("ort", "fp32"))
    graph = graph_in(preact_run, subject.artifact)
    publish(preact_run, subject.artifact, graph)
    assert _judged(preact_run, few)["passed"]
    fault(graph, preact_run)
    publish(preact_run, subject.artifact, graph)
    if fault in NO_PROBABILITIES:
        with pytest.raises(CheckFailed, match="do not sum to 1"):
            _judged(preact_run, few)
    else:
        assert not _judged(preact_run, few)["passed"]
