"""Softmax, and back to logits without their mean, against figures worked out by hand."""

import numpy as np
import pytest
from sample_networks import sample_card

from graphs.card import GraphCard
from models.config import resnet_config
from verification.compare import compare, compare_with
from verification.probabilities import centred_logits, probabilities

CARD: GraphCard = sample_card(resnet_config("preact", 8))


def test_softmax_of_logits_that_would_overflow() -> None:
    logits = np.array([[1000.0, 1000.0], [0.0, np.log(3.0)], [-1000.0, 0.0]], np.float32)
    shares = probabilities(logits)
    assert shares.dtype == np.float64
    np.testing.assert_allclose(shares, [[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]], atol=1e-7)
    np.testing.assert_allclose(shares.sum(1), 1)


def test_logits_come_back_without_their_mean() -> None:
    logits = np.array([[1.0, 2.0, 6.0], [-30.0, 0.0, 30.0]], np.float32)
    back = centred_logits(probabilities(logits).astype(np.float32))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, [[-2, -1, 3], [-30, 0, 30]], atol=1e-5)


def test_probability_of_0_is_as_good_as_one_that_is_nearly_0() -> None:
    np.testing.assert_allclose(centred_logits(np.array([[1.0, 0.0]])), [[40, -40]], atol=1e-5)
    np.testing.assert_allclose(centred_logits(np.array([[1.0, 1e-37]])), [[40, -40]], atol=1e-5)


def test_what_all_logits_of_an_image_have_in_common_makes_no_signal() -> None:
    """The same error in a logit counts for more beside a signal without the mean."""
    original = np.array([[101.0, 102.0, 106.0]], np.float32)
    wrong = original + np.array([[0.0, 0.0, 0.5]], np.float32)
    labels = np.array([2])
    pixels = CARD.adapted(takes_pixels=True, batch=0)
    flattered = compare(original, wrong, labels).snr_db
    judged = compare_with(original, pixels, probabilities(wrong).astype(np.float32), labels).snr_db
    assert flattered == pytest.approx(10 * np.log10((101**2 + 102**2 + 106**2) / 0.25), abs=0.1)
    # The centred signal is (-2, -1, 3), and the centred error (-1, -1, 2) / 6.
    assert judged == pytest.approx(10 * np.log10(14 / (6 / 36)), abs=0.1)


def test_logits_are_compared_as_they_are() -> None:
    original, labels = np.array([[1.0, 5.0]], np.float32), np.array([1])
    shifted = original + 1
    assert compare_with(original, CARD, shifted, labels) == compare(original, shifted, labels)
