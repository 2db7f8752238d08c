"""How far an artifact may be from the original, each limit with its reason. There is no default."""

from dataclasses import dataclass

from verification.compare import Comparison


@dataclass(frozen=True)
class Tolerance:
    """Limits for one precision.

    Attributes:
        snr_db: least signal to noise of the logits.
        untrained_snr_db: the same for random weights. Deep random networks amplify every rounding: at depth
            164 float32 kernels agree to 90 dB and FP16 to 25, where a trained ResNet-20 gives 133 and 65, and
            bfloat16, INT8 and FP8 give 16, 13 and 11 dB at depth 164; at 1001 float32, FP16 and INT8 give
            45, 14 and 8 dB. So this limit tells the network from noise and proves nothing more.
        agreement: least share of images with the original's top-1 class, in %.
        drop: most points of accuracy that may be lost.
        reason: why the limits are what they are.
    """

    snr_db: float
    untrained_snr_db: float
    agreement: float
    drop: float
    reason: str


TOLERANCES = {
    "fp32": Tolerance(
        80,
        30,
        99.9,
        0.05,
        "the same float32 arithmetic in another order: 134 dB at depth 20; 80 dB is an error of "
        "1e-4, which folding with a wrong epsilon, a swapped channel or TF32 all exceed",
    ),
    "fp16": Tolerance(
        35,
        10,
        99.0,
        0.2,
        "11 significant bits rounded after every operator: 60 to 70 dB at depth 20, and noise that "
        "grows with the number of blocks",
    ),
    "bf16": Tolerance(
        25,
        5,
        98.0,
        0.5,
        "8 significant bits rounded after every operator, 18 dB less than FP16's 11: 47 dB at depth 20, and "
        "noise that grows with the number of blocks as FP16's does",
    ),
    "int8": Tolerance(
        20,
        3,
        97.0,
        0.5,
        "8 bits rounded at every block: 33 to 37 dB at depth 20, 24 to 38 at 164; kernels whose "
        "16-bit sums saturate give 15 dB and lose 2 points",
    ),
    "fp8": Tolerance(
        15,
        3,
        96.0,
        1.0,
        "4 significant bits in weights and in the inputs of convolutions, with the stream in FP16: 30 to 35 "
        "dB at depth 20, 5 to 11 less than INT8",
    ),
}
# On a small test split one image is more than the limit in points: 1 of 200 images is half a point.
IMAGES_ALWAYS_ALLOWED = 2


def failures(figures: Comparison, precision: str, trained: bool) -> list[str]:
    """Say what is out of tolerance, a line for each limit; the list is empty if nothing is.

    Args:
        trained: whether accuracy and agreement mean anything; the logits of random weights hardly
            differ between classes, so only their signal to noise is judged.
    """
    limit = TOLERANCES[precision]
    faults = []
    least = limit.snr_db if trained else limit.untrained_snr_db
    if not figures.snr_db >= least:
        faults.append(f"signal to noise {figures.snr_db:.1f} dB, under {least:.0f}")
    if not trained:
        return faults
    # Half an image is added, because percentages are rounded.
    allowed = 100 * (IMAGES_ALWAYS_ALLOWED + 0.5) / figures.images
    if not figures.agreement >= min(limit.agreement, 100 - allowed):
        faults.append(f"agreement {figures.agreement:.2f} %, under {limit.agreement:g}")
    if not figures.drop <= max(limit.drop, allowed):
        faults.append(f"accuracy drop {figures.drop:.2f} points, over {limit.drop:g}")
    return faults
