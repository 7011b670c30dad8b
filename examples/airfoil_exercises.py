"""The exercises of Dive into Deep Learning, section 12.10, each answered by a run, on the data of airfoil.py.

    python examples/airfoil_exercises.py

1. How sensitive are the rules to the learning rate? A sweep over 13 of them, all learning rates and seeds of a rule in one program.
2. Can Adam do without a bias correction step? Two stages of our own, the same as the library's to the last digits of float64.
3. Why decay the learning rate? How close to the least squares Adam comes with and without.
4. Where does Adam diverge and Yogi converge? On Theorem 1's problem of Reddi, Kale & Kumar (2018).
5. Does Yogi do better with a second moment that starts from a larger batch, as its authors advise?

Writes a table (CSV) of each part when it is finished, and sensitivity.png, decay.png and theorem_1.png, into results/airfoil_exercises.
"""

import functools
from typing import NamedTuple

import airfoil
import amsgrad_counterexample
import experiment
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

import adamx
from adamx import plot

CS, STEPS = tuple(amsgrad_counterexample.YOGI_ENDS), 300_000
COURSE = airfoil.COURSES["from scratch"]


class Result(NamedTuple):
    """What `run` returns: tables.

    Attributes:
      sensitivity: rule, learning_rate, seed, loss after two epochs.
      recurrence: epoch and the losses of one seed of Adam in float64: adam (the library's), by_hand, recurrence.
      decay: schedule, seed, epoch, excess (loss less that of the least squares).
      theorem_1: rule, c, step, x.
      yogi: start, seed, early and last: the loss after 200 examples and after two epochs.
    """

    sensitivity: pd.DataFrame
    recurrence: pd.DataFrame
    decay: pd.DataFrame
    theorem_1: pd.DataFrame
    yogi: pd.DataFrame


# 1


def sensitivity(bar, data, seeds):
    """`Result.sensitivity`."""
    rates = jnp.geomspace(1e-4, 1, 13)
    rules = {"adam": adamx.adam(rates), "yogi": adamx.yogi(rates, initial_accumulator_value=0), "sgd": adamx.sgd(rates)}
    train = functools.partial(airfoil.train_seeds, starts=airfoil.starts(seeds, COURSE), data=data, course=COURSE)
    lanes = {"learning_rate": np.repeat(rates, len(seeds)), "seed": np.tile(seeds, len(rates))}
    over = {name: jax.jit(jax.vmap(train, (adamx.axes_of(rule),))) for name, rule in rules.items()}
    last = {name: np.asarray(bar.done(over[name](rule))[..., -1]) for name, rule in rules.items()}
    return pd.concat([pd.DataFrame({"rule": name, **lanes, "loss": x.ravel()}) for name, x in last.items()])


# 2


def without_bias(beta, t):
    """The decay rate of step t with which an average has weight 1 in all from the first step on: beta (1 - beta^{t-1}) / (1 - beta^t)."""
    return beta * (1 - beta ** (t - 1)) / (1 - beta**t)


@adamx.stage
class RunningMean(adamx.Stage):
    """Adam's momentum by one recurrence: m_t = h_t m_{t-1} + (1 - h_t) g_t with h_t = without_bias(b1, t), so that m_1 = g_1."""

    b1: adamx.Decay = 0.9

    slots = (adamx.Slot("mu"),)
    reads, writes = {"g"}, {"m"}

    def scalars(self, t, last):
        """h_t, once for all leaves."""
        return {"h": without_bias(1 - self.b1.complement, t)}

    def __call__(self, x, s, k):
        """The average of one leaf."""
        m = k["h"] * s["mu"] + (1 - k["h"]) * x.g
        return x.write(m=m), {"mu": m}


@adamx.stage
class RunningMeanSquare(adamx.Stage):
    """Adam's second moment in the same way: v_t = h_t v_{t-1} + (1 - h_t) g_t^2 with h_t = without_bias(b2, t)."""

    b2: adamx.Decay = 0.999

    slots = (adamx.Slot("nu", signed=False),)
    reads, writes = {"g"}, {"v"}

    def scalars(self, t, last):
        """h_t, once for all leaves."""
        return {"h": without_bias(1 - self.b2.complement, t)}

    def __call__(self, x, s, k):
        """The average of one leaf."""
        v = k["h"] * s["nu"] + (1 - k["h"]) * x.g**2
        return x.write(v=v), {"nu": v}


