"""Pictures of optimizers (matplotlib, of the `lab` extra; imported when the first one is drawn).

Every function returns a new `matplotlib.figure.Figure`; `save` writes it. Colours are Okabe and Ito's (grey for their yellow, which is
lost on white), told apart by people with colour-blindness; lines differ in dash and marker too.
"""

import contextlib
import itertools

import numpy as np

from adamx import files

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#777777")
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "<", "*")

STYLE = {
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
def _figure(rows=1, columns=1, size=(4.2, 3.1), **options):
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


def look(i):
    """Colour, dash and marker of series number `i`, all different up to 32 series."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": DASHES[i // len(COLOURS) % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
    }


def save(figure, path):
    """Writes `figure` to `path` (PNG, PDF or SVG by its ending), whole or not at all. Returns the path."""
    with files.whole(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path


def _legend(figure, axes, columns=None):
    """One legend for the whole figure, below the axes."""
    entries = {}
    for ax in np.ravel(axes):
        entries |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=columns or min(len(entries), 4))


def curves(panels, *, x_label="step", log_x=False, columns=None):
    """Curves over steps, one panel beside the other, with bands where a curve comes with many seeds.

    Args:
      panels: (y label, name -> (x, y)) pairs; y of shape (n,), or (seeds, n): the mean is drawn with a band from the 5th to the 95th
        percentile. A name has the same look in every panel.
      x_label: Label of the x axes.
      log_x: Logarithmic x axes.
      columns: Columns of the legend.
    """
    names = list(dict.fromkeys(itertools.chain(*(series for _, series in panels))))
    with _figure(1, len(panels)) as (figure, axes):
        from matplotlib.ticker import EngFormatter

        for ax, (label, series) in zip(axes[0], panels, strict=True):
            for name, (x, y) in series.items():
                x, y = np.asarray(x), np.asarray(y)
                style = look(names.index(name)) | {"marker": None}
                if y.ndim == 2:
                    low, high = np.nanpercentile(y, [5, 95], axis=0)
                    ax.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
                    y = y.mean(axis=0)
                ax.plot(x, y, label=name, linewidth=1.5, **style)
            ax.set(xlabel=x_label, ylabel=label)
            if log_x:
                ax.set_xscale("log")
            elif ax.get_xlim()[1] >= 10_000:
                ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        _legend(figure, axes, columns)
        return figure


def internals(series, window=200, *, title=None):
    """What one coordinate goes through: each series in its first and last `window` steps, side by side.

    Args:
      series: Name -> array of shape (steps,): gradient, m, debiased m, sqrt(v), debiased sqrt(v), output. The last is drawn below, on an
        axis of its own, as its scale is another.
      window: Steps shown at each end.
      title: Title of the figure.
    """
    names = list(series)
    length = len(np.asarray(series[names[0]]))
    parts = [("first", slice(0, window)), ("last", slice(max(length - window, 0), length))]
    with _figure(2, 2, size=(4.4, 2.4), sharex="col", sharey="row") as (figure, axes):
        for column, (part, where) in enumerate(parts):
            steps = np.arange(1, length + 1)[where]
            for i, name in enumerate(names):
                row = int(i == len(names) - 1)
                style = look(i) | {"marker": None, "linestyle": DASHES[i % 2], "zorder": 3 - i / len(names)}
                axes[row][column].plot(steps, np.asarray(series[name])[where], label=name, linewidth=1.2, **style)
            axes[0][column].set_title(f"{part} {len(steps)} steps")
            axes[1][column].set_xlabel("step")
        axes[0][0].set_ylabel("gradient units")
        axes[1][0].set_ylabel(names[-1])
        if title:
            figure.suptitle(title)
        _legend(figure, axes[:, 0], 6)
        return figure


def contour(loss, paths, *, bounds, optima=(), levels=30, resolution=201):
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
    with _figure(size=(5.2, 4.2)) as (figure, axes):
        ax = axes[0][0]
        ax.contour(x, y, heights, levels=levels, cmap="Greys", linewidths=0.6, alpha=0.7)
        for i, (name, path) in enumerate(paths.items()):
            path = np.asarray(path)
            ax.plot(path[:, 0], path[:, 1], label=name, linewidth=1.5, markevery=[-1], **look(i))
        for point in optima:
            ax.plot(*point, marker="+", color="black", markersize=11, markeredgewidth=2)
        ax.set(xlim=bounds[0], ylim=bounds[1], xlabel="first parameter", ylabel="second parameter")
        ax.grid(False)
        _legend(figure, ax)
        return figure


def sensitivity(learning_rates, scores, *, y_label, log_y=False, chosen=None, diverged=None):
    """How much the learning rate matters: one curve a rule, with a band over seeds.

    Args:
      learning_rates: Name -> array (n,).
      scores: Name -> array (n, seeds), NaN where there is none. The mean over seeds is drawn, with a band from least to greatest.
      y_label: What the score is, with its unit.
      log_y: Logarithmic scores.
      chosen: Name -> index of the learning rate chosen for the rule, to be marked.
      diverged: Name -> boolean array (n, seeds): scores to be crossed out.
    """
    cross = {"marker": "x", "linestyle": "", "markersize": 7, "markeredgewidth": 1.6}
    with _figure(size=(9, 5.4)) as (figure, axes):
        from matplotlib import ticker

        ax = axes[0][0]
        for i, name in enumerate(scores):
            x, y = np.asarray(learning_rates[name]), np.ma.masked_invalid(np.asarray(scores[name], float))
            style = look(i) | {"linestyle": DASHES[(i + i // len(DASHES)) % len(DASHES)]}
            mean = y.mean(axis=1)
            ax.fill_between(x, y.min(axis=1), y.max(axis=1), color=style["color"], alpha=0.1, linewidth=0)
            # Thinner from line to line, so that lines which coincide all show.
            ax.plot(x, mean, label=name, linewidth=3 - 1.6 * i / len(scores), markersize=6.5, **style)
            if chosen is not None:
                best = style | {"linestyle": "", "markersize": 12, "markeredgecolor": "black", "zorder": 3}
                ax.plot(x[chosen[name]], mean[chosen[name]], **best)
            if diverged is not None:
                rows, seeds = np.nonzero(diverged[name])
                ax.plot(x[rows], y[rows, seeds], color=style["color"], **cross)
        if chosen is not None:
            ax.plot([], [], "o", color="white", markeredgecolor="black", markersize=11, label="chosen")
        if diverged is not None and any(np.any(lost) for lost in diverged.values()):
            ax.plot([], [], color="black", **cross, label="diverged")
        ax.set(xscale="log", xlabel="learning rate", ylabel=y_label)
        if log_y:
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_locator(ticker.NullLocator())
        figure.legend(loc="outside right upper", handlelength=4)
        return figure


def heat_map(values, rows, columns, *, row_label, column_label, value_label, format="{:.3g}"):
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
    with _figure(size=size) as (figure, axes):
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


def rungs(steps, values, ended, *, y_label, log_y=True):
    """Successive halving: the curve of each point, grey up to the rung at which it was stopped, coloured if it went to the end.

    Args:
      steps: Steps after which values were taken, array (n,).
      values: Array (points, n), NaN where there is none.
      ended: Steps that each point made, array (points,); the greatest is the end, the others are rungs.
      y_label: What the values are, with their unit.
      log_y: Logarithmic values.
    """
    steps, values, ended = np.asarray(steps), np.asarray(values, float), np.asarray(ended)
    with _figure(size=(6.4, 3.6)) as (figure, axes):
        ax, last = axes[0][0], ended.max()
        finished = [i for i in np.argsort(values[:, -1]) if ended[i] == last]
        for i in np.flatnonzero(ended < last):
            ax.plot(steps, values[i], color="#999999", linewidth=0.7, alpha=0.7)
        for order, i in enumerate(finished):
            ax.plot(steps, values[i], color=COLOURS[order % len(COLOURS)], linewidth=1.6, zorder=3)
        for rung in np.unique(ended[ended < last]):
            ax.axvline(rung, color="black", linewidth=0.8, linestyle=":")
            going_on = f"{np.sum(ended > rung)} of {np.sum(ended >= rung)} go on"
            ax.annotate(
                going_on, (rung, 1), xycoords=("data", "axes fraction"), rotation=90, ha="right", va="top", fontsize=7
            )
        ax.set(xlabel="step", ylabel=y_label, xscale="log", yscale="log" if log_y else "linear")
        return figure
