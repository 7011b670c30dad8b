"""One component of the gradient on its way through Adam, and a rule of one's own made of the library's pieces.

    python examples/gradient_signal.py
    python examples/gradient_signal.py --tensorboard

After a simulation in a course's forum: three made-up signals take the place of the gradient, one that swings, one that swings softly
about 10, and a line at 5, all with noise; what Adam makes of each is followed for 10,000 steps, with lr 1 and the sign kept, so that the
output is m / (sqrt(v) + eps), and the weight W the sum of its negative. The simulation's author also tried a rule of his own, which here
takes one new stage, and had questions, which the script answers with what it measures.

Writes, into results/gradient_signal: adam.csv and modified.csv, all series; and a picture for each rule and signal.
"""

import functools
from typing import NamedTuple

import experiment
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import adamx
from adamx import plot
from adamx.numerics import over_root
from adamx.stages import NonNegative

STEPS, WINDOW = 10_000, 200
B1, B2, EPS = 0.9, 0.999, 1e-7
SIGNALS = ("swinging", "soft", "line")


def signals():
    """The three gradients, float64 (10000, 3), in the order of `SIGNALS`."""
    grid = functools.partial(np.linspace, 0, num=STEPS)
    noise = lambda scale: np.random.default_rng(1).normal(size=STEPS, scale=scale)  # noqa: E731
    a = 200 * 2 * np.pi
    swinging = 20 * np.sin(grid(a / 2)) + 10 * np.cos(grid(2 * a)) ** 2 + 3 * np.sin(grid(4 * a)) + noise(1.0)
    return np.stack([swinging, 5 * np.sin(grid(2 * a)) + 10 + noise(0.5), 5.0 + noise(0.5)], axis=1)


# Build your own: the modified rule's second moment, the average of (g - mu)^2, is the library's `Belief`; only its last stage is new.


@adamx.stage
class GradientOverRootPlusMomentum(adamx.Stage):
    """u = g / d + m with d = sqrt(v) + eps.

    Attributes:
      eps: Added to the root.
    """

    eps: NonNegative = 1e-7

    reads, writes = {"g", "m", "v"}, {"d", "u"}

    def __call__(self, x, s, k):
        """The update of one leaf."""
        share, d = over_root(x.g, x.v, None, self.eps)
        return x.write(d=d, u=share + x.m), s


RULES = {
    "adam": adamx.scale_by_adam(B1, B2, EPS),
    "modified": adamx.update_rule(
        adamx.Momentum(B1), adamx.Belief(B2, eps_root=0.0), GradientOverRootPlusMomentum(EPS)
    ),
    "adabelief": adamx.scale_by_adabelief(B1, B2, EPS, eps_root=0.0),
    "centred": adamx.update_rule(adamx.Momentum(B1), adamx.DebiasedCentredSecondMoment(B2), adamx.DivideByRoot(EPS)),
}
DRAWN = ("adam", "modified")
SERIES = ("gradient", "m", "debiased m", "√v", "debiased √v", "output")
LATE = "output, one step late"


# Running


class Result(NamedTuple):
    """What `run` returns.

    Attributes:
      series: Rule -> name among `SERIES` -> array (steps, 3).
      late: Adam's output (steps, 3) with both averages divided by 1 - beta^(t-1), in step 1 by nothing, as the simulation published it.
    """

    series: dict
    late: np.ndarray


@jax.jit
def follow(rule, gradients):
    """The `SERIES` of a rule on gradients (steps, 3), one scan over three coordinates."""

    def step(state, g):
        _, state, x = rule.trace(g, state)
        return state, (x.raw, x.mu, x.m, jnp.sqrt(state.slots["nu"]), jnp.sqrt(x.v), x.u)

    return jax.lax.scan(step, rule.init(gradients[0]), gradients)[1]


def one_step_late(series):
    """Adam's output from its stored averages, debiased as the published simulation does it: by the weight of one step before."""
    t = np.arange(1, len(series["m"]) + 1)[:, None]
    weight = lambda beta: np.where(t > 1, 1 - beta ** (t - 1.0), 1)  # noqa: E731
    return series["m"] / weight(B1) / (series["√v"] / np.sqrt(weight(B2)) + EPS)


