"""Which pictures are chosen, on logits that were made up."""

import math

import numpy as np
import pytest

from artifacts.run_directory import RunDirectory
from bundling.golden import COUNT, chosen_pictures, golden_from_runtimes
from bundling.golden_pictures import SIZES, pictures_from_split
from bundling.limits import GOLDEN_LIMITS, golden_limit
from data.dataset import Dataset
from errors import CheckFailed
from runtimes.subjects import open_subject, subject_in
from verification.tolerances import TOLERANCES
from vocabulary import Precision

FORMS = len(SIZES)


def logits(labels: list[int], margins: list[float], classes: int = 3) -> np.ndarray:
    """Logits whose largest one is at the label, by a margin."""
    made = np.zeros((len(labels), classes), np.float32)
    made[np.arange(len(labels)), labels] = margins
    return made


def test_a_larger_margin_goes_first() -> None:
    outputs = [logits([0, 0, 0], [1, 3, 2])]
    assert chosen_pictures(outputs, [0], [0, 0, 0])[0] == 1


def test_a_label_that_was_chosen_less_often_goes_before_a_larger_margin() -> None:
    outputs = [logits([0, 0, 1], [9, 8, 1])]
    forms = [0, 1, 1]
    assert chosen_pictures(outputs, [0], forms)[:2] == [0, 2]


def test_every_size_gets_as_many() -> None:
    random = np.random.default_rng(0)
    forms = [index % FORMS for index in range(40 * FORMS)]
    chosen = chosen_pictures([random.normal(size=(len(forms), 10)).astype(np.float32)], [0], forms)
    assert len(chosen) == len(set(chosen)) == COUNT
    assert [forms[index] for index in chosen] == [turn % FORMS for turn in range(COUNT)]


def test_a_size_without_pictures_gets_none() -> None:
    assert chosen_pictures([logits([0, 1], [1, 1])], [0], [0, 0]) == [0, 1]


def test_a_picture_on_which_artifacts_disagree_is_passed_over() -> None:
    outputs = [logits([0, 1], [5, 1]), logits([1, 1], [5, 1])]
    assert chosen_pictures(outputs, [0, 0], [0, 0]) == [1]


@pytest.mark.parametrize(("least", "expected"), [([1.9, 0.4], [0]), ([2.1, 0.4], []), ([1.9, 0.6], [])])
def test_every_artifact_needs_its_margin(least: list[float], expected: list[int]) -> None:
    outputs = [logits([0], [2]), logits([0], [0.5])]
    assert chosen_pictures(outputs, least, [0]) == expected


def test_the_logits_are_those_of_one_batch(bundled_run: RunDirectory, digits: Dataset) -> None:
    pool = pictures_from_split(digits.test)
    with open_subject(bundled_run, subject_in(bundled_run, "ort", "int8")) as runtime:
        golden = golden_from_runtimes(pool, {"ort-int8": runtime}, {"ort-int8": 30.0}, runtime.card)
        again = runtime.infer(golden.images)
    assert golden.fitted.shape == (COUNT, 32, 32, 3)
    assert np.array_equal(golden.images, digits.normalised(golden.fitted.transpose(0, 3, 1, 2)))
    assert np.array_equal(golden.logits["ort-int8"], again)
    assert golden.labels == tuple(again.argmax(1))
    assert len(set(golden.labels)) == 10


def test_noise_at_the_limit_turns_no_label(bundled_run: RunDirectory, digits: Dataset) -> None:
    """The limit is set so that half of the pictures have the margin of six standard deviations."""
    pool = pictures_from_split(digits.test)
    images = digits.normalised(np.stack([picture.fitted for picture in pool]))
    with open_subject(bundled_run, subject_in(bundled_run, "ort", "fp32")) as runtime:
        everything = runtime.infer(images).astype(np.float64)
        second, first = np.sort(everything, 1)[:, -2:].T
        needed, size = float(np.median(first - second)), math.sqrt(np.square(everything).mean())
        limit = 20 * math.log10(6 * math.sqrt(2) * size / needed)
        golden = golden_from_runtimes(pool, {"id": runtime}, {"id": limit}, runtime.card)
    second, first = np.sort(golden.logits["id"], 1)[:, -2:].T
    assert (first - second > needed * 0.9999).all()
    deviation = size * 10 ** (-limit / 20)
    noise = np.random.default_rng(0).normal(size=(200, *golden.logits["id"].shape)) * deviation
    assert ((golden.logits["id"] + noise).argmax(2) == np.array(golden.labels)).all()


def test_no_picture_with_a_sufficient_margin(bundled_run: RunDirectory, digits: Dataset) -> None:
    pool = pictures_from_split(digits.test)
    with (
        open_subject(bundled_run, subject_in(bundled_run, "ort", "fp32")) as runtime,
        pytest.raises(CheckFailed, match="of 256 pictures there is none on which all artifacts agree"),
    ):
        golden_from_runtimes(pool, {"id": runtime}, {"id": 0.0}, runtime.card)


def test_every_precision_has_a_limit_with_a_reason() -> None:
    assert set(GOLDEN_LIMITS) == set(Precision)
    for precision, limit in GOLDEN_LIMITS.items():
        assert limit.reason
        assert limit.snr_db >= TOLERANCES[precision].snr_db


@pytest.mark.parametrize("precision", Precision)
def test_the_limit_of_logits_that_others_computed_is_that_of_verify(precision: Precision) -> None:
    tolerance = TOLERANCES[precision]
    assert golden_limit(precision, trained=True, computed_itself=False) == tolerance.snr_db
    assert golden_limit(precision, trained=False, computed_itself=True) == tolerance.untrained_snr_db
    assert golden_limit(precision, trained=True, computed_itself=True) == GOLDEN_LIMITS[precision].snr_db
