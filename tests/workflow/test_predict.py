"""Softmax and ranking, against figures worked out by hand."""

import numpy as np

from workflow.predict import likeliest, probabilities


def test_softmax_of_logits_that_would_overflow() -> None:
    logits = np.array([[1000.0, 1000.0], [0.0, np.log(3.0)], [-1000.0, 0.0]], np.float32)
    shares = probabilities(logits)
    assert shares.dtype == np.float64
    np.testing.assert_allclose(shares, [[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]], atol=1e-7)
    np.testing.assert_allclose(shares.sum(1), 1)


def test_the_likeliest_classes_come_first() -> None:
    shares = np.array([[0.1, 0.6, 0.3], [0.5, 0.0, 0.5]])
    assert likeliest(shares, ("cat", "dog", "fox"), 2) == [
        (("dog", 0.6), ("fox", 0.3)),
        (("cat", 0.5), ("fox", 0.5)),
    ]
    assert [len(row) for row in likeliest(shares, ("cat", "dog", "fox"), 9)] == [3, 3]
