"""How a line of stages is run over a tree: once per step for scalars, once per leaf for arrays.

While JAX traces, leaves of equal shapes and dtypes are worked on in groups, and groups share one function of the lowered program, which XLA
inlines. That function lives as long as the trace: what a schedule or a user's stage reads is read anew in every trace. Outside of any
trace, lines of this package's own stages are compiled, kept, and compute what a compiled program does; others run as they are.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax

from adamx.hyperparameters import Decay, Scheduled
from adamx.numerics import compute_dtype, narrow, real_dtype, scalar_dtype
from adamx.signal import Signal, gathered
from adamx.state import RuleState, checked, slot_dtype, storage_of
from adamx.storage import Rounding, Stochastic, Storage
from adamx.structure import is_absent
from adamx.wiring import nested, slots_of

LARGEST_GROUP = 32
"""Leaves in a group at most: enough that calls cost XLA little, few enough that the one function they share is lowered quickly."""

COST_OF_CALL = 0.4
"""What calling a function costs, against tracing, lowering and compiling a leaf in it."""


def rounding_of(storages):
    """How `step` rounds parameters."""
    return dict(storages).get("params", Stochastic())


def advance(stages, storages, grads, state, params, rounding=None, wants_signal=False):
    """One step over the tree.

    Returns:
      The tree of updates, or of new parameters if `rounding` is given; the new state; the `Signal` of trees (None if not wanted).
    """
    _require_params(stages, params)
    structure, gs, ps, kept = checked(stages, storages, grads, state, params)
    plans = _plans(stages, storages, structure, gs if params is None else ps, rounding, wants_signal)
    line, count = tuple(stage.bare() for stage in stages), jnp.asarray(state.count, jnp.int32)
    how = _how(line, storages)
    following, t, values, scalars, carried = per_step(line, count, state.scalars, how.step)
    in_dtype = functools.cache(lambda real: jax.tree.map(lambda a: a.astype(real), (values, scalars, t)))
    keys = _keys(rounding, count, ps)

    # Where there is no gradient, these stay.
    outs, signals = list(gs if rounding is None else ps), [None] * len(gs)
    for kind, groups in _groups(plans, gs, ps, kept).items():
        run = how.group(shared=len(groups) > 1)
        for members in groups:
            leaves = [(gs[i], _or_none(ps[i]), {name: kept[name][i] for name in kept}, keys[i]) for i in members]
            results = run(kind.plan, kind.dtype, *in_dtype(real_dtype(kind.dtype)), leaves)
            for i, (out, stored, signal) in zip(members, results, strict=True):
                outs[i], signals[i] = out, signal
                for name in kept:
                    kept[name][i] = stored[name]
    slots = {name: jax.tree.unflatten(structure, leaves) for name, leaves in kept.items()}
    signals = gathered(structure, signals, t) if wants_signal else None
    return jax.tree.unflatten(structure, outs), RuleState(following, carried, slots), signals


def _or_none(leaf):
    return None if is_absent(leaf) else leaf


def _require_params(stages, params):
    if params is None:
        for stage in stages:
            if "p" in stage.reads:
                raise ValueError(
                    f"{stage!r} reads the parameters, but update got params=None: call update(grads, state, params)."
                )


# The two halves of a step


def _per_step(positive, stages, count, last):
    """`per_step` after the schedules; `positive` is that of each decay rate in turn, which as data they lose."""
    dtype = scalar_dtype()
    following = optax.safe_increment(count)
    t = following.astype(dtype)
    # Constants are hidden from XLA, so that a rule with constants computes bit for bit what a traced or batched one does.
    stages, t, before = lax.optimization_barrier((jax.tree.map(jnp.asarray, stages), t, last))
    before = {name: jnp.asarray(value).astype(dtype) for name, value in before.items()}

    flags = iter(positive)

    def typed(h):
        return Decay(h.complement.astype(dtype), next(flags)) if isinstance(h, Decay) else h.astype(dtype)

    values = jax.tree.map(typed, stages, is_leaf=_is_whole)
    _check_scalar(values)
    scalars = [stage.scalars(t, before) for stage in values]
    remembered = {
        name: jnp.asarray(k[name]) for stage, k in zip(stages, scalars, strict=True) for name in stage.scalar_slots
    }
    kept = {name: a.astype(jnp.result_type(last[name])) for name, a in remembered.items()}
    return following, t, values, _sealed(scalars, dtype, given=(values, remembered)), kept


def _sealed(scalars, dtype, given):
    """The scalars in `dtype`, all that are not in `given` computed once, before any leaf is worked on."""
    given = {id(a) for a in jax.tree.leaves(given)}
    one = lax.optimization_barrier(jnp.ones([], dtype))

    def sealed(a):
        # XLA would repeat cheap scalar arithmetic in the loop of every leaf; it does not repeat a division.
        typed = jnp.asarray(a).astype(dtype)
        return typed if id(a) in given else typed / one

    return jax.tree.map(sealed, scalars)


def per_step(line, count, last, compute=_per_step):
    """What one step has in common for all leaves.

    Returns:
      count + 1; t; the stages with every hyperparameter a scalar array; a dict of scalars for each stage; the scalar slots.
    """
    # Schedules are called here, by plain Python: they may read what they like, and see a number where the count is one.
    line = jax.tree.map(lambda h: _schedule(h).at(count) if _schedule(h) else h, line, is_leaf=_is_whole)
    positive = tuple(h.positive for h in jax.tree.leaves(line, is_leaf=_is_whole) if isinstance(h, Decay))
    return compute(positive, line, count, last)


def _is_whole(node):
    return isinstance(node, (Decay, Scheduled))


def _schedule(h):
    return h.schedule if isinstance(h, Decay) else h if isinstance(h, Scheduled) else None


def _check_scalar(stages):
    for stage in stages:
        for path, leaf in jax.tree_util.tree_leaves_with_path(stage):
            if leaf.ndim:
                raise ValueError(
                    f"{type(stage).__name__}: {jax.tree_util.keystr(path[:1]).lstrip('.')} has shape {leaf.shape}; expected a scalar. "
                    "A batched rule runs under vmap: jax.vmap(f, in_axes=(adamx.axes_of(rule), ...))(rule, ...)."
                )


@dataclasses.dataclass(frozen=True)
class Plan:
    """Structure of the work on one leaf (hashable): which stages apply, how slots are kept, what is wanted."""

    active: tuple[bool, ...]
    storages: tuple[tuple[str, Storage], ...]
    rounding: Rounding | None
    wants_signal: bool


def _per_group(plan, dtype, stages, scalars, t, leaves):
    """`per_leaf` of each of `leaves`, tuples (g, p, stored, key)."""
    return [per_leaf(plan, dtype, stages, scalars, t, *leaf) for leaf in leaves]


def per_leaf(plan, dtype, stages, scalars, t, g, p, stored, key):
    """The work on one leaf, in `dtype`.

    Returns:
      The update in the gradient's dtype, or, if the plan rounds, the new parameter; the stored slots; the signal, if wanted.
    """
    storages = dict(plan.storages)
    raw = g.astype(dtype)
    x = Signal(t=t, g=raw, raw=raw, p=None if p is None else p.astype(dtype))
    new = dict(stored)
    for active, stage, k in zip(plan.active, stages, scalars, strict=True):
        if not active:
            continue
        slots = {s.name: storages[s.name].decode(stored[s.name], slot_dtype(s, dtype)) for s in stage.slots}
        x, slots = stage(x, slots, k)
        new |= {name: storages[name].encode(value, stored[name]) for name, value in slots.items()}
    out = narrow(x.u, g.dtype) if plan.rounding is None else plan.rounding(x.p + x.u, p.dtype, key)
    return out, new, x if plan.wants_signal else None


# How they are run


class _Traced:
    """While a program is traced: as part of it, and a function of its own where several groups share it, for as long as the trace lasts."""

    step = staticmethod(_per_step)

    def __init__(self):
        self.shared = jax.jit(functools.partial(_per_group), static_argnums=(0, 1))

    def group(self, shared):
        return self.shared if shared else _per_group


class _Compiled:
    """Outside of a trace, for what never changes: compiled once."""

    step = staticmethod(jax.jit(_per_step, static_argnums=0))
    _group = staticmethod(jax.jit(_per_group, static_argnums=(0, 1)))

    def group(self, shared):
        return self._group


class _Plain:
    """Outside of a trace, for users' stages, which may read what changes: one operation after the other."""

    step = staticmethod(_per_step)

    def group(self, shared):
        return _per_group


