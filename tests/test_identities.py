"""Identities between rules, and properties of their formulas, on gradients that hypothesis draws."""

import jax
import numpy as np
import pytest
from checks import optimized
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.tree_util import Partial

import adamx

STEPS, SIZE = 12, 3
ONES = np.ones(SIZE, np.float32)
FEW = settings(derandomize=True, deadline=None, max_examples=12, database=None)

# Zero, or 2^-10 to 2^10 in size: squares neither underflow nor overflow, and powers of two scale exactly.
SIZES = st.floats(2**-10, 2**10, width=32)
NUMBERS = st.just(0.0) | SIZES | SIZES.map(lambda x: -x)
gradients = arrays(np.float32, (STEPS, SIZE), elements=NUMBERS)
parameters = arrays(np.float32, (SIZE,), elements=NUMBERS)
decay_rates = st.sampled_from([0.0, 0.3, 0.9, 0.999, 0.99999])
learning_rates = st.sampled_from([1e-3, 0.1, 2.0])
powers_of_two = st.integers(-6, 6).map(lambda k: np.float32(2.0**k))


def trace(rule, grads, params=ONES):
    """Updates, signals and slots of all steps, stacked; the parameters stay where they are."""

    def step(state, g):
        updates, state, signal = rule.trace(g, state, params)
        return state, (updates, signal, state.slots)

    return jax.lax.scan(step, rule.init(params), grads)[1]


trace, optimized_trace = jax.jit(trace), optimized(trace)


def updates_of(rule, grads, params=ONES, trace=trace):
    return np.asarray(trace(rule, grads, params)[0])


def assert_close(actual, expected, rtol=1e-6):
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.max(np.abs(expected)))


# Adam


@FEW
@given(gradients, learning_rates)
def test_adam_without_memory_is_sign_descent(grads, lr):
    assert_close(updates_of(adamx.adam(lr, b1=0.0, b2=0.0, eps=0.0), grads), -lr * np.sign(grads))


@FEW
@given(gradients, decay_rates, decay_rates, learning_rates)
def test_the_first_step_of_adam_is_the_learning_rate_times_the_sign(grads, b1, b2, lr):
    assert_close(updates_of(adamx.adam(lr, b1=b1, b2=b2, eps=0.0), grads)[0], -lr * np.sign(grads[0]))


@FEW
@given(gradients, decay_rates, decay_rates)
def test_bias_correction_is_an_average_with_debiased_decay_rates(grads, b1, b2):
    _, signals, _ = trace(adamx.adam(0.1, b1=b1, b2=b2), grads)
    for average, values, b in ((signals.m, grads, b1), (signals.v, grads.astype(float) ** 2, b2)):
        expected = np.zeros(SIZE)
        for t in range(1, STEPS + 1):
            b_t = b * (1 - b ** (t - 1)) / (1 - b**t)
            expected = b_t * expected + (1 - b_t) * values[t - 1]
            np.testing.assert_allclose(average[t - 1], expected, rtol=1e-6, atol=1e-6 * np.max(np.abs(values)))


@FEW
@given(gradients, decay_rates, decay_rates)
def test_a_scheduled_constant_is_that_constant(grads, b1, b2):
    constant = adamx.adam(0.1, b1, b2, nesterov=True)
    scheduled = adamx.adam(Partial(_value, 0.1), Partial(_value, b1), Partial(_value, b2), nesterov=True)
    np.testing.assert_array_equal(updates_of(scheduled, grads), updates_of(constant, grads))


def _value(value, count):
    return value


# Invariances: a power of two scales a float exactly, so the updates are equal bit for bit

