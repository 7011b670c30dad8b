"""The examples, run small."""

import ast
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
import sweep_cases as cases
from matplotlib.image import imread

import adamx

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# tune_digits


@pytest.fixture(scope="module")
def tune_digits():
    return load("tune_digits")


SMALL = ["--epochs", "3", "--seeds", "2", "--learning-rates", "3"]


def test_tune_digits_writes_prints_and_goes_on(tune_digits, tmp_path, capsys):
    command = ["--rules", "lion", "adam", *SMALL, "--out", str(tmp_path), "--resume", str(tmp_path / "kept")]
    tune_digits.digits()
    with cases.compilations() as seen:
        tune_digits.main(command)
    assert len(seen) == 2 + 1, "a program for each rule and one for the first parameters"
    assert {"lanes.csv", "sensitivity.png"} <= {file.name for file in tmp_path.iterdir()}
    assert imread(tmp_path / "sensitivity.png").shape == (810, 1350, 4)

    lanes = pd.read_csv(tmp_path / "lanes.csv")
    assert lanes.groupby(["name", "learning_rate", "seed"]).size().tolist() == [1] * 12
    assert sorted(lanes.learning_rate.unique()) == pytest.approx([1e-4, 1e-2, 1])
    errors = lanes[["final_validation_error", "final_test_error"]]
    assert ((errors >= 0) & (errors <= 100)).all(axis=None)

    printed = capsys.readouterr().out
    board = [line.split() for line in printed.splitlines()[1:3]]
    best = lanes[lanes.learning_rate == 0.01].groupby("name").final_validation_loss.mean()
    losses = {name: float(loss) for name, _, loss, *_ in board}
    assert [name for name, *_ in board] == sorted(losses, key=losses.get)
    adam = next(row for row in board if row[0] == "adam")
    assert (
        adam[1] == "0.01" and losses["adam"] == pytest.approx(best["adam"], abs=1e-4) and adam[-3:] == ["0", "of", "6"]
    )
    assert float(adam[3]) > 90

    tune_digits.main(command)
    assert capsys.readouterr().out.splitlines()[:3] == printed.splitlines()[:3]
    assert pd.read_csv(tmp_path / "lanes.csv").equals(lanes)


def test_splits_are_disjoint_stratified_and_standardised(tune_digits):
    splits = tune_digits.digits()
    assert [len(y) for _, y in splits.values()] == [1077, 360, 360]
    images = np.concatenate([np.asarray(x) for x, _ in splits.values()])
    assert len(np.unique(images, axis=0)) == len(images)
    for _, y in splits.values():
        assert np.ptp(np.bincount(y) / len(y)) < 0.02
    x = np.asarray(splits["train"][0])
    assert np.abs(x.mean(0)).max() < 1e-5
    assert set(np.round(x.std(0), 4)) == {0, 1}


# chain_with_optax


def test_chain_with_optax_prints_and_fits(capsys):
    load("chain_with_optax").main()
    printed = capsys.readouterr().out
    pairs = [line.split("loss ")[1].split(" -> ") for line in printed.splitlines() if "->" in line]
    before, after = np.array(pairs, float).T
    assert len(pairs) == 6 and (after < before).all() and (after[[0, 1, -2, -1]] < 0.6).all()


def test_a_batched_chain_is_optax_chains_one_by_one():
    example = load("chain_with_optax")
    given = example.problem(steps=20)
    txs = example.clipped_adams(jnp.array([1e-3, 1e-2]))
    _, batched = jax.vmap(lambda tx: example.fit(tx, *given), in_axes=(adamx.axes_of(txs),))(txs)
    _, alone = example.fit(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)), *given)
    assert float(batched[1]) == pytest.approx(float(alone), rel=1e-4)


# build_your_own


def test_a_stage_and_a_rule_take_less_than_20_lines():
    tree = ast.parse((EXAMPLES / "build_your_own.py").read_text())
    mine = [node for node in tree.body if getattr(node, "name", None) in ("Friction", "diffgrad")]
    assert len(mine) == 2
    assert sum(node.end_lineno - node.lineno + 1 for node in mine) < 20  # docstrings and blank lines and all


def test_diffgrad_is_the_papers():
    example = load("build_your_own")
    rule = example.diffgrad(0.1)
    p, state = jnp.array([1.0, -2.0, 0.5]), rule.init(jnp.zeros(3))
    q, m, v, last = np.array(p, float), 0, 0, 0
    for t, g in enumerate(np.random.default_rng(0).normal(size=(10, 3)), start=1):
        p, state = rule.step(jnp.float32(g), state, p)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        friction = 1 / (1 + np.exp(-np.abs(last - g)))
        q = q - 0.1 * friction * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        last = g
        np.testing.assert_allclose(p, q, rtol=1e-5)


def test_the_ablation_prints_every_variant_best_first(capsys):
    example = load("build_your_own")
    example.main()
    table, lines = capsys.readouterr().out.split("The lines of stages:")
    names, losses, rates = zip(*(line.rsplit(maxsplit=2) for line in table.strip().splitlines()[1:]), strict=True)
    assert set(names) == set(example.variants(0.1))
    losses = np.array(losses, float)
    assert (losses < 0.3).all() and (np.diff(losses) >= 0).all() and len(set(losses)) == len(losses)
    assert "RunningMax(Yogi(b2=0.999" in lines and "Friction()" in lines


# hypergradients


def test_hypergradients_are_finite_differences_and_descent_improves(capsys):
    example = load("hypergradients")
    example.main()
    gradients, rates, rule = capsys.readouterr().out.split("\nDescent")
    rows = [line.split() for line in gradients.splitlines() if ".stages" in line]
    assert len(rows) == len(jax.tree.leaves(adamx.adam(1e-3)))
    for _, _, exact, difference in rows:
        assert float(exact) == pytest.approx(float(difference), rel=1e-3)
    losses = np.array([line.split()[-1] for line in rates.splitlines()[1:] if line], float)
    assert len(losses) == 11 and losses[-1] < 0.5 * losses[0]
    before, after = map(float, rule.splitlines()[-1].split()[-2:])
    assert after < before


def test_a_hypergradient_is_a_rule():
    example = load("hypergradients")
    train, validation = example.problem()
    rule = adamx.sgd(1e-2)
    gradient = jax.grad(lambda rule: example.validation_loss(rule, train, validation, steps=3))(rule)
    assert isinstance(gradient, adamx.UpdateRule) and jax.tree.structure(gradient) == jax.tree.structure(rule)
