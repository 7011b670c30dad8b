"""How Optax keeps the state of a rule: its tree, written from a `RuleState`, and read."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adamx.execution import rounding_of
from adamx.groups import Partition, PartitionState
from adamx.hyperparameters import Scheduled, at_count
from adamx.interop.optax_marks import Constant, Count, Covers, Negative, Scalars
from adamx.interop.optax_table import ROWS, reader, refusal, schedule_free
from adamx.numerics import compute_dtype, real_dtype
from adamx.rounding import Nearest
from adamx.rule import RuleTree, UpdateRule
from adamx.stages import LearningRate, ScheduleFree
from adamx.state import DIFFERENTIABLE, RuleState, scalar_slots, slot_dtype, storage_of
from adamx.storage import Cast, Float32
from adamx.transforms import Chain
from adamx.wiring import line, slots_of


class Form(NamedTuple):
    """How Optax keeps the state of a line of stages. The counts of a form are those in the pattern, in order.

    Attributes:
      rule: The rule.
      pattern: Optax's tree, with what `optax_marks` puts in the place of arrays.
      count_of: For each stage, the number of its count; None for none.
    """

    rule: UpdateRule
    pattern: Any
    count_of: tuple

    @property
    def marks(self):
        """The counts' places in the pattern."""
        return [mark for mark in jax.tree.leaves(self.pattern) if isinstance(mark, Count)]

    @property
    def lacks_count(self):
        """Whether the random bits of rounding would need a count that is not there."""
        return not self.marks and not isinstance(rounding_of(self.rule.storages), Nearest)

    def counts_in(self, state):
        """The counts for a `RuleState`."""
        return [state.count] * len(self.marks)

    def write(self, state, counts):
        """Optax's tree for a `RuleState` and counts."""
        counts = iter(_apart(counts))

        def value(mark):
            if isinstance(mark, Count):
                return next(counts) + mark.first if mark.first else next(counts)
            if isinstance(mark, Scalars):
                return state.scalars[mark.names[0]]
            if isinstance(mark, Constant):
                return jnp.asarray(mark.value, state.scalars[mark.like].dtype if mark.like else None)
            return mark.split(state.slots) if isinstance(mark, Covers | Negative) else state.slots[mark]

        return jax.tree.map(value, self.pattern)

    def read(self, opt_state):
        """The `RuleState` in Optax's tree, its count the first of them, and the counts."""
        marks, structure = jax.tree.flatten(self.pattern)
        try:
            # As Optax's chains, which take lists.
            parts = structure.flatten_up_to(tuple(opt_state) if type(opt_state) is list else opt_state)
        except ValueError:
            raise ValueError(
                f"the state of {line(self.rule.stages)} in Optax's layout is {shown(self.pattern)}, got {shown(opt_state)}."
            ) from None
        found = list(zip(marks, parts, strict=True))
        slots = {mark: tree for mark, tree in found if isinstance(mark, str)}
        slots |= {mark.name: mark.joined(tree, slots) for mark, tree in found if isinstance(mark, Covers | Negative)}
        slots = self._kept(slots)
        counts = [count - mark.first if mark.first else count for mark, count in found if isinstance(mark, Count)]
        scalars = dict.fromkeys(scalar_slots(self.rule.stages), 0)
        for mark, value in found:
            scalars |= dict.fromkeys(mark.names, value) if isinstance(mark, Scalars) else {}
        scalars |= {mark.scalar: count for mark, count in zip(self.marks, counts, strict=True) if mark.scalar}
        dtype = real_dtype(compute_dtype(*{x.dtype for x in jax.tree.leaves(slots) if _is_array(x)}))
        scalars = {name: jnp.asarray(value).astype(dtype) for name, value in scalars.items()}
        return RuleState(counts[0] if counts else jnp.zeros([], jnp.int32), scalars, slots), counts

    def _kept(self, slots):
        """The slots as the rule keeps them, for parameters as wide as the widest of a leaf's."""
        found = slots_of(self.rule.stages)
        if not found:
            return {}
        structure = jax.tree.structure(slots[found[0].name])
        columns = {slot: structure.flatten_up_to(slots[slot.name]) for slot in found}
        for i in range(structure.num_leaves):
            of_leaf = compute_dtype(*{column[i].dtype for column in columns.values() if _is_array(column[i])})
            for slot, column in columns.items():
                column[i] = self._as_kept(slot, column[i], of_leaf) if _is_array(column[i]) else column[i]
        return {slot.name: jax.tree.unflatten(structure, column) for slot, column in columns.items()}

    def _as_kept(self, slot, x, dtype):
        x = x if slot.signed or not jnp.iscomplexobj(x) else jnp.real(x)
        wanted = storage_of(self.rule.storages, slot).layout(jnp.shape(x), slot_dtype(slot, dtype), "").dtype
        return x if x.dtype == wanted else x.astype(wanted)

    def at(self, counts):
        """The rule with every schedule evaluated at its own count."""
        stages = tuple(
            stage if of is None else at_count(stage, counts[of])
            for stage, of in zip(self.rule.stages, self.count_of, strict=True)
        )
        return UpdateRule(stages, self.rule.storages, self.rule.kernel)


