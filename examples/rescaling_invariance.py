"""Adam does not follow the gradient: what a rescaling of the gradient does to the update, measured for every rule of the catalogue.

    python examples/rescaling_invariance.py
    python examples/rescaling_invariance.py --steps 3000 --tensorboard

Two functions of t in R^2, sum of t^2 * (1, 1) and sum of t^2 * (2, 1/2), have the gradients (2, 2) and (4, 1) at (1, 1). SGD steps along
them. Adam's first step is the same for both, lr sign(g): it divides each coordinate by the size of that coordinate's own gradients, so
multiplying a coordinate's gradients by a constant changes nothing (as eps -> 0).

Writes, into results/rescaling_invariance: invariance.csv, one row a rule, rewritten after each rule; angles.csv and angles.png, the angle
between the update and the negative gradient along a run on an ill-conditioned quadratic; steps.png, the two functions and the steps.
"""

import dataclasses
import functools
from typing import NamedTuple

import experiment
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import adamx
from adamx import plot, probes, problems

STEPS, LEARNING_RATE = 1000, 0.01
TOLERANCE = 1e-4
"""Relative change of the updates up to which a rule counts as invariant: float32 leaves 1e-6, and what is not invariant exceeds 0.1."""
CONSTANTS = {"eps", "eps_root", "initial_value"}
"""Hyperparameters with the unit of a gradient, or its square; they go to 1e-20 in the limit."""
DIMENSION, CONDITION = 10, 1e4
RULES = {
    "sgd": adamx.sgd(1.0),
    "sgd, momentum 0.9": adamx.sgd(0.1, momentum=0.9),
    "novograd": adamx.novograd(0.001),
    "adagrad": adamx.adagrad(0.1, initial_accumulator_value=0.0, eps=0.0),
    "adam": adamx.adam(0.01),
    "lion": adamx.lion(0.003, weight_decay=0.0),
}
"""Rules whose angles are drawn."""


class Result(NamedTuple):
    """What `run` returns.

    Attributes:
      first_steps: "rule on function" -> parameters (2,) after one step from (1, 1).
      invariance: Table, one row a rule: `scalar` and `diagonal`, the relative change of the updates when the gradients are multiplied by a
        number or by one number a coordinate, as eps -> 0; `scalar_default` and `diagonal_default`, the same as the rule is by default;
        `first`, the size of the first step over the learning rate where it has the sign of the gradient and one size, else NaN.
      angles: Axes of the quadratic ("along the coordinates", "turned") -> table, one row a step, one column a rule: angle of update and
        negative gradient, degrees.
    """

    first_steps: dict
    invariance: pd.DataFrame
    angles: dict


# One step on two functions


FUNCTIONS = {
    "f_s": ("t₁² + t₂²", lambda t: jnp.sum(t**2)),
    "f_a": ("2 t₁² + t₂² / 2", lambda t: 2 * t[0] ** 2 + t[1] ** 2 / 2),
}


def one_step(rule, loss):
    """Parameters (2,) after one step of `rule` on `loss` from (1, 1)."""
    start = jnp.ones(2)
    return np.asarray(rule.step(jax.grad(loss)(start), rule.init(start), start)[0])


def first_steps():
    """SGD (learning rate 0.1) and Adam (its defaults) on both functions: name -> parameters after one step from (1, 1)."""
    rules = {"sgd": adamx.sgd(0.1), "adam": adamx.adam(1e-3)}
    return {f"{r} on {f}": one_step(rule, loss) for r, rule in rules.items() for f, (_, loss) in FUNCTIONS.items()}


# Invariance of every rule


