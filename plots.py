"""matplotlib to SVG, the same text for the same figures."""

import io
from collections.abc import Callable
from typing import Any


def svg(draw: Callable[[Any], None], size: tuple[float, float], transparent: bool = True) -> str:
    """The `<svg>` element of what `draw` puts on an empty matplotlib figure.

    Args:
        size: width and height in inches.
        transparent: without a background of its own, for a page that has one.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Fixed ids keep the page the same for the same figures; text stays text.
    with rc_context({"svg.hashsalt": "skipfold", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=transparent)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
