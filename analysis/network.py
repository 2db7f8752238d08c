"""One network measured on one batch: eq. 4 and eq. 5 of He et al. 2016, "Identity Mappings"."""

from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from analysis.backward import BlockGradient, block_gradients
from analysis.forward import IdentitySum, identity_sums
from models.resnet import ResNet

# In float64: 1e-16 for each of up to 400 additions, and room; one ReLU on the skip path leaves 0.1 and more.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Measured:
    """What was found; see `IdentitySum` and `BlockGradient` for the figures.

    Attributes:
        loss: mean cross-entropy of the batch.
        backward: a row for each block, in order.
    """

    variant: str
    trained: bool
    loss: float
    forward: tuple[IdentitySum, ...]
    backward: tuple[BlockGradient, ...]

    @property
    def name(self) -> str:
        """For a legend or a table."""
        return f"{self.variant}, {'trained' if self.trained else 'initialised'}"

    @property
    def identity_blocks(self) -> list[BlockGradient]:
        """The blocks that eq. 5 speaks of."""
        return [row for row in self.backward if row.error is not None]

    @property
    def identity_holds(self) -> bool:
        """Whether eq. 4 and eq. 5 hold to the rounding of float64."""
        return max(self._forward_error, self._backward_error) < _ROUNDING

    @property
    def _forward_error(self) -> float:
        return max(pair.error for pair in self.forward)

    @property
    def _backward_error(self) -> float:
        return max(row.error or 0 for row in self.identity_blocks)

    def summary(self) -> dict[str, float | None]:
        """The largest errors, the gradient's two ends, and means over blocks or stages.

        The skip share is that of the blocks whose gradient is not 0; None if there is none.
        """
        own = self.identity_blocks
        starts = {row.stage: row for row in reversed(own)}.values()
        return {
            "loss": self.loss,
            "forward_error": self._forward_error,
            "backward_error": self._backward_error,
            "first_norm": self.backward[0].norm,
            "last_norm": self.backward[-1].norm,
            "skip_share": _mean([row.skip_share for row in own if row.skip_share is not None]),
            "dead": fmean(row.dead or 0 for row in own),
            "dead_to_end": fmean(row.dead_to_end or 0 for row in starts),
        }


def percent(share: float | None) -> str:
    """A share for a table; a dash where there is none."""
    return "–" if share is None else f"{share:.1%}"


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def measured(model: ResNet, images: Tensor, labels: Tensor, trained: bool) -> Measured:
    """Measure a network, which is left as it is; raises as `block_gradients`.

    Args:
        images: normalised [N, in_channels, H, W], of the model's floating type.
        labels: int64 [N].
    """
    forward = identity_sums(model, images)
    loss, backward = block_gradients(model, images, labels)
    return Measured(model.config.variant, trained, loss, tuple(forward), tuple(backward))
