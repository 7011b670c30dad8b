"""What a rule remembers between steps: made, and checked against the rule that is to use it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.shard_alike import shard_alike

from adamx.numerics import compute_dtype, real_dtype
from adamx.stages.base import as_parameter
from adamx.storage import Float32
from adamx.structure import is_absent, leaves_like, path_of
from adamx.wiring import line, slots_of


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


def slot_dtype(slot, dtype):
    """Dtype of a slot's arithmetic for a parameter of `dtype`."""
    dtype = compute_dtype(dtype)
    return dtype if slot.signed else real_dtype(dtype)


# Making


def init(stages, storages, params):
    """The state before the first update; `params` is touched through `jax.tree.map` only, and no buffer of it is kept."""
    slots = {}
    for stage in stages:
        first = stage.initial()
        for slot in stage.slots:
            start = functools.partial(_start, slot, storage_of(storages, slot), first.get(slot.name, 0))
            slots[slot.name] = jax.tree_util.tree_map_with_path(start, params)
    # Not wider than the parameters need: float64 switched on or off elsewhere changes nothing.
    dtypes = {getattr(p, "dtype", None) for p in jax.tree.leaves(params)}
    dtype = real_dtype(compute_dtype(*dtypes.intersection(DIFFERENTIABLE)))
    scalars = {name: jnp.zeros([], dtype) for name in _scalar_slots(stages)}
    return RuleState(jnp.zeros([], jnp.int32), scalars, slots)


def _start(slot, storage, value, path, p):
    dtype = slot_dtype(slot, differentiable(p, f"parameter params{jax.tree_util.keystr(path)}"))
    shape = slot.shape(jnp.shape(p))
    if shape != jnp.shape(p):
        return storage.init(jnp.full_like(p, value, dtype, shape))
    full = jnp.full_like(p, value, dtype)
    # A compiled constant has no sharding of its own, where that is for XLA to find.
    return storage.init(shard_alike(p, full)[1] if isinstance(p, jax.core.Tracer) else full)


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
            "Leave such leaves to optax.masked(rule, mask) (or optax.partition), or keep them out of the parameters."
        )
    return dtype


DIFFERENTIABLE = tuple(jnp.dtype(d) for d in ("float16", "bfloat16", "float32", "float64", "complex64", "complex128"))
"""Dtypes of parameters and gradients."""


def _scalar_slots(stages):
    return [name for stage in stages for name in stage.scalar_slots]


# Checking, when a step is traced: no cost at run time


class Leaves(NamedTuple):
    """The arguments of a step, leaf by leaf.

    Attributes:
      structure: Tree structure of the parameters.
      gs: Gradients, arrays; None or Optax's mask where there is none.
      ps: Parameters, arrays; None where there is none.
      kept: Slot name -> the leaves as they are stored.
    """

    structure: Any
    gs: list
    ps: list
    kept: dict[str, list]


def checked(stages, storages, grads, state, params):
    """The `Leaves` of a step.

    Raises:
      TypeError: no `RuleState`, a leaf that is no array of a floating or complex dtype, a state of other dtypes than the rule's.
      ValueError: trees, shapes or slots that do not belong together.
    """
    slots = slots_of(stages)
    _check_state(stages, grads, state)
    if slots or params is not None:
        structure = jax.tree.structure(state.slots[slots[0].name] if slots else params)
    else:
        structure = jax.tree.structure(grads, is_leaf=is_absent)
    gs = leaves_like(structure, grads, "the gradients")
    ps = [None] * len(gs) if params is None else leaves_like(structure, params, "the parameters")
    kept = {s.name: leaves_like(structure, state.slots[s.name], f"the state's slots {s.name!r}") for s in slots}
    path = functools.partial(path_of, structure, gs if params is None else ps)
    gs = [g if is_absent(g) else _array(g, "the gradient of", path, i) for i, g in enumerate(gs)]
    ps = [p if is_absent(p) else _array(p, "parameter", path, i) for i, p in enumerate(ps)]
    _check_leaves(path, [(slot, storage_of(storages, slot)) for slot in slots], gs, ps, kept)
    return Leaves(structure, gs, ps, kept)


known_rules: dict[str, Callable] = {}
"""Rule name -> function that builds it, to say whose state was given. The catalogue fills it."""


def _check_state(stages, grads, state):
    if not isinstance(state, RuleState):
        raise TypeError(_no_state(grads, state))
    expected, given = _names(stages), (set(state.slots), set(state.scalars))
    if given != expected:
        owners = [name for name, build in known_rules.items() if _names(build().stages) == given]
        raise ValueError(
            f"the state has slots {_listed(state.slots)} and scalars {_listed(state.scalars)}; this rule, {line(stages)}, keeps "
            f"{_listed(expected[0])} and {_listed(expected[1])}."
            + (f" It seems to be a state of {' or '.join(owners)}." if owners else "")
            + f" {START}"
        )
    for name, x in [("count", state.count), *state.scalars.items()]:
        kind = jnp.integer if name == "count" else jnp.floating
        if not (np.shape(x) == () and jnp.issubdtype(jnp.result_type(x), kind)):
            raise TypeError(f"the state's {name} must be one {kind.__name__} number, got {describe(x)}. {START}")


