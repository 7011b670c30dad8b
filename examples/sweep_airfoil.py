"""Successive halving against the full sweep: a network on NASA's airfoil data, four rules over 16 learning rates.

    python examples/sweep_airfoil.py --repetitions 20

The full sweep trains all 64 points with 4 seeds for 900 steps; halving keeps the better third at 100 and at 300 steps. Each repetition
has seeds of its own. Halving did well if its winner is the full sweep's, or one whose validation loss in the full sweep is within its
seeds' noise (two standard errors) of it. Writes, into results/sweep_airfoil: lanes.csv, full.png, halving.png.
"""

import math
import time

import airfoil
import experiment
import jax
import jax.numpy as jnp
import numpy as np

import adamx
from adamx import sweep

RULES, STEPS, SEEDS, TRAIN, HIDDEN = ("adam", "lion", "yogi", "adopt"), 900, 4, 1200, 32


def init(key):
    """Parameters of a network 5-32-1."""
    first, second = jax.random.split(key)
    w1 = jax.random.normal(first, (5, HIDDEN)) / math.sqrt(5)
    return {"w1": w1, "b1": jnp.zeros(HIDDEN), "w2": jax.random.normal(second, (HIDDEN,)) / math.sqrt(HIDDEN)}


def loss(params, batch):
    """Mean squared error."""
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"] - y) ** 2)


def task():
    """The task: 1200 rows to train on, in batches of 32, and 300 to validate."""
    x, y = (jnp.float32(a) for a in airfoil.load())
    order = np.random.default_rng(0).permutation(len(y))
    train, held_out = ((x[rows], y[rows]) for rows in (order[:TRAIN], order[TRAIN:]))
    return sweep.arrays(init, loss, train, 32, lambda params: {"validation": loss(params, held_out)})


def points(count=16):
    """Learning rates from 1e-4 to 1 for each rule."""
    spaces = {name: sweep.space(getattr(adamx, name), learning_rate=sweep.log(1e-4, 1)) for name in RULES}
    return {name: space.grid(learning_rate=count) for name, space in spaces.items()}


def compare(task, points, halving, repetitions, **options):
    """Runs the full sweep and the halved one, with seeds of their own each time.

    Returns:
      The last two results, and a list of (share of the lane-steps, whether the winners are the same, excess of the halved one's winner in
      the full sweep, noise: two standard errors of the difference).
    """
    rows = []
    for repetition in range(repetitions):
        seeds = range(repetition * SEEDS, (repetition + 1) * SEEDS)
        full = sweep.run(task, points, seeds=seeds, **options)
        halved = sweep.run(task, points, seeds=seeds, halving=halving, **options)
        best, found = full.best(metric=halving.metric), halved.best(metric=halving.metric)
        values = full.final(halving.metric)
        noise = 2 * math.hypot(values[best.index].std(ddof=1), values[found.index].std(ddof=1)) / math.sqrt(SEEDS)
        excess = float(values[found.index].mean() - values[best.index].mean())
        rows.append((halved.steps.sum() / full.steps.sum(), best.index == found.index, excess, noise))
    return full, halved, rows


def main(arguments=None):
    """The command."""
    parser = experiment.Parser(__doc__, out="sweep_airfoil")
    parser.add_argument("--repetitions", type=experiment.number(), default=3)
    parser.add_argument("--steps", type=experiment.number(multiple_of=9), default=STEPS, help="a multiple of 9")
    parser.add_argument("--learning-rates", type=experiment.number(most=10_000), default=16, metavar="N")
    args = parser.parse_args(arguments)
    results = experiment.Results(args.out)
    begun, halving = time.perf_counter(), sweep.Halving(args.steps // 9, 3, metric="validation")
    full, halved, rows = compare(task(), points(args.learning_rates), halving, args.repetitions, steps=args.steps)
    for number, (share, same, excess, noise) in enumerate(rows):
        said = "the same winner" if same else f"another winner, worse by {excess:.5f} (noise {noise:.5f})"
        print(f"repetition {number}: {100 * share:.1f} % of the lane-steps, {said}")
    good = sum(same or excess <= noise for _, same, excess, noise in rows)
    print(
        f"{good} of {len(rows)} repetitions found the winner or one within its noise; {time.perf_counter() - begun:.0f} s"
    )
    best = full.best(metric="validation")
    print(f"best: {best.code()}, validation loss {best.mean:.4f} ± {best.sd:.4f}")
    results.table("lanes", full.table(), index=False)
    results.picture("full", sweep.sensitivity(full, "validation"))
    results.picture("halving", sweep.rungs(halved, "validation"))
    print(results)


if __name__ == "__main__":
    main()
