"""How a line of stages is run over a tree: once per step for scalars, once per leaf for arrays.

Both halves are `jax.jit` functions of their own, the second for a group of leaves. Groups of equal shapes and dtypes thus share one trace
and one function of the lowered program, which XLA inlines, and a call outside of `jit` computes what a compiled one does.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from adamx.hyperparameters import Decay, Scheduled
from adamx.numerics import compute_dtype, narrow, real_dtype, scalar_dtype
from adamx.signal import Signal
from adamx.stages.base import as_parameter
from adamx.storage import Float32, Rounding, Stochastic, Storage
from adamx.structure import is_absent, leaves_like, path_of
from adamx.wiring import slots_of

GROUP = 16
"""Leaves in a group: enough that calls cost XLA little, few enough that the one function they share is lowered quickly."""


class RuleState(NamedTuple):
    """State of a rule. Its structure, shapes and dtypes depend on the rule and the parameters only, and never change.

    Attributes:
      count: Number of updates made, int32, shape (); stays at its maximum.
      scalars: Scalar slot name -> float scalar (the mean log-decay of each bias-corrected average).
      slots: Slot name -> tree like the parameters, each leaf as its storage keeps it.
    """

    count: jax.Array
    scalars: dict[str, jax.Array]
    slots: dict[str, Any]


def storage_of(storages, slot):
    """The storage of `slot` among (name, storage) pairs."""
    return dict(storages).get(slot.name, Float32())


def rounding_of(storages):
    """How `step` rounds parameters."""
    return dict(storages).get("params", Stochastic())


def init(stages, storages, params):
    """The state before the first update; `params` is touched through `jax.tree.map` only, and no buffer of it is kept."""
    slots = {}
    for stage in stages:
        first = stage.initial()
        for slot in stage.slots:
            start = functools.partial(_start, slot, storage_of(storages, slot), first.get(slot.name, 0))
            slots[slot.name] = jax.tree_util.tree_map_with_path(start, params)
    scalars = {name: jnp.zeros([], scalar_dtype()) for stage in stages for name in stage.scalar_slots}
    return RuleState(jnp.zeros([], jnp.int32), scalars, slots)


def _start(slot, storage, value, path, p):
    dtype = jnp.result_type(p)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise _not_differentiable(f"parameter params{jax.tree_util.keystr(path)}", dtype)
    dtype = compute_dtype(dtype) if slot.signed else real_dtype(compute_dtype(dtype))
    return storage.init(jnp.full_like(p, value, dtype=dtype, shape=slot.shape(jnp.shape(p))))


def per_step(stages, count, last):
    """What one step has in common for all leaves.

    Returns:
      count + 1; t; the stages with every hyperparameter a scalar array; a dict of scalars for each stage; the scalar slots.
    """
    positive = tuple(h.positive for h in jax.tree.leaves(stages, is_leaf=_is_whole) if _is_decay(h))
    return _per_step(positive, stages, count, last)


@functools.partial(jax.jit, static_argnums=0)
def _per_step(positive, stages, count, last):
    """`per_step`; `positive` is that of each decay rate in turn, which as data they lose."""
    dtype = scalar_dtype()
    following = optax.safe_increment(count)
    t = following.astype(dtype)
    # Constants are hidden from XLA, so that a rule with constants computes bit for bit what a traced or batched one does.
    one = jnp.ones([], dtype)
    stages, count, t, last, one = jax.lax.optimization_barrier((jax.tree.map(jnp.asarray, stages), count, t, last, one))

    def computed(scalars, given=()):
        # XLA would repeat cheap scalar arithmetic in the loop of every leaf; it does not repeat a division.
        given = {id(a) for a in given}
        return jax.tree.map(lambda a: a if id(a) in given else jnp.asarray(a).astype(dtype) / one, scalars)

    flags = iter(positive)

    def evaluated(h):
        h = computed(h.at(count)) if _varies(h) else h
        return Decay(h.complement.astype(dtype), next(flags)) if _is_decay(h) else h.astype(dtype)

    values = jax.tree.map(evaluated, stages, is_leaf=_is_whole)
    _check_scalar(values)
    scalars = [computed(stage.scalars(t, last), given=jax.tree.leaves(values)) for stage in values]
    kept = {name: k[name] for stage, k in zip(stages, scalars, strict=True) for name in stage.scalar_slots}
    return following, t, values, scalars, kept


@dataclasses.dataclass(frozen=True)
class Plan:
    """Structure of the work on one leaf (hashable): which stages apply, how slots are kept, what is wanted."""

    active: tuple[bool, ...]
    storages: tuple[tuple[str, Storage], ...]
    rounding: Rounding | None
    wants_signal: bool


@functools.partial(jax.jit, static_argnums=0)
def per_group(plan, stages, scalars, t, leaves):
    """`per_leaf` of each of `leaves`, tuples (g, p, stored, key)."""
    return [per_leaf(plan, stages, scalars, t, *leaf) for leaf in leaves]


def per_leaf(plan, stages, scalars, t, g, p, stored, key):
    """The work on one leaf.

    Returns:
      The update in the gradient's dtype, or, if the plan rounds, the new parameter; the stored slots; the signal, if wanted.
    """
    dtype = compute_dtype(*(a.dtype for a in jax.tree.leaves((g, p, stored)) if jnp.issubdtype(a.dtype, jnp.inexact)))
    real = real_dtype(dtype)
    stages, scalars, t = jax.tree.map(lambda a: a.astype(real), (stages, scalars, t))
    storages = dict(plan.storages)
    raw = g.astype(dtype)
    x = Signal(t=t, g=raw, raw=raw, p=None if p is None else p.astype(dtype))
    new = dict(stored)
    for active, stage, k in zip(plan.active, stages, scalars, strict=True):
        if not active:
            continue
        slots = {
            slot.name: storages[slot.name].decode(stored[slot.name], dtype if slot.signed else real)
            for slot in stage.slots
        }
        x, slots = stage(x, slots, k)
        new |= {name: storages[name].encode(value, stored[name]) for name, value in slots.items()}
    out = narrow(x.u, g.dtype) if plan.rounding is None else plan.rounding(x.p + x.u, p.dtype, key)
    return out, new, x if plan.wants_signal else None


def advance(stages, storages, grads, state, params, rounding=None, wants_signal=False):
    """One step over the tree.

    Returns:
      The tree of updates, or of new parameters if `rounding` is given; the new state; the tree of signals (None if not wanted).
    """
    names = [slot.name for slot in slots_of(stages)]
    structure = jax.tree.structure(state.slots[names[0]]) if names else jax.tree.structure(grads, is_leaf=is_absent)
    _require_params(stages, params)
    gs = leaves_like(structure, grads, "the gradients")
    ps = [None] * len(gs) if params is None else leaves_like(structure, params, "the parameters")
    kept = {name: leaves_like(structure, state.slots[name], f"the state's slots {name!r}") for name in names}
    gs = [g if is_absent(g) else _gradient(g, structure, i) for i, g in enumerate(gs)]
    given, ps = ps, [None if is_absent(p) else _array(p) for p in ps]
    _check_shapes(structure, gs, ps, kept, [slot for slot in slots_of(stages) if slot.shape is as_parameter])

    count, t, values, scalars, carried = per_step(stages, state.count, state.scalars)
    plans = _plans(stages, storages, structure, gs if params is None else ps, rounding, wants_signal)
    # Where there is no gradient, these stay.
    outs, signals = list(gs if rounding is None else given), [None] * len(gs)
    for plan, members in _groups(plans, gs):
        keys = {i: None if rounding is None else state.count * len(gs) + i for i in members}
        leaves = [(gs[i], ps[i], {name: kept[name][i] for name in names}, keys[i]) for i in members]
        results = per_group(plan, values, scalars, t, leaves)
        for i, (out, stored, signal) in zip(members, results, strict=True):
            outs[i], signals[i] = out, signal
            for name in names:
                kept[name][i] = stored[name]
    slots = {name: jax.tree.unflatten(structure, leaves) for name, leaves in kept.items()}
    signals = jax.tree.unflatten(structure, signals) if wants_signal else None
    return jax.tree.unflatten(structure, outs), RuleState(count, carried, slots), signals


def _check_scalar(stages):
    for stage in stages:
        for path, leaf in jax.tree_util.tree_leaves_with_path(stage):
            if leaf.ndim:
                raise ValueError(
                    f"{type(stage).__name__}: {jax.tree_util.keystr(path[:1]).lstrip('.')} has shape {leaf.shape}; expected a scalar. "
                    "A batched rule runs under vmap: jax.vmap(f, in_axes=(adamx.axes_of(rule), ...))(rule, ...)."
                )


def _is_decay(node):
    return isinstance(node, Decay)


def _is_whole(node):
    return _is_decay(node) or isinstance(node, Scheduled)


def _varies(node):
    return isinstance(node, Scheduled) or (_is_decay(node) and isinstance(node.complement, Scheduled))


def _plans(stages, storages, structure, leaves, rounding, wants_signal):
    """The plan of each leaf; leaves on which the same stages act share one."""
    storages = tuple((slot.name, storage_of(storages, slot)) for slot in slots_of(stages))
    everywhere = [True] * len(leaves)
    flags = [stage.on_leaves(structure, leaves) or everywhere for stage in stages]
    plan = functools.cache(lambda active: Plan(active, storages, rounding, wants_signal))
    return [plan(active) for active in zip(*flags, strict=True)]


def _groups(plans, gs):
    """Pairs of a plan and the positions of up to `GROUP` leaves of that plan, one shape and one dtype; none without a gradient."""
    kinds = {}
    for i, (plan, g) in enumerate(zip(plans, gs, strict=True)):
        if not is_absent(g):
            kinds.setdefault((plan, g.shape, g.dtype), []).append(i)
    for (plan, *_), members in kinds.items():
        for start in range(0, len(members), GROUP):
            yield plan, members[start : start + GROUP]


def _require_params(stages, params):
    if params is None:
        for stage in stages:
            if "p" in stage.reads:
                raise ValueError(
                    f"{stage!r} reads the parameters, but update got params=None: call update(grads, state, params)."
                )


def _gradient(g, structure, index):
    """Gradient leaf as an array. Raises if it is no array of a floating or complex dtype."""
    try:
        dtype = g.dtype if isinstance(g, jax.Array) else jnp.result_type(g)
    except TypeError:
        raise TypeError(
            f"the gradient of {path_of(structure, index)} must be an array (or None), got {type(g).__name__}."
        ) from None
    if dtype == jax.dtypes.float0 or not jnp.issubdtype(dtype, jnp.inexact):
        raise _not_differentiable(f"the gradient of {path_of(structure, index)}", dtype)
    return _array(g)


def _array(x):
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


def _not_differentiable(what, dtype):
    name = "float0" if dtype == jax.dtypes.float0 else jnp.dtype(dtype).name
    return TypeError(
        f"{what} has dtype {name}, which an optimizer cannot update; expected a floating or complex dtype. "
        "Leave such leaves to optax.masked(rule, mask) (or optax.partition), or keep them out of the parameters."
    )


def _check_shapes(structure, gs, ps, kept, slots):
    """At trace time, at no cost at run time: gradients, parameters and slots agree leaf by leaf."""
    present = [i for i, g in enumerate(gs) if not is_absent(g)]
    expected = [(slot.name, kept[slot.name]) for slot in slots]
    expected += [("parameter", ps)] if any(p is not None for p in ps) else []
    real = {slot.name for slot in slots if not slot.signed}
    for i in (i for i in present if jnp.iscomplexobj(gs[i])):
        for what, leaves in expected:
            if what not in real and not jnp.iscomplexobj(leaves[i]):
                raise TypeError(
                    f"the gradient of {path_of(structure, i)} has dtype {gs[i].dtype}, but its {what} has {leaves[i].dtype}. "
                    "Take the real part of the loss, or make the parameter complex."
                )
    for what, leaves in expected:
        try:
            chex.assert_trees_all_equal_shapes([gs[i] for i in present], [leaves[i] for i in present])
        except AssertionError:
            i = next(i for i in present if jnp.shape(gs[i]) != jnp.shape(leaves[i]))
            raise ValueError(
                f"the gradient of {path_of(structure, i)} has shape {jnp.shape(gs[i])}, but its {what} has {jnp.shape(leaves[i])}. "
                "Gradients, parameters and state must belong together: call init again if the parameters' shapes changed."
            ) from None
