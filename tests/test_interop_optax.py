"""Optax's states: every rule that both libraries have, converted in the middle of a run either way, and kept in Optax's layout."""

import dataclasses
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from checks import assert_close, assert_same, description, raises, tree
from older import OLDER, in_optax

import adamx

SHAPES = {"kernel": (4, 3), "bias": (3,)}
BEFORE, AFTER = 17, 23
decreasing = optax.linear_schedule(0.1, 0.02, 30)
rising = optax.linear_schedule(0.01, 0.1, 30)
MASK = {"kernel": True, "bias": False}


def pair(name, theirs=None, rate=0.03, ours_only=None, theirs_only=None, **both):
    """The rule and Optax's optimizer, which is called `theirs` if not by the same name, with a learning rate and the same options."""
    return lambda rate=rate: (
        getattr(adamx, name)(rate, **both, **(ours_only or {})),
        in_optax(theirs or name)(rate, **both, **(theirs_only or {})),
    )


PAIRS = {
    "sgd": pair("sgd"),
    "sgd heavy ball": pair("sgd", momentum=0.8),
    "sgd nesterov": pair("sgd", momentum=0.8, nesterov=True),
    "adagrad": pair("adagrad"),
    "rmsprop": pair("rmsprop"),
    "rmsprop momentum": pair("rmsprop", momentum=0.8, eps_in_sqrt=False),
    "rmsprop corrected": pair("rmsprop", bias_correction=True, momentum=0.8, nesterov=True, initial_scale=0.1),
    "adadelta": pair("adadelta", weight_decay=0.1),
    "adadelta mask": pair("adadelta", weight_decay=0.1, weight_decay_mask=MASK),
    "adam": pair("adam"),
    "adam nesterov": pair("adam", nesterov=True),
    "adamw": pair("adamw", weight_decay=0.1),
    "adamw mask": pair("adamw", weight_decay=0.1, mask=MASK),
    "adamw scheduled decay": pair("adamw", weight_decay=rising),
    "adamw scheduled decay, mask": pair("adamw", weight_decay=rising, mask=lambda params: MASK),
    "adamax": pair("adamax"),
    "adamaxw": pair("adamaxw", weight_decay=0.1),
    "nadam": pair("nadam"),
    "nadamw": pair("nadamw", weight_decay=0.1),
    "lion": pair("lion", b2=0.98),
    "ademamix": pair("ademamix", b3=0.99, weight_decay=0.1),
    "amsgrad": pair("amsgrad", ours_only={"maximum_of": "debiased"}),
    "amsgrad paper": pair(
        "amsgrad",
        ours_only={"maximum_of": "paper"},
        theirs_only={"bias_correction_mu": False, "bias_correction_nu": False},
    ),
    "yogi": pair("yogi"),
    "adabelief": pair("adabelief"),
    "adabelief nesterov": pair("adabelief", nesterov=True),
    "novograd": pair("novograd", b2=0.9, weight_decay=0.1),
    "adopt": pair("adopt", b2=0.99),
    "adopt unclipped": pair("adopt", b2=0.99, use_clipping=False, nesterov=True),
    "radam": pair("radam"),
    "lamb": pair("lamb", weight_decay=0.1, mask=MASK),
    "lars": pair("lars", weight_decay=0.1),
    "lars masks": pair("lars", weight_decay=0.1, weight_decay_mask=MASK, trust_ratio_mask=MASK, nesterov=True),
    "fromage": pair("fromage"),
    "simplified_ademamix": pair("simplified_ademamix", rate=1e-3, alpha=0.5, weight_decay=0.1),
    "signum": pair("signum"),
    "adafactor": pair("adafactor", min_dim_size_to_factor=3),
    "adafactor all": pair(
        "adafactor", min_dim_size_to_factor=3, momentum=0.9, weight_decay_rate=1e-3, weight_decay_mask=MASK
    ),
    "adafactor none": pair(
        "adafactor", factored=False, clipping_threshold=None, multiply_by_parameter_scale=False, momentum=0.9
    ),
    "sm3": pair("sm3"),
    "prodigy": pair("prodigy", rate=1.0, ours_only={"bias_correction": True}),
    "dadapt_adamw": pair("dadapt_adamw", rate=1.0, ours_only={"bias_correction": True}),
    "schedule_free": pair("schedule_free", "schedule_free_adamw", weight_decay=0.1),
    "muon": pair("muon", nesterov=False, weight_decay=0.1),
}
WITHOUT_SCHEDULE = {
    "sm3": "Optax's takes no schedule",
    "schedule_free": "Optax's calls it at two counts that differ by one",
}
TOLERANCE = dict.fromkeys(("adafactor", "adafactor all", "adafactor none", "fromage", "muon"), 1e-6)
"""Of the movement, where it is not 1e-9: Optax has Adafactor's decay rates, and Fromage's factor of a schedule, in float32 always; and adds
Muon's eps to the norm of a momentum with its bias corrected."""
LATER = {"adamw scheduled decay", "adamw scheduled decay, mask", "amsgrad paper", "fromage"}
"""What the earlier versions of Optax do not have an argument for, or no schedule."""
each_pair = pytest.mark.parametrize("name", list(PAIRS))


