"""The work on one leaf: its signal goes down the line of stages, which read and write it and their slots."""

import dataclasses
from collections.abc import Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adamx.numerics import narrow, scaled
from adamx.rounding import Rounding
from adamx.signal import FIELDS, Signal
from adamx.state import slot_dtype, stage_at
from adamx.storage import Storage
from adamx.wiring import WiringError, name_of


@dataclasses.dataclass(frozen=True)
class Plan:
    """Structure of the work on one leaf (hashable): where stages act, how slots are kept, what is wanted.

    Attributes:
      active: What `activity` says of each stage on the leaf.
      storages: (slot name, `Storage`) pairs, of all slots.
      rounding: How the new parameter is rounded; None where the update is wanted.
      wants_signal: Whether the signal is.
      apart: Whether each stage's slots, and the update, are computed in a run of the line of their own.
      kernel: The `Kernel` that works on the leaf; None where XLA does.
    """

    active: tuple
    storages: tuple[tuple[str, Storage], ...]
    rounding: Rounding | None
    wants_signal: bool
    apart: bool = False
    kernel: Hashable = None


class Part(NamedTuple):
    """The stages number `start` to `stop` of a line, run on all leaves before the next part: that one begins with sums over the tree."""

    start: int
    stop: int


class Leaf(NamedTuple):
    """What the work on a leaf starts from, or goes on from.

    Attributes:
      g: Gradient.
      p: Parameter, or None.
      stored: Slot name -> slot as stored.
      keys: Random bits: "params" -> `Dither` of the new parameter, slot name -> that of the slot, number of a stage (a string) -> its key.
      extras: Name -> leaf of a further argument, or None in a step without it.
      signal: The `Signal` after the part before; None at first.
      new: Slot name -> new slot as stored, as far as made.
    """

    g: jax.Array
    p: jax.Array | None
    stored: dict
    keys: dict
    extras: dict
    signal: Signal | None = None
    new: dict | None = None


def per_leaf(plan, part, dtype, stages, scalars, t, leaf):
    """One part of the line on one leaf, in `dtype`.

    Returns:
      After the last part, the update in the gradient's dtype, or, if the plan rounds, the new parameter; the stored slots; the signal, if
      wanted. After another one the signal, the slots stored so far, and the leaf's share of the next stage's sums.
    """
    x, new = (_apart if plan.apart else _run)(plan, part, dtype, stages, scalars, t, leaf)
    if part.stop < len(stages):
        return x, new, _share(plan, part.stop, dict(plan.storages), dtype, stages, scalars, leaf, x)
    if plan.rounding is None:
        out = narrow(x.u, leaf.g.dtype)
    else:
        out = plan.rounding(x.p + x.u, leaf.p.dtype, leaf.keys.get("params"))
    return out, new, x if plan.wants_signal else None


def _run(plan, part, dtype, stages, scalars, t, leaf):
    """The signal after a part of the line, and the slots as stored, as far as made."""
    storages = dict(plan.storages)
    x, new = (_opened(dtype, t, leaf), dict(leaf.stored)) if part.start == 0 else (leaf.signal, dict(leaf.new))
    for i in range(part.start, part.stop):
        if plan.active[i] is not False:
            stage, slots, k = _on_leaf(plan, i, storages, dtype, stages, scalars, leaf)
            written, after = stage(x, slots, k)
            _check_returned(stage, x, written, slots, after)
            x = written
            new |= {
                name: storages[name].encode(value, leaf.stored[name], leaf.keys.get(name))
                for name, value in after.items()
            }
    return x, new


def _apart(plan, part, dtype, stages, scalars, t, leaf):
    """`_run` of a whole line, several times: for the signal, and for the slots of each stage that has some.

    XLA's CPU compiler makes an array of what is needed for two of these, but all of them together in one pass where each is made of what
    was there before the step. So that it does not see that the runs do the same, each has its own numbers, multiplied by a one.
    """
    x, new = _run(plan, part, dtype, stages, scalars, t, _disguised(leaf, t, 0))[0], dict(leaf.stored)
    for i, stage in enumerate(stages):
        if stage.slots and plan.active[i] is not False:
            made = _run(plan, Part(0, i + 1), dtype, stages, scalars, t, _disguised(leaf, t, i + 1))[1]
            new |= {slot.name: made[slot.name] for slot in stage.slots}
    return x, new


