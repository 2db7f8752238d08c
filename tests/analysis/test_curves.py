"""The curves show the figures that they are drawn from."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from analysis.backward import BlockGradient
from analysis.curves import dead_path_plot, gradient_plot, skip_term_plot
from analysis.network import Measured

ROWS = [
    BlockGradient(1, 1, 8.0, 0.5, 0.2, 0.1, 0.3, 0.6),
    BlockGradient(2, 1, 4.0),
    BlockGradient(2, 2, 2.0, 0.8, 0.7, 0.6, 0.6, 0.1),
]
NETWORKS = [
    Measured(variant, trained, 1.0, [], ROWS)
    for variant in ("original", "preact")
    for trained in (False, True)
]
Plot = Callable[[Sequence[Measured]], str]


@pytest.mark.parametrize("plot", [gradient_plot, skip_term_plot, dead_path_plot])
def test_every_network_has_its_line_once_in_the_legend(plot: Plot) -> None:
    text = plot(NETWORKS)
    assert text.startswith("<svg") and text == plot(NETWORKS)
    for network in NETWORKS:
        assert text.count(f">{network.name}<") == 1


@pytest.mark.parametrize("plot", [gradient_plot, skip_term_plot, dead_path_plot])
def test_another_figure_gives_another_plot(plot: Plot) -> None:
    other = replace(ROWS[0], norm=80.0, skip_norm=0.9, dead=0.9, dead_to_end=0.95)
    assert plot(NETWORKS) != plot([replace(NETWORKS[0], backward=[other, *ROWS[1:]]), *NETWORKS[1:]])


def test_gradients_a_decade_apart_are_equally_far_apart() -> None:
    rows = [BlockGradient(1, number, norm) for number, norm in enumerate((1.0, 10.0, 100.0), start=1)]
    text = gradient_plot([Measured("preact", True, 1.0, [], rows)])
    path = re.search(r'id="line2d_\d+">\s*<path d="M ([^"]+?)" clip[^>]*stroke: #2563eb', text)
    assert path
    heights = [float(point.split()[1]) for point in path[1].replace("L", "").split("\n") if point.strip()]
    assert math.isclose(heights[0] - heights[1], heights[1] - heights[2], rel_tol=1e-3)
    assert heights[0] > heights[2]


def test_a_gradient_that_has_vanished_breaks_the_line_and_moves_no_axis() -> None:
    rows = [BlockGradient(1, number, norm) for number, norm in enumerate((1.0, 0.0, 10.0, 100.0), start=1)]
    text = gradient_plot([Measured("preact", True, 1.0, [], rows)])
    path = re.search(r'id="line2d_\d+">\s*<path d="([^"]+?)" clip[^>]*stroke: #2563eb', text)
    assert path
    assert path[1].count("M") == 2
    heights = {float(point.split()[-1]) for point in path[1].split("\n") if point.strip()}
    assert all(0 < height < 3.2 * 72 for height in heights)
