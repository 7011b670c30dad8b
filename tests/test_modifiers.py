"""Modifiers of rules: every combination builds and runs, or is refused; those with a name are what the name says."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import assert_close, assert_finite, further, raises, tree

import adamx
from adamx import WiringError, modifiers

PARAMS = {"w": jax.ShapeDtypeStruct((4, 3), jnp.float32)}
each_modifier = pytest.mark.parametrize("name", modifiers.MODIFIERS)


def modified(name, rule):
    arguments = (0.1,) if name == "cautious_decay" else ()
    return modifiers.MODIFIERS[name](rule, *arguments)


def combinations(name):
    """The rules that a modifier takes, modified, by name; the others' errors say why."""
    taken = {}
    for rule in adamx.CATALOGUE:
        try:
            taken[rule] = modified(name, adamx.create(rule, 1e-2))
        except (WiringError, TypeError) as error:
            assert len(str(error)) > 40 and (name in str(error) or "belongs to both" in str(error)), error
    return taken


@each_modifier
def test_every_combination_keeps_its_state_or_is_refused_with_a_reason(name):
    taken = combinations(name)
    assert len(taken) > (15 if name in ("nesterov", "amsgrad") else 40)
    for combined in taken.values():
        state = jax.eval_shape(combined.init, PARAMS)
        update = jax.tree_util.Partial(lambda r, g, s, p: r.update(g, s, p, **further(r, g)), combined)
        updates, after = jax.eval_shape(update, PARAMS, state, PARAMS)
        assert after == state and updates == PARAMS


SAMPLE = random.Random(0).sample([(m, r) for m in modifiers.MODIFIERS for r in combinations(m)], 24)


@pytest.mark.parametrize("name, rule", SAMPLE)
def test_a_combination_stays_finite_on_a_mixed_tree(name, rule):
    rule = modified(name, adamx.create(rule, 1e-2))
    params = tree() | {"half": jnp.ones(3, jnp.bfloat16), "frozen": jnp.ones(2)}

    @jax.jit
    def ten(params):
        def step(carry, seed):
            params, state = carry
            grads = jax.tree.map(lambda p: jnp.cos(3 * p.astype(jnp.float32) + seed).astype(p.dtype), params)
            grads = grads | {"frozen": None}
            updates, state = rule.update(grads, state, params, **further(rule, grads))
            return (optax.apply_updates(params, updates | {"frozen": jnp.zeros(2)}), state), None

        return jax.lax.scan(step, (params, rule.init(params)), jnp.arange(10.0))[0]

    after, state = ten(params)
    assert_finite((after, state))
    np.testing.assert_array_equal(after["frozen"], params["frozen"])
    assert np.any(after["kernel"] != params["kernel"])


def after(rule, steps=3):
    params = tree()

    @jax.jit
    def run(params):
        state = rule.init(params)
        for step in range(steps):
            updates, state = rule.update(tree(step + 1), state, params)
            params = optax.apply_updates(params, updates)
        return params

    return run(params)


@pytest.mark.parametrize(
    "name, named",
    [
        ("AMSBound", adamx.amsbound(0.1)),
        ("AMSGrad", adamx.amsgrad(0.1)),
        ("AMSGradW", adamx.amsgradw(0.1)),
        ("LAMB", adamx.lamb(0.1, eps=1e-8, weight_decay=1e-4)),
        ("NAdam", adamx.nadam(0.1)),
        ("NAdamW", adamx.nadamw(0.1)),
    ],
)
def test_a_named_combination_is_the_rule_of_that_name(name, named):
    modifier, rule, _ = modifiers.NAMES[name]
    combined = modifiers.MODIFIERS[modifier](adamx.create(rule, 0.1))
    assert_close(after(combined), after(named))


def test_every_named_combination_can_be_built():
    for modifier, rule, source in modifiers.NAMES.values():
        assert modified(modifier, adamx.create(rule, 1e-2)) and source


def test_what_modifiers_do():
    params, grads = {"w": jnp.array([[1.0, -2.0], [3.0, 4.0]])}, {"w": jnp.array([[1.0, -1.0], [2.0, 0.5]])}
    sgd = adamx.sgd(1.0)

    def update(rule):
        return np.asarray(rule.update(grads, rule.init(params), params)[0]["w"])

    assert_close(update(modifiers.maximize(sgd)), np.asarray(grads["w"]))
    assert_close(update(modifiers.centralize(sgd)), -np.array([[-0.5, -0.75], [0.5, 0.75]], np.float32))
    assert_close(update(modifiers.clip_global_norm(sgd, 0.5)), -np.asarray(grads["w"]) * np.float32(0.5 / 2.5))
    assert_close(np.linalg.norm(update(modifiers.trust_ratio(sgd))), np.float32(30**0.5))
    assert_close(np.mean(update(modifiers.clip_rms(sgd, 0.5)) ** 2) ** 0.5, np.float32(0.5))
    # Only where the update and the parameter agree in sign.
    assert_close(update(modifiers.cautious_decay(sgd, 0.5)), -np.asarray(grads["w"]) - 0.5 * np.asarray(params["w"]))
    lion, state = modifiers.cautious(adamx.lion(1.0, weight_decay=0.0)), None
    state = lion.init(params)
    _, state = lion.update(jax.tree.map(lambda g: 100 * g, grads), state, params)
    flipped = {"w": grads["w"] * jnp.array([[-1.0, 1.0], [1.0, 1.0]])}
    updates, _ = lion.update(flipped, state, params)
    assert_close(updates["w"], jnp.array([[0.0, 1.0], [-1.0, -1.0]], jnp.float32) * (4 / 3))


def test_a_maximum_keeps_what_a_second_moment_mixes_in():
    # QHAdam's v has a share of this step's squared gradient, which is no part of the average whose maximum is taken.
    rule = modifiers.amsgrad(adamx.scale_by_qhadam(b1=0.5, b2=0.5, nu1=0.7, nu2=0.6, eps=1e-8))
    grads = np.array([2.0, 0.5, -1.0, 0.25])
    mu = nu = largest = 0.0
    with jax.enable_x64(True):
        state = rule.init(jnp.zeros(()))
        for t, g in enumerate(grads, start=1):
            mu, nu = 0.5 * mu + 0.5 * g, 0.5 * nu + 0.5 * g**2
            largest, weight = max(largest, nu), 1 - 0.5**t
            m, v = 0.3 * g + 0.7 * mu / weight, 0.4 * g**2 + 0.6 * largest / weight
            update, state = rule.update(jnp.asarray(g), state)
            assert_close(update, jnp.asarray(m / (np.sqrt(v) + 1e-8)), rtol=1e-12)
    assert largest > nu


def test_what_has_no_place_is_refused():
    with raises(
        WiringError,
        "cautious changes the update before the learning rate; this rule has none apart from it",
        "BoundedRate",
    ):
        modifiers.cautious(adamx.adabound(1e-3))
    with raises(WiringError, "nesterov needs a rule with one Momentum", "LionMomentum"):
        modifiers.nesterov(adamx.lion(1e-3))
    with raises(WiringError, "amsgrad needs a rule with one second moment", "RunningMax"):
        modifiers.amsgrad(adamx.amsgrad(1e-3))
    with raises(TypeError, "takes a rule, got Partition; modify the rules of a chain or partition one by one"):
        modifiers.cautious(adamx.muon(1e-3))


def test_storages_are_kept():
    small = adamx.adam(1e-3, mu_dtype=jnp.bfloat16)
    assert modifiers.cautious(small).storages == modifiers.amsgrad(small).storages == small.storages
