"""Learning-rate schedules as shares of the peak rate, whatever the number of steps."""

from dataclasses import dataclass, field
from math import cos, pi


@dataclass(frozen=True)
class OneCycle:
    """Linear warm-up, then half a cosine to 0.

    Attributes:
        warmup: share of all steps in which the rate rises.
    """

    warmup: float = 0.2
    name: str = field(default="one-cycle", init=False)

    def share(self, step: int, steps: int) -> float:
        """Share of the peak rate at step 0 <= `step` < `steps`."""
        rise = max(1, round(self.warmup * steps))
        if step < rise:
            return (step + 1) / rise
        return (1 + cos(pi * (step - rise) / max(1, steps - rise))) / 2


@dataclass(frozen=True)
class StepDecay:
    """The papers' schedule: constant, and divided by 10 at each milestone.

    Attributes:
        milestones: shares of all steps after which the rate is divided.
        low_steps: number of first steps at a tenth of the rate; He et al. 2015, "Deep Residual Learning",
            section 4.2, needs them for depth 110 to start to converge.
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    low_steps: int = 0
    name: str = field(default="steps", init=False)

    def share(self, step: int, steps: int) -> float:
        """Share of the peak rate at step 0 <= `step` < `steps`."""
        if step < self.low_steps:
            return 0.1
        return 0.1 ** sum(step >= milestone * steps for milestone in self.milestones)


Schedule = OneCycle | StepDecay
