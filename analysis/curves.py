"""The curves along the depth: gradient norm, skip term and dead paths of every measured network."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from analysis.backward import BlockGradient
from analysis.network import Measured
from plots import svg
from vocabulary import Variant

COLOURS: dict[str, str] = {Variant.original: "#b45309", Variant.preact: "#2563eb"}
_SIZE = (7, 3.2)


def gradient_plot(networks: Sequence[Measured]) -> str:
    """Return the plot of |dE/dx_l| at the input of every block, on a logarithmic axis."""

    def draw(axes: Any) -> None:
        # A gradient of 0 is left out, because 0 has no logarithm.
        curves(axes, networks, lambda row: row.norm or None)
        axes.set_yscale("log")
        axes.set_ylabel("norm of the gradient at the input")

    return _plot(draw, networks)


def skip_term_plot(networks: Sequence[Measured]) -> str:
    """Return the plot of |s_l| / |g_l|, the norm of the skip term over the norm of the gradient."""

    def draw(axes: Any) -> None:
        curves(axes, networks, lambda row: row.skip_norm)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("skip term over the gradient")

    return _plot(draw, networks)


def dead_path_plot(networks: Sequence[Measured]) -> str:
    """Return the plot of dead skip paths in %: in each block (thin), and from there to the stage's end."""

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
    """Draw one line for each network, dashed if the network is untrained and broken where `height` gives
    None.

    Args:
        axes: the matplotlib axes to draw on.
        style: replaces the line style that is derived from the network.
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
    """Return the numbers, from 1, of the first blocks of the second and the third stage."""
    return [number for number, row in enumerate(rows, start=1) if row.block == 1][1:]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