class ChainForm(NamedTuple):
    """The same for a chain: the tuple of its parts'. Optax's transformations, whose form is None, keep their states."""

    forms: tuple
    parts: tuple

    @property
    def lacks_count(self):
        """Whether any of its parts does."""
        return any(form.lacks_count for form in self.forms if form)

    def counts_in(self, state):
        """The counts for a state."""
        return [form and form.counts_in(inner) for form, inner in zip(self.forms, state, strict=True)]

    def write(self, state, counts):
        """Optax's tree for a state and counts."""
        parts = zip(self.forms, state, counts, strict=True)
        return tuple(form.write(inner, own) if form else inner for form, inner, own in parts)

    def read(self, opt_state):
        """The state, and the counts."""
        if not isinstance(opt_state, tuple | list) or len(opt_state) != len(self.parts):
            raise ValueError(
                f"the state of a chain of {len(self.parts)} is the tuple of its parts' states, got {shown(opt_state)}."
            )
        pairs = [form.read(inner) if form else (inner, None) for form, inner in zip(self.forms, opt_state, strict=True)]
        return tuple(state for state, _ in pairs), [counts for _, counts in pairs]

    def at(self, counts):
        """The chain with every schedule evaluated."""
        parts = zip(self.forms, self.parts, counts, strict=True)
        return Chain(tuple(form.at(own) if form else part for form, part, own in parts))


class PartitionForm(NamedTuple):
    """The same for a partition: Optax's `PartitionState` of its parts', each in a `MaskedState`."""

    inner: ChainForm
    partition: Partition

    @property
    def lacks_count(self):
        """Whether any of its parts does."""
        return self.inner.lacks_count

    def counts_in(self, state):
        """The counts for a state."""
        return self.inner.counts_in([state.inner_states[label] for label in self.partition.parts])

    def write(self, state, counts):
        """Optax's tree for a state and counts."""
        parts = self.inner.write([state.inner_states[label] for label in self.partition.parts], counts)
        masked = {label: optax.MaskedState(part) for label, part in zip(self.partition.parts, parts, strict=True)}
        return optax.transforms.PartitionState(masked)

    def read(self, opt_state):
        """The state, and the counts."""
        labels = tuple(self.partition.parts)
        inner = getattr(opt_state, "inner_states", None)
        if not isinstance(inner, dict) or set(inner) != set(labels):
            raise ValueError(
                f"the state of a partition in Optax's layout is a PartitionState of {', '.join(map(repr, labels))}, got {shown(opt_state)}."
            )
        states, counts = self.inner.read([getattr(inner[label], "inner_state", inner[label]) for label in labels])
        return PartitionState(dict(zip(labels, states, strict=True))), counts

    def at(self, counts):
        """The partition with every schedule evaluated."""
        parts = self.inner.at(counts).parts
        return Partition(dict(zip(self.partition.parts, parts, strict=True)), self.partition.labels)


