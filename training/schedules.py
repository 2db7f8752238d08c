"""Learning-rate schedules, which give the share of the peak rate at each step of a training."""

from dataclasses import dataclass, field
from math import cos, pi


@dataclass(frozen=True)
class OneCycle:
    """A linear rise to the peak rate, and then a fall along half a cosine to 0.

    Attributes:
        warmup: the share of all steps in which the rate rises.
    """

    warmup: float = 0.2
    name: str = field(default="one-cycle", init=False)

    def share(self, step: int, steps: int) -> float:
        """Return the share of the peak rate at step 0 <= `step` < `steps`."""
        rise = max(1, round(self.warmup * steps))
        if step < rise:
            return (step + 1) / rise
        return (1 + cos(pi * (step - rise) / max(1, steps - rise))) / 2


@dataclass(frozen=True)
class StepDecay:
    """The schedule of the papers: a constant rate that is divided by 10 at each milestone.

    Attributes:
        milestones: the shares of all steps after which the rate is divided.
        low_steps: the number of steps at the beginning that use a tenth of the rate. He et al. 2015, "Deep
            Residual Learning", section 4.2, need such steps for depth 110 to start to converge.
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    low_steps: int = 0
    name: str = field(default="steps", init=False)

    def share(self, step: int, steps: int) -> float:
        """Return the share of the peak rate at step 0 <= `step` < `steps`."""
        if step < self.low_steps:
            return 0.1
        return 0.1 ** sum(step >= milestone * steps for milestone in self.milestones)


Schedule = OneCycle | StepDecay