def _how(line, storages):
    if isinstance(jnp.zeros([]), jax.core.Tracer):
        return _Traced()
    parts = [part for stage in line for part in nested(stage)] + [storage for _, storage in storages]
    package = __name__.partition(".")[0]
    return _Compiled() if all(type(part).__module__.partition(".")[0] == package for part in parts) else _Plain()


# Leaf by leaf


def _plans(stages, storages, structure, leaves, rounding, wants_signal):
    """The plan of each leaf; leaves on which the same stages act share one."""
    storages = tuple((slot.name, storage_of(storages, slot)) for slot in slots_of(stages))
    everywhere = [True] * len(leaves)
    flags = [stage.on_leaves(structure, leaves) or everywhere for stage in stages]
    plan = functools.cache(lambda active: Plan(active, storages, rounding, wants_signal))
    return [plan(active) for active in zip(*flags, strict=True)]


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What leaves share that are worked on alike: the plan, the dtype of the arithmetic, and the types of gradient, parameter and slots."""

    plan: Plan
    dtype: jnp.dtype
    types: tuple


def _groups(plans, gs, ps, kept):
    """Kind -> groups, each a list of the positions of leaves. Leaves without a gradient are in none."""
    wide = functools.cache(lambda dtypes: compute_dtype(*(d for d in dtypes if jnp.issubdtype(d, jnp.inexact))))
    kinds = {}
    for i, (plan, g, p) in enumerate(zip(plans, gs, ps, strict=True)):
        if not is_absent(g):
            arrays = jax.tree.leaves((g, _or_none(p), [leaves[i] for leaves in kept.values()]))
            types = tuple(jax.typeof(a) for a in arrays)
            kinds.setdefault((plan, types), []).append(i)
    return {
        _Kind(plan, wide(frozenset(a.dtype for a in types)), types): _cut(members)
        for (plan, types), members in kinds.items()
    }


def _cut(members):
    """Groups of equal size, and a smaller last one: the size for which tracing two functions and calling them costs least."""
    n = len(members)
    size = min(range(1, LARGEST_GROUP + 1), key=lambda size: min(size, n) + n % size + COST_OF_CALL * (n // size))
    return [members[start : start + size] for start in range(0, n, size)]


def _keys(rounding, count, ps):
    """The rounding's key for each leaf; None where none is needed."""
    narrow = [rounding is not None and not is_absent(p) and jnp.finfo(p.dtype).bits < 32 for p in ps]
    keys = rounding.keys(count, len(ps)) if any(narrow) else None
    return [keys[i] if keys is not None and is_narrow else None for i, is_narrow in enumerate(narrow)]
