from collections.abc import Callable

import pytest

from calibration.searching import float_blocks
from calibration.searching.float_blocks import Blocks, blocks_that_hurt

FOUR = {"a": 40.0, "b": 39.0, "c": 20.0, "d": 19.0}


def _sum(values: dict[str, float], start: float = 0) -> Callable[[Blocks], float]:
    return lambda blocks: start + sum(values[name] for name in blocks)


def test_block_that_hurts_is_found() -> None:
    gains = _sum({"a": 0.1, "b": 0.2, "c": 15, "d": 0.3}, 19)
    found = blocks_that_hurt(FOUR, gains, lambda blocks: 0 if "c" in blocks else 3, 0.1)
    assert found.blocks == ("c",)
    assert list(found.gains) == ["c", "d", "b", "a"]
    assert found.gains["c"] == pytest.approx(15)


def test_nothing_is_left_in_float_where_the_drop_is_within_the_limit() -> None:
    found = blocks_that_hurt(FOUR, _sum(dict.fromkeys(FOUR, 1.0)), lambda _: 0.1, 0.1)
    assert found.blocks == ()


def test_block_that_did_not_help_is_dropped_again_and_the_rest_is_in_order_of_execution() -> None:
    """By gain d, b, a come first; but it is d and a that cost accuracy."""
    gains = _sum({"a": 2, "b": 3, "c": 1, "d": 4})
    drop = _sum({"a": -1, "b": 0, "c": 0, "d": -1}, 2)
    assert blocks_that_hurt(FOUR, gains, drop, 0).blocks == ("a", "d")


def test_limit_of_zero_lets_nothing_be_lost() -> None:
    gains = _sum(dict.fromkeys(FOUR, 1.0))
    drop = _sum({"a": -0.5, "b": -0.5, "c": -0.5, "d": -0.5}, 0.5)
    assert len(blocks_that_hurt(FOUR, gains, drop, 0).blocks or ()) == 1
    assert blocks_that_hurt(FOUR, gains, lambda _: 0, 0).blocks == ()
    assert blocks_that_hurt(FOUR, gains, lambda _: -1, 0).blocks == ()


def test_no_choice_is_enough() -> None:
    found = blocks_that_hurt(FOUR, _sum(dict.fromkeys(FOUR, 1.0)), lambda _: 1, 0.1)
    assert found.blocks is None
    assert set(found.gains) == set(FOUR)


def test_only_the_worst_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """c loses 19 dB, b and d one each; the first block is compared with the best."""
    monkeypatch.setattr(float_blocks, "MOST_SUSPECTS", 1)
    tried: list[Blocks] = []

    def snr_db(blocks: Blocks) -> float:
        tried.append(blocks)
        return 1.0

    blocks_that_hurt(FOUR, snr_db, lambda _: 1, 0)
    assert tried == [(), ("c",)]
