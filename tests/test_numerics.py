"""The arithmetic that rules share, against closed forms in float64 or of fifty digits."""

import math
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import optimized
from hypothesis import given, settings
from hypothesis import strategies as st
from older import OLDER

from adamx import Decay
from adamx.numerics import (
    average,
    debias_weight,
    log_decay,
    mean_log_decay,
    rate_of,
    ratio,
    root,
)
from adamx.randomness import random_bits, round_stochastically
from adamx.stages.rectify import average_length
from adamx.warmups import half_life_warmup, linear_warmup

FEW = settings(derandomize=True, deadline=None, max_examples=50, database=None)
BETAS = ["0", "0.5", "0.9", "0.95", "0.98", "0.99", "0.999", "0.9999", "0.99999", "0.999999"]
numbers = st.floats(-1e3, 1e3, width=32)


# Debias weights


def test_debias_weight_is_exact_in_float32_for_every_rate_and_step():
    rates = np.concatenate([np.geomspace(1e-7, 1, 57), 1 - np.geomspace(1e-6, 0.5, 20)]).astype(np.float32)
    steps = np.unique(np.geomspace(1, 1e6, 60).astype(np.int64))
    rate, t = np.meshgrid(rates.astype(np.float64), steps.astype(np.float64))
    with np.errstate(divide="ignore"):
        expected = -np.expm1(t * np.log1p(-rate))
    actual = optimized(lambda rate, t: debias_weight(log_decay(rate), t))(rate.astype(np.float32), t.astype(np.float32))
    assert actual.dtype == np.float32
    # Three roundings: of log1p, of the product and of expm1, by XLA's approximations. 1 - beta^t in float32 has errors of 1 here.
    np.testing.assert_allclose(actual, expected, rtol=4e-7)


def test_the_mean_log_decay_of_a_constant_never_drifts():
    rate = jnp.float32(1e-5)

    def step(log, t):
        log = mean_log_decay(log, rate, t)
        return log, log

    logs = jax.lax.scan(step, jnp.float32(0), jnp.arange(1, 1001, dtype=jnp.float32))[1]
    assert np.all(np.asarray(logs) == np.asarray(log_decay(rate)))


def test_the_debias_weight_of_a_schedule_is_one_minus_the_product():
    rates = np.random.default_rng(0).uniform(1e-4, 0.5, 100).astype(np.float32)

    def step(log, at_step):
        t, rate = at_step
        log = mean_log_decay(log, rate, t)
        return log, debias_weight(log, t)

    weights = jax.lax.scan(step, jnp.float32(0), (np.arange(1, 101, dtype=np.float32), rates))[1]
    np.testing.assert_allclose(weights, 1 - np.cumprod(1 - rates.astype(np.float64)), rtol=1e-6)


# Averages


@FEW
@given(numbers, numbers)
def test_an_average_with_rate_one_is_the_new_value_and_with_rate_zero_the_old(old, new):
    old, new = jnp.float32(old), jnp.float32(new)
    assert average(old, new, rate_of(Decay(jnp.float32(1)))) == new
    assert average(old, new, rate_of(Decay(jnp.float32(0)))) == old


def test_a_decay_rate_that_is_known_to_be_positive_needs_no_factor_that_forgets():
    for beta in (0.999, 0.5, 1e-6):
        assert Decay.convert(beta, "b").positive and rate_of(Decay.convert(beta, "b")).keep is None
    for unknown in (0.0, 1e-9, np.array([0.0, 0.9]), jnp.float32(0.9), lambda count: 0.9):
        assert not Decay.convert(unknown, "b").positive
    old, new = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
    with_factor, without = (average(old, new, rate_of(Decay(np.float32(0.1), known))) for known in (False, True))
    assert np.array_equal(with_factor, without)


@pytest.mark.parametrize("rate", [1e-5, 0.1, 0.5, 0.75, 0.9, 1 - 2**-20])
def test_an_average_is_exact_in_float32(rate):
    rng, rate = np.random.default_rng(0), np.float32(rate)
    old, new = (rng.normal(size=1000) * 10 ** rng.uniform(-4, 4, 1000) for _ in range(2))
    old, new = old.astype(np.float32), new.astype(np.float32)
    kept, added = (1 - np.float64(rate)) * old, np.float64(rate) * new
    error = np.abs(np.asarray(average(old, new, rate_of(Decay(rate))), np.float64) - (kept + added))
    # To the last bit of the larger of the two: only at rate 1 is nothing left of the old one's rounding.
    assert np.max(error / np.maximum(np.abs(old), np.abs(new))) < (2**-22 if OLDER else 2e-7)


# Decay rates


