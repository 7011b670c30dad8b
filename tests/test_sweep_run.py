"""A sweep's lanes are the runs of its rules, whatever is trained beside them and in whatever pieces."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweep_cases as cases

import adamx
from adamx import sweep

STEPS, MEMORY = 50, 300_000_000
GRIDS = {
    "adamw": sweep.space(
        adamx.adamw, learning_rate=sweep.log(1e-3, 1e-1), weight_decay=sweep.choice(0.0, 0.1), b1=sweep.choice(0.0, 0.9)
    ).grid(learning_rate=2),
    "amsgrad": sweep.space(
        adamx.amsgrad, learning_rate=0.01, b2=sweep.log_complement(0.9, 0.999), maximum_of=sweep.choice("raw", "paper")
    ).grid(b2=2),
}


def scheduled(peak, warmup):
    return adamx.yogi(sweep.warmup_cosine(peak, STEPS, warmup=warmup))


def clipped(rule, learning_rate):
    return adamx.chain(optax.clip_by_global_norm(1.0), rule(learning_rate))


GRIDS["scheduled"] = sweep.space(scheduled, peak=sweep.log(1e-3, 1e-1), warmup=sweep.linear(0, 0.5)).random(3, seed=1)
GRIDS["clipped"] = sweep.space(
    clipped, rule=sweep.choice(adamx.adam, adamx.lamb), learning_rate=sweep.log(1e-3, 1e-2)
).grid(learning_rate=2)


@pytest.fixture(scope="module")
def task():
    return cases.task()


@pytest.fixture(scope="module")
def whole(task):
    return sweep.run(task, GRIDS, steps=STEPS, seeds=2)


def final_parameters(result):
    return np.stack([result.final(name) for name in ("w0", "w1", "w2", "b")], axis=-1)


def test_lanes_are_the_same_rules_trained_alone(task, whole):
    rules = [rule for own in GRIDS.values() for rule in own.rules]
    np.testing.assert_allclose(final_parameters(whole), cases.alone(task, rules, [0, 1], STEPS), rtol=1e-5, atol=1e-7)
    assert (whole.table().status == "finished").all() and len(whole.table()) == 2 * len(rules)


def test_a_structure_is_a_program_and_a_second_sweep_compiles_none(task):
    points = sweep.space(adamx.adabelief, learning_rate=sweep.log(1e-3, 1e-1), b2=sweep.log_complement(0.9, 0.999))
    points = {
        "a": points.grid(learning_rate=5, b2=3),
        "b": points.sobol(6),
        "c": sweep.zipped(adamx.adan, learning_rate=[0.01]),
    }
    sweep.run(task, sweep.zipped(adamx.sgd, learning_rate=[0.1]), steps=STEPS, seeds=3)
    with cases.compilations() as seen:
        result = sweep.run(task, points, steps=STEPS, seeds=3)
    assert len(seen) == len(result.took) == 2
    with cases.compilations() as seen:
        again = sweep.run(task, points, steps=STEPS, seeds=[5, 6, 7])
    assert not seen
    assert result.scores().shape == again.scores().shape == (22,)


def test_common_random_numbers(task):
    points = sweep.zipped(adamx.sgd, learning_rate=[0.01, 0.01])
    result = sweep.run(task, points, steps=10, seeds=3)
    for values in result.metrics.values():
        np.testing.assert_array_equal(values[0], values[1])
        assert len(np.unique(values[0, :, -1])) == 3


def test_chunks_by_memory_change_nothing_and_stay_below_it(task, whole):
    few = {name: GRIDS[name] for name in ("adamw", "scheduled")}
    first = {name: sweep.listed(points.constructor, points.rows[:1]) for name, points in few.items()}
    one, half = sweep.run(task, first, steps=STEPS), max(whole.took) // 2
    for points, limit in ((few, max(one.took)), (GRIDS, half)):
        chunked = sweep.run(task, points, steps=STEPS, seeds=2, memory=limit)
        assert max(chunked.took) <= limit < max(whole.took)
        expected = final_parameters(whole)[[name in points for name in whole.names]]
        np.testing.assert_allclose(final_parameters(chunked), expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match=r"memory=50 is too little: a lane takes \d+ bytes"):
        sweep.run(task, few, steps=STEPS, memory=50)


def test_the_process_takes_no_more_memory_than_given():
    program = f"""