SCALE_FREE = {
    "adam": adamx.adam(0.1, eps=0.0),
    "adamw": adamx.adamw(0.1, eps=0.0, weight_decay=0.1),
    "adamax": adamx.adamax(0.1, eps=0.0),
    "nadam": adamx.nadam(0.1, eps=0.0),
    "nadam_torch": adamx.nadam(0.1, eps=0.0, momentum_decay=0.004),
    "amsgrad": adamx.amsgrad(0.1, eps=0.0),
    "amsgrad_debiased": adamx.amsgrad(0.1, eps=0.0, maximum_of="debiased"),
    "amsgrad_paper": adamx.amsgrad(0.1, eps=0.0, maximum_of="paper"),
    "yogi": adamx.yogi(0.1, eps=0.0, initial_accumulator_value=0.0),
    "yogi_first": adamx.yogi(0.1, eps=0.0, initial_accumulator_value="first"),
    "adabelief": adamx.adabelief(0.1, eps=0.0, eps_root=0.0),
    "radam": adamx.radam(0.1, b2=0.9, eps=0.0, warmup="none"),
    "adan": adamx.adan(0.1, eps=0.0),
    "ademamix": adamx.ademamix(0.1, eps=0.0),
    "adagrad": adamx.adagrad(0.1, initial_accumulator_value=0.0, eps=0.0),
    "rmsprop": adamx.rmsprop(0.1, eps=0.0),
    "rmsprop_centered": adamx.rmsprop(0.1, eps=0.0, centered=True, momentum=0.9),
    "adopt": adamx.adopt(0.1, eps=0.0),
    "lion": adamx.lion(0.1),
    "lamb": adamx.lamb(0.1, eps=0.0),
    "novograd": adamx.novograd(0.1, eps=0.0),
    "adam_atan2": adamx.adam_atan2(0.1),
    "adamod": adamx.adamod(0.1, eps=0.0),
    "adapnm": adamx.adapnm(0.1, eps=0.0),
    "bcos": adamx.bcos(0.1, eps=0.0),
    "centered_adam": adamx.centered_adam(0.1, eps=0.0),
    "focus": adamx.focus(0.1),
    "grams": adamx.grams(0.1, eps=0.0),
    "grokfast_adamw": adamx.grokfast_adamw(0.1, eps=0.0),
    "kourkoutas": adamx.kourkoutas(0.1, eps=0.0, tiny_spike=0.0),
    "laprop": adamx.laprop(0.1, eps=0.0),
    "lars": adamx.lars(0.1),
    "padam": adamx.padam(0.1, eps=0.0, partial=0.5),
    "qhadam": adamx.qhadam(0.1, eps=0.0),
    "signum": adamx.signum(0.1),
    "simplified_ademamix": adamx.simplified_ademamix(0.1, eps=0.0),
    "stable_adamw": adamx.stable_adamw(0.1, eps=0.0),
    "tiger": adamx.tiger(0.1),
}
OF_A_WHOLE_LEAF = ("kourkoutas", "lamb", "lars", "novograd", "stable_adamw")


@pytest.mark.parametrize("name", SCALE_FREE)
@FEW
@given(gradients, powers_of_two)
def test_without_eps_the_scale_of_the_gradient_does_not_matter(name, grads, scale):
    rule = SCALE_FREE[name]
    scaled, plain = (updates_of(rule, g, trace=optimized_trace) for g in (scale * grads, grads))
    np.testing.assert_array_equal(scaled, plain)


@pytest.mark.parametrize("name", [name for name in SCALE_FREE if name not in OF_A_WHOLE_LEAF])
@FEW
@given(gradients, st.tuples(*[powers_of_two] * SIZE))
def test_without_eps_the_scale_of_each_coordinate_does_not_matter(name, grads, scales):
    rule = SCALE_FREE[name]
    scaled, plain = (updates_of(rule, g, trace=optimized_trace) for g in (np.array(scales) * grads, grads))
    np.testing.assert_array_equal(scaled, plain)


# Other rules


@FEW
@given(gradients, decay_rates, decay_rates)
def test_ademamix_without_the_slow_average_is_adam(grads, b1, b2):
    assert_close(updates_of(adamx.ademamix(0.1, b1, b2, alpha=0.0), grads), updates_of(adamx.adam(0.1, b1, b2), grads))


@FEW
@given(gradients, decay_rates, decay_rates)
def test_the_maximum_of_amsgrad_never_shrinks(grads, b1, b2):
    raw = trace(adamx.amsgrad(0.1, b1, b2), grads)[2]["nu_max"]
    debiased = trace(adamx.amsgrad(0.1, b1, b2, maximum_of="debiased"), grads)[1].v
    paper = trace(adamx.amsgrad(0.1, b1, b2, maximum_of="paper"), grads)[1].v
    for values in (raw, debiased, paper):
        assert np.all(np.diff(values, axis=0) >= 0)