def set_hyperparameters(rule, names, value):
    """`rule` with all hyperparameters called one of `names` set to `value`: a rule is a pytree of them."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: value if getattr(path[-1], "name", None) in names else leaf, rule
    )


def gradients(steps, seed=0):
    """Random gradients of a matrix and a vector, three times: as they are, times a number, times one number a coordinate.

    Returns:
      A tree like the parameters, arrays (3, steps, ...). The factors span 1e-2 to 1e2.
    """
    random = np.random.default_rng(seed)

    def of(*shape):
        g = random.normal(size=(steps, *shape))
        return np.float32(np.stack([g, 37.0 * g, 10 ** random.uniform(-2, 2, shape) * g]))

    return {"matrix": of(6, 4), "vector": of(5)}


@jax.jit
def updates_of(rule, params, grads):
    """The updates of a run on given gradients, for each of the first axis of `grads`: arrays (3, steps, coordinates)."""

    def step(carry, g):
        updates, state = rule.update(g, carry[1], carry[0])
        return (jax.tree.map(jnp.add, carry[0], updates), state), updates

    run = lambda g: jax.lax.scan(step, (params, rule.init(params)), g)[1]  # noqa: E731
    updates = jax.tree.leaves(jax.vmap(run)(grads))
    return jnp.concatenate([u.reshape(*u.shape[:2], -1) for u in updates], axis=-1)


def changes(updates):
    """Relative change of the updates under both rescalings: (scalar, diagonal)."""
    plain, *rescaled = np.float64(updates)
    return [np.linalg.norm(u - plain) / np.linalg.norm(plain) for u in rescaled]


def measure(name, steps=20, learning_rate=LEARNING_RATE):
    """One row of the table of invariance, for the rule called `name`; weight decay off."""
    grads = gradients(steps)
    random = np.random.default_rng(1)
    params = {key: np.float32(random.normal(size=g.shape[2:])) for key, g in grads.items()}
    default = set_hyperparameters(adamx.create(name, learning_rate), {"weight_decay"}, 0.0)
    limit = set_hyperparameters(default, CONSTANTS, 1e-20)
    updates = np.asarray(updates_of(limit, params, grads))
    scalar, diagonal = changes(updates)
    scalar_default, diagonal_default = changes(updates_of(default, params, grads))
    first, sign = updates[0, 0], -np.sign(np.concatenate([g[0, 0].ravel() for g in grads.values()]))
    size = np.mean(first * sign)
    one_size = np.allclose(first, size * sign, rtol=1e-5, atol=1e-12)
    return {
        "rule": name,
        "scalar": scalar,
        "diagonal": diagonal,
        "scalar_default": scalar_default,
        "diagonal_default": diagonal_default,
        "first": size / learning_rate if one_size else np.nan,
    }


# Angle of update and gradient


def turned(problem, seed=0):
    """`problem` in other coordinates, turned by a random orthogonal matrix, from the same start and with the same optimum 0."""
    matrix = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(problem.start),) * 2))[0]
    turn = functools.partial(jnp.matmul, jnp.float32(matrix), precision="highest")
    loss = lambda x, key, step: problem.loss(turn(x), key, step)  # noqa: E731
    return dataclasses.replace(problem, name=f"{problem.name}_turned", loss=loss, start=tuple(matrix.T @ problem.start))


def angles(problem, rule, steps):
    """Angle (degrees) of update and negative gradient in each step of a run on `problem`: an array."""
    start, key = jnp.array(problem.start), jax.random.key(0)

    @jax.jit
    def cosines(probed):
        def step(carry, t):
            params, state = carry
            updates, state, measured = probed.trace(jax.grad(problem.loss)(params, key, t), state, params)
            return (params + updates, state), measured["alignment"]

        return jax.lax.scan(step, (start, probed.init(start)), jnp.arange(1, steps + 1))[1]

    return np.degrees(np.arccos(np.clip(cosines(probes.probe(rule, probes.alignment)), -1, 1)))


# The whole experiment


def run(steps=STEPS, rules=tuple(experiment.SURVEYED), results=experiment.Results()):  # noqa: B008
    """Measures everything, with progress bars.

    Args:
      steps: Steps of the runs whose angles are measured.
      rules: Names in the catalogue, for the table of invariance.
      results: Takes the tables of finished parts, and the angles for TensorBoard.

    Returns:
      A `Result`.
    """
    rows, measured = [], {}
    for name in experiment.Bar(rules, "invariance", unit="rule"):
        rows.append(measure(name))
        results.table("invariance", invariance := pd.DataFrame(rows).set_index("rule"))
    quadratic = problems.quadratic(CONDITION, DIMENSION)
    for axes, problem in {"along the coordinates": quadratic, "turned": turned(quadratic)}.items():
        columns = {
            name: angles(problem, rule, steps) for name, rule in experiment.Bar(RULES.items(), f"angles, {axes}")
        }
        measured[axes] = pd.DataFrame(columns, pd.RangeIndex(1, steps + 1, name="step"))
    results.table("angles", pd.concat(measured, names=["axes"]))
    for name in RULES:
        results.curves(name, {f"angle/{axes}": table[name] for axes, table in measured.items()})
    return Result(first_steps(), invariance, measured)


EXPECTED_STEPS = dict.fromkeys(("adam on f_s", "adam on f_a"), (0.999, 0.999)) | {
    "sgd on f_s": (0.8, 0.8),
    "sgd on f_a": (0.6, 0.9),
}
EXPECTED_INVARIANCE = dict.fromkeys(("adagrad", "adam", "adamax", "amsgrad", "yogi", "lion"), (True, True, 1.0)) | {
    "sgd": (False, False, None),
    "momentum": (False, False, None),
    "rmsprop": (True, True, 0.1**-0.5),
    "adabelief": (True, True, 1 / 0.9),
    "adopt": (True, True, 0.0),
    "lamb": (True, True, None),
    "novograd": (True, False, None),
    "radam": (False, False, None),
}
"""What the formulas say: invariant to a number; to one number a coordinate; size of the first step, None where it is no multiple of the
sign. RAdam's first five steps are plain momentum."""