import jax, jax.numpy as jnp, adamx
from adamx import sweep

def status(name):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

task = sweep.Task(lambda key: jax.random.normal(key, (2**20,)), lambda p, b: jnp.sum(jnp.cos(p) ** 2), lambda key, step: ())
rates = [0.001 * i for i in range(1, 49)]
sweep.run(task, sweep.zipped(adamx.adam, learning_rate=rates[:1]), steps=2)
before = status("VmRSS")
for _ in range(2):  # in the second there is nothing left to compile
    with open("/proc/self/clear_refs", "w") as control:
        control.write("5")  # begins the peak anew
    result = sweep.run(task, sweep.zipped(adamx.adam, learning_rate=rates), steps=2, memory={MEMORY})
print(max(result.took), status("VmHWM") - before)
"""
    # On one device; and what is freed goes back to the system at once.
    own = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {
        "MALLOC_MMAP_THRESHOLD_": "1000000"
    }
    ran = subprocess.run([sys.executable, "-c", program], env=own, capture_output=True, text=True, check=True)
    took, peak = map(int, ran.stdout.split())
    # All at once, the parameters and two moments of 48 lanes take twice as much.
    assert took <= MEMORY < 48 * 3 * 2**22 / 2 and took / 2 < peak < MEMORY


def test_diverged_lanes_are_reported_and_disturb_nobody(task):
    sound = list(np.geomspace(1e-3, 1e-1, 7))
    rates = [*sound, 1e4, 1e6, 1e38]
    calm = sweep.run(task, sweep.zipped(adamx.sgd, learning_rate=[*sound, 0.1, 0.1, 0.1]), steps=STEPS, seeds=2)
    wild = sweep.run(task, sweep.zipped(adamx.sgd, learning_rate=rates), steps=STEPS, seeds=2)
    for name in wild.metrics:
        np.testing.assert_array_equal(wild.metrics[name][:7], calm.metrics[name][:7], err_msg=name)
    table = wild.table()
    assert (table.status[:14] == "finished").all() and table.died_at[:14].isna().all()
    assert (table.status[14:] == "diverged").all() and table.final_loss[14:].isna().all()
    assert (table.steps[14:] == table.died_at[14:]).all()
    assert wild.best().row["learning_rate"] in sound and wild.scores()[7:].tolist() == [np.inf] * 3
    for i, rate in enumerate(rates[7:], start=7):
        for seed in (0, 1):
            params, losses = sweep.train(task, adamx.sgd(rate), steps=STEPS, seed=seed)
            first = int(
                np.argmin(np.isfinite(np.asarray(losses)))
            )  # counted from 0; the update before it broke the parameters
            dead = not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(params))
            assert wild.died_at[i, seed] == (first if dead else first + 1)


def test_parameters_that_break_while_the_loss_stays_finite(task):
    quiet = sweep.Task(
        lambda key: jnp.ones(()), lambda p, b: 10 * jnp.tanh(p) + 0 * b, lambda key, step: 0.0, lambda p: {"p": p}
    )
    result = sweep.run(quiet, sweep.zipped(adamx.sgd, learning_rate=[1e-3, 3e38]), steps=4, evaluate_every=2)
    assert result.died_at.tolist() == [[-1], [1]] or result.died_at.tolist() == [[-1], [2]]


def test_a_loss_may_be_a_python_number():
    constant = sweep.Task(lambda key: jnp.ones(2), lambda p, b: 1.5, lambda key, step: ())
    assert sweep.run(constant, sweep.zipped(adamx.sgd, learning_rate=[0.1]), steps=2).scores().tolist() == [1.5]


def test_numbers_applied_to_a_task_are_data():
    def loss(weight, params, batch):
        return weight * jnp.sum(params**2)

    task, points = (
        sweep.Task(lambda key: jnp.ones(2), None, lambda key, step: ()),
        sweep.zipped(adamx.sgd, learning_rate=[0.0]),
    )
    half, two = (task._replace(loss=jax.tree_util.Partial(loss, weight)) for weight in (0.5, 2.0))
    assert sweep.run(half, points, steps=2).scores().tolist() == [1.0]
    with cases.compilations() as seen:
        assert sweep.run(two, points, steps=2).scores().tolist() == [4.0]
    assert not seen


def test_programs_know_the_settings_that_they_were_compiled_under(task):
    points = sweep.zipped(adamx.sgd, learning_rate=[0.1])
    sweep.run(task, points, steps=2)
    with jax.default_matmul_precision("highest"), cases.compilations() as seen:
        sweep.run(task, points, steps=2)
    assert seen


def test_halving_keeps_the_best_and_gives_the_full_runs_numbers(task):
    points = sweep.space(adamx.adam, learning_rate=sweep.log(1e-4, 1)).grid(learning_rate=13)
    full = sweep.run(task, points, steps=54, seeds=3, evaluate_every=2)
    halved = sweep.run(task, points, steps=54, seeds=3, evaluate_every=2, halving=sweep.Halving(6, 3))
    assert [np.sum(halved.stopped_at == rung) for rung in (6, 18, -1)] == [8, 3, 2]
    assert halved.steps.sum() == 3 * (8 * 6 + 3 * 18 + 2 * 54)
    for i in range(13):
        until = np.searchsorted(halved.at, halved.steps[i, 0]) + 1
        np.testing.assert_allclose(halved.metrics["w0"][i, :, :until], full.metrics["w0"][i, :, :until], rtol=1e-5)
        assert np.isnan(halved.metrics["w0"][i, :, until:]).all()
    assert set(halved.table().status) == {"stopped", "finished"}
    assert set(np.flatnonzero(halved.stopped_at != 6)) == set(np.argsort(full.scores(until=6))[:5])


def test_halving_keeps_some_of_each_name(task):
    points = {
        "good": sweep.zipped(adamx.adam, learning_rate=[0.03, 0.1, 0.05, 0.2]),
        "bad": sweep.zipped(adamx.adam, learning_rate=[1e-6, 1e-7]),
    }
    halved = sweep.run(task, points, steps=20, halving=sweep.Halving(10, 3, keep_at_least=1))
    assert halved.table().groupby("name", sort=False).status.apply(lambda s: (s == "finished").sum()).tolist() == [2, 1]


def test_a_lane_that_reached_its_target_is_done(task):
    points = sweep.space(adamx.adam, learning_rate=sweep.log(1e-3, 1e-1)).grid(learning_rate=4)
    full = sweep.run(task, points, steps=100, seeds=2, evaluate_every=10)
    aimed = sweep.run(task, points, steps=100, seeds=2, evaluate_every=10, target={"loss": 1.0, "error": 3.0})
    there = (full.metrics["loss"] <= 1.0) & (full.metrics["error"] <= 3.0)
    expected = np.where(there.any(axis=-1), full.at[there.argmax(axis=-1)], -1)
    np.testing.assert_array_equal(aimed.reached_at, expected)
    assert {"reached", "finished"} == set(aimed.table().status)
    np.testing.assert_array_equal(aimed.table().reached_at.fillna(-1), expected.ravel())
    more = sweep.run(cases.task(maximise=("b",)), points, steps=20, evaluate_every=10, target={"b": 1e-3})
    np.testing.assert_array_equal(more.reached_at[:, 0] > 0, (more.metrics["b"][:, 0] >= 1e-3).any(axis=-1))


def test_auxiliary_state_travels_with_the_lane():
    def init(key):
        return {"w": jnp.ones(2)}, {"mean": jnp.zeros(2), "n": jnp.int32(0)}

    def loss(params, aux, batch):
        aux = {"mean": 0.9 * aux["mean"] + 0.1 * batch, "n": aux["n"] + 1}
        return jnp.sum((params["w"] * batch - aux["mean"]) ** 2), aux

    def batch(key, step):
        return jax.random.normal(jax.random.fold_in(key, step), (2,)) + 1

    def evaluate(params, aux):
        return {"mean": aux["mean"][0], "n": aux["n"], "w": params["w"][0]}

    task = sweep.Task(init, loss, batch, evaluate, has_aux=True)
    result = sweep.run(task, sweep.zipped(adamx.adam, learning_rate=[0.1, 0.01]), steps=12, seeds=2)
    assert (result.final("n") == 12).all()
    np.testing.assert_array_equal(result.final("mean")[0], result.final("mean")[1])
    params, _ = sweep.train(task, adamx.adam(0.01), steps=12, seed=1)
    np.testing.assert_allclose(result.final("w")[1, 1], params["w"][0], rtol=1e-5)


def test_evaluate_scores_what_another_program_asks_for(task):
    rows = [{"learning_rate": r, "nesterov": n} for r in (1e-3, 1e-2, 1e-1) for n in (False, True)] + [
        {"learning_rate": 1e30}
    ]
    scores = sweep.evaluate(task, adamx.adam, rows, steps=20, seeds=2)
    assert scores.shape == (7,) and np.isfinite(scores[:6]).all() and scores[6] == np.inf
    with cases.compilations() as seen:
        fewer = sweep.evaluate(task, adamx.adam, rows[:6] + [{"learning_rate": 0.1}], steps=20, seeds=2)
    assert not seen
    np.testing.assert_allclose(fewer[:6], scores[:6], rtol=1e-5)


def test_double_precision():
    with jax.enable_x64(True):
        x, y = (jnp.asarray(a, jnp.float64) for a in cases.data())
        task = sweep.arrays(lambda key: {"w": jnp.zeros(3), "b": jnp.zeros(())}, cases.loss, (x, y), 8, cases.evaluate)
        result = sweep.run(task, sweep.zipped(adamx.adam, learning_rate=[0.1, 0.01]), steps=10)
        params, _ = sweep.train(task, adamx.adam(0.01), steps=10)
        assert params["w"].dtype == jnp.float64
    np.testing.assert_allclose(result.final("w0")[1, 0], params["w"][0], rtol=1e-6)


def test_every_row_comes_once_an_epoch_in_an_order_of_its_own():
    task = sweep.arrays(cases.init, cases.loss, np.arange(26), 8)
    epochs = np.array(
        [[task.batch(jax.random.key(seed), jnp.int32(3 * e + i)) for i in range(3)] for seed in (0, 1) for e in (0, 1)]
    )
    epochs = epochs.reshape(4, 24)
    assert all(len(set(epoch)) == 24 and epoch.max() < 26 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("size", [1, 2, 3, 12, 101])
def test_shuffling_is_even(size):
    from adamx.sweep.tasks import shuffled

    draws = 3000
    orders = jax.vmap(lambda e: shuffled(jax.random.key(0), e, jnp.arange(size), size))(jnp.arange(draws))
    assert (np.sort(orders, axis=1) == np.arange(size)).all()
    counts = np.stack([np.bincount(orders[:, i], minlength=size) for i in range(min(size, 5))])
    chi_square = np.sum((counts - draws / size) ** 2 / (draws / size), axis=1)
    assert (chi_square < (size - 1) + 5 * np.sqrt(2 * size)).all()
