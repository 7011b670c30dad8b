"""What is asked of a rule beside its steps: the parameters to evaluate, the size of its state."""

from typing import Any

import jax
import optax

from adamx.annotations import Tree
from adamx.groups import Partition
from adamx.rule import RuleTree, UpdateRule
from adamx.state import slot_dtype, storage_of
from adamx.structure import is_absent, leaves_like
from adamx.transforms import Chain


def eval_params(rule: RuleTree, state: Any, params: Tree) -> Tree:
    """The parameters to evaluate: the average of `schedule_free`, the slow weights of `lookahead`; `params` themselves for other rules.

    Args:
      rule: An `UpdateRule`, a chain or a partition.
      state: Its state.
      params: The parameters that are trained.

    Returns:
      A tree like `params`, in their dtypes.

    Raises:
      TypeError: no rule.

    >>> rule = lookahead(0.1, sync_period=2)
    >>> params = jnp.array([1.0])
    >>> updates, state = rule.update(params, rule.init(params), params)
    >>> [round(float(p[0]), 3) for p in (params + updates, eval_params(rule, state, params + updates))]
    [0.9, 1.0]
    """
    if isinstance(rule, Chain):
        for part, inner in zip(rule.parts, state, strict=True):
            params = eval_params(part, inner, params) if isinstance(part, RuleTree) else params
        return params
    if isinstance(rule, Partition):
        trees = [
            eval_params(part, state.inner_states[label], params)
            for label, part in rule.parts.items()
            if isinstance(part, RuleTree)
        ]
        return jax.tree.map(lambda p, *others: next((o for o in others if o is not p), p), params, *trees)
    if not isinstance(rule, UpdateRule):
        raise TypeError(f"eval_params takes a rule, a chain or a partition, got {type(rule).__name__}.")
    for stage in rule.stages:
        if hasattr(stage, "eval_params"):
            params = _of_stage(stage, rule.storages, state, params)
    return params


def _of_stage(stage, storages, state, params):
    structure = jax.tree.structure(params)
    columns = {slot.name: leaves_like(structure, state.slots[slot.name], f"slot {slot.name!r}") for slot in stage.slots}

    def of_leaf(i, p):
        if is_absent(columns[stage.slots[0].name][i]):
            return p
        wide = slot_dtype(stage.slots[0], p.dtype)
        s = {
            slot.name: storage_of(storages, slot).decode(columns[slot.name][i], slot_dtype(slot, p.dtype))
            for slot in stage.slots
        }
        return stage.eval_params(p.astype(wide), s).astype(p.dtype)

    return jax.tree.unflatten(structure, [of_leaf(i, p) for i, p in enumerate(jax.tree.leaves(params))])


def state_bytes(rule: optax.GradientTransformation, params: Tree) -> int:
    """Bytes that the state of a rule takes for these parameters, which may be abstract; nothing is allocated.

    >>> state_bytes(adam(1e-3), {"w": jnp.zeros(1000)})
    8012
    """
    leaves = jax.tree.leaves(jax.eval_shape(rule.init, params))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
