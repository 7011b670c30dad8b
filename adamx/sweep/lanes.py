"""The program of a sweep: a stretch of training, scanned over steps and batched over points and seeds."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adamx.sweep.tasks import LOSS, functions_of

ALIVE = -1
"""`Lane.died_at` of a lane that is alive."""


class Lane(NamedTuple):
    """What a run carries from step to step.

    Attributes:
      params: Parameters.
      aux: Auxiliary state, or ().
      state: The rule's state.
      died_at: The step (counted from 1) whose loss, or whose parameters after it, were not finite; `ALIVE` before. int32, shape ().
    """

    params: Any
    aux: Any
    state: Any
    died_at: jax.Array


class Stretch(NamedTuple):
    """What is known of a program before it is compiled.

    Attributes:
      length: Steps in a call.
      devices: The devices that share the points, as a `jax.sharding.Mesh` of one axis; None for the default device alone.
    """

    length: int
    devices: Any = None


def begin(functions, rule, seed):
    """A lane before its first step."""
    params, aux = functions.init(_keys(seed)[0])
    return Lane(params, aux, rule.init(params), jnp.full([], ALIVE, jnp.int32))


def advance(functions, rule, key, lane, step, active):
    """One step of a lane, and the loss. A lane that is dead, by this step's loss or before, or not `active` keeps its parameters.

    Its optimizer state, which nothing reads any more, is not kept: to select it too would cost a fifth of a step.
    """
    batch = functions.batch(key, step)
    (loss, aux), grads = jax.value_and_grad(functions.loss, has_aux=True)(lane.params, lane.aux, batch)
    if hasattr(rule, "step"):
        params, state = rule.step(grads, lane.state, lane.params)
    else:
        updates, state = rule.update(grads, lane.state, lane.params)
        params = optax.apply_updates(lane.params, updates)
    died_at = jnp.where((lane.died_at == ALIVE) & ~jnp.isfinite(loss), step + 1, lane.died_at)
    goes_on = active & (died_at == ALIVE)
    params, aux = jax.tree.map(lambda a, b: jnp.where(goes_on, a, b), (params, aux), (lane.params, lane.aux))
    return Lane(params, aux, state, died_at), loss


def train(task, rule, *, steps, seed=0):
    """One lane alone, as a sweep trains it: a pure function, differentiable in the numbers of the rule.

    Returns:
      The parameters after `steps` steps, and the losses met, shape (steps,).

    >>> task = Task(lambda key: jnp.ones(2), lambda p, batch: jnp.sum(p**2), lambda key, step: None)
    >>> params, losses = train(task, adam(0.1), steps=3)
    >>> print(params.round(3), losses.round(3))
    [0.702 0.702] [2.   1.62 1.28]
    """
    functions = functions_of(task)

    def step(lane, t):
        return advance(functions, rule, _keys(seed)[1], lane, t, True)

    lane, losses = jax.lax.scan(step, begin(functions, rule, seed), jnp.arange(steps, dtype=jnp.int32))
    return lane.params, losses


def stretch(functions, rules, lanes, seeds, active, start, *, length):
    """`length` steps of every lane from step `start`, and an evaluation.

    Args:
      functions: `Functions`.
      rules: A batched rule, leaves (points,).
      lanes: `Lane`, leaves (points, seeds, ...); not read where `start` is 0.
      seeds: uint32 (seeds,).
      active: Boolean (points, seeds): which lanes go on.
      start: int32 scalar.
      length: Number of steps.

    Returns:
      lanes, and metric -> float32 (points, seeds), NaN where the lane is dead.
    """

    def first(seed):
        # The same for all points, and a branch not taken costs nothing.
        fresh = functools.partial(functions.init, _keys(seed)[0])
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(fresh))
        return jax.lax.cond(start == 0, fresh, lambda: nothing)

    def one(rule, lane, seed, fresh, active):
        params, aux = fresh
        fresh = Lane(params, aux, rule.init(params), jnp.full([], ALIVE, jnp.int32))
        lane = jax.tree.map(lambda new, old: jnp.where(start == 0, new, old), fresh, lane)
        key = _keys(seed)[1]

        def step(carry, t):
            lane, total = carry
            lane, loss = advance(functions, rule, key, lane, t, active)
            return (lane, total + loss.astype(jnp.float32)), None

        (lane, total), _ = jax.lax.scan(step, (lane, jnp.float32(0)), start + jnp.arange(length, dtype=jnp.int32))
        died_at = _with_parameters(lane, start, start + length)
        metrics = {LOSS: total / length, **functions.evaluate(lane.params, lane.aux)}
        metrics = {name: jnp.where(died_at == ALIVE, jnp.float32(m), jnp.nan) for name, m in metrics.items()}
        return lane._replace(died_at=died_at), metrics

    # What depends on the seed alone (the batch) is computed once for all points.
    per_seed = jax.vmap(one, in_axes=(None, 0, 0, 0, 0))
    per_point = jax.vmap(per_seed, in_axes=(0, 0, None, None, 0))
    return per_point(rules, lanes, seeds, jax.vmap(first)(seeds), active)


def _keys(seed):
    """The keys of a seed for the parameters and for the batches."""
    return jax.random.split(jax.random.key(seed))


def _finite(tree):
    leaves = [jnp.all(jnp.isfinite(a)) for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    return functools.reduce(jnp.logical_and, leaves, True)


def _with_parameters(lane, start, end):
    """When a lane died, its parameters considered: if these are not finite, they were not before the first loss that was not."""
    now = jnp.where(lane.died_at == ALIVE, end, jnp.where(lane.died_at > start, lane.died_at - 1, lane.died_at))
    return jnp.where(_finite(lane.params), lane.died_at, now)


# Compiled


def compiled(functions, rules, seeds, points, kind):
    """The program `stretch` for the first `points` of a batched rule: (compiled, the shapes of its lanes).

    Compiled once for all sweeps of the same functions, structure of rule, shapes and `Stretch` (the last 64 are kept).

    Args:
      functions: `Functions`.
      rules: A batched rule with any number of points.
      seeds: How many.
      points: How many.
      kind: `Stretch`.
    """
    leaves, tree = jax.tree.flatten((functions, rules))
    count = len(jax.tree.leaves(functions))
    shapes = [(np.shape(a), jax.dtypes.canonicalize_dtype(a.dtype)) for a in leaves[:count]]
    shapes += [((points,), jax.dtypes.canonicalize_dtype(a.dtype)) for a in leaves[count:]]
    return _compiled(tree, tuple(shapes), points, seeds, kind, bool(jax.config.jax_enable_x64))


@functools.lru_cache(maxsize=64)
def _compiled(tree, shapes, points, seeds, kind, x64):
    over_points, everywhere = shardings(kind)
    functions, rules = tree.unflatten([jax.ShapeDtypeStruct(*s) for s in shapes])
    one_rule = jax.tree.map(lambda a: jax.ShapeDtypeStruct((), a.dtype), rules)
    one_lane = jax.eval_shape(begin, functions, one_rule, jax.ShapeDtypeStruct((), jnp.uint32))
    lanes = jax.tree.map(lambda a: jax.ShapeDtypeStruct((points, seeds, *a.shape), a.dtype), one_lane)
    vector = jax.ShapeDtypeStruct((seeds,), jnp.uint32)
    active = jax.ShapeDtypeStruct((points, seeds), jnp.bool)
    start = jax.ShapeDtypeStruct((), jnp.int32)
    options = {}
    if kind.devices is not None:
        options["in_shardings"] = (everywhere, over_points, over_points, everywhere, over_points, everywhere)
        options["out_shardings"] = (over_points, everywhere)
    run = jax.jit(functools.partial(stretch, length=kind.length), donate_argnums=2, **options)
    return run.lower(functions, rules, lanes, vector, active, start).compile(), lanes


def shardings(kind):
    """Sharding of what has an axis of points, and of what has none; None and None on the default device."""
    if kind.devices is None:
        return None, None
    spec = jax.sharding.PartitionSpec(kind.devices.axis_names)
    return tuple(jax.sharding.NamedSharding(kind.devices, s) for s in (spec, jax.sharding.PartitionSpec()))


def bytes_of(program):
    """Bytes of memory that a compiled program takes at its peak, arguments and results included, on each device."""
    size = program.memory_analysis()
    together = size.argument_size_in_bytes + size.output_size_in_bytes + size.temp_size_in_bytes
    return together - size.alias_size_in_bytes
