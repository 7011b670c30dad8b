"""Optax's states: every rule that both libraries have, converted in the middle of a run either way, and kept in Optax's layout."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from checks import assert_same, cheaply, description, raises, tree

import adamx

SHAPES = {"kernel": (4, 3), "bias": (3,)}
BEFORE, AFTER = 17, 23
decreasing = optax.linear_schedule(0.1, 0.02, 30)
rising = optax.linear_schedule(0.01, 0.1, 30)
MASK = {"kernel": True, "bias": False}


def pair(name, theirs=None, rate=0.03, ours_only=None, theirs_only=None, **both):
    """The rule and Optax's optimizer, which is called `theirs` if not by the same name, with a learning rate and the same options."""
    library = optax if hasattr(optax, theirs or name) else optax.contrib
    return lambda rate=rate: (
        getattr(adamx, name)(rate, **both, **(ours_only or {})),
        getattr(library, theirs or name)(rate, **both, **(theirs_only or {})),
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
each_pair = pytest.mark.parametrize("name", list(PAIRS))
SAME_NAME = {"schedule_free", "lookahead"}
"""Rules whose Optax namesake is a wrapper of any other."""


def built(name, rate):
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


@pytest.mark.parametrize("rate", [None, decreasing], ids=["constant", "scheduled"])
@each_pair
def test_a_run_goes_on_in_the_other_library(name, rate):
    """In float64, where Optax's powers of decay rates are as good as exact."""
    if rate is not None and name in WITHOUT_SCHEDULE:
        pytest.skip(WITHOUT_SCHEDULE[name])
    ours, theirs = built(name, rate)
    with jax.enable_x64(True):
        params, grads = parameters(jnp.float64), gradients(jnp.float64)
        # The trees are the same, but for what Optax keeps in the parameters' precision.
        laid_out, init = adamx.optax_state(ours, ours.init(params)), theirs.init(params)
        assert jax.tree.structure(laid_out) == jax.tree.structure(init)
        assert [x.shape for x in jax.tree.leaves(laid_out)] == [x.shape for x in jax.tree.leaves(init)]
        here, there = cheaply(ours.update), cheaply(theirs.update)

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
            for path, expected in jax.tree_util.tree_leaves_with_path(straight):
                np.testing.assert_allclose(
                    moved[path[0].key] - params[path[0].key], expected - params[path[0].key], rtol=1e-9, atol=1e-9
                )
