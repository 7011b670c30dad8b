"""Adam does not follow the gradient: what a rescaling of the gradient does to the update, measured for every rule of the catalogue.

    python examples/rescaling_invariance.py
    python examples/rescaling_invariance.py --steps 1000 --tensorboard

Two functions of t in R^2, sum of t^2 * (1, 1) and sum of t^2 * (2, 1/2), have the gradients (2, 2) and (4, 1) at (1, 1). SGD steps along
them. Adam's first step is the same for both, lr sign(g): it divides each coordinate by the size of that coordinate's own gradients, so
multiplying a coordinate's gradients by a constant changes nothing (as eps -> 0).

Writes, into results/rescaling_invariance: invariance.csv, one row a rule, rewritten after each rule; angles.csv and angles.png, the angle
between the update and the negative gradient along a run on an ill-conditioned quadratic.
"""

import argparse
import dataclasses
import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from comparing import close
from tqdm import tqdm

import adamx
from adamx import files, plot, probes, problems

OUT = pathlib.Path("results/rescaling_invariance")
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


def first_steps():
    """SGD (learning rate 0.1) and Adam (its defaults) on both functions: name -> parameters after one step from (1, 1)."""
    start, rules = jnp.ones(2), {"sgd": adamx.sgd(0.1), "adam": adamx.adam(1e-3)}
    losses = {"f_s": lambda t: jnp.sum(t**2), "f_a": lambda t: 2 * t[0] ** 2 + t[1] ** 2 / 2}
    after = lambda rule, loss: np.asarray(rule.step(jax.grad(loss)(start), rule.init(start), start)[0])  # noqa: E731
    return {f"{r} on {f}": after(rule, loss) for r, rule in rules.items() for f, loss in losses.items()}


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


def measure(name, steps=20, learning_rate=0.01):
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


def angles(problem, rules, steps):
    """Angle (degrees) of update and negative gradient in each step of a run on `problem`: a table, one column a rule."""
    start, key = jnp.array(problem.start), jax.random.key(0)

    @jax.jit
    def cosines(probed):
        def step(carry, t):
            params, state = carry
            updates, state, measured = probed.trace(jax.grad(problem.loss)(params, key, t), state, params)
            return (params + updates, state), measured["alignment"]

        return jax.lax.scan(step, (start, probed.init(start)), jnp.arange(1, steps + 1))[1]

    of = lambda rule: np.degrees(np.arccos(np.clip(cosines(probes.probe(rule, probes.alignment)), -1, 1)))  # noqa: E731
    return pd.DataFrame({name: of(rule) for name, rule in rules.items()}, pd.RangeIndex(1, steps + 1, name="step"))


# The whole experiment


def run(steps=300, rules=tuple(adamx.CATALOGUE), out=None):
    """Measures everything, with a progress bar.

    Args:
      steps: Steps of the runs whose angles are measured.
      rules: Names in the catalogue, for the table of invariance.
      out: Folder where finished parts are written; None for none.

    Returns:
      A `Result`.
    """
    rows = []
    for name in tqdm(rules, unit="rule"):
        rows.append(measure(name))
        invariance = pd.DataFrame(rows).set_index("rule")
        if out is not None:
            files.write_csv(invariance, out / "invariance.csv")
    quadratic = problems.quadratic(CONDITION, DIMENSION)
    axes = {"along the coordinates": quadratic, "turned": turned(quadratic)}
    measured = {name: angles(problem, RULES, steps) for name, problem in axes.items()}
    if out is not None:
        files.write_csv(pd.concat(measured, names=["axes"]), out / "angles.csv")
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


