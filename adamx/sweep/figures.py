"""Pictures of a sweep's result: figures of `adamx.plot`, to be written with `adamx.plot.save`."""

import numbers
from typing import TYPE_CHECKING

import numpy as np

from adamx import plot
from adamx.sweep.points import columns_of, shown
from adamx.sweep.result import Result
from adamx.sweep.tasks import LOSS

if TYPE_CHECKING:
    from adamx.drawing import Figure

DECADE = 10


def sensitivity(
    result: Result,
    metric: str = LOSS,
    by: str = "learning_rate",
    *,
    chosen_by: str | None = None,
    log_y: bool = True,
    label: str | None = None,
) -> "Figure":
    """How much a hyperparameter matters: a curve for each name, with a band over seeds, and the value marked that is best by `chosen_by`.

    A cross along the top is a value at which a lane diverged. Where other hyperparameters vary too, each value is shown with the best.
    Names without the hyperparameter are left out.
    `chosen_by` is a metric; None for `metric` itself. `label` is that of the metric's axis, here and below.
    """
    values, scores = {}, {}
    chosen_by, chosen = chosen_by or metric, {}
    places = result.places(chosen_by)
    for name in result.constructors:
        if not (best := _best_by(result, chosen_by, name, by)):
            continue
        if unfit := [value for (value,) in best if not isinstance(value, numbers.Real)]:
            raise ValueError(f"sensitivity draws curves over numbers, but {by} of {name} is also {shown(unfit[0])!r}.")
        values[name] = [value for (value,) in best]
        scores[name] = result.final(metric)[list(best.values())]
        chosen[name] = int(np.argmin(places[list(best.values())]))
    diverged = {name: np.isnan(own) for name, own in scores.items()}
    figure = plot.sensitivity(
        values,
        scores,
        y_label=label or f"{metric} at the end",
        log_y=log_y,
        diverged=diverged,
        chosen=chosen,
        chosen_by=f"chosen: best {chosen_by}",
    )
    figure.axes[0].set_xlabel(by)
    if min(value for own in values.values() for value in own) <= 0:
        figure.axes[0].set_xscale("linear")
    _limit(figure.axes[0], np.concatenate([np.ravel(own) for own in scores.values()]), log_y)
    return figure


def heat_map(
    result: Result,
    rows: str,
    columns: str,
    metric: str = LOSS,
    name: str | None = None,
    *,
    label: str | None = None,
) -> "Figure":
    """The mean over seeds of a metric at the end, over two hyperparameters; empty where a lane diverged.

    Where others vary too, each pair is shown with the best of them.
    """
    best = _best_by(result, metric, name, rows, columns)
    first, second = (sorted(set(own), key=_order) for own in zip(*best, strict=True))
    values = np.full((len(first), len(second)), np.nan)
    scores = result.scores(metric)
    for (row, column), point in best.items():
        values[first.index(row), second.index(column)] = scores[point] if np.isfinite(scores[point]) else np.nan
    labels = {"row_label": rows, "column_label": columns, "value_label": label or f"{metric} at the end"}
    figure = plot.heat_map(values, [_tick(v) for v in first], [_tick(v) for v in second], **labels)
    if np.nanmin(values) > 0 and np.nanmax(values) > DECADE * np.nanmin(values):
        _in_logarithm(figure.axes[0])
    return figure


def curves(result: Result, metric: str = LOSS, *, log_y: bool = True, label: str | None = None) -> "Figure":
    """A metric over the run for the best point of each name, with a band over seeds; no curve where in every point a lane diverged."""
    sound = {name for name, score in zip(result.names, result.scores(metric), strict=True) if np.isfinite(score)}
    names = [name for name in result.constructors if name in sound]
    series = {name: result.values(metric)[result.best(name, metric).index] for name in names}
    of_best = {name: (result.at, own) for name, own in series.items()}
    return plot.curves([plot.Panel(label or metric, of_best, log_y=log_y)])


def rungs(result: Result, metric: str = LOSS, *, log_y: bool = True, label: str | None = None) -> "Figure":
    """What halving did: the mean over seeds of each point, in its name's colour, or in grey if it was stopped at a rung."""
    values, ended, names = result.values(metric).mean(axis=1), result.went, list(result.constructors)
    with plot.canvas(size=(6.4, 3.6)) as (figure, ((ax,),)):
        stopped, finished = np.flatnonzero(ended < ended.max()), np.flatnonzero(ended == ended.max())
        for order, i in enumerate(stopped):
            text = {} if order else {"label": "stopped"}
            ax.plot(result.at, values[i], color="#999999", linewidth=0.7, alpha=0.7, **text)
        for i in sorted(finished, key=lambda i: names.index(result.names[i])):
            look = plot.look(names.index(result.names[i])) | {"marker": None, "linewidth": 1.6}
            ax.plot(result.at, values[i], zorder=3, label=result.names[i], **look)
        for rung in np.unique(ended[stopped]):
            ax.axvline(rung, color="black", linewidth=0.8, linestyle=":")
            going_on = f"{np.sum(ended > rung)} of {np.sum(ended >= rung)} go on"
            above = {"xycoords": ("data", "axes fraction"), "rotation": 90, "ha": "right", "va": "top", "fontsize": 7}
            ax.annotate(going_on, (rung, 1), **above)
        ax.set(xlabel="step", ylabel=label or metric, xscale="log", yscale="log" if log_y else "linear")
        _limit(ax, values, log_y)
        plot.legend(figure, [ax])
    return figure


def _limit(ax, values, log_y):
    """Leaves out what is four decades above the least: runs that all but diverged, beside which nothing else is told apart."""
    least = np.nanmin(values)
    if log_y and least > 0 and np.nanmax(values) > least * DECADE**4:
        ax.set_ylim(least / 2, least * DECADE**4)


def _in_logarithm(ax):
    """Colours a heat map by the logarithm, each number in an ink that is seen on its colour."""
    (image,) = ax.images
    image.set_norm("log")
    for text in ax.texts:
        column, row = text.get_position()
        red, green, blue, _ = image.cmap(image.norm(image.get_array()[row, column]))
        text.set_color("black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white")


def _best_by(result, metric, name, *columns):
    """Values of `columns`, sorted -> the best point that has them (of one name)."""
    for column in columns:
        if column not in columns_of(result.rows):
            raise ValueError(
                f"the sweep has no hyperparameter {column!r}; it has {', '.join(columns_of(result.rows))}."
            )
    places, best = result.places(metric), {}
    for i, row in enumerate(result.rows):
        if name in (None, result.names[i]) and all(column in row for column in columns):
            values = tuple(row[column] for column in columns)
            if values not in best or places[i] < places[best[values]]:
                best[values] = i
    return dict(sorted(best.items(), key=lambda pair: [_order(value) for value in pair[0]]))


def _order(value):
    return (0, value, "") if isinstance(value, numbers.Real) else (1, 0, str(shown(value)))


def _tick(value):
    return f"{value:.6g}" if isinstance(value, float) else str(shown(value))