def form_of(rule):
    """How Optax keeps the state of a rule, chain or partition.

    Raises:
      TypeError: something else.
      ValueError: Optax does not have it, or its state means something else.
    """
    if isinstance(rule, UpdateRule):
        return _form_of_line(rule)
    if isinstance(rule, Chain):
        return ChainForm(
            tuple(form_of(part) if isinstance(part, RuleTree) else None for part in rule.parts), rule.parts
        )
    if isinstance(rule, Partition):
        return PartitionForm(form_of(Chain(tuple(rule.parts.values()))), rule)
    raise TypeError(f"expected a rule, a chain or a partition, as adamx.adam(1e-3), got {rule!r}.")


def _form_of_line(rule):
    stages = rule.stages
    why = refusal(stages) or _storage_refusal(rule)
    if why:
        raise ValueError(f"{line(stages)} has no state of Optax's: {why}.")
    around = stages and isinstance(stages[-1], ScheduleFree)
    states, count_of = _parsed(stages, stages[:-1] if around else stages)
    pattern = states[0] if len(states) == 1 else tuple(states)
    if around:
        pattern, count_of = schedule_free(stages[-1], pattern), [None if i is None else i + 1 for i in count_of] + [0]
    form = Form(rule, pattern, tuple(count_of))
    for stage, own in zip(stages, count_of, strict=True):
        if own is None and any(isinstance(h, Scheduled) for h in jax.tree.leaves(stage, is_leaf=_is_scheduled)):
            raise ValueError(
                f"{line(stages)} has no state of Optax's: it would have no count for the schedule in {stage!r}."
            )
    return form


def _is_scheduled(node):
    return isinstance(node, Scheduled)


def _parsed(whole, stages):
    """Optax's states for a line, and for each stage the number of its count."""
    states, closing, count_of, seen = [], (), [], 0
    while len(count_of) < len(stages):
        start = len(count_of)
        rows = [row for row in ROWS if row.matches(stages[start : start + len(row.line)], stages)]
        if not rows:
            raise ValueError(
                f"{line(whole)} has no state of Optax's: from stage {start + 1} on, {stages[start]!r}, it is no part of Optax's optimizers."
            )
        row = max(rows, key=lambda row: len(row.line))
        part = stages[start : start + len(row.line)]
        try:
            own = row.states(*part)
        except AttributeError as error:
            if error.obj is not optax.contrib:
                raise
            why = f"Optax {optax.__version__} does not have {error.name}; later ones do"
            raise ValueError(f"{line(whole)} has no state of Optax's: {why}.") from None
        readers = [mark.of for mark in jax.tree.leaves(own) if isinstance(mark, Count)]
        for stage in part:
            of = [i for i, name in enumerate(readers) if name == reader(stage)] or range(len(readers))
            count_of.append(seen + of[0] if of else None)
        states, closing, seen = [*states, *own], row.closing or closing, seen + len(readers)
    has_rate = any(isinstance(stage, LearningRate) for stage in stages)
    first = 0 if seen else None
    return states + list(closing if has_rate else ()), [first if i is None else i for i in count_of]


def _storage_refusal(rule):
    for slot in slots_of(rule.stages):
        storage = storage_of(rule.storages, slot)
        if type(storage) not in (Float32, Cast):
            return f"{slot.name} is kept as {storage!r}, and there it is an array like the parameter"
    return None


def _is_array(x):
    return getattr(x, "dtype", None) in DIFFERENTIABLE


def _apart(counts):
    """The counts in buffers of their own, or the state could not be donated."""
    return [count if i == 0 or not isinstance(count, jax.Array) else jnp.array(count) for i, count in enumerate(counts)]


def shown(tree):
    """A state by the names of its types."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        inner = [shown(x) for x in tree if isinstance(x, tuple)]
        return type(tree).__name__ + (f"({', '.join(inner)})" if inner else "")
    if isinstance(tree, tuple | list):
        return f"({', '.join(map(shown, tree))})"
    return type(tree).__name__
