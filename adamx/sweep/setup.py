"""A sweep as it is asked for, checked before anything is compiled."""

import math
import numbers
from collections.abc import Iterable

import jax
import numpy as np

from adamx.sweep import lanes
from adamx.sweep.chunks import memory_of_device
from adamx.sweep.points import Points, batched, name_of
from adamx.sweep.result import Result
from adamx.sweep.stopping import Halving
from adamx.sweep.tasks import NEVER, checked

RECORDS = 20
"""Evaluations of a run that does not say how many, or fewer."""


class Setup:
    """What is trained, and how; arguments as in `run`.

    Attributes:
      functions: The task's `Functions`.
      metrics: Names of its metrics.
      points: (name, `Points`) pairs.
      batches: All rules, a `Batch` for each structure.
      seeds: List of numbers.
      steps: Number of steps.
      rungs: Steps at which points are stopped, and the last.
      kind: `lanes.Stretch`: the steps between evaluations, and the devices.
      memory: Bytes that a program may take on each device.
    """

    def __init__(self, task, points, steps, seeds, *, evaluate_every, halving, target, memory, mesh):
        self.functions, self.metrics = checked(task)
        self.maximise = tuple(task.maximise)
        self.points = _named(points)
        self.batches = batched([rule for _, own in self.points for rule in own.rules])
        self.seeds, self.steps = _seeds(seeds), _positive("steps", steps)
        if halving is not None and not isinstance(halving, Halving):
            raise TypeError(f"halving must be a sweep.Halving, got {halving!r}.")
        self.halving, self.target = halving, _target({} if target is None else target)
        self.require_metrics([halving.metric] if halving else [], "halving")
        self.require_metrics(self.target, "target")
        if halving and not halving.rungs(self.steps):
            raise ValueError(f"{halving} has no rung before the end, steps={self.steps}: nothing would be stopped.")
        self.rungs = [*(halving.rungs(self.steps) if halving else ()), self.steps]
        self.kind = lanes.Stretch(self._length(evaluate_every), _one_axis(mesh))
        self.width = 1 if mesh is None else mesh.size
        self.memory = memory_of_device() if memory is None else _positive("memory", memory)

    def require_metrics(self, names, where):
        """Raises ValueError unless the task has metrics of all `names`."""
        for name in names:
            if name not in self.metrics:
                raise ValueError(f"{where}: there is no metric {name!r}; the task has {', '.join(self.metrics)}.")

    def _length(self, every):
        unit = math.gcd(*self.rungs)
        if every is None:
            return next((d for d in range(1, unit) if unit % d == 0 and self.steps // d <= RECORDS), unit)
        every = _positive("evaluate_every", every)
        if self.steps % every:
            raise ValueError(f"steps={self.steps} is not divisible by evaluate_every={every}.")
        if unit % every:
            raise ValueError(f"the rungs of halving, {self.rungs[:-1]}, are not divisible by evaluate_every={every}.")
        return every

    def blank(self):
        """A `Result` in which nothing has happened yet."""
        n, s = sum(len(own) for _, own in self.points), len(self.seeds)
        at = np.arange(self.kind.length, self.steps + 1, self.kind.length)
        return Result(
            names=[name for name, own in self.points for _ in own.rows],
            rows=[row for _, own in self.points for row in own.rows],
            constructors={name: own.constructor for name, own in self.points},
            seeds=self.seeds,
            at=at,
            metrics={name: np.full((n, s, len(at)), np.nan, np.float32) for name in self.metrics},
            died_at=np.full((n, s), NEVER),
            reached_at=np.full((n, s), NEVER),
            stopped_at=np.full(n, NEVER),
            maximise=self.maximise,
        )


def _named(points):
    if not isinstance(points, dict):
        _require_points("points", points)
        return [(name_of(points.constructor), points)]
    if not points:
        raise ValueError("an empty sweep: the dict of points has none.")
    for name, own in points.items():
        _require_points(f"points[{name!r}]", own)
    return list(points.items())


def _require_points(where, own):
    if not isinstance(own, Points):
        raise TypeError(f"{where} must be sweep.Points, such as space(...).grid(...), got {own!r}.")


def _positive(name, value):
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or value < 1 or value != int(value):
        raise ValueError(f"{name} must be a positive whole number, got {value!r}.")
    return int(value)


def _seeds(seeds):
    whole = isinstance(seeds, numbers.Integral)
    numbered = list(range(seeds)) if whole else list(seeds) if isinstance(seeds, Iterable) else []
    known = all(isinstance(seed, numbers.Integral) and 0 <= seed < 2**32 for seed in numbered)
    if not (numbered and known and len(set(numbered)) == len(numbered)):
        raise ValueError(
            f"seeds must be a number of 1 or more, or different numbers from 0 to 2**32 - 1, got {seeds!r}."
        )
    return [int(seed) for seed in numbered]


def _target(target):
    known = isinstance(target, dict) and all(isinstance(value, numbers.Real) for value in target.values())
    if not known:
        raise TypeError(f"target must be a dict of metrics to numbers, such as {{'loss': 0.1}}, got {target!r}.")
    return target


def _one_axis(mesh):
    if mesh is None:
        return None
    if not isinstance(mesh, jax.sharding.Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh, such as jax.make_mesh((8,), ('lanes',)), got {mesh!r}.")
    return jax.sharding.Mesh(mesh.devices.reshape(-1), ("lanes",))
