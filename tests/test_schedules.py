"""A schedule is called by plain Python, once an update, in every trace and in every eager call; so is the code of a user's stage."""

import dataclasses
import functools
import gc
import math
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import assert_close, assert_same, raises, tree

import adamx

PARAMS, GRADS = jnp.ones(3), jnp.array([1.0, -2.0, 3.0])


class Settings:
    """An object whose attribute a schedule reads: by calling it, or by a method."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, count):
        return self.rate * 0.5 ** (count / 1000)

    def method(self, count):
        return self(count)


@dataclasses.dataclass(frozen=True)
class Table:
    """A frozen dataclass with an array: neither hashable nor comparable."""

    rates: jax.Array

    def __call__(self, count):
        return self.rates[0] * 0.5 ** (count / 1000)


CONFIG = Settings(None)


def reads_a_global(count):
    return CONFIG.rate * 0.5 ** (count / 1000)


def from_global(rate):
    CONFIG.rate = rate
    return reads_a_global


ONE = Settings(None)


def from_changed_object(rate):
    ONE.rate = rate
    return ONE


WAYS = {
    "a global": from_global,
    "an object with a changed attribute": from_changed_object,
    "a fresh object": Settings,
    "a method": lambda rate: Settings(rate).method,
    "a method of a changed object": lambda rate: from_changed_object(rate).method,
    "a closure": lambda rate: lambda count: rate * 0.5 ** (count / 1000),
    "functools.partial": lambda rate: functools.partial(lambda rate, count: rate * 0.5 ** (count / 1000), rate),
    "Partial": lambda rate: jax.tree_util.Partial(lambda rate, count: rate * 0.5 ** (count / 1000), rate),
    "a dataclass with an array": lambda rate: Table(jnp.array([rate])),
    "optax": lambda rate: optax.exponential_decay(rate, 1000, 0.5),
    "numpy": lambda rate: lambda count: np.float64(rate) * 0.5 ** (count / 1000),
}


def first_update(lib, schedule):
    rule = lib.adam(schedule)
    return rule.update(GRADS, rule.init(PARAMS), PARAMS)[0]


def scanned(lib, schedule):
    rule = lib.adam(schedule)
    return jax.lax.scan(lambda s, g: rule.update(g, s, PARAMS)[::-1], rule.init(PARAMS), jnp.stack([GRADS] * 3))[1]


RUNS = {
    "eager": first_update,
    "new jit": lambda lib, s: jax.jit(lambda: first_update(lib, s))(),
    "jit of update": lambda lib, s: jax.jit(lib.adam(s).update)(GRADS, lib.adam(s).init(PARAMS), PARAMS)[0],
    "scan": scanned,
    "jit of scan": lambda lib, s: jax.jit(lambda: scanned(lib, s))(),
    "vmap": lambda lib, s: jax.vmap(lambda g: lib.adam(s).update(g, lib.adam(s).init(g))[0])(jnp.stack([GRADS] * 2)),
    "grad": lambda lib, s: jax.grad(lambda g: jnp.sum(lib.sgd(s).update(g, lib.sgd(s).init(g))[0] * GRADS))(GRADS),
    "eval_shape, then jit": lambda lib, s: [
        jax.eval_shape(lambda: first_update(lib, s)) and None,
        jax.jit(lambda: first_update(lib, s))(),
    ],
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("way", WAYS)
def test_a_schedule_is_read_anew_wherever_optax_reads_it(way, run):
    for rate in (0.1, 0.01, 0.2):
        ours, theirs = (RUNS[run](lib, WAYS[way](rate)) for lib in (adamx, optax))
        assert_close(ours, theirs, rtol=1e-4)


def test_the_same_rule_reads_its_schedule_in_every_trace_and_every_eager_call():
    rule = adamx.adam(reads_a_global)
    for rate in (0.1, 0.01):
        CONFIG.rate = rate
        for update in (rule.update, jax.jit(lambda *args: rule.update(*args))):
            np.testing.assert_allclose(update(GRADS, rule.init(PARAMS))[0], -rate * np.sign(GRADS), rtol=1e-5)


def test_a_schedule_of_a_traced_attribute_leaks_nothing():
    def trial(rate):
        rule = adamx.adam(Settings(rate).method)
        return rule.update(GRADS, rule.init(PARAMS))[0]

    for rate in (0.1, 0.01):
        np.testing.assert_allclose(jax.jit(trial)(rate), -rate * np.sign(GRADS), rtol=1e-5)
    np.testing.assert_allclose(trial(0.3), -0.3 * np.sign(GRADS), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda rate: trial(rate)[0])(0.1), -1.0, rtol=1e-5)


def test_eager_schedules_see_a_number():
    rule = adamx.adam(
        lambda count: 0.1 if count < 2 else 0.01 * math.cos(count - 2), b2=lambda count: 0.9 if count < 2 else 0.99
    )
    state, sizes = rule.init(PARAMS), []
    for _ in range(3):
        updates, state = rule.update(GRADS, state)
        sizes.append(-updates[0])
    np.testing.assert_allclose(sizes, [0.1, 0.1, 0.01], rtol=1e-6)


def test_a_schedule_is_called_once_an_update():
    calls = []

    def schedule(count):
        calls.append(count)
        return 0.1

    rule, params = adamx.adamw(schedule), {f"w{i}": jnp.ones(i % 3 + 1) for i in range(40)}
    state = rule.init(params)
    rule.update(params, state, params)
    jax.jit(rule.update)(params, state, params)
    assert len(calls) == 2


@pytest.mark.parametrize("field", ["learning_rate", "b1", "b2", "eps", "weight_decay"])
def test_every_hyperparameter_may_be_a_schedule_of_python(field):
    values = {"learning_rate": 0.1, "b1": 0.8, "b2": 0.95, "eps": 0.5, "weight_decay": 0.25}
    constant, scheduled = adamx.adamw(**values), adamx.adamw(**values | {field: lambda count: float(values[field])})
    state = constant.init(PARAMS)
    for update in (lambda rule: rule.update, lambda rule: jax.jit(rule.update)):
        assert_same(update(scheduled)(GRADS, state, PARAMS), update(constant)(GRADS, state, PARAMS))


# What a schedule must not return


BAD = {
    "a bfloat16 decay rate": (
        {"b2": lambda c: jnp.bfloat16(0.999)},
        TypeError,
        ("SecondMoment: b2 arrived as bfloat16",),
    ),
    "a decay rate of 1": (
        {"b2": lambda c: 1.0},
        ValueError,
        ("SecondMoment: b2 must be a decay rate in [0, 1)", "1.0"),
    ),
    "NaN": ({"learning_rate": lambda c: math.nan}, ValueError, ("LearningRate: learning_rate must be a number", "nan")),
    "nothing": ({"learning_rate": lambda c: None}, TypeError, ("LearningRate: learning_rate must be", "None")),
    "a function": (
        {"learning_rate": lambda c: optax.constant_schedule(0.1)},
        TypeError,
        ("LearningRate: learning_rate: the schedule must return a number",),
    ),
    "text": ({"eps": lambda c: "1e-8"}, TypeError, ("DivideByRoot: eps must be a number >= 0", "'1e-8'")),
    "an array": ({"learning_rate": lambda c: jnp.ones(2)}, ValueError, ("LearningRate: learning_rate has shape (2,)",)),
    "a complex number": ({"learning_rate": lambda c: 1j * c}, TypeError, ("LearningRate: learning_rate must be",)),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("bad", BAD)
def test_what_a_schedule_returns_is_checked_as_a_constant_would_be(bad, compiled):
    hyper, kind, message = BAD[bad]
    rule = adamx.adam(**{"learning_rate": 0.1} | hyper)
    state = rule.init(PARAMS)
    with raises(kind, *message):
        (jax.jit(rule.update) if compiled else rule.update)(GRADS, state)


# Stages


SCALE = {"factor": 1.0}


@adamx.stage
class Scale(adamx.Stage):
    """A stage that reads a global."""

    reads, writes = {"u"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=SCALE["factor"] * x.u), s


@pytest.mark.parametrize("leaves", [1, 40])
def test_the_code_of_a_stage_runs_in_every_trace_and_every_eager_call(leaves):
    rule = adamx.sgd(0.5).then(Scale())
    params = [PARAMS] * leaves
    for factor in (1.0, 3.0):
        SCALE["factor"] = factor
        for update in (rule.update, jax.jit(lambda *args: rule.update(*args)), jax.vmap(rule.update, (0, None))):
            updates, _ = update(params, rule.init(params))
            assert_close(updates[-1], -0.5 * factor * PARAMS)


def test_a_stage_around_one_of_the_package_is_the_users_too():
    @adamx.stage
    class Halved(adamx.SecondMoment):
        def read_out(self, s, k):
            return super().read_out(s, k) * SCALE["factor"]

    rule = adamx.adam(1.0, eps=0.0).replace(adamx.SecondMoment, adamx.RunningMax(Halved()))
    for factor in (1.0, 4.0):
        SCALE["factor"] = factor
        updates, _ = rule.update(GRADS, rule.init(PARAMS))
        assert_close(updates, -jnp.sign(GRADS) / factor**0.5)


# Values


def test_rules_with_schedules_are_values():
    settings = Settings(0.1)
    assert adamx.adam(settings) == adamx.adam(settings) != adamx.adam(Settings(0.1))
    assert adamx.adam(settings.method) == adamx.adam(settings.method) != adamx.adam(Settings(0.1).method)
    assert hash(adamx.adam(settings.method)) == hash(adamx.adam(settings.method))
    table = Table(jnp.array([0.1]))
    assert adamx.adam(table) == adamx.adam(table) != adamx.adam(Table(jnp.array([0.1])))
    assert adamx.adam(0.1) != adamx.adam(settings)
    assert jax.jit(lambda rule: rule.update(GRADS, rule.init(PARAMS))[0])(adamx.adam(table)).shape == (3,)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_nothing_of_a_rule_outlives_it(compiled):
    def trial():
        settings = Settings(0.1)
        rule, params = adamx.adamw(settings, mask=lambda p: jax.tree.map(lambda x: x.ndim > 0, p)), tree()
        update = rule.update
        if compiled:
            update = jax.jit(lambda *args: rule.update(*args))
        jax.block_until_ready(update(params, rule.init(params), params))
        return weakref.ref(settings)

    alive = [trial() for _ in range(3)]
    gc.collect()
    assert not [settings for settings in alive if settings() is not None]
