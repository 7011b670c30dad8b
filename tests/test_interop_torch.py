"""Torch's states: runs begun in torch go on in JAX, and the reverse; what does not fit is named."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import assert_same, raises, tree

import adamx
from adamx.interop import torch as interop

BEFORE, AFTER = 17, 23
SHAPES = {"dense": {"kernel": (4, 3), "bias": (3,)}, "scale": ()}
NAMES = {"dense.kernel": "fc.weight", "dense.bias": "fc.bias", "scale": "scale"}
ORDER = ["scale", "fc.weight", "fc.bias"]
"""Torch's names, in the order of its optimizer."""

CASES = {
    "Adam": {},
    "Adam coupled": {"weight_decay": 0.1},
    "AdamW": {"weight_decay": 0.1},
    "Adam amsgrad": {"amsgrad": True},
    "AdamW amsgrad": {"amsgrad": True},
    "NAdam": {},
    "NAdam decoupled": {"weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.1},
    "RAdam": {"betas": (0.9, 0.99)},
    "Adamax": {"weight_decay": 0.1},
    "Adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.1},
    "Adadelta": {"lr": 1.0},
    "RMSprop": {"weight_decay": 0.1},
    "RMSprop momentum": {"momentum": 0.8},
    "RMSprop centred": {"centered": True, "momentum": 0.8},
    "RMSprop centred, plain": {"centered": True},
    "SGD": {},
    "SGD momentum": {"momentum": 0.8, "weight_decay": 0.1},
    "SGD nesterov": {"momentum": 0.8, "nesterov": True},
}
each_case = pytest.mark.parametrize("case", list(CASES))


def transposed(name, x):
    return x.T if name == "fc.weight" else x


def numbers(seed, dtype):
    rng = np.random.default_rng(seed)
    return {
        "dense": {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES["dense"].items()},
        "scale": np.asarray(rng.normal(), dtype),
    }


def by_name(values):
    """A tree as torch's parameters in its order."""
    return {"scale": values["scale"], "fc.weight": values["dense"]["kernel"].T, "fc.bias": values["dense"]["bias"]}


class Torch:
    """An optimizer of torch on these parameters; the scale is a group of its own, with half the learning rate."""

    def __init__(self, case, values):
        self.torch = pytest.importorskip("torch")
        options = {"lr": 0.02} | CASES[case]
        self.kind = case.split()[0]
        self.parameters = {
            name: self.torch.nn.Parameter(self.torch.tensor(np.array(x))) for name, x in by_name(values).items()
        }
        groups = [
            {"params": [self.parameters["scale"]], "lr": options["lr"] / 2},
            {"params": [self.parameters["fc.weight"], self.parameters["fc.bias"]]},
        ]
        self.optimizer = getattr(self.torch.optim, self.kind)(groups, **options)

    def go(self, grads):
        for g in grads:
            for name, x in by_name(g).items():
                self.parameters[name].grad = self.torch.tensor(np.array(x))
            self.optimizer.step()
        return self

    def values(self):
        now = {name: p.detach().numpy().copy() for name, p in self.parameters.items()}
        return {"dense": {"kernel": now["fc.weight"].T, "bias": now["fc.bias"]}, "scale": now["scale"]}

    def rule(self):
        rules = [interop.rule_of(self.kind, group) for group in self.optimizer.state_dict()["param_groups"]]
        return adamx.partition(dict(zip(("scale", "dense"), rules, strict=True)), {"dense": "dense", "scale": "scale"})


def go(rule, state, params, grads):
    update = jax.jit(rule.update)
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_moved(actual, expected, start, rtol):
    for x, y, begun in zip(*map(jax.tree.leaves, (actual, expected, start)), strict=True):
        assert np.max(np.abs(x - y)) <= rtol * np.max(np.abs(y - begun))


@each_case
def test_a_run_goes_on_in_the_other_library(case):
    """In float64: RAdam's eps, in another place, is what is left."""
    start, grads = numbers(0, np.float64), [numbers(seed, np.float64) for seed in range(1, BEFORE + AFTER + 1)]
    one, whole = Torch(case, start).go(grads[:BEFORE]), Torch(case, start).go(grads)
    rule = one.rule()
    arguments = {"names": NAMES, "order": ORDER, "convert": transposed}
    with jax.enable_x64(True):
        state = interop.from_torch(rule, one.optimizer.state_dict(), start, count=BEFORE, **arguments)
        assert jax.tree.structure(state) == jax.tree.structure(rule.init(start))
        there, _ = go(rule, state, one.values(), grads[BEFORE:])
        assert_moved(there, whole.values(), start, 1e-6)

        middle, state = go(rule, rule.init(start), jax.tree.map(jnp.asarray, start), grads[:BEFORE])
        straight, _ = go(rule, state, middle, grads[BEFORE:])
        other = Torch(case, jax.device_get(middle))
        like = other.optimizer.state_dict()
        other.optimizer.load_state_dict(interop.to_torch(rule, state, start, like, **arguments))
        assert_moved(other.go(grads[BEFORE:]).values(), straight, start, 1e-6)


@pytest.mark.parametrize("case", ["AdamW", "NAdam"])
def test_in_float32(case):
    """From zero, or the rounding of the parameters themselves would be what is left."""
    start, grads = (
        jax.tree.map(np.zeros_like, numbers(0, np.float32)),
        [numbers(seed, np.float32) for seed in range(1, BEFORE + AFTER + 1)],
    )
    one, whole = Torch(case, start).go(grads[:BEFORE]), Torch(case, start).go(grads)
    rule = one.rule()
    state = interop.from_torch(rule, one.optimizer.state_dict(), start, NAMES, order=ORDER, convert=transposed)
    there, expected = go(rule, state, one.values(), grads[BEFORE:])[0], whole.values()
    largest = max(float(np.max(np.abs(x))) for x in jax.tree.leaves(expected))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-6 * largest), there, expected)


