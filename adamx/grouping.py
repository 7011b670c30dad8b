"""Which leaves are worked on alike, and how: their plans, their groups, their random bits."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from adamx.blocks import is_blocks
from adamx.kernels import Kernel, fits
from adamx.leaves import Plan
from adamx.numerics import compute_dtype
from adamx.passes import several_outputs
from adamx.randomness import leaf_keys
from adamx.state import storage_of
from adamx.structure import is_absent
from adamx.wiring import slots_of

LARGEST_GROUP = 32
"""Leaves in a group at most: enough that calls cost XLA little, few enough that the one function they share is lowered quickly."""

COST_OF_CALL = 0.4
"""What calling a function costs, against tracing, lowering and compiling a leaf in it."""


def plans_of(line, storages, active, rounding, wants_signal):
    """The plan of each leaf; leaves on which the same stages act share one."""
    storages = tuple((slot.name, storage_of(storages, slot)) for slot in slots_of(line))
    whole = all(stage.elementwise and not stage.sums for stage in line)
    apart = whole and any(stage.shares for stage in line) and several_outputs()
    plan = functools.cache(lambda which: Plan(which, storages, rounding, wants_signal, apart))
    return [plan(which) for which in active]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What leaves share that are worked on alike: the plan, the dtype of the arithmetic, and the types of their arrays."""

    plan: Plan
    dtype: jnp.dtype
    types: tuple


def _on_one_tpu():
    """Whether what is traced is for one TPU, as far as can be known."""
    return jax.default_backend() == "tpu" and jax.device_count() == 1


def groups_of(line, plans, leaves, kernel):
    """Kind -> groups, each a list of the positions of leaves. Kernels work where `kernel` says so, or by themselves on one TPU."""
    kernel = kernel or (Kernel() if _on_one_tpu() else None)
    wide = functools.cache(lambda dtypes: compute_dtype(*(d for d in dtypes if jnp.issubdtype(d, jnp.inexact))))
    kinds = {}
    for i, leaf in leaves.items():
        types = tuple(jax.typeof(a) for a in jax.tree.leaves((leaf.g, leaf.p, leaf.stored, leaf.extras)))
        kinds.setdefault((plans[i], types), []).append(i)
    groups = {}
    for (plan, types), members in kinds.items():
        dtype, leaf = wide(frozenset(a.dtype for a in types)), leaves[members[0]]
        asked = kernel is not None and (kernel.explicit or any(is_blocks(s) for s in leaf.stored.values()))
        if asked and fits(plan, line, dtype, leaf):
            plan = dataclasses.replace(plan, kernel=kernel)
        groups[Kind(plan, dtype, types)] = _cut(members)
    return groups


def _cut(members):
    """Groups of equal size, and a smaller last one: the size for which tracing two functions and calling them costs least."""
    n = len(members)
    size = min(range(1, LARGEST_GROUP + 1), key=lambda size: min(size, n) + n % size + COST_OF_CALL * (n // size))
    return [members[start : start + size] for start in range(0, n, size)]


def keys_of(line, storages, rounding, count, given):
    """The random bits of each leaf: of stages that ask for them, of slots that are rounded, of the parameter if it is narrow."""
    n = len(given.ps)
    of_stages = {
        str(i): leaf_keys(getattr(stage, "seed", 0), count, n, stream=i + 1)
        for i, stage in enumerate(line)
        if stage.random
    }
    of_slots = {
        slot.name: storage_of(storages, slot).rounding.dithers(count, n, stream=len(line) + 1 + i)
        for i, slot in enumerate(slots_of(line))
    }
    narrow = [rounding is not None and not is_absent(p) and jnp.finfo(p.dtype).bits < 32 for p in given.ps]
    of_params = rounding.dithers(count, n) if any(narrow) else None

    def of(i):
        keys = {name: keys[i] for name, keys in of_stages.items()}
        for name, dithers in of_slots.items():
            if dithers is not None and _is_rounded(given.kept[name][i]):
                keys[name] = jax.tree.map(lambda a: a[i], dithers)
        if narrow[i] and of_params is not None:
            keys["params"] = jax.tree.map(lambda a: a[i], of_params)
        return keys

    return [of(i) for i in range(n)]


def _is_rounded(stored):
    return is_blocks(stored) or not is_absent(stored) and jnp.finfo(stored.dtype).bits < 32
