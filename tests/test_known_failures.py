"""What users of other libraries run into, a numbered list: one test for each entry sets the situation up and shows it to be harmless."""

import functools
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import (
    PAIR,
    assert_close,
    assert_finite,
    assert_same,
    at,
    description,
    each_rule,
    normal,
    optimized,
    rule_of,
    run,
    slots_of_leaves,
    step,
    tree,
    update,
    updating,
)

import adamx


def bfloat16(values):
    return optax.tree.cast(values, jnp.bfloat16)


def test_01_bf16_second_moment_decays():
    """A b2 of .999 rounds to 1 in bf16: nu never decays (1: stuck at .5 after ones, still .5 after 2000 zeros; exact .068)."""
    rule, params = adamx.adam(1e-3), jnp.ones(2, jnp.bfloat16)
    ones, zeros = jnp.ones((700, 2), jnp.bfloat16), jnp.zeros((2000, 2), jnp.bfloat16)
    _, state, _ = run(rule, params, ones)
    np.testing.assert_allclose(state.slots["nu"], 1 - 0.999**700, rtol=1e-5)
    _, state, _ = run(rule, params, jnp.concatenate([ones, zeros]))
    np.testing.assert_allclose(state.slots["nu"], (1 - 0.999**700) * 0.999**2000, rtol=1e-5)
    assert state.slots["nu"].dtype == jnp.float32


def test_02_injected_hyperparameters_are_refused_in_bf16_and_exact_in_float32():
    """`inject_hyperparams` on bf16 parameters casts b2 to 1: NaN in step 1; injected and plain Adam drift apart by 7e-6."""
    params, grads = bfloat16(tree()), bfloat16(tree(1, steps=20))
    injected = optax.inject_hyperparams(adamx.adam)(1e-2)
    with pytest.raises(TypeError, match=r"b1 arrived as bfloat16.*hyperparam_dtype=jnp\.float32"):
        jax.jit(injected.update).lower(params, jax.eval_shape(injected.init, params), params)
    exact = optax.inject_hyperparams(adamx.adam, hyperparam_dtype=jnp.float32)(1e-2)
    plain, with_injected = optimized(adamx.adam(1e-2).update), optimized(exact.update)
    state, injected_state = adamx.adam(1e-2).init(params), exact.init(params)
    for i in range(20):
        expected, state = plain(at(grads, i), state, params)
        updates, injected_state = with_injected(at(grads, i), injected_state, params)
        assert_same((updates, injected_state.inner_state), (expected, state))


@each_rule
def test_03_a_zero_gradient_in_fp16_is_no_nan(name):
    """fp16 with an exactly-zero gradient: NaN in 20 of 27 optimizers."""
    params = tree()["kernel"].astype(jnp.float16)
    zeros = optax.tree.zeros_like(params)
    rule, state = rule_of(name, weight_decay=0.0), rule_of(name).init(params)
    for _ in range(2):
        updates, state = update(rule, zeros, state, params)
        # Fromage shrinks the parameters in every step.
        assert name == "fromage" or not jnp.any(updates)
        assert_finite((updates, state))


@each_rule
def test_04_the_state_keeps_its_dtypes_under_mixed_precision(name):
    """bf16 parameters with float32 gradients: a state dtype changes after the first update: second compile, scan error."""
    rule, params = rule_of(name), bfloat16(tree())
    state = rule.init(params)
    after = jax.eval_shape(updating(rule), tree(1), state, params)[1]
    assert description(after) == description(state)
    jax.eval_shape(lambda: jax.lax.scan(lambda s, g: update(rule, g, s, params)[::-1], state, tree(1, steps=3)))


@pytest.mark.parametrize("b2", [0.999, 0.9999, 0.99999, 0.999999])
def test_05_bias_correction_is_exact_from_the_first_step(b2):
    """Bias correction in float32 is off by 6.7e-6 at b2 = .999 and by 6.6e-3 at .999999 in step 1."""
    params, grads = jnp.ones(4), jnp.broadcast_to(normal((4,), 3), (200, 4))
    for rule in (adamx.adam(1.0, b2=b2, eps=0.0), adamx.adam(1.0, b2=jnp.float32(b2), eps=0.0)):
        _, _, updates = run(rule, params, grads)
        np.testing.assert_allclose(updates[0], -jnp.sign(grads[0]), rtol=3e-7)
        np.testing.assert_allclose(updates, -jnp.sign(grads), rtol=1e-6)


def test_06_a_bf16_parameter_moves_by_steps_below_its_resolution():
    """A bf16 parameter of 1 does not move in 100 steps of learning rate 1e-3."""
    rule, params, grads = adamx.adam(1e-3), jnp.ones(1024, jnp.bfloat16), jnp.ones(1024, jnp.bfloat16)
    (moved, _), _ = jax.jit(
        lambda: jax.lax.scan(
            lambda carry, _: (rule.step(grads, carry[1], carry[0]), None), (params, rule.init(params)), length=100
        )
    )()
    x = np.asarray(moved, np.float64)
    assert moved.dtype == jnp.bfloat16
    assert abs(x.mean() - 0.9) < 3 * x.std() / np.sqrt(x.size)
    assert x.std() < 0.05