def recurrence(bar, data):
    """`Result.recurrence`."""
    divide, rate = adamx.DivideByRoot(1e-6), adamx.LearningRate(0.01)
    rules = {
        "adam": adamx.adam(0.01, eps=1e-6),
        "by_hand": COURSE.rules["adam"],
        "recurrence": adamx.update_rule(RunningMean(0.9), RunningMeanSquare(0.999), divide, rate),
    }
    with jax.enable_x64(True):
        start = jax.tree.map(lambda x: x[0], airfoil.starts([0], COURSE))
        losses = {name: np.asarray(bar.done(airfoil.train(rule, start, data, COURSE))) for name, rule in rules.items()}
    return pd.DataFrame({"epoch": airfoil.epochs_of(losses["adam"])} | losses)


# 3


def decay(bar, data, seeds, epochs):
    """`Result.decay`."""
    steps = epochs * airfoil.ROWS // airfoil.BATCH
    schedules = {
        "constant": 0.01,
        "1/sqrt(1 + epoch)": lambda count: 0.01 / jnp.sqrt(1 + count * (epochs / steps)),
        "cosine to 0": optax.cosine_decay_schedule(0.01, steps),
    }
    course, floor, tables = COURSE._replace(epochs=epochs), airfoil.least_squares(data)[1], []
    starts = airfoil.starts(seeds, course)
    for name, rate in schedules.items():
        train = functools.partial(airfoil.train_seeds, adamx.adam(rate, eps=1e-6), course=course)
        excess = np.asarray(bar.done(jax.jit(train)(starts, data))).T - floor
        wide = pd.DataFrame(excess, airfoil.epochs_of(excess.T)).rename_axis(index="epoch", columns="seed")
        tables.append(wide.stack().rename("excess").reset_index().assign(schedule=name))
    return pd.concat(tables)


# 4