def built(name, rate):
    if OLDER and name in LATER:
        pytest.skip(f"Optax {optax.__version__} does not have it")
    make = PAIRS[name]
    return make() if rate is None else make(rate)


def go(update, state, params, grads):
    """Steps over a list of gradients: the parameters and the state."""
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def gradients(dtype):
    rng = np.random.default_rng(5)
    return [
        {k: jnp.asarray(rng.normal(size=s) * 10 ** rng.uniform(-1, 1, s), dtype) for k, s in SHAPES.items()}
        for _ in range(BEFORE + AFTER)
    ]


def parameters(dtype):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree(shapes=SHAPES))


def scheduled(name):
    """The pair with a scheduled learning rate, where Optax has that."""
    return built(name, None if name in WITHOUT_SCHEDULE else decreasing)


@each_pair
def test_the_tree_is_optaxs(name):
    params = jax.eval_shape(lambda: parameters(jnp.float32))
    for ours, theirs in (built(name, None), scheduled(name)):
        laid_out, expected = (jax.eval_shape(init, params) for init in (adamx.optax_layout(ours).init, theirs.init))
        assert jax.tree.structure(laid_out) == jax.tree.structure(expected)
        assert [(x.shape, x.dtype) for x in jax.tree.leaves(laid_out)] == [
            (x.shape, x.dtype) for x in jax.tree.leaves(expected)
        ]


@each_pair
def test_a_run_goes_on_in_the_other_library(name):
    """In float64, where Optax's powers of decay rates are as good as exact."""
    ours, theirs = scheduled(name)
    with jax.enable_x64(True):
        params, grads = parameters(jnp.float64), gradients(jnp.float64)
        init = theirs.init(params)
        here, there = jax.jit(ours.update), jax.jit(theirs.update)

        def of_optax(state):
            return adamx.optax_state(ours, state)

        def of_ours(state):
            return adamx.from_optax(ours, state)

        for first, start, convert, second in (
            (here, ours.init(params), of_optax, there),
            (there, init, of_ours, here),
        ):
            middle, state = go(first, start, params, grads[:BEFORE])
            moved, _ = go(second, convert(state), middle, grads[BEFORE:])
            straight, _ = go(first, state, middle, grads[BEFORE:])
            for key, start in params.items():
                actual, expected, tolerance = moved[key] - start, straight[key] - start, TOLERANCE.get(name, 1e-7)
                assert np.max(np.abs(actual - expected)) <= tolerance * np.max(np.abs(expected))


@each_pair
def test_a_layout_is_the_rule_with_optaxs_tree(name):
    """Updates, signals and state of a run with a schedule equal the rule's, every bit; the tree never changes."""
    rule, theirs = scheduled(name)
    laid_out = adamx.optax_layout(rule)
    params, grads = parameters(jnp.float32), gradients(jnp.float32)[:4]
    ours, state = rule.init(params), laid_out.init(params)
    expected = jax.tree.structure(theirs.init(params)), description(state)
    one, other = jax.jit(rule.trace), jax.jit(laid_out.trace)
    for g in grads:
        (updates, ours, signals), (like, state, shown) = one(g, ours, params), other(g, state, params)
        # Where Optax keeps no count, none is known.
        known = any(x.dtype == jnp.int32 for x in jax.tree.leaves(state))
        shown = shown if known else dataclasses.replace(shown, t=signals.t)
        compare = assert_close if OLDER and name == "adafactor all" else assert_same
        compare((like, shown), (updates, signals))
        assert_same(state, adamx.optax_state(rule, ours))
        assert (jax.tree.structure(state), description(state)) == expected
        params = optax.apply_updates(params, updates)


