"""What a sweep returns: a table with a row a lane, the best points, curves; and its file."""

import dataclasses
import json
import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from adamx import files
from adamx.sweep.names import code_of, reference, resolved
from adamx.sweep.points import columns_of, frames, shown
from adamx.sweep.tasks import LOSS, NEVER

if TYPE_CHECKING:
    import pandas

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
    constructor: Callable[..., Any]
    row: dict[str, Any]
    metric: str
    mean: float
    sd: float
    index: int  # type: ignore[assignment]  # a method of tuples

    @property
    def rule(self) -> Any:
        """The rule itself."""
        return self.constructor(**self.row)

    def code(self) -> str:
        """The constructor call that makes the rule, to be pasted into a program."""
        return (
            f"{code_of(self.constructor)}({', '.join(f'{name}={code_of(value)}' for name, value in self.row.items())})"
        )


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
    rows: list[dict[str, Any]]
    constructors: dict[str, Callable[..., Any]]
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
    def steps(self) -> np.ndarray:
        """Steps that each lane made until it ended, diverged, reached the target or was stopped: int array (n, s)."""
        ends = [self.died_at, self.reached_at, np.broadcast_to(self.stopped_at[:, None], self.died_at.shape)]
        return np.minimum.reduce([np.where(end == NEVER, self.at[-1], end) for end in ends])

    def final(self, metric: str, until: int | None = None) -> np.ndarray:
        """The metric when each lane was last evaluated, if `until` is given within so many steps: array (n, s); NaN for a diverged lane."""
        recorded = self.values(metric)
        steps = np.minimum(self.steps, self.at[-1] if until is None else until)
        if until is not None and until < self.at[0]:
            raise ValueError(f"until={until}: the first evaluation was after {self.at[0]} steps.")
        last = np.searchsorted(self.at, steps, side="right") - 1
        values = np.take_along_axis(recorded, last[..., None], axis=-1)[..., 0]
        return np.where(self.died_at == NEVER, values, np.nan)

    def scores(self, metric: str = LOSS, until: int | None = None) -> np.ndarray:
        """The mean over seeds of `final`, array (n,): infinite, on the worse side, where a lane diverged."""
        worst = -np.inf if metric in self.maximise else np.inf
        mean = self.final(metric, until).astype(np.float64).mean(axis=1)
        return np.where(np.isnan(mean), worst, mean)

    def costs(self, metric: str = LOSS, until: int | None = None) -> np.ndarray:
        """`scores` with the sign with which less is better: infinite where a lane diverged."""
        return self.scores(metric, until) * (-1 if metric in self.maximise else 1)

    def places(self, metric: str = LOSS) -> np.ndarray:
        """The place of each point, the best 0, int array (n,).

        Those that went furthest are first, of these the least of `costs`; those in which a lane diverged are last.
        """
        costs = self.costs(metric)
        return np.argsort(np.lexsort((costs, -self.went, np.isinf(costs))))

    @property
    def went(self) -> np.ndarray:
        """Steps after which each point was stopped by halving, or of the whole run: int array (n,)."""
        return np.where(self.stopped_at == NEVER, self.at[-1], self.stopped_at)

    def table(self) -> "pandas.DataFrame":
        """A pandas frame with a row a lane.

        Columns: name; every hyperparameter (by name where it is no number or string); seed; status, "finished", "diverged", "reached" (the
        target) or "stopped" (by halving); died_at and reached_at, absent where that did not happen; steps made; and of each metric the
        final and the best value. A hyperparameter with the name of another column gets an underscore behind it.
        """
        pd = frames()
        count, lanes = len(self.seeds), self.died_at.size
        columns: dict[str, Any] = {"name": np.repeat(self.names, count)}
        for name in columns_of(self.rows):
            columns[f"{name}_" if name in OWN_COLUMNS else name] = [
                shown(row.get(name)) for row in self.rows for _ in range(count)
            ]
        columns |= {"seed": np.tile(self.seeds, len(self.rows)), "status": self._status().ravel()}
        for name, when in (("died_at", self.died_at), ("reached_at", self.reached_at)):
            columns[name] = pd.array([None if t == NEVER else t for t in when.flat], dtype="Int64")
        columns["steps"] = self.steps.ravel()
        for metric, values in self.metrics.items():
            extreme = np.fmax if metric in self.maximise else np.fmin
            columns[f"final_{metric}"] = self.final(metric).ravel()
            columns[f"best_{metric}"] = extreme.reduce(values, axis=-1).reshape(lanes)
        return pd.DataFrame(columns)

    @property
    def going(self) -> np.ndarray:
        """Which lanes have neither diverged nor reached the target: boolean (n, s)."""
        return (self.died_at == NEVER) & (self.reached_at == NEVER)

    def _status(self):
        status = np.full(self.died_at.shape, "finished", object)
        status[self.stopped_at != NEVER] = "stopped"
        status[self.reached_at != NEVER] = "reached"
        status[self.died_at != NEVER] = "diverged"
        return status

    def curves(self, metric: str = LOSS) -> "pandas.DataFrame":
        """A metric over the run: a pandas frame with a row an evaluation (index: steps made) and a column a lane, as rows of `table`."""
        pd = frames()
        flat = self.values(metric).reshape(-1, len(self.at))
        return pd.DataFrame(flat.T, index=pd.Index(self.at, name="step"))

    def top(self, count: int, name: str | None = None, metric: str = LOSS) -> list[Best]:
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

    def best(self, name: str | None = None, metric: str = LOSS) -> Best:
        """The best point (of one name): the first of `top`."""
        return self.top(1, name, metric)[0]

    def values(self, metric: str) -> np.ndarray:
        """The metric at every evaluation: array (n, s, r). Raises ValueError if there is no such metric; says which there are."""
        if metric not in self.metrics:
            raise ValueError(f"the sweep has no metric {metric!r}; it has {', '.join(self.metrics)}.")
        return self.metrics[metric]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything to one file (.npz), whole or not at all. Functions are kept as the names they are imported by."""
        header = {
            "format": FORMAT,
            "names": self.names,
            "rows": [{name: reference(value) for name, value in row.items()} for row in self.rows],
            "constructors": {name: reference(function) for name, function in self.constructors.items()},
            "seeds": self.seeds,
            "metrics": list(self.metrics),
            "maximise": self.maximise,
            "took": self.took,
        }
        arrays = {name: getattr(self, name) for name in ("at", "died_at", "reached_at", "stopped_at")}
        arrays |= {f"metric {name}": values for name, values in self.metrics.items()}
        with files.whole(_npz(path)) as temporary:
            np.savez(temporary, header=np.array(json.dumps(header)), **arrays)


def load(path: str | os.PathLike[str]) -> Result:
    """The `Result` that `Result.save` wrote.

    Raises:
      ValueError: another or a damaged file.
    """
    source = _npz(path)
    try:
        with source.open("rb") as file, np.load(file) as stored:
            arrays = dict(stored)
        header = json.loads(str(arrays.pop("header")))
        if header.pop("format") != FORMAT:
            raise ValueError(f"not of the format {FORMAT!r}")
        metrics = {name: arrays.pop(f"metric {name}") for name in header.pop("metrics")}
        header["rows"] = [{name: resolved(value) for name, value in row.items()} for row in header["rows"]]
        header["constructors"] = {name: resolved(value) for name, value in header["constructors"].items()}
        return Result(
            **header | {name: tuple(header[name]) for name in ("maximise", "took")}, metrics=metrics, **arrays
        )
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{source} is no result of a sweep, or is damaged ({error}).") from error


def _npz(path):
    path = pathlib.Path(path)
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
