"""Breaks Adam with three linear losses, and shows what mends it (Reddi, Kale & Kumar, "On the convergence of Adam and beyond", ICLR 2018).

    python examples/amsgrad_counterexample.py                       # 6,000,000 steps; the paper's Figure 1; checks every number
    python examples/amsgrad_counterexample.py --tensorboard runs    # the same, with curves for TensorBoard
    python examples/amsgrad_counterexample.py --all                 # who is fooled? Every rule of the catalogue
    python examples/amsgrad_counterexample.py --lanes 512           # how fast 512 learning rates run as one batch

A point x of [-1, 1] is charged 1010 x in one step of 101 and -10 x in the others; the best fixed x is -1, as 1010 > 100 * 10. Adam divides
the rare gradient by a root mean square that this gradient has just raised, and the common ones by what is left of it: it goes to +1, the
worst point, which costs 20/101 = 0.198 a step for ever. AMSGrad, whose denominator never falls, goes to -1.

Writes, into results/amsgrad_counterexample: a table (CSV) of each part when it is finished, figure_1.png and, with --all, fooled.png.
"""

import argparse
import functools
import inspect
import math
import pathlib
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.tree_util import Partial
from tqdm import tqdm

import adamx
from adamx import files, plot, probes, problems

OUT = pathlib.Path("results/amsgrad_counterexample")
STEPS, SHORT = 6_000_000, 300_000  # the latter for theorem 1 and the survey
PAIR, PARTS = ["Adam", "AMSGrad"], ["online", "stochastic", "theorem 1"]


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

# The reference: float64, by other programs in C and NumPy.
TOLERANCE = {"float64": 5.1e-5, "float32": 1e-3}
AT = (100_000, 600_000, 1_000_000, 6_000_000)
REFERENCE = {  # x and average regret at the steps AT; first step at a wall, 0 for never
    "Adam": ((0.9955, 0.9971, 1.0, 1.0), (0.2194, 0.2249, 0.2253, 0.2276), 53_124),
    "AMSGrad": ((-0.0817, -0.4707, -0.7797, -0.9950), (0.1367, 0.1093, 0.0935, 0.0435), 1_275_448),
    "AMSGrad of debiased v": ((-0.0124, -0.0613, -0.1001, -0.5903), (0.1116, 0.1007, 0.0981, 0.0738), 0),
    "Yogi": ((-0.0105, -0.0593, -0.0980, -0.5872), (0.1121, 0.1009, 0.0983, 0.0741), 0),
    "Adam, b2 = 0.999": ((0.1036, 0.6249, 1.0, 0.9995), (0.1548, 0.1716, 0.1909, 0.2302), 956_874),
    "Adam, 0.5/√t": ((0.9928, 0.9981, 1.0, 1.0), (0.3113, 0.2381, 0.2280, 0.2103), 3),
    "AMSGrad, 0.5/√t": ((-0.9842, -0.9986, -0.9973, -0.9990), (0.1220, 0.0455, 0.0347, 0.0137), 3),
}
YOGI_ENDS = {2.5: -0.9981, 3.0: -0.9989, 4.0: -0.9995, 10.0: -0.9998}


class Result(NamedTuple):
    """What `run` returns.

    Attributes:
      online: Table by (precision, rule, step), columns x and regret, the average up to that step.
      walls: (precision, rule) -> first step online with |x| = 1, 0 for never.
      theorem_1: Series by (precision, c, rule), the last x.
      stochastic: Table of x by (rule, step), one column a seed.
      seconds: Wall time of Adam and AMSGrad online in float32, compilation and TensorBoard included.
    """

    online: pd.DataFrame
    walls: dict
    theorem_1: pd.Series
    stochastic: pd.DataFrame
    seconds: float


@functools.partial(jax.jit, static_argnames=("problem", "steps", "every", "seeds"))
def minimise(rule, problem, steps, every, seeds=1, after=None):
    """A `problems.Run` with a leading axis of seeds, all in one batch; `after` another one, if given."""
    keys = jax.random.split(jax.random.key(0), seeds)
    return jax.vmap(lambda k, a: problems.minimise(rule, problem, steps, key=k, every=every, after=a))(keys, after)