def check(result):
    """Checks every number that the experiment has a reference for, and says which.

    Raises:
      AssertionError: naming what was expected, what was got, and the tolerance.
    """
    for name, expected in EXPECTED_STEPS.items():
        close(f"parameters after one step of {name}", result.first_steps[name], expected, 1e-6)
    rules = [name for name in EXPECTED_INVARIANCE if name in result.invariance.index]
    for name in rules:
        row, (scalar, diagonal, first) = result.invariance.loc[name], EXPECTED_INVARIANCE[name]
        for kind, expected, got in (("number", scalar, row.scalar), ("diagonal matrix", diagonal, row.diagonal)):
            assert (got <= TOLERANCE) == expected, (
                f"{name}: expected its updates {'not ' * (not expected)}to be invariant to gradients times a {kind}, "
                f"got a relative change of {got:.3g} (tolerance {TOLERANCE:g})"
            )
        close(
            f"{name}, first step / (lr sign(g))", row["first"], np.nan if first is None else first, 1e-5, equal_nan=True
        )
    curvatures = np.geomspace(1 / CONDITION, 1, DIMENSION)
    of_sign = np.degrees(np.arccos(curvatures.sum() / np.sqrt(DIMENSION) / np.linalg.norm(curvatures)))
    for axes, table in result.angles.items():
        close(f"greatest angle of sgd, axes {axes}, degrees", table["sgd"].max(), 0.0, 0.1)
    close("angle of adam's first step, degrees", result.angles["along the coordinates"]["adam"].iloc[0], of_sign, 0.1)
    print(
        f"checked: one step of SGD and Adam on two functions (to 1e-6); invariance and first step of {len(rules)} rules "
        f"(to {TOLERANCE:g} and 1e-5); angle to the negative gradient {of_sign:.1f} degrees for Adam's first step, 0 for SGD (to 0.1)."
    )


def show(invariance):
    """The table of invariance as text."""
    invariant = lambda change: "yes" if change <= TOLERANCE else f"no ({change:.2g})"  # noqa: E731
    size = lambda first: "no" if np.isnan(first) else "no step" if first == 0 else f"{first:.4g} lr sign(g)"  # noqa: E731
    heads = ("g -> c g", "g -> diag(c) g", "c g, defaults", "diag(c) g, defaults")
    kinds = ("scalar", "diagonal", "scalar_default", "diagonal_default")
    shown = {head: invariance[kind].map(invariant) for head, kind in zip(heads, kinds, strict=True)}
    return pd.DataFrame(shown | {"first step": invariance["first"].map(size)}).to_string()


def figure(result, path):
    """Draws the angles into `path`; returns the path."""
    label = "angle to -gradient (degrees)"
    panels = [(label, {name: (table.index, table[name]) for name in table}) for table in result.angles.values()]
    picture = plot.curves(panels, log_x=True, columns=6)
    for ax, axes in zip(picture.axes, result.angles, strict=True):
        ax.set(title=f"quadratic with axes {axes}", ylim=(-4, 180), yticks=range(0, 181, 30))
    for lines in (*(ax.lines for ax in picture.axes), picture.legends[0].get_lines()):
        for line, dash in zip(lines[-3:], plot.DASHES[:3], strict=True):  # they coincide on the left
            line.set_linestyle(dash)
    return plot.save(picture, path)


def main(argv=None):
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="steps of the runs whose angles are measured")
    parser.add_argument("--rules", nargs="+", default=tuple(adamx.CATALOGUE), choices=adamx.CATALOGUE, metavar="RULE")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, metavar="DIR")
    parser.add_argument("--tensorboard", action="store_true", help="also write the angles as TensorBoard event files")
    args = parser.parse_args(argv)
    result = run(args.steps, args.rules, args.out)
    for name, params in result.first_steps.items():
        print(f"after one step of {name}: {params}")
    print(show(result.invariance))
    check(result)
    print(f"wrote {figure(result, args.out / 'angles.png')}")
    if args.tensorboard:
        curves = {f"{axes}/{name}": table[name] for axes, table in result.angles.items() for name in table}
        probes.write_tensorboard(args.out / "tensorboard", curves)


if __name__ == "__main__":
    main()
