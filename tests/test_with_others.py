"""Rules inside Optax's wrappers and Flax's training states: everything that takes a transformation takes a rule."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import (
    INTEGERS,
    PAIR,
    assert_close,
    assert_finite,
    assert_same,
    at,
    each_rule,
    further_numbers,
    of_matrices,
    rule_of,
    states_in,
    takes,
    tree,
)
from flax import nnx
from flax.training.train_state import TrainState
from older import OLDER

import adamx


def alone(rule, leaf, grads, steps=1):
    """Updates of one leaf by the rule alone, on fixed parameters."""
    state = rule.init(leaf)
    for step in range(steps):
        updates, state = rule.update(at(grads, step), state, leaf, **further_numbers(rule))
    return updates


@each_rule
def test_optax_masked_leaves_the_other_leaves_alone(name):
    rule, params, grads = rule_of(name), tree(), tree(1)
    wrapped = optax.masked(rule, {"kernel": True, "bias": False, "scale": True})
    state = wrapped.init(params)
    updates, after = wrapped.update(grads, state, params, **further_numbers(rule))
    assert_same(updates["bias"], grads["bias"])
    # Sums over the tree are over the leaves that are left.
    if not any(stage.sums for stage in rule.stages):
        assert_same(updates["kernel"], alone(rule, params["kernel"], tree(1, steps=None)["kernel"][None]))
    assert jax.tree.structure(after) == jax.tree.structure(state)


@each_rule
def test_optax_partition_gives_each_leaf_its_rule(name):
    rule, params, grads = rule_of(name), tree(), tree(1)
    parts = optax.partition(
        {"ours": rule, "plain": optax.sgd(0.5)}, {"kernel": "ours", "bias": "plain", "scale": "ours"}
    )
    updates, _ = parts.update(grads, parts.init(params), params, **further_numbers(rule))
    if not any(stage.sums for stage in rule.stages):
        assert_same(updates["kernel"], alone(rule, params["kernel"], grads["kernel"][None]))
    assert_same(updates["bias"], -0.5 * grads["bias"])


@each_rule
def test_multi_steps_updates_with_the_mean_of_the_gradients(name):
    rule, params, grads = rule_of(name), tree()["kernel"], tree(1, steps=4)["kernel"]
    accumulated = optax.MultiSteps(rule, every_k_schedule=2)
    compiled, state = jax.jit(accumulated.update), accumulated.init(params)
    for g in grads:
        updates, state = compiled(g, state, params, **further_numbers(rule))
    assert_close(updates, alone(rule, params, (grads[::2] + grads[1::2]) / 2, steps=2), rtol=1e-5)


@each_rule
def test_apply_if_finite_skips_a_gradient_that_is_not(name):
    rule, params, grads = rule_of(name), tree()["kernel"], tree(1)["kernel"]
    wrapped = optax.apply_if_finite(rule, max_consecutive_errors=5)
    compiled, state, more = jax.jit(wrapped.update), wrapped.init(params), further_numbers(rule)
    updates, skipped = compiled(grads * jnp.nan, state, params, **more)
    assert not np.any(updates)
    assert_same(skipped.inner_state, state.inner_state)
    expected = rule.update(grads, rule.init(params), params, **more)[0]
    assert_close(compiled(grads, skipped, params, **more)[0], expected)


@each_rule
def test_optax_finds_and_sets_parts_of_the_state(name):
    rule, params = of_matrices(rule_of(name)), {"kernel": tree()["kernel"]}
    state = rule.init(params)
    assert optax.tree.get(state, "count") == 0
    for slot, leaves in state.slots.items():
        assert optax.tree.get(state, slot) is leaves
        assert_same(optax.tree.set(state, **{slot: params}).slots[slot], params)


@each_rule
def test_tree_map_params_reaches_every_slot_and_nothing_else(name):
    rule, params = rule_of(name), tree()
    state = rule.init(params)
    marked = optax.tree_map_params(rule, lambda leaf: "slot", state, transform_non_params=lambda leaf: "other")
    for own in states_in(marked):
        assert set(jax.tree.leaves(own.slots)) <= {"slot"}
        assert set(jax.tree.leaves((own.count, own.scalars))) == {"other"}
    assert jax.tree.structure(marked) == jax.tree.structure(state)


@each_rule
def test_schedule_free_averages_a_rule(name):
    rule, params, grads = rule_of(name), tree()["kernel"], tree(1)["kernel"]
    wrapped = optax.contrib.schedule_free(rule, learning_rate=1e-2)
    state = wrapped.init(params)
    for _ in range(2):
        updates, state = wrapped.update(grads, state, params, **further_numbers(rule))
    assert_finite((updates, optax.contrib.schedule_free_eval_params(state, params)))


def test_schedule_free_gives_the_same_around_optaxs_sgd_and_ours():
    params, grads = tree()["kernel"], tree(1)["kernel"]
    ours, theirs = (optax.contrib.schedule_free(tx, learning_rate=1e-2) for tx in (adamx.sgd(1e-2), optax.sgd(1e-2)))
    assert_close(ours.update(grads, ours.init(params), params)[0], theirs.update(grads, theirs.init(params), params)[0])


@each_rule
def test_hyperparameters_are_injected_under_vmap(name):
    params, grads = tree()["bias"], tree(1, steps=3)["bias"]
    constructor = adamx.CATALOGUE[name].constructor
    structure = [argument for argument in INTEGERS if takes(constructor, argument)]
    injected = optax.inject_hyperparams(constructor, static_args=structure)(1.0)
    learning_rate = next(iter(inspect.signature(constructor).parameters))

    def last_update(rate):
        state = injected.init(params)
        state.hyperparams[learning_rate] = rate
        step = lambda state, g: injected.update(g, state, params, **further_numbers(rule_of(name)))[::-1]  # noqa: E731
        return jax.lax.scan(step, state, grads)[1][-1]

    rates = jnp.array([0.01, 0.02])
    together = jax.jit(jax.vmap(last_update))(rates)
    for rate, updates in zip(rates, together, strict=True):
        # The step of Schedule-Free is a difference of parameters.
        rtol = 1e-5 if name == "schedule_free" else 1e-6
        assert_close(updates, alone(rule_of(name, float(rate)), params, grads, steps=3), rtol=rtol)


def test_an_integer_learning_rate_is_a_number():
    params = tree()
    for rule in (adamx.adam(1), optax.inject_hyperparams(adamx.adam)(1), adamx.adam(jnp.int32(1))):
        assert_same(
            rule.update(params, rule.init(params), params)[0],
            adamx.adam(1.0).update(params, adamx.adam(1.0).init(params), params)[0],
        )


def test_optaxs_chain_accepts_a_rule_in_any_place():
    params = tree()
    tx = optax.chain(adamx.scale_by_adam(), optax.add_decayed_weights(1e-4), optax.scale_by_learning_rate(1e-2))
    wanted = adamx.adamw(1e-2)
    assert_close(tx.update(params, tx.init(params), params)[0], wanted.update(params, wanted.init(params), params)[0])


FLAGS = ["bias_correction_mu", "bias_correction_nu"]
DIFFERENT = {
    "amsgrad": FLAGS,
    "nadam": ["nesterov"],
    "nadamw": ["nesterov"],
    "adafactor": ["dtype_momentum"],
    "polyak_sgd": ["variant"],
}
CONTRIB = {"dadapt_adamw", "dog", "dowg", "lookahead", "muon", "prodigy", "schedule_free", "sophia"}
"""Rules whose functions in Optax are of another kind (around a transformation) or in contrib with names that are not the authors'."""
"""Rule -> arguments of Optax's that adamx's does not have: `maximum_of` for the flags; Optax's nadam can be told not to be one."""
OTHER_DEFAULTS = {("adadelta", "learning_rate"), ("adan", "eps_root"), ("adopt", "clip_value_fn")}
OTHER_DEFAULTS |= {("lars", "weight_decay_mask"), ("lars", "trust_ratio_mask")}


