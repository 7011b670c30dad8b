"""The program of a sweep: a stretch of training, scanned over steps and batched over points and seeds."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adamx.annotations import Tree
from adamx.sweep.tasks import LOSS, NEVER, Task, functions_of


class Lane(NamedTuple):
    """What a run carries from step to step.

    Attributes:
      params: Parameters.
      aux: Auxiliary state, or ().
      state: The rule's state.
      died_at: The step (counted from 1) whose loss, or whose parameters after it, were not finite; `NEVER` before. int32, shape ().
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


class Fresh(NamedTuple):
    """What a seed decides.

    Attributes:
      params: The first parameters.
      aux: The first auxiliary state, or ().
      key: The key of the batches.
    """

    params: Any
    aux: Any
    key: jax.Array


def fresh(functions, seed):
    """The `Fresh` of a seed."""
    for_params, for_batches = jax.random.split(jax.random.key(seed))
    return Fresh(*functions.init(for_params), for_batches)


def begin(rule, fresh):
    """A lane before its first step."""
    return Lane(fresh.params, fresh.aux, rule.init(fresh.params), jnp.full([], NEVER, jnp.int32))


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
    died_at = jnp.where((lane.died_at == NEVER) & ~jnp.isfinite(loss), step + 1, lane.died_at)
    goes_on = active & (died_at == NEVER)
    params, aux = jax.tree.map(lambda a, b: jnp.where(goes_on, a, b), (params, aux), (lane.params, lane.aux))
    return Lane(params, aux, state, died_at), loss


def train(task: Task, rule: Any, *, steps: int, seed: Any = 0) -> tuple[Tree, jax.Array]:
    """One lane alone, as a sweep trains it: a pure function, differentiable in the numbers of the rule.

    Returns:
      The parameters after `steps` steps, and the losses met, shape (steps,).

    >>> from adamx import sweep
    >>> task = sweep.Task(lambda key: jnp.ones(2), lambda p, batch: jnp.sum(p**2), lambda key, step: None)
    >>> params, losses = sweep.train(task, adam(0.1), steps=3)
    >>> print(params.round(3), losses[0])
    [0.702 0.702] 2.0
    """
    functions = functions_of(task)
    start = fresh(functions, seed)

    def step(lane, t):
        return advance(functions, rule, start.key, lane, t, True)

    lane, losses = jax.lax.scan(step, begin(rule, start), jnp.arange(steps, dtype=jnp.int32))
    return lane.params, losses


def stretch(functions, rules, lanes, fresh, active, start, *, length):
    """`length` steps of every lane from step `start`, and an evaluation.

    Args:
      functions: `Functions`.
      rules: A batched rule, leaves (points,).
      lanes: `Lane`, leaves (points, seeds, ...); not read where `start` is 0.
      fresh: `Fresh`, leaves (seeds, ...).
      active: Boolean (points, seeds): which lanes go on.
      start: int32 scalar.
      length: Number of steps.

    Returns:
      lanes, and metric -> float32 (points, seeds), NaN where the lane is dead.
    """

    def one(rule, lane, fresh, active):
        def step(carry, t):
            lane, total = carry
            lane, loss = advance(functions, rule, fresh.key, lane, t, active)
            return (lane, total + jnp.float32(loss)), None

        steps = start + jnp.arange(length, dtype=jnp.int32)
        (lane, total), _ = jax.lax.scan(step, (lane, jnp.float32(0)), steps)
        died_at = _with_parameters(lane, start, start + length)
        metrics = {LOSS: total / length, **functions.evaluate(lane.params, lane.aux)}
        metrics = {name: jnp.where(died_at == NEVER, jnp.float32(m), jnp.nan) for name, m in metrics.items()}
        return lane._replace(died_at=died_at), metrics

    # What depends on the seed alone (the batch) is computed once for all points.
    first = jax.vmap(jax.vmap(begin, in_axes=(None, 0)), in_axes=(0, None))
    lanes = jax.lax.cond(start == 0, lambda lanes: first(rules, fresh), lambda lanes: lanes, lanes)
    per_seed = jax.vmap(one, in_axes=(None, 0, 0, 0))
    return jax.vmap(per_seed, in_axes=(0, 0, None, 0))(rules, lanes, fresh, active)


def _finite(tree):
    leaves = [jnp.all(jnp.isfinite(a)) for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    return functools.reduce(jnp.logical_and, leaves, True)


def _with_parameters(lane, start, end):
    """When a lane died, its parameters considered: if these are not finite, they were not before the first loss that was not."""
    now = jnp.where(lane.died_at == NEVER, end, jnp.where(lane.died_at > start, lane.died_at - 1, lane.died_at))
    return jnp.where(_finite(lane.params), lane.died_at, now)


# Compiled


@functools.partial(jax.jit, static_argnames="sharding")
def all_fresh(functions, seeds, sharding=None):
    """`fresh` of all seeds, uint32 (seeds,): compiled once, whatever the rules."""
    out = jax.vmap(functools.partial(fresh, functions))(seeds)
    return out if sharding is None else jax.lax.with_sharding_constraint(out, sharding)


def compiled(functions, rules, points, seeds, kind):
    """The program `stretch` for a batched rule: (the compiled program, the shapes of its lanes).

    Compiled once for all sweeps of the same functions, structure of rule, shapes and `Stretch` (the last 64 are kept).

    Args:
      functions: `Functions`.
      rules: A batched rule, with any number of points.
      points, seeds: How many in the program.
      kind: `Stretch`.
    """
    leaves, tree = jax.tree.flatten((functions, rules))
    count = len(jax.tree.leaves(functions))
    shapes = [jnp.shape(a) if i < count else (points,) for i, a in enumerate(leaves)]
    dtypes = [jax.dtypes.canonicalize_dtype(a.dtype) for a in leaves]
    pairs = tuple(zip(shapes, dtypes, strict=True))
    return _compiled(tree, pairs, points, seeds, kind, tuple(settings().items()), jax.config.jax_default_device)


def settings():
    """JAX's settings on which a program depends."""
    precision = jax.config.jax_default_matmul_precision
    return {"float64": bool(jax.config.jax_enable_x64), "matmul precision": precision and str(precision)}


@functools.lru_cache(maxsize=64)
def _compiled(tree, leaves, points, seeds, kind, settings, device):
    functions, rules = tree.unflatten([jax.ShapeDtypeStruct(*leaf) for leaf in leaves])
    one_rule = jax.tree.map(lambda a: jax.ShapeDtypeStruct((), a.dtype), rules)
    one_fresh = jax.eval_shape(fresh, functions, jax.ShapeDtypeStruct((), jnp.uint32))
    one_lane = jax.eval_shape(begin, one_rule, one_fresh)
    batched = lambda *n: lambda a: jax.ShapeDtypeStruct((*n, *a.shape), a.dtype)  # noqa: E731
    lanes = jax.tree.map(batched(points, seeds), one_lane)
    active, start = jax.ShapeDtypeStruct((points, seeds), jnp.bool), jax.ShapeDtypeStruct((), jnp.int32)
    options = {}
    if kind.devices is not None:
        own, all_ = shardings(kind)
        options = {"in_shardings": (all_, own, own, all_, own, all_), "out_shardings": (own, all_)}
    program = jax.jit(functools.partial(stretch, length=kind.length), donate_argnums=2, **options)
    lowered = program.lower(functions, rules, lanes, jax.tree.map(batched(seeds), one_fresh), active, start)
    return lowered.compile(), lanes


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
