"""Checks, when a rule is built, that its stages fit together; and how a line of stages is searched and edited."""

import dataclasses

import jax
import optax

from adamx.signal import FIELDS
from adamx.stages.base import Masked, Stage, Wrapper
from adamx.storage import Float32
from adamx.structure import is_node, plain_fields

GIVEN = frozenset({"t", "p", "g", "raw"})
"""Fields of the signal that are there before the first stage."""


class WiringError(ValueError):
    """The stages of a rule do not fit together."""


def check(stages, storages):
    """Raises TypeError or WiringError, with what is wrong, where, and what to do, if `stages` are not a rule."""
    if not stages:
        raise WiringError(
            "a rule needs at least one stage, for example update_rule(TakeGradient(), LearningRate(0.1))."
        )
    for stage in stages:
        _check_type(stage)
    written = set(GIVEN) | {name for stage in stages for name in stage.extras}
    for position, stage in enumerate(stages, start=1):
        _check_fields(stage, position, written)
        written |= stage.writes
    if "u" not in written:
        raise WiringError(
            f"no stage writes `u`, the update. Written: {_fields(written)}. End the line with {_writers('u')} (and a LearningRate)."
        )
    _check_used(stages)
    _check_unique(stages)
    owned = {slot.name: slot for slot in slots_of(stages)}
    for name, storage in storages:
        if name == "params":
            continue
        if name not in owned:
            raise WiringError(f"the rule has no slot {name!r} to store; its slots are {_fields(owned)}.")
        if owned[name].precise and storage != Float32():
            raise ValueError(
                f"slot {name!r} loses what it is for when it is rounded (a copy or an average of the parameters, a sum, a basis): keep it "
                "as Float32()."
            )
        storage.check(owned[name])


def hindrance(stage):
    """Why the work of a stage on a leaf cannot be done part by part; None if it can."""
    if stage.sums or not stage.elementwise:
        return "needs norms or other sums before it can go on"
    return "asks for random bits" if stage.random else None


def check_fusable(stages):
    """Raises WiringError, naming the stage, if a line cannot be run as one kernel."""
    for position, stage in enumerate(stages, start=1):
        if hindrance(stage):
            raise WiringError(
                f"{name_of(stage)} (stage {position}) {hindrance(stage)}, which one kernel over parts of a leaf cannot give it: this rule "
                "is not fused. Its step is XLA's, leaf by leaf, with any storage."
            )


def slots_of(stages):
    """All slots of a line, in order."""
    return [slot for stage in stages for slot in stage.slots]


def found(stages, kind):
    """The one stage of type `kind`, at the top or wrapped in another."""
    _check_kind(kind)
    return _one([stage for top in stages for stage in nested(top) if isinstance(stage, kind)], kind, stages)


def replaced(stages, kind, new):
    """`stages` with the one stage of type `kind`, at the top or wrapped in another, replaced by `new`."""
    found(stages, kind)

    def edit(stage):
        if isinstance(stage, kind):
            return new
        return dataclasses.replace(stage, inner=edit(stage.inner)) if isinstance(stage, Wrapper) else stage

    return tuple(edit(stage) for stage in stages)


def position_of(stages, kind):
    """Index of the one stage that is, or wraps, a `kind`."""
    _check_kind(kind)
    return _one([i for i, top in enumerate(stages) if any(isinstance(s, kind) for s in nested(top))], kind, stages)


def nested(stage):
    """The stage and those it wraps."""
    yield stage
    if isinstance(stage, Wrapper):
        yield from nested(stage.inner)


def _check_kind(kind):
    if not (isinstance(kind, type) and issubclass(kind, Stage)):
        raise TypeError(f"a stage is named by its type, as adamx.Momentum, got {kind!r}.")


def _one(candidates, kind, stages):
    if len(candidates) != 1:
        count = "no" if not candidates else f"{len(candidates)} times a"
        raise WiringError(
            f"the rule has {count} {kind.__name__}: {line(stages) or 'no stages'}. Name the type of a stage that it has once."
        )
    return candidates[0]


def line(stages):
    """The stages as they are printed, in a line."""
    return " | ".join(repr(stage) for stage in stages)


