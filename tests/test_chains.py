"""Chains: their trace looks into every rule and changes nothing; stages are found in them."""

import functools
import pickle

import jax
import jax.numpy as jnp
import optax
from checks import assert_close, assert_same, each_rule, further, of_matrices, raises, rule_of, tree

import adamx
from adamx import DivideByRoot, LearningRate, SecondMoment, WiringError, probes

CLIP = optax.clip_by_global_norm(1.0)
PARAMS, GRADS = tree(), tree(1)


def chain_of(rule):
    """A rule alone, probed in a chain of its own, and hidden in a transformation of Optax's."""
    return adamx.chain(
        CLIP,
        rule,
        optax.scale(-1.0),
        adamx.chain(probes.probe(of_matrices(rule), probes.update_norm), optax.ema(0.5)),
        optax.masked(rule, {"kernel": True, "bias": False, "scale": True}),
    )


@each_rule
def test_trace_is_update_bit_for_bit(name, request):
    tx = adamx.chain(*chain_of(rule_of(name)).parts[:-1])
    if any(stage.sums for stage in tx.stages):
        # Sums over the tree are added up in the same order only by programs as they are by default.
        request.getfixturevalue("optimizing")
    params, grads = {"kernel": PARAMS["kernel"]}, {"kernel": GRADS["kernel"]}
    state, more = tx.init(params), further(tx, grads)

    def update(g, s, p):
        return tx.update(g, s, p, **more)

    def trace(g, s, p):
        return tx.trace(g, s, p, **more)[:2]

    # QHAdam's mixture, and Muon's products, are rounded as their loops are fused.
    compare = functools.partial(assert_close, rtol=1e-5) if name in ("qhadam", "muon") else assert_same
    expected = update(grads, state, params)
    compare(trace(grads, state, params), expected)
    compare(trace(grads, expected[1], params), update(grads, expected[1], params))
    update, trace = (jax.jit(f).lower(grads, state, params) for f in (update, trace))
    if with_one_name(update.as_text()) != with_one_name(trace.as_text()):
        update, trace = update.compile(), trace.compile()
        expected = update(grads, state, params)
        compare(trace(grads, state, params), expected)
        compare(trace(grads, expected[1], params), update(grads, expected[1], params))


def with_one_name(program):
    """The text of a lowered program without its name."""
    return program.split("\n", 1)[1]


def test_trace_in_a_scan_is_update_in_a_scan():
    tx = chain_of(adamx.adamw(optax.linear_schedule(0.5, 0.0, 4)))

    def updated(state, grads):
        updates, state = tx.update(grads, state, PARAMS)
        return state, updates

    def traced(state, grads):
        updates, state, (_, signals, _, (measured, _), _) = tx.trace(grads, state, PARAMS)
        return state, (updates, signals.lr, measured)

    run = jax.jit(lambda step: jax.lax.scan(step, tx.init(PARAMS), tree(1, steps=3)), static_argnums=0)
    (state, updates), (same_state, (same_updates, rates, measured)) = run(updated), run(traced)
    assert_same((same_state, same_updates), (state, updates))
    assert rates.tolist() == [0.5, 0.375, 0.25]
    assert set(measured) == {"update_norm"} and measured["update_norm"].shape == (3,)


def test_trace_under_vmap_is_a_loop():
    def chain_with(rate):
        # What optax.masked closes over is structure, and cannot be batched.
        return adamx.chain(*chain_of(adamx.adamw(rate)).parts[:-1])

    def trace(tx):
        return tx.trace(GRADS, tx.init(PARAMS), PARAMS)

    batch = chain_with(jnp.array([0.01, 0.1]))
    together = jax.jit(jax.vmap(trace, in_axes=(adamx.axes_of(batch),)))(batch)
    for i, rate in enumerate((0.01, 0.1)):
        assert_close(jax.tree.map(lambda lanes, i=i: lanes[i], together), trace(chain_with(rate)), rtol=1e-5)


def test_what_trace_shows_of_each_part():
    rule = adamx.adam(0.1)
    tx = chain_of(rule)
    _, _, shown = tx.trace(GRADS, tx.init(PARAMS), PARAMS)
    nothing, signals, also_nothing, (measured, nothing_inside), hidden = shown
    assert nothing is also_nothing is nothing_inside is hidden is None
    clipped, _ = CLIP.update(GRADS, CLIP.init(PARAMS))
    updates, _, expected = rule.trace(clipped, rule.init(PARAMS), PARAMS)
    assert_same(signals, expected)
    probed, _ = tx.parts[3].parts
    turned = jax.tree.map(jnp.negative, updates)
    assert_close(measured, probed.trace(turned, probed.init(PARAMS), PARAMS)[2])
    assert_same(probes.measure(shown[1], probes.gradient_norm), probes.measure(expected, probes.gradient_norm))


