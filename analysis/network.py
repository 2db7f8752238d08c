"""One network, measured on one batch by eq. 4 and eq. 5 of He et al. 2016, "Identity Mappings"."""

from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from analysis.backward import BlockGradient, block_gradients
from analysis.forward import IdentitySum, identity_sums
from models.resnet import ResNet

# Up to 400 additions in float64 leave errors of 1e-16 each, and 1e-12 has room for more. A single ReLU on the
# skip path leaves an error of 0.1 or more.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Measured:
    """The measurements of one network; `IdentitySum` and `BlockGradient` explain the figures.

    Attributes:
        loss: the mean cross-entropy of the batch.
        backward: one row for each block, in order.
    """

    variant: str
    trained: bool
    loss: float
    forward: tuple[IdentitySum, ...]
    backward: tuple[BlockGradient, ...]

    @property
    def name(self) -> str:
        """The variant and whether the network is trained, for a legend or a table."""
        return f"{self.variant}, {'trained' if self.trained else 'initialised'}"

    @property
    def identity_blocks(self) -> list[BlockGradient]:
        """The rows that eq. 5 applies to, of the blocks after the last projection of a stage."""
        return [row for row in self.backward if row.error is not None]

    @property
    def identity_holds(self) -> bool:
        """Whether the errors of eq. 4 and eq. 5 are as small as the rounding of float64."""
        return max(self._forward_error, self._backward_error) < _ROUNDING

    @property
    def _forward_error(self) -> float:
        return max(pair.error for pair in self.forward)

    @property
    def _backward_error(self) -> float:
        return max(row.error or 0 for row in self.identity_blocks)

    def summary(self) -> dict[str, float | None]:
        """Return the largest errors, the gradient norms at both ends, and means over blocks or stages.

        The skip share is the mean over the blocks whose gradient is not 0, or None if every gradient is 0.
        """
        identity_blocks = self.identity_blocks
        starts = {row.stage: row for row in reversed(identity_blocks)}.values()
        return {
            "loss": self.loss,
            "forward_error": self._forward_error,
            "backward_error": self._backward_error,
            "first_norm": self.backward[0].norm,
            "last_norm": self.backward[-1].norm,
            "skip_share": _mean([row.skip_share for row in identity_blocks if row.skip_share is not None]),
            "dead": fmean(row.dead or 0 for row in identity_blocks),
            "dead_to_end": fmean(row.dead_to_end or 0 for row in starts),
        }


def percent(share: float | None) -> str:
    """Return a share for a table, or a dash for None."""
    return "–" if share is None else f"{share:.1%}"


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def measured(model: ResNet, images: Tensor, labels: Tensor, trained: bool) -> Measured:
    """Measure a network without changing it; raises CheckFailed as `block_gradients` does.

    Args:
        images: normalised images [N, in_channels, H, W] of the floating type of the model.
        labels: int64 [N].
    """
    forward = identity_sums(model, images)
    loss, backward = block_gradients(model, images, labels)
    return Measured(model.config.variant, trained, loss, tuple(forward), tuple(backward))
