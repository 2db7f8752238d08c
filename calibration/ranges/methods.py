"""From what was seen of a tensor to the range it is quantized over."""

from collections.abc import Callable
from dataclasses import dataclass

from calibration.quantizing.scales import Range
from calibration.ranges.entropy import entropy_threshold
from calibration.ranges.histogram import Histogram
from calibration.ranges.mse import mse_amax, mse_range
from errors import UserError

DEFAULT_METHOD = "percentile"
# The best of min-max, 99.9, 99.99 and 99.999 in results/calibration.md.
DEFAULT_PERCENTILE = 99.999


@dataclass(frozen=True)
class Method:
    """A way to choose ranges.

    Attributes:
        name: one of `METHODS`.
        percentile: per cent of the values that stay inside each end; used by `percentile` alone.
    """

    name: str = DEFAULT_METHOD
    percentile: float = DEFAULT_PERCENTILE

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise UserError(f"unknown calibration method '{self.name}'", f"use {' or '.join(METHODS)}")
        if not 50 < self.percentile <= 100:
            raise UserError(f"percentile {self.percentile}", "give a value over 50 and up to 100")

    def __str__(self) -> str:
        return f"{self.name} {self.percentile:g}" if self.name == "percentile" else self.name

    def range_of(self, histogram: Histogram) -> Range:
        """Choose the range of one tensor; it always contains 0, which must be exact."""
        low, high, amax = METHODS[self.name](histogram, self)
        return Range(min(low, 0.0), max(high, 0.0), max(amax, 0.0))

    @classmethod
    def from_options(cls, name: str | None = None, percentile: float | None = None) -> "Method":
        """A method with the defaults for what is None.

        Raises:
            UserError: no such method, a percentile that is none, or one for a method that has none.
        """
        method = cls(name or DEFAULT_METHOD, DEFAULT_PERCENTILE if percentile is None else percentile)
        if percentile is not None and method.name != "percentile":
            raise UserError(
                f"a percentile, {percentile:g}, for the method '{method.name}', which has none",
                "leave one of --percentile and --method out",
            )
        return method

    def to_json(self) -> dict[str, object]:
        """What decides the result, as JSON values: a percentile decides nothing but in `percentile`."""
        if self.name == "percentile":
            return {"name": self.name, "percentile": self.percentile}
        return {"name": self.name}


def _minmax(histogram: Histogram, method: Method) -> Range:
    """Everything that was seen."""
    return Range.spanning(histogram.minimum, histogram.maximum)


def _percentile(histogram: Histogram, method: Method) -> Range:
    """All but the outermost (100 - percentile) % at either end."""
    share = method.percentile / 100
    return Range.spanning(-histogram.mirrored().quantile(share), histogram.quantile(share))


def _entropy(histogram: Histogram, method: Method) -> Range:
    """Both ends clipped at TensorRT's threshold for the magnitudes."""
    threshold = entropy_threshold(histogram)
    return Range(max(histogram.minimum, -threshold), min(histogram.maximum, threshold), threshold)


def _mse(histogram: Histogram, method: Method) -> Range:
    """The least squared error of each quantizer by itself."""
    return Range(*mse_range(histogram), mse_amax(histogram))


METHODS: dict[str, Callable[[Histogram, Method], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