def _disguised(leaf, t, run):
    one = jnp.where(t > -run, 1, t)

    def times_one(a):
        return scaled(one, a) if jnp.issubdtype(a.dtype, jnp.floating) else a

    g, p, stored = jax.tree.map(times_one, (leaf.g, leaf.p, leaf.stored))
    return leaf._replace(g=g, p=p, stored=stored)


def _opened(dtype, t, leaf):
    """The signal before the first stage."""
    raw = leaf.g.astype(dtype)
    x = Signal(t=t, g=raw, raw=raw, p=None if leaf.p is None else leaf.p.astype(dtype))
    extras = {name: None if a is None else a.astype(dtype) for name, a in leaf.extras.items()}
    return x.write(**extras) if extras else x


def _on_leaf(plan, i, storages, dtype, stages, scalars, leaf):
    """Stage number `i` as it is on a leaf, with its slots and scalars there."""
    stage = stage_at(stages[i], plan.active[i])
    slots = {s.name: storages[s.name].decode(leaf.stored[s.name], slot_dtype(s, dtype)) for s in stage.slots}
    return stage, slots, scalars[i] | {"key": leaf.keys[str(i)]} if stage.random else scalars[i]


def _share(plan, i, storages, dtype, stages, scalars, leaf, x):
    if plan.active[i] is False:
        return {name: jnp.zeros([], jnp.finfo(dtype).dtype) for name in stages[i].sums}
    stage, slots, k = _on_leaf(plan, i, storages, dtype, stages, scalars, leaf)
    share = {name: jnp.asarray(value) for name, value in stage.measure(x, slots, k).items()}
    wrong = [name for name, value in share.items() if value.ndim or jnp.iscomplexobj(value)]
    if set(share) != set(stage.sums) or wrong:
        raise WiringError(
            f"{name_of(stage)}: measure must return a real scalar for each of its sums, {_names(stage.sums)}; it returned "
            f"{', '.join(f'{name} of shape {value.shape}' for name, value in share.items()) or 'none'}."
        )
    return share


# What a stage returns, checked when it is traced


AS_GRADIENT = ("g", "m", "mu", "u")
"""Fields that have the gradient's shape; `v` and `d` may be scalars, or have axes of length 1 instead."""


def _check_returned(stage, before, after, slots, new):
    """Raises WiringError if a stage returned other slots or fields, or others of shape, than it declares."""
    if not isinstance(after, Signal) or not isinstance(new, dict):
        raise WiringError(
            f"{name_of(stage)} must return the signal and a dict of its slots, got {type(after).__name__}, {type(new).__name__}."
        )
    if set(new) != set(slots):
        raise WiringError(f"{name_of(stage)} returned the slots {_names(new)}; it declares {_names(slots)}.")
    for name, value in new.items():
        if jnp.shape(value) != slots[name].shape:
            raise WiringError(
                f"{name_of(stage)} returned slot {name!r} in shape {jnp.shape(value)}; it is kept in shape {slots[name].shape}."
            )
    written = {name for name in FIELDS if getattr(after, name) is not getattr(before, name)}
    if after.own is not before.own:
        written |= {name for name, value in after.own.items() if value is not before.own.get(name)}
    if not written <= set(stage.writes):
        raise WiringError(
            f"{name_of(stage)} wrote {_names(written - set(stage.writes))}; it declares that it writes {_names(stage.writes)}. "
            "Add the field to its `writes`."
        )
    for name in written.intersection((*AS_GRADIENT, "v", "d")):
        shape, wanted = jnp.shape(getattr(after, name)), after.raw.shape
        if shape != wanted and (name in AS_GRADIENT or not _broadcasts(shape, wanted)):
            others = "" if name in AS_GRADIENT else ", with 1 for axes that share a value, or a scalar"
            raise WiringError(
                f"{name_of(stage)} wrote `{name}` in shape {shape} on a gradient of shape {wanted}: expected that shape{others}."
            )


def _broadcasts(shape, to):
    # Not of fewer axes: the means over rows of a square matrix would pass for those over its columns.
    return not shape or len(shape) == len(to) and all(a in (1, b) for a, b in zip(shape, to, strict=True))


def _names(names):
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"
