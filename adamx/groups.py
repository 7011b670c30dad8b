"""A transformation for each group of leaves."""

import functools
from typing import Any, NamedTuple

import jax
import optax

from adamx.annotations import Tree
from adamx.rounding import Rounding
from adamx.rule import RuleTree, UpdateRule
from adamx.stages.base import Stage
from adamx.storage import Storage
from adamx.structure import is_absent, leaves_like, path_of, spread
from adamx.transforms import check_parts, children, show, stages_of, together, traced, updated
from adamx.wiring import slots_of


class PartitionState(NamedTuple):
    """State of a partition.

    Attributes:
      inner_states: Label -> the state of the transformation for it; the leaves of other labels are `optax.MaskedNode`s there.
    """

    inner_states: dict[Any, Any]


class Partition(RuleTree):
    """A transformation for each group of leaves; see `partition`.

    Attributes:
      parts: Label -> transformation.
      labels: A function from the parameters to a tree of labels, or such a tree flattened.
    """

    def __new__(cls, parts: dict[Any, optax.GradientTransformation], labels: Any) -> "Partition":
        """Unchecked; JAX calls it with placeholders. Use `partition`."""
        self = super().__new__(
            cls, functools.partial(_init_each, parts, labels), functools.partial(_update_each, parts, labels)
        )
        self.parts, self.labels = parts, labels
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of all rules in it, in order."""
        return stages_of(self.parts.values())

    def trace(
        self, grads: Tree, state: PartitionState, params: Tree = None, **extra: Any
    ) -> tuple[Tree, PartitionState, dict[Any, Any]]:
        """`update`, and a look inside.

        Returns:
          updates, state, and label -> what the part's own `trace` shows (None for an Optax transformation); the leaves of other labels are
          None there.
        """
        return _each(traced, self.parts, self.labels, grads, state, params, extra)

    def step(self, grads: Tree, state: PartitionState, params: Tree, **extra: Any) -> tuple[Tree, PartitionState]:
        """Update and apply in one, as of an `UpdateRule`: the new parameters, and the state."""
        return _each(_stepped, self.parts, self.labels, grads, state, params, extra)[:2]

    def store(self, storage: Storage | None = None, /, **storages: Storage | Rounding) -> "Partition":
        """A new partition whose rules keep their slots otherwise: each rule the named slots that it has, as `UpdateRule.store` does.

        Raises:
          ValueError: a slot that no rule in it has.
        """
        rules = {label: part for label, part in self.parts.items() if isinstance(part, UpdateRule | Partition)}
        slots = {label: {slot.name for slot in slots_of(rule.stages)} | {"params"} for label, rule in rules.items()}
        if unknown := storages.keys() - set().union(*slots.values()):
            raise ValueError(
                f"no rule of this partition has a slot {', '.join(map(repr, sorted(unknown)))}; their slots are "
                f"{', '.join(sorted(set().union(*slots.values()) - {'params'})) or 'none'}."
            )
        kept = {
            label: rule.store(storage, **{name: how for name, how in storages.items() if name in slots[label]})
            for label, rule in rules.items()
        }
        return Partition(self.parts | kept, self.labels)

    def __repr__(self):
        return f"partition({', '.join(f'{label}: {show(part)}' for label, part in self.parts.items())})"

    def __reduce__(self):
        return Partition, (self.parts, self.labels)


def partition(transforms: dict[Any, optax.GradientTransformation], param_labels: Any) -> Partition:
    """A transformation for each group of leaves, as `optax.partition`; it stays a pytree of the rules' hyperparameters.

    Args:
      transforms: Label -> `UpdateRule`, chain, partition or Optax transformation. A label is a string (or any other hashable leaf).
      param_labels: A tree of labels with the parameters' structure or a prefix of it, or a function from the parameters to one.

    Returns:
      A gradient transformation with `update`, `trace` and `step`. Each part sees the leaves of its label only: sums over the tree are over
      those. A leaf without a gradient (None) gets None.

    Raises:
      TypeError: something that is no dict of gradient transformations.
      ValueError: when it is run: a leaf whose label has no transformation.

    A smaller learning rate, and no decay, for biases and scales:

    >>> def kind(params):
    ...     return jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "vector", params)
    >>> tx = partition({"matrix": adamw(0.1, weight_decay=0.1), "vector": adam(0.01)}, kind)
    >>> params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> print(updates["w"][0].round(4), updates["b"].round(4))
    [-0.11 -0.11] [-0.01 -0.01]
    """
    if not isinstance(transforms, dict) or not transforms:
        raise TypeError(f"partition takes a dict, label -> gradient transformation, got {transforms!r}.")
    check_parts("partition", transforms.values())
    if not callable(param_labels):
        values, structure = jax.tree.flatten(param_labels)
        param_labels = (tuple(values), structure)
    return Partition(dict(transforms), param_labels)


def _labels_of(parts, labels, structure, leaves):
    found = spread(labels, structure, leaves, "the tree of labels")
    for i, label in enumerate(found):
        if label not in parts:
            raise ValueError(
                f"{path_of(structure, leaves, i)} has the label {label!r}, for which there is no transformation; the labels are "
                f"{', '.join(map(repr, parts))}."
            )
    return found


def _only(structure, leaves, found, label):
    """The tree of those leaves whose label is `label`."""
    return jax.tree.unflatten(
        structure, [leaf if of == label else optax.MaskedNode() for leaf, of in zip(leaves, found, strict=True)]
    )


def _init_each(parts, labels, params):
    leaves, structure = jax.tree.flatten(params, is_leaf=is_absent)
    found = _labels_of(parts, labels, structure, leaves)
    return PartitionState({label: part.init(_only(structure, leaves, found, label)) for label, part in parts.items()})


def _update_each(parts, labels, updates, state, params=None, **extra):
    """The updates, each leaf's of the transformation for its label, and the new state."""
    return _each(updated, parts, labels, updates, state, params, extra)[:2]


