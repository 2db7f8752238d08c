"""Ranking, against figures worked out by hand."""

import numpy as np

from workflow.predict import likeliest


def test_the_likeliest_classes_come_first() -> None:
    shares = np.array([[0.1, 0.6, 0.3], [0.5, 0.0, 0.5]])
    assert likeliest(shares, ("cat", "dog", "fox"), 2) == [
        (("dog", 0.6), ("fox", 0.3)),
        (("cat", 0.5), ("fox", 0.5)),
    ]
    assert [len(row) for row in likeliest(shares, ("cat", "dog", "fox"), 9)] == [3, 3]
