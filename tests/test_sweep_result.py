"""Tables, best points, code, files and pictures of a sweep; spaces and the points drawn from them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweep_cases as cases
from matplotlib.image import imread

import adamx
from adamx import plot, sweep
from adamx.sweep.progress import Progress


@pytest.fixture(scope="module")
def result():
    points = {
        "adamw": sweep.space(
            adamx.adamw,
            learning_rate=sweep.choice(1e-3, 1e-2, 1e-1, 0.3, 1e38),
            weight_decay=sweep.choice(0.0, 0.1),
            mask=None,
        ).grid(),
        "sgd": sweep.space(adamx.sgd, learning_rate=sweep.log(1e-3, 1e-1)).grid(learning_rate=3),
    }
    task = cases.task(maximise=("b",))
    return sweep.run(task, points, steps=40, seeds=[3, 5, 8], evaluate_every=4, halving=sweep.Halving(20, 2))


def test_the_table_has_a_row_a_lane(result):
    table = result.table()
    assert len(table) == 13 * 3 and list(table.columns[:8]) == [
        "name", "learning_rate", "weight_decay", "mask", "seed", "status", "died_at", "reached_at",
    ]  # fmt: skip
    assert table.name.tolist() == ["adamw"] * 30 + ["sgd"] * 9 and table.seed.tolist() == [3, 5, 8] * 13
    assert table.weight_decay[30:].isna().all() and table.learning_rate[0] == 1e-3
    assert set(table.status) == {"finished", "stopped", "diverged"}
    died = table.status == "diverged"
    assert (table.final_loss.isna() == died).all() and (table.died_at.notna() == died).all()
    assert (table.steps[table.status == "stopped"] == 20).all() and (
        table.steps[table.status == "finished"] == 40
    ).all()
    for metric, extreme in (("loss", np.nanmin), ("b", np.nanmax)):
        curve = result.curves(metric)
        assert list(curve.index) == list(range(4, 41, 4)) and curve.shape == (10, 39)
        sound = ~died & (table.status == "finished")
        np.testing.assert_array_equal(table[f"final_{metric}"][sound], curve.loc[40, sound.to_numpy()])
        np.testing.assert_array_equal(table[f"best_{metric}"][sound], extreme(curve.loc[:, sound.to_numpy()], axis=0))


def test_the_best_is_the_rule_itself_and_its_code(result):
    table = result.table()
    finished = table[table.status == "finished"].fillna({"weight_decay": -1})
    means = finished.groupby(["name", "learning_rate", "weight_decay"]).final_loss
    for name in (None, "adamw", "sgd"):
        best = result.best(name)
        own = means.mean() if name is None else means.mean()[[name]]
        assert best.mean == pytest.approx(own.min()) and best.name == own.idxmin()[0]
        assert best.sd == pytest.approx(means.std()[own.idxmin()])
        assert best.rule == eval(best.code(), {"adamx": adamx}) == result.constructors[best.name](**best.row)
    assert result.best("sgd").code() == f"adamx.sgd(learning_rate={result.best('sgd').row['learning_rate']!r})"
    assert [b.mean for b in result.top(2)] == sorted(b.mean for b in result.top(2))
    assert result.best(metric="b").mean == max(b.mean for b in result.top(2, metric="b"))
    with pytest.raises(ValueError, match="has no 'lion'; it has adamw, sgd"):
        result.best("lion")
    with pytest.raises(ValueError, match="has no metric 'acc'; it has loss, b, error"):
        result.best(metric="acc")


def test_no_best_where_all_diverged():
    wild = sweep.run(cases.task(), sweep.zipped(adamx.sgd, learning_rate=[1e30]), steps=20)
    with pytest.raises(ValueError, match="no best point of the sweep: in each of them a lane diverged"):
        wild.best()
    assert not sweep.curves(wild).axes[0].get_lines()
    assert np.isnan(sweep.run(cases.task(), sweep.zipped(adamx.sgd, learning_rate=[0.1]), steps=4).best().sd)


def test_numbers_of_numpy_and_jax_are_pythons():
    rates = np.geomspace(1e-3, 1e-1, 3)
    for given in (rates, rates.astype(np.float32), jnp.float32(rates)):
        points = sweep.zipped(adamx.adam, learning_rate=given, nesterov=np.bool_(True))
        assert points.rows[1] == {"learning_rate": 0.01, "nesterov": True}
        assert all(type(value) in (float, bool) for row in points.rows for value in row.values())


def best_of(points):
    return sweep.run(cases.task(), points, steps=2).best()


def test_code_is_the_call_that_made_the_rule():
    own = functools.partial(adamx.adam, b1=0.8)
    best = best_of(sweep.zipped(own, learning_rate=[0.1]))
    assert best.code() == "functools.partial(adamx.adam, b1=0.8)(learning_rate=0.1)"
    assert eval(best.code(), {"adamx": adamx, "functools": functools}) == best.rule
    best = best_of(sweep.listed(adamx.adam, [{"learning_rate": sweep.warmup_cosine(0.1, 2)}]))
    assert eval(best.code(), {"adamx": adamx, "jax": jax}) == best.rule


def test_hyperparameters_named_as_columns_are_kept():
    def rule(peak, steps):
        return adamx.adam(sweep.warmup_cosine(peak, steps))

    table = sweep.run(cases.task(), sweep.zipped(rule, peak=[0.1, 0.2], steps=4), steps=2).table()
    assert table.steps_.tolist() == [4, 4] and table.steps.tolist() == [2, 2]


def test_final_until_is_the_last_evaluation_by_then(result):
    first, second = result.at[:2]
    np.testing.assert_array_equal(result.final("loss", until=second - 1), result.final("loss", until=first))
    with pytest.raises(ValueError, match="until=0: the first evaluation was after"):
        result.final("loss", until=0)


def test_the_sensitivity_picture_rings_the_best(tmp_path):
    points = {
        "adam": sweep.space(adamx.adam, learning_rate=sweep.log(1e-3, 1), b2=sweep.choice(0.9, 0.999)).grid(
            learning_rate=4
        ),
        "sgd": sweep.space(adamx.sgd, learning_rate=sweep.log(1e-3, 1)).grid(learning_rate=4),
    }
    result = sweep.run(cases.task(), points, steps=12, halving=sweep.Halving(4))
    (ax,) = sweep.sensitivity(result).axes
    rings = [line for line in ax.get_lines() if line.get_marker() == "o" and line.get_markerfacecolor() == "none"]
    ringed = {float(x) for line in rings for x in np.ravel(line.get_xdata())}
    assert ringed == {result.best(name).row["learning_rate"] for name in points}
    (ax,) = sweep.sensitivity(result, by="b2").axes
    assert {line.get_label() for line in ax.get_lines()} & set(points) == {"adam"}
    own = sweep.space(
        adamx.adamw, learning_rate=0.1, weight_decay=sweep.choice(0.1, 0.0), nesterov=sweep.choice(False, True)
    )
    decayed = sweep.run(cases.task(), own.grid(), steps=2)
    assert sweep.sensitivity(decayed, by="weight_decay").axes[0].get_xscale() == "linear"
    own = sweep.space(adamx.amsgrad, learning_rate=0.1, maximum_of=sweep.choice("raw", "paper")).grid()
    with pytest.raises(ValueError, match="draws curves over numbers, but maximum_of of amsgrad is also 'paper'"):
        sweep.sensitivity(sweep.run(cases.task(), own, steps=2), by="maximum_of")


def test_a_result_survives_its_file(result, tmp_path):
    result.save(tmp_path / "result")
    again = sweep.load(tmp_path / "result.npz")
    cases.assert_same_table(again, result)
    assert again.best() == result.best() and again.best().rule == result.best().rule and again.took == result.took

    local = sweep.run(cases.task(), sweep.zipped(lambda rate: adamx.adam(rate), rate=[0.1]), steps=4)
    local.save(tmp_path / "local")
    loaded = sweep.load(tmp_path / "local")
    cases.assert_same_table(loaded, local)
    with pytest.raises(ValueError, match="<lambda> cannot be imported here"):
        _ = loaded.best().rule
    content = (tmp_path / "result.npz").read_bytes()
    for bad in (content[:-50], b"", b"text"):
        (tmp_path / "result.npz").write_bytes(bad)
        with pytest.raises(ValueError, match="is no result of a sweep, or is damaged"):
            sweep.load(tmp_path / "result")


def test_pictures(result, tmp_path):
    figures = {
        "sensitivity": sweep.sensitivity(result),
        "heat_map": sweep.heat_map(result, "weight_decay", "learning_rate", name="adamw"),
        "curves": sweep.curves(result),
        "rungs": sweep.rungs(result),
    }
    for name, figure in figures.items():
        plot.save(figure, tmp_path / f"{name}.png")
        assert imread(tmp_path / f"{name}.png").std() > 0
    falling = np.broadcast_to(np.geomspace(10, 1e-3, len(result.at)), result.values("loss").shape)
    alive = np.full_like(result.died_at, -1)
    (ax,) = sweep.curves(dataclasses.replace(result, metrics={"loss": falling}, died_at=alive)).axes
    assert 1e-4 < ax.get_ylim()[0] < 1e-3 and 10 < ax.get_ylim()[1] < 100
    (ax,) = figures["sensitivity"].axes
    lines = {line.get_label(): line for line in ax.get_lines()}
    rates = [row["learning_rate"] for row in result.rows[10:]]
    np.testing.assert_array_equal(lines["sgd"].get_xdata(), rates)
    np.testing.assert_allclose(lines["sgd"].get_ydata(), result.scores()[10:])
    assert [len(line.get_xdata()) for line in ax.get_lines() if line.get_marker() == "x" and len(line.get_xdata())] == [
        len({row["learning_rate"] for row, score in zip(result.rows, result.scores(), strict=True) if score == np.inf})
    ]
    shown = figures["heat_map"].axes[0].images[0].get_array()
    assert shown.shape == (2, 5) and shown[0, 0] == pytest.approx(result.scores()[0])
    with pytest.raises(ValueError, match="no hyperparameter 'b3'; it has learning_rate, weight_decay, mask"):
        sweep.sensitivity(result, by="b3")
    for picture in (sweep.sensitivity, sweep.curves, sweep.rungs):
        with pytest.raises(ValueError, match="the sweep has no metric 'acc'; it has loss"):
            picture(result, "acc")


def test_the_progress_bar(capsys):
    shown = Progress(True)
    shown.begin(100)
    shown.add(40, 7, np.array([np.nan, 0.25, 3.0]))
    shown.stop(20)
    shown.add(40, 6, np.array([0.5]))
    shown.close()
    printed = capsys.readouterr().err
    assert "6 lanes alive, best loss 0.25" in printed and "80.0/80.0" in printed and "steps/s" in printed
    sweep.run(cases.task(), sweep.zipped(adamx.sgd, learning_rate=[0.1]), steps=4)
    assert not capsys.readouterr().err


# Spaces


def test_dimensions_are_even_in_their_own_scale():
    space = sweep.space(
        adamx.adamw,
        learning_rate=sweep.log(1e-4, 1e-1),
        b2=sweep.log_complement(0.9, 0.9999),
        weight_decay=sweep.linear(0, 0.3),
        eps=1e-6,
    )
    grid = space.grid(learning_rate=4, b2=4, weight_decay=4).table()
    assert len(grid) == 64 and (grid.eps == 1e-6).all()
    assert sorted(set(grid.learning_rate)) == [1e-4, 1e-3, 1e-2, 1e-1]
    assert sorted(set(grid.b2)) == [0.9, 0.99, 0.999, 0.9999]
    assert sorted(set(grid.weight_decay)) == [0, 0.1, 0.2, 0.3]
    assert space.grid(learning_rate=1, b2=1, weight_decay=1).rows[0]["learning_rate"] == pytest.approx(10**-2.5)
    for points in (space.random(64, seed=1), space.sobol(64, seed=1), space.halton(64, seed=1)):
        table = points.table()
        units = np.stack([
            np.log10(table.learning_rate) / 3 + 4 / 3, (-np.log10(1 - table.b2) - 1) / 3, table.weight_decay / 0.3
        ])  # fmt: skip
        assert ((units >= 0) & (units <= 1)).all() and np.abs(units.mean(axis=1) - 0.5).max() < 0.12
    # Sobol: every eighth of each dimension has its share.
    assert all(np.bincount(np.int64(8 * u), minlength=8).tolist() == [8] * 8 for u in _units(space.sobol(64, seed=2)))
    assert space.sobol(5, seed=3).rows == space.sobol(8, seed=3).rows[:5]
    assert space.random(3, seed=0).rows == space.random(3, seed=0).rows != space.random(3, seed=1).rows


def _units(points):
    table = points.table()
    return [np.log10(table.learning_rate) / 3 + 4 / 3, (-np.log10(1 - table.b2) - 1) / 3, table.weight_decay / 0.3]


def test_points_of_one_structure_are_one_batched_rule():
    points = sweep.space(
        adamx.amsgrad, learning_rate=sweep.log(1e-3, 1e-1), b2=0.99, maximum_of=sweep.choice("raw", "debiased", "paper")
    ).grid(learning_rate=3)
    batches = points.batches()
    assert len(points) == 9 and [batch.members.tolist() for batch in batches] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    for batch in batches:
        assert jax.tree.leaves(batch.rules)[-1].tolist() == [1e-3, 1e-2, 1e-1]
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(batch.rules))
    whole = sweep.space(lambda rule, rate: rule(rate), rule=sweep.choice(adamx.adam, adamx.lion), rate=0.1).grid()
    assert whole.table().rule.tolist() == ["adam", "lion"] and len(whole.batches()) == 2