@pytest.mark.parametrize("beta", BETAS)
def test_the_complement_of_a_number_is_exact_as_decimal(beta):
    expected = float(1 - Decimal(beta))
    assert Decay.convert(float(beta), "b").complement == expected
    assert Decay.convert(np.float64(beta), "b").complement == expected
    assert Decay.convert(np.float32(beta), "b").complement == expected
    assert np.all(Decay.convert(np.array([float(beta)] * 2), "b").complement == expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_complement_of_float32_is_that_of_the_decimal_it_stands_for(compiled):
    def complement(b):
        return Decay.convert(b, "b").complement

    betas = jnp.array([float(b) for b in BETAS], jnp.float32)
    expected = np.array([float(1 - Decimal(b)) for b in BETAS]).astype(np.float32)
    # Computed as 1 - 0.99999 in float32 it would be off by 1e-3.
    np.testing.assert_allclose(
        (optimized(complement) if compiled else complement)(betas), expected, rtol=1.2e-7, atol=0
    )


def test_the_complement_of_float64_is_that_of_the_decimal_it_stands_for():
    expected = np.array([float(1 - Decimal(b)) for b in BETAS])
    with jax.enable_x64(True):
        actual = optimized(lambda b: Decay.convert(b, "b").complement)(jnp.array([float(b) for b in BETAS]))
        assert actual.dtype == np.float64
        np.testing.assert_allclose(actual, expected, rtol=1e-15, atol=0)


@FEW
@given(st.floats(0, 1, width=32, exclude_max=True))
def test_the_complement_of_float32_is_never_off_by_more_than_its_rounding(beta):
    actual = float(Decay.convert(jnp.float32(beta), "b").complement)
    assert 0 < actual <= 1
    assert abs(actual - (1 - float(np.float32(beta)))) <= 2**-24


def test_the_complement_of_a_weakly_typed_schedule_keeps_the_digits_of_float64():
    with jax.enable_x64(True):
        beta = jnp.int32(3) * 0.1 + 0.5999  # weakly typed, as what a schedule of plain Python numbers returns
        actual = Decay.convert(lambda count: count * 0.1 + 0.5999, "b").schedule.at(jnp.int32(3)).complement
        assert beta.weak_type and actual.dtype == np.float64
        assert abs(float(actual) - 0.1001) < 1e-14


# RAdam's length of the average


def exact_length(rate, t):
    """rho_t in fifty digits for the float `rate` = 1 - b."""
    with localcontext() as context:
        context.prec = 50
        b = 1 - Decimal(float(rate))
        return float(2 / (1 - b) - 1 - 2 * t * b**t / (1 - b**t))


@pytest.mark.parametrize("b2", [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999])
def test_the_length_of_the_average_is_exact_at_every_step(b2):
    steps = np.unique(np.geomspace(1, 1e5, 80).astype(int))
    rate = np.float32(Decay.convert(b2, "b2").complement)
    actual = optimized(lambda rate, t: average_length(log_decay(rate), t))(rate, steps.astype(np.float32))
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, [exact_length(rate, int(t)) for t in steps], rtol=1e-6)


@pytest.mark.parametrize("b2", [0.9, 0.999, 0.99999])
def test_the_length_of_the_average_is_exact_in_float64(b2):
    steps = np.unique(np.geomspace(1, 1e5, 40).astype(int))
    rate = Decay.convert(b2, "b2").complement
    with jax.enable_x64(True):
        actual = optimized(lambda rate, t: average_length(log_decay(rate), t))(rate, steps.astype(np.float64))
    np.testing.assert_allclose(actual, [exact_length(rate, int(t)) for t in steps], rtol=1e-11)


# Schedules


@pytest.mark.parametrize("count", [0, 5, 39, 40, 1000])
def test_warm_ups_of_ademamix_are_exact_in_float64(count):
    share = min((count + 1) / 40, 1)
    lives = [math.log(0.5) / math.log(b + 1e-8) for b in (0.9, 0.9999)]
    b3 = 0.5 ** (1 / ((1 - share) * lives[0] + share * lives[1])) if share < 1 else 0.9999
    with jax.enable_x64(True):
        at = jnp.int32(count)
        assert abs(float(linear_warmup(5.0, 40, at)) - 5 * share) < 1e-14
        assert abs(float(half_life_warmup(0.1, 0.0001, 40, at)) - (1 - b3)) < 1e-14


# Ratios and roots


def test_ratio_and_root_are_zero_at_zero_and_so_are_their_derivatives():
    zero = jnp.zeros(2)
    assert np.all(ratio(jnp.ones(2), zero) == 0) and np.all(root(zero) == 0)
    by_numerator, by_denominator = jax.grad(lambda x, y: jnp.sum(ratio(x, y)), (0, 1))(zero, zero)
    assert np.all(by_numerator == 0) and np.all(by_denominator == 0)
    assert np.all(jax.grad(lambda x: jnp.sum(root(x)))(zero) == 0)


@FEW
@given(numbers, st.floats(0.125, 100, width=32))
def test_derivatives_of_ratio_and_root_are_theirs_elsewhere(x, y):
    x, y = jnp.float32(x), jnp.float32(y)
    by_x, by_y = jax.grad(ratio, (0, 1))(x, y)
    np.testing.assert_allclose(by_x, 1 / y, rtol=1e-6)
    np.testing.assert_allclose(by_y, -x / y**2, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(root)(y), 0.5 / np.sqrt(y), rtol=1e-6)


# Stochastic rounding


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("value", [1.001, -1.001, 3.1415926, 1e-3, -65000.5, 1.0])
def test_stochastic_rounding_lands_on_a_neighbour_and_keeps_the_mean(value, dtype):
    count, value = 20_000, np.float32(value)
    drawn = round_stochastically(jnp.full(count, value), dtype, random_bits(jnp.zeros(count), jnp.uint32(0)))
    assert drawn.dtype == dtype
    drawn = np.asarray(drawn.astype(jnp.float32))
    spacing = 2.0 ** (math.floor(math.log2(abs(float(value)))) - int(jnp.finfo(dtype).nmant))
    below = math.floor(float(value) / spacing) * spacing
    assert set(drawn.tolist()) <= {below, below + spacing}
    share = (float(value) - below) / spacing
    deviation = spacing * math.sqrt(share * (1 - share) / count)
    assert abs(float(np.mean(drawn, dtype=np.float64)) - float(value)) <= 5 * deviation


@pytest.mark.parametrize("value", [0.0, np.inf, -np.inf, np.nan])
def test_stochastic_rounding_keeps_what_is_not_a_finite_number(value):
    x = jnp.full(100, value, jnp.float32)
    drawn = round_stochastically(x, jnp.bfloat16, random_bits(x, jnp.uint32(1)))
    np.testing.assert_array_equal(np.asarray(drawn, np.float32), np.float32(value))