@FEW
@given(gradients, decay_rates, decay_rates)
def test_amsgrad_divides_by_no_less_than_adam(grads, b1, b2):
    adam = trace(adamx.adam(0.1, b1, b2), grads)[1].v
    for form in ("raw", "debiased"):
        assert np.all(trace(adamx.amsgrad(0.1, b1, b2, maximum_of=form), grads)[1].v >= adam)


@FEW
@given(gradients, parameters, st.sampled_from([0.0, 0.1]))
def test_the_update_of_lamb_has_the_norm_of_the_parameter_times_the_learning_rate(grads, params, weight_decay):
    updates, signals, _ = trace(adamx.lamb(0.1, weight_decay=weight_decay), grads, params)
    moving = np.any(np.asarray(updates) != 0, axis=1) & np.any(params != 0)
    norms = np.linalg.norm(np.asarray(updates, np.float64), axis=1)
    np.testing.assert_allclose(norms[moving], 0.1 * np.linalg.norm(params.astype(float)), rtol=1e-6)


@FEW
@given(gradients, decay_rates)
def test_the_centred_second_moment_is_the_variance_and_never_negative(grads, decay):
    v = np.asarray(trace(adamx.rmsprop(0.1, decay=decay, centered=True), grads)[1].v)
    square, mean = np.zeros(SIZE), np.zeros(SIZE)
    for g, v_t in zip(grads.astype(float), v, strict=True):
        square, mean = decay * square + (1 - decay) * g**2, decay * mean + (1 - decay) * g
        np.testing.assert_allclose(v_t, square - mean**2, rtol=1e-5, atol=1e-6 * np.max(square))
    assert np.all(v >= 0)


@FEW
@given(gradients)
def test_nadam_with_a_fast_momentum_warm_up_is_nadam_without_one(grads):
    assert_close(updates_of(adamx.nadam(0.1, momentum_decay=1e4), grads), updates_of(adamx.nadam(0.1), grads))


@FEW
@given(gradients, decay_rates)
def test_radam_below_its_threshold_is_its_warm_up(grads, b1):
    momentum = adamx.update_rule(adamx.Momentum(b1), adamx.TakeMomentum(), adamx.LearningRate(0.1))
    assert_close(updates_of(adamx.radam(0.1, b1, threshold=1e9), grads), updates_of(momentum, grads))
    assert np.all(updates_of(adamx.radam(0.1, b1, threshold=1e9, warmup="none"), grads) == 0)


@FEW
@given(gradients)
def test_radam_never_adapts_to_an_average_that_is_too_short(grads):
    # At b2 = 0.5 the average is worth at most 3 gradients, and r is real from 4 on.
    rule = adamx.radam(0.1, b2=0.5, threshold=0.0)
    momentum = adamx.update_rule(adamx.Momentum(0.9), adamx.TakeMomentum(), adamx.LearningRate(0.1))
    assert_close(updates_of(rule, grads), updates_of(momentum, grads))


@FEW
@given(gradients, decay_rates)
def test_belief_without_momentum_is_never_surprised(grads, b2):
    updates, signals, _ = trace(adamx.adabelief(0.1, b1=0.0, b2=b2, eps=1.0, eps_root=0.0), grads)
    assert np.all(np.asarray(signals.v) == 0)
    assert_close(updates, -0.1 * grads)


@FEW
@given(gradients, decay_rates)
def test_a_momentum_of_the_sum_is_an_average_times_its_length(grads, b):
    average, total = updates_of(adamx.momentum(0.1, b), grads), updates_of(adamx.sgd(0.1, b), grads)
    assert_close(average, (1 - b) * total)


@FEW
@given(gradients)
def test_lion_of_equal_rates_is_the_sign_of_a_momentum(grads):
    average = trace(adamx.momentum(0.1, 0.9), grads)[1].m
    lion = updates_of(adamx.lion(0.1, 0.9, 0.9, weight_decay=0.0), grads)
    np.testing.assert_array_equal(lion, np.float32(-0.1) * np.sign(average))
