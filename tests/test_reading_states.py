"""Code that reads and edits optimizer states, and checkpoints: on a layout of Optax's as on Optax; and what a literal replacement meets."""

import copy
import pickle

import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from checks import assert_close, assert_same, each_rule, of_matrices, raises, rule_of, tree
from flax.training.train_state import TrainState

import adamx

PARAMS, GRADS = tree(), [tree(seed) for seed in range(1, 8)]
falling = optax.linear_schedule(0.1, 0.02, 30)
PAIR = (
    adamx.optax_layout(adamx.nadamw(falling, b2=0.99, weight_decay=0.1)),
    optax.nadamw(falling, b2=0.99, weight_decay=0.1),
)
"""At b2 = .99, as Optax's own error in float32 is ten times larger at .999."""


def go(tx, state, params, grads):
    update = jax.jit(tx.update)
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


# States that are read and edited


def moments_of_one_leaf_anew(state):
    def begun(moment):
        return moment | {"kernel": jnp.zeros_like(moment["kernel"])}

    return (state[0]._replace(mu=begun(state[0].mu), nu=begun(state[0].nu)), *state[1:])


def by_position(state):
    count, mu, nu = state[0]
    return [optax.ScaleByAdamState(count, jax.tree.map(lambda m: 0.5 * m, mu), nu), *state[1:]]


def every_count(state):
    def later(node):
        return node._replace(count=jnp.int32(20)) if "count" in getattr(node, "_fields", ()) else node

    return jax.tree.map(later, state, is_leaf=lambda node: hasattr(node, "_replace"))


def moments_begin_and_the_schedule_goes_on(state):
    adam = state[0]
    zeros = jax.tree.map(jnp.zeros_like, (adam.mu, adam.nu))
    return (optax.ScaleByAdamState(jnp.int32(0), *zeros), *state[1:])


def the_schedule_ends(state):
    return optax.tree.set(state, lambda path, _: "ScaleByScheduleState" in str(path), count=jnp.int32(30))


def recursively(state):
    if isinstance(state, optax.ScaleByAdamState):
        return state._replace(nu=jax.tree.map(lambda v: 2 * v, state.nu))
    named = hasattr(state, "_fields")
    return state if named or not isinstance(state, tuple) else tuple(map(recursively, state))


EDITS = (
    moments_of_one_leaf_anew,
    by_position,
    every_count,
    moments_begin_and_the_schedule_goes_on,
    the_schedule_ends,
    recursively,
)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_an_edit_means_what_it_means_in_optax(edit):
    ends = []
    for tx in PAIR:
        params, state = go(tx, tx.init(PARAMS), PARAMS, GRADS[:3])
        ends.append(go(tx, edit(state), params, GRADS[3:]))
    assert_close(ends[0][0], ends[1][0], rtol=3e-5)
    assert [int(x) for x in jax.tree.leaves(ends[0][1]) if x.dtype == jnp.int32] == [
        int(x) for x in jax.tree.leaves(ends[1][1]) if x.dtype == jnp.int32
    ]


def test_counts_that_differ_stay_apart_and_are_no_rules():
    laid_out, _ = PAIR
    state = moments_begin_and_the_schedule_goes_on(go(laid_out, laid_out.init(PARAMS), PARAMS, GRADS[:3])[1])
    _, after = go(laid_out, state, PARAMS, GRADS[3:5])
    assert (after[0].count, after[2].count) == (2, 5)
    with raises(ValueError, "the counts in Optax's state differ (2, 5)", "optax.tree.set", "adamx.optax_layout"):
        adamx.from_optax(laid_out.rule, after)


def test_states_are_found_by_type_and_name():
    laid_out, _ = PAIR
    state = laid_out.init(PARAMS)
    assert optax.tree.get(state, "ScaleByScheduleState") == optax.ScaleByScheduleState(0)
    assert optax.tree.get(state, "mu") is state[0].mu
    found = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState))
    assert isinstance(found[0], optax.ScaleByAdamState)
    marked = optax.tree.map_params(laid_out, lambda x: "slot", state, transform_non_params=lambda x: "other")
    assert set(jax.tree.leaves((marked[0].mu, marked[0].nu))) == {"slot"}
    assert marked[0].count == marked[2].count == "other"
    train = TrainState.create(apply_fn=None, params=PARAMS, tx=laid_out)
    where = jax.tree.map(lambda _: "here", train)
    assert where.replace(params=where.opt_state[0].mu).params == jax.tree.map(lambda _: "here", PARAMS)


# Checkpoints


def through_orbax(state, into, folder):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "state", jax.tree.map(ocp.utils.to_shape_dtype_struct, into))


def through_flax(state, into, folder):
    return flax.serialization.from_bytes(into, flax.serialization.to_bytes(state))


@pytest.mark.parametrize("through", [through_orbax, through_flax], ids=lambda f: f.__name__)
@pytest.mark.parametrize("first, second", [(0, 1), (1, 0)], ids=["ours to Optax", "Optax to ours"])
def test_a_checkpoint_goes_on_in_the_other_library(through, first, second, tmp_path):
    first, second = PAIR[first], PAIR[second]
    params, state = go(first, first.init(PARAMS), PARAMS, GRADS[:3])
    restored = through(state, second.init(PARAMS), tmp_path)
    assert_close(go(second, restored, params, GRADS[3:])[0], go(first, state, params, GRADS[3:])[0], rtol=3e-5)


