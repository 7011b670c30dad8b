"""What a sweep returns: a table with a row a lane, the best points, curves; and its file."""

import dataclasses
import functools
import importlib
import json
import pathlib
import sys
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from adamx import files
from adamx.sweep.points import columns_of, name_of, shown
from adamx.sweep.tasks import LOSS, NEVER

FORMAT = "adamx sweep 1"
OWN_COLUMNS = ("name", "seed", "status", "died_at", "reached_at", "steps")


class Best(NamedTuple):
    """A point of a sweep, and how it did.

    Attributes:
      name: The name of its `Points`.
      constructor: The function that makes its rule.
      row: The hyperparameters.
      metric: What it was chosen by.
      mean: Its mean over seeds at the end.
      sd: The standard deviation over seeds (with n - 1; NaN for one seed).
      index: The number of the point.
    """

    name: str
    constructor: Callable
    row: dict
    metric: str
    mean: float
    sd: float
    index: int

    @property
    def rule(self):
        """The rule itself."""
        return self.constructor(**self.row)

    def code(self):
        """The constructor call that makes the rule, to be pasted into a program."""
        return f"{_code(self.constructor)}({', '.join(f'{name}={_code(value)}' for name, value in self.row.items())})"


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """A finished sweep of n points, each with s seeds, evaluated r times.

    Attributes:
      names: Name of each point.
      rows: Hyperparameters of each point.
      constructors: Name -> constructor.
      seeds: The seeds.
      at: Steps after which lanes were evaluated, int array (r,).
      metrics: Name -> float32 array (n, s, r); NaN where a lane was dead or stopped.
      died_at: Step at which a lane diverged, int array (n, s), -1 for never.
      reached_at: Step at which it was seen to have reached the target, likewise.
      stopped_at: Rung after which a point was stopped, int array (n,), likewise.
      maximise: Names of the metrics of which more is better.
      took: Bytes that each program that was run took, on each device, by the compiler's own figures.
    """

    names: list[str]
    rows: list[dict]
    constructors: dict[str, Callable]
    seeds: list[int]
    at: np.ndarray
    metrics: dict[str, np.ndarray]
    died_at: np.ndarray
    reached_at: np.ndarray
    stopped_at: np.ndarray
    maximise: tuple[str, ...]
    took: tuple[int, ...] = ()

    def __repr__(self):
        died = int(np.sum(self.died_at != NEVER))
        return f"{len(self.names)} points x {len(self.seeds)} seeds x {self.at[-1]} steps, {died} lanes diverged"

    @property
    def steps(self):
        """Steps that each lane made until it ended, diverged, reached the target or was stopped: int array (n, s)."""
        ends = [self.died_at, self.reached_at, np.broadcast_to(self.stopped_at[:, None], self.died_at.shape)]
        return np.minimum.reduce([np.where(end == NEVER, self.at[-1], end) for end in ends])

    def final(self, metric, until=None):
        """The metric when each lane was last evaluated, if `until` is given within so many steps: array (n, s); NaN for a diverged lane."""
        recorded = self.values(metric)
        steps = np.minimum(self.steps, self.at[-1] if until is None else until)
        if until is not None and until < self.at[0]:
            raise ValueError(f"until={until}: the first evaluation was after {self.at[0]} steps.")
        last = np.searchsorted(self.at, steps, side="right") - 1
        values = np.take_along_axis(recorded, last[..., None], axis=-1)[..., 0]
        return np.where(self.died_at == NEVER, values, np.nan)

    def scores(self, metric=LOSS, until=None):
        """The mean over seeds of `final`, array (n,): infinite, on the worse side, where a lane diverged."""
        worst = -np.inf if metric in self.maximise else np.inf
        mean = self.final(metric, until).astype(np.float64).mean(axis=1)
        return np.where(np.isnan(mean), worst, mean)

    def costs(self, metric=LOSS, until=None):
        """`scores` with the sign with which less is better: infinite where a lane diverged."""
        return self.scores(metric, until) * (-1 if metric in self.maximise else 1)

    def places(self, metric=LOSS):
        """The place of each point, the best 0, int array (n,).

        Those that went furthest are first, of these the least of `costs`; those in which a lane diverged are last.
        """
        costs = self.costs(metric)
        return np.argsort(np.lexsort((costs, -self.went, np.isinf(costs))))

    @property
    def went(self):
        """Steps after which each point was stopped by halving, or of the whole run: int array (n,)."""
        return np.where(self.stopped_at == NEVER, self.at[-1], self.stopped_at)

    def table(self):
        """A pandas frame with a row a lane.

        Columns: name; every hyperparameter (by name where it is no number or string); seed; status, "finished", "diverged", "reached" (the
        target) or "stopped" (by halving); died_at and reached_at, absent where that did not happen; steps made; and of each metric the
        final and the best value. A hyperparameter with the name of another column gets an underscore behind it.
        """
        import pandas as pd

        count, lanes = len(self.seeds), self.died_at.size
        columns = {"name": np.repeat(self.names, count)}
        for name in columns_of(self.rows):
            columns[f"{name}_" if name in OWN_COLUMNS else name] = [
                shown(row.get(name)) for row in self.rows for _ in range(count)
            ]
        columns |= {"seed": np.tile(self.seeds, len(self.rows)), "status": self._status().ravel()}
        for name, when in (("died_at", self.died_at), ("reached_at", self.reached_at)):
            columns[name] = pd.array(np.where(when.ravel() == NEVER, None, when.ravel()), dtype="Int64")
        columns["steps"] = self.steps.ravel()
        for metric, values in self.metrics.items():
            extreme = np.fmax if metric in self.maximise else np.fmin
            columns[f"final_{metric}"] = self.final(metric).ravel()
            columns[f"best_{metric}"] = extreme.reduce(values, axis=-1).reshape(lanes)
        return pd.DataFrame(columns)

    @property
    def going(self):
        """Which lanes have neither diverged nor reached the target: boolean (n, s)."""
        return (self.died_at == NEVER) & (self.reached_at == NEVER)

    def _status(self):
        status = np.full(self.died_at.shape, "finished", object)
        status[self.stopped_at != NEVER] = "stopped"
        status[self.reached_at != NEVER] = "reached"
        status[self.died_at != NEVER] = "diverged"
        return status

    def curves(self, metric=LOSS):
        """A metric over the run: a pandas frame with a row an evaluation (index: steps made) and a column a lane, as rows of `table`."""
        import pandas as pd

        flat = self.values(metric).reshape(-1, len(self.at))
        return pd.DataFrame(flat.T, index=pd.Index(self.at, name="step"))

    def top(self, count, name=None, metric=LOSS):
        """The best `count` points (of one name), best first, a list of `Best`: those that went furthest, of these the best mean over seeds.

        Raises:
          ValueError: no such name or metric; every point has a diverged lane.
        """
        self.values(metric)
        if name is not None and name not in self.constructors:
            raise ValueError(f"the sweep has no {name!r}; it has {', '.join(self.constructors)}.")
        scores, values = self.scores(metric), self.final(metric).astype(np.float64)
        chosen = [i for i, own in enumerate(self.names) if name in (None, own) and np.isfinite(scores[i])]
        if not chosen:
            raise ValueError(
                f"no best point of {name or 'the sweep'}: in each of them a lane diverged or has no finite {metric}."
            )
        chosen.sort(key=self.places(metric).__getitem__)
        spread = [float(values[i].std(ddof=1)) if len(self.seeds) > 1 else float("nan") for i in chosen[:count]]
        return [
            Best(self.names[i], self.constructors[self.names[i]], self.rows[i], metric, float(scores[i]), sd, i)
            for i, sd in zip(chosen, spread, strict=False)
        ]

    def best(self, name=None, metric=LOSS):
        """The best point (of one name): the first of `top`."""
        return self.top(1, name, metric)[0]

    def values(self, metric):
        """The metric at every evaluation: array (n, s, r). Raises ValueError if there is no such metric; says which there are."""
        if metric not in self.metrics:
            raise ValueError(f"the sweep has no metric {metric!r}; it has {', '.join(self.metrics)}.")
        return self.metrics[metric]

    def save(self, path):
        """Writes everything to one file (.npz), whole or not at all. Functions are kept as the names they are imported by."""
        header = {
            "format": FORMAT,
            "names": self.names,
            "rows": [{name: _reference(value) for name, value in row.items()} for row in self.rows],
            "constructors": {name: _reference(function) for name, function in self.constructors.items()},
            "seeds": self.seeds,
            "metrics": list(self.metrics),
            "maximise": self.maximise,
            "took": self.took,
        }
        arrays = {name: getattr(self, name) for name in ("at", "died_at", "reached_at", "stopped_at")}
        arrays |= {f"metric {name}": values for name, values in self.metrics.items()}
        with files.whole(_npz(path)) as temporary:
            np.savez(temporary, header=np.array(json.dumps(header)), **arrays)


