"""Gradient transformations one after the other."""

import functools
from typing import Any

import jax
import optax

from adamx.annotations import Tree
from adamx.rule import RuleTree
from adamx.stages.base import Stage


class Chain(RuleTree):
    """Transformations applied one after the other; see `chain`.

    Attributes:
      parts: The transformations, in order.
    """

    def __new__(cls, parts: tuple[optax.GradientTransformation, ...]) -> "Chain":
        """Unchecked; JAX calls it with placeholders. Use `chain`."""
        self = super().__new__(cls, functools.partial(_init, parts), functools.partial(_update, parts))
        self.parts = parts
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of all rules in it, in order."""
        return stages_of(self.parts)

    def trace(
        self, grads: Tree, state: tuple[Any, ...], params: Tree = None, **extra: Any
    ) -> tuple[Tree, tuple[Any, ...], tuple[Any, ...]]:
        """`update`, and a look inside its rules. What is not read of it costs nothing once compiled.

        Args:
          grads, state, params: As in `update`.
          **extra: Further arguments for the Optax transformations that take them, as `update` passes them on.

        Returns:
          updates, state, and a tuple with an entry for each part: what the part's own `trace` shows (signals of a rule, measures of a
          probed rule, a tuple of a chain), None for an Optax transformation.

        The learning rate of every step, to be logged:

        >>> tx = chain(optax.clip_by_global_norm(1.0), adamw(optax.linear_schedule(0.25, 0.0, transition_steps=2)))
        >>> params = {"w": jnp.array([3.0, -4.0])}
        >>> def step(state, grads):
        ...     updates, state, (_, signals) = tx.trace(grads, state, params)
        ...     return state, signals.lr
        >>> _, rates = jax.lax.scan(step, tx.init(params), {"w": jnp.ones((3, 2))})
        >>> print(rates)
        [0.25  0.125 0.   ]
        """
        _check_state(self.parts, state)
        states, shown = [], []
        for part, inner in zip(self.parts, state, strict=True):
            grads, inner, seen = traced(part, grads, inner, params, extra)
            states.append(inner)
            shown.append(seen)
        return grads, tuple(states), tuple(shown)

    def __repr__(self):
        return f"chain({', '.join(map(show, self.parts))})"

    def __reduce__(self):
        return Chain, (self.parts,)


def chain(*transformations: optax.GradientTransformation) -> Chain:
    """Applies rules and Optax transformations one after the other, as `optax.chain`, and stays a pytree of the rules' hyperparameters.

    Args:
      *transformations: `UpdateRule`s, probed ones, other chains, Optax transformations (which are structure: compared by identity, no
        leaves).

    Returns:
      A gradient transformation; its state is the tuple of the parts' states, as Optax's. Its `trace` looks inside the rules, its `get`
      finds a stage among theirs.

    Raises:
      TypeError: nothing, or something that is no gradient transformation.

    >>> tx = chain(optax.clip_by_global_norm(1.0), adam(0.1))
    >>> jax.tree.leaves(tx)[-1]
    0.1
    >>> tx.get(LearningRate)
    LearningRate(learning_rate=0.1)
    """
    if not transformations:
        raise TypeError("chain takes one or more gradient transformations, got none; optax.identity() does nothing.")
    check_parts("chain", transformations)
    return Chain(tuple(transformations))


def check_parts(what, parts):
    """Raises TypeError, naming `what` takes them, if one of `parts` is no gradient transformation."""
    for part in parts:
        if not isinstance(part, optax.GradientTransformation):
            raise TypeError(
                f"{what} takes gradient transformations, got {part!r}; stages are put together with update_rule."
            )


def stages_of(parts):
    """The stages of all rules among `parts`, in order."""
    return tuple(stage for part in parts if isinstance(part, RuleTree) for stage in part.stages)


def show(part):
    """A part for the printed line: a rule as its stages, an Optax transformation by its name."""
    return repr(part) if isinstance(part, RuleTree) else getattr(part.update, "__qualname__", "optax").split(".")[0]


def _init(parts, params):
    return optax.chain(*parts).init(params)


def _update(parts, updates, state, params=None, **extra):
    """`optax.chain`'s `update`: the updates of the last part, and the tuple of new states."""
    _check_state(parts, state)
    return optax.chain(*parts).update(updates, state, params, **extra)


def _check_state(parts, state):
    several = type(state) in (tuple, list)
    if not several or len(state) != len(parts):
        got = f"one of {len(state)}" if several else f"{type(state).__name__}"
        raise ValueError(
            f"the state of a chain of {len(parts)} is the tuple of its parts' states, as init makes it; got {got}. "
            "A rule's own state goes into a chain as the entry of that rule."
        )


def traced(part, grads, state, params, extra):
    """Updates, state, and what there is to see in one part."""
    if isinstance(part, RuleTree):
        return part.trace(grads, state, params, **extra)
    return updated(part, grads, state, params, extra)


def children(parts):
    """Rules, which are trees; and in their places None, where there are Optax's transformations, which are structure."""
    rules = tuple(part if isinstance(part, RuleTree) else None for part in parts)
    return rules, tuple(None if isinstance(part, RuleTree) else part for part in parts)


def together(fixed, children):
    """The parts, from what `children` made of them."""
    return tuple(child if part is None else part for part, child in zip(fixed, children, strict=True))


def updated(part, grads, state, params, extra):
    """Updates and state of one part, and None: nothing to see."""
    updates, state = optax.with_extra_args_support(part).update(grads, state, params, **extra)
    return updates, state, None


jax.tree_util.register_pytree_node(
    Chain, lambda tx: children(tx.parts), lambda fixed, children: Chain(together(fixed, children))
)
