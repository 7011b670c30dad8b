"""Breaks Adam with linear losses, and shows what mends it (Reddi, Kale & Kumar, "On the convergence of Adam and beyond", ICLR 2018).

    python examples/amsgrad_counterexample.py                   # 6,000,000 steps; the paper's Figure 1; every number beside its reference
    python examples/amsgrad_counterexample.py --tensorboard     # the same, with curves for TensorBoard
    python examples/amsgrad_counterexample.py --all             # who is fooled? Every rule of the catalogue
    python examples/amsgrad_counterexample.py --lanes 512       # how fast 512 learning rates run as one batch

A point x of [-1, 1] is charged 1010 x in one step of 101 and -10 x in the others; the best fixed x is -1, as 1010 > 100 * 10. Adam divides
the rare gradient by a root mean square that this gradient has just raised, and the common ones by what is left of it: it goes to +1, the
worst point, which costs 20/101 = 0.198 a step for ever. AMSGrad, whose denominator never falls, goes to -1.

Writes, into results/amsgrad_counterexample: a table (CSV) of each part when it is finished, numbers.csv and walls.csv with the references,
figure_1.png, and minibatches.png; with --all, fooled.csv and fooled.png.
"""

import time
from typing import NamedTuple

import experiment
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.tree_util import Partial

import adamx
from adamx import plot, problems

STEPS, SHORT = 6_000_000, 300_000  # the latter for theorem 1 and minibatches
PAIR = ["Adam", "AMSGrad"]
MINIBATCHES = (1, 4, 16, 64)


def inverse_root(alpha, count):
    """The schedule alpha / sqrt(t), with t = 1 in the first update."""
    return alpha / jnp.sqrt(count + 1.0)


FALLING = Partial(inverse_root, 0.5)
ONLINE = {
    "Adam": adamx.adam(1e-3, 0.9, 0.99),
    "AMSGrad": adamx.amsgrad(1e-3, 0.9, 0.99),
    "AMSGrad of debiased v": adamx.amsgrad(1e-3, 0.9, 0.99, maximum_of="debiased"),
    "Yogi": adamx.yogi(1e-3, 0.9, 0.99, eps=1e-3, initial_accumulator_value=0.0),
    "Adam, b2 = 0.999": adamx.adam(1e-3, 0.9, 0.999),
    # As the paper analyses them: without bias correction, and with a learning rate that falls.
    "Adam, 0.5/√t": adamx.update_rule(
        adamx.RawMomentum(0.9), adamx.RawSecondMoment(0.99), adamx.DivideByRoot(), adamx.LearningRate(FALLING)
    ),
    "AMSGrad, 0.5/√t": adamx.amsgrad(FALLING, 0.9, 0.99, maximum_of="paper"),
}

# The reference: float64, by other programs in C and Python.
TOLERANCE = {"float64": 5.1e-5, "float32": 1e-3}
AT = (10_000, 100_000, 600_000, 1_000_000, STEPS)
REFERENCE = {  # x and average regret at the steps AT; first step at a wall, 0 for never
    "Adam": ((0.1880, 0.9955, 0.9971, 1.0, 1.0), (0.2569, 0.2194, 0.2249, 0.2253, 0.2276), 53_124),
    "AMSGrad": ((-0.0077, -0.0817, -0.4707, -0.7797, -0.9950), (0.2319, 0.1367, 0.1093, 0.0935, 0.0435), 1_275_448),
    "AMSGrad of debiased v": (
        (-0.0031, -0.0124, -0.0613, -0.1001, -0.5903),
        (0.2038, 0.1116, 0.1007, 0.0981, 0.0738),
        0,
    ),
    "Yogi": ((-0.0012, -0.0105, -0.0593, -0.0980, -0.5872), (0.2074, 0.1121, 0.1009, 0.0983, 0.0741), 0),
    "Adam, b2 = 0.999": ((0.0146, 0.1036, 0.6249, 1.0, 0.9995), (0.2419, 0.1548, 0.1716, 0.1909, 0.2302), 956_874),
    "Adam, 0.5/√t": ((0.9964, 0.9928, 0.9981, 1.0, 1.0), (0.6997, 0.3113, 0.2381, 0.2280, 0.2103), 3),
    "AMSGrad, 0.5/√t": ((-0.8009, -0.9842, -0.9986, -0.9973, -0.9990), (0.4384, 0.1220, 0.0455, 0.0347, 0.0137), 3),
}
YOGI_ENDS = {2.5: -0.9981, 3.0: -0.9989, 4.0: -0.9995, 10.0: -0.9998}
LATE = {1: 0.987, 4: 0.971, 16: 0.681, 64: -0.951}
"""Adam's mean x in the second half of 300,000 steps of the stochastic problem, by minibatch, over 16 seeds."""


