"""Draws with matplotlib and returns SVG. The same figures always give the same text."""

import io
from collections.abc import Callable
from typing import Any


def svg(draw: Callable[[Any], None], size: tuple[float, float], transparent: bool = True) -> str:
    """Return the `<svg>` element of what `draw` puts on an empty matplotlib figure.

    Args:
        size: width and height in inches.
        transparent: leave the background out, for a page that has a background already.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # A fixed salt keeps element ids the same from run to run, and "none" keeps text as text.
    with rc_context({"svg.hashsalt": "skipfold", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=transparent)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