# Without torch: a state_dict is plain data


PARAMS = tree(shapes={"w": (2, 3), "b": (3,)})
MOMENTS = {"exp_avg": np.ones((3, 2)), "exp_avg_sq": np.full((3, 2), 2.0)}
OF_BIAS = {"exp_avg": np.ones(3), "exp_avg_sq": np.ones(3)}


def state_dict(step=5, **more):
    state = {0: {"step": np.float32(step), **MOMENTS}, 1: {"step": np.float32(5), **OF_BIAS}}
    return {"state": state, "param_groups": [{"params": [0, 1], "lr": 0.1, "param_names": ["w", "b"]} | more]}


def turned(name, x):
    return x.T if name == "w" else x


def test_arrays_of_numpy_and_names_of_the_optimizer():
    rule = adamx.adamw(0.1)
    state = interop.from_torch(rule, state_dict(), PARAMS, convert=turned)
    assert_same(state.count, jnp.int32(5))
    assert_same(state.nu["w"], jnp.full((2, 3), 2.0))
    numbered = {"w": 0, "b": 1}
    assert_same(
        interop.from_torch(rule, state_dict(), PARAMS, numbered, convert=lambda n, x: turned("wb"[int(n)], x)), state
    )
    back = interop.to_torch(rule, state, PARAMS, state_dict(), convert=turned, tensor=lambda x: x)
    assert back["param_groups"] == state_dict()["param_groups"]
    jax.tree.map(np.testing.assert_array_equal, back["state"], state_dict()["state"])
    chain = adamx.chain(optax.clip_by_global_norm(1.0), rule)
    assert_same(interop.from_torch(chain, state_dict(), PARAMS, convert=turned)[1], state)


def test_a_parameter_without_a_gradient_begins_anew():
    given = state_dict()
    del given["state"][1]
    state = interop.from_torch(adamx.adam(0.1), given, PARAMS, convert=turned)
    assert_same(state.mu["b"], jnp.zeros(3))
    assert_same(state.count, jnp.int32(5))
    empty = interop.from_torch(adamx.adagrad(0.1), given | {"state": {}}, PARAMS)
    assert_same(empty, adamx.adagrad(0.1).init(PARAMS))


