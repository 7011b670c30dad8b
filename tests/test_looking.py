"""Problems, plots and files: the instruments beside probes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.image import imread

import adamx
from adamx import files, plot, problems


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
