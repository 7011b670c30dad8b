"""Gradient transformations made of several."""

import jax
import optax

from adamx.rule import UpdateRule
from adamx.structure import tree_hash, trees_equal


class Chain(optax.GradientTransformationExtraArgs):
    """Transformations applied one after the other; see `chain`.

    Attributes:
      parts: The transformations, in order.
    """

    def __new__(cls, parts):
        """Unchecked; use `chain`."""
        init, update = optax.chain(*parts)
        self = super().__new__(cls, init, update)
        self.parts = parts
        return self

    def __repr__(self):
        shown = (
            repr(part) if _is_tree(part) else getattr(part.update, "__qualname__", "optax").split(".")[0]
            for part in self.parts
        )
        return f"chain({', '.join(shown)})"

    def __reduce__(self):
        return Chain, (self.parts,)

    __eq__ = trees_equal
    __hash__ = tree_hash

    def __ne__(self, other):
        return not self == other


def chain(*transformations):
    """Applies rules and Optax transformations one after the other, as `optax.chain`, and stays a pytree of the rules' hyperparameters.

    Args:
      *transformations: `UpdateRule`s, other chains, Optax transformations (which are structure: compared by identity, no leaves).

    Returns:
      A gradient transformation; its state is the tuple of the parts' states, as Optax's.

    >>> tx = chain(optax.clip_by_global_norm(1.0), adam(0.1))
    >>> jax.tree.leaves(tx)[-1]
    0.1
    """
    for part in transformations:
        if not isinstance(part, optax.GradientTransformation):
            raise TypeError(
                f"chain takes gradient transformations, got {part!r}; stages are put together with update_rule."
            )
    return Chain(tuple(transformations))


def _is_tree(part):
    return isinstance(part, (UpdateRule, Chain))


def _flatten(tx):
    children = tuple(part if _is_tree(part) else None for part in tx.parts)
    return children, tuple(None if _is_tree(part) else part for part in tx.parts)


def _unflatten(fixed, children):
    return Chain(tuple(child if part is None else part for part, child in zip(fixed, children, strict=True)))


jax.tree_util.register_pytree_node(Chain, _flatten, _unflatten)
