"""Figures for papers: two widths, one palette, written as PNG for the screen and as PDF and SVG for print."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ONE_COLUMN, TWO_COLUMNS = 3.3, 7.0  # inches
# Distinguishable with any colour vision. Reference: Okabe and Ito, "Color universal design", 2008; without their yellow, faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.")  # the next of them where there are more lines than colours
GREY, TEXT = "#8a8a8a", "#444444"
SMALL = 6  # points
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the same letters everywhere
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "figure.titlesize": 8,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.4,
    "savefig.dpi": 300,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a name of a task may have dollars
    "pdf.fonttype": 42,  # TrueType, embedded: letters can be selected, and journals refuse Type 3
    "svg.fonttype": "path",  # an SVG cannot embed a font that every program reads, so letters are outlines
    "svg.hashsalt": "fedjax_edu",  # equal figures are equal files
}
FORMATS = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}  # what to write, and without a clock


@contextlib.contextmanager
def figure(path: Path, *, width: float = TWO_COLUMNS, height: float, rows: int = 1, columns: int = 1, **layout: Any) -> Iterator[Any]:
    """A figure in the style of this file, written at the end in every format.

    Args:
        path: of the PNG; the others lie beside it.
        width: in inches, :data:`ONE_COLUMN` or :data:`TWO_COLUMNS`.
        height: in inches.
        rows: of panels.
        columns: of panels.
        **layout: further arguments of Matplotlib's ``Figure.subplots``.

    Yields:
        The figure and its axes, [rows, columns].
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure  # without pyplot there is no window, no global figure, no backend to choose

    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(width, height))
        yield drawn, drawn.subplots(rows, columns, squeeze=False, **layout)
        for suffix, metadata in FORMATS.items():
            drawn.savefig(path.with_suffix(suffix), metadata=metadata)


def line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of one of several lines.

    >>> line_style(0), line_style(7)
    ({'color': '#0072B2', 'linestyle': '-'}, {'color': '#0072B2', 'linestyle': '--'})
    """
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number // len(COLOURS) % len(LINES)]}
