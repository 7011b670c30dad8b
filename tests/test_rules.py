"""What rules do beside update: keep slots in less, step, show their signals; and how they are batched and chained."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import (
    PAIR,
    assert_close,
    assert_same,
    case_rule,
    each_case,
    each_rule,
    line_of,
    rule_of,
    run,
    step,
    takes,
    trace,
    tree,
    update,
)

import adamx
from adamx import (
    BFloat16,
    LearningRate,
    Nearest,
    Stochastic,
)

# Storage


@pytest.mark.parametrize(
    "rule",
    [
        adamx.adam(1e-2).store(mu=BFloat16()),
        adamx.adam(1e-2, mu_dtype=jnp.bfloat16),
        adamx.lion(1e-2, mu_dtype="bfloat16"),
        adamx.ademamix(1e-2, mu_dtype=jnp.bfloat16),
        adamx.amsgrad(1e-2, mu_dtype=jnp.float16),
        adamx.sgd(1e-2, momentum=0.9, accumulator_dtype=jnp.bfloat16),
        adamx.adopt(1e-2, mu_dtype=jnp.bfloat16),
    ],
    ids=repr,
)
def test_a_momentum_is_kept_in_its_dtype_and_the_second_moment_in_float32(rule):
    params, grads = tree(), tree(1, steps=10)
    after, state, _ = run(rule, params, grads)
    narrow = {name for name, _ in rule.storages}
    assert narrow
    for name, leaves in state.slots.items():
        wanted = dict(rule.storages)[name].dtype if name in narrow else "float32"
        assert {str(leaf.dtype) for leaf in leaves.values()} == {wanted}
    exact, _, _ = run(adamx.UpdateRule(rule.stages), params, grads)
    assert_close(after, exact, rtol=0.02)


@pytest.mark.parametrize("name", [n for n, e in adamx.CATALOGUE.items() if takes(e.constructor, "mu_dtype")])
def test_every_mu_dtype_reaches_every_momentum(name):
    rule = rule_of(name, mu_dtype=jnp.bfloat16)
    momenta = {s.name for stage in rule.stages for s in stage.slots if s.name.startswith("mu")}
    assert {slot for slot, _ in rule.storages} == momenta
    assert rule_of(name, mu_dtype=jnp.float32).init(tree()).slots["mu"]["bias"].dtype == jnp.float32


# Steps


@each_case
def test_a_step_is_update_and_apply(case):
    rule, params, grads = case_rule(case), tree()["kernel"], tree(1)["kernel"]
    state = rule.init(params)
    updates, wanted = update(rule, grads, state, params)
    stepped, after = step(rule, grads, state, params)
    assert_close(after, wanted)
    assert_close(stepped, optax.apply_updates(params, updates), rtol=1.2e-7)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_step_rounds_low_precision_parameters_as_stored(dtype):
    params = {"a": jnp.ones(4096, dtype), "b": jnp.ones(4096, dtype)}
    grads = optax.tree.ones_like(params)
    rule = adamx.adam(float(jnp.finfo(dtype).eps) / 8)

    def stepped(rule, **storages):
        return rule.store(**storages).step(grads, rule.init(params), params)[0]

    assert_same(stepped(rule, params=Nearest()), params)
    once = stepped(rule)
    assert_same(stepped(rule), once)
    moved = float(np.mean(np.asarray(once["a"]) < 1))
    assert 0.2 < moved < 0.3, "downwards one unit is half an eps: a quarter of the elements moves"
    assert np.any(once["a"] != once["b"]), "leaves are rounded independently"
    assert np.any(stepped(rule, params=Stochastic(seed=1))["a"] != once["a"])


def test_a_step_leaves_what_is_masked_out_as_it_is():
    params = {"w": jnp.ones(2), "frozen": optax.MaskedNode()}
    for rule in (adamx.adam(1e-2), adamx.sgd(1e-2)):
        stepped, _ = rule.step(params, rule.init(params), params)
        assert stepped["frozen"] == optax.MaskedNode()


# Looking inside, batching, chaining


@each_rule
def test_signals_show_the_moments_and_leave_the_update_as_it_is(name, request):
    rule, shapes = line_of(name, PAIR)
    if name in ("nadam", "nadamw") or any(stage.sums for stage in rule.stages):
        # A mixture, and sums over the tree, are rounded alike only in programs as they are by default.
        request.getfixturevalue("optimizing")
    params, grads = tree(shapes=shapes), tree(1, shapes=shapes)
    updates, state, signals = trace(rule, grads, rule.init(params), params)
    # QHAdam's mixture, BCOS' square and Muon's products are rounded as their loops are fused.
    compare = functools.partial(assert_close, rtol=1e-5) if name in ("bcos", "qhadam", "muon") else assert_same
    compare((updates, state), update(rule, grads, rule.init(params), params))
    assert_same(signals.raw, grads)
    written = frozenset().union(*(stage.writes for stage in rule.stages))
    for field in ("mu", "m", "v", "u", "lr"):
        assert (getattr(signals, field) is not None) == (field in written)
    assert_same(signals.u, updates)


def test_a_stack_is_a_batched_rule_and_its_axes_say_where():
    rules = [adamx.adam(rate) for rate in (1e-3, 1e-2)]
    batch = adamx.stack(rules)
    assert {leaf.shape for leaf in jax.tree.leaves(batch)} == {(2,)}
    assert set(jax.tree.leaves(adamx.axes_of(batch))) == {0}
    partly = adamx.adam(jnp.array([1e-3, 1e-2]))
    assert jax.tree.leaves(adamx.axes_of(partly)) == [0]
    assert len(jax.tree.leaves(adamx.axes_of(partly), is_leaf=lambda x: x is None)) == len(jax.tree.leaves(partly))


@pytest.mark.parametrize("number", [np.float32, np.float64, jnp.float32, np.asarray, lambda x: np.full(3, x)])
def test_a_rule_of_other_numbers_prints(number):
    assert repr(jax.tree.map(number, adamx.adam(1e-2))).startswith("Momentum(b1=")


def test_a_chain_is_optaxs_chain_and_a_tree():
    params, grads = tree(), tree(1)
    clip = optax.clip_by_global_norm(0.5)
    ours, theirs = adamx.chain(clip, adamx.adam(1e-2)), optax.chain(clip, adamx.adam(1e-2))
    assert_same(ours.init(params), theirs.init(params))
    assert_same(
        ours.update(grads, ours.init(params), params, value=0.0), theirs.update(grads, theirs.init(params), params)
    )
    assert jax.tree.leaves(ours) == jax.tree.leaves(adamx.adam(1e-2))
    assert ours == adamx.chain(clip, adamx.adam(1e-2)) != adamx.chain(clip, adamx.adam(1e-3))
    assert hash(ours) == hash(adamx.chain(clip, adamx.adam(1e-2)))


def test_a_chain_is_an_argument_of_jit_and_grad_and_can_be_pickled_and_nested():
    params = tree()
    tx = adamx.chain(adamx.chain(adamx.scale_by_adam()), adamx.update_rule(adamx.TakeGradient(), LearningRate(0.1)))
    assert pickle.loads(pickle.dumps(tx)) == tx

    @jax.jit
    def moved(tx):
        return optax.tree.sum(tx.update(params, tx.init(params), params)[0])

    slopes = jax.grad(moved)(tx)
    np.testing.assert_allclose(jax.tree.leaves(slopes)[-1], moved(tx) / 0.1, rtol=1e-5)
    moved(adamx.chain(*tx.parts[:1], adamx.update_rule(adamx.TakeGradient(), LearningRate(0.2))))
    assert moved._cache_size() == 1
