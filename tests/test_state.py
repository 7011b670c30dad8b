"""What holds for the state of every rule: its layout never changes, it can be saved, donated, sharded, skipped."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from checks import (
    PAIR,
    assert_close,
    assert_finite,
    assert_same,
    case_rule,
    description,
    each_line,
    each_rule,
    further,
    rule_of,
    slots_of_leaves,
    states_in,
    step,
    takes,
    tree,
    update,
    updating,
)

import adamx

SCHEDULE = optax.linear_schedule(1e-2, 1e-3, 10)


@each_rule
def test_the_layout_is_the_same_for_numbers_arrays_schedules_and_masks(name):
    constructor, params = adamx.CATALOGUE[name].constructor, tree()
    expected = description(rule_of(name).init(params))
    peak = {"peak": 1e-2} if takes(constructor, "peak") else {}
    variants = [constructor(jnp.float32(1e-2))]
    variants += [constructor(rate, **peak) for rate in (SCHEDULE, jax.tree_util.Partial(SCHEDULE))]
    if takes(constructor, "b2"):
        variants += [constructor(1e-2, b2=lambda count: 0.9 + 0 * count), constructor(1e-2, b2=jnp.float32(0.9))]
    # The mask of FOCUS is also one of its slots.
    if takes(constructor, "mask") and name != "focus":
        variants += [
            constructor(1e-2, weight_decay=0.1, mask={"kernel": True, "bias": False, "scale": False}),
            constructor(1e-2, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
        ]
    for rule in variants:
        state = rule.init(params)
        assert description(state) == expected
        assert description(jax.eval_shape(updating(rule), tree(1), state, params)[1]) == expected


@each_line
def test_the_layout_is_the_same_traced_or_not_and_before_and_after_updates(case):
    rule, params = case_rule(case), tree(shapes=PAIR)
    state = rule.init(params)
    expected = description(state)
    assert not any(weak for _, _, weak in expected[1])
    assert description(update(rule, params, state, params)[1]) == expected
    traced = jax.eval_shape(lambda: (rule.init(params), update(rule, params, rule.init(params), params)[1]))
    assert [description(state) for state in traced] == [expected, expected]
    abstract = jax.eval_shape(rule.init, params)
    assert description(abstract) == expected
    assert description(rule.init(jax.eval_shape(lambda: params))) == expected
    low = optax.tree.cast(params, jnp.bfloat16)
    assert description(rule.init(low)) == expected
    assert description(jax.eval_shape(updating(rule), params, rule.init(low), low)[1]) == expected


@each_line
def test_a_second_call_never_compiles_again(case):
    rule, params, grads = case_rule(case), tree(shapes=PAIR), tree(1, shapes=PAIR)
    compiled = jax.jit(updating(rule))
    updates, state = compiled(grads, rule.init(params), params)
    updates, state = compiled(updates, state, optax.apply_updates(params, updates))
    assert compiled._cache_size() == 1


@each_rule
def test_parameters_and_state_can_be_donated_and_nothing_is_shared(name):
    rule, params, grads = rule_of(name), tree(shapes=PAIR), tree(1, shapes=PAIR)
    state = rule.init(params)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, state))]
    assert len(set(buffers)) == len(buffers)
    expected = update(rule, grads, state, params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def train(params, state):
        updates, state = update(rule, grads, state, params)
        return optax.apply_updates(params, updates), updates, state

    params, updates, after = train(params, state)
    assert_close((updates, after), expected)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    train(params, after)


@each_rule
def test_the_count_stays_at_its_maximum(name):
    rule, params = rule_of(name), tree(shapes=PAIR)
    last = jnp.iinfo(jnp.int32).max
    state = optax.tree.set(rule.init(params), count=jnp.asarray(last - 1))
    for _ in range(3):
        updates, state = update(rule, params, state, params)
        assert_finite((updates, state))
    assert {int(own.count) for own in states_in(state)} == {last}


@each_rule
def test_an_update_can_be_skipped_by_cond(name):
    rule, params, grads = rule_of(name), tree()["kernel"], tree(1)["kernel"]

    @jax.jit
    def maybe(apply, grads, state):
        return jax.lax.cond(apply, lambda: update(rule, grads, state, params), lambda: (jnp.zeros_like(grads), state))

    state = rule.init(params)
    assert_same(maybe(False, grads, state), (jnp.zeros_like(params), state))
    assert_close(maybe(True, grads, state), update(rule, grads, state, params))


# Absent gradients


@each_line
@pytest.mark.parametrize("absent", [None, optax.MaskedNode()], ids=["None", "MaskedNode"])
def test_a_leaf_without_a_gradient_keeps_its_slots_and_gets_no_update(case, absent):
    rule, params, grads = case_rule(case), tree(shapes=PAIR), tree(2, shapes=PAIR)
    _, state = update(rule, tree(1, shapes=PAIR), rule.init(params), params)
    updates, after = update(rule, grads | {"scale": absent}, state, params)
    complete, wanted = update(rule, grads, state, params)
    assert updates["scale"] is absent
    slots = [slots_of_leaves(s) for s in (state, after, wanted)]
    assert_same(slots[1].get("scale"), slots[0].get("scale"))
    # Sums over the tree are without the leaf.
    if not any(stage.sums for stage in rule.stages):
        assert_same(updates["kernel"], complete["kernel"])
        assert_same(slots[1].get("kernel"), slots[2].get("kernel"))
    stepped, _ = step(rule, grads | {"scale": absent}, state, params)
    assert_same(stepped["scale"], params["scale"])


@each_rule
def test_a_parameter_may_be_a_number_of_python_or_numpy(name):
    rule = rule_of(name)
    for number in (0.5, np.float32(0.5)):
        assert_same(rule.init({"x": number}), rule.init({"x": jnp.float32(0.5)}))


@each_line
def test_parameters_that_are_none_stay_none(case):
    rule, params = case_rule(case), {"kernel": tree()["kernel"], "frozen": None}
    state = rule.init(params)
    updates, state = update(rule, params, state, params)
    assert updates["frozen"] is None
    assert not any(x is not None for x in slots_of_leaves(state).get("frozen", {}).values())


@each_rule
def test_extra_arguments_for_other_transformations_are_accepted(name):
    rule, params = rule_of(name), tree(shapes=PAIR)
    state = rule.init(params)
    others = {"value": 0.5, "key": None}
    assert_same(
        rule.update(params, state, params, **further(rule, params) | others), update(rule, params, state, params)
    )


# Saving


@jax.jit
def go_on(rule, params, state, grads):
    def onward(carry, g):
        updates, state = update(rule, g, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    return jax.lax.scan(onward, (params, state), grads)[0]


def test_training_goes_on_bit_for_bit_after_pickle_and_orbax(tmp_path):
    params, first, last = tree()["bias"], tree(1, steps=3)["bias"], tree(2, steps=3)["bias"]
    rules = {name: rule_of(name) for name in adamx.CATALOGUE}
    middle = {name: go_on(rule, params, rule.init(params), first) for name, rule in rules.items()}
    end = {name: go_on(rule, *middle[name], last) for name, rule in rules.items()}
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint", middle)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "checkpoint", jax.eval_shape(lambda: middle))
    for loaded in (restored, pickle.loads(pickle.dumps(middle))):
        assert_same({name: go_on(rule, *loaded[name], last) for name, rule in rules.items()}, end)


# Devices


@each_rule
def test_training_in_a_shard_map_scans(name):
    if any(stage.sums and stage.scalar_slots for stage in rule_of(name).stages):
        pytest.skip("inside of a shard_map its sums are a shard's own, and no longer the same everywhere")
    rule, params = rule_of(name), tree(0, shapes={"kernel": (8, 2)})
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def train(params):
        onward = lambda state, _: (update(rule, params, state, params)[1], None)  # noqa: E731
        return states_in(jax.lax.scan(onward, rule.init(params), length=2)[0])[0].count

    split = jax.shard_map(train, mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P())
    assert jax.eval_shape(split, params).shape == ()
