"""The summary of a network, compared with figures by hand, and the JSON of a network."""

from dataclasses import replace

import pytest
from broken_networks import MISTAKES, batch, broken, network

from analysis.backward import BlockGradient
from analysis.forward import IdentitySum
from analysis.network import Measured, measured, percent
from artifacts.json_codec import from_text, to_text
from models.blocks import PreActBlock

MADE_UP = Measured(
    variant="original",
    trained=True,
    loss=0.5,
    forward=(IdentitySum(1, 1, 2, 0.25), IdentitySum(1, 1, 3, 0.75)),
    backward=(
        BlockGradient(1, 1, 8.0),
        BlockGradient(1, 2, 6.0, 0.5, 0.2, 0.1, 0.3, 0.6),
        BlockGradient(1, 3, 5.0, 0.8, 0.6, 0.2, 0.2, 0.9),
        BlockGradient(2, 1, 4.0),
        BlockGradient(2, 2, 2.0, 0.8, 0.7, 0.6, 0.6, 0.1),
    ),
)


def test_summary_of_made_up_rows() -> None:
    assert MADE_UP.summary() == pytest.approx(
        {
            "loss": 0.5,
            "forward_error": 0.75,
            "backward_error": 0.9,
            "first_norm": 8,
            "last_norm": 2,
            "skip_share": 0.5,
            "dead": 0.3,
            "dead_to_end": 0.45,
        }
    )
    assert MADE_UP.name == "original, trained"
    assert not MADE_UP.identity_holds


def test_summary_of_a_gradient_that_has_vanished() -> None:
    rows = [replace(row, norm=0.0, skip_norm=None, skip_share=None) for row in MADE_UP.backward]
    summary = replace(MADE_UP, backward=rows).summary()
    assert (summary["first_norm"], summary["backward_error"]) == (0, 0.9)
    assert summary["skip_share"] is None
    # The blocks that have a skip share still count.
    rows[1] = MADE_UP.backward[1]
    assert replace(MADE_UP, backward=rows).summary()["skip_share"] == 0.2


def test_a_share_that_is_not_there_is_a_dash() -> None:
    assert (percent(0.125), percent(None)) == ("12.5%", "–")


def test_json_gives_everything_back() -> None:
    assert from_text(Measured, to_text(MADE_UP)) == MADE_UP


def test_the_identity_holds_in_a_preactivation_network_and_in_no_other() -> None:
    assert measured(network("preact"), *batch(), trained=False).identity_holds
    assert not measured(network("original"), *batch(), trained=False).identity_holds


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("stage", [0, 2])
def test_one_mistaken_block_breaks_it(mistake: type[PreActBlock], stage: int) -> None:
    assert not measured(broken(mistake, stage, 2), *batch(), trained=False).identity_holds