def _each(run, parts, labels, grads, state, params, extra):
    """`run(part, grads, state, params, extra)` of each part on its own leaves, and the results put together."""
    if not isinstance(state, PartitionState) or set(state.inner_states) != set(parts):
        raise ValueError(
            f"the state of a partition is the PartitionState that its init made, for the labels {', '.join(map(repr, parts))}; got "
            f"{type(state).__name__}."
        )
    model = grads if params is None else params
    leaves, structure = jax.tree.flatten(model, is_leaf=is_absent)
    found = _labels_of(parts, labels, structure, leaves)
    gs = leaves_like(structure, grads, "the gradients")
    trees = {
        name: leaves_like(structure, tree, f"the leaves of the argument {name!r}")
        if _is_like(structure, tree)
        else None
        for name, tree in extra.items()
    }
    outs, states, shown = list(gs), {}, {}
    for label, part in parts.items():
        own = functools.partial(_only, structure, found=found, label=label)
        mine = {name: own(tree) if tree is not None else extra[name] for name, tree in trees.items()}
        out, states[label], shown[label] = run(
            part, own(gs), state.inner_states[label], None if params is None else own(leaves), mine
        )
        for i, leaf in enumerate(leaves_like(structure, out, "the updates")):
            if found[i] == label:
                outs[i] = leaf
    return jax.tree.unflatten(structure, outs), PartitionState(states), shown


def _is_like(structure, tree):
    """Whether a further argument is a tree like the parameters, of which each part gets its own leaves."""
    try:
        structure.flatten_up_to(tree)
    except ValueError:
        return False
    return structure.num_leaves != 1 or jax.tree.structure(tree) == structure


def _stepped(part, grads, state, params, extra):
    if hasattr(part, "step"):
        return (*part.step(grads, state, params, **extra), None)
    updates, state, _ = updated(part, grads, state, params, extra)
    return optax.apply_updates(params, updates), state, None


def _flatten_partition(tx):
    rules, fixed = children(tx.parts.values())
    return rules, (tuple(tx.parts), fixed, tx.labels)


def _unflatten_partition(aux, children):
    names, fixed, labels = aux
    return Partition(dict(zip(names, together(fixed, children), strict=True)), labels)


jax.tree_util.register_pytree_node(Partition, _flatten_partition, _unflatten_partition)