def run(steps=STEPS, results=experiment.Results()):  # noqa: B008
    """Sends the first `steps` of each signal through every rule.

    Args:
      steps: At most 10,000.
      results: Takes a table of the series of each rule that is drawn, and the same for TensorBoard.

    Returns:
      A `Result`.
    """
    gradients, series = jnp.asarray(signals()[:steps], jnp.float32), {}
    with experiment.Bar(total=len(RULES), unit="rule") as bar:
        for name, rule in RULES.items():
            followed = bar.done(follow(rule, gradients))
            series[name] = {key: np.asarray(values, float) for key, values in zip(SERIES, followed, strict=True)}
            series[name]["W"] = -np.cumsum(series[name]["output"], axis=0)
    result = Result(series, one_step_late(series["adam"]))
    for name in DRAWN:
        results.table(name, columns(drawn(result, name)))
        shown = columns(result.series[name])
        shown = shown[(shown.index <= WINDOW) | (shown.index % 10 == 0)]
        results.curves(name, shown, shown.index)
    return result


def drawn(result, name):
    """The series of one rule as they are drawn: with the output as published, one step late, in the case of Adam."""
    series = result.series[name]
    return series | {LATE: result.late} if name == "adam" else series


def columns(series):
    """Table with one column "signal/series" for each, by step."""
    values = {f"{s}/{key}": v[:, i] for i, s in enumerate(SIGNALS) for key, v in series.items()}
    return pd.DataFrame(values, pd.RangeIndex(1, len(series["m"]) + 1, name="step"))


# Checking


TIMES = (1, 2, 3, 10, 100, 200, 10_000)
REFERENCE = {  # float64; a row a signal: the output at TIMES; over the last 200 steps its mean and deviation, and the mean of debiased √v
    "adam": (
        (1.000000, 0.999702, 1.002374, 0.966611, -0.329784, -0.328012, -0.220096, 0.320255, 0.775951, 15.584659),
        (1.000000, 1.001235, 1.003514, 1.018834, 0.761258, 0.762723, 0.787506, 0.944065, 0.128956, 10.602122),
        (1.000000, 1.000919, 0.999657, 0.998373, 0.986951, 0.988508, 1.001676, 1.000789, 0.015971, 5.006869),
    ),
    "modified": (
        (11.456695, 12.980070, 13.507184, 12.112170, -4.139647, -4.311240, -2.116656, 5.655285, 13.722666, 7.922254),
        (11.283903, 12.196786, 12.889691, 15.590561, 10.359876, 10.419227, 11.564119, 13.211161, 2.185560, 3.128787),
        (6.283903, 6.492101, 6.454602, 6.751726, 9.630266, 10.325773, 15.959969, 15.818038, 1.112352, 0.463891),
    ),
}
FIRST = ((10.345584, 10.172792, 5.172792), (12.904359, 11.654380, 5.410809), (13.049206, 12.574207, 5.165219))
LATE_STARTS = (3.162277, 1.343438, 1.167638)


HEADS = (*(f"t={t}" for t in TIMES), "last 200: mean", "deviation", "mean debiased √v")


def summary(series):
    """The numbers of `REFERENCE` for the series of one rule: array (3, 10), NaN at `TIMES` that the run did not reach."""
    output, spread = series["output"], series["debiased √v"]
    at = [output[t - 1] if t <= len(output) else np.full(3, np.nan) for t in TIMES]
    last = output[-WINDOW:].mean(axis=0), output[-WINDOW:].std(axis=0), spread[-WINDOW:].mean(axis=0)
    return np.stack([*at, *last], axis=1)


def compare(result):
    """Every number with a reference, as far as the run goes: a table of `experiment.compare`; float32 with float64, to 1e-4 of each."""
    steps, rows = len(result.late), []
    for name, expected in REFERENCE.items():
        for signal, numbers, references in zip(SIGNALS, summary(result.series[name]), expected, strict=True):
            rows += [
                (f"{name}, {signal}: {head}", number, reference)
                for head, number, reference in zip(HEADS, numbers, references, strict=True)
                if steps == STEPS or (head in HEADS[: len(TIMES)] and np.isfinite(number))
            ]
    for t in range(min(steps, 3)):
        gradients = result.series["adam"]["gradient"][t]
        rows += [(f"gradient, {s}: t={t + 1}", g, r) for s, g, r in zip(SIGNALS, gradients, FIRST[t], strict=True)]
        rows.append((f"adam one step late, swinging: t={t + 1}", result.late[t, 0], LATE_STARTS[t]))
    if steps == STEPS:  # by then the lag has gone
        rows.append(("adam one step late, swinging: t=10000", result.late[-1, 0], REFERENCE["adam"][0][6]))
    return experiment.compare([(*row, 1e-4 * abs(row[-1])) for row in rows])


# Showing


