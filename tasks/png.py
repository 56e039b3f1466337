"""How a picture becomes a file."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DOTS = 110  # an inch


def png(figure: Figure) -> bytes:
    """The figure, drawn once: Matplotlib's ``savefig`` draws it twice, to lay it out."""
    figure.set_dpi(_DOTS)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