START = "Begin with rule.init(params), or pass the state that this rule returned."


def _no_state(grads, state):
    if isinstance(grads, RuleState):
        return "the state was given where the gradients belong: call update(grads, state, params)."
    kinds = {type(part).__name__ for part in jax.tree.leaves(state, is_leaf=_is_named) if _is_named(part)}
    what = f"Optax's {', '.join(sorted(kinds))}" if kinds else f"{type(state).__name__}"
    hint = " A checkpoint is restored into a state of the same rule: rule.init(params) is the template." * (not kinds)
    return f"the state must be the RuleState of this rule, got {what}. {START}{hint}"


def _is_named(node):
    return isinstance(node, tuple) and hasattr(node, "_fields")


def _names(stages):
    return {slot.name for slot in slots_of(stages)}, set(_scalar_slots(stages))


def _listed(names):
    return ", ".join(names if isinstance(names, dict) else sorted(names)) or "none"


def describe(x):
    """Dtype and shape of a leaf, as `float32[2, 3]`."""
    return f"{jnp.result_type(x).name}{list(np.shape(x))}"


def _array(x, what, path, i):
    if isinstance(x, jax.Array) and x.dtype in DIFFERENTIABLE:
        return x
    differentiable(x, f"{what} {path(i)}")
    try:
        return jnp.asarray(x)
    except TypeError:
        raise TypeError(f"{what} {path(i)} must be an array (or None), got {type(x).__name__}.") from None


def _check_leaves(path, stored_slots, gs, ps, kept):
    """Gradients, parameters and slots agree leaf by leaf, in shape and dtype."""
    import chex  # here, as importing it takes long

    both = [i for i, (g, p) in enumerate(zip(gs, ps, strict=True)) if not (is_absent(g) or is_absent(p))]
    try:
        chex.assert_trees_all_equal_shapes([gs[i] for i in both], [ps[i] for i in both])
    except AssertionError:
        i = next(i for i in both if gs[i].shape != ps[i].shape)
        raise _of_other_shape(path(i), gs[i], "parameter", ps[i]) from None
    models = [_model(path, i, gs[i], ps[i], kept) for i in range(len(gs))]
    for slot, storage in stored_slots:
        here = [i for i, model in enumerate(models) if model is not None]
        expected = [storage.layout(slot.shape(models[i].shape), slot_dtype(slot, models[i].dtype)) for i in here]
        given = [kept[slot.name][i] for i in here]
        try:
            chex.assert_trees_all_equal_shapes_and_dtypes(expected, given)
        except AssertionError:
            for i, wanted, got in zip(here, expected, given, strict=True):
                _check_slot(path(i), slot, storage, gs[i], wanted, got)


def _model(path, i, g, p, kept):
    """What the slots of a leaf are like: its parameter, else its gradient with the dtype that its slots have; None if neither is there."""
    if is_absent(p) and is_absent(g):
        return None
    stored = {name: leaves[i] for name, leaves in kept.items() if hasattr(leaves[i], "dtype")}
    floats = {name: x.dtype for name, x in stored.items() if x.dtype in DIFFERENTIABLE}
    dtypes = floats if is_absent(p) else {"parameter": p.dtype}
    if dtypes and jnp.iscomplexobj(g) and not any(jnp.issubdtype(d, jnp.complexfloating) for d in dtypes.values()):
        what, dtype = next(iter(dtypes.items()))
        raise TypeError(
            f"the gradient of {path(i)} has dtype {g.dtype}, but its {what} has {dtype}. "
            "Take the real part of the loss, or make the parameter complex."
        )
    return p if not is_absent(p) else jax.ShapeDtypeStruct(g.shape, compute_dtype(*floats.values()))


def _check_slot(path, slot, storage, g, wanted, got):
    """Raises the error of a slot that is not as its storage would have made it; nothing if it is."""
    wanted_leaves, got_leaves = jax.tree.leaves(wanted), jax.tree.leaves(got)
    shown = [", ".join(map(describe, leaves)) for leaves in (wanted_leaves, got_leaves)]
    if shown[0] == shown[1]:
        return
    if slot.shape is as_parameter and len(got_leaves) == 1 and not is_absent(g) and got_leaves[0].shape != g.shape:
        raise _of_other_shape(path, g, slot.name, got_leaves[0])
    raise TypeError(
        f"the state's {slot.name} of {path} is {shown[1]}, but this rule keeps {shown[0]} there (as {storage!r}): the state belongs to "
        f"another rule or to other parameters. {START}"
    )


def _of_other_shape(path, g, what, other):
    return ValueError(
        f"the gradient of {path} has shape {jnp.shape(g)}, but its {what} has {jnp.shape(other)}. "
        "Gradients, parameters and state must belong together: call init again if the parameters' shapes changed."
    )