@each_rule
def test_07_a_none_gradient_keeps_the_slots(name):
    """A None gradient for a leaf with state raises in most optimizers, and drops the state in others."""
    rule, params = rule_of(name), tree(shapes=PAIR)
    state = rule.init(params)
    updates, after = update(rule, tree(1, shapes=PAIR) | {"kernel": None}, state, params)
    assert updates["kernel"] is None
    assert description(after) == description(state)
    assert_same(*(slots_of_leaves(s).get("kernel") for s in (after, state)))


@each_rule
def test_08_everything_can_be_donated_and_a_first_gradient_of_zero_is_harmless(name):
    """prodigy and madgrad alias parameters in their state: donating both crashes; zeros first make NaN for ever."""
    rule, params = rule_of(name), tree(shapes=PAIR)
    train = jax.jit(functools.partial(step, rule), donate_argnums=(1, 2))
    params, state = train(optax.tree.zeros_like(params), rule.init(params), params)
    params, state = train(tree(1, shapes=PAIR), state, params)
    assert_finite((params, state))
    assert np.any(params["kernel"] != tree()["kernel"])


@each_rule
def test_09_a_checkpoint_fits_whether_the_learning_rate_was_a_number_or_a_schedule(name):
    """The state's tree depends on float against schedule learning rate: old checkpoints break."""
    params, grads, schedule = tree(shapes=PAIR), tree(1, shapes=PAIR), optax.constant_schedule(1e-2)
    _, saved = update(rule_of(name), params, rule_of(name).init(params), params)
    saved = pickle.loads(pickle.dumps(saved))
    scheduled = rule_of(name, schedule, peak=1e-2)
    # AdamC's decay of a schedule is another stage than a constant's.
    compare = assert_close if name == "adamc" else assert_same
    compare(update(scheduled, grads, saved, params), update(rule_of(name), grads, saved, params))


def test_10_complex_parameters_have_a_real_second_moment():
    """Complex parameters store nu as complex: twice the memory."""
    state = adamx.adam(1e-2).init({"w": jnp.ones(3, jnp.complex64)})
    assert (state.slots["mu"]["w"].dtype, state.slots["nu"]["w"].dtype) == (jnp.complex64, jnp.float32)


def test_10_float0_gradients_and_integer_parameters_are_refused_by_name():
    """float0 gradients raise an obscure error; integer parameters get an integer nu."""
    params = {"w": jnp.ones(3), "steps": jnp.arange(3)}
    with pytest.raises(TypeError, match=re.escape("parameter params['steps'] has dtype int32")):
        adamx.adam(1e-2).init(params)
    grads = jax.grad(lambda p: jnp.sum(p["w"] * p["steps"]), allow_int=True)(params)
    with pytest.raises(TypeError, match=re.escape("the gradient of params['steps'] has dtype float0")):
        adamx.sgd(1e-2).update(grads, adamx.sgd(1e-2).init(params), params)
    masked = optax.masked(adamx.adam(1e-2), {"w": True, "steps": False})
    updates, _ = masked.update(grads, masked.init(params), params)
    np.testing.assert_allclose(updates["w"], [0.0, -1e-2, -1e-2], rtol=1e-6)


def test_11_a_new_learning_rate_is_no_retrace():
    """Hyperparameters are closed over: every new learning rate is a retrace."""
    params = tree()
    first = jax.jit(lambda rule, grads: rule.update(grads, rule.init(params), params)[0])
    for rate in (0.5, 0.25, 0.125):
        updates = first(adamx.adam(rate, eps=0.0), tree(1))
        np.testing.assert_allclose(jnp.abs(updates["bias"]), rate, rtol=1e-6)
    assert first._cache_size() == 1


def test_12_amsgrad_is_torchs():
    """AMSGrad cannot reproduce torch or Keras: the raw average is maximised, then debiased."""
    grads, u = [3.0, 0.1, 0.1, 2.0], []
    mu = nu = largest = 0.0
    for t, g in enumerate(grads, start=1):
        mu, nu = 0.9 * mu + 0.1 * g, 0.9 * nu + 0.1 * g * g
        largest = max(largest, nu)
        u.append(mu / (1 - 0.9**t) / (np.sqrt(largest / (1 - 0.9**t)) + 1e-8))
    _, _, updates = run(adamx.amsgrad(1.0, b2=0.9), jnp.zeros([]), jnp.array(grads))
    np.testing.assert_allclose(-updates, u, rtol=1e-6)


