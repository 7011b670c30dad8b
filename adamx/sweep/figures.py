"""Pictures of a sweep's result: figures of `adamx.plot`, to be written with `adamx.plot.save`."""

import numpy as np

from adamx import plot
from adamx.sweep.points import columns_of
from adamx.sweep.tasks import LOSS

DECADE = 10


def sensitivity(result, metric=LOSS, by="learning_rate", *, chosen_by=None, log_y=True):
    """How much a hyperparameter matters: a curve for each name, with a band over seeds, and the value marked that is best by `chosen_by`.

    A cross along the top is a value at which a lane diverged. Where other hyperparameters vary too, each value is shown with the best.
    `chosen_by` is a metric; None for `metric` itself.
    """
    values, scores = {}, {}
    chosen_by, chosen = chosen_by or metric, {}
    ranks = _ranks(result, chosen_by)
    for name in result.constructors:
        best = _best_by(result, chosen_by, name, by)
        values[name] = [value for (value,) in best]
        scores[name] = result.final(metric)[list(best.values())]
        chosen[name] = int(np.argmin(ranks[list(best.values())]))
    drawn = {name: np.where(np.isnan(own).any(axis=1, keepdims=True), np.nan, own) for name, own in scores.items()}
    figure = plot.sensitivity(values, drawn, y_label=f"{metric} at the end", log_y=log_y, chosen=chosen)
    (ax,) = figure.axes
    ax.set_xlabel(by)
    _limit(ax, np.concatenate([np.ravel(own) for own in drawn.values()]), log_y)
    for i, (name, own) in enumerate(scores.items()):
        lost = np.isnan(own).any(axis=1)
        if lost.any():
            style = {"color": plot.look(i)["color"], "marker": "x", "linestyle": "", "clip_on": False}
            height = np.full(lost.sum(), 1 - 0.02 * i)
            ax.plot(np.array(values[name])[lost], height, transform=ax.get_xaxis_transform(), **style)
    if np.isnan(np.concatenate(list(scores.values()))).any():
        ax.set_title("x: a lane diverged", loc="right", fontsize=8)
    return figure


def heat_map(result, rows, columns, metric=LOSS, name=None):
    """The mean over seeds of a metric at the end, over two hyperparameters; empty where a lane diverged.

    Where others vary too, each pair is shown with the best of them.
    """
    best = _best_by(result, metric, name, rows, columns)
    first, second = (sorted(set(own)) for own in zip(*best, strict=True))
    values = np.full((len(first), len(second)), np.nan)
    scores = result.scores(metric)
    for (row, column), point in best.items():
        values[first.index(row), second.index(column)] = scores[point] if np.isfinite(scores[point]) else np.nan
    labels = {"row_label": rows, "column_label": columns, "value_label": f"{metric} at the end"}
    figure = plot.heat_map(values, [_tick(v) for v in first], [_tick(v) for v in second], **labels)
    if np.nanmin(values) > 0 and np.nanmax(values) > DECADE * np.nanmin(values):
        _in_logarithm(figure.axes[0])
    return figure


def curves(result, metric=LOSS, *, log_y=True):
    """A metric over the run for the best point of each name, with a band over seeds."""
    series = {name: result.metrics[metric][result.best(name, metric).index] for name in result.constructors}
    figure = plot.curves([(metric, {name: (result.at, own) for name, own in series.items()})])
    figure.axes[0].set_yscale("log" if log_y else "linear")
    return figure


def rungs(result, metric=LOSS, *, log_y=True):
    """What halving did: the mean over seeds of every point, to the rung at which it was stopped."""
    ended = np.where(result.stopped_at < 0, result.at[-1], result.stopped_at)
    values = result.metrics[metric].mean(axis=1)
    figure = plot.rungs(result.at, values, ended, y_label=metric, log_y=log_y)
    _limit(figure.axes[0], values, log_y)
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
    ranks, best = _ranks(result, metric), {}
    for i, row in enumerate(result.rows):
        if name in (None, result.names[i]) and all(column in row for column in columns):
            values = tuple(row[column] for column in columns)
            if values not in best or ranks[i] < ranks[best[values]]:
                best[values] = i
    return dict(sorted(best.items()))


def _ranks(result, metric):
    """The mean over seeds, less is better; infinite where a lane diverged."""
    return result.scores(metric) * (-1 if metric in result.maximise else 1)


def _tick(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)