class Result(NamedTuple):
    """What `run` returns.

    Attributes:
      online: Table by (precision, rule, step), columns x and regret, the average up to that step.
      walls: (precision, rule) -> first step online with |x| = 1, 0 for never.
      theorem_1: Series by (c, rule), the last x, in float32; airfoil_exercises.py runs it in float64.
      stochastic: Table of x by (rule, step), one column a seed.
      minibatches: Series by size, Adam's mean x in the second half of the run.
      speed: Steps a second of Adam and AMSGrad online in float32, compilation included.
    """

    online: pd.DataFrame
    walls: dict
    theorem_1: pd.Series
    stochastic: pd.DataFrame
    minibatches: pd.Series
    speed: float


def online(bar, rule, steps):
    """A rule's x and average regret online, a table by steps that are multiples of 1000 or 1010; its first step at a wall, 0 for never."""
    tables, wall = [], 0
    for run in experiment.minimise(bar, rule, problems.online, steps, every=1, part=500_000):
        table = pd.DataFrame({"x": run.path[0], "regret": run.regret[0]}, pd.Index(run.steps[0], name="step"))
        tables.append(table[(table.index % 1000 == 0) | (table.index % 1010 == 0)])
        wall = wall or next(iter(table.index[table.x.abs() == 1]), 0)
    return pd.concat(tables), wall


def theorem_1(bar, c, steps, every):
    """Paths on theorem 1's problem, where -1 is best: a table of x by step, one column a rule.

    b1 = 0, b2 = 1 / (1 + c^2), learning rate 0.5 sqrt((1 - b2) / t).
    """
    b2 = 1 / (1 + c**2)
    rate, problem = Partial(inverse_root, 0.5 * np.sqrt(1 - b2)), problems.theorem_1(c)
    yogi = adamx.yogi(rate, 0.0, b2, eps=1e-3, initial_accumulator_value=0.0)
    rules = {"Adam": adamx.adam(rate, 0.0, b2), "AMSGrad": adamx.amsgrad(rate, 0.0, b2), "Yogi": yogi}
    columns = {}
    for name, rule in rules.items():
        runs = list(experiment.minimise(bar, rule, problem, steps, every))
        columns[name] = np.concatenate([run.path[0] for run in runs])
    return pd.DataFrame(columns, pd.Index(np.concatenate([run.steps[0] for run in runs]), name="step"))