# A layout is a rule


LAYOUT = adamx.optax_layout(adamx.adamw(decreasing, weight_decay=0.1))
PARAMS = tree(shapes=SHAPES)


def test_a_layout_is_data_and_a_transformation():
    rule = adamx.adamw(0.1)
    laid_out = adamx.optax_layout(rule)
    assert isinstance(laid_out, optax.GradientTransformationExtraArgs)
    assert jax.tree.leaves(laid_out) == jax.tree.leaves(rule)
    assert laid_out == adamx.optax_layout(adamx.adamw(0.1)) != adamx.optax_layout(adamx.adamw(0.2))
    assert laid_out != rule and hash(laid_out) == hash(adamx.optax_layout(adamx.adamw(0.1)))
    assert pickle.loads(pickle.dumps(laid_out)) == laid_out
    assert repr(laid_out) == f"optax_layout({rule!r})"
    assert laid_out.get(adamx.LearningRate).learning_rate == 0.1
    assert adamx.optax_layout(laid_out) is laid_out
    rules = adamx.optax_layout(adamx.adam(jnp.float32([0.1, 0.2])))

    def first(tx, params):
        return tx.update(params, tx.init(params), params)[0]

    batched = jax.vmap(first, in_axes=(adamx.axes_of(rules), None))(rules, PARAMS)
    assert_same(jax.tree.map(lambda x: x[1], batched), first(adamx.adam(jnp.float32(0.2)), PARAMS))
    derivative = jax.grad(lambda tx: jnp.sum(first(tx, PARAMS)["bias"]))(adamx.optax_layout(adamx.adam(0.1)))
    assert isinstance(derivative, type(laid_out)) and derivative.get(adamx.LearningRate).learning_rate != 0


def test_a_layout_steps_and_is_donated():
    bf16 = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    rule = adamx.adamw(decreasing)
    expected = rule.step(PARAMS, rule.init(bf16), bf16)
    step = jax.jit(adamx.optax_layout(rule).step, donate_argnums=(1, 2))
    params, state = step(PARAMS, adamx.optax_layout(rule).init(bf16), jax.tree.map(jnp.copy, bf16))
    assert_same(params, expected[0])
    assert_same(adamx.from_optax(rule, step(PARAMS, state, params)[1]).count, jnp.int32(2))
    with raises(ValueError, "bfloat16 parameters are rounded at random", "no count", "adamx.Nearest()"):
        adamx.optax_layout(adamx.sgd(0.1)).step(bf16, adamx.optax_layout(adamx.sgd(0.1)).init(bf16), bf16)
    nearest = adamx.optax_layout(adamx.sgd(0.1).store(params=adamx.Nearest()))
    assert nearest.step(bf16, nearest.init(bf16), bf16)[0]["bias"].dtype == jnp.bfloat16


@pytest.mark.parametrize("wrap", [optax.masked, lambda tx, mask: optax.masked(tx, lambda _: mask)])
def test_a_layout_in_optaxs_wrappers(wrap):
    masked = wrap(LAYOUT, MASK)
    state = masked.init(PARAMS)
    assert isinstance(state.inner_state[0].mu["bias"], optax.MaskedNode)
    updates, after = masked.update(PARAMS, state, PARAMS)
    assert_same(updates["bias"], PARAMS["bias"])
    assert jax.tree.structure(after) == jax.tree.structure(state)
    several = optax.MultiSteps(LAYOUT, 2)
    assert_same(several.update(PARAMS, several.init(PARAMS), PARAMS)[0], jax.tree.map(jnp.zeros_like, PARAMS))
    held = optax.apply_if_finite(LAYOUT, 2)
    assert_same(
        held.update(PARAMS, held.init(PARAMS), PARAMS)[0], LAYOUT.update(PARAMS, LAYOUT.init(PARAMS), PARAMS)[0]
    )
    none = {"kernel": PARAMS["kernel"], "bias": None}
    assert LAYOUT.update(none, LAYOUT.init(PARAMS), PARAMS)[0]["bias"] is None


