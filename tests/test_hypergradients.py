"""Derivatives of a run with respect to its rule: finite everywhere, and those of finite differences."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, build
from checks import assert_finite, update

import adamx

STEPS = 8
PARAMS = np.array([[1.0, -0.5, 0.2], [0.7, 0.3, -1.1]])
GRADS = np.random.default_rng(3).normal(size=(STEPS, *PARAMS.shape))
OPTIONS = ["adam_nesterov", "amsgrad_debiased", "amsgrad_paper", "nadam_torch", "radam_short", "yogi_first"]
OPTIONS += [
    "rmsprop_centered",
    "rmsprop_centered_bias_correction",
    "rmsprop_first",
    "rmsprop_nesterov",
    "adan_proximal",
]
WITH_DECAY_ONLY = {"adamaxw", "amsgradw", "nadamw"}  # adamw stands for them
NOT_SMOOTH = {"adams", "amos", "dadapt_adamw", "prodigy", "soap", "stable_adamw"}
"""Rules with a maximum, a first estimate or a basis, of which a derivative is one-sided or taken for constant."""
CURVED = {"adagc", "bcos", "stable_spam"}
"""Rules whose difference quotients are as inexact as that."""
DIFFERENTIATED = [name for name in [*adamx.CATALOGUE, *OPTIONS] if name not in WITH_DECAY_ONLY]


def end_of_run(rule, params, grads):
    """Half the squared distance from the origin after the run."""

    def step(carry, g):
        params, state = carry
        updates, state = update(rule, g, state, params)
        return (params + updates, state), None

    (params, _), _ = jax.lax.scan(step, (params, rule.init(params)), grads)
    return 0.5 * jnp.sum(params**2)


value_and_gradients = jax.jit(jax.value_and_grad(end_of_run, argnums=(0, 1, 2)))


def rule_with(case, **hyper):
    """The rule of a case, with those of `hyper` that it takes."""
    known = inspect.signature(adamx.CATALOGUE[CASES[case].rule].constructor).parameters
    return build(CASES[case], **{name: h for name, h in hyper.items() if name in known})


def difference_quotients(rule, params, grads, sides=(1, -1)):
    """The derivative of `end_of_run` with respect to each leaf of the rule, by differences."""
    leaves, structure = jax.tree.flatten(rule)
    quotients = []
    for i, leaf in enumerate(leaves):
        width = 1e-3 * leaf if leaf > 1e-7 else 1e-7
        moved = [leaf + side * width for side in sides]
        rules = [structure.unflatten([*leaves[:i], x, *leaves[i + 1 :]]) for x in moved]
        ends = [value_and_gradients(rule, params, grads)[0] for rule in rules]
        quotients.append(float(ends[0] - ends[1]) / (moved[0] - moved[1]))
    return structure.unflatten(quotients)


@pytest.mark.parametrize("case", DIFFERENTIATED)
def test_hypergradients_are_those_of_finite_differences(case):
    # An eps that can be moved both ways, and a threshold of RAdam that no step is near.
    rule = rule_with(case, eps=1e-2, threshold=5.5)
    with jax.enable_x64(True):
        gradients = value_and_gradients(rule, PARAMS, GRADS)[1]
        quotients = difference_quotients(rule, PARAMS, GRADS)
        at_rest = value_and_gradients(rule, PARAMS, np.zeros_like(GRADS))[1]
        half_at_rest = value_and_gradients(rule, PARAMS, GRADS * (np.arange(3) > 0))[1]
    assert_finite((gradients, at_rest, half_at_rest))
    assert jax.tree.structure(gradients[0]) == jax.tree.structure(rule)
    if case in NOT_SMOOTH:
        return
    np.testing.assert_allclose(
        np.array(jax.tree.leaves(gradients[0])),
        np.array(jax.tree.leaves(quotients)),
        rtol=1e-3 if case in CURVED else 1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("case", DIFFERENTIATED)
@pytest.mark.parametrize("grads", [np.zeros_like(GRADS), GRADS, 1e-12 * GRADS], ids=["zero", "normal", "tiny"])
def test_hypergradients_are_finite_in_float32(case, grads):
    if case in ("adams", "amos") and 0 < np.max(np.abs(grads)) < 1e-6:
        pytest.skip("its decay, or its first steps, have the reciprocal of a tiny square as derivative: beyond float32")
    for rule in (build(CASES[case]), rule_with(case, eps=0.0, eps_root=0.0)):
        assert_finite(value_and_gradients(rule, PARAMS.astype(np.float32), grads.astype(np.float32)))


@pytest.mark.parametrize("make", [adamx.adam, adamx.nadam, adamx.radam, adamx.lion, adamx.adopt])
def test_hypergradients_at_a_decay_rate_of_zero_are_one_sided_differences(make):
    rule = make(0.01, b1=0.0)
    with jax.enable_x64(True):
        gradients = value_and_gradients(rule, PARAMS, GRADS)[1][0]
        quotients = difference_quotients(rule, PARAMS, GRADS, sides=(0, -0.01))
    of_b1 = [
        next(d for p, d in jax.tree_util.tree_leaves_with_path(t) if "b1" in str(p)) for t in (gradients, quotients)
    ]
    np.testing.assert_allclose(of_b1[0], of_b1[1], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "case", ["adam", "radam", "radam_wait", "amsgrad", "adabelief", "yogi", "adopt", "nadam_torch"]
)
def test_hypergradients_at_a_decay_rate_of_zero_are_finite_for_long(case, wide):
    grads = np.random.default_rng(4).normal(size=(40, 2)).astype(np.float32)
    with jax.enable_x64(wide):
        for betas in ({"b2": 0.0}, {"b1": 0.0, "b2": 0.0}):
            rule = build(CASES[case], **betas)
            assert_finite(value_and_gradients(rule, np.ones(2), grads if not wide else grads.astype(np.float64)))


@pytest.mark.parametrize("size", [1e17, 3e18, 1e19])
@pytest.mark.parametrize("case", ["adam", "adamw", "nadam", "amsgrad", "amsgrad_debiased", "radam", "lamb", "ademamix"])
def test_forward_derivatives_over_b2_of_large_gradients_are_those_of_small_ones(case, size):
    grads = np.array([[1.0, -0.5], [0.5, 1.0], [1.0, 0.25]], np.float32)

    def slope(grads):
        def run(b2):
            return end_of_run(build(CASES[case], learning_rate=1.0, b2=b2, eps=0.0), jnp.ones(2), grads)

        return jax.jit(jax.jvp, static_argnums=0)(run, (jnp.float32(0.99),), (jnp.float32(1.0),))[1]

    np.testing.assert_allclose(slope(np.float32(size) * grads), slope(grads), rtol=1e-3, atol=1e-5)
