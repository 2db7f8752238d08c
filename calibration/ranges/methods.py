"""Choose the range that a tensor is quantized over from the histogram of the tensor."""

from collections.abc import Callable
from dataclasses import dataclass

from calibration.quantizing.scales import Range
from calibration.ranges.entropy import entropy_threshold
from calibration.ranges.histogram import Histogram
from calibration.ranges.mse import mse_amax, mse_range
from errors import UserError

DEFAULT_METHOD = "percentile"
# results/calibration.md compares min-max, 99.9, 99.99 and 99.999; this percentile was the best of them.
DEFAULT_PERCENTILE = 99.999


@dataclass(frozen=True)
class Method:
    """A way to choose ranges.

    Attributes:
        name: one of `METHODS`.
        percentile: how many per cent of the values lie inside each end of the range. Only the method
            `percentile` uses it.

    Raises:
        UserError: the name is unknown, or the percentile is not over 50 and at most 100.
    """

    name: str = DEFAULT_METHOD
    percentile: float = DEFAULT_PERCENTILE

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise UserError(f"unknown --method '{self.name}'", f"use {' or '.join(METHODS)}")
        if not 50 < self.percentile <= 100:
            raise UserError(
                f"--percentile must be over 50 and at most 100, got {self.percentile:g}",
                f"leave --percentile out for the default, {DEFAULT_PERCENTILE}",
            )

    def __str__(self) -> str:
        return f"{self.name} {self.percentile:g}" if self.name == "percentile" else self.name

    def range_of(self, histogram: Histogram) -> Range:
        """Return the range of one tensor, which always contains 0, because 0 must be exact."""
        low, high, amax = METHODS[self.name](histogram, self)
        return Range(min(low, 0.0), max(high, 0.0), max(amax, 0.0))

    @classmethod
    def from_options(cls, name: str | None = None, percentile: float | None = None) -> "Method":
        """Return the method that the options name; an option that is None takes its default.

        Raises:
            UserError: the method is unknown, the percentile is out of bounds, or a percentile is given for
                a method that takes none.
        """
        method = cls(name or DEFAULT_METHOD, DEFAULT_PERCENTILE if percentile is None else percentile)
        if percentile is not None and method.name != "percentile":
            raise UserError(
                f"--percentile {percentile:g} was given, and --method {method.name} takes no percentile",
                "leave --percentile out, or use --method percentile",
            )
        return method

    def to_json(self) -> dict[str, object]:
        """Return what decides the ranges: a percentile decides nothing but in `percentile`."""
        if self.name == "percentile":
            return {"name": self.name, "percentile": self.percentile}
        return {"name": self.name}


def _minmax(histogram: Histogram, method: Method) -> Range:
    """Return the range of all values."""
    return Range.spanning(histogram.minimum, histogram.maximum)


def _percentile(histogram: Histogram, method: Method) -> Range:
    """Return the range without the outermost (100 - percentile) % of the values at either end."""
    share = method.percentile / 100
    return Range.spanning(-histogram.mirrored().quantile(share), histogram.quantile(share))


def _entropy(histogram: Histogram, method: Method) -> Range:
    """Return the range of all values, clipped at both ends at TensorRT's threshold for the magnitudes."""
    threshold = entropy_threshold(histogram)
    return Range(max(histogram.minimum, -threshold), min(histogram.maximum, threshold), threshold)


def _mse(histogram: Histogram, method: Method) -> Range:
    """Return the uint8 range and the int8 range of least squared error, each found by itself."""
    return Range(*mse_range(histogram), mse_amax(histogram))


METHODS: dict[str, Callable[[Histogram, Method], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
