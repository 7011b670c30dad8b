"""Adam and Yogi on NASA's airfoil data, as in Dive into Deep Learning, section 12.10, over 50 seeds at once.

    python examples/airfoil.py
    ADAMX_DATA=some/folder python examples/airfoil.py --seeds 8

A linear regression of an airfoil's noise on five of its properties. "From scratch" is the book's way, the update written out below;
"concise" has the library's rule in its place. All seeds of a rule train in one compiled program. The section's exercises are in
airfoil_exercises.py. Writes, into results/airfoil: runs.csv, last losses and speed; losses.npz, all losses; losses.png.

The data are looked for in the folder $ADAMX_DATA, then in ~/.cache/adamx, and else downloaded.
"""

import argparse
import functools
import hashlib
import math
import os
import pathlib
import timeit
import urllib.request
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from comparing import close
from tqdm import tqdm

import adamx
from adamx import files, plot, probes

OUT, CACHE = pathlib.Path("results/airfoil"), pathlib.Path("~/.cache/adamx").expanduser()
FILE, SHA1 = "airfoil_self_noise.dat", "76e5be1548fd8222e5074cf0faae75edff8cf93f"
URL = f"http://d2l-data.s3-accelerate.amazonaws.com/{FILE}"
ROWS, BATCH, EVERY = 1500, 10, 200


# Data


def data_file():
    """Path of the data file, downloaded if need be.

    Raises:
      FileNotFoundError: it is nowhere, and there is no network; says what to do.
      ValueError: what was found is another file.
    """
    for folder in filter(None, (os.environ.get("ADAMX_DATA"), CACHE)):
        if (path := pathlib.Path(folder, FILE)).exists():
            _verify(path.read_bytes(), path)
            return path
    try:
        with urllib.request.urlopen(URL, timeout=30) as answer:
            content = answer.read()
    except OSError as error:
        raise FileNotFoundError(
            f"{FILE} is neither in $ADAMX_DATA nor in {CACHE}, and {URL} could not be reached ({error}). "
            "Fetch it where there is a network, put it into a folder, and set ADAMX_DATA to that folder."
        ) from None
    _verify(content, URL)
    with files.whole(CACHE / FILE) as temporary:
        temporary.write_bytes(content)
    return CACHE / FILE


def _verify(content, where):
    if (got := hashlib.sha1(content, usedforsecurity=False).hexdigest()) != SHA1:
        raise ValueError(f"{where} is not the file expected: sha1 {got} instead of {SHA1}. Fetch it from {URL}.")


def load():
    """(features (1500, 5), targets (1500,)), float64: columns standardised over all 1503 rows, then the first 1500 rows."""
    rows = np.loadtxt(data_file())
    rows = ((rows - rows.mean(0)) / rows.std(0))[:ROWS]
    return rows[:, :-1], rows[:, -1]


# The rules, from scratch and concise

adam_squares = lambda s, g, b2: b2 * s + (1 - b2) * g**2  # noqa: E731
yogi_squares = lambda s, g, b2: s + (1 - b2) * jnp.sign(g**2 - s) * g**2  # noqa: E731