def online(rule, steps):
    """A rule's x and average regret online, a table by steps that are multiples of 1000 or 1010; its first step at a wall, 0 for never."""
    result = jax.tree.map(np.asarray, minimise(rule, problems.online, steps, every=1))
    table = pd.DataFrame({"x": result.path[0], "regret": result.regret[0]}, pd.Index(result.steps[0], name="step"))
    kept = (table.index % 1000 == 0) | (table.index % 1010 == 0)
    return table[kept], next(iter(table.index[table.x.abs() == 1]), 0)


def theorem_1(c, steps=SHORT):
    """Rule -> last x on theorem 1's problem: b1 = 0, b2 = 1 / (1 + c^2), learning rate 0.5 sqrt((1 - b2) / t)."""
    b2 = 1 / (1 + c**2)
    falling, problem = Partial(inverse_root, 0.5 * np.sqrt(1 - b2)), problems.theorem_1(c)
    yogi = adamx.yogi(falling, 0.0, b2, eps=1e-3, initial_accumulator_value=0.0)
    rules = {"Adam": adamx.adam(falling, 0.0, b2), "AMSGrad": adamx.amsgrad(falling, 0.0, b2), "Yogi": yogi}
    return {name: float(minimise(rule, problem, steps, every=steps).params[0]) for name, rule in rules.items()}