def figures(result, results):
    """Draws the series of the rules in `DRAWN`, first and last 200 steps, W in all: a picture for each rule and signal, RULE_SIGNAL.png."""
    for name in DRAWN:
        for i, signal in enumerate(SIGNALS):
            series = {key: values[:, i] for key, values in drawn(result, name).items()}
            below = [key for key in ("output", LATE) if key in series]
            title = f"{signal}, {'Adam' if name == 'adam' else 'the modified rule'}"
            results.picture(f"{name}_{signal}", plot.internals(series, WINDOW, below=below, whole="W", title=title))


def beside(compared):
    """The table of `compare` as text, measured and expected numbers of a series in two lines."""
    series, heads = zip(*compared.index.str.split(": ", n=1), strict=True)
    table = compared[["measured", "expected"]].set_axis([pd.Index(series), pd.Index(heads)])
    wide = table.stack().unstack(1, sort=False).reindex(columns=[head for head in HEADS if head in heads])
    return wide.to_string(float_format="{:.6f}".format, na_rep="")


def answers(result):
    """What the simulation puzzles its readers with, answered with the measured numbers."""
    adam, centred, late = result.series["adam"], result.series["centred"], result.late
    gradients = adam["gradient"][-1000:]  # as far as v remembers
    rms, mean, sd = np.sqrt(np.mean(gradients**2, axis=0)), gradients.mean(axis=0), gradients.std(axis=0)
    rows = {
        "root mean square of the gradient": rms,
        "√v of Adam": summary(adam)[:, -1],
        "standard deviation of the gradient": sd,
        "√v of the centred rule": summary(centred)[:, -1],
        "√v of AdaBelief": summary(result.series["adabelief"])[:, -1],
        "mean / standard deviation": mean / sd,
        "output of Adam, mean": summary(adam)[:, -3],
        "output of the centred rule, mean": summary(centred)[:, -3],
        "output of AdaBelief, mean": summary(result.series["adabelief"])[:, -3],
        "W of Adam at the end / steps": adam["W"][-1] / len(late),
    }
    spread, falls = rows["√v of Adam"], [f"{-x:.2f}" for x in rows["W of Adam at the end / steps"]]
    measured = pd.DataFrame(rows, list(SIGNALS)).T.to_string(float_format="{:.3f}".format)
    starts = ", ".join(f"{x:.6f}" for x in late[:3, 0])
    return f"""\
Why does the published output start so large ("large s")? It divides by 1 - beta^(t-1), and in step 1 by nothing: one step late. On the
swinging signal it starts at {starts}, the first of which is (1 - 0.9) / sqrt(1 - 0.999); debiased in time, Adam
starts at sign(g) = 1. The lag fades: after {len(late):,} steps the two give {late[-1, 0]:.6f} and {adam["output"][-1, 0]:.6f}.

Why does √v of the soft signal settle at {spread[1]:.1f}, and not at its mean of 10? A root mean square is not a mean. The swing
of 5 sin x adds 5²/2 = 12.5 to the mean square, the noise 0.5² = 0.25: √(10² + 12.75) = 10.62. Over the last {len(gradients):,} steps of
the signal it is {rms[1]:.2f}.

Is v the variance? No, the raw second moment: mean of g² = mean² + variance. On the line at 5 with noise of deviation 0.5 its root is 5.
To divide by a deviation is another rule: the centred one, about a mean as slow as v; or AdaBelief, about the fast mean m, which follows
a swing and does not count it as noise.

What is m / √v? A signal-to-noise ratio, squeezed into about -1 to 1: mean / √(mean² + variance). The centred rule gives the ratio itself,
mean / deviation, without a bound: one gradient has no deviation, so it starts at g / eps, {centred["output"][0].max():.0e}.
The modified rule adds g / deviation, a pure number, to m, a gradient: what it does depends on the unit of the loss.

Where does the weight go? W, the sum of -output, falls by {falls[2]} a step on the line, {falls[1]} on the soft signal, {falls[0]}
on the swinging one: nearly the learning rate where the sign is steady, less where it swings.

{measured}"""


def main(arguments=None):
    """Runs the simulation, prints its figures and writes tables and pictures."""
    parser = experiment.Parser(__doc__, out="gradient_signal", tensorboard=True)
    steps = experiment.number(most=STEPS)
    parser.add_argument("--steps", type=steps, default=STEPS, help=f"at most {STEPS:,}, as long as the signals are")
    options = parser.parse_args(arguments)
    results = experiment.Results(options.out, options.tensorboard)
    result = run(options.steps, results)
    figures(result, results)
    compared = compare(result)
    results.table("compared", compared)
    print(f"{beside(compared)}\n\n{answers(result)}\n\n{experiment.require(compared)}\n{results}")


if __name__ == "__main__":
    main()
