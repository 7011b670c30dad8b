"""How a line of stages is run over a tree: once per step for scalars, once per leaf for arrays.

While JAX traces, leaves of equal shapes and dtypes are worked on in groups, and groups share one function of the lowered program, which XLA
inlines. That function lives as long as the trace: what a schedule or a user's stage reads is read anew in every trace. Outside of any
trace, lines of this package's own stages are compiled, kept, and compute what a compiled program does; others run as they are.
"""

import functools
import itertools
import types

import jax
import jax.numpy as jnp
import optax
from jax import lax

from adamx.checks import checked
from adamx.grouping import groups_of, keys_of, plans_of
from adamx.hyperparameters import Decay, at_count, is_whole
from adamx.kernels import per_group
from adamx.leaves import Leaf, Part
from adamx.numerics import real_dtype, scalar_dtype, within
from adamx.rounding import Stochastic
from adamx.signal import gathered
from adamx.state import RuleState
from adamx.structure import is_absent
from adamx.wiring import WiringError, name_of, nested


def rounding_of(storages):
    """How `step` rounds parameters."""
    return dict(storages).get("params", Stochastic())


def advance(
    stages,
    storages,
    grads,
    state,
    params,
    extra=types.MappingProxyType({}),
    rounding=None,
    wants_signal=False,
    kernel=None,
):
    """One step over the tree.

    Returns:
      The tree of updates, or of new parameters if `rounding` is given; the new state; the `Signal` of trees (None if not wanted).
    """
    _require_params(stages, params)
    given = checked(stages, storages, grads, state, params, extra)
    line, count = tuple(stage.bare() for stage in stages), jnp.asarray(state.count, jnp.int32)
    how = _how(line, storages)
    present = {f"has_{name}": jnp.float32(any(x is not None for x in leaves)) for name, leaves in given.extras.items()}
    following, t, values, scalars, carried = per_step(line, count, state.scalars | present, how.step)
    for i, stage in enumerate(line):
        scalars[i] |= {name: given.numbers[name].astype(t.dtype) for name in stage.scalar_extras}

    # Where there is no gradient, these stay.
    outs, kept = list(given.gs if rounding is None else given.ps), given.kept
    signals, keys = [None] * len(outs), keys_of(line, storages, rounding, count, given)
    leaves = {
        i: Leaf(
            g, _or_none(p), {name: kept[name][i] for name in kept}, keys[i], {n: x[i] for n, x in given.extras.items()}
        )
        for i, (g, p) in enumerate(zip(given.gs, given.ps, strict=True))
        if not is_absent(g)
    }
    kinds = groups_of(line, plans_of(line, storages, given.active, rounding, wants_signal), leaves, kernel)
    for part in _parts(line):
        in_dtype = functools.cache(lambda real: jax.tree.map(lambda a: a.astype(real), (values, scalars, t)))  # noqa: B023
        results = {}
        for kind, groups in kinds.items():
            run = how.group(shared=len(groups) > 1)
            for members in groups:
                inputs = [leaves[i] for i in members]
                done = run(kind.plan, part, kind.dtype, *in_dtype(real_dtype(kind.dtype)), inputs)
                results |= zip(members, done, strict=True)
        if part.stop < len(line):
            leaves = {i: leaves[i]._replace(signal=x, new=new) for i, (x, new, _) in results.items()}
            shares = [results[i][2] for i in sorted(results)]
            scalars[part.stop], more = how.join(values[part.stop], shares, scalars[part.stop], state.scalars)
            carried |= more
    for i, (out, stored, signal) in results.items():
        outs[i], signals[i] = out, signal
        for name in kept:
            kept[name][i] = stored[name]
    slots = {name: jax.tree.unflatten(given.structure, column) for name, column in kept.items()}
    signals = gathered(given.structure, signals, t) if wants_signal else None
    carried = {name: carried[name] for name in state.scalars}
    return jax.tree.unflatten(given.structure, outs), RuleState(following, carried, slots), signals


