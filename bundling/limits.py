"""How near to the golden logits an artifact has to come on another machine, each limit with its reason.

These limits compare an artifact with itself: the same file in the same runtime with the same settings. The
limits of `verification.tolerances`, which compare an artifact with PyTorch's network, are lower.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from verification.tolerances import TOLERANCES
from vocabulary import Precision


@dataclass(frozen=True)
class GoldenLimit:
    """The least signal to noise of an artifact's logits on another machine, and why it is that."""

    snr_db: float
    reason: str


_NOT_MEASURED = "not measured on a second GPU, so that the limit is the one that `verify` has against PyTorch"

GOLDEN_LIMITS: Mapping[Precision, GoldenLimit] = {
    Precision.fp32: GoldenLimit(
        80,
        "float32 sums in another order give 135 dB and more between CPUs with and without AVX512; a runtime "
        "that computes in bfloat16, as OpenVINO does unless it is told not to, gives 52 dB",
    ),
    Precision.int8: GoldenLimit(
        30,
        "the same kernels give the same bits with any number of threads and any batch size; CPUs with and "
        "without VNNI are 49 to 55 dB apart on trained networks of depth 20, because their float parts are "
        "rounded to other codes here and there; sums that saturate give 15 dB",
    ),
    **{
        precision: GoldenLimit(TOLERANCES[precision].snr_db, _NOT_MEASURED)
        for precision in (Precision.fp16, Precision.bf16, Precision.fp8)
    },
}


def golden_limit(precision: Precision, trained: bool, computed_itself: bool) -> float:
    """Return the least signal to noise in dB that an artifact has to reach on another machine.

    Args:
        trained: random weights amplify every rounding, so that they have the lower limit of
            `verification.tolerances`.
        computed_itself: whether the artifact computed the golden logits, and not the reference evaluation of
            its graph.
    """
    tolerance = TOLERANCES[precision]
    if not trained:
        return float(tolerance.untrained_snr_db)
    return float(GOLDEN_LIMITS[precision].snr_db if computed_itself else tolerance.snr_db)
