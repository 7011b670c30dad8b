"""Functions that do the same made one, so that rules which differ in numbers only are of one structure.

JAX tells two closures apart by identity: `optax.clip_by_global_norm(1.0)`, called once for each point, would make a program for each.
"""

import functools
import numbers
import types

import jax
import numpy as np

from adamx.hyperparameters import Scheduled
from adamx.transforms import Chain


def unified(rule):
    """`rule` with every Optax transformation and every schedule in it that does what one seen before does replaced by that one."""
    if isinstance(rule, Chain):
        return Chain(tuple(unified(part) if _is_tree(part) else _one_of(part) for part in rule.parts))
    return jax.tree.map(_unified_schedule, rule, is_leaf=lambda node: isinstance(node, Scheduled))


def _is_tree(part):
    return isinstance(part, Chain) or hasattr(part, "stages")


def _unified_schedule(node):
    plain = isinstance(node, Scheduled) and not jax.tree.leaves(node)
    return Scheduled(_one_of(node.schedule), node.kind, node.where) if plain else node


def _one_of(function):
    seen = _seen(_description(function, ()))
    if not seen:
        seen.append(function)
    return seen[0]


@functools.lru_cache(maxsize=1024)
def _seen(description):
    return []


def _description(value, above):
    """A hashable that is equal for functions of the same code over equal values; `above` are the ids of what it is part of."""
    if id(value) in above:
        return "itself", above.index(id(value))
    inside = functools.partial(_description, above=(*above, id(value)))
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        inner = (*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        return value.__module__, value.__code__, *map(inside, inner)
    if isinstance(value, functools.partial):
        return "partial", *map(inside, (value.func, *value.args, *value.keywords, *value.keywords.values()))
    if isinstance(value, (tuple, list)):
        return type(value), *map(inside, value)
    if isinstance(value, (np.ndarray, jax.Array)):
        return str(value.dtype), value.shape, np.asarray(value).tobytes()
    if isinstance(value, numbers.Number):
        return type(value), value
    try:
        hash(value)
    except TypeError:
        return object()
    return value