@each_rule
def test_names_defaults_and_order_of_arguments_are_optaxs(name):
    theirs = getattr(optax, name, None) or getattr(optax.contrib, name, None)
    if theirs is None or name in CONTRIB:
        pytest.skip("not in Optax, or under other names")
    theirs = inspect.signature(theirs).parameters
    ours = inspect.signature(adamx.CATALOGUE[name].constructor).parameters
    shared = [argument for argument in theirs if argument in ours]
    different = [argument for argument in DIFFERENT.get(name, []) if argument in theirs or not OLDER]
    assert [argument for argument in theirs if argument not in ours] == different
    assert [argument for argument in ours if argument in theirs] == shared
    for argument in shared:
        assert ours[argument].kind == theirs[argument].kind
        assert (name, argument) in OTHER_DEFAULTS or ours[argument].default == theirs[argument].default


@each_rule
def test_a_train_state_steps_and_does_not_trace_again_for_an_equal_rule(name):
    if further_numbers(rule_of(name)):
        pytest.skip("a TrainState hands its transformation no further arguments")
    params, grads = tree(shapes=PAIR), tree(1, shapes=PAIR)

    @jax.jit
    def train(state, grads):
        return state.apply_gradients(grads=grads)

    def fresh():
        return TrainState.create(apply_fn=None, params=params, tx=rule_of(name))

    state = train(fresh(), grads)
    train(state, grads)
    train(fresh(), grads)
    assert train._cache_size() <= 2, "the step of a fresh TrainState is a Python int: one compilation more"
    updates, _ = rule_of(name).update(grads, rule_of(name).init(params), params)
    assert_close(state.params, optax.apply_updates(params, updates))


@pytest.mark.parametrize("name", ["adamw", "amsgrad", "novograd"])
def test_an_nnx_optimizer_trains_a_model(name):
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, rule_of(name), wrt=nnx.Param)
    x = tree()["kernel"]

    @nnx.jit
    def train(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda model: jnp.mean(model(x) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    losses = [train(model, optimizer) for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]
    assert optimizer.step[...] == 30
