"""Probes, problems, plots and files: the instruments."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.image import imread

import adamx
from adamx import files, plot, probes, problems

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


@pytest.mark.parametrize("name", adamx.CATALOGUE)
def test_every_rule_is_probed_in_a_scan_and_its_state_stays_its_own(name):
    rule = adamx.create(name, 0.01)
    probed = probes.probe(rule)

    @jax.jit
    def run(params):
        def body(carry, _):
            updates, state, measured = probed.trace(GRADS, carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), state), measured

        return jax.lax.scan(body, (params, probed.init(params)), length=3)

    (_, state), measured = run(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(rule.init(PARAMS))
    assert set(measured) == {m.name for m in probes.measures_of(rule)}
    assert all(np.isfinite(values).all() and len(values) == 3 for values in measured.values())
    assert probes.table(measured, every=2).count("\n") == 2


def test_probes_that_nobody_reads_cost_nothing():
    def instructions(function):
        state = rule.init(PARAMS)
        text = jax.jit(function).lower(GRADS, state, PARAMS).compile().as_text()
        return sum(" = " in line for line in text.splitlines())

    rule = adamx.adamw(1e-3)
    probed = probes.probe(rule)
    assert instructions(lambda g, s, p: probed.trace(g, s, p)[:2]) == instructions(rule.update)


def test_a_probed_rule_is_a_pytree_and_a_transformation():
    probed = probes.probe(adamx.adam(0.1), probes.update_rms)
    assert isinstance(probed, optax.GradientTransformationExtraArgs)
    assert jax.tree.leaves(probed) == jax.tree.leaves(probed.rule)
    assert "update_rms" in repr(probed)


def test_probe_errors():
    with pytest.raises(ValueError, match="signal_to_noise reads v.*sgd|signal_to_noise reads m, v"):
        probes.probe(adamx.sgd(0.1), probes.signal_to_noise)
    with pytest.raises(TypeError, match="probe the rule before chaining"):
        probes.probe(optax.adam(0.1))
    with pytest.raises(ValueError, match="'tree', 'leaf' or 'coordinate'"):
        probes.measure({}, per="layer")
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\)"):
        probes.table({"x": np.zeros((2, 3, 4))})


def test_debias_weights_and_half_lives_come_from_the_state():
    rule = adamx.adam(0.1, b1=0.9, b2=0.999)
    state = rule.init(PARAMS)
    for _ in range(3):
        _, state = rule.update(GRADS, state, PARAMS)
    weights, lives = probes.debias_weights(state), probes.half_lives(state)
    np.testing.assert_allclose([weights["mu"], weights["nu"]], [1 - 0.9**3, 1 - 0.999**3], rtol=1e-6)
    np.testing.assert_allclose([lives["mu"], lives["nu"]], [np.log(0.5) / np.log(b) for b in (0.9, 0.999)], rtol=1e-6)


def test_tensorboard_reads_the_curves_back(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    probes.write_tensorboard(tmp_path, {"x": [1.0, 2.0], "q": np.arange(4.0).reshape(2, 2)}, steps=[10, 20])
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["q/0", "q/1", "x"]
    assert [(event.step, event.value) for event in events.Scalars("q/1")] == [(10, 1.0), (20, 3.0)]


@pytest.mark.parametrize("problem", [p for p in problems.PROBLEMS.values() if p.minimum == 0.0], ids=lambda p: p.name)
def test_optima_are_optima(problem):
    for optimum in problem.optima:
        value, grad = jax.value_and_grad(problem.loss)(jnp.array(optimum), None, 1)
        assert abs(value) < 1e-9 and np.abs(grad).max() < 2e-4


def test_counterexamples_have_the_published_coefficients():
    grad = jax.jit(jax.vmap(jax.grad(problems.online.loss), in_axes=(None, None, 0)))
    slopes = grad(0.3, None, jnp.arange(1, 203))
    assert np.flatnonzero(slopes == 1010).tolist() == [0, 101] and (slopes == -10).sum() == 200
    keys = jax.random.split(jax.random.key(0), 20_000)
    slopes = jax.vmap(jax.grad(problems.stochastic.loss), in_axes=(None, 0, None))(0.3, keys, 1)
    assert set(np.unique(slopes)) == {-10, 1010} and abs((slopes > 0).mean() - 0.01) < 3e-3
    slopes = jax.vmap(jax.grad(problems.theorem_1(4.0).loss), in_axes=(None, None, 0))(0.3, None, jnp.arange(1, 7))
    assert slopes.tolist() == [4, -1, -1, 4, -1, -1]


@pytest.mark.parametrize(
    "noisy, spread",
    [
        (problems.gaussian(problems.parabola, 0.5), 0.5),
        (problems.heavy_tailed(problems.parabola, 5.0, 0.5), 0.5 * np.sqrt(5 / 3)),
        (problems.sparse(problems.parabola, 0.25), 4.0 * np.sqrt(3)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_noise_is_unbiased_and_leaves_the_loss_alone(noisy, spread):
    x = jnp.array([2.0, -1.0])
    keys = jax.random.split(jax.random.key(1), 20_000)
    values, grads = jax.jit(jax.vmap(jax.value_and_grad(noisy.loss), in_axes=(None, 0, None)))(x, keys, 1)
    np.testing.assert_allclose(values, 5.0)
    np.testing.assert_allclose(grads.mean(axis=0), [4, -2], atol=5 * spread / np.sqrt(len(keys)))
    np.testing.assert_allclose(grads[:, 0].std(), spread, rtol=0.15)


def test_minimise_records_path_losses_and_regret():
    run = problems.minimise(adamx.sgd(0.1), problems.parabola, 6, start=(1.0, 0.0), every=2)
    x = 0.8 ** np.arange(7)
    np.testing.assert_allclose(run.path[:, 0], x[[2, 4, 6]], rtol=1e-5)
    np.testing.assert_allclose(run.losses, x[[1, 3, 5]] ** 2, rtol=1e-5)
    np.testing.assert_allclose(run.regret, [np.mean(x[:t] ** 2) for t in (2, 4, 6)], rtol=1e-5)
    assert run.steps.tolist() == [2, 4, 6]
    with pytest.raises(ValueError, match="multiple of every=4"):
        problems.minimise(adamx.sgd(0.1), problems.parabola, 6, every=4)


def test_a_run_goes_on_where_another_ended():
    tx, problem, key = adamx.amsgrad(0.01), problems.stochastic, jax.random.key(3)
    whole = problems.minimise(tx, problem, 60, key=key, every=5)
    half = problems.minimise(tx, problem, 30, key=key, every=5)
    rest = problems.minimise(tx, problem, 30, key=key, every=5, after=half)
    for a, b, c in zip(whole[2:], half[2:], rest[2:], strict=True):
        np.testing.assert_allclose(a, np.concatenate([b, c]), rtol=1e-6)


def test_problem_errors():
    for make in (lambda: problems.quadratic(0.5), lambda: problems.theorem_1(2.0)):
        with pytest.raises(ValueError, match="needs"):
            make()
    with pytest.raises(ValueError, match="density"):
        problems.sparse(problems.parabola, 0.0)


def test_every_picture_is_written_whole(tmp_path):
    x = np.arange(1.0, 301)
    seeds = np.random.default_rng(0).normal(size=(5, 300)).cumsum(axis=1)
    path = problems.minimise(adamx.adam(0.1), problems.himmelblau, 50).path
    pictures = {
        "curves": plot.curves([("iterate", {"a": (x, seeds), "b": (x, seeds[0])}), ("regret", {"b": (x, x)})]),
        "internals": plot.internals({"gradient": seeds[0], "m": seeds[1], "output": seeds[2]}, window=100),
        "contour": plot.contour(
            lambda p: problems.himmelblau.loss(p, None, 1), {"adam": path}, bounds=((-5, 5), (-5, 5)), resolution=41
        ),
        "sensitivity": plot.sensitivity(
            {"a": x[:4]}, {"a": seeds[:4, :3]}, y_label="loss", chosen={"a": 1}, diverged={"a": seeds[:4, :3] > 1}
        ),
        "heat_map": plot.heat_map(
            seeds[:2, :3], "ab", "xyz", row_label="rule", column_label="problem", value_label="x"
        ),
    }
    for name, figure in pictures.items():
        assert figure.axes[0].get_ylabel() and any(ax.get_xlabel() for ax in figure.axes)
        assert imread(plot.save(figure, tmp_path / f"{name}.png")).size > 10_000
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.png" for name in pictures}


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "there.csv"
    path.write_text("whole")
    with pytest.raises(OSError), files.whole(path) as temporary:
        temporary.write_text("half")
        raise OSError
    assert [file.read_text() for file in tmp_path.iterdir()] == ["whole"]
