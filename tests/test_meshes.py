"""On a mesh of eight devices slots are sharded as their parameters however they are made, and updates need no communication."""

import functools
import re

import jax
import numpy as np
import pytest
from checks import assert_close, case_rule, each_rule, normal, slots_of_leaves, update, updating
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx

SPECS = {"kernel": P("x", None), "bias": P(None), "table": P(None, "x")}
SHAPES = {"kernel": (16, 4), "bias": (4,), "table": (3, 8)}
COLLECTIVE = re.compile(r"all-reduce|all-gather|collective-permute|all-to-all|reduce-scatter")


def rule_of(name):
    """A rule whose slots have fewer axes than these leaves, if it ever has such slots."""
    return case_rule(name, min_dim_size_to_factor=2)


def mesh_of(kind):
    return jax.make_mesh((8,), ("x",), axis_types=(kind,))


def placed(mesh, seed=0):
    arrays = {name: normal(shape, seed + i) for i, (name, shape) in enumerate(SHAPES.items())}
    return {name: jax.device_put(x, NamedSharding(mesh, SPECS[name])) for name, x in arrays.items()}


def abstract(params):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), params)


def after_a_scan(rule, params):
    def step(state, _):
        return update(rule, params, state, params)[1], None

    return jax.lax.scan(step, rule.init(params), length=2)[0]


WAYS = {
    "eager": lambda rule, params: rule.init(params),
    "of abstract parameters": lambda rule, params: rule.init(abstract(params)),
    "jit": lambda rule, params: jax.jit(rule.init)(params),
    "eval_shape": lambda rule, params: jax.eval_shape(rule.init, params),
    "eval_shape of abstract parameters": lambda rule, params: jax.eval_shape(rule.init, abstract(params)),
    "init and scan in one program": lambda rule, params: jax.jit(functools.partial(after_a_scan, rule))(params),
    "init and update in one program": lambda rule, params: jax.jit(
        lambda p: update(rule, p, rule.init(p), p)[1],
    )(params),
    "one update after another": lambda rule, params: update(rule, params, rule.init(params), params)[1],
}


def assert_sharded(state):
    for leaf, slots in slots_of_leaves(state).items():
        for x in slots.values():
            if x.shape == SHAPES[leaf]:
                # Equivalence is not defined for the abstract mesh of JAX 0.7.
                same = x.sharding.spec == SPECS[leaf]
                assert same or x.sharding.is_equivalent_to(NamedSharding(x.sharding.mesh, SPECS[leaf]), x.ndim)
            elif x.shape == ():
                assert x.sharding is None or x.sharding.is_fully_replicated


def layout(name):
    """What `init` of a rule makes, abstract: its ways to do so are the same for rules of equal layout."""
    params = {leaf: jax.ShapeDtypeStruct(shape, "float32") for leaf, shape in SHAPES.items()}
    leaves, structure = jax.tree.flatten(jax.eval_shape(rule_of(name).init, params))
    return structure, tuple((x.shape, x.dtype) for x in leaves)


FIRST_WITH = {layout(name): name for name in reversed(adamx.CATALOGUE)}
IN_ONE_PROGRAM = [way for way in WAYS if "update" in way or "scan" in way]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", sorted(FIRST_WITH.values()))
def test_slots_are_sharded_as_their_parameters_on_explicit_axes(name, way):
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        assert_sharded(WAYS[way](rule_of(name), placed(mesh)))


@pytest.mark.parametrize("way", IN_ONE_PROGRAM)
@pytest.mark.parametrize("name", [name for name in adamx.CATALOGUE if name not in FIRST_WITH.values()])
def test_slots_are_of_types_that_are_sharded_as_their_parameters_on_explicit_axes(name, way):
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        assert_sharded(jax.eval_shape(functools.partial(WAYS[way], rule_of(name)), placed(mesh)))


@pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("eval_shape")])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_slots_are_sharded_as_their_parameters_where_no_mesh_is_set(kind, way):
    assert_sharded(WAYS[way](adamx.adan(0.1), placed(mesh_of(kind))))


@functools.cache
def on_one_device(name):
    """Updates and state of a first update of whole leaves."""
    rule, whole = rule_of(name), {leaf: np.asarray(x) for leaf, x in placed(mesh_of(AxisType.Auto)).items()}
    return jax.device_get(jax.jit(lambda p: update(rule, p, rule.init(p), p))(whole))


@each_rule
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_an_update_of_sharded_leaves_is_that_of_whole_ones_without_communication(name, kind):
    mesh, rule = mesh_of(kind), rule_of(name)
    with jax.set_mesh(mesh):
        params = placed(mesh)
        state = rule.init(params)
        compiled = jax.jit(updating(rule)).lower(params, state, params).compile()
        updates, after = compiled(params, state, params)
        if kind == AxisType.Explicit:
            compiled(params, after, params)  # which takes no state that is sharded otherwise
            assert {leaf: u.sharding for leaf, u in updates.items()} == {leaf: p.sharding for leaf, p in params.items()}
    assert_close(jax.device_get((updates, after)), on_one_device(name))
    assert all(u.sharding.is_equivalent_to(params[leaf].sharding, u.ndim) for leaf, u in updates.items())
    assert_sharded(after)
    if all(stage.elementwise for stage in rule.stages):
        assert not COLLECTIVE.search(compiled.as_text())