def test_chains_and_partitions():
    def kinds(params):
        return {"kernel": "matrix", "bias": "vector"}

    def both(library, adam, sgd):
        parts = {"matrix": adam(decreasing), "vector": sgd(0.1, momentum=0.9)}
        return library.chain(optax.clip_by_global_norm(1.0), library.partition(parts, kinds), optax.scale(2.0))

    ours, theirs = both(adamx, adamx.adam, adamx.sgd), both(optax, optax.adam, optax.sgd)
    expected = ours.update(PARAMS, ours.init(PARAMS), PARAMS)
    for tx, state in (
        (adamx.optax_layout(ours), adamx.optax_state(ours, ours.init(PARAMS))),
        (adamx.optax_layout(ours), adamx.optax_layout(ours).init(PARAMS)),
    ):
        assert jax.tree.structure(state) == jax.tree.structure(theirs.init(PARAMS))
        updates, after = tx.update(PARAMS, state, PARAMS)
        assert_same(updates, expected[0])
        assert jax.tree.structure(adamx.from_optax(ours, after)) == jax.tree.structure(expected[1])
        assert_same(
            tx.trace(PARAMS, state, PARAMS)[2][1]["matrix"].lr, ours.trace(PARAMS, ours.init(PARAMS))[2][1]["matrix"].lr
        )
    with raises(ValueError, "the state of a chain of 3", "got (EmptyState, EmptyState)"):
        adamx.from_optax(ours, (optax.EmptyState(), optax.EmptyState()))
    with raises(ValueError, "a PartitionState of 'matrix', 'vector'", "got (EmptyState)"):
        adamx.from_optax(ours.parts[1], (optax.EmptyState(),))


# What another state or rule is told


def test_a_state_of_another_optimizer():
    with raises(
        ValueError,
        "in Optax's layout is (ScaleByAdamState, EmptyState)",
        "got (ScaleByLionState, EmptyState, EmptyState)",
    ):
        adamx.from_optax(adamx.adam(0.1), optax.lion(0.1).init(PARAMS))
    with raises(ValueError, "is (ScaleByAdamState, EmptyState, ScaleByScheduleState)", "got RuleState"):
        LAYOUT.update(PARAMS, LAYOUT.rule.init(PARAMS), PARAMS)
    with raises(ValueError, "is ScaleByAdamState", "got dict"):
        adamx.from_optax(adamx.scale_by_adam(), {"count": 0})


