"""Measures are what their names say: of real and complex leaves, of many, of none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import assert_same, description

import adamx
from adamx import probes

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([4.0, 0.0])}
GRADS = {"w": jnp.array([[0.1, -0.2], [3.0, 1.0]]), "b": jnp.array([-5.0, 0.01])}


def step(rule, *measures, per="tree"):
    probed = probes.probe(rule, *measures, per=per)
    updates, state, measured = probed.trace(GRADS, probed.init(PARAMS), PARAMS)
    return updates, state, measured


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_measures_are_what_their_names_say():
    updates, _, measured = step(adamx.adam(0.01, eps=1e-2))
    u, p, g = flat(updates), flat(PARAMS), flat(GRADS)
    m, v = g, g**2
    d = np.sqrt(v) + 1e-2
    rms = lambda x: np.sqrt(np.mean(x**2))  # noqa: E731
    expected = {
        "gradient_norm": np.linalg.norm(g),
        "update_norm": np.linalg.norm(u),
        "gradient_rms": rms(g),
        "parameter_rms": rms(p),
        "update_rms": rms(u),
        "update_ratio": rms(u) / rms(p),
        "effective_learning_rate": np.quantile(0.01 / d, [0.05, 0.5, 0.95]),
        "signal_to_noise": rms(m / np.sqrt(v)),
        "alignment": -u @ g / np.linalg.norm(u) / np.linalg.norm(g),
        "momentum_alignment": m @ g / np.linalg.norm(m) / np.linalg.norm(g),
        "sign_agreement": np.mean(u * g < 0),
        "eps_share": np.mean(np.sqrt(v) < d / 2),
        "staleness": rms(g / np.sqrt(v)),
    }
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(measured[name], value, rtol=2e-6, err_msg=name)


def test_measures_per_leaf_and_per_coordinate():
    updates, _, measured = step(adamx.adam(0.01), probes.update_rms, probes.sign_agreement, per="leaf")
    np.testing.assert_allclose(measured["update_rms"]["b"], np.sqrt(np.mean(flat(updates["b"]) ** 2)), rtol=1e-6)
    assert measured["sign_agreement"]["w"] == 1
    _, _, measured = step(adamx.adam(0.01), probes.update_rms, probes.alignment, per="coordinate")
    np.testing.assert_array_equal(measured["update_rms"]["w"], updates["w"])
    np.testing.assert_array_equal(measured["alignment"]["b"], [1, 1])


def test_leaves_without_gradient_are_left_out():
    rule = probes.probe(adamx.adam(0.01), probes.gradient_rms)
    _, _, measured = rule.trace({"w": None, "b": GRADS["b"]}, rule.init(PARAMS), PARAMS)
    np.testing.assert_allclose(measured["gradient_rms"], np.sqrt(np.mean(flat(GRADS["b"]) ** 2)), rtol=1e-6)


def complex_gradient():
    return jnp.array([0.6 - 0.8j, 0.0 + 2.0j, -1.0 + 0.5j]), jnp.array([1.0 + 1.0j, 2.0 - 1.0j, 0.5 + 0.0j])


@pytest.mark.parametrize("per", ["tree", "leaf"])
def test_measures_of_complex_leaves(per):
    g, p = complex_gradient()
    probed = probes.probe(adamx.adam(0.01, eps=1e-2), per=per)
    updates, _, measured = probed.trace(g, probed.init(p), p)
    u, g, p = (np.asarray(x, np.complex128) for x in (updates, g, p))
    rms = lambda x: np.sqrt(np.mean(np.abs(x) ** 2))  # noqa: E731
    cosine = lambda a, b: np.vdot(a, b).real / np.linalg.norm(a) / np.linalg.norm(b)  # noqa: E731
    expected = {
        "gradient_norm": np.linalg.norm(g),
        "update_norm": np.linalg.norm(u),
        "gradient_rms": rms(g),
        "parameter_rms": rms(p),
        "update_rms": rms(u),
        "update_ratio": rms(u) / rms(p),
        "effective_learning_rate": np.quantile(0.01 / (np.abs(g) + 1e-2), [0.05, 0.5, 0.95]),
        "signal_to_noise": 1,
        "alignment": -cosine(u, g),
        "momentum_alignment": 1,
        "sign_agreement": 1,
        "eps_share": 0,
        "staleness": 1,
    }
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        assert measured[name].dtype == jnp.float32
        np.testing.assert_allclose(measured[name], value, rtol=2e-6, err_msg=name)


def test_measures_of_complex_coordinates():
    g, p = complex_gradient()
    probed = probes.probe(adamx.adam(0.01), per="coordinate")
    updates, _, measured = probed.trace(g, probed.init(p), p)
    np.testing.assert_allclose(measured["gradient_norm"], np.abs(g), rtol=1e-6)
    np.testing.assert_allclose(measured["update_ratio"], np.abs(updates) / np.abs(p), rtol=1e-6)
    assert_same(measured["update_rms"], updates)
    assert measured["alignment"].tolist() == measured["momentum_alignment"].tolist() == [1, 1, 1]


def spread(signals):
    """The signals with every field of the leaves in full."""
    fields = {name: getattr(signals, name) for name in ("p", "m", "v", "d")}
    full = functools.partial(jax.tree.map, lambda a, g: jnp.broadcast_to(a, g.shape))
    return signals.write(**{name: full(field, signals.g) for name, field in fields.items() if field is not None})


@pytest.mark.parametrize("per", ["tree", "leaf", "coordinate"])
@pytest.mark.parametrize("name", ["adam", "novograd", "sgd"])
def test_what_leaves_share_counts_for_each_of_their_coordinates(name, per):
    rule = adamx.create(name, 0.01)
    _, _, signals = rule.trace(GRADS, rule.init(PARAMS), PARAMS)
    whole = spread(signals)
    measures = probes.measures_of(rule)
    actual, expected = (probes.measure(tree, *measures, per=per) for tree in (signals, whole))
    assert description(actual) == description(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), actual, expected)


EMPTY = {
    "an empty tree": ({}, {}),
    "a leaf of size 0": ({"a": jnp.zeros((0, 2))}, {"a": jnp.zeros((0, 2))}),
    "no gradient": (PARAMS, {"w": None, "b": optax.MaskedNode()}),
    "no gradient of a leaf of size 0": ({"a": jnp.zeros(0)}, {"a": None}),
}


@pytest.mark.parametrize("what", EMPTY)
@pytest.mark.parametrize("name", ["adam", "novograd", "sgd"])
def test_a_measure_of_nothing_is_zero_in_the_shape_and_dtype_of_any_other(name, what):
    probed, (params, grads) = probes.probe(adamx.create(name, 0.01)), EMPTY[what]
    _, _, measured = probed.trace(grads, probed.init(params), params)
    _, _, other = probed.trace(GRADS, probed.init(PARAMS), PARAMS)
    assert_same(measured, jax.tree.map(jnp.zeros_like, other))


def test_leaves_of_size_0_beside_others():
    params, grads = PARAMS | {"none": jnp.zeros((0, 2))}, GRADS | {"none": jnp.zeros((0, 2))}
    rule = adamx.adam(0.01)
    of = lambda per, p, g: probes.probe(rule, per=per).trace(g, rule.init(p), p)[2]  # noqa: E731
    assert_same(of("tree", params, grads), of("tree", PARAMS, GRADS))
    for name, values in of("leaf", params, grads).items():
        assert not np.any(values.pop("none")), name
        assert_same(values, of("leaf", PARAMS, GRADS)[name])
    assert all(values["none"].shape == (0, 2) for values in of("coordinate", params, grads).values())


def test_leaves_of_size_0_take_no_gradient_of_a_measure_to_nan():
    rule = adamx.adam(0.01)

    def measured(params):
        return probes.probe(rule, probes.update_ratio).trace(params, rule.init(params), params)[2]["update_ratio"]

    assert measured(jnp.zeros((0, 2))) == 0 and jax.grad(measured)(jnp.zeros((0, 2))).size == 0


def test_a_leaf_without_gradient_is_none_per_leaf_and_per_coordinate():
    rule = adamx.adam(0.01)
    for per in ("leaf", "coordinate"):
        _, _, measured = probes.probe(rule, per=per).trace({"w": None, "b": GRADS["b"]}, rule.init(PARAMS), PARAMS)
        assert all(values["w"] is None and np.isfinite(values["b"]).all() for values in measured.values())


def test_leaves_of_several_dtypes_are_measured_in_the_widest():
    with jax.enable_x64(True):
        grads = {
            "a": jnp.array([3.0], jnp.float32),
            "b": jnp.array([4.0], jnp.float64),
            "c": jnp.array([12j], jnp.complex64),
        }
        rule = adamx.adam(0.01)
        _, _, measured = probes.probe(rule).trace(grads, rule.init(grads), grads)
        assert measured["gradient_norm"] == 13 and {v.dtype for v in measured.values()} == {jnp.dtype("float64")}


def test_measures_of_gradients_whose_squares_are_out_of_range():
    grads = jax.tree.map(lambda g: g * 1e25, GRADS)
    probed = probes.probe(adamx.sgd(1e-3, momentum=0.5))
    _, _, measured = probed.trace(grads, probed.init(PARAMS), PARAMS)
    assert measured["gradient_norm"] == measured["gradient_rms"] == optax.tree.norm(grads) == np.inf
    assert measured["alignment"] == measured["momentum_alignment"] == 0
    assert measured["sign_agreement"] == 1