def theorem_1(bar, cs, steps):
    """`Result.theorem_1`, in float64."""
    with jax.enable_x64(True):
        paths = {c: amsgrad_counterexample.theorem_1(bar, c, steps, steps // 10_000) for c in cs}
    wide = pd.concat(paths, names=["c"]).rename_axis(columns="rule")
    return wide.stack().rename("x").reset_index()


# 5


def from_batch(rows, data):
    """Yogi whose second moment starts as the squared gradient of a random batch of `rows`; without bias correction, as in its paper."""
    rule = adamx.update_rule(
        adamx.Momentum(0.9), adamx.RawYogi(0.999), adamx.DivideByRoot(1e-3), adamx.LearningRate(0.01)
    )
    batch = np.random.default_rng(0).permutation(airfoil.ROWS)[:rows]
    x, y = (jnp.asarray(column[batch]) for column in data)

    def init(params):
        grads, state = jax.grad(airfoil.loss)(params, x, y), rule.init(params)
        return state._replace(slots=state.slots | {"nu": jax.tree.map(jnp.square, grads)})

    return optax.GradientTransformation(init, rule.update)


def yogi(bar, data, seeds):
    """`Result.yogi`."""
    rules = {
        "0, and bias correction": adamx.yogi(0.01, initial_accumulator_value=0.0),
        "1e-6 (default), and bias correction": adamx.yogi(0.01),
        **{f"the square of the gradient of {rows} rows": from_batch(rows, data) for rows in (10, 100, 1500)},
    }
    starts, tables = airfoil.starts(seeds, COURSE), []
    for name, rule in rules.items():
        losses = bar.done(jax.jit(functools.partial(airfoil.train_seeds, rule, course=COURSE))(starts, data))
        lanes = {"seed": seeds, "early": losses[:, 0], "last": losses[:, -1]}
        tables.append(pd.DataFrame(jax.tree.map(np.asarray, lanes)).assign(start=name))
    return pd.concat(tables)


# The whole experiment


def run(seeds=20, epochs=40, cs=CS, steps=STEPS, results=experiment.Results()):  # noqa: B008
    """Runs the five parts, with a progress bar each.

    Args:
      seeds: How many, in exercises 1 and 3, and in 5.
      epochs: Of the runs with and without decay, an even number.
      cs: Constants of Theorem 1's problem.
      steps: Of the runs on it, a multiple of 10,000.
      results: Takes the table of each finished part, and curves of 3 and 4 for TensorBoard.

    Returns:
      A `Result`.
    """
    data, lanes, tables = airfoil.load(), jnp.arange(seeds), {}
    parts = {
        "sensitivity": (3, "rule", lambda bar: sensitivity(bar, data, lanes)),
        "recurrence": (3, "rule", lambda bar: recurrence(bar, data)),
        "decay": (3, "schedule", lambda bar: decay(bar, data, lanes, epochs)),
        "theorem_1": (3 * len(cs) * steps, " steps", lambda bar: theorem_1(bar, cs, steps)),
        "yogi": (5, "start", lambda bar: yogi(bar, data, lanes)),
    }
    for name, (total, unit, part) in parts.items():
        with experiment.Bar(total=total, desc=name, unit=unit, unit_scale=total > 1000) as bar:
            results.table(name, table := part(bar), index=False)
        tables[name] = table
    for name, rows in tables["decay"].groupby("schedule"):
        mean = rows.groupby("epoch").excess.mean()
        results.curves(name, {"decay/excess": mean}, np.round(mean.index * airfoil.ROWS))
    for (name, c), rows in tables["theorem_1"].groupby(["rule", "c"]):
        results.curves(name, {f"theorem_1/c={c:g}": rows.x[::10]}, rows.step[::10])
    return Result(**tables)


THEOREM_1 = {
    "Adam": {2.5: 1.0, 3.0: 1.0, 4.0: 1.0, 10.0: 1.0},
    "AMSGrad": {2.5: -0.9993, 10.0: -0.9998},
    "Yogi": amsgrad_counterexample.YOGI_ENDS,
}
"""x after 300,000 steps in float64, computed without adamx. Which way Yogi's sign falls where nu = g^2 is rounding: hence the tolerance."""


def compare(result):
    """The answers that have a reference: a table of `experiment.compare`."""
    rows, best = [], result.sensitivity.groupby(["rule", "learning_rate"]).loss.mean()
    for name in ("adam", "yogi"):
        rows.append((f"1: {name}'s best mean loss, to that of least squares", best[name].min(), airfoil.FLOOR, 0.003))
    for name in ("by_hand", "recurrence"):
        difference = np.abs(result.recurrence[name] - result.recurrence.adam).max()
        rows.append((f"2: greatest difference of the losses of Adam {name} and the library's", difference, 0, 1e-13))
    left = last_epochs(result.decay)
    rows.append(
        ("3: loss left with a cosine, of that without decay, to 0", left["cosine to 0"] / left.constant, 0, 0.1)
    )
    last = result.theorem_1.groupby(["rule", "c"]).last()
    for (name, c), x in last[last.step == STEPS].x.items():
        if c in THEOREM_1[name]:
            rows.append((f"4: x of {name} after {STEPS:,} steps, c = {c:g}", x, THEOREM_1[name][c], 3e-4))
    return experiment.compare(rows)


def last_epochs(decay):
    """Mean excess of each schedule in the last two epochs.

    Not of the last step: at the end of an epoch the noise cancels, for its batches are drawn without replacement.
    """
    return decay[decay.epoch > decay.epoch.max() - 2].groupby("schedule").excess.mean()


def show(result):
    """The answers as text."""
    rates = result.sensitivity.groupby(["learning_rate", "rule"]).loss.mean().unstack()
    best, good = rates.idxmin(), {name: rates.index[rates[name] < rates[name].min() + 0.01] for name in rates}
    spans = [f"{name} {best[name]:.2g}, and {good[name].min():.2g} to {good[name].max():.2g}" for name in rates]
    worst, left = rates.iloc[-1], last_epochs(result.decay)
    x = result.theorem_1.groupby(["rule", "c"]).x.last().unstack()
    falls = (left.constant / left.drop("constant")).sort_values()
    starts = result.yogi.groupby("start", sort=False)[["early", "last"]].agg(["mean", "min", "max"])
    last, range_of_seeds = starts["last", "mean"], (starts["last", "max"] - starts["last", "min"]).min()
    return f"""\
1. How sensitive? Mean loss after two epochs:
{rates.to_string(float_format="{:.4g}".format)}
Best learning rate, and those within 0.01 of its loss: {"; ".join(spans)}.
Below, two epochs are too short to arrive: Adam's and Yogi's steps have the size of the learning rate, whatever the gradient's. Above,
that size makes them hover about the minimum, the wider the larger it is, while SGD's steps shrink with the gradient, until it diverges.
At the largest rate, {rates.index[-1]:g}, the mean loss of SGD is {worst.sgd:.1g}, of Adam {worst.adam:.2f}, of Yogi {worst.yogi:.2f}.

2. Without a bias correction step: Adam's losses in float64.
{result.recurrence.tail(3).to_string(index=False, float_format="{:.15f}".format)}
Yes: an average whose decay rate in step t is beta (1 - beta^(t-1)) / (1 - beta^t) has weight 1 in all from the first step on.

3. Why decay? Mean loss less that of the least squares, in the last two epochs:
{left.to_string(float_format="{:.2e}".format)}
With a constant learning rate the noise of the batches keeps Adam at a distance that more epochs do not remove. As the steps shrink with
the rate, what is left falls {falls.iloc[0]:,.0f}-fold with {falls.index[0]}, and {falls.iloc[1]:,.0f}-fold with {falls.index[1]}.

4. Where Adam diverges and Yogi converges: last x on Theorem 1's problem, where -1 is best and 1 worst.
{x.to_string(float_format="{:.4f}".format)}

5. Yogi's start, by the first value of its second moment: loss after 200 examples and after two epochs, over the seeds.
{starts.to_string(float_format="{:.5f}".format)}
The larger the batch, the less noise is squared in the second moment's start: the first steps are longer, and the loss after 200 examples
is lower. After two epochs that has gone: the means differ by {np.ptp(last):.4f} at most, the seeds of one start by
{range_of_seeds:.4f} or more."""


def figures(result):
    """Name -> picture: sensitivity, decay, theorem_1."""
    losses = by_seed(result.sensitivity, "rule", "learning_rate", "loss")
    most = 10 * airfoil.AT_ZERO  # beyond it a run has diverged
    sensitivity = plot.sensitivity(
        {name: one.columns for name, one in losses.items()},
        {name: one.T - airfoil.FLOOR for name, one in losses.items()},
        y_label="loss after two epochs, less that of least squares",
        diverged={name: ~(one.to_numpy().T < most) for name, one in losses.items()},
    )
    sensitivity.axes[0].set_yscale("log")
    excess = by_seed(result.decay, "schedule", "epoch", "excess").items()
    series = {name: (one.columns, one) for name, one in excess}
    decay = plot.curves([plot.Panel("loss less that of least squares", series, log_y=True)], x_label="epoch")
    panels = [
        plot.Panel("x", {name: (path.step, path.x) for name, path in rows.groupby("rule")}, f"c = {c:g}", {"best": -1})
        for c, rows in result.theorem_1.groupby("c")
    ]
    return {"sensitivity": sensitivity, "decay": decay, "theorem_1": plot.curves(panels, log_x=True, across=2)}


def by_seed(table, key, x, value):
    """Name in the column `key` -> table of `value` with a row for each seed and a column for each `x`."""
    return {name: rows.pivot(index="seed", columns=x, values=value) for name, rows in table.groupby(key, sort=False)}


def main(argv=None):
    """The command."""
    parser = experiment.Parser(__doc__, out="airfoil_exercises", tensorboard=True)
    epochs, steps = experiment.number(multiple_of=2, most=10_000), experiment.number(multiple_of=10_000)
    parser.add_argument("--seeds", type=experiment.number(most=10_000), default=20)
    parser.add_argument("--epochs", type=epochs, default=40, help="of the runs with and without decay, an even number")
    parser.add_argument("--steps", type=steps, default=STEPS, help="on Theorem 1's problem, a multiple of 10,000")
    args = parser.parse_args(argv)
    with parser.refusing():
        airfoil.data_file()
    results = experiment.Results(args.out, args.tensorboard)
    result = run(args.seeds, args.epochs, steps=args.steps, results=results)
    for name, picture in figures(result).items():
        results.picture(name, picture)
    compared = compare(result)
    results.table("compared", compared)
    print(f"{show(result)}\n\nBeside the reference:\n{experiment.show(compared)}")
    print(f"\n{experiment.require(compared)}\n{results}")


if __name__ == "__main__":
    main()
