"""What a sweep trains: a task, as pure functions, and tasks made of arrays."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from adamx.annotations import Tree

LOSS = "loss"
"""The metric that every task has: the mean training loss since the last evaluation."""

NEVER = -1
"""The step of what did not happen."""


class Task(NamedTuple):
    """What is trained, as pure functions of one lane.

    A function may be a `jax.tree_util.Partial`: arrays among its arguments are then handed to the compiled programs, one copy for all
    lanes, where arrays that a plain function closes over become constants of each program.

    Attributes:
      init: Function (key) -> parameters; with `has_aux`, -> (parameters, auxiliary state).
      loss: Function (params, batch) -> scalar; with `has_aux`, (params, aux, batch) -> (scalar, new aux), as for batch statistics.
      batch: Function (key, step) -> batch; `key` depends on the seed only, `step` counts from 0.
      evaluate: Function (params), or (params, aux), -> dict of scalars; None for none.
      has_aux: Whether there is auxiliary state.
      maximise: Names of the metrics of which more is better; of others, less.
    """

    init: Callable[[Any], Any]
    loss: Callable[..., Any]
    batch: Callable[[Any, Any], Any]
    evaluate: Callable[..., Any] | None = None
    has_aux: bool = False
    maximise: tuple[str, ...] = ()


def arrays(
    init: Callable[[Any], Any],
    loss: Callable[..., Any],
    arrays: Tree,
    batch_size: int,
    evaluate: Callable[..., Any] | None = None,
    *,
    has_aux: bool = False,
    maximise: Sequence[str] = (),
) -> Task:
    """A task on arrays: batches are rows of them, every row at most once an epoch, in an order that the seed and the epoch decide.

    Args:
      init, loss, evaluate, has_aux, maximise: As in `Task`; a batch is a tree like `arrays`.
      arrays: Tree of arrays of one leading length; kept on the device once.
      batch_size: Rows in a batch. The rows that do not fill a last batch are left out of an epoch.

    Raises:
      ValueError: leading lengths that differ, or a batch size that is not between 1 and that length.
    """
    sizes = {jax.tree_util.keystr(p): jnp.shape(a)[:1] for p, a in jax.tree_util.tree_leaves_with_path(arrays)}
    if len(set(sizes.values())) != 1 or () in sizes.values():
        raise ValueError(f"arrays must have one leading length, got {sizes or 'none'}.")
    (size,) = next(iter(sizes.values()))
    if not 1 <= batch_size <= size:
        raise ValueError(f"batch_size must be between 1 and the number of rows, {size}; got {batch_size}.")
    arrays = jax.tree.map(jnp.asarray, arrays)
    return Task(init, loss, Partial(Epochs(batch_size), arrays), evaluate, has_aux, tuple(maximise))


@dataclasses.dataclass(frozen=True)
class Epochs:
    """Batches of arrays, shuffled anew each epoch.

    Attributes:
      batch_size: Rows in a batch.
    """

    batch_size: int

    def __call__(self, arrays, key, step):
        """The rows of batch number `step`."""
        size = len(jax.tree.leaves(arrays)[0])
        epoch, number = jnp.divmod(step, size // self.batch_size)
        rows = shuffled(key, epoch, number * self.batch_size + jnp.arange(self.batch_size), size)
        return jax.tree.map(lambda a: a[rows], arrays)


def shuffled(key, epoch, positions, size):
    """What stands at `positions` of a random permutation of range(size), another for each key and epoch: int32, of their shape.

    A keyed bijection (eight alternating Feistel rounds on a rectangle of just over `size` cells, walked until inside), so that a batch
    costs what its own rows cost, not a sort of all rows at every step.

    >>> sorted(shuffled(jax.random.key(0), 3, jnp.arange(7), 7).tolist())
    [0, 1, 2, 3, 4, 5, 6]
    """
    width = math.isqrt(size - 1) + 1
    height = -(-size // width)
    keys = jnp.arange(8, dtype=jnp.uint32)
    for word in (*jax.random.key_data(key), jnp.uint32(epoch)):
        keys = _hash(keys, word)

    def moved(i):
        row, column = i // width, i % width
        for k in range(0, 8, 2):
            row = (row + _hash(column, keys[k]) % height) % height
            column = (column + _hash(row, keys[k + 1]) % width) % width
        return row * width + column

    def walk(i):
        return jnp.where(i >= size, moved(i), i)

    return jax.lax.while_loop(lambda i: jnp.any(i >= size), walk, moved(positions.astype(jnp.uint32))).astype(jnp.int32)


def _hash(x, key):
    """The finaliser of MurmurHash3."""
    x = x * jnp.uint32(0x9E3779B9) + key
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x ^ (x >> 16)


# Checked, and in one form


class Functions(NamedTuple):
    """A task's functions as a pytree of the arrays they bring, all with auxiliary state, which may be ()."""

    init: Partial
    loss: Partial
    batch: Partial
    evaluate: Partial