def compare(result):
    """Every number that the experiment has a reference for: a table of `experiment.compare`; an invariance is 1 if there, 0 if not."""
    rows = []
    for name, expected in EXPECTED_STEPS.items():
        got = result.first_steps[name]
        rows += [(f"t{i + 1} after one step of {name}", got[i], expected[i], 1e-6) for i in range(2)]
    for name in (name for name in EXPECTED_INVARIANCE if name in result.invariance.index):
        row, (scalar, diagonal, first) = result.invariance.loc[name], EXPECTED_INVARIANCE[name]
        rows += [
            (f"{name}: invariant to g -> c g", row.scalar <= TOLERANCE, scalar, 0),
            (f"{name}: invariant to g -> diag(c) g", row.diagonal <= TOLERANCE, diagonal, 0),
            (f"{name}: first step / (lr sign(g))", row["first"], np.nan if first is None else first, 1e-5),
        ]
    curvatures = np.geomspace(1 / CONDITION, 1, DIMENSION)
    of_sign = np.degrees(np.arccos(curvatures.sum() / np.sqrt(DIMENSION) / np.linalg.norm(curvatures)))
    for axes, table in result.angles.items():
        rows.append((f"greatest angle of sgd, axes {axes}, degrees", table["sgd"].max(), 0.0, 0.1))
        if axes == "along the coordinates":
            rows.append(("angle of adam's first step, degrees", table["adam"].iloc[0], of_sign, 0.1))
    return experiment.compare([(what, float(got), float(number), tolerance) for what, got, number, tolerance in rows])


def show(invariance):
    """The table of invariance as text."""
    invariant = lambda change: "yes" if change <= TOLERANCE else f"no ({change:.2g})"  # noqa: E731
    size = lambda first: "no" if np.isnan(first) else "no step" if first == 0 else f"{first:.4g} lr sign(g)"  # noqa: E731
    heads = ("g -> c g", "g -> diag(c) g", "c g, defaults", "diag(c) g, defaults")
    kinds = ("scalar", "diagonal", "scalar_default", "diagonal_default")
    shown = {head: invariance[kind].map(invariant) for head, kind in zip(heads, kinds, strict=True)}
    return pd.DataFrame(shown | {"first step": invariance["first"].map(size)}).to_string()


def smoothed(angles, points=150):
    """The angles of a long run for a picture: mean, least and greatest over `points` stretches of steps, evenly spaced in logarithm.

    From the step on in which something happens: some rule's angle has changed by a degree.
    """
    begun = max(1, int((angles - angles.iloc[0]).abs().gt(1).any(axis=1).idxmax()))
    edges = np.unique(np.geomspace(begun, len(angles) + 1, points).astype(int))
    part = np.digitize(angles.index, edges)
    kept, groups = angles[part > 0], part[part > 0]
    steps = kept.index.to_series().groupby(groups).mean()
    return steps, *(getattr(kept.groupby(groups), of)() for of in ("mean", "min", "max"))


