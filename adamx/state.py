"""What a rule remembers between steps, and how it begins."""

import functools
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx.hyperparameters import at_count
from adamx.meshes import axes_of_shape, sharding_of_slot
from adamx.numerics import compute_dtype, real_dtype
from adamx.storage import Float32


class RuleState(NamedTuple):
    """State of a rule. Its structure, shapes and dtypes depend on the rule and the parameters only, and never change.

    Attributes:
      count: Number of updates made, int32, shape (); stays at its maximum.
      scalars: Scalar slot name -> float scalar (the mean log-decay of each bias-corrected average; 0 for one that is not known, which is
        then taken from the present decay rate).
      slots: Slot name -> tree like the parameters, each leaf as its storage keeps it. Read as an attribute too: `state.mu`.
    """

    count: jax.Array  # type: ignore[assignment]  # a method of tuples
    scalars: dict[str, jax.Array]
    slots: dict[str, Any]

    def __getattr__(self, name):
        """A slot by its name: `state.mu`."""
        # Asked for what the class does not have; while a state is rebuilt its slots may be anything.
        slots = self.slots if isinstance(self.slots, dict) else {}
        if name in slots:
            return slots[name]
        raise AttributeError(
            f"a RuleState has no {name!r}: it has count, scalars and slots, and its slots are attributes too: "
            f"{', '.join(map(str, slots)) or 'none here'}."
        )


def storage_of(storages, slot):
    """The storage of `slot` among (name, storage) pairs."""
    return dict(storages).get(slot.name, Float32())


def slot_dtype(slot, dtype):
    """Dtype of a slot's arithmetic for a parameter of `dtype`."""
    dtype = compute_dtype(dtype)
    return dtype if slot.signed else real_dtype(dtype)


# Making


def activity(stages, structure, leaves):
    """For each leaf, what each stage's `on_leaves` says of it: a tuple of True, False and `At`s."""

    def of(stage):
        flags = stage.on_leaves(structure, leaves)
        return [True] * len(leaves) if flags is None else [bool(f) if isinstance(f, BOOLEAN) else At(f) for f in flags]

    return list(zip(*map(of, stages), strict=True))


class At(NamedTuple):
    """What `on_leaves` says of a leaf, where that is neither yes nor no: for `at_leaf`."""

    which: Any


def stage_at(stage, which):
    """The stage as it is on a leaf of which `activity` says `which`, not False."""
    return stage if which is True else stage.at_leaf(which.which)


BOOLEAN = (bool, np.bool_, types.NoneType)


def slots_at(stage, which, shape):
    """The slots of a stage on a leaf of `shape`, with their shapes there; `which` is what `activity` says of the leaf."""
    if which is False:
        # Not of size 0, which Orbax cannot save.
        return [(slot, (1,)) for slot in stage.slots]
    return [(slot, slot.shape(shape)) for slot in stage_at(stage, which).slots]


def init(stages, storages, params):
    """The state before the first update; no buffer of `params`, whose leaves may be abstract, is kept."""
    with_paths, structure = jax.tree_util.tree_flatten_with_path(params)
    leaves = [p for _, p in with_paths]
    stages_with_slots = [stage for stage in stages if stage.slots]
    if stages_with_slots:
        of = [differentiable(p, f"parameter params{jax.tree_util.keystr(path)}") for path, p in with_paths]
    slots = {}
    for stage in stages_with_slots:
        first = at_count(stage.initial(), 0)
        columns = {slot.name: [] for slot in stage.slots}
        active = activity([stage], structure, leaves)
        for (which,), (path, p), p_dtype in zip(active, with_paths, of, strict=True):
            start = stage.start(p) if which and not isinstance(p, jax.ShapeDtypeStruct) else {}
            for slot, shape in slots_at(stage, which, axes_of_shape(jnp.shape(p))):
                dtype = slot_dtype(slot, p_dtype)
                storage, where = storage_of(storages, slot), f"params{jax.tree_util.keystr(path)}"
                if slot.name in start:
                    # In a buffer of its own, or it could not be donated beside the parameters.
                    stored = storage.init(jnp.array(start[slot.name], dtype, copy=True), where)
                else:
                    value = first.get(slot.name, 0) if which else 0
                    stored = storage.filled(functools.partial(_filled, p), value, shape, dtype, where)
                columns[slot.name].append(stored)
        slots |= {name: jax.tree.unflatten(structure, column) for name, column in columns.items()}
    # Not wider than the parameters need: float64 switched on or off elsewhere changes nothing.
    dtypes = {getattr(p, "dtype", None) for p in leaves}
    dtype = real_dtype(compute_dtype(*dtypes.intersection(DIFFERENTIABLE)))
    first = {name: value for stage in stages for name, value in at_count(stage.initial(), 0).items()}
    scalars = {name: jnp.full([], first.get(name, 0), dtype) for name in scalar_slots(stages)}
    return RuleState(jnp.zeros([], jnp.int32), scalars, slots)


def _filled(p, value, shape, dtype):
    """An array of one number, sharded as the parameter in the axes that it has of the parameter."""
    if shape != jnp.shape(p):
        sharding, shape = sharding_of_slot(p, shape), tuple(map(int, shape))
        # In a shard_map, only what is made of the parameter is as varied as it.
        return (
            jnp.full_like(p, value, dtype, shape)
            if sharding is None
            else jnp.full(shape, value, dtype, device=sharding)
        )
    full = jnp.full_like(p, value, dtype)
    if not isinstance(p, jax.core.Tracer):
        return full
    # A compiled constant has no sharding of its own: chosen by what XLA does not know to be False, it has the parameter's.
    never = jax.lax.optimization_barrier(jnp.zeros([], bool))
    p = jax.lax.stop_gradient(p if jnp.iscomplexobj(full) else jnp.real(p))
    return jnp.where(never, p.astype(dtype), full)


def differentiable(leaf, what):
    """Dtype of a leaf that an optimizer can update. Raises TypeError, naming `what`, if it is no array of such a dtype."""
    try:
        dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    except TypeError:
        raise TypeError(f"{what} must be an array (or None), got {type(leaf).__name__}.") from None
    if dtype not in DIFFERENTIABLE:
        name = "float0" if dtype == jax.dtypes.float0 else getattr(dtype, "name", dtype)
        raise TypeError(
            f"{what} has dtype {name}, which an optimizer cannot update; expected a floating or complex dtype "
            f"({', '.join(d.name for d in DIFFERENTIABLE)}). "
            "Leave such leaves to optax.masked(rule, mask) (or optax.partition), or keep them out of the parameters "
            "(in Equinox: eqx.partition(model, eqx.is_inexact_array))."
        )
    return dtype


DIFFERENTIABLE = tuple(jnp.dtype(d) for d in ("float16", "bfloat16", "float32", "float64", "complex64", "complex128"))
"""Dtypes of parameters and gradients."""


def scalar_slots(stages):
    """Names of all scalar slots of a line, in order."""
    return [name for stage in stages for name in stage.scalar_slots]
