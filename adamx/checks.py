"""The arguments of a step, checked against the rule when the step is traced: no cost at run time."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx.blocks import is_blocks
from adamx.numerics import compute_dtype
from adamx.stages.base import as_parameter
from adamx.state import (
    DIFFERENTIABLE,
    RuleState,
    activity,
    differentiable,
    scalar_slots,
    slot_dtype,
    slots_at,
    storage_of,
)
from adamx.structure import is_absent, leaves_like, path_of
from adamx.wiring import line, slots_of


class Leaves(NamedTuple):
    """The arguments of a step, leaf by leaf.

    Attributes:
      structure: Tree structure of the parameters.
      gs: Gradients, arrays; None or Optax's mask where there is none.
      ps: Parameters, arrays; None where there is none.
      kept: Slot name -> the leaves as they are stored.
      active: For each leaf, what each stage's `on_leaves` says of it.
      extras: Name -> leaves of a further argument that is a tree like the parameters.
      numbers: Name -> a further argument that is one number.
    """

    structure: Any
    gs: list
    ps: list
    kept: dict[str, list]
    active: list
    extras: dict[str, list]
    numbers: dict[str, jax.Array]


def checked(stages, storages, grads, state, params, extra):
    """The `Leaves` of a step.

    Raises:
      TypeError: no `RuleState`, a leaf that is no array of a floating or complex dtype, a state of other dtypes than the rule's, an
        argument that a stage needs and that is missing.
      ValueError: trees, shapes or slots that do not belong together.
    """
    slots = slots_of(stages)
    _check_state(stages, grads, state)
    if slots or params is not None:
        structure = jax.tree.structure(state.slots[slots[0].name] if slots else params, is_leaf=is_blocks)
    else:
        structure = jax.tree.structure(grads, is_leaf=is_absent)
    gs = leaves_like(structure, grads, "the gradients")
    ps = [None] * len(gs) if params is None else leaves_like(structure, params, "the parameters")
    kept = {s.name: leaves_like(structure, state.slots[s.name], f"the state's slots {s.name!r}") for s in slots}
    path = functools.partial(path_of, structure, gs if params is None else ps)
    gs = [g if is_absent(g) else _array(g, "the gradient of", path, i) for i, g in enumerate(gs)]
    ps = [p if is_absent(p) else _array(p, "parameter", path, i) for i, p in enumerate(ps)]
    active = activity(stages, structure, gs if params is None else ps)
    _check_leaves(path, stages, storages, active, gs, ps, kept)
    extras, numbers = _extras(stages, structure, gs, path, extra)
    return Leaves(structure, gs, ps, kept, active, extras, numbers)


def _extras(stages, structure, gs, path, given):
    """The further arguments of a step that its stages declare: trees leaf by leaf, and numbers, by name."""
    trees, numbers = {}, {}
    for stage in stages:
        for name in stage.extras:
            trees[name] = [None] * len(gs)
            if given.get(name) is not None:
                leaves = leaves_like(structure, given[name], f"the leaves of the argument {name!r}")
                what = f"the argument {name!r} of {line([stage])} at"
                leaves = [x if is_absent(x) else _array(x, what, path, i) for i, x in enumerate(leaves)]
                for i, (x, g) in enumerate(zip(leaves, gs, strict=True)):
                    if not is_absent(g) and jnp.shape(x) != jnp.shape(g):
                        raise ValueError(
                            f"{what} {path(i)} must be as the gradient, {describe(g)}, got {_described(x)}."
                        )
                trees[name] = leaves
        for name in stage.scalar_extras:
            x = given.get(name)
            if x is None:
                raise TypeError(
                    f"{line([stage])} needs the argument {name!r}: call update(grads, state, params, {name}=...)."
                )
            if not hasattr(x, "dtype") and not isinstance(x, (int, float)) or jnp.shape(x) or jnp.iscomplexobj(x):
                raise TypeError(
                    f"the argument {name!r} of {line([stage])} must be one real number, got {_described(x)}."
                )
            numbers[name] = jnp.asarray(x)
    return trees, numbers


def _described(x):
    return describe(x) if hasattr(x, "dtype") else repr(x)


known_rules: dict[str, Callable] = {}
"""Rule name -> function that builds it, to say whose state was given. The catalogue fills it."""


def _check_state(stages, grads, state):
    if not isinstance(state, RuleState):
        raise TypeError(_no_state(grads, state))
    expected, given = _names(stages), (set(state.slots), set(state.scalars))
    if given != expected:
        owners = [name for name in known_rules if _names_of(name) == given]
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
    return {slot.name for slot in slots_of(stages)}, set(scalar_slots(stages))


@functools.cache
def _names_of(rule):
    return _names(known_rules[rule]().stages)


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


def _check_leaves(path, stages, storages, active, gs, ps, kept):
    """Gradients, parameters and slots agree leaf by leaf, in shape and dtype."""
    import chex  # here, as importing it takes long

    both = [i for i, (g, p) in enumerate(zip(gs, ps, strict=True)) if not (is_absent(g) or is_absent(p))]
    try:
        chex.assert_trees_all_equal_shapes([gs[i] for i in both], [ps[i] for i in both])
    except AssertionError:
        i = next(i for i in both if gs[i].shape != ps[i].shape)
        raise _of_other_shape(path(i), gs[i], "parameter", ps[i]) from None
    models = [_model(path, i, gs[i], ps[i], kept) for i in range(len(gs))]
    here = [i for i, model in enumerate(models) if model is not None]

    @functools.cache
    def layout(number, which, shape, dtype, path):
        pairs = slots_at(stages[number], which, shape)
        return {slot.name: storage_of(storages, slot).layout(s, slot_dtype(slot, dtype), path) for slot, s in pairs}

    chooses = any(getattr(storage, "where", None) is not None for _, storage in storages)
    of = {i: path(i) if chooses else None for i in here}

    for number, stage in enumerate(stages):
        if not stage.slots:
            continue
        expected = [layout(number, active[i][number], models[i].shape, models[i].dtype, of[i]) for i in here]
        given = [{slot.name: kept[slot.name][i] for slot in stage.slots} for i in here]
        try:
            chex.assert_trees_all_equal_shapes_and_dtypes(expected, given)
        except AssertionError:
            for i, wanted, got in zip(here, expected, given, strict=True):
                for slot in stage.slots:
                    _check_slot(path(i), slot, storage_of(storages, slot), gs[i], wanted[slot.name], got[slot.name])


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
