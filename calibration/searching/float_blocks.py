"""Find a smallest set of residual blocks that must stay in float for the accuracy to hold.

    (1) suspects   the blocks whose output has lost most signal to noise since the block before; the worst
                   `MOST_SUSPECTS`, since each costs a trial
    (2) gain       by how many dB the logits improve when that block alone stays float
    (3) add        in order of gain, until the drop is within the limit
    (4) remove     each again, the least gain first, if the drop is within the limit without it

What is left is minimal: no one of them can be spared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

MOST_SUSPECTS = 16

Blocks = tuple[str, ...]


@dataclass(frozen=True)
class Hurt:
    """Which blocks hurt.

    Attributes:
        gains: dB that the logits gain when the block alone is float, most first.
        blocks: to leave in float, in order of execution; None if no choice of the suspects is enough.
    """

    gains: dict[str, float]
    blocks: Blocks | None


def blocks_that_hurt(
    block_db: Mapping[str, float],
    snr_db: Callable[[Blocks], float],
    drop: Callable[[Blocks], float],
    limit: float,
) -> Hurt:
    """Search as above.

    Args:
        block_db: signal to noise of every block's output with all of them quantized, in order of execution.
        snr_db: of the logits with these blocks float.
        drop: in points of accuracy with these blocks float.
        limit: of the drop.
    """
    without = snr_db(())
    gains = {name: snr_db((name,)) - without for name in _suspects(block_db)}
    ranked = sorted(gains, key=gains.__getitem__, reverse=True)
    chosen: list[str] = []
    while drop(_in_order(chosen, block_db)) > limit:
        if len(chosen) == len(ranked):
            return Hurt({name: gains[name] for name in ranked}, None)
        chosen.append(ranked[len(chosen)])
    for name in reversed(chosen.copy()):
        fewer = [other for other in chosen if other != name]
        if drop(_in_order(fewer, block_db)) <= limit:
            chosen = fewer
    return Hurt({name: gains[name] for name in ranked}, _in_order(chosen, block_db))


def _suspects(block_db: Mapping[str, float]) -> list[str]:
    """The blocks after which most is lost; the first counts from the best of all."""
    before = [max(block_db.values()), *block_db.values()]
    lost = {name: before[index] - db for index, (name, db) in enumerate(block_db.items())}
    return sorted(lost, key=lost.__getitem__, reverse=True)[:MOST_SUSPECTS]


def _in_order(names: list[str], block_db: Mapping[str, float]) -> Blocks:
    return tuple(name for name in block_db if name in names)
