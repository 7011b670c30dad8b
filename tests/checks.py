"""What the property tests share: a small tree, its gradients, one compiled run, and comparisons."""

import functools
import inspect
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASES, build

import adamx
from adamx.execution import _Compiled

each_rule = pytest.mark.parametrize("name", list(adamx.CATALOGUE))
each_case = pytest.mark.parametrize("case", list(CASES))
first_with = {jax.tree.structure(build(case)): name for name, case in reversed(CASES.items())}
each_line = pytest.mark.parametrize("case", sorted(first_with.values()))
"""The cases whose lines of stages differ; cases that differ in numbers only are one."""
SHAPES = {"kernel": (2, 3), "bias": (3,), "scale": ()}
INTEGERS = ("channel_axis", "max_precond_dim", "min_dim_size_to_factor", "ns_steps")
"""Arguments that are structure: Optax has to be told, as it takes every number for a hyperparameter."""
PAIR = {"kernel": (2, 3), "scale": ()}
"""Shapes of a tree that compiles sooner: a matrix and a scalar."""


def case_rule(case, learning_rate=None, **hyperparameters):
    """The rule of a case of `cases.CASES`; hyperparameters that it does not take are left out."""
    constructor = adamx.CATALOGUE[CASES[case].rule].constructor
    return build(CASES[case], learning_rate, **{k: v for k, v in hyperparameters.items() if takes(constructor, k)})


def of_matrices(rule):
    """The rule, or that of the matrices if it is a partition."""
    return rule.parts["muon"] if hasattr(rule, "parts") else rule


def line_of(name, shapes=SHAPES):
    """The rule and the shapes of a tree that it takes; of a partition, the rule of the matrices and the kernel."""
    rule = case_rule(name)
    return (of_matrices(rule), {"kernel": shapes["kernel"]} if hasattr(rule, "parts") else shapes)


rule_of = case_rule
"""The same, for the name of a rule: that is the case of its defaults."""


@functools.cache
def takes(function, argument):
    return argument in inspect.signature(function).parameters


def further(rule, grads):
    """The further arguments that the stages of a rule need in a step: a loss, a curvature made of the gradients."""
    given = {"value": jnp.float32(0.5), "hessian": grads}
    return {
        name: given[name] for stage in getattr(rule, "stages", ()) for name in (*stage.scalar_extras, *stage.extras)
    }


def further_numbers(rule):
    """Those of the further arguments that are one number: for wrappers that do not mask trees."""
    return {name: value for name, value in further(rule, None).items() if name == "value"}


def update(rule, grads, state, params=None):
    """`rule.update` with the further arguments that the rule needs."""
    return rule.update(grads, state, params, **further(rule, grads))


def trace(rule, grads, state, params=None):
    """`rule.trace` with the further arguments that the rule needs."""
    return rule.trace(grads, state, params, **further(rule, grads))


def step(rule, grads, state, params):
    """`rule.step` with the further arguments that the rule needs."""
    return rule.step(grads, state, params, **further(rule, grads))


def updating(rule):
    """`update` of the rule as a function of gradients, state and parameters."""
    return functools.partial(update, rule)


def states_in(state):
    """The states of lines of stages in a state: itself, or those of the parts of a partition."""
    return jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, adamx.RuleState))


def slots_of_leaves(state):
    """Leaf -> slot -> array, of a state for a dict of parameters."""
    slots = {}
    for own in states_in(state):
        for slot, leaves in own.slots.items():
            for leaf, x in leaves.items():
                if not isinstance(x, optax.MaskedNode):
                    slots.setdefault(leaf, {})[slot] = x
    return slots


def normal(shape, seed, dtype=np.float32):
    """Numbers from a standard normal distribution; complex ones for a complex dtype."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        x = x + 1j * rng.normal(size=shape)
    return jnp.asarray(x, dtype)


def tree(seed=0, steps=None, shapes=SHAPES):
    """A tree of normal numbers, with a leading axis for `steps` gradients."""
    lead = () if steps is None else (steps,)
    return {name: normal(lead + shape, seed + i) for i, (name, shape) in enumerate(shapes.items())}


def at(grads, step):
    return jax.tree.map(lambda g: g[step], grads)


@jax.jit
def run(rule, params, grads):
    """Steps over stacked gradients in a scan: the parameters, the state, the stacked updates."""

    def step(carry, g):
        params, state = carry
        updates, state = rule.update(g, state, params, **further(rule, g))
        return (optax.apply_updates(params, updates), state), updates

    (params, state), updates = jax.lax.scan(step, (params, rule.init(params)), grads)
    return params, state, updates


optimized = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False},
)
"""`jax.jit` with optimization, which the tests' other programs are without (conftest.py). For what depends on the last bit."""
OPTIMIZED_EAGERLY = {
    "step": optimized(_Compiled.step.__wrapped__, static_argnums=0),
    "join": optimized(_Compiled.join.__wrapped__),
    "_group": optimized(_Compiled._group.__wrapped__, static_argnums=(0, 1, 2)),
}
"""What rules run that are called outside of jit, by the names that `execution._Compiled` has for it."""


@jax.jit
def run_each(batch, params, grads):
    """`run` for each rule of a batch."""
    return jax.vmap(run, in_axes=(adamx.axes_of(batch), None, None))(batch, params, grads)


def lane(values, i):
    """Element `i` of every leaf, as NumPy's arrays: without a program for each shape."""
    return jax.tree.map(lambda x: np.asarray(x)[i], values)


def eagerly(rule, params, grads, steps):
    """The same, call by call, returning the last updates."""
    state, updates = rule.init(params), None
    for step in range(steps):
        g = at(grads, step)
        updates, state = rule.update(g, state, params, **further(rule, g))
        params = optax.apply_updates(params, updates)
    return params, state, updates


def assert_same(actual, expected):
    """Equal trees: structure, dtypes, every bit."""
    chex.assert_trees_all_equal(actual, expected, strict=True)


def assert_close(actual, expected, rtol=1e-6):
    """Equal trees up to rounding, relative to the largest element of each leaf."""
    chex.assert_trees_all_equal_structs(actual, expected)
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * float(np.max(np.abs(y), initial=0)))


def assert_finite(values):
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(values)):
        assert np.all(np.isfinite(leaf)), f"{jax.tree_util.keystr(path)}: {leaf}"


def description(values):
    """Structure, and shape, dtype and weak type of every leaf."""
    leaves, structure = jax.tree.flatten(values)
    return structure, [(jnp.shape(x), jnp.result_type(x), jax.typeof(x).weak_type) for x in leaves]


def raises(kind, *parts):
    """Expects an error of exactly this type whose message has these parts, in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(map(re.escape, parts)), check=lambda e: type(e) is kind)
