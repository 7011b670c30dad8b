"""Rules that are another rule at one end of their hyperparameters, over shapes, dtypes and gradients that hypothesis draws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import adamx
from adamx import modifiers

STEPS = 5
FEW = settings(derandomize=True, deadline=None, max_examples=6, database=None)
ROUNDING = {"float32": 1e-5, "bfloat16": 2**-6, "float64": 1e-12, "complex64": 1e-5}
"""Dtype -> relative error of an update, a few units in its last place."""
SHAPES = [(), (3,), (2, 3)]
decay_rates = st.sampled_from([0.0, 0.5, 0.9, 0.999])
SIZES = st.integers(-10, 10).map(lambda k: 2.0**k)


@st.composite
def runs(draw, positive=False):
    """Gradients of all steps: zeros and numbers of 2^-10 to 2^10, or positive ones only."""
    dtype, shape = draw(st.sampled_from(sorted(ROUNDING))), draw(st.sampled_from(SHAPES))
    numbers = SIZES if positive else st.just(0.0) | SIZES | SIZES.map(lambda x: -x)
    grads = draw(arrays(np.float64, (STEPS, *shape), elements=numbers))
    if dtype == "complex64" and not positive:
        grads = grads * (0.6 + 0.8j)
    return grads, dtype


@jax.jit
def updates_of(rule, grads):
    """The updates of all steps of a run from ones."""

    def step(carry, g):
        params, state = carry
        updates, state = rule.update(g, state, params)
        return (optax.apply_updates(params, updates), state), updates

    params = jnp.ones_like(grads[0])
    return jax.lax.scan(step, (params, rule.init(params)), grads)[1]


def assert_equal_runs(rule, other, run, factor=1.0, first=0):
    grads, dtype = run
    with jax.enable_x64(dtype == "float64"):
        ours, theirs = (np.asarray(updates_of(r, jnp.asarray(grads, dtype))) for r in (rule, other))
    assert ours.dtype == theirs.dtype == jnp.dtype(dtype)
    wide = np.complex128 if dtype == "complex64" else np.float64
    ours, theirs = ours[first:].astype(wide), factor * theirs[first:].astype(wide)
    atol = ROUNDING[dtype] * np.max(np.abs(theirs), initial=0)
    np.testing.assert_allclose(ours, theirs, rtol=ROUNDING[dtype], atol=atol)


def plain_adam(b1, b2, **hyper):
    return adamx.adam(0.1, b1, b2, **{"eps": 0.0} | hyper)


# Name -> of two decay rates, a rule at an end of its hyperparameters, and the rule that it is there.
LIMITS = {
    "adam without averages": lambda b1, b2: (plain_adam(0.0, 0.0), adamx.signum(0.1, 0.0)),
    "adabound of loose bounds": lambda b1, b2: (adamx.adabound(0.1, b1, b2, gamma=1e-20, eps=0.0), plain_adam(b1, b2)),
    "adabound of tight bounds": lambda b1, b2: (adamx.adabound(0.1, b1, b2, 0.5, 1e14), adamx.momentum(0.5, b1)),
    "adagc without limits": lambda b1, b2: (
        adamx.adagc(0.1, b1, b2, relative=1e30, absolute=1e30, eps=0.0),
        plain_adam(b1, b2),
    ),
    "adam_atan2 of small angles": lambda b1, b2: (
        adamx.adam_atan2(0.1, b1, 0.999, a=1e7, b=1e7),
        plain_adam(b1, 0.999),
    ),
    "adam_mini of single numbers": lambda b1, b2: (
        adamx.adam_mini(0.1, b1, b2, eps=1e-8, weight_decay=0.0, block_axes=()),
        adamx.adam(0.1, b1, b2, eps=1e-8),
    ),
    "adamod without memory": lambda b1, b2: (adamx.adamod(0.1, b1, b2, b3=0.0, eps=0.0), plain_adam(b1, b2)),
    "ademamix without a slow average": lambda b1, b2: (
        adamx.ademamix(0.1, b1, b2, alpha=0.0, weight_decay=0.0),
        adamx.adam(0.1, b1, b2),
    ),
    "aggmo of one": lambda b1, b2: (adamx.aggmo(0.1, (b1,)), adamx.sgd(0.1, momentum=b1)),
    "amsbound of loose bounds": lambda b1, b2: (
        adamx.amsbound(0.1, b1, b2, gamma=1e-20, eps=0.0),
        adamx.amsgrad(0.1, b1, b2, eps=0.0),
    ),
    "eadam without eps": lambda b1, b2: (adamx.eadam(0.1, b1, b2, eps=0.0), plain_adam(b1, b2)),
    "focus without a pull": lambda b1, b2: (adamx.focus(0.1, b1, b2, gamma=0.0), adamx.signum(0.1, b1)),
    "grokfast without amplification": lambda b1, b2: (
        adamx.grokfast_adamw(0.1, b1, b2, grokfast_lambda=0.0),
        adamx.adamw(0.1, b1, b2, weight_decay=0.01),
    ),
    "kourkoutas of one b2": lambda b1, b2: (
        adamx.kourkoutas(0.1, b1, b2, b2, eps=0.0, bias_correction="beta2max"),
        plain_adam(b1, b2),
    ),
    "laprop of a constant rate": lambda b1, b2: (
        adamx.laprop(0.1, b1, b2),
        adamx.laprop(0.1, b1, b2, running_learning_rate=False),
    ),
    "laprop without momentum": lambda b1, b2: (
        adamx.laprop(0.1, 0.0, b2, eps=0.0),
        adamx.rmsprop(0.1, b2, eps=0.0, bias_correction=True),
    ),
    "lookahead that takes all": lambda b1, b2: (
        adamx.lookahead(0.1, 2, 1.0, b1, b2),
        adamx.adamw(0.1, b1, b2, weight_decay=1e-4),
    ),
    "lookahead that never looks": lambda b1, b2: (
        adamx.lookahead(0.1, 1000, 0.5, b1, b2),
        adamx.adamw(0.1, b1, b2, weight_decay=1e-4),
    ),
    "mars without a correction": lambda b1, b2: (
        adamx.mars(0.1, b1, b2, gamma=0.0, optimize_1d=True),
        adamx.adamw(0.1, b1, b2, weight_decay=0.0).insert(adamx.ClipGradientNorm(1.0), before=adamx.Momentum),
    ),
    "nadam of a fast warm-up": lambda b1, b2: (adamx.nadam(0.1, b1, b2, momentum_decay=1e4), adamx.nadam(0.1, b1, b2)),
    "padam of the root": lambda b1, b2: (
        adamx.padam(0.1, b1, b2, 0.0, partial=0.5),
        adamx.amsgrad(0.1, b1, b2, eps=0.0),
    ),
    "padam of the root without a maximum": lambda b1, b2: (
        adamx.padam(0.1, b1, b2, 0.0, partial=0.5, amsgrad=False),
        plain_adam(b1, b2),
    ),
    "qhadam of averages alone": lambda b1, b2: (adamx.qhadam(0.1, b1, b2, 1.0, 1.0), adamx.adam(0.1, b1, b2)),
    "qhadam of gradients alone": lambda b1, b2: (
        adamx.qhadam(0.1, b1, b2, 0.0, 0.0, eps=0.0),
        adamx.signum(0.1, 0.0),
    ),
    "schedule_free of the fast point": lambda b1, b2: (adamx.schedule_free(0.1, 0.0, b2), adamx.adam(0.1, 0.0, b2)),
    "simplified_ademamix without memory": lambda b1, b2: (
        adamx.simplified_ademamix(0.1, 0.0, b2, alpha=0.0),
        adamx.adam(0.1, 0.0, b2),
    ),
    "tiger without decay": lambda b1, b2: (adamx.tiger(0.1, b1, weight_decay=0.0), adamx.signum(0.1, b1)),
}


@pytest.mark.parametrize("name", LIMITS)
@FEW
@given(runs(), decay_rates, decay_rates)
def test_at_an_end_of_its_hyperparameters_a_rule_is_another(name, run, b1, b2):
    assert_equal_runs(*LIMITS[name](b1, b2), run)


@pytest.mark.parametrize("base", [adamx.adam, adamx.lion, adamx.adabelief, adamx.rmsprop, adamx.adagrad])
@pytest.mark.parametrize("modifier", [modifiers.cautious, modifiers.grams])
@FEW
@given(runs(positive=True))
def test_where_all_signs_agree_a_modifier_of_signs_changes_nothing(modifier, base, run):
    assert_equal_runs(modifier(base(0.1)), base(0.1), run)


@FEW
@given(runs(positive=True), decay_rates, decay_rates)
def test_where_all_signs_agree_grams_is_adam(run, b1, b2):
    assert_equal_runs(adamx.grams(0.1, b1, b2, eps=0.0), plain_adam(b1, b2), run)


@FEW
@given(runs(), decay_rates, decay_rates)
def test_diffgrad_halves_the_steps_of_adam_where_the_gradient_stays(run, b1, b2):
    grads, dtype = run
    still = np.broadcast_to(grads[:1], grads.shape)
    assert_equal_runs(adamx.diffgrad(0.1, b1, b2, eps=0.0), plain_adam(b1, b2), (still, dtype), factor=0.5, first=1)


@pytest.mark.parametrize("rule", [adamx.prodigy(), adamx.dadapt_adamw(1.0)], ids=["prodigy", "dadapt_adamw"])
@FEW
@given(runs())
def test_an_estimated_rate_waits_for_the_first_gradient(rule, run):
    grads, dtype = run
    with jax.enable_x64(dtype == "float64"):
        zeros = jnp.zeros(grads.shape, dtype)
        assert not np.any(updates_of(rule, zeros))
        params = jnp.ones(grads.shape[1:], dtype)
        before, state = rule.init(params), rule.init(params)
        for g in zeros:
            _, state = rule.update(g, state, params)
        for name in before.scalars.keys() & {"d", "d_max"}:
            np.testing.assert_array_equal(state.scalars[name], before.scalars[name])


@FEW
@given(runs(), decay_rates)
def test_a_centred_second_moment_is_the_average_of_squares_less_the_squared_average(run, b2):
    grads, dtype = run
    rule = adamx.centered_adam(0.1, 0.9, b2)
    with jax.enable_x64(dtype == "float64"):
        given = jnp.asarray(grads, dtype)
        step = lambda state, g: (rule.update(g, state)[1], rule.update(g, state)[1].slots["nu"])  # noqa: E731
        kept = np.asarray(jax.lax.scan(step, rule.init(given[0]), given)[1], np.float64)
    square = mean = 0.0
    seen = np.asarray(given).astype(np.complex128)
    for g, nu in zip(seen, kept, strict=True):
        square, mean = b2 * square + (1 - b2) * np.abs(g) ** 2, b2 * mean + (1 - b2) * g
        atol = 1e-6 * np.max(square, initial=1e-30)
        np.testing.assert_allclose(nu, square - np.abs(mean) ** 2, rtol=1e-5, atol=atol)
    assert np.all(kept >= 0)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@FEW
@given(runs())
def test_an_update_of_lamb_has_the_norm_of_the_parameter(weight_decay, run):
    grads, dtype = run
    rule = adamx.lamb(0.5, weight_decay=weight_decay)
    with jax.enable_x64(dtype == "float64"):
        g = jnp.asarray(grads[0], dtype)
        update = np.asarray(rule.update(g, rule.init(g), jnp.ones_like(g))[0]).astype(np.complex128)
    if np.any(update):
        np.testing.assert_allclose(np.linalg.norm(update), 0.5 * grads[0].size ** 0.5, rtol=max(ROUNDING[dtype], 1e-5))
