"""Runs a sweep: trains its chunks stretch by stretch, records, and decides who goes on."""

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from adamx.sweep import chunks, lanes
from adamx.sweep.checkpoint import Folder, definition_of
from adamx.sweep.points import Points, listed
from adamx.sweep.progress import Progress
from adamx.sweep.result import Result
from adamx.sweep.setup import Setup
from adamx.sweep.stopping import Halving, reached
from adamx.sweep.tasks import LOSS, NEVER, Task


def run(
    task: Task,
    points: Points | Mapping[str, Points],
    *,
    steps: int,
    seeds: int | Sequence[int] = 1,
    evaluate_every: int | None = None,
    halving: Halving | None = None,
    target: Mapping[str, float] | None = None,
    directory: str | os.PathLike[str] | None = None,
    memory: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
) -> Result:
    """Trains every point with every seed, all points of one structure in one compiled program.

    A lane is a point with a seed. Lanes of one seed start from the same parameters and see the same batches. A lane whose loss or
    parameters are not finite has diverged: its parameters stay as they are, and no other lane notices.

    Args:
      task: A `Task`.
      points: `Points`, or a dict of names to them.
      steps: Steps of a lane.
      seeds: How many (0, 1, ...), or a sequence of them.
      evaluate_every: Steps from one evaluation to the next, a divisor of `steps` and of the rungs of `halving`; None for the least with
        which there are up to 20 evaluations, or their greatest common divisor if that is less. At each evaluation lanes may stop, files
        are written and progress is shown.
      halving: A `Halving`; None to train every point to the end. Later batches are filled up to a power of two, so that few are compiled.
      target: Metric -> value; a lane that is as good or better in all of them at an evaluation is done.
      directory: Folder in which finished stretches are kept; run again after it was killed, the sweep goes on from there and gives the
        same result bit for bit. Whatever is changed (points, steps, seeds, memory, devices, versions) makes it another sweep, which is
        refused. Several processes share one folder. None for none.
      memory: Bytes that a program may take on each device; lanes that do not fit train in chunks, one after the other. None for nine
        tenths of the device's memory (half of the machine's on a CPU).
      mesh: A `jax.sharding.Mesh`, over all of whose devices the points are divided, also those of other processes under
        `jax.distributed`; None for the default device.
      progress: A progress bar, where standard error is a terminal.

    Returns:
      A `Result`.

    Raises:
      TypeError, ValueError: before anything is compiled; say what is wrong and what was expected.
    """
    options = {"evaluate_every": evaluate_every, "halving": halving, "target": target, "memory": memory, "mesh": mesh}
    setup = Setup(task, points, steps, seeds, **options)
    folder = None
    if directory is not None:
        folder = Folder(directory, _definition(setup, memory), writes=jax.process_index() == 0)
    shown = progress and jax.process_index() == 0 and sys.stderr.isatty()
    return _Sweep(setup, folder, Progress(shown)).run()


