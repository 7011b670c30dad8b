"""Pictures of optimizers (matplotlib, of the `lab` extra; imported when the first one is drawn).

Every function returns a new `matplotlib.figure.Figure`; `save` writes it. Colours are Okabe and Ito's (grey for their yellow, which is
lost on white), told apart by people with colour-blindness; lines differ in dash and marker too. Whatever is drawn is named: bands and
marks in the legend, levels beside their line.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from adamx.drawing import DASHES, band_entry
from adamx.drawing import canvas as canvas
from adamx.drawing import legend as legend
from adamx.drawing import look as look
from adamx.drawing import save as save

if TYPE_CHECKING:
    from adamx.drawing import Figure


class Panel(NamedTuple):
    """One panel of `curves`.

    Attributes:
      label: Of the y axis.
      series: Name -> (x, y); y of shape (n,), or (seeds, n): the mean is drawn, with a band.
      title: Above the panel.
      levels: Text -> y of a dotted horizontal line.
      points: Name -> (x, y) of points beside the curves; a name among the series marks the points of that curve.
      limits: (least, greatest) y shown; all if None.
      log_y: Logarithmic y axis.
    """

    label: str
    series: Mapping[str, Any]
    title: str = ""
    levels: Mapping[str, float] = {}
    points: Mapping[str, Any] = {}
    limits: tuple[float, float] | None = None
    log_y: bool = False


def curves(
    panels: Sequence[Panel | tuple[Any, ...]],
    *,
    x_label: str = "step",
    log_x: bool = False,
    columns: int | None = None,
    across: int | None = None,
) -> "Figure":
    """Curves over steps, one panel beside the other, with bands where a curve comes with many seeds.

    Args:
      panels: `Panel`s, or tuples with their first fields. A name has the same look in every panel.
      x_label: Label of the x axes.
      log_x: Logarithmic x axes.
      columns: Columns of the legend; three, or two a panel, if None.
      across: Panels in a row; all if None.
    """
    all_panels = [Panel(*panel) for panel in panels]
    names = list(
        dict.fromkeys(itertools.chain(*(panel.series for panel in all_panels), *(panel.points for panel in all_panels)))
    )
    across = across or len(all_panels)
    size = (4.2, 3.1) if across > 1 else (6.4, 3.6)
    with canvas(-(-len(all_panels) // across), across, size) as (figure, axes):
        from matplotlib.ticker import EngFormatter

        banded = False
        for ax, panel in zip(axes.flat, all_panels, strict=False):
            for name, (x, y) in panel.series.items():
                x, y = np.asarray(x), np.asarray(y)
                style = look(names.index(name)) | ({} if name in panel.points else {"marker": None})
                if y.ndim == 2:
                    low, high = np.nanpercentile(y, [5, 95], axis=0)
                    ax.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
                    y, banded = y.mean(axis=0), True
                ax.plot(x, y, label=name, linewidth=1.7, markeredgecolor="black", markersize=7, **style)
            for name in (name for name in panel.points if name not in panel.series):
                x, y = panel.points[name]
                style = look(names.index(name)) | {"linestyle": "", "markeredgecolor": "black", "markersize": 7}
                ax.plot(x, y, label=name, clip_on=False, zorder=4, **style)
            for text, y in panel.levels.items():
                ax.axhline(y, color="black", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
                ax.text(1.01, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=8)
            ax.set(xlabel=x_label, ylabel=panel.label, title=panel.title)
            if panel.log_y:
                ax.set_yscale("log")
            ax.set_ylim(panel.limits)
            if log_x:
                ax.set_xscale("log")
            elif ax.get_xlim()[1] >= 10_000:
                ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        for ax in axes.flat[len(all_panels) :]:
            ax.set_axis_off()
        legend(figure, axes, columns or max(3, 2 * across), "5 % to 95 % of the seeds" if banded else None)
        return figure


def internals(
    series: Mapping[str, Any],
    window: int = 200,
    *,
    below: Sequence[str] | None = None,
    whole: str | None = None,
    title: str | None = None,
) -> "Figure":
    """What one coordinate goes through: each series in its first and last `window` steps, side by side, with a line at 0.

    Args:
      series: Name -> array of shape (steps,): gradient, m, debiased m, sqrt(v), debiased sqrt(v), output.
      window: Steps shown at each end.
      below: Names of the series drawn below, on an axis of their own, as their scale is another; the last if None.
      whole: Name of a series to be drawn over all steps in a panel below these; none if None.
      title: Title of the figure.
    """
    below, length = below or list(series)[-1:], len(np.asarray(next(iter(series.values()))))
    above = [name for name in series if name not in (*below, whole)]
    parts = [("first", slice(0, window)), ("last", slice(max(length - window, 0), length))]
    with canvas(3 if whole else 2, 2, size=(4.6, 2.2)) as (figure, axes):
        for column, (part, where) in enumerate(parts):
            steps = np.arange(1, length + 1)[where]
            for row, names in enumerate((above, below)):
                ax = axes[row][column]
                for i, name in enumerate(names):
                    style = look((6, 1)[i % 2] if row else i) | {"marker": None, "linestyle": DASHES[i % 4]}
                    ax.plot(steps, np.asarray(series[name])[where], label=name, linewidth=1.8 - 0.2 * i, **style)
                ax.axhline(0, color="black", linewidth=0.8)
                ax.set_ylabel("" if column else below[0] if row else "gradient units")
                ax.sharey(axes[row][0])
            axes[0][column].set_title(f"{part} {len(steps)} steps")
            axes[1][column].set_xlabel("step")
        if whole:
            grid = axes[2][0].get_gridspec()
            for ax in axes[2]:
                ax.remove()
            ax = figure.add_subplot(grid[2, :])
            ax.plot(np.arange(1, length + 1), np.asarray(series[whole]), color="black", linewidth=1.5)
            ax.axhline(0, color="black", linewidth=0.8)
            ax.set(xlabel="step", ylabel=whole)
        if title:
            figure.suptitle(title)
        legend(figure, axes[:2, 0], 4)
        return figure


def contour(
    loss: Callable[[Any], Any],
    paths: Mapping[str, Any],
    *,
    bounds: tuple[tuple[float, float], tuple[float, float]],
    optima: Sequence[Sequence[float]] = (),
    levels: int = 30,
    resolution: int = 201,
) -> "Figure":
    """Contours of a loss of two parameters, with the paths of optimizers over them.

    Args:
      loss: Function of an array (2,) -> number; called once, batched, on a grid.
      paths: Name -> array (steps, 2).
      bounds: ((x low, x high), (y low, y high)).
      optima: Points to mark.
      levels: Number of contours, log-spaced above the least value on the grid.
      resolution: Grid points a side.
    """
    import jax

    (x0, x1), (y0, y1) = bounds
    x, y = np.meshgrid(np.linspace(x0, x1, resolution), np.linspace(y0, y1, resolution))
    values = np.asarray(jax.vmap(loss)(np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32))).reshape(x.shape)
    heights = np.log10(values - values.min() + 1e-3 * (values.max() - values.min()))
    with canvas(size=(5.2, 4.2)) as (figure, axes):
        ax = axes[0][0]
        ax.contour(x, y, heights, levels=levels, cmap="Greys", linewidths=0.6, alpha=0.7)
        for i, (name, path) in enumerate(paths.items()):
            path = np.asarray(path)
            ax.plot(path[:, 0], path[:, 1], label=name, linewidth=1.5, markevery=[-1], **look(i))
        for point in optima:
            ax.plot(*point, marker="+", color="black", markersize=11, markeredgewidth=2)
        ax.set(xlim=bounds[0], ylim=bounds[1], xlabel="first parameter", ylabel="second parameter")
        ax.grid(False)
        legend(figure, ax)
        return figure


def sensitivity(
    learning_rates: Mapping[str, Any],
    scores: Mapping[str, Any],
    *,
    y_label: str,
    log_y: bool = False,
    chosen: Mapping[str, int] | None = None,
    chosen_by: str = "chosen",
    diverged: Mapping[str, Any] | None = None,
) -> "Figure":
    """How much the learning rate matters: one curve a rule, with a band over seeds; lanes that diverged are crosses at the top.

    Args:
      learning_rates: Name -> array (n,).
      scores: Name -> array (n, seeds), NaN where there is none. The mean over seeds is drawn, with a band from least to greatest.
      y_label: What the score is, with its unit.
      log_y: Logarithmic scores.
      chosen: Name -> index of the learning rate chosen for the rule, to be ringed.
      chosen_by: What the legend says of these.
      diverged: Name -> boolean array (n, seeds): lanes without a meaningful score, which is left out.
    """
    cross = {"marker": "x", "linestyle": "", "markersize": 6, "markeredgewidth": 1.6}
    ring = {"marker": "o", "linestyle": "", "markersize": 13, "markerfacecolor": "none", "markeredgecolor": "black"}
    with canvas(size=(9, 5.4)) as (figure, axes):
        from matplotlib import ticker

        ax, lost = axes[0][0], False
        for i, name in enumerate(scores):
            x, y = np.asarray(learning_rates[name]), np.ma.masked_invalid(np.asarray(scores[name], float))
            if diverged is not None:
                y = np.ma.masked_where(diverged[name], y)
                x_lost = x[np.any(diverged[name], axis=1)]
                lost = lost or x_lost.size > 0
                above = {"transform": ax.get_xaxis_transform(), "clip_on": False, "color": look(i)["color"]}
                ax.plot(x_lost, np.full(x_lost.shape, 1.02 + 0.025 * i), **cross, **above)[0].set_in_layout(False)
            mean = y.mean(axis=1)
            ax.fill_between(x, y.min(axis=1), y.max(axis=1), color=look(i)["color"], alpha=0.1, linewidth=0)
            # Thinner from line to line, so that lines which coincide all show.
            ax.plot(x, mean, label=name, linewidth=3 - 1.6 * i / len(scores), markersize=6.5, **look(i))
            if chosen is not None:
                ax.plot(x[chosen[name]], mean[chosen[name]], zorder=3, markeredgewidth=1.4, **ring)
        ax.set(xscale="log", xlabel="learning rate", ylabel=y_label)
        if log_y:
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_locator(ticker.NullLocator())
        entries = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True)) | band_entry(
            "least to greatest seed"
        )
        if chosen is not None:
            entries[chosen_by] = ax.plot([], [], **ring)[0]
        if lost:
            entries["at the top: a seed diverged"] = ax.plot([], [], color="black", **cross)[0]
            ax.set_title(" ", pad=6 + 9 * len(scores))  # room for the crosses
        figure.legend(entries.values(), entries, loc="outside right upper", handlelength=4)
        return figure


def heat_map(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    row_label: str,
    column_label: str,
    value_label: str,
    format: str = "{:.3g}",
) -> "Figure":
    """A table of numbers as colours, each cell with its number.

    Args:
      values: Array (rows, columns).
      rows: Names of the rows.
      columns: Names of the columns.
      row_label: What the rows are.
      column_label: What the columns are.
      value_label: What the numbers are, with their unit.
      format: How a number is written.
    """
    values = np.asarray(values, float)
    size = (1.8 + 0.62 * len(columns), 1.2 + 0.27 * len(rows))
    with canvas(size=size) as (figure, axes):
        ax = axes[0][0]
        image = ax.imshow(values, aspect="auto", cmap="cividis")
        for (i, j), value in np.ndenumerate(values):
            red, green, blue, _ = image.cmap(image.norm(value))
            ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
            ax.text(j, i, format.format(value), ha="center", va="center", color=ink, fontsize=7)
        ax.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
        ax.set_yticks(range(len(rows)), rows)
        ax.set(xlabel=column_label, ylabel=row_label)
        ax.grid(False)
        figure.colorbar(image, label=value_label)
        return figure
