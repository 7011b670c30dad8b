"""Probes: rules with measures attached, as transformations and as values."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import PAIR, assert_same, each_rule, further, line_of, tree

import adamx
from adamx import probes

PARAMS, GRADS = tree(), tree(1)


@each_rule
def test_every_rule_is_probed_in_a_scan_and_its_state_stays_its_own(name):
    rule, shapes = line_of(name, PAIR)
    params, grads, probed = tree(shapes=shapes), tree(1, shapes=shapes), probes.probe(rule)

    @jax.jit
    def run(params):
        def body(carry, _):
            updates, state, measured = probed.trace(grads, carry[1], carry[0], **further(rule, grads))
            return (optax.apply_updates(carry[0], updates), state), measured

        return jax.lax.scan(body, (params, probed.init(params)), length=3)

    (_, state), measured = run(params)
    assert jax.tree.structure(state) == jax.tree.structure(rule.init(params))
    assert set(measured) == {m.name for m in probes.measures_of(rule)}
    assert all(np.isfinite(values).all() and len(values) == 3 for values in measured.values())
    assert probes.table(measured, every=2).count("\n") == 2


def test_probes_that_nobody_reads_cost_nothing():
    def instructions(function):
        state = rule.init(PARAMS)
        text = jax.jit(function).lower(GRADS, state, PARAMS).compile().as_text()
        return sum(" = " in line for line in text.splitlines())

    rule = adamx.adamw(1e-3)
    probed = probes.probe(rule)
    assert instructions(lambda g, s, p: probed.trace(g, s, p)[:2]) == instructions(rule.update)


def test_a_probed_rule_is_a_pytree_and_a_transformation():
    probed = probes.probe(adamx.adam(0.1), probes.update_rms)
    assert isinstance(probed, optax.GradientTransformationExtraArgs)
    assert jax.tree.leaves(probed) == jax.tree.leaves(probed.rule)
    assert "update_rms" in repr(probed)


def test_debias_weights_and_half_lives_come_from_the_state():
    rule = adamx.adam(0.1, b1=0.9, b2=0.999)
    state = rule.init(PARAMS)
    assert [float(life) for life in probes.half_lives(state).values()] == [0, 0]
    for _ in range(3):
        _, state = rule.update(GRADS, state, PARAMS)
    weights, lives = probes.debias_weights(state), probes.half_lives(state)
    np.testing.assert_allclose([weights["mu"], weights["nu"]], [1 - 0.9**3, 1 - 0.999**3], rtol=1e-6)
    np.testing.assert_allclose([lives["mu"], lives["nu"]], [np.log(0.5) / np.log(b) for b in (0.9, 0.999)], rtol=1e-6)


def update_size(x):
    return jnp.abs(x.u)


OWN = [
    probes.Quantiles("update_size", {"u"}, update_size, [0, 0.5, 1]),
    probes.Norm("update_size", {"u"}, update_size),
    probes.Mean("update_size", {"u"}, update_size),
    probes.Cosine("cosine", {"u"}, update_size, update_size),
    probes.RatioOfRootMeanSquares("ratio", {"u"}, update_size, update_size),
]


@pytest.mark.parametrize("measure", [*probes.MEASURES.values(), *OWN], ids=lambda m: f"{type(m).__name__} {m.name}")
def test_a_probe_is_pickled_and_equal_by_value(measure):
    probed = probes.probe(adamx.adam(0.1), measure, per="leaf")
    again, equal = pickle.loads(pickle.dumps(probed)), probes.probe(adamx.adam(0.1), measure, per="leaf")
    assert probed == again == equal and not probed != equal
    assert len({probed, again, equal}) == 1
    assert_same(*(tx.trace(GRADS, tx.init(PARAMS), PARAMS) for tx in (probed, again)))
    assert probed != probes.probe(adamx.adam(0.2), measure, per="leaf")
    assert probed != probes.probe(adamx.adam(0.1), measure, per="tree")
    assert probed != probes.probe(adamx.adam(0.1), measure, probes.Mean("x", {"u"}, update_size), per="leaf")
    assert probed != probed.rule


def test_equal_probes_are_traced_once():
    traces = []

    @jax.jit
    def measured(probed, state):
        traces.append(probed)
        return probed.trace(GRADS, state, PARAMS)[2]

    for rate in (0.1, 0.2):
        probed = probes.probe(adamx.adam(rate), probes.update_rms)
        measured(probed, probed.init(PARAMS))
    assert len(traces) == 1


def test_a_batch_of_probed_rules_is_a_loop():
    rates = jnp.array([0.1, 0.2])

    def measured(probed):
        return probed.trace(GRADS, probed.init(PARAMS), PARAMS)[2]

    batch = probes.probe(adamx.adam(rates), probes.update_norm, probes.update_ratio)
    together = jax.vmap(measured, in_axes=(adamx.axes_of(batch),))(batch)
    for i, rate in enumerate(rates):
        alone = measured(probes.probe(adamx.adam(rate), probes.update_norm, probes.update_ratio))
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][i], value, rtol=1e-6)


def test_a_probe_is_rebuilt_with_anything_in_the_place_of_its_rule():
    probed = probes.probe(adamx.adam(0.1), probes.update_rms)
    marked = jax.tree.map(lambda rule: "rule", probed, is_leaf=lambda x: isinstance(x, adamx.UpdateRule))
    assert marked.rule == "rule" and marked.measures == probed.measures
    assert probed.get(adamx.LearningRate) == adamx.LearningRate(0.1)
    path, _ = jax.tree_util.tree_leaves_with_path(probed)[-1]
    assert jax.tree_util.keystr(path) == ".rule.stages[3].learning_rate"
