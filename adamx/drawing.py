"""What all pictures share: colours and dashes, a figure without a window, its legend and its file."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from adamx import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure

Path = TypeVar("Path", bound=str | os.PathLike[str])

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#777777")
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "<", "*")

STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 120,
    "font.size": 9,
}


@contextlib.contextmanager
def canvas(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (4.2, 3.1), **options: Any
) -> Iterator[tuple["Figure", Any]]:
    """A figure of `rows` x `columns` axes, each of `size` inches, in our style and without a window."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('adamx.plot needs matplotlib: pip install "adamx[lab]"') from error
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(rows, columns, squeeze=False, **options)


def look(i: int) -> dict[str, Any]:
    """Colour, dash and marker of series number `i`: colour and dash differ between any two of 32 series, dash between neighbours."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": DASHES[(i + i // len(COLOURS)) % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
    }


def save(figure: "Figure", path: Path) -> Path:
    """Writes `figure` to `path` (PNG, PDF or SVG by its ending), whole or not at all. Returns the path."""
    with files.whole(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path


def legend(figure: "Figure", axes: Any, columns: int | None = None, band: str | None = None) -> None:
    """One legend for the whole figure, below the axes; with an entry that says what a `band` is, if there is one."""
    entries: dict[str, Any] = {}
    for ax in np.ravel(axes):
        entries |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if band:
        entries |= band_entry(band)
    figure.legend(
        entries.values(),
        list(entries),
        loc="outside lower center",
        ncols=columns or min(len(entries), 4),
        handlelength=3,
    )


def band_entry(what):
    """The entry of a legend that says what bands are."""
    from matplotlib.patches import Patch

    return {f"band: {what}": Patch(color="#777777", alpha=0.3, linewidth=0)}
