"""The examples, run small."""

import ast
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from matplotlib.image import imread
from scripts import EXAMPLES, load, run

import adamx
from adamx import sweep

# tune_digits


@pytest.fixture(scope="module")
def tune_digits():
    return load("tune_digits")


def test_tune_digits_writes_and_prints(tmp_path):
    small = ["--epochs", 3, "--seeds", 2, "--learning-rates", 3]
    printed = run("tune_digits.py", tmp_path, "--rules", "lion", "adam", *small)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lanes.csv", "sensitivity.png"]
    assert imread(tmp_path / "sensitivity.png").shape == (810, 1350, 4)

    lanes = pd.read_csv(tmp_path / "lanes.csv")
    assert lanes.groupby(["name", "learning_rate", "seed"]).size().tolist() == [1] * 12
    assert sorted(lanes.learning_rate.unique()) == pytest.approx([1e-4, 1e-2, 1])
    errors = lanes[["final_validation_error", "final_test_error"]]
    assert ((errors >= 0) & (errors <= 100)).all(axis=None)

    board = [line.split() for line in printed.splitlines()[1:3]]
    of_rules = lanes.groupby(["name", "learning_rate"]).final_validation_loss.mean().groupby("name").min()
    assert [row[0] for row in board] == list(of_rules.sort_values().index)
    adam = next(row for row in board if row[0] == "adam")
    assert adam[1] == "0.01" and float(adam[2]) == pytest.approx(of_rules["adam"], abs=1e-4)
    assert float(adam[3]) > 90 and adam[-3:] == ["0", "of", "6"]


def test_tune_digits_goes_on_and_refuses_what_is_unfinished_of_another(tune_digits, tmp_path, monkeypatch, capsys):
    command = [
        "--rules",
        "sgd",
        "adam",
        "--epochs",
        "1",
        "--seeds",
        "1",
        "--learning-rates",
        "2",
        "--out",
        str(tmp_path),
    ]
    save, saved = sweep.runner.Folder.save, []

    def interrupted(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 20:  # of 16 for each rule
            raise KeyboardInterrupt

    monkeypatch.setattr(sweep.runner.Folder, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune_digits.main(command)
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]
    with pytest.raises(SystemExit):
        tune_digits.main([*command, "--seeds", "2"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "holds another sweep (seeds: [0] there, [0, 1] now)" in said
    tune_digits.main(command)
    assert len(saved) == 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lanes.csv", "sensitivity.png"]


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


def test_diverged_lanes_are_counted_and_never_chosen(tune_digits):
    ends = np.float32([[[0.5], [0.5]], [[0.1], [np.nan]], [[np.nan], [np.nan]]])
    never = np.full((3, 2), -1)
    died = np.where(np.isnan(ends[..., 0]), 1, -1)
    result = sweep.Result(
        names=["a", "a", "b"],
        rows=[{"learning_rate": rate} for rate in (1e-3, 1e-2, 1e-2)],
        constructors={"a": adamx.adam, "b": adamx.adam},
        seeds=[0, 1],
        at=np.array([1]),
        metrics={"loss": ends, "validation_loss": ends, "test_error": ends * [[[20.0], [0.0]]]},
        died_at=died,
        reached_at=never,
        stopped_at=never[:, 0],
        maximise=(),
    )
    board = tune_digits.leaderboard(result)
    assert board["diverged lanes"].tolist() == ["1 of 4", "2 of 2"]
    assert board["learning rate"].tolist() == ["0.001", "0.01"]
    assert board["validation loss"].tolist() == [0.5, np.inf]
    assert board["test accuracy"][0] == "95.00 ± 7.07 %"
    one = dataclasses.replace(
        result,
        seeds=[0],
        metrics={name: values[:, :1] for name, values in result.metrics.items()},
        died_at=died[:, :1],
        reached_at=never[:, :1],
    )
    assert tune_digits.leaderboard(one)["test accuracy"][0] == "98.00 %"


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


# groups


def test_groups_fit_and_are_what_they_say(tmp_path):
    example = load("groups")
    printed = run("groups.py", tmp_path)
    pairs = [line.split("loss ")[1].split(" -> ") for line in printed.splitlines() if "->" in line]
    before, after = np.array(pairs, float).T
    assert len(pd.read_csv(tmp_path / "losses.csv")) == len(pairs) == 3 and (after < 0.2 * before).all()
    params = example.network()
    zeros = jax.tree.map(jnp.zeros_like, params)

    def moved(rule, grads):
        return jax.tree.map(lambda u: float(jnp.max(jnp.abs(u))), rule.update(grads, rule.init(params), params)[0])

    decay = moved(example.no_decay_on_biases(), zeros)
    assert all(layer["kernel"] > 0 == layer["bias"] for layer in decay)
    rates = [layer["bias"] for layer in moved(example.by_depth(), jax.tree.map(jnp.ones_like, params))]
    np.testing.assert_allclose(rates, 3e-3 * np.array([0.25, 0.5, 1]), rtol=1e-5)
    assert [kind["kernel"] for kind in example.kind_of(params)] == ["hidden", "hidden", "rest"]


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