def from_scratch(squares, eps, learning_rate=0.01, b1=0.9, b2=0.999):
    """Adam or Yogi by hand: any two functions `init` and `update` make a gradient transformation."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return zeros, zeros, jnp.int32(0)

    def update(grads, state, params=None):
        v, s, t = state
        t = t + 1
        v = jax.tree.map(lambda v, g: b1 * v + (1 - b1) * g, v, grads)
        s = jax.tree.map(lambda s, g: squares(s, g, b2), s, grads)
        step = lambda v, s: -learning_rate * v / (1 - b1**t) / (jnp.sqrt(s / (1 - b2**t)) + eps)  # noqa: E731
        return jax.tree.map(step, v, s), (v, s, t)

    return optax.GradientTransformation(init, update)


class Course(NamedTuple):
    """A way to train.

    Attributes:
      rules: Name -> gradient transformation.
      epochs: Passes through the data; even, for the last evaluation to fall on the last step.
      factor: Of the mean squared error in the loss whose gradient is taken. In what is reported it is 1/2.
      bias: Bound of the uniform distribution of the first bias.
    """

    rules: dict
    epochs: int = 2
    factor: float = 0.5
    bias: float = 0.0


CONCISE = {"adam": adamx.adam(0.01), "yogi": adamx.yogi(0.01, initial_accumulator_value=0)}
COURSES = {
    "from scratch": Course(
        {"adam": from_scratch(adam_squares, eps=1e-6), "yogi": from_scratch(yogi_squares, eps=1e-3)}
    ),
    "concise": Course(CONCISE, epochs=4, factor=1.0, bias=5**-0.5),
}


# Training


def loss(params, x, y, factor=0.5):
    """factor times the mean squared error of the linear regression."""
    return factor * jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def train(tx, seed, data, course):
    """Trains one lane on shuffled batches: losses on all rows after every 200 examples, shape (7.5 epochs,)."""
    x, y = jax.tree.map(jnp.asarray, data)
    for_w, for_b, for_order = jax.random.split(jax.random.key(seed), 3)
    w, b = 0.01 * jax.random.normal(for_w, x.shape[1:]), course.bias * jax.random.uniform(for_b, minval=-1)
    order = jax.vmap(jax.random.permutation, (0, None))(jax.random.split(for_order, course.epochs), len(x))
    params = {"w": w, "b": b}

    def step(carry, rows):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, x[rows], y[rows], course.factor), state, params)
        return (optax.apply_updates(params, updates), state), None

    def evaluate(carry, batches):
        carry, _ = jax.lax.scan(step, carry, batches)
        return carry, loss(carry[0], x, y)

    return jax.lax.scan(evaluate, (params, tx.init(params)), order.reshape(-1, EVERY // BATCH, BATCH))[1]


def train_seeds(tx, seeds, data, course):
    """`train` for every seed: losses (seeds, evaluations)."""
    return jax.vmap(lambda seed: train(tx, seed, data, course))(seeds)


def epochs_of(losses):
    """Epochs at which the last axis of `losses` was measured."""
    return np.arange(1, losses.shape[-1] + 1) * EVERY / ROWS


def least_squares(data):
    """Coefficients (5 + 1,) of the best linear regression, its loss, and the loss of zeros."""
    x, y = data
    best, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y)
    return best, *(np.mean((x @ w[:-1] + w[-1] - y) ** 2) / 2 for w in (best, np.zeros(6)))


# The experiment


class Run(NamedTuple):
    """All seeds of one rule.

    Attributes:
      losses: Array (seeds, evaluations).
      compile_seconds: Time to trace and compile the program: of the first call, less that of another.
      epochs_per_second: Of all seeds together, best of three calls.
    """

    losses: np.ndarray
    compile_seconds: float
    epochs_per_second: float


def train_rule(tx, course, seeds, data):
    """Compiles and runs one rule for all seeds: a `Run`."""
    program = jax.jit(functools.partial(train_seeds, tx, course=course))
    call = lambda: jax.block_until_ready(program(seeds, data))  # noqa: E731
    first, *others = timeit.repeat(call, number=1, repeat=4)
    return Run(np.asarray(call()), first - min(others), len(seeds) * course.epochs / min(others))


def run(seeds=50, out=None):
    """Trains all seeds of both rules in both courses, with a progress bar.

    Args:
      seeds: How many.
      out: Folder for runs.csv and losses.npz, rewritten after each rule; None for none.

    Returns:
      (course, rule) -> `Run`.
    """
    data, runs = load(), {}
    for name, rule in tqdm([(name, rule) for name, course in COURSES.items() for rule in course.rules]):
        runs[name, rule] = train_rule(COURSES[name].rules[rule], COURSES[name], jnp.arange(seeds), data)
        if out is not None:
            files.write_csv(summary(runs), out / "runs.csv")
            arrays = {", ".join(key): one.losses for key, one in runs.items()}
            with files.whole(out / "losses.npz") as temporary:
                np.savez(temporary, **arrays)
    return runs


def summary(runs):
    """Last losses and speed, one row a run."""
    losses = pd.DataFrame({key: np.float64(one.losses[:, -1]) for key, one in runs.items()})
    table = losses.agg(["mean", "std", "min", "max"]).T.rename_axis(["course", "rule"])
    table[["compile_seconds", "epochs_per_second"]] = [one[1:] for one in runs.values()]
    return table.assign(times_published=table.epochs_per_second / PUBLISHED_SPEED)


SOLUTION, FLOOR, AT_ZERO = (-0.5832, -0.3655, -0.4843, 0.2239, -0.2713, 0.00197), 0.241688, 0.49326
REFERENCE = {
    ("from scratch", "adam"): (0.24371, 0.0013, 0.2481),
    ("from scratch", "yogi"): (0.24359, 0.0012, 0.2476),
    ("concise", "adam"): (0.24415, 0.0022, 0.2516),
}
"""Last loss over 50 seeds in float64, computed without adamx: mean, standard deviation, greatest."""
PUBLISHED_SPEED = 1 / 0.15  # epochs a second of one seed in the fastest of the book's versions, PyTorch


def check(result):
    """Checks every number that the experiment has a reference for, except the speed, and says which.

    Raises:
      AssertionError: naming what was expected, what was got, and the tolerance.
    """
    solution, *losses = least_squares(load())
    close("coefficients of the least squares", solution, SOLUTION, 5e-5)
    close("their loss, and that of zeros", losses, (FLOOR, AT_ZERO), 5e-6)
    said = []
    for (course, rule), (mean, sd, greatest) in REFERENCE.items():
        name, losses = f"{rule}, {course}", result[course, rule].losses[:, -1]
        tolerance = 2 * sd / math.sqrt(len(losses))
        close(f"{name}: mean of the last loss of {len(losses)} seeds", losses.mean(), mean, tolerance)
        close(f"{name}: least and greatest", np.clip(losses, FLOOR, greatest), losses, 2 * sd)
        said.append(f"{name}: {losses.mean():.5f}, expected {mean} ± {tolerance:.5f}")
    close("least loss of all", min(FLOOR, *(one.losses.min() for one in result.values())), FLOOR, 1e-6)
    heading = "checked: the least squares (coefficients to 5e-5, losses to 5e-6); ranges of the last loss; its means:"
    print(heading, *said, sep="\n  ")


def figure(result, path):
    """Draws the losses, less that of the least squares (mean over seeds, band of 90 %), into `path`; returns the path."""
    panels = {course: {} for course, _ in result}
    for (course, rule), one in result.items():
        panels[course][rule] = epochs_of(one.losses), one.losses - FLOOR
    picture = plot.curves([("loss less that of least squares", lines) for lines in panels.values()], x_label="epoch")
    for ax, course in zip(picture.axes, panels, strict=True):
        ax.set(title=course, yscale="log")
        ax.xaxis.set_major_formatter("{x:g}")
    return plot.save(picture, path)


def main(argv=None):
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--out", type=pathlib.Path, default=OUT, metavar="DIR")
    parser.add_argument("--tensorboard", action="store_true", help="also write the mean losses as TensorBoard files")
    args = parser.parse_args(argv)
    result = run(args.seeds, out=args.out)
    print(summary(result).round(5).to_string())
    check(result)
    print(f"wrote {figure(result, args.out / 'losses.png')}")
    if args.tensorboard:
        for key, one in result.items():
            folder, examples = args.out / "tensorboard" / ", ".join(key), np.round(epochs_of(one.losses) * ROWS)
            probes.write_tensorboard(folder, {"loss": one.losses.mean(axis=0)}, examples)


if __name__ == "__main__":
    main()