def test_a_product_beyond_the_range_of_float32_is_made_of_the_rates():
    rule = adamx.nadam(0.1, momentum_decay=0.004)
    given = state_dict(step=3000)
    given["state"][1]["step"] = np.float32(3000)
    for entry in given["state"].values():
        entry["mu_product"] = np.float32(0)
    state = interop.from_torch(rule, given, PARAMS, convert=turned)
    t = np.arange(1, 3001)
    expected = np.mean(np.log(0.9 * (1 - 0.5 * 0.96 ** (t * 0.004))))
    np.testing.assert_allclose(state.scalars["mu_log_decay"], expected, rtol=1e-6)


def test_a_count_for_sgd():
    rule = adamx.sgd(optax.linear_schedule(0.1, 0.0, 10), momentum=0.9)
    given = {"state": {n: {"momentum_buffer": x["exp_avg"]} for n, x in state_dict()["state"].items()}}
    given |= {"param_groups": state_dict()["param_groups"]}
    with raises(ValueError, "SGD does not count its steps", "give count="):
        interop.from_torch(rule, given, PARAMS, convert=turned)
    assert_same(interop.from_torch(rule, given, PARAMS, convert=turned, count=5).count, jnp.int32(5))


def test_what_does_not_fit_is_named():
    rule, given = adamx.adam(0.1), state_dict()
    with raises(ValueError, "exp_avg of 'w' has shape (3, 2)", "the slot of w has (2, 3)", "convert="):
        interop.from_torch(rule, given, PARAMS)
    with raises(
        ValueError, "torch's state of 'b' has step, exp_avg, exp_avg_sq", "needs max_exp_avg_sq too", "rule_of"
    ):
        interop.from_torch(adamx.amsgrad(0.1), given, PARAMS, convert=turned)
    with raises(ValueError, "different numbers of steps ('b' 5, 'w' 6)"):
        interop.from_torch(rule, state_dict(step=6), PARAMS, convert=turned)
    with raises(ValueError, "has no parameter 'fc'", "for 'w' in JAX", "its parameters are w, b"):
        interop.from_torch(rule, given, PARAMS, {"w": "fc", "b": "b"})
    with raises(ValueError, "names has no 'b'", "the parameters are b, w"):
        interop.from_torch(rule, given, PARAMS, {"w": "w"})
    unnamed = given | {"param_groups": [{"params": [0, 1]}]}
    with raises(ValueError, "has no parameter 'b'", "give order="):
        interop.from_torch(rule, unnamed, PARAMS)
    with raises(TypeError, "names is a dict or a function"):
        interop.from_torch(rule, given, PARAMS, 3)
    with raises(ValueError, "torch has no optimizer with the state of LionMomentum", "nadam(momentum_decay=0.004)"):
        interop.from_torch(adamx.lion(0.1), given, PARAMS)
    with raises(ValueError, "torch has no optimizer with the state of NesterovMomentum"):
        interop.to_torch(adamx.nadam(0.1), adamx.nadam(0.1).init(PARAMS), PARAMS, given)
    with raises(TypeError, "expected a rule, a chain or a partition"):
        interop.from_torch(adamx.adam, given, PARAMS)
    scheduled = adamx.rmsprop(optax.constant_schedule(0.1), momentum=0.9)
    with raises(ValueError, "of steps with a scheduled learning rate", "put the learning rate last"):
        interop.to_torch(scheduled, scheduled.init(PARAMS), PARAMS, given)


def test_rules_of_groups():
    group = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
    assert interop.rule_of("AdamW", group) == adamx.adamw(0.1, b2=0.99, weight_decay=0.1)
    assert interop.rule_of("Adam", group | {"weight_decay": 0}) == adamx.adam(0.1, b2=0.99)
    with raises(ValueError, "unknown optimizer 'LBFGS' of torch; known are Adam, AdamW"):
        interop.rule_of("LBFGS", {})
    with raises(ValueError, "maximize=True has no counterpart"):
        interop.rule_of("Adam", group | {"maximize": True})
    with raises(ValueError, "dampening=0.5 has no counterpart"):
        interop.rule_of("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "nesterov": False})