def _parts(line):
    """The parts of a line: it is cut before each stage that needs sums over the tree."""
    bounds = [0, *(i for i, stage in enumerate(line) if stage.sums), len(line)]
    return [Part(start, stop) for start, stop in itertools.pairwise(bounds)]


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

    values = jax.tree.map(typed, stages, is_leaf=is_whole)
    _check_scalar(values)
    scalars = []
    for stage in values:
        scalars.append(stage.scalars(t, before))
        before |= {name: scalars[-1][name] for name in ("lr",) if name in scalars[-1]}
    remembered = [_remembered(stage, k) for stage, k in zip(stages, scalars, strict=True)]
    kept = {name: a.astype(jnp.result_type(last[name])) for k in remembered for name, a in k.items()}
    return following, t, values, _sealed(scalars, dtype, given=(values, remembered)), kept


def _remembered(stage, k):
    """Those of the scalars `k` that are kept; of a stage with sums, `combine` may make them later."""
    absent = [name for name in stage.scalar_slots if name not in k and not stage.sums]
    if absent:
        raise WiringError(
            f"{name_of(stage)}: its scalar slots {', '.join(absent)} are not among the results of `scalars`."
        )
    return {name: jnp.asarray(k[name]) for name in stage.scalar_slots if name in k}


def _joined(stage, shares, k, last):
    """The scalars of a stage once the leaves' shares of its sums are there, and those of them that are kept."""
    dtype = scalar_dtype()
    before = {name: jnp.asarray(last[name]).astype(dtype) for name in stage.scalar_slots}
    new = stage.combine({name: _total([share[name] for share in shares], dtype) for name in stage.sums}, before | k)
    absent = [name for name in stage.scalar_slots if name not in k | new]
    if absent:
        raise WiringError(
            f"{name_of(stage)}: its scalar slots {', '.join(absent)} are not among the results of `scalars` or `combine`."
        )
    kept = {name: jnp.asarray(new[name]) for name in stage.scalar_slots if name in new}
    sealed = _sealed(new, dtype, given=kept)
    return k | sealed, {name: a.astype(jnp.result_type(last[name])) for name, a in kept.items()}


def _total(shares, dtype):
    """Sum of the leaves' shares; finite ones never give an infinity."""
    total = jnp.sum(jnp.stack([share.astype(dtype) for share in shares])) if shares else jnp.zeros([], dtype)
    return within(total, dtype, margin=2)


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
    line = at_count(line, count)
    positive = tuple(h.positive for h in jax.tree.leaves(line, is_leaf=is_whole) if isinstance(h, Decay))
    return compute(positive, line, count, last)


def _check_scalar(stages):
    for stage in stages:
        for path, leaf in jax.tree_util.tree_leaves_with_path(stage):
            if leaf.ndim:
                raise ValueError(
                    f"{type(stage).__name__}: {jax.tree_util.keystr(path[:1]).lstrip('.')} has shape {leaf.shape}; expected a scalar. "
                    "A batched rule runs under vmap: jax.vmap(f, in_axes=(adamx.axes_of(rule), ...))(rule, ...)."
                )


# How they are run


class _Traced:
    """While a program is traced: as part of it, and a function of its own where several groups share it, for as long as the trace lasts."""

    step, join = staticmethod(_per_step), staticmethod(_joined)

    def __init__(self):
        self.shared = jax.jit(functools.partial(per_group), static_argnums=(0, 1, 2))

    def group(self, shared):
        return self.shared if shared else per_group


class _Compiled:
    """Outside of a trace, for what never changes: compiled once."""

    step, join = staticmethod(jax.jit(_per_step, static_argnums=0)), staticmethod(jax.jit(_joined))
    _group = staticmethod(jax.jit(per_group, static_argnums=(0, 1, 2)))

    def group(self, shared):
        return self._group


class _Plain:
    """Outside of a trace, for users' stages, which may read what changes: one operation after the other."""

    step, join = staticmethod(_per_step), staticmethod(_joined)

    def group(self, shared):
        return per_group


def _how(line, storages):
    if isinstance(jnp.zeros([]), jax.core.Tracer):
        return _Traced()
    parts = [part for stage in line for part in nested(stage)] + [storage for _, storage in storages]
    package = __name__.partition(".")[0]
    return _Compiled() if all(type(part).__module__.partition(".")[0] == package for part in parts) else _Plain()