def functions_of(task):
    """`task` as `Functions`."""
    given = (*task[:3], task.evaluate or _nothing)
    given = (f if isinstance(f, Partial) else Partial(f) for f in given)
    init, loss, batch, evaluate = (jax.tree.map(jnp.asarray, f) for f in given)
    if task.has_aux:
        return Functions(init, loss, batch, evaluate)
    return Functions(Partial(_init, init), Partial(_loss, loss), batch, Partial(_evaluate, evaluate))


def _nothing(*_):
    return {}


def _init(init, key):
    return init(key), ()


def _loss(loss, params, aux, batch):
    return loss(params, batch), aux


def _evaluate(evaluate, params, aux):
    return evaluate(params)


def checked(task):
    """The `Functions` of a task, checked by their shapes, without running them, and the names of its metrics, `LOSS` first.

    Raises:
      TypeError: not a task; a loss or a metric that is no real scalar; auxiliary state that changes; metrics that are no dict.
      ValueError: a metric named as the training loss; `maximise` names a metric that there is not.
    """
    if not isinstance(task, Task):
        raise TypeError(f"expected a sweep.Task, got {type(task).__name__}; sweep.arrays(...) makes one of arrays.")
    functions = functions_of(task)
    key = jax.eval_shape(jax.random.key, 0)
    begun = jax.eval_shape(functions.init, key)
    if not (isinstance(begun, tuple) and len(begun) == 2):
        raise TypeError("with has_aux, a task's init(key) must return (parameters, auxiliary state).")
    params, aux = begun
    batch = jax.eval_shape(functions.batch, key, jax.ShapeDtypeStruct((), jnp.int32))
    out = jax.eval_shape(functions.loss, params, aux, batch)
    if not (isinstance(out, tuple) and len(out) == 2):
        raise TypeError("with has_aux, a task's loss(params, aux, batch) must return (scalar, new auxiliary state).")
    _check_scalar("a task's loss", out[0])
    if task.has_aux and _described(out[1]) != _described(aux):
        raise TypeError(
            f"a task's loss must return auxiliary state as init does: {_described(aux)}, got {_described(out[1])}."
        )
    metrics = jax.eval_shape(functions.evaluate, params, aux)
    if not isinstance(metrics, dict):
        raise TypeError(f"a task's evaluate must return a dict of scalars, got {type(metrics).__name__}.")
    for name, value in metrics.items():
        _check_scalar(f"evaluate's {name!r}", value)
    if LOSS in metrics:
        raise ValueError(f"evaluate returns {LOSS!r}, the name of the mean training loss: call it otherwise.")
    names = (LOSS, *metrics)
    if unknown := [name for name in task.maximise if name not in names]:
        raise ValueError(f"maximise names {unknown[0]!r}, but the task's metrics are {', '.join(names)}.")
    return functions, names


def _described(tree: Any):
    return jax.tree.map(lambda a: f"{np.dtype(a.dtype).name}{list(a.shape)}", tree)


def _check_scalar(what, value):
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape != () or not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        got = type(value).__name__ if shape is None else f"{jnp.dtype(dtype).name} of shape {shape}"
        raise TypeError(f"{what} must be a real scalar, got {got}. Take the mean over the batch.")