REFUSALS = {
    "amsgrad": (adamx.amsgrad(0.1), "the maximum of the bias-corrected average", "maximum_of='debiased'"),
    "amsgradw": (adamx.amsgradw(0.1), "the maximum of the bias-corrected average", "maximum_of='debiased'"),
    "adan": (adamx.adan(0.1), "by 1 - b2"),
    "acprop": (adamx.acprop(0.1), "surprise at the momentum before the step"),
    "nadam": (adamx.nadam(0.1, momentum_decay=0.004), "does not warm its momentum up"),
    "rmsprop": (adamx.rmsprop(0.1, centered=True), "the variance is kept"),
    "dog": (adamx.dog(), "squares of the sums"),
    "dowg": (adamx.dowg(), "squares of the sums"),
    "lookahead": (adamx.lookahead(0.1), "beside the parameters"),
    "sophia": (adamx.sophia(0.1), "estimates the Hessian itself"),
    "prodigy": (adamx.prodigy(), "always corrects the bias", "bias_correction=True"),
    "prodigy growth": (adamx.prodigy(bias_correction=True, growth_rate=2.0), "no growth_rate"),
    "dadapt_adamw": (adamx.dadapt_adamw(), "always corrects the bias"),
    "a scheduled b2": (adamx.adam(0.1, b2=lambda count: 0.9), "b2 of SecondMoment is a schedule"),
    "a scheduled b1": (adamx.schedule_free(0.1, b1=lambda count: 0.9), "b1 of ScheduleFree is a schedule"),
    "a schedule without a count": (adamx.adagrad(0.1, eps=lambda count: 0.1), "no count for the schedule in Normalise"),
    "stages of one's own": (adamx.modifiers.cautious(adamx.adam(0.1)), "from stage", "no part of Optax's optimizers"),
    "a masked moment": (
        adamx.adam(0.1).replace(adamx.SecondMoment, adamx.SecondMoment(0.9)).replace(adamx.DivideByRoot, adamx.Atan2()),
        "from stage 1 on, Momentum",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_optax_does_not_keep_is_refused(case):
    rule, *parts = REFUSALS[case]
    state = jax.eval_shape(rule.init, PARAMS)
    for call in (lambda: adamx.optax_layout(rule), lambda: adamx.optax_state(rule, state)):
        with raises(ValueError, "has no state of Optax's", *parts):
            call()
    with raises(ValueError, "has no state of Optax's", *parts):
        adamx.from_optax(rule, optax.adam(0.1).init(PARAMS))


@pytest.mark.parametrize("what", [None, optax.adam(0.1), adamx.adam, "adam", adamx.Momentum(0.9)])
def test_what_is_no_rule_is_refused(what):
    for call in (adamx.optax_layout, lambda x: adamx.optax_state(x, None), lambda x: adamx.from_optax(x, ())):
        with raises(TypeError, "expected a rule, a chain or a partition"):
            call(what)


def test_a_rule_that_this_optax_does_not_have_yet_is_refused(monkeypatch):
    monkeypatch.delattr(optax.contrib, "ScaleByAdemamixState", raising=False)
    with raises(ValueError, "has no state of Optax's", f"Optax {optax.__version__} does not have ScaleByAdemamixState"):
        adamx.optax_layout(adamx.ademamix(0.1))


def test_every_rule_of_both_libraries_is_in_a_test():
    both = {
        name
        for name in adamx.CATALOGUE
        if (hasattr(optax, name) or hasattr(optax.contrib, name)) and name != "polyak_sgd"
    }
    assert both <= {name.split()[0] for name in (*PAIRS, *REFUSALS)}
    rule = adamx.polyak_sgd()
    assert jax.tree.structure(adamx.optax_layout(rule).init(PARAMS)) == jax.tree.structure(
        optax.polyak_sgd().init(PARAMS)
    )


@pytest.mark.parametrize(
    "name", "adam adamax lion novograd radam rms belief amsgrad yogi adadelta rss sm3 ademamix adopt".split()
)
def test_a_direction_alone_has_optaxs_state(name):
    options = {"maximum_of": "debiased"} if name == "amsgrad" else {}
    rule = getattr(adamx, f"scale_by_{name}")(**options)
    theirs = in_optax(f"scale_by_{name}")
    laid_out = adamx.optax_layout(rule).init(PARAMS)
    assert jax.tree.structure(laid_out) == jax.tree.structure(theirs().init(PARAMS))


# Precision


def test_states_of_narrow_and_complex_parameters():
    rule = adamx.adamw(0.1)
    bf16 = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    _, theirs = optax.adamw(0.1).update(bf16, optax.adamw(0.1).init(bf16), bf16)
    state = adamx.from_optax(rule, theirs)
    assert description(state) == description(rule.init(bf16))
    assert_same(state.mu["bias"], theirs[0].mu["bias"].astype(jnp.float32))
    small = adamx.adamw(0.1, mu_dtype=jnp.bfloat16)
    assert description(adamx.from_optax(small, theirs)) == description(small.init(bf16))
    z = jnp.ones(2, jnp.complex64)
    _, theirs = optax.adam(0.1).update(z, optax.adam(0.1).init(z))
    assert description(adamx.from_optax(adamx.adam(0.1), theirs)) == description(adamx.adam(0.1).init(z))


def test_conversions_are_traced():
    rule, state = LAYOUT.rule, LAYOUT.rule.init(PARAMS)
    laid_out = jax.jit(adamx.optax_state)(rule, state)
    assert_same(jax.jit(adamx.from_optax)(rule, laid_out), state)
    abstract = jax.eval_shape(functools.partial(adamx.from_optax, rule), jax.eval_shape(LAYOUT.init, PARAMS))
    assert jax.tree.structure(abstract) == jax.tree.structure(state)
    numpy = jax.device_get(laid_out)
    assert_same(jax.tree.map(jnp.asarray, adamx.from_optax(rule, numpy)), state)
