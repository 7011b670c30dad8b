"""Who is fooled by the problems of amsgrad_counterexample.py? Every rule of the catalogue; the part of that script called --all."""

import inspect

import experiment
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from amsgrad_counterexample import inverse_root
from jax.tree_util import Partial

import adamx
from adamx import plot, problems

PARTS = ["online", "stochastic", "theorem 1"]
THERE = 0.8
"""|x| up to which a rule has not arrived at an end."""


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


def survey(bar, name, steps, seeds):
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
        bar.set_description(f"{name}, {part}")
        done = list(experiment.minimise(bar, rule, problem, steps, 100, seeds if problem is problems.stochastic else 1))
        path = np.concatenate([run.path for run in done], axis=1)
        row[part] = float(path[:, -steps // 1000 :].mean())
        row[f"{part}: regret"] = float(done[-1].regret[:, -1].mean())
    bar.update(steps * (4 - len(runs)))  # of a maximum that this rule does not need, or has no place for
    return row | {"fooled": ", ".join(part for part in PARTS if row[part] > 0.1) or "no"}


def run(names, steps, seeds, results):
    """The table of `survey`, one row a rule, on disk after each; and its picture."""
    rows = []
    with experiment.Bar(total=4 * len(names) * steps, unit=" steps", unit_scale=True) as bar:
        for name in names:
            rows.append(survey(bar, name, steps, seeds))
            results.table("fooled", table := pd.DataFrame(rows).set_index("rule"))
    return table


def explain(table):
    """What separates the rules that are fooled online (x > 0.1) from the others, from the table of `run`."""
    columns = table.reindex(columns=["online", "theorem 1", "with maximum", "division"])
    x, theorem, maximum, division = (column for _, column in columns.items())
    names = lambda rules: ", ".join(table.index[rules]) or "none"  # noqa: E731
    span = lambda rules: f"{division[rules].min():.3f} to {division[rules].max():.3f} times"  # noqa: E731
    fooled, others = x > 0.1, x <= 0.1
    return f"""\
Fooled online: {sum(fooled)} of {len(table)} rules. The rare gradient, 1010 to 100 of -10, wins unless it is divided by 1.01 times as much:
the fooled divide it by {span(fooled) if any(fooled) else "-"} as much, the others by {span(others) if any(others) else "-"};
exceptions: {names(fooled != (division > 1.01))}.
With the running maximum of their second moment turn round: {names(maximum < 0)}; do not: {names(maximum > 0)}.
Fooled at random only: {names((x < 0.1) & (table.stochastic > 0.1))}; online, but not by theorem 1: {names(fooled & (theorem < 0))}.
Not fooled online, but not at -1 yet at the end of the run: {names((x <= 0.1) & (x > -THERE))}."""


def figure(table, steps):
    """Draws the two findings: what separates the fooled, the ratio of the denominators; and what the running maximum does to them."""
    table = table.reindex(columns=["division", *PARTS, "with maximum"]).sort_values("division", kind="stable")
    rows = np.arange(len(table))
    looks = {part: plot.look(i) | {"linestyle": "", "markersize": 7} for i, part in enumerate(PARTS)}
    maximum = {"color": "black", "marker": "D", "linestyle": "", "markersize": 5.5}

    def dots(ax, part, look):
        there = table[part].abs() > THERE
        ax.plot(table[part][there], rows[there], label=part, **look)
        ax.plot(table[part][~there], rows[~there], **look | {"markerfacecolor": "white", "markeredgewidth": 1.5})

    with plot.canvas(1, 3, size=(3.7, max(2.5, 0.9 + 0.23 * len(table))), sharey=True) as (figure, axes):
        division, online, others = axes[0]
        division.plot(table.division.clip(upper=2), rows, "o", color="black", markersize=5)
        for row in rows[table.division > 2]:
            division.text(1.94, row, f"{table.division.iloc[row]:.0f} →", ha="right", va="center")
        division.axvline(1.01, color="black", linewidth=0.8, linestyle=(0, (1, 2)))
        division.set(title="rare gradient's divisor\nover that of the common ones", xlabel="ratio (dotted: 1.01)")
        division.set_yticks(rows, table.index)
        online.hlines(rows, table.online, table["with maximum"], color="#777777", linewidth=1)
        dots(online, "online", looks["online"])
        dots(online, "with maximum", maximum)
        online.set_title("online, as it is and with the running\nmaximum of its second moment")
        for part in PARTS[1:]:
            dots(others, part, looks[part])
        others.set_title("stochastic problem, theorem 1\n")
        for ax in (online, others):
            ax.set(xlim=(-1.15, 1.15), xlabel=f"x at the end of {steps:,} steps")
            ax.set_xticks([-1, -0.5, 0, 0.5, 1], ["−1\nbest", "−0.5", "0", "0.5", "+1\nworst"])
        unfinished = online.plot([], [], **looks["online"] | {"color": "black", "markerfacecolor": "white"})
        unfinished[0].set_label(f"open: not at an end, |x| < {THERE}")
        plot.legend(figure, axes, 5)
        return figure


def main(names, steps, seeds, results):
    """Runs the survey, prints its table and what it says, and draws it."""
    table = run(names, steps, seeds, results)
    results.picture("fooled", figure(table, steps))
    print(table.to_string(float_format="{:.4f}".format, na_rep=""), explain(table), results, sep="\n\n")