def evaluate(
    task: Task,
    constructor: Callable[..., Any],
    rows: Iterable[Mapping[str, Any]],
    *,
    steps: int,
    seeds: int | Sequence[int] = 1,
    metric: str = LOSS,
    memory: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> np.ndarray:
    """Trains the points that another program asks for, as one batch: what samplers such as Optuna's need between ask and tell.

    Batches are filled up to powers of two, and programs are kept from call to call, so that few are compiled.

    Args:
      task, steps, seeds, memory, mesh: As in `run`.
      constructor: A function that makes a rule.
      rows: List of dicts of its hyperparameters.
      metric: What is returned.

    Returns:
      `Result.scores`: for each of `rows`, the mean of the metric over seeds; infinite (on the worse side) if a lane diverged.
    """
    points = listed(constructor, rows)
    options = {"evaluate_every": None, "halving": None, "target": None, "memory": memory, "mesh": mesh}
    setup = Setup(task, points, steps, seeds, **options)
    setup.require_metrics([metric], "metric")
    return _Sweep(setup, None, Progress(False), by_powers=True).run().scores(metric)


def _definition(setup, memory):
    return definition_of(
        setup.functions,
        setup.points,
        setup.batches,
        steps=setup.steps,
        seeds=setup.seeds,
        evaluate_every=setup.kind.length,
        halving=repr(setup.halving),
        target=repr(setup.target),
        maximise=list(setup.maximise),
        mesh=setup.width,
        memory=memory,
    )


class _Sweep:
    """A sweep under way: its result so far, and the lanes that wait for the next rung."""

    def __init__(self, setup, folder, progress, by_powers=False):
        self.setup, self.folder, self.progress, self.by_powers = setup, folder, progress, by_powers
        self.result = setup.blank()
        self.over_points, self.everywhere = lanes.shardings(setup.kind)
        self.functions = _put(setup.functions, self.everywhere)
        self.fresh = functools.cache(self._fresh)
        self.waiting = {}
        self.programs = {}
        self.fits = {}

    def run(self):
        """Trains all lanes: the `Result`."""
        result, setup = self.result, self.setup
        going = np.ones(len(result.rows), bool)
        self.progress.begin(result.died_at.size * setup.steps)
        try:
            for begin, end in zip([0, *setup.rungs], setup.rungs, strict=False):
                for chunk in self._chunks(begin, end, going):
                    self._train(chunk)
                if end < setup.steps:
                    going &= self._kept(np.flatnonzero(going), end)
        finally:
            self.progress.close()
        return dataclasses.replace(result, took=tuple(self.programs.values()))

    def _kept(self, points, rung):
        """Stops those of `points` that do not get beyond a rung; which of all are not stopped."""
        result, halving = self.result, self.setup.halving
        costs = result.costs(halving.metric, until=rung)[points]
        stopped = points[~halving.kept(costs, [result.names[i] for i in points])]
        result.stopped_at[stopped] = rung
        self.waiting = {key: lane for key, lane in self.waiting.items() if key[0] not in stopped}
        self.progress.stop(len(stopped) * len(self.setup.seeds) * (self.setup.steps - rung))
        return result.stopped_at == NEVER

    # Chunks

    def _chunks(self, begin, end, going):
        setup = self.setup
        for number, batch in enumerate(setup.batches):
            points = batch.members[going[batch.members] & self.result.going[batch.members].any(axis=1)]
            if not len(points):
                continue
            size = len(points)
            if begin or self.by_powers:
                size = chunks.power_of_two(size)
            if begin:
                size = min(size, len(batch.members))
            size = -(-size // setup.width) * setup.width
            if number not in self.fits:

                def need(points, seeds, number=number):
                    return lanes.bytes_of(self._program(number, points, seeds)[0])

                self.fits[number] = chunks.fit(need, size, len(setup.seeds), setup.memory, setup.width)
            most, seeds_at_once = self.fits[number]
            yield from chunks.chunks_of(number, begin, end, points, len(setup.seeds), min(size, most), seeds_at_once)

    def _program(self, number, points, seeds):
        return lanes.compiled(self.setup.functions, self.setup.batches[number].rules, points, seeds, self.setup.kind)

    def _train(self, chunk):
        """All stretches of a chunk, from where the folder has it."""
        program, shapes = self._program(chunk.batch, chunk.size, len(chunk.seeds))
        self.programs[chunk.batch, chunk.size, len(chunk.seeds)] = lanes.bytes_of(program)
        where = np.ix_(chunk.points, chunk.seeds)
        step, carried = chunk.begin, None
        if self.folder and (saved := self.folder.load(chunk, shapes)):
            step, carried, recorded = saved
            self._restore(where, recorded)
            self._show((step - chunk.begin) * where[0].size * where[1].size)
        elif chunk.begin:
            carried = self._gathered(chunk, shapes)
        if step < chunk.end:
            carried = self._stretches(chunk, program, shapes, step, carried)
        if chunk.end < self.setup.steps:
            leaves = jax.tree.leaves(carried)
            for j, point in enumerate(chunk.points):
                self.waiting[point, chunk.seeds[0]] = [leaf[j] for leaf in leaves]

    def _stretches(self, chunk, program, shapes, step, carried):
        """Trains a chunk from `step` on; returns its lanes at the end, if they are to go on."""
        batch, where = self.setup.batches[chunk.batch], np.ix_(chunk.points, chunk.seeds)
        filled = np.resize(np.searchsorted(batch.members, chunk.points), chunk.size)
        rules = _put(jax.tree.map(lambda a: a[filled], batch.rules), self.over_points)
        fresh = self.fresh(tuple(self.setup.seeds[i] for i in chunk.seeds))
        if carried is None:
            carried = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
        state, carried = _put(carried, self.over_points), None
        while step < chunk.end:
            active = np.zeros((chunk.size, len(chunk.seeds)), bool)
            active[: len(chunk.points)] = self.result.going[where]
            inputs = _put(active, self.over_points), _put(np.int32(step), self.everywhere)
            state, metrics = program(self.functions, rules, state, fresh, *inputs)
            step += self.setup.kind.length
            self._record(where, step, _fetch(metrics), _fetch(state.died_at))
            ended = not self.result.going[where].any()
            if ended:
                step = chunk.end
            needed = step < self.setup.steps and (self.folder or step == chunk.end)
            carried = _fetch(state) if needed else None
            if self.folder:
                self.folder.save(chunk, step, carried, self._recorded(where))
            self._show(self.setup.kind.length * where[0].size * where[1].size)
        return carried

    def _fresh(self, seeds):
        seeds = _put(np.array(seeds, np.uint32), self.everywhere)
        return lanes.all_fresh(self.functions, seeds, sharding=self.everywhere)

    def _gathered(self, chunk, shapes):
        """The lanes of a chunk, out of those that wait."""
        own = [self.waiting[point, chunk.seeds[0]] for point in chunk.points]
        filled = [own[i % len(own)] for i in range(chunk.size)]
        return jax.tree.structure(shapes).unflatten([np.stack(leaves) for leaves in zip(*filled, strict=True)])

    # What is recorded

    def _record(self, where, step, metrics, died_at):
        result, count = self.result, where[0].size
        going, at = result.going[where], np.searchsorted(result.at, step)
        metrics = {name: np.where(going, values[:count], np.nan) for name, values in metrics.items()}
        for name, values in metrics.items():
            result.metrics[name][*where, at] = values
        result.died_at[where] = np.where(going, died_at[:count], result.died_at[where])
        if self.setup.target:
            there = going & reached(self.setup.target, metrics, result.maximise)
            result.reached_at[where] = np.where(there, step, result.reached_at[where])

    def _recorded(self, where):
        result = self.result
        metrics = {f"metric {name}": values[where] for name, values in result.metrics.items()}
        return metrics | {"died_at": result.died_at[where], "reached_at": result.reached_at[where]}

    def _restore(self, where, recorded):
        result = self.result
        result.died_at[where], result.reached_at[where] = recorded["died_at"], recorded["reached_at"]
        for name, values in result.metrics.items():
            values[where] = recorded[f"metric {name}"]

    def _show(self, lane_steps):
        at_last = self.result.metrics[LOSS]
        self.progress.add(lane_steps, int(np.sum(self.result.died_at == NEVER)), at_last)


# Arrays to devices and back


def _put(tree, sharding):
    """`tree` on the default device (None), or by a sharding that may span processes, each of which has all of it."""

    def put(array):
        if sharding is None and isinstance(array, jax.Array):
            return array
        array = np.asarray(array)
        with np.errstate(over="ignore"):
            array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
        if sharding is None:
            return jax.device_put(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)


def _fetch(tree):
    """`tree` as NumPy arrays, in every process all of it; copies, as the buffers are given away with the next call."""

    def fetch(array):
        if array.is_fully_addressable or array.is_fully_replicated:
            return np.array(array)
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(array, tiled=True)

    return jax.tree.map(fetch, tree)
