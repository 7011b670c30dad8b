"""The online experiments, run small: AMSGrad's counterexample and the signal through Adam."""

import os

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scripts import FLAGS, is_picture, load, run, scalars

import adamx

OPTIMIZED = os.environ | {"XLA_FLAGS": FLAGS.replace("optimization_level=0", "optimization_level=1")}
"""For scripts whose many steps take longer than their compilation, as other tests compile."""

# amsgrad_counterexample


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(printed, folder) of 100,000 steps."""
    folder = tmp_path_factory.mktemp("amsgrad")
    steps = ["--steps", 100_000, "--seeds", 3]
    return run("amsgrad_counterexample.py", folder, *steps, "--tensorboard", env=OPTIMIZED), folder


EXPECTED = {  # x and average regret at step 100,000
    "Adam": (0.9955, 0.2194),
    "AMSGrad": (-0.0817, 0.1367),
    "AMSGrad of debiased v": (-0.0124, 0.1116),
    "Yogi": (-0.0105, 0.1121),
    "Adam, b2 = 0.999": (0.1036, 0.1548),
    "AMSGrad, 0.5/√t": (-0.9842, 0.1220),
}


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("float64", 6e-5)])
def test_adam_is_fooled_online_and_amsgrad_is_not(small, precision, tolerance):
    online = pd.read_csv(small[1] / "online.csv", index_col=[0, 1, 2])
    for name, expected in EXPECTED.items():
        assert online.loc[precision, name, 100_000].tolist() == pytest.approx(expected, abs=tolerance), name
    walls = pd.read_csv(small[1] / "walls.csv", index_col="rule")[precision]
    assert walls["Adam"] == 53_124 and walls["AMSGrad"] == 0


def test_theorem_1_separates_adam_from_amsgrad_and_yogi(small):
    ends = pd.read_csv(small[1] / "theorem_1.csv", index_col=["c", "rule"]).x.unstack("rule")
    assert ends.index.tolist() == [2.5, 3.0, 4.0, 10.0]
    assert (ends["Adam"] > 0.99).all()
    assert (ends[["AMSGrad", "Yogi"]] < -0.99).all(axis=None)


def test_larger_minibatches_pull_adam_back(small):
    x = pd.read_csv(small[1] / "minibatches.csv", index_col="minibatch").x
    assert x[1] > 0.9 and x[64] < -0.5 and x.is_monotonic_decreasing


def test_its_numbers_are_printed_beside_the_reference(small):
    printed, folder = small
    numbers = pd.read_csv(folder / "numbers.csv", index_col=["rule", "step"])
    assert len(numbers) == 7 * 2 and numbers.loc["Adam", 10_000].filter(like="x ").tolist() == pytest.approx(
        [0.188] * 3, abs=1e-4
    )
    walls = pd.read_csv(folder / "walls.csv", index_col="rule").reference
    assert walls["Adam"] == 53_124 and walls["AMSGrad"] == 1_275_448
    assert any(line.split() == ["Adam", "53124", "53124", "53124"] for line in printed.splitlines())
    assert "all 59 numbers that this run can be compared in agree" in printed  # 2 * 2 * 14, and 3 first steps at a wall
    for name in ("stochastic", "theorem_1", "minibatches"):
        assert len(pd.read_csv(folder / f"{name}.csv")) == {"stochastic": 200, "theorem_1": 12, "minibatches": 4}[name]
    assert is_picture(folder / "figure_1.png") and is_picture(folder / "minibatches.png")


def test_numbers_that_are_off_are_refused(small):
    amsgrad, experiment = load("amsgrad_counterexample"), load("experiment")
    online = pd.read_csv(small[1] / "online.csv", index_col=[0, 1, 2])
    walls = {("float64", name): 0 for name in amsgrad.ONLINE} | {("float32", name): 0 for name in amsgrad.ONLINE}
    result = amsgrad.Result(online + 2e-3, walls, pd.Series(), pd.DataFrame(), pd.Series(), 1.0)
    with pytest.raises(
        SystemExit, match=r"float.. Adam: x at 10,000: expected 0\.188, got 0\.1[89].*, tolerance .* of 59 numbers"
    ):
        experiment.require(amsgrad.compare(result))


def test_tensorboard_finds_two_runs_with_the_same_tags(small):
    runs = scalars(small[1] / "tensorboard")
    assert list(runs) == ["AMSGrad", "Adam"]
    online = pd.read_csv(small[1] / "online.csv", index_col=[0, 1, 2])
    stochastic = pd.read_csv(small[1] / "stochastic.csv", index_col=["rule", "step"])
    for name, read in runs.items():
        assert set(read) == {"online/x", "online/regret", "stochastic/x", "stochastic/regret"}
        for of in ("x", "regret"):
            steps, values = read[f"online/{of}"]
            curve = online.loc["float32", name][of]
            assert len(steps) > 100 and steps.tolist() == curve.index.tolist()
            np.testing.assert_allclose(values, curve, rtol=1e-6)
        steps, values = read["stochastic/x"]
        assert steps.tolist() == stochastic.loc[name].index.tolist()
        np.testing.assert_allclose(values, stochastic.loc[name].mean(axis=1), rtol=1e-5)


def test_who_is_fooled(tmp_path):
    steps = ["--steps", 100_000, "--seeds", 4]
    printed = run("amsgrad_counterexample.py --all", tmp_path, "adam", "adopt", *steps, env=OPTIMIZED)
    table = pd.read_csv(tmp_path / "fooled.csv", index_col="rule")
    assert table.fooled.tolist() == ["online, stochastic, theorem 1", "stochastic"]
    # Adam's v at the rare gradient over its mean root in between, b2 = 0.99: known in closed form.
    v = [(1e4 * 0.99**k * (1.01**2 * 1e2 - 1)) / (1 - 0.99**101) * 0.01 + 100 for k in range(101)]
    assert table.division["adam"] == pytest.approx(np.mean(np.sqrt(v[0] / np.array(v[1:]))), rel=1e-3)
    assert table.division["adopt"] < 1
    assert table["with maximum"]["adam"] < 0
    assert is_picture(tmp_path / "fooled.png")
    assert "Fooled online: 1 of 2 rules" in printed
    assert "exceptions: none" in printed and "turn round: adam" in printed and "at random only: adopt" in printed


def test_the_picture_of_the_fooled_is_ordered_by_what_separates_them():
    fooled = load("fooled")
    columns = {"division": [1.0, 1.3, 126.0], "online": [-0.1, 0.99, 1.0], "with maximum": [np.nan, -0.2, np.nan]}
    table = pd.DataFrame(
        columns | {"stochastic": [0.0, 1.0, 0.9], "theorem 1": [-1.0, 1.0, 1.0]}, ["sgd", "adam", "lion"]
    )
    division, online, _ = fooled.figure(table, 1000).axes
    assert [label.get_text() for label in division.get_yticklabels()] == ["sgd", "adam", "lion"]
    assert [text.get_text() for text in online.get_xticklabels()][::4] == ["−1\nbest", "+1\nworst"]
    hollow = [x for line in online.lines if line.get_markerfacecolor() == "white" for x in line.get_xdata()]
    assert -0.1 in hollow and -0.2 in hollow and 0.99 not in hollow  # not at an end yet
    assert "126 →" in [text.get_text() for text in division.texts]


def test_lanes_are_measured(tmp_path, capsys):
    load("amsgrad_counterexample").main(["--lanes", "4", "--out", str(tmp_path)])
    assert float(capsys.readouterr().out.split()[0]) > 0


def test_a_bar_moves_when_arrays_are_there(monkeypatch):
    experiment, waited = load("experiment"), []
    monkeypatch.setattr(experiment.jax, "block_until_ready", lambda x: waited.append(bar.n) or x)
    bar = experiment.Bar(total=6, disable=False, file=open("/dev/null", "w"))  # noqa: SIM115
    rule, steps = adamx.adam(0.1), []
    for part in experiment.minimise(bar, rule, adamx.problems.parabola, 6, every=1, part=2):
        assert part.path.shape == (1, 2, 2)
        steps += part.steps[0].tolist()
    assert waited == [0, 2, 4] and bar.n == 6 and steps == [1, 2, 3, 4, 5, 6]
    bar.fp.close()
    whole = adamx.problems.minimise(rule, adamx.problems.parabola, 6)
    np.testing.assert_allclose(part.path[0, -1], whole.params, rtol=1e-6)


def test_a_minibatch_is_a_mean_of_draws():
    problem = adamx.problems.minibatch(adamx.problems.stochastic, 1000)
    loss = problem.loss(jnp.float32(1.0), adamx.problems.jax.random.key(0), 1)
    rare = (loss + 10) * 1000 / 1020
    assert float(rare) == pytest.approx(round(float(rare)), abs=1e-2) and 0 < rare < 40
    with pytest.raises(ValueError, match="size of at least 1, got 0"):
        adamx.problems.minibatch(adamx.problems.stochastic, 0)


# gradient_signal


@pytest.fixture(scope="module")
def signal():
    return load("gradient_signal")


def test_all_numbers_of_the_simulation(signal):
    result, require = signal.run(), load("experiment").require
    assert "all 73 numbers" in require(
        signal.compare(result)
    )  # 2 rules * 3 signals * 10, 9 first gradients, 4 one step late
    adam = result.series["adam"]
    np.testing.assert_allclose(np.diff(adam["W"], axis=0), -adam["output"][1:], rtol=1e-6)
    off = result._replace(series=result.series | {"adam": adam | {"output": adam["output"] * 1.001}})
    with pytest.raises(SystemExit, match="adam, swinging: t=1: expected 1, got 1.001"):
        require(signal.compare(off))


def test_the_modified_rule_is_the_posters(signal):
    g = np.random.default_rng(0).normal(size=(50, 3)) + 1
    _, m, _, _, spread, output = (
        np.asarray(values) for values in signal.follow(signal.RULES["modified"], np.float32(g))
    )
    mu = v = 0
    for t, x in enumerate(g, start=1):
        mu = 0.9 * mu + 0.1 * x
        v = 0.999 * v + 0.001 * (x - mu) ** 2
        root = np.sqrt(v / (1 - 0.999**t))
        np.testing.assert_allclose(m[t - 1], mu, rtol=1e-5)
        np.testing.assert_allclose(spread[t - 1], root, rtol=1e-5)
        np.testing.assert_allclose(output[t - 1], x / (root + 1e-7) + mu / (1 - 0.9**t), rtol=1e-4)


def test_its_new_stage_needs_what_it_reads(signal):
    with pytest.raises(adamx.WiringError, match="v"):
        adamx.update_rule(adamx.Momentum(0.9), signal.GradientOverRootPlusMomentum())


def test_the_simulation_writes_prints_and_logs(signal, tmp_path):
    printed = run("gradient_signal.py", tmp_path, "--steps", 300, "--tensorboard")
    names = [f"{rule}_{s}" for rule in ("adam", "modified") for s in sorted(signal.SIGNALS)]
    assert [picture.stem for picture in sorted(tmp_path.glob("*.png"))] == names
    assert all(is_picture(tmp_path / f"{name}.png") for name in names)
    table = pd.read_csv(tmp_path / "adam.csv", index_col="step")
    assert table.shape == (300, 24) and np.isfinite(table).all(axis=None)
    runs = scalars(tmp_path / "tensorboard")
    assert set(runs) == {"adam", "modified"} and set(runs["adam"]) == set(runs["modified"])
    for tag, column in {"swinging/output": "swinging/output", "line/debiased_sqrt_v": "line/debiased √v"}.items():
        steps, values = runs["adam"][tag]
        np.testing.assert_allclose(values, table[column][steps], rtol=1e-5)
        assert np.diff(steps).max() == 10  # no jump in the curve
    assert "starts at 3.162277, 1.343438, 1.167638" in printed and "settle at" in printed
    assert "all 48 numbers" in printed
