"""Side by side with the Optax and torch that are installed, in float64, on one stream of gradients."""

import jax
import numpy as np
import optax
import pytest
from cases import CASES, build
from checks import run
from older import in_optax

import adamx

STEPS, SHAPE = 40, (3, 4)
RNG = np.random.default_rng(7)
PARAMS = RNG.normal(size=SHAPE)
GRADS = RNG.normal(size=(STEPS, *SHAPE)) * 10 ** RNG.uniform(-2, 1, SHAPE) * (RNG.uniform(size=(STEPS, *SHAPE)) < 0.8)

SAME_AS_OPTAX = (
    ["sgd", "sgd_momentum", "sgd_nesterov", "adagrad", "adadelta", "adadelta_decay", "lion", "lion_decay"]
    + ["rmsprop", "rmsprop_eps_outside", "rmsprop_initial_scale", "rmsprop_bias_correction"]
    + ["rmsprop_momentum", "rmsprop_nesterov"]
    + [
        "adam",
        "adam_eps",
        "adam_nesterov",
        "adamw",
        "adamw_decay",
        "adamw_nesterov",
        "adamax",
        "adamaxw",
        "adamaxw_decay",
    ]
    + ["amsgrad_debiased", "nadam", "nadamw", "nadamw_decay", "adabelief", "adabelief_eps", "adabelief_nesterov"]
    + ["radam", "radam_nesterov", "radam_short", "lamb", "lamb_decay", "novograd", "novograd_decay"]
    + ["ademamix", "ademamix_decay", "adopt", "adopt_nesterov", "adopt_unclipped"]
)


def of_optax(name, learning_rate=1e-2, maximum_of=None, **hyper):
    """Optax's transformation; its AMSGrad has one form only."""
    return in_optax(name)(learning_rate, **hyper)


def updates_of(transformation):
    """Its updates in float64. What Optax makes is structure, no argument of a jitted function."""
    with jax.enable_x64(True):
        if isinstance(transformation, adamx.UpdateRule):
            return np.asarray(run(transformation, PARAMS, GRADS)[2])
        return np.asarray(run.__wrapped__(transformation, PARAMS, GRADS)[2])


def distance(actual, expected):
    return np.max(np.abs(actual - expected)) / np.max(np.abs(expected))


@pytest.mark.parametrize("case", SAME_AS_OPTAX)
def test_same_as_optax(case):
    theirs = of_optax(CASES[case].rule, **CASES[case].hyper)
    assert distance(updates_of(build(CASES[case])), updates_of(theirs)) < 1e-10


# Where adamx and Optax differ


def test_amsgrad_of_optax_takes_the_maximum_of_the_debiased_average():
    assert distance(updates_of(adamx.amsgrad(1e-2)), updates_of(optax.amsgrad(1e-2))) > 1e-2
    assert "Differs from Optax" in adamx.amsgrad.__doc__


def test_the_first_moment_of_optax_yogi_starts_where_its_second_does():
    start, b1, eps = 0.5, 0.9, 1e-3
    ours = adamx.scale_by_yogi(b1, eps=eps, initial_accumulator_value=start)
    theirs = optax.scale_by_yogi(b1, eps=eps, initial_accumulator_value=start)
    with jax.enable_x64(True):
        _, _, signals = ours.trace(GRADS[0], ours.init(PARAMS))
        from_start = b1 * start / (1 - b1) / (np.sqrt(signals.v) + eps)
    assert distance(updates_of(ours)[0] + from_start, updates_of(theirs)[0]) < 1e-12
    assert distance(updates_of(ours), updates_of(theirs)) > 1e-2
    assert "Differs from Optax" in adamx.yogi.__doc__


def test_yogi_from_zero_is_that_of_optax():
    theirs = optax.scale_by_yogi(initial_accumulator_value=0.0)
    assert distance(updates_of(adamx.scale_by_yogi(initial_accumulator_value=0.0)), updates_of(theirs)) < 1e-10


def test_the_difference_in_optax_adan_has_coefficient_one_minus_b2():
    def both(b2):
        return updates_of(adamx.adan(1e-2, b2=b2, eps_root=1e-8)), updates_of(optax.adan(1e-2, b2=b2))

    assert distance(*both(0.5)) < 1e-10
    assert distance(*both(0.92)) > 1e-2
    assert "Differs from Optax" in adamx.adan.__doc__


def test_centred_rmsprop_is_that_of_optax_but_stays_finite_on_constant_gradients():
    ours, theirs = adamx.rmsprop(1e-2, centered=True), optax.rmsprop(1e-2, centered=True)
    assert distance(updates_of(ours), updates_of(theirs)) < 1e-8
    params = PARAMS.astype(np.float32)
    constant = np.stack([100 * params] * 200)
    assert np.isfinite(run(ours, params, constant)[2]).all()
    assert not np.isfinite(run.__wrapped__(theirs, params, constant)[2]).all()
    assert "NaN on a constant gradient" in " ".join(adamx.rmsprop.__doc__.split())


# torch


def torch_updates(make, params=PARAMS, grads=GRADS):
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.tensor(params))
    optimizer = make(torch, [p])
    path = [params]
    for g in grads:
        p.grad = torch.tensor(g)
        optimizer.step()
        path.append(p.detach().numpy().copy())
    return np.diff(path, axis=0)


WITH_TORCH = {
    "adam": (adamx.adam(1e-2), lambda torch, p: torch.optim.Adam(p, lr=1e-2)),
    "adamw": (adamx.adamw(1e-2, weight_decay=0.01), lambda torch, p: torch.optim.AdamW(p, lr=1e-2)),
    "amsgrad": (adamx.amsgrad(1e-2), lambda torch, p: torch.optim.Adam(p, lr=1e-2, amsgrad=True)),
    "nadam": (adamx.nadam(1e-2, momentum_decay=0.004), lambda torch, p: torch.optim.NAdam(p, lr=1e-2)),
    "adamax": (adamx.adamax(1e-2), lambda torch, p: torch.optim.Adamax(p, lr=1e-2)),
    "rmsprop": (
        adamx.rmsprop(1e-2, decay=0.99, eps_in_sqrt=False, centered=True),
        lambda torch, p: torch.optim.RMSprop(p, lr=1e-2, centered=True),
    ),
}


@pytest.mark.parametrize("name", WITH_TORCH)
def test_same_as_torch(name):
    ours, make = WITH_TORCH[name]
    tolerance = 1e-7 if name == "nadam" else 1e-10  # torch keeps NAdam's product of momenta in float32
    assert distance(updates_of(ours), torch_updates(make)) < tolerance


def test_adopt_is_that_of_pytorch_optimizer_clipping_one_step_later():
    library = pytest.importorskip("pytorch_optimizer")
    ours = adamx.adopt(1e-2, b2=0.99, clip_value_fn=lambda count: (count + 1) ** 0.25)
    theirs = torch_updates(lambda torch, p: library.ADOPT(p, lr=1e-2, betas=(0.9, 0.99), eps=1e-6))
    assert distance(updates_of(ours), theirs) < 1e-10