def run(steps=STEPS, seeds=32, out=OUT, tensorboard=None):
    """Runs every part, with progress bars, and returns a `Result`.

    Args:
      steps: Steps of the online and the stochastic problem, a multiple of 1000.
      seeds: Seeds of the stochastic problem.
      out: Folder for a table (CSV) of each part.
      tensorboard: Folder for the scalars x and regret of Adam and AMSGrad online; None for none.
    """
    begun = time.perf_counter()
    pair = pd.concat({name: online(ONLINE[name], steps)[0] for name in PAIR}).unstack(0)
    if tensorboard is not None:
        pair = pair[:: -(-steps // 500_000)]  # a thousand points a curve
        series = {f"{name}/{of}": pair[of, name].to_numpy() for name in PAIR for of in ("x", "regret")}
        probes.write_tensorboard(tensorboard, series, pair.index)
    seconds = time.perf_counter() - begun

    tables, walls, ends, seeded = {}, {}, {}, {}
    for precision, name in tqdm([(p, name) for p in TOLERANCE for name in ONLINE], "online", unit="run"):
        with jax.enable_x64(precision == "float64"):
            tables[precision, name], walls[precision, name] = online(ONLINE[name], steps)
    files.write_csv(tables := pd.concat(tables, names=["precision", "rule"]).sort_index(), out / "online.csv")
    for precision, c in tqdm([(p, c) for p in TOLERANCE for c in YOGI_ENDS], "theorem 1", unit="c"):
        with jax.enable_x64(precision == "float64"):
            ends |= {(precision, c, name): x for name, x in theorem_1(c).items()}
    files.write_csv(ends := pd.Series(ends, name="x").rename_axis(["precision", "c", "rule"]), out / "theorem_1.csv")
    parts = math.gcd(steps // 1000, 20)
    for name in PAIR:
        done = [None]
        for _ in tqdm(range(parts), f"stochastic, {name}", unit="part"):
            done.append(minimise(ONLINE[name], problems.stochastic, steps // parts, 1000, seeds, done[-1]))
        seeded[name] = pd.concat(pd.DataFrame(np.asarray(run.path.T), np.asarray(run.steps[0])) for run in done[1:])
    files.write_csv(seeded := pd.concat(seeded, names=["rule", "step"]), out / "stochastic.csv")
    return Result(tables, walls, ends, seeded, seconds)


def check(result):
    """Compares a `Result` with the reference, as far as its runs go, and returns the number of numbers compared.

    Raises:
      AssertionError: one is off; says which, what was expected, and the tolerance.
    """
    rows = []  # name, got, expected, tolerance
    for (precision, name), wall in result.walls.items():
        (xs, regrets, first), curve = REFERENCE[name], result.online.loc[precision, name]
        for of, numbers in (("x", xs), ("regret", regrets)):
            for step, number in zip(AT, numbers, strict=True):
                if step in curve.index:
                    rows.append((f"{precision} {name}: {of} at {step}", curve[of][step], number, TOLERANCE[precision]))
        if precision == "float64" and first <= curve.index[-1]:
            rows.append((f"{name}: first step at a wall", wall, first, 0))
    for (precision, c, name), x in result.theorem_1.items():
        number, spread = {"Adam": (1.0, 0.0), "AMSGrad": (-0.99955, 2.5e-4), "Yogi": (YOGI_ENDS[c], 0.0)}[name]
        rows.append((f"{precision} {name}: last x for c = {c}", x, number, spread + TOLERANCE[precision]))
    adam, amsgrad = (result.stochastic.loc[name] for name in PAIR)
    if adam.index[-1] == STEPS:  # against 400 seeds of a program in C; the tolerances allow for other seeds
        late = amsgrad.loc[STEPS // 2 :].to_numpy()
        rows += [
            ("Adam's first step above 0.99, median over seeds", (adam >= 0.99).idxmax().median(), 16_000, 3_000),
            ("Adam's x after 50,000 steps, mean", adam.loc[50_000:].to_numpy().mean(), 0.9877, 0.003),
            ("AMSGrad's x in the second half, mean", late.mean(), -0.900, 0.03),
            ("share of -0.99 to -0.93 among these", np.mean(np.abs(late + 0.96) < 0.03), 0.405, 0.1),
        ]
    for name, got, number, tolerance in rows:
        assert abs(got - number) <= tolerance, f"{name}: expected {number}, got {got:.6g}, tolerance {tolerance:.2g}"
    return len(rows)


def figure(result, path):
    """Draws the paper's Figure 1: average regret and x on the online problem, x on the stochastic one with a band over seeds."""
    whole_cycles = result.online[result.online.index.get_level_values("step") % 101 == 0].loc["float32"]
    curves = {name: whole_cycles.loc[name] for name in (*PAIR, *(f"{name}, 0.5/√t" for name in PAIR))}
    seeds = {name: result.stochastic.loc[name] for name in PAIR}
    panels = [
        ("average regret a step, online", {name: (curve.index, curve.regret) for name, curve in curves.items()}),
        ("x, online", {name: (curve.index, curve.x) for name, curve in curves.items()}),
        ("x, stochastic", {name: (x.index, x.T) for name, x in seeds.items()}),
    ]
    plot.save(plot.curves(panels, log_x=True), path)


# Who is fooled


def create(name, learning_rate, b1, b2):
    """The rule called `name` with these decay rates of its moments, where it has them; a learning rate of its own it keeps (AdaDelta)."""
    known = inspect.signature(adamx.CATALOGUE[name].constructor).parameters
    own = known["learning_rate"].default
    rates = {"b1": b1, {"adan": "b3", "rmsprop": "decay", "adadelta": "rho"}.get(name, "b2"): b2}
    rates = {key: rate for key, rate in rates.items() if key in known}
    return adamx.create(name, learning_rate if own is inspect.Parameter.empty else own, **rates)


@jax.jit
def divisors(rule, grads):
    """What a rule divides its momentum, or else the gradient, by, for given gradients at x = 0.5."""

    def step(state, g):
        u, state, x = rule.trace(g, state, jnp.float32(0.5))
        return state, x.d if x.d is not None else jnp.abs((x.g if x.m is None else x.m) / u)

    return jax.lax.scan(step, rule.init(jnp.float32(0.5)), grads)[1]


def survey(name, steps=SHORT, seeds=32):
    """One row of "who is fooled": x of the rule called `name` on the three problems, a mean over the last tenth of the steps (and seeds).

    Learning rate 1e-3, b1 = 0.9, b2 = 0.99; for rules found to be proportional to the gradient (SGD) 1e-3 / 1010, so that no step exceeds
    1e-3. Theorem 1 has its own: b1 = 0, b2 = 0.1, learning rate 0.5 sqrt(0.9 / t), for SGD a third of that.
    """
    t = jnp.arange(1, 101 * 200 + 1)
    grads = jax.vmap(jax.grad(problems.online.loss), (None, None, 0))(0.5, None, t)
    d, of_doubled = (divisors(create(name, 1.0, 0.9, 0.99), scale * grads)[t.size // 2 :] for scale in (1, 2))
    rare, proportional = grads[t.size // 2 :] > 0, jnp.median(of_doubled / d) < 1.5
    row = {"rule": name, "division": float(jnp.mean(1 / d[~rare]) / jnp.mean(1 / d[rare]))}
    rule = create(name, 1e-3 / 1010 if proportional else 1e-3, 0.9, 0.99)
    falling = create(name, Partial(inverse_root, 0.5 * np.sqrt(0.9) / (3 if proportional else 1)), 0.0, 0.1)
    runs = [(rule, problems.online), (rule, problems.stochastic), (falling, problems.theorem_1(3.0))]
    for stage in rule.stages if row["division"] > 1.01 else ():
        if isinstance(stage, adamx.SecondMomentStage) and not isinstance(stage, adamx.Wrapper):
            runs.append((rule.replace(type(stage), adamx.RunningMax(stage)), problems.online))
    for part, (rule, problem) in zip([*PARTS, "with maximum"], runs, strict=False):
        result = minimise(rule, problem, steps, 100, seeds)
        row[part] = float(result.path[:, -steps // 1000 :].mean())
        row[f"{part}: regret"] = float(result.regret[:, -1].mean())
    return row | {"fooled": ", ".join(part for part in PARTS if row[part] > 0.1) or "no"}


def survey_all(names, steps, seeds, out):
    """The table of `survey`, one row a rule, on disk after each; and its picture."""
    rows = []
    for name in tqdm(names, "who is fooled", unit="rule"):
        rows.append(survey(name, steps, seeds))
        files.write_csv(table := pd.DataFrame(rows).set_index("rule"), out / "fooled.csv")
    labels = {"row_label": "rule", "column_label": "problem", "value_label": "x at the end (best -1, worst +1)"}
    plot.save(plot.heat_map(table[PARTS], table.index, PARTS, **labels, format="{:+.2f}"), out / "fooled.png")
    return table


def explain(table):
    """What separates the rules that are fooled online (x > 0.1) from the others, from the table of `survey_all`."""
    columns = table.reindex(columns=["online", "theorem 1", "with maximum", "division"])
    x, theorem, maximum, division = (column for _, column in columns.items())
    names = lambda rules: ", ".join(table.index[rules]) or "none"  # noqa: E731
    span = lambda rules: f"{division[rules].min():.3f} to {division[rules].max():.3f} times"  # noqa: E731
    return f"""\
Fooled online: {sum(x > 0.1)} of {len(table)} rules. The rare gradient, 1010 to 100 of -10, wins unless it is divided by 1.01 times as much:
the fooled divide it by {span(x > 0.1)} as much, the others by {span(x <= 0.1)}; exceptions: {names((x > 0.1) != (division > 1.01))}.
With the running maximum of their second moment turn round: {names(maximum < 0)}; do not: {names(maximum > 0)}.
Fooled at random only: {names((x < 0.1) & (table.stochastic > 0.1))}; online, but not by theorem 1: {names((x > 0.1) & (theorem < 0))}."""


def speed(lanes, steps=600_000):
    """Lane-steps a second of Adam with `lanes` learning rates in one batch on the online problem, compilation left out."""
    rules = adamx.adam(jnp.geomspace(1e-4, 1e-2, lanes), 0.9, 0.99)
    over_rules = jax.vmap(lambda rule: minimise(rule, problems.online, steps, 1000), (adamx.axes_of(rules),))
    compiled = jax.jit(over_rules).lower(rules).compile()
    begun = time.perf_counter()
    jax.block_until_ready(compiled(rules))
    return lanes * steps / (time.perf_counter() - begun)


def main(arguments=None):
    """Runs the experiment (with --all or --lanes, that part alone), prints its figures and writes tables and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help=f"default {STEPS:,}; with --all {SHORT:,}")
    parser.add_argument("--seeds", type=int, default=32, help="of the stochastic problem")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, metavar="DIR")
    parser.add_argument("--tensorboard", metavar="DIR")
    parser.add_argument("--all", nargs="*", choices=adamx.CATALOGUE, metavar="RULE", help="who is fooled: all or these")
    parser.add_argument("--lanes", type=int, metavar="N", help="measure the speed of a batch")
    options = parser.parse_args(arguments)
    if options.lanes is not None:
        return print(f"{speed(options.lanes):.3g} lane-steps a second")
    if options.all is not None:
        table = survey_all(options.all or adamx.CATALOGUE, options.steps or SHORT, options.seeds, options.out)
        return print(table.to_string(float_format="{:.4f}".format), explain(table), sep="\n\n")
    result = run(options.steps or STEPS, options.seeds, options.out, options.tensorboard)
    figure(result, options.out / "figure_1.png")
    print(f"online, Adam and AMSGrad together, with compilation (and TensorBoard): {result.seconds:.2f} s")
    print(f"{check(result)} numbers (x, regret, first step at a wall) agree to {TOLERANCE}; wrote {options.out}")


if __name__ == "__main__":
    main()
