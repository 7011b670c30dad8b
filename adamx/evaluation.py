"""What is asked of a rule beside its steps: the parameters to evaluate, the size of its state and how it is divided over devices."""

import functools
import math
from typing import Any

import jax
import optax
from jax.sharding import NamedSharding, PartitionSpec

from adamx.annotations import Tree
from adamx.blocks import BLOCK
from adamx.groups import Partition
from adamx.rule import RuleTree, UpdateRule
from adamx.state import RuleState, slot_dtype, storage_of
from adamx.structure import is_absent, leaves_like, paths_of
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


def state_shardings(rule: Any, params: Tree, param_shardings: Tree) -> Tree:
    """The shardings of a rule's state, for `jax.jit(rule.init, out_shardings=...)` or to restore a checkpoint onto a mesh.

    Slots of the parameter's shape, and 8-bit codes, are divided as the parameter. Of a slot of another shape, and of the scales of blocks,
    those axes are that divide alike: of scales, where no block is cut. The rest is whole on every device, as count and scalars are.

    Args:
      rule: An `UpdateRule`, or a chain of rules.
      params: The parameters, which may be abstract.
      param_shardings: A tree like them of `jax.sharding.NamedSharding`s.

    Returns:
      A tree like the state.

    Raises:
      TypeError: another kind of rule; a sharding of another kind.
    """
    if isinstance(rule, Chain):
        return tuple(state_shardings(part, params, param_shardings) for part in rule.parts)
    if not isinstance(rule, UpdateRule):
        raise TypeError(f"state_shardings takes a rule or a chain of rules, got {type(rule).__name__}.")
    leaves, structure = jax.tree.flatten(params)
    of_leaves: Any = structure
    shardings = leaves_like(structure, param_shardings, "the shardings")
    for path, sharding in zip(paths_of(structure, leaves), shardings, strict=True):
        if not isinstance(sharding, NamedSharding):
            raise TypeError(f"the sharding of {path} must be a NamedSharding, got {sharding!r}.")
    state = jax.eval_shape(rule.init, params)
    mesh = shardings[0].mesh if shardings else None
    slots = {
        name: jax.tree.unflatten(
            structure,
            [
                jax.tree.map(functools.partial(_as_parameter, p, sharding), stored)
                for p, sharding, stored in zip(leaves, shardings, of_leaves.flatten_up_to(tree), strict=True)
            ],
        )
        for name, tree in state.slots.items()
    }
    whole: Any = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    return RuleState(whole, {name: whole for name in state.scalars}, slots)


def _as_parameter(p, sharding, slot):
    """The sharding of one array of a state, as that of its parameter."""
    spec = (*sharding.spec, *[None] * (p.ndim - len(sharding.spec)))
    if slot.ndim != p.ndim:
        return NamedSharding(sharding.mesh, PartitionSpec())

    def divides(axis, names):
        if names is None or slot.shape[axis] == p.shape[axis]:
            return True
        shards = math.prod(sharding.mesh.shape[name] for name in (names if isinstance(names, tuple) else (names,)))
        return p.ndim > 1 and slot.shape[axis] * BLOCK == p.shape[axis] and slot.shape[axis] % shards == 0

    return NamedSharding(sharding.mesh, PartitionSpec(*(n if divides(a, n) else None for a, n in enumerate(spec))))
