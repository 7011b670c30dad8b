"""What a sweep cannot do is said before anything compiles: what is wrong, where, and what was expected."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweep_cases as cases
from checks import raises

import adamx
from adamx import sweep

POINTS = sweep.zipped(adamx.adam, learning_rate=[0.1, 0.2])


@pytest.fixture(autouse=True)
def nothing_is_compiled():
    task = cases.task()  # makes arrays
    with cases.compilations() as seen:
        yield task
    assert not seen


def test_spaces():
    with raises(TypeError, "adam has no hyperparameter 'lr'; it has learning_rate, b1, b2"):
        sweep.space(adamx.adam, lr=sweep.log(1e-3, 1))
    with raises(TypeError, "adam has no hyperparameter 'learning_rates'", "Did you mean 'learning_rate'?"):
        sweep.zipped(adamx.adam, learning_rates=[0.1])
    with raises(ValueError, "an empty space: adam was given no dimension"):
        sweep.space(adamx.adam, learning_rate=0.1)
    for make in (sweep.linear, sweep.log, sweep.log_complement):
        with raises(ValueError, f"{make.__name__}(0.9, 0.1) has its ends swapped: write {make.__name__}(0.1, 0.9)"):
            make(0.9, 0.1)
    for make, ends, limits in (
        (sweep.log, (0, 1), "between 0 and inf"),
        (sweep.log_complement, (0.9, 1.0), "between -inf and 1"),
        (sweep.linear, (1, 1), "two different numbers"),
    ):
        with raises(ValueError, f"{make.__name__}({ends[0]}, {ends[1]})", limits):
            make(*ends)
    with raises(TypeError, "log takes two numbers, got '1e-3' and 1"):
        sweep.log("1e-3", 1)
    with raises(ValueError, "choice needs at least one value"):
        sweep.choice()
    space = sweep.space(adamx.adam, learning_rate=sweep.log(1e-3, 1), nesterov=sweep.choice(True, False))
    with raises(ValueError, "grid needs the number of values of 'learning_rate'"):
        space.grid()
    with raises(ValueError, "grid takes counts of the dimensions 'learning_rate', got one of 'nesterov'"):
        space.grid(learning_rate=3, nesterov=2)
    with raises(ValueError, "an empty grid: learning_rate=0"):
        space.grid(learning_rate=0)
    for draw in (space.random, space.sobol, space.halton):
        with raises(ValueError, "the number of points must be 1 or more, got 0"):
            draw(0)


def test_points():
    with raises(ValueError, "a sweep of adam needs at least one point, got none"):
        sweep.listed(adamx.adam, [])
    with raises(ValueError, "zipped takes lists of one length, got learning_rate: 2, b2: 1"):
        sweep.zipped(adamx.adam, learning_rate=[0.1, 0.2], b2=[0.9])
    with raises(ValueError, "adam(learning_rate=0.1, b2=1.5): SecondMoment: b2 must be a decay rate in [0, 1)"):
        sweep.zipped(adamx.adam, learning_rate=[0.1], b2=1.5)
    with raises(TypeError, "adam(b2=0.9): ", "missing 1 required positional argument: 'learning_rate'"):
        sweep.zipped(adamx.adam, b2=[0.9])
    with raises(TypeError, "adam(learning_rate=0.1) is a GradientTransformationExtraArgs", "adamx.chain"):
        sweep.zipped(optax.adam, learning_rate=[0.1])
    with raises(TypeError, "must be one number for a point"):
        sweep.listed(adamx.adam, [{"learning_rate": np.array([0.1, 0.2])}])


def test_points_that_disagree_in_structure():
    def decayed(peak):
        return adamx.adam(optax.cosine_decay_schedule(peak, 100))

    def clipped(norm):
        return adamx.chain(optax.clip_by_global_norm(norm), adamx.adam(0.1))

    for constructor, argument in ((decayed, "peak"), (clipped, "norm")):
        with raises(
            ValueError,
            "differ in real numbers only have rules of different structure",
            argument,
            "jax.tree_util.Partial",
        ):
            sweep.zipped(constructor, **{argument: [0.1, 0.2]})
    same = sweep.listed(lambda warm: adamx.chain(optax.clip_by_global_norm(1.0), adamx.adam(warm)), [{"warm": 0.1}] * 3)
    assert len(same.batches()) == 1


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        (
            {"seeds": 0},
            ValueError,
            "seeds must be a number of 1 or more, or different numbers from 0 to 2**32 - 1, got 0",
        ),
        *(
            (
                {"seeds": bad},
                ValueError,
                f"seeds must be a number of 1 or more, or different numbers from 0 to 2**32 - 1, got {bad!r}",
            )
            for bad in ([1, 1], [], -1, 1.5, "ab", None, [2**32])
        ),
        ({"steps": 0}, ValueError, "steps must be a positive whole number, got 0"),
        ({"evaluate_every": 3}, ValueError, "steps=10 is not divisible by evaluate_every=3"),
        ({"evaluate_every": 5, "halving": sweep.Halving(2, 2)}, ValueError, "rungs of halving, [2, 4, 8], are not"),
        ({"halving": 3}, TypeError, "halving must be a sweep.Halving, got 3"),
        (
            {"halving": sweep.Halving(2, metric="acc")},
            ValueError,
            "halving: there is no metric 'acc'; the task has loss",
        ),
        ({"target": {"acc": 0.9}}, ValueError, "target: there is no metric 'acc'; the task has loss"),
        (
            {"target": "loss"},
            TypeError,
            "target must be a dict of metrics to numbers, such as {'loss': 0.1}, got 'loss'",
        ),
        ({"target": {"loss": "low"}}, TypeError, "target must be a dict of metrics to numbers"),
        ({"directory": __file__}, ValueError, f"directory={__file__!r} is a file: give the sweep a folder"),
        ({"memory": 0}, ValueError, "memory must be a positive whole number, got 0"),
        ({"mesh": 8}, TypeError, "mesh must be a jax.sharding.Mesh"),
        ({"points": {}}, ValueError, "an empty sweep"),
        ({"points": {"a": [0.1]}}, TypeError, "points['a'] must be sweep.Points"),
        ({"points": adamx.adam(0.1)}, TypeError, "points must be sweep.Points"),
        ({"task": cases.loss}, TypeError, "expected a sweep.Task, got function"),
    ],
)
def test_runs(nothing_is_compiled, options, kind, said):
    with raises(kind, said):
        sweep.run(**{"task": nothing_is_compiled, "points": POINTS, "steps": 10} | options)


def test_halving_and_evaluate(nothing_is_compiled):
    for bad in ({"first_rung": 0}, {"first_rung": 1, "factor": 1}, {"first_rung": 1, "keep_at_least": 0}):
        with raises(ValueError, "Halving needs first_rung >= 1, factor >= 2 and keep_at_least >= 1"):
            sweep.Halving(**bad)
    with raises(ValueError, "whole numbers, got Halving(first_rung=4.5"):
        sweep.Halving(9 / 2)
    with raises(ValueError, "Halving(first_rung=5, factor=3", "has no rung before the end, steps=5"):
        sweep.run(nothing_is_compiled, POINTS, steps=5, halving=sweep.Halving(5))
    with raises(ValueError, "metric: there is no metric 'acc'"):
        sweep.evaluate(nothing_is_compiled, adamx.adam, [{"learning_rate": 0.1}], steps=5, metric="acc")
    with raises(TypeError, "adam has no hyperparameter 'lr'"):
        sweep.evaluate(nothing_is_compiled, adamx.adam, [{"lr": 0.1}], steps=5)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"loss": lambda p, b: (b[0] @ p["w"]) ** 2}, TypeError, "loss must be a real scalar, got float32 of shape (8,)"),
        ({"loss": lambda p, b: None}, TypeError, "loss must be a real scalar, got NoneType"),
        ({"loss": lambda p, b: jnp.sum(p["w"]) * 1j}, TypeError, "must be a real scalar, got complex64 of shape ()"),
        ({"evaluate": lambda p: p["b"]}, TypeError, "evaluate must return a dict of scalars, got"),
        ({"evaluate": lambda p: {"w": p["w"]}}, TypeError, "evaluate's 'w' must be a real scalar, got float32 of shape (3,)"),
        ({"evaluate": lambda p: {"loss": p["b"]}}, ValueError, "evaluate returns 'loss', the name of the mean training loss"),
        ({"maximise": ("acc",)}, ValueError, "maximise names 'acc', but the task's metrics are loss, b, error"),
        ({"has_aux": True}, TypeError, "init(key) must return (parameters, auxiliary state)"),
        ({"has_aux": True, "init": lambda k: ({"w": jnp.ones(3), "b": jnp.ones(())}, 1), "loss": lambda p, a, b: p["b"]},
         TypeError, "loss(params, aux, batch) must return (scalar, new auxiliary state)"),
        ({"has_aux": True, "init": lambda k: (jnp.ones(()), jnp.ones(2)), "loss": lambda p, a, b: (p, jnp.ones(3))},
         TypeError, "must return auxiliary state as init does: float32[2], got float32[3]"),
    ],
)  # fmt: skip
def test_tasks(nothing_is_compiled, change, kind, said):
    with raises(kind, said):
        sweep.run(nothing_is_compiled._replace(**change), POINTS, steps=10)


def test_arrays():
    x, y = cases.data()
    with raises(ValueError, "arrays must have one leading length, got", "(24,)", "(23,)"):
        sweep.arrays(cases.init, cases.loss, (x, y[1:]), 8)
    for size in (0, 25):
        with raises(ValueError, f"batch_size must be between 1 and the number of rows, 24; got {size}"):
            sweep.arrays(cases.init, cases.loss, (x, y), size)
