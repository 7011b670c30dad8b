"""What probes, chains, tables and TensorBoard files say to the wrong arguments, before any work."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import raises

import adamx
from adamx import probes

PARAMS = {"w": jnp.array([1.0, -2.0])}
RULE = adamx.adam(0.1)


def trace(rule, params=PARAMS):
    return rule.trace(PARAMS, rule.init(PARAMS), params)


def test_a_probe_of_something_else():
    with raises(TypeError, "probe takes an UpdateRule", "probe the rule before chaining it", "adamx.chain(..., probe("):
        probes.probe(optax.adam(0.1))
    with raises(TypeError, "got chain(", "probe the rule before chaining it"):
        probes.probe(adamx.chain(optax.clip(1.0), RULE))
    with raises(TypeError, "got <function adam", "probe the rule"):
        probes.probe(adamx.adam)
    with raises(TypeError, "got one with measures already: probe(probed.rule"):
        probes.probe(probes.probe(RULE))
    with raises(TypeError, "measures_of takes an UpdateRule"):
        probes.measures_of(probes.update_rms)


@pytest.mark.parametrize(
    "ask",
    [lambda *m, **per: probes.probe(RULE, *m, **per), lambda *m, **per: probes.measure(trace(RULE)[2], *m, **per)],
)
def test_measures_that_are_none(ask):
    with raises(TypeError, "expected a measure, got 'update_rms': pass probes.update_rms"):
        ask("update_rms")
    with raises(TypeError, "expected a measure, got 'loss': pass an instance"):
        ask("loss")
    with raises(TypeError, "expected a measure, got <function", "pass an instance of one of the kinds"):
        ask(lambda x: x.u)
    with raises(TypeError, "expected a measure, got <class", "pass an instance"):
        ask(probes.Quantiles)
    with raises(TypeError, "measures are separate arguments, got a list", "*measures)"):
        ask([probes.update_rms])
    with raises(ValueError, "more than one measure 'update_rms'"):
        ask(probes.update_rms, probes.alignment, probes.update_rms)
    with raises(ValueError, "per must be 'tree', 'leaf' or 'coordinate', got 'layer'"):
        ask(probes.update_rms, per="layer")


def test_a_measure_of_what_the_rule_does_not_write():
    with raises(
        ValueError,
        "signal_to_noise reads m, v, which no stage of the rule writes",
        "Measures it can take: gradient_norm",
    ):
        probes.probe(adamx.sgd(0.1), probes.signal_to_noise)
    with raises(ValueError, "signal_to_noise reads m, v, which no stage of the rule wrote into the signals"):
        probes.measure(trace(adamx.sgd(0.1))[2], probes.signal_to_noise)


@pytest.mark.parametrize("per", ["tree", "leaf", "coordinate"])
def test_a_measure_of_parameters_that_were_not_given(per):
    probed = probes.probe(RULE, probes.update_rms, probes.update_ratio, probes.parameter_rms, per=per)
    with raises(ValueError, "update_ratio, parameter_rms read the parameters", "trace(grads, state, params)"):
        trace(probed, None)
    with raises(ValueError, "update_ratio", "read the parameters", "params=None"):
        trace(adamx.chain(optax.clip(1.0), probed), None)
    with raises(ValueError, "parameter_rms is a measure of the parameters, which the signals do not have"):
        probes.measure(trace(RULE, None)[2], probes.parameter_rms, per=per)
    updates, state, measured = trace(probes.probe(RULE, probes.update_rms, per=per), None)
    assert set(measured) == {"update_rms"}


def test_measures_of_something_else_than_signals():
    with raises(TypeError, "the third of what a rule's trace returns, got tuple"):
        probes.measure(trace(RULE), probes.update_rms)
    with raises(TypeError, "measure takes a Signal", "got dict"):
        probes.measure(PARAMS, probes.update_rms, per="leaf")
    _, stacked = jax.lax.scan(lambda s, g: RULE.trace(g, s)[1:], RULE.init(PARAMS["w"]), jnp.ones((3, 2)))
    with raises(ValueError, "of 3 steps or lanes", "jax.vmap"):
        probes.measure(stacked, probes.update_rms)


@pytest.mark.parametrize(
    "make, kind, message",
    [
        (lambda: probes.Mean(7, {"u"}, abs), TypeError, "Mean: name must be a string"),
        (lambda: probes.Mean("x", "raw", abs), TypeError, "Mean 'x': reads must be a set"),
        (lambda: probes.Mean("x", {"u"}, "u"), TypeError, "Mean 'x': quantity must be a function of a Signal"),
        (lambda: probes.Cosine("x", {"u"}, abs, None), TypeError, "Cosine 'x': second must be a function"),
        (lambda: probes.Quantiles("x", {"u"}, abs, (50,)), ValueError, "levels must be numbers from 0 to 1"),
        (lambda: probes.Quantiles("x", {"u"}, abs, ()), ValueError, "levels must be numbers from 0 to 1"),
        (lambda: probes.Quantiles("x", {"u"}, abs, 0.5), ValueError, "levels must be numbers from 0 to 1"),
    ],
)
def test_a_measure_of_ones_own_is_checked_when_it_is_made(make, kind, message):
    with raises(kind, message):
        make()


@pytest.mark.parametrize("per", ["tree", "leaf", "coordinate"])
def test_a_quantity_with_too_few_numbers_or_none(per):
    for quantity, shown in ((lambda x: x.u[:1, None, None], "shape (1, 1, 1)"), (lambda x: None, "None")):
        own = probes.RootMeanSquare("own", {"u"}, quantity)
        with raises(ValueError, "own takes a quantity with one number for each coordinate", "shape (2,)", shown):
            trace(probes.probe(RULE, own, per=per))


@pytest.mark.parametrize("kind", [probes.Mean, probes.Quantiles])
def test_a_complex_quantity_where_it_should_be_real(kind):
    own, z = kind("own", {"u"}, lambda x: x.u), jnp.array([1j])
    with raises(TypeError, f"own is a {kind.__name__} of a real quantity", "complex64"):
        probed = probes.probe(RULE, own)
        probed.trace(z, probed.init(z), z)


def test_weights_and_half_lives_of_something_else():
    chained = adamx.chain(optax.clip(1.0), RULE)
    for ask in (probes.debias_weights, probes.half_lives):
        with raises(TypeError, "expected the RuleState of one rule, got tuple", "the rule's entry"):
            ask(chained.init(PARAMS))
        assert set(ask(chained.init(PARAMS)[1])) == {"mu", "nu"}


# Tables and TensorBoard


@pytest.mark.parametrize("write", [probes.table, lambda series: probes.write_tensorboard("never", series)])
@pytest.mark.parametrize(
    "series, kind, parts",
    [
        ([1.0, 2.0], TypeError, ("measurements by name", "got list")),
        ({}, ValueError, ("no measurements",)),
        ({"x": np.zeros((2, 3, 4))}, ValueError, ("x has shape (2, 3, 4)", "per='tree'")),
        ({"x": 1.0}, ValueError, ("x has shape ()", "(steps,) or (steps, k)")),
        ({"x": {"w": np.zeros(3)}}, TypeError, ("x is a tree of measurements", "per='tree'")),
        ({"x": ["a", "b"]}, TypeError, ("x has dtype", "real numbers")),
        ({"x": np.array([1j])}, TypeError, ("x has dtype complex128", "real numbers")),
        ({"x/0": np.zeros(2), "x": np.zeros((2, 1))}, ValueError, ("two curves 'x/0'",)),
    ],
    ids=lambda value: "",
)
def test_measurements_that_are_no_curves(write, series, kind, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with raises(kind, *parts):
        write(series)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("every", [0, -1, 1.5, None])
def test_a_table_of_every_no_steps(every):
    with raises(ValueError, "every must be a positive integer"):
        probes.table({"x": np.zeros(3)}, every=every)


def test_a_table_of_curves_of_several_lengths():
    with raises(ValueError, "the columns of a table are of one length, got a 3, b 2"):
        probes.table({"a": np.zeros(3), "b": np.zeros(2)})


def test_a_table_shows_what_jax_measures():
    measured = {"x": jnp.array([0.5, 2.0], jnp.bfloat16), "n": [True, False], "q": np.arange(4).reshape(2, 2)}
    assert [row.split() for row in probes.table(measured).splitlines()] == [
        ["step", "x", "n", "q/0", "q/1"],
        ["1", "0.5", "1", "0", "1"],
        ["2", "2", "0", "2", "3"],
    ]


def test_tensorboard_reads_the_curves_back(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    probes.write_tensorboard(tmp_path, {"x": [1.0, 2.0], "q": np.arange(4.0).reshape(2, 2)}, steps=[10, 20])
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["q/0", "q/1", "x"]
    assert [(event.step, event.value) for event in events.Scalars("q/1")] == [(10, 1.0), (20, 3.0)]


@pytest.mark.parametrize("steps", [5, [0.5, 1.5], [[1, 2]], ["a", "b"], [1, 2, 3]])
def test_step_numbers_that_do_not_fit(steps, tmp_path):
    with raises(
        ValueError, "x has 2 points, and steps has 3" if steps == [1, 2, 3] else "steps must be a sequence of whole"
    ):
        probes.write_tensorboard(tmp_path / "new", {"x": [1.0, 2.0]}, steps)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for wrong in (None, {"x": [1.0]}):
        with raises(TypeError, "logdir must be the path of a folder"):
            probes.write_tensorboard(wrong, {"x": [1.0]})
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with raises(NotADirectoryError, "logdir must be a folder", "is a file"):
        probes.write_tensorboard(tmp_path / "file", {"x": [1.0]})


def test_tensorboard_without_its_writer_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with raises(ImportError, 'pip install "adamx[lab]"'):
        probes.write_tensorboard(tmp_path / "new", {"x": [1.0]})
    assert not list(tmp_path.iterdir())