def _check_type(stage):
    if isinstance(stage, Stage):
        return _check_definition(stage)
    if isinstance(stage, type) and issubclass(stage, Stage):
        raise TypeError(f"update_rule takes stages, got the class {stage.__name__}: write {stage.__name__}(...).")
    if isinstance(stage, optax.GradientTransformation):
        raise TypeError(
            "update_rule takes stages, got a gradient transformation: put whole transformations together with adamx.chain."
        )
    raise TypeError(f"update_rule takes stages, got {stage!r}.")


def _check_definition(stage):
    """What a class of stages can have wrong."""
    cls, where = type(stage), type(stage).__name__
    if not is_node(cls):
        raise TypeError(
            f"{where} is no stage yet: write @stage above its class, which makes it a dataclass and a pytree."
        )
    for inner in nested(stage):
        for name, value in plain_fields(inner):
            for leaf in jax.tree.leaves(value):
                if isinstance(leaf, bool | str) or callable(leaf):
                    kind = "schedule" if callable(leaf) else "flag" if isinstance(leaf, bool) else "string"
                    raise TypeError(
                        f"{type(inner).__name__}: {name} holds {leaf!r}, a {kind}, in a field that JAX traces. "
                        + (
                            "Annotate the field as Number, NonNegative, Positive or Decay, which take schedules."
                            if kind == "schedule"
                            else f"Make it structure: {name}: {type(leaf).__name__} = static(default=...)."
                        )
                    )
    taken = (set(stage.extras) | set(stage.scalar_extras)) & (set(FIELDS) | {"own", "params", "grads", "state"})
    if taken:
        raise WiringError(
            f"{where} asks for the argument {_fields(taken)}, which is a field of every signal: name it otherwise."
        )


def _check_fields(stage, position, written):
    name = f"{name_of(stage)} (stage {position})"
    for field in sorted(stage.reads - written):
        if isinstance(stage, Masked) and field not in stage.inner.reads:
            raise WiringError(
                f"{name} would write `{field}` on some leaves only, and no stage before it writes it for the others. "
                "Mask stages that modify a field, not the one that writes it first."
            )
        raise WiringError(
            f"{name} reads `{field}`, which no stage before it writes. Written so far: {_fields(written)}. "
            f"Put a stage that writes `{field}` before it: {_writers(field)}."
        )
    for field in sorted(stage.before & written):
        raise WiringError(
            f"{name} must stand before the stage that writes `{field}` ({_writers(field)}), but comes after it."
        )


def _check_used(stages):
    needed = {"u"}
    for position, stage in reversed(list(enumerate(stages, start=1))):
        if not stage.writes & needed:
            raise WiringError(
                f"{name_of(stage)} (stage {position}) writes {_fields(stage.writes)}, which no stage after it reads. "
                f"Move it before the stage that should see it, or leave it out. Read after it: {_fields(needed)}."
            )
        needed = (needed - stage.writes) | stage.reads


def _check_unique(stages):
    for kind, names in (
        ("slot", [(slot.name, stage) for stage in stages for slot in stage.slots]),
        ("scalar", [(name, stage) for stage in stages for name in stage.scalar_slots]),
    ):
        owner = {}
        for name, stage in names:
            if name in owner:
                raise WiringError(
                    f"{kind} {name!r} belongs to both {name_of(owner[name])} and {name_of(stage)}; "
                    "each name is unique in a rule. Keep one of the two stages, or give one of them other slot names in a subclass."
                )
            owner[name] = stage


def name_of(stage):
    """The type of a stage, and of those it wraps, for messages."""
    return f"{type(stage).__name__}({name_of(stage.inner)})" if isinstance(stage, Wrapper) else type(stage).__name__


def _fields(names):
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"


def _writers(field):
    """Names of the package's stages that write `field`, for messages."""

    def below(cls):
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    own = [c for c in below(Stage) if c.__module__.startswith(Stage.__module__.partition(".")[0] + ".") and is_node(c)]
    names = {c.__name__ for c in own if not isinstance(c.writes, property) and field in c.writes}
    return ", ".join(sorted(names)) or "(no stage of adamx does)"
