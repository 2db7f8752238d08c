"""The curves along the depth: gradient norm, skip term and dead paths of every measured network."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from analysis.backward import BlockGradient
from analysis.network import Measured
from plots import svg

COLOURS = {"original": "#b45309", "preact": "#2563eb"}
_SIZE = (7, 3.2)


def gradient_plot(networks: Sequence[Measured]) -> str:
    """|dE/dx_l| at the input of every block, on a log axis."""

    def draw(axes: Any) -> None:
        # No logarithm of a gradient that has vanished.
        curves(axes, networks, lambda row: row.norm or None)
        axes.set_yscale("log")
        axes.set_ylabel("norm of the gradient at its input")

    return _plot(draw, networks)


def skip_term_plot(networks: Sequence[Measured]) -> str:
    """What the skip term makes up of each gradient, |s_l| / |g_l|."""

    def draw(axes: Any) -> None:
        curves(axes, networks, lambda row: row.skip_norm)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("skip term over the gradient")

    return _plot(draw, networks)


def dead_path_plot(networks: Sequence[Measured]) -> str:
    """Per cent of dead skip paths: at each block (thin), and from it to the end of its stage."""

    def draw(axes: Any) -> None:
        curves(axes, networks, lambda row: _percent(row.dead_to_end))
        curves(axes, networks, lambda row: _percent(row.dead), linewidth=0.7, label=None)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("dead skip paths, %\n(thin: at this block)")

    return _plot(draw, networks)


def _plot(draw: Callable[[Any], None], networks: Sequence[Measured]) -> str:
    def draw_axes(figure: Any) -> None:
        axes = figure.subplots()
        draw(axes)
        for number in _stage_starts(networks[0].backward):
            axes.axvline(number - 0.5, color="#d1d5db", linewidth=0.8, zorder=0)
        axes.set_xlabel("block (lines: a new stage)")
        axes.legend(fontsize=8)

    return svg(draw_axes, _SIZE, transparent=False)


def curves(
    axes: Any,
    networks: Sequence[Measured],
    height: Callable[[BlockGradient], float | None],
    **style: Any,
) -> None:
    """Draw a line a network, dashed before training; broken where `height` gives None.

    Args:
        axes: of matplotlib.
        style: of the lines, instead of the network's own.
    """
    for network in networks:
        heights = [math.nan if (y := height(row)) is None else y for row in network.backward]
        axes.plot(
            range(1, len(heights) + 1),
            heights,
            **{
                "color": COLOURS[network.variant],
                "linestyle": "-" if network.trained else "--",
                "marker": "." if len(heights) < 60 else "",
                "label": network.name,
                **style,
            },
        )


def _stage_starts(rows: Sequence[BlockGradient]) -> list[int]:
    """Numbers, from 1, of the first blocks of the second and third stage."""
    return [number for number, row in enumerate(rows, start=1) if row.block == 1][1:]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