def test_a_chain_without_rules_shows_nothing():
    tx = adamx.chain(CLIP, optax.scale(2.0))
    updates, _, shown = tx.trace(GRADS, tx.init(PARAMS))
    assert shown == (None, None)
    assert_same(updates, tx.update(GRADS, tx.init(PARAMS))[0])


def test_what_is_not_read_of_a_chains_trace_costs_nothing():
    tx = adamx.chain(CLIP, adamx.adamw(0.1), probes.probe(adamx.sgd(1.0)))
    state = tx.init(PARAMS)
    plain = jax.jit(lambda: tx.update(GRADS, state, PARAMS)).lower().compile()
    traced = jax.jit(lambda: tx.trace(GRADS, state, PARAMS)[:2]).lower().compile()
    assert traced.cost_analysis()["flops"] == plain.cost_analysis()["flops"]
    assert traced.memory_analysis().temp_size_in_bytes <= plain.memory_analysis().temp_size_in_bytes


def test_extra_arguments_reach_optaxs_parts_that_take_them():
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, cooldown=0, accumulation_size=1)
    tx = adamx.chain(CLIP, adamx.adam(0.1), adamx.chain(probes.probe(adamx.sgd(1.0)), plateau))
    state = tx.init(PARAMS)
    for value in (1.0, 2.0, 3.0):
        *traced, _ = tx.trace(GRADS, state, PARAMS, value=value)
        assert_same(tuple(traced), tx.update(GRADS, state, PARAMS, value=value))
        state = traced[1]
    assert state[2][1].scale == 0.25


def test_get_finds_the_one_stage_of_all_parts():
    inner = adamx.chain(optax.ema(0.5), probes.probe(adamx.scale_by_adam()))
    tx = adamx.chain(CLIP, inner, adamx.update_rule(adamx.TakeGradient(), LearningRate(0.25)))
    assert tx.get(LearningRate) == LearningRate(0.25)
    assert tx.get(DivideByRoot) == inner.get(DivideByRoot) == adamx.adam(0.1).get(DivideByRoot)
    assert adamx.chain(adamx.amsgrad(0.1)).get(SecondMoment) == SecondMoment(0.999)
    with raises(WiringError, "has no Sign: Momentum", "LearningRate(learning_rate=0.25)", "that it has once"):
        tx.get(adamx.Sign)
    with raises(WiringError, "has 2 times a LearningRate"):
        adamx.chain(tx, adamx.sgd(0.1)).get(LearningRate)
    with raises(WiringError, "has no LearningRate"):
        adamx.chain(CLIP).get(LearningRate)


def test_a_probed_rule_in_a_chain_is_data_as_any_other():
    tx = adamx.chain(probes.probe(adamx.adam(0.1), probes.update_norm), adamx.chain(adamx.sgd(0.2)))
    assert jax.tree.leaves(tx)[-1] == 0.2 and 0.1 in jax.tree.leaves(tx)
    again = pickle.loads(pickle.dumps(tx))
    assert again == tx and hash(again) == hash(tx) and "update_norm" in repr(tx)
    assert tx != adamx.chain(probes.probe(adamx.adam(0.1), probes.update_rms), adamx.chain(adamx.sgd(0.2)))


def test_a_chain_is_rebuilt_with_anything_in_the_place_of_its_rules():
    tx = adamx.chain(CLIP, adamx.adam(0.1))
    marked = jax.tree.map(lambda rule: "rule", tx, is_leaf=lambda x: isinstance(x, adamx.UpdateRule))
    assert marked.parts == (CLIP, "rule")


def test_errors_of_a_chain():
    tx = adamx.chain(CLIP, adamx.adam(0.1))
    alone = tx.parts[1].init(PARAMS)
    for call in (tx.update, tx.trace):
        with raises(ValueError, "the state of a chain of 2", "got RuleState"):
            call(GRADS, alone, PARAMS)
        with raises(ValueError, "the state of a chain of 2", "got one of 1"):
            call(GRADS, (alone,), PARAMS)
    with raises(TypeError, "one or more gradient transformations, got none"):
        adamx.chain()
