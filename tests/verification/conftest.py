"""A data set with few test images, for the tests of verification."""

from dataclasses import replace

import numpy as np
import pytest

import verification.compare
from data.dataset import Dataset


@pytest.fixture
def few(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The digits with a sixth of the test images, which are one batch and enough for a fault to show."""
    chosen = np.arange(0, len(digits.test), 6)
    monkeypatch.setattr(verification.compare, "BATCH", len(chosen))
    return replace(digits, test=digits.test.subset(chosen))
