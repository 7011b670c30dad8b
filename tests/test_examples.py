"""The examples, run small."""

import ast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from matplotlib.image import imread
from scripts import EXAMPLES, load, run

import adamx
from adamx import plot

# tune_digits


@pytest.fixture(scope="module")
def tune_digits():
    return load("tune_digits")


def test_tune_digits_writes_and_prints(tune_digits, tmp_path):
    small = ["--epochs", 3, "--seeds", 2, "--learning-rates", 3]
    printed = run("tune_digits.py", tmp_path, "--rules", "lion", "adam", *small)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lanes.csv", "sensitivity.png"]
    assert imread(tmp_path / "sensitivity.png").shape == (810, 1350, 4)

    lanes = pd.read_csv(tmp_path / "lanes.csv")
    assert lanes.groupby(["rule", "learning_rate", "seed"]).size().tolist() == [1] * 12
    assert sorted(lanes.learning_rate.unique()) == pytest.approx([1e-4, 1e-2, 1])
    accuracy = lanes[["validation_accuracy", "test_accuracy"]]
    assert ((accuracy >= 0) & (accuracy <= 1)).all(axis=None)

    board = tune_digits.leaderboard(lanes)
    assert board.validation_loss.is_monotonic_increasing
    adam = board.set_index("rule").loc["adam"]
    assert adam.learning_rate == pytest.approx(1e-2)
    assert adam.test_mean > 0.9 and adam.lanes == 6
    assert [line.split()[0] for line in printed.splitlines()[1:3]] == list(board.rule)


@pytest.mark.parametrize("name", ["adam", "adopt"])
def test_a_lane_is_a_run_of_its_own(tune_digits, name):
    rates, seeds, epochs = np.array([1e-4, 1e-3, 1e-2]), [0, 1], 2
    splits, bar = tune_digits.digits(), load("experiment").Bar(total=epochs, disable=True)
    tune_digits.epoch_all.clear_cache()
    lanes = tune_digits.tune(bar, name, rates, seeds, epochs)
    assert tune_digits.epoch_all._cache_size() == 1

    lane = tune_digits.begin(adamx.create(name, 1e-3), tune_digits.network(1))
    for number in range(epochs):
        rows = tune_digits.batches(1, number)
        lane = jax.jit(tune_digits.epoch)(adamx.create(name, 1e-3), lane, rows, *splits["train"])
    own = {split: np.array(tune_digits.loss_and_accuracy(lane[0], *data)) for split, data in splits.items()}
    (batched,) = lanes[(lanes.learning_rate == 1e-3) & (lanes.seed == 1)].itertuples()
    assert batched.train_loss == pytest.approx(own["train"][0], rel=1e-5)
    assert batched.validation_loss == pytest.approx(own["validation"][0], rel=1e-5)
    assert batched.test_accuracy == pytest.approx(own["test"][1])


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


def test_diverged_lanes_are_counted_drawn_and_never_chosen(tune_digits, tmp_path):
    rates, seeds = [1e-3, 1e-2], [0, 1]
    table = pd.DataFrame([(r, rate, s) for r in ("a", "b") for rate in rates for s in seeds])
    table.columns = ["rule", "learning_rate", "seed"]
    table["validation_loss"] = [0.5, 0.5, 0.1, np.nan, np.nan, np.nan, np.nan, np.nan]
    table["test_accuracy"] = [0.9, 1.0, 0.95, 0.1, 0.1, 0.1, 0.1, 0.1]
    table["diverged"] = table.validation_loss.isna()
    board = tune_digits.leaderboard(table)
    assert list(board.rule) == ["a", "b"] and list(board.diverged) == [1, 4]
    assert board.learning_rate[0] == 1e-3
    assert "95.00 ± 7.07 %" in tune_digits.show(board)
    assert "nan" not in tune_digits.show(tune_digits.leaderboard(table[table.seed == 0]))
    picture = tune_digits.figure(table)
    assert "at the top: a seed diverged" in [text.get_text() for text in picture.legends[0].get_texts()]
    assert imread(plot.save(picture, tmp_path / "picture.png")).std() > 0


# chain_with_optax


def test_chain_with_optax_prints_and_fits(tmp_path):
    printed = run("chain_with_optax.py", tmp_path)
    assert len(pd.read_csv(tmp_path / "losses.csv")) == 6
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


def test_the_ablation_prints_every_variant_best_first(tmp_path):
    example = load("build_your_own")
    table, lines = run("build_your_own.py", tmp_path).split("The lines of stages:")
    assert pd.read_csv(tmp_path / "losses.csv", index_col="learning_rate").shape == (5, len(example.variants(0.1)))
    names, losses, rates = zip(*(line.rsplit(maxsplit=2) for line in table.strip().splitlines()[1:]), strict=True)
    assert set(names) == set(example.variants(0.1))
    losses = np.array(losses, float)
    assert (losses < 0.3).all() and (np.diff(losses) >= 0).all() and len(set(losses)) == len(losses)
    assert "RunningMax(Yogi(b2=0.999" in lines and "Friction()" in lines


# hypergradients


def test_hypergradients_are_finite_differences_and_descent_improves(tmp_path):
    gradients, rates, rule = run("hypergradients.py", tmp_path).split("\nDescent")
    assert len(pd.read_csv(tmp_path / "descent.csv")) == 11
    rows = [line.split() for line in gradients.splitlines() if ".stages" in line]
    assert len(rows) == len(jax.tree.leaves(adamx.adam(1e-3)))
    for _, _, exact, difference in rows:
        assert float(exact) == pytest.approx(float(difference), rel=1e-3)
    losses = np.array([line.split()[-1] for line in rates.splitlines()[1:] if line], float)
    assert len(losses) == 11 and losses[-1] < 0.5 * losses[0]
    (line,) = (line for line in rule.splitlines() if "validation loss" in line)
    before, after = map(float, line.split()[-2:])
    assert after < before


def test_a_hypergradient_is_a_rule():
    example = load("hypergradients")
    train, validation = example.problem()
    rule = adamx.sgd(1e-2)
    gradient = jax.grad(lambda rule: example.validation_loss(rule, train, validation, steps=3))(rule)
    assert isinstance(gradient, adamx.UpdateRule) and jax.tree.structure(gradient) == jax.tree.structure(rule)