def load(path):
    """The `Result` that `Result.save` wrote.

    Raises:
      ValueError: another or a damaged file.
    """
    path = _npz(path)
    try:
        with path.open("rb") as file, np.load(file) as stored:
            arrays = dict(stored)
        header = json.loads(str(arrays.pop("header")))
        if header.pop("format") != FORMAT:
            raise ValueError(f"not of the format {FORMAT!r}")
        metrics = {name: arrays.pop(f"metric {name}") for name in header.pop("metrics")}
        header["rows"] = [{name: _resolved(value) for name, value in row.items()} for row in header["rows"]]
        header["constructors"] = {name: _resolved(value) for name, value in header["constructors"].items()}
        return Result(
            **header | {name: tuple(header[name]) for name in ("maximise", "took")}, metrics=metrics, **arrays
        )
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no result of a sweep, or is damaged ({error}).") from error


def _npz(path):
    path = pathlib.Path(path)
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


# Functions by name


@dataclasses.dataclass(frozen=True)
class _Unavailable:
    __name__: str

    def __call__(self, *args, **kwargs):
        raise ValueError(f"{self.__name__} cannot be imported here: the result was loaded from a file without it.")


def _path_of(value):
    """module:name of something that can be imported by it, else None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    found = getattr(sys.modules.get(module), name or "", None) if module != "__main__" else None
    return f"{module}:{name}" if found is value else None


def _reference(value):
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    return {"path": _path_of(value), "name": str(shown(value))}


def _resolved(value):
    if not isinstance(value, dict):
        return value
    try:
        module, name = value["path"].split(":")
        return getattr(importlib.import_module(module), name)
    except (AttributeError, ImportError):
        return _Unavailable(value["name"])


def _code(value):
    """A number, a string, what can be imported, or a partial application of it, as code."""
    if isinstance(value, functools.partial):
        applied = [_code(value.func), *map(_code, value.args), *(f"{n}={_code(v)}" for n, v in value.keywords.items())]
        kind = "jax.tree_util.Partial" if isinstance(value, jax.tree_util.Partial) else "functools.partial"
        return f"{kind}({', '.join(applied)})"
    if isinstance(value, _Unavailable):
        return value.__name__
    if not callable(value):
        return repr(value)
    module, name = getattr(value, "__module__", ""), name_of(value)
    if module.split(".")[0] == "adamx" and getattr(sys.modules["adamx"], name, None) is value:
        return f"adamx.{name}"
    return name if module in ("__main__", "builtins") else f"{module}.{name}"