def test_12_adans_difference_has_its_coefficient():
    """Adan has the wrong coefficient: it is b2, not 1 - b2."""
    m = (0.98 * 0.02 * 1 + 0.02 * 2) / (1 - 0.98**2) + 0.92 * (0.08 * 1) / (1 - 0.92**2)
    v = (0.99 * 0.01 * 1 + 0.01 * (2 + 0.92 * 1) ** 2) / (1 - 0.99**2)
    _, _, updates = run(adamx.adan(1.0, eps=0.0), jnp.zeros([]), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(-updates, [1.0, m / np.sqrt(v)], rtol=1e-6)


def test_12_nadam_has_the_momentum_schedule():
    """NAdam has no momentum schedule: c_t = b1 (1 - .96^(t psi) / 2)."""
    c1, c2 = (0.9 * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (1, 2))
    m = c2 * 0.1 * 3 / (1 - c1 * c2) + (1 - c1) * 3 / (1 - c1)
    _, _, updates = run(adamx.nadam(1.0, momentum_decay=0.004), jnp.zeros([]), jnp.array([3.0]))
    np.testing.assert_allclose(-updates[0], m / 3, rtol=1e-6)


def test_12_radams_eps_stands_where_its_documentation_says():
    """radam's eps sits elsewhere than torch's: here it is added to the root of the debiased average."""
    updates = run(adamx.radam(1.0, b2=0.9, eps=0.5, threshold=0.0), jnp.zeros([]), jnp.ones(20))[2]
    rectified = run(adamx.radam(1.0, b2=0.9, eps=0.0, threshold=0.0), jnp.zeros([]), jnp.ones(20))[2]
    np.testing.assert_allclose(updates[-1], rectified[-1] / 1.5, rtol=1e-5)
    assert "eps / sqrt(1 - b2^t)" in adamx.radam.__doc__


def test_13_signals_are_seen_in_a_scan_and_the_state_stays_the_same():
    """`optax.monitor` changes its state tree after init, so scan rejects it; it sees updates only."""
    rule, params, grads = adamx.amsgrad(1e-2), tree(), tree(1, steps=5)

    def looked_into(state, g):
        updates, state, signals = rule.trace(g, state, params)
        return state, (updates, signals)

    # As programs are by default: bits depend on how a loop is fused.
    seeing, still = (optimized(run) for run in (lambda s, g: jax.lax.scan(looked_into, s, g), run_still.__wrapped__))
    state, (updates, seen) = seeing(rule.init(params), grads)
    assert_same((state, updates), still(rule, params, grads))
    assert {x["bias"].shape for x in (seen.p, seen.m, seen.v, seen.raw)} == {(5, 3)}
    assert_same(seen.raw, grads)
    assert np.all(np.diff(seen.v["bias"][:, 0] * -np.expm1(seen.t * np.log(0.999))) >= -1e-9), (
        "the maximum never shrinks"
    )


@jax.jit
def run_still(rule, params, grads):
    """State and updates of steps in which the parameters stay where they are."""
    return jax.lax.scan(lambda s, g: rule.update(g, s, params)[::-1], rule.init(params), grads)


def test_14_adopt_is_injected_under_vmap():
    """adafactor and adopt cannot be injected under vmap; integer arguments break under `inject_hyperparams`."""
    params, grads = tree()["bias"], tree(1, steps=3)["bias"]

    def train(b1):
        injected = optax.inject_hyperparams(adamx.adopt)(learning_rate=1, b1=b1)
        return run_still_with(injected, params, grads)

    for b1, updates in zip((0.5, 0.9), jax.vmap(train)(jnp.array([0.5, 0.9])), strict=True):
        np.testing.assert_allclose(updates, run_still(adamx.adopt(1, b1=b1), params, grads)[1], rtol=1e-6)


def run_still_with(tx, params, grads):
    return jax.lax.scan(lambda s, g: tx.update(g, s, params)[::-1], tx.init(params), grads)[1]


def test_16_centred_rmsprop_survives_a_constant_gradient():
    """Centred RMSProp by subtraction (torch, Optax): NaN on a constant gradient within 400 steps."""
    grads = jnp.broadcast_to(jnp.array([1.0, 0.1, 3e-3]), (1000, 3))
    for options in ({}, {"bias_correction": True}, {"eps_in_sqrt": False}):
        rule = adamx.rmsprop(1e-3, centered=True, **options)
        _, state, updates = run(rule, jnp.zeros(3), grads)
        assert_finite((state, updates))
        assert np.all(state.slots["nu"] >= 0)


def test_17_states_come_back_in_the_dtypes_they_were_saved_in():
    """torch's load_state_dict casts states to the parameter's dtype; resuming promotes bf16 moments to float32."""
    rule, params = adamx.adam(1e-2).store(mu=adamx.BFloat16()), bfloat16(tree())
    _, state = rule.update(params, rule.init(params), params)
    resumed = pickle.loads(pickle.dumps(state))
    assert description(resumed) == description(state)
    assert description(rule.update(params, resumed, params)[1]) == description(state)


@each_rule
def test_18_a_meta_gradient_through_zero_gradients_is_finite(name):
    """The root of nu has infinite slope at 0: meta-gradients through the first steps are NaN unless eps_root > 0."""
    rule = rule_of(name, eps_root=0.0)

    def loss_after_training(start):
        params, state = start, rule.init(start)
        for _ in range(2):
            grads = jax.grad(lambda p: jnp.sum(p**4))(params)
            updates, state = update(rule, grads, state, params)
            params = params + updates
        return jnp.sum(params**2)

    slope = jax.jit(jax.grad(loss_after_training))(jnp.array([0.0, 1.0]))
    assert_finite(slope)
    assert slope[1] != 0