def minibatches(bar, steps, seeds=8):
    """`Result.minibatches`."""
    late = {}
    for size in MINIBATCHES:
        problem = problems.minibatch(problems.stochastic, size)
        runs = list(experiment.minimise(bar, ONLINE["Adam"], problem, steps, 100, seeds, part=steps // 10))
        late[size] = np.concatenate([run.path for run in runs], axis=1)[:, steps // 200 :].mean()
    return pd.Series(late, name="x").rename_axis("minibatch")


def run(steps=STEPS, seeds=32, results=experiment.Results()):  # noqa: B008
    """Runs every part, with progress bars, and returns a `Result`.

    Args:
      steps: Steps of the online and the stochastic problem, a multiple of 1000; of the others `SHORT` at most.
      seeds: Seeds of the stochastic problem.
      results: Takes a table of each part, and for TensorBoard x and average regret of Adam and AMSGrad on both problems.
    """
    tables, walls, ends, seeded, short = {}, {}, {}, {}, min(steps, SHORT)
    runs, begun = [(p, name) for p in ("float32", "float64") for name in ONLINE], time.perf_counter()
    with experiment.Bar(total=len(runs) * steps, desc="online", unit=" steps", unit_scale=True) as bar:
        for precision, name in runs:
            with jax.enable_x64(precision == "float64"):
                tables[precision, name], walls[precision, name] = online(bar, ONLINE[name], steps)
            if len(tables) == len(PAIR):  # which come first
                speed = len(PAIR) * steps / (time.perf_counter() - begun)
    results.table("online", tables := pd.concat(tables, names=["precision", "rule"]).sort_index())
    for name in PAIR:
        curve = tables.loc["float32", name][:: -(-steps // 500_000)]  # a thousand points
        results.curves(name, {f"online/{of}": curve[of] for of in curve}, curve.index)

    with experiment.Bar(total=3 * len(YOGI_ENDS) * short, desc="theorem 1", unit=" steps", unit_scale=True) as bar:
        for c in YOGI_ENDS:
            last = theorem_1(bar, c, short, short // 10).iloc[-1]
            ends |= {(c, name): x for name, x in last.items()}
    results.table("theorem_1", ends := pd.Series(ends, name="x").rename_axis(["c", "rule"]))

    with experiment.Bar(total=2 * steps, desc="stochastic", unit=" steps", unit_scale=True) as bar:
        for name in PAIR:
            parts = list(experiment.minimise(bar, ONLINE[name], problems.stochastic, steps, 1000, seeds))
            x, regret = (np.concatenate([getattr(part, of) for part in parts], axis=1).T for of in ("path", "regret"))
            seeded[name] = pd.DataFrame(x, np.concatenate([part.steps[0] for part in parts]))
            thin = slice(None, None, -(-steps // 1_000_000))
            means = {"stochastic/x": x.mean(1)[thin], "stochastic/regret": regret.mean(1)[thin]}
            results.curves(name, means, seeded[name].index[thin])
    results.table("stochastic", seeded := pd.concat(seeded, names=["rule", "step"]))

    with experiment.Bar(total=len(MINIBATCHES) * short, desc="minibatches", unit=" steps", unit_scale=True) as bar:
        results.table("minibatches", batched := minibatches(bar, short))
    return Result(tables, walls, ends, seeded, batched, speed)


# Beside the reference


def numbers(result):
    """x and average regret online at the steps `AT` and at the end, float32 and float64, each beside its reference: a table."""
    steps = result.online.index.unique("step")
    at = sorted({step for step in AT if step in steps} | {steps[-1]})
    wide = result.online.unstack("precision")
    wide = wide[wide.index.isin(at, level="step")].reindex(list(ONLINE), level="rule")
    wide.columns = [" ".join(column) for column in wide.columns]
    for column, of in enumerate(("x", "regret")):
        known = {(name, step): REFERENCE[name][column][i] for name in ONLINE for i, step in enumerate(AT)}
        wide[f"{of} reference"] = pd.Series(known).reindex(wide.index)
    return wide[[f"{of} {kind}" for of in ("x", "regret") for kind in ("float32", "float64", "reference")]]


def walls(result):
    """First steps online at which |x| = 1, beside the reference: a table, 0 for never."""
    table = pd.Series(result.walls).unstack(0).reindex(list(ONLINE))
    return table.assign(reference=[REFERENCE[name][2] for name in table.index]).rename_axis("rule")


def compare(result):
    """All numbers of a `Result` that a run of its length can be compared in: a table of `experiment.compare`."""
    table, end = numbers(result), result.online.index.get_level_values("step").max()
    rows = [
        (
            f"{precision} {name}: {of} at {step:,}",
            row[f"{of} {precision}"],
            row[f"{of} reference"],
            TOLERANCE[precision],
        )
        for (name, step), row in table[table["x reference"].notna()].iterrows()
        for precision in TOLERANCE
        for of in ("x", "regret")
    ]
    first = walls(result)
    rows += [
        (f"{name}: first step at a wall", row.float64, row.reference, 0)
        for name, row in first[(first.reference <= end) & ((first.reference > 0) | (end == STEPS))].iterrows()
    ]
    for (c, name), x in result.theorem_1.items() if end >= SHORT else ():
        number, spread = {"Adam": (1.0, 0.0), "AMSGrad": (-0.99955, 2.5e-4), "Yogi": (YOGI_ENDS[c], 0.0)}[name]
        rows.append((f"theorem 1, {name}: last x for c = {c}", x, number, spread + TOLERANCE["float32"]))
    # Other seeds than the reference's: hence the tolerances from here on.
    late = result.minibatches.items() if end >= SHORT else ()
    rows += [(f"Adam: late x, minibatches of {size}", x, LATE[size], 0.1) for size, x in late]
    if end == STEPS:  # 400 seeds of a program in C
        adam, amsgrad = (result.stochastic.loc[name] for name in PAIR)
        late = amsgrad.loc[STEPS // 2 :].to_numpy()
        rows += [
            ("Adam's first step above 0.99, median over seeds", (adam >= 0.99).idxmax().median(), 16_000, 3_000),
            ("Adam's x after 50,000 steps, mean", adam.loc[50_000:].to_numpy().mean(), 0.9877, 0.003),
            ("AMSGrad's x in the second half, mean", late.mean(), -0.900, 0.03),
            ("share of -0.99 to -0.93 among these", np.mean(np.abs(late + 0.96) < 0.03), 0.405, 0.1),
        ]
    return experiment.compare(rows)


def show(result):
    """The tables as text, with what they say."""
    compared = compare(result)
    ends = compared[compared.index.str.contains("theorem 1|late x|first step above|mean|share")]
    turn = result.minibatches.index[result.minibatches < 0]
    return f"""\
Online: x (-1 is best) and average regret a step, beside the reference.
{numbers(result).to_string(float_format="{:.4f}".format, na_rep="")}

First step at a wall, |x| = 1; 0: not in this run. (Adam and AMSGrad of the first two lines: at +1, the worst, and at -1, the best.)
{walls(result).to_string()}

Theorem 1's problem, the stochastic problem and minibatches, beside the reference.
{ends.to_string(float_format="{:.4f}".format)}

Minibatches are another cure: the larger the batch, the less one rare gradient stands out of it. Adam goes to
the worse half with fewer than {min(turn, default="any number of")} draws a step, and to the better from there on.
Speed: {result.speed:,.0f} steps a second of Adam and AMSGrad online (float32, with compilation)."""


def figures(result, results):
    """Draws the paper's Figure 1 (average regret and x, online; x, stochastic, over seeds), and x against the size of minibatches."""
    whole_cycles = result.online[result.online.index.get_level_values("step") % 101 == 0].loc["float32"]
    curves = {name: whole_cycles.loc[name] for name in (*PAIR, *(f"{name}, 0.5/√t" for name in PAIR))}
    seeds = {name: result.stochastic.loc[name] for name in PAIR}
    ends = {"best": -1, "worst": 1}
    of = lambda column: {name: (curve.index, curve[column]) for name, curve in curves.items()}  # noqa: E731
    online = plot.Panel("x", of("x"), "online", levels=ends)
    regret = plot.Panel("average regret a step", of("regret"), "online", {"cost\nof +1": 20 / 101}, limits=(0, 0.4))
    x = plot.Panel("x", {name: (x.index, x.T) for name, x in seeds.items()}, "stochastic", levels=ends)
    results.picture("figure_1", plot.curves([regret, online, x], log_x=True))
    late = {"Adam": (result.minibatches.index, result.minibatches)}
    batched = plot.Panel("x, mean of the second half", late, "stochastic", ends, points=late)
    results.picture("minibatches", plot.curves([batched], x_label="draws a step", log_x=True))


def speed(lanes, steps=600_000):
    """Lane-steps a second of Adam with `lanes` learning rates in one batch on the online problem, compilation left out."""
    rules = adamx.adam(jnp.geomspace(1e-4, 1e-2, lanes), 0.9, 0.99)
    begin, go_on = (
        jax.jit(jax.vmap(f, (adamx.axes_of(rules), *[0] * inputs)))
        for f, inputs in (
            (lambda rule: problems.begin(rule, problems.online), 0),
            (
                lambda rule, after: problems.minimise(
                    rule, problems.online, steps // 60, every=1000, after=after
                ).last(),
                1,
            ),
        )
    )
    runs = jax.block_until_ready(go_on(rules, begin(rules)))
    begun = time.perf_counter()
    for _ in experiment.Bar(range(60), "speed", unit="part"):
        runs = jax.block_until_ready(go_on(rules, runs))
    return lanes * steps / (time.perf_counter() - begun)


def main(arguments=None):
    """Runs the experiment (with --all or --lanes, that part alone), prints its figures and writes tables and pictures."""
    parser = experiment.Parser(__doc__, out="amsgrad_counterexample", tensorboard=True)
    steps = experiment.number(multiple_of=1000)
    parser.add_argument("--steps", type=steps, help=f"a multiple of 1000; default {STEPS:,}, with --all {SHORT:,}")
    parser.add_argument("--seeds", type=experiment.number(most=10_000), default=32, help="of the stochastic problem")
    parser.add_argument("--all", nargs="*", choices=adamx.CATALOGUE, metavar="RULE", help="who is fooled: all or these")
    parser.add_argument("--lanes", type=experiment.number(most=10**6), metavar="N", help="measure the speed of a batch")
    options = parser.parse_args(arguments)
    if options.lanes is not None and (options.steps or options.all is not None):
        parser.error("--lanes measures 600,000 steps of Adam: it goes without --steps and --all.")
    if options.tensorboard and (options.lanes or options.all is not None):
        parser.error("--tensorboard goes without --lanes and --all, which have no curves.")
    results = experiment.Results(options.out, options.tensorboard)
    if options.lanes is not None:
        return print(f"{speed(options.lanes):.3g} lane-steps a second")
    if options.all is not None:
        import fooled

        return fooled.main(
            list(dict.fromkeys(options.all or experiment.SURVEYED)), options.steps or SHORT, options.seeds, results
        )
    result = run(options.steps or STEPS, options.seeds, results=results)
    results.table("numbers", numbers(result))
    results.table("walls", walls(result))
    figures(result, results)
    print(show(result))
    print(f"\n{experiment.require(compare(result))}\n{results}")


if __name__ == "__main__":
    main()