# A rule's own state


@each_rule
def test_slots_are_attributes_of_a_state(name):
    state = of_matrices(rule_of(name)).init(PARAMS)
    for slot, leaves in state.slots.items():
        assert getattr(state, slot) is leaves
    for same in (copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state)), state._replace()):
        assert_same(same, state)
    with raises(AttributeError, "a RuleState has no 'nothing': it has count, scalars and slots"):
        _ = state.nothing
    assert not hasattr(state, "__jax_array__") and not hasattr(jax.tree.map(lambda _: None, state), "nothing")
    assert not hasattr(adamx.RuleState(0, {}, None), "mu")


@pytest.mark.parametrize("name", ["adamw", "nadam", "adamax", "radam", "yogi", "lamb", "adan", "ademamix", "msvag"])
def test_moments_that_are_carried_over_are_corrected_at_the_present_rates(name):
    rule = rule_of(name)
    update = jax.jit(rule.update)
    params, state = go(rule, rule.init(PARAMS), PARAMS, GRADS[:5])
    carried = optax.tree.set(rule.init(PARAMS), count=state.count, **state.slots)
    assert_same(update(GRADS[5], carried, params), update(GRADS[5], state, params))
    assert_same(carried.scalars, jax.tree.map(jnp.zeros_like, state.scalars))


def test_a_count_that_is_set_is_believed():
    """Also where it is traced; then the correction is that of so many steps at the present rate."""
    rule, theirs = adamx.adam(0.1), optax.adam(0.1)
    state, like = rule.init(PARAMS), theirs.init(PARAMS)
    for count in (1, 10, 10_000):
        updates, _ = jax.jit(lambda n: rule.update(GRADS[0], state._replace(count=n), PARAMS))(jnp.int32(count))
        expected, _ = theirs.update(GRADS[0], (like[0]._replace(count=jnp.int32(count)), like[1]))
        assert_close(updates, expected, rtol=1e-4)


# A literal replacement


def test_learning_rates_that_are_jax_scalars_are_static():
    one, same, other = (adamx.adamw(jnp.float32(rate)) for rate in (0.1, 0.1, 0.2))
    assert one == same != other and hash(one) == hash(same)
    init = jax.jit(lambda rule, params: rule.init(params), static_argnums=0)
    init(one, PARAMS), init(same, PARAMS)
    assert init._cache_size() == 1
    assert hash(adamx.adamw(np.float32(0.5))) == hash(adamx.adamw(jnp.float32(0.5))) == hash(adamx.adamw(0.5))
    with pytest.raises(TypeError):
        hash(adamx.adamw(jnp.ones(2)))
    with pytest.raises(TypeError):
        jax.jit(lambda rate: hash(adamx.adamw(rate)))(0.1)


@pytest.mark.parametrize("tx", [adamx.adam(0.1), adamx.chain(adamx.adam(0.1)), adamx.optax_layout(adamx.adam(0.1))])
def test_a_rules_functions_are_not_replaced(tx):
    with raises(TypeError, f"{type(tx).__name__}: init cannot be replaced", "GradientTransformationExtraArgs"):
        tx._replace(init=lambda params: ())


def test_masked_is_told_apart_from_optaxs():
    with raises(TypeError, "adamx.masked restricts one stage", "optax.masked(rule, mask)"):
        adamx.masked(adamx.adam(0.1), {"kernel": True})
    with raises(TypeError, "must be a Stage, got 3"):
        adamx.masked(3, {"kernel": True})


def test_integer_leaves_of_equinox_modules_are_told_what_to_do():
    class Model(eqx.Module):
        w: jax.Array
        n: jax.Array

    model = Model(jnp.ones(2), jnp.arange(3))
    with raises(TypeError, "parameter params.n has dtype int32", "eqx.partition(model, eqx.is_inexact_array)"):
        adamx.adam(0.1).init(model)
    trained, _ = eqx.partition(model, eqx.is_inexact_array)
    adamx.adam(0.1).init(trained)


def test_directions_have_optaxs_names():
    p, g = PARAMS["kernel"], GRADS[0]["kernel"]
    for name, options in (
        ("belief", {}),
        ("rms", {"eps_in_sqrt": False, "bias_correction": True}),
        ("rss", {}),
        ("stddev", {"initial_scale": 1.0}),
    ):
        ours, theirs = (getattr(library, f"scale_by_{name}")(**options) for library in (adamx, optax))
        first, then = (tx.update(g, tx.init(p))[0] for tx in (ours, theirs))
        if name != "stddev":  # its nu_0 is the variance's
            assert_close(first, then, rtol=1e-5)
    assert adamx.scale_by_belief is adamx.scale_by_adabelief
    assert adamx.scale_by_stddev() == adamx.scale_by_rmsprop(centered=True)
    assert adamx.scale_by_novograd() == adamx.scale_by_novograd(eps=1e-8)