def figure_of_angles(result):
    """One panel a rule: the angle on the quadratic with axes along the coordinates, and turned."""
    with plot.canvas(2, len(RULES) // 2, size=(3.6, 2.4), sharex=True, sharey=True) as (figure, axes):
        for i, (name, table) in enumerate(result.angles.items()):
            steps, mean, low, high = smoothed(table)
            style = plot.look(i) | {"marker": None}
            for ax, rule in zip(axes.flat, RULES, strict=True):
                ax.fill_between(steps, low[rule], high[rule], color=style["color"], alpha=0.2, linewidth=0)
                ax.plot(steps, mean[rule], label=f"axes {name}", linewidth=1.7, **style)
                ax.set(title=rule, xscale="log", ylim=(-4, 180), yticks=range(0, 181, 30))
                ax.axhline(90, color="black", linewidth=0.8, linestyle=(0, (1, 2)))
        for ax in axes[-1]:
            ax.set_xlabel("step")
        for ax in axes[:, 0]:
            ax.set_ylabel("angle to −gradient (degrees)")
        axes[0][0].text(0.97, 92, "uphill above 90", transform=axes[0][0].get_yaxis_transform(), ha="right", fontsize=8)
        plot.legend(figure, axes, 3, "least to greatest of the steps in a stretch")
        return figure


def figure_of_steps():
    """The two functions, with the first steps of SGD and of Adam from (1, 1), Adam's at such a learning rate that it is seen."""
    shown = {"SGD, learning rate 0.1": adamx.sgd(0.1), "Adam, learning rate 0.3": adamx.adam(0.3)}
    t = np.stack(np.meshgrid(*2 * [np.linspace(-0.2, 1.2, 141)]))
    with plot.canvas(1, 2, size=(4.2, 4.0), sharey=True) as (figure, axes):
        for ax, (name, (formula, loss)) in zip(axes[0], FUNCTIONS.items(), strict=True):
            ax.contour(*t, jax.vmap(jax.vmap(loss, 1), 1)(t), levels=12, cmap="Greys", linewidths=0.8, alpha=0.8)
            for i, (label, rule) in enumerate(shown.items()):
                style = plot.look(i) | {"markevery": [-1], "linewidth": 2, "markersize": 8}
                ax.plot(*np.transpose([np.ones(2), one_step(rule, loss)]), label=label, **style)
            ax.plot(1, 1, "o", color="black", label="start (1, 1)")
            ax.plot(0, 0, "+", color="black", markersize=11, markeredgewidth=2, label="minimum")
            ax.set(title=f"{name} = {formula}", xlabel="t₁", aspect="equal")
            ax.grid(False)
        axes[0][0].set_ylabel("t₂")
        plot.legend(figure, axes, 4)
        return figure


def main(argv=None):
    """The command."""
    parser = experiment.Parser(__doc__, out="rescaling_invariance", tensorboard=True)
    parser.add_argument(
        "--steps", type=experiment.number(most=10**6), default=STEPS, help="of the runs whose angles are measured"
    )
    parser.add_argument("--rules", nargs="+", default=experiment.SURVEYED, choices=adamx.CATALOGUE, metavar="RULE")
    args = parser.parse_args(argv)
    results = experiment.Results(args.out, args.tensorboard)
    result = run(args.steps, list(dict.fromkeys(args.rules)), results)
    results.picture("angles", figure_of_angles(result))
    results.picture("steps", figure_of_steps())
    compared = compare(result)
    results.table("compared", compared)
    print(
        f"Invariance (relative change up to {TOLERANCE:g}), as eps -> 0 and with the defaults:\n{show(result.invariance)}"
    )
    steps = compared[compared.index.str.contains("one step|angle")]
    print(f"\nParameters after one step, and angles, beside what the formulas say:\n{experiment.show(steps)}")
    print(f"\n{WORDS}\n\n{experiment.require(compared)}\n{results}")


WORDS = """\
Adam's first step is the learning rate times the sign: the same for both functions, and along the gradient only where its coordinates are
equal. Rules that divide each coordinate by the size of its own gradients do not see a rescaling of coordinates; NovoGrad, which divides a
layer by its norm, does not see a common factor; SGD, momentum, and RAdam's first steps see both. In the picture momentum's updates point
uphill (above 90 degrees) while it swings, and Adam's and Lion's near the minimum, where gradients change sign from step to step."""

if __name__ == "__main__":
    main()
