"""Adam and Yogi on NASA's airfoil data, as in Dive into Deep Learning, section 12.10, over 50 seeds at once.

    python examples/airfoil.py
    ADAMX_DATA=some/folder python examples/airfoil.py --seeds 8

A linear regression of an airfoil's noise on five of its properties. "From scratch" is the book's way, the update written out below;
"concise" has the library's rule in its place. All seeds of a rule train in one compiled program. The section's exercises are in
airfoil_exercises.py. Writes, into results/airfoil: runs.csv, last losses and speed; losses.npz, all losses; losses.png.

The data are beside this script, in data/ (its README.md says whose they are), or in the folder $ADAMX_DATA if that is set.
"""

import functools
import hashlib
import math
import os
import pathlib
import time
from typing import NamedTuple

import experiment
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

import adamx
from adamx import files, plot

FILE, SHA1 = "airfoil_self_noise.dat", "76e5be1548fd8222e5074cf0faae75edff8cf93f"
ROWS, BATCH, EVERY = 1500, 10, 200


# Data


def data_file():
    """Path of the data file.

    Raises:
      FileNotFoundError: it is not in $ADAMX_DATA.
      ValueError: what is there is another file.
    """
    path = pathlib.Path(os.environ.get("ADAMX_DATA") or pathlib.Path(__file__).parent / "data", FILE)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; unset ADAMX_DATA to use the copy beside the examples.")
    if (got := hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()) != SHA1:
        raise ValueError(f"{path} is not the file expected: sha1 {got} instead of {SHA1}.")
    return path


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


def starts(seeds, course):
    """What each seed draws: first parameters, and the rows of all batches (seeds, evaluations, batches, 10). One program for all rules."""
    return _starts(jnp.asarray(seeds), course.epochs, course.bias)


@functools.partial(jax.jit, static_argnames="epochs")
def _starts(seeds, epochs, bias):
    def start(seed):
        for_w, for_b, for_order = jax.random.split(jax.random.key(seed), 3)
        w, b = 0.01 * jax.random.normal(for_w, (5,)), bias * jax.random.uniform(for_b, minval=-1)
        order = jax.vmap(jax.random.permutation, (0, None))(jax.random.split(for_order, epochs), ROWS)
        return {"w": w, "b": b}, order.reshape(-1, EVERY // BATCH, BATCH)

    return jax.vmap(start)(seeds)


def train(tx, start, data, course):
    """Trains one lane from one of `starts`: losses on all rows after every 200 examples, shape (7.5 epochs,)."""
    x, y = jax.tree.map(jnp.asarray, data)
    params, batches = start

    def step(carry, rows):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, x[rows], y[rows], course.factor), state, params)
        return (optax.apply_updates(params, updates), state), None

    def evaluate(carry, batches):
        carry, _ = jax.lax.scan(step, carry, batches)
        return carry, loss(carry[0], x, y)

    return jax.lax.scan(evaluate, (params, tx.init(params)), batches)[1]


def train_seeds(tx, starts, data, course):
    """`train` for every seed: losses (seeds, evaluations)."""
    return jax.vmap(lambda start: train(tx, start, data, course))(starts)


def epochs_of(losses):
    """Epochs at which the last axis of `losses` was measured."""
    return np.arange(1, losses.shape[-1] + 1) * EVERY / ROWS


def least_squares(data):
    """Coefficients (5 + 1,) of the best linear regression, its loss, and the loss of zeros."""
    x, y = data
    best, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)
    return best, *(np.mean((x @ w[:-1] + w[-1] - y) ** 2) / 2 for w in (best, np.zeros(6)))


# The experiment


class Run(NamedTuple):
    """All seeds of one rule.

    Attributes:
      losses: Array (seeds, evaluations).
      compile_seconds: Time to trace and compile the program: of the first call, less that of another.
      epochs_per_second: Of all seeds together, best of three calls, the shuffles drawn before.
    """

    losses: np.ndarray
    compile_seconds: float
    epochs_per_second: float


def train_rule(bar, tx, course, starts, data, calls=4):
    """Compiles one rule's program for all seeds, and calls it `calls` times: a `Run`."""
    program, seconds = jax.jit(functools.partial(train_seeds, tx, course=course)), []
    for _ in range(calls):
        begun = time.perf_counter()
        losses = bar.done(program(starts, data))
        seconds.append(time.perf_counter() - begun)
    first, *others = seconds
    return Run(np.asarray(losses), first - min(others), len(losses) * course.epochs / min(others))


def run(seeds=50, results=experiment.Results()):  # noqa: B008
    """Trains all seeds of both rules in both courses, with a progress bar.

    Args:
      seeds: How many.
      results: Takes runs.csv and losses.npz, rewritten after each rule, and mean losses for TensorBoard.

    Returns:
      (course, rule) -> `Run`.
    """
    data, runs = load(), {}

    def save(path):
        with files.whole(path) as temporary:
            np.savez(temporary, **{", ".join(key): one.losses for key, one in runs.items()})

    with experiment.Bar(total=4 * sum(len(course.rules) for course in COURSES.values()), unit="run") as bar:
        for name, course in COURSES.items():
            drawn = starts(jnp.arange(seeds), course)
            for rule, tx in course.rules.items():
                bar.set_description(f"{rule}, {name}")
                runs[name, rule] = train_rule(bar, tx, course, drawn, data)
                results.table("runs", summary(runs))
                results.keep("losses.npz", save)
    for (name, rule), one in runs.items():
        results.curves(rule, {f"loss/{name}": one.losses.mean(axis=0)}, np.round(epochs_of(one.losses) * ROWS))
    return runs


def summary(runs):
    """Last losses, beside the published ones, and speed, one row a run."""
    losses = pd.DataFrame({key: np.float64(one.losses[:, -1]) for key, one in runs.items()})
    table = losses.agg(["mean", "std", "min", "max"]).T.rename_axis(["course", "rule"])
    table["published"] = ["  ".join(f"{x:.3f}" for x in PUBLISHED.get(key, ())) for key in runs]
    table[["compile_seconds", "epochs_per_second"]] = [one[1:] for one in runs.values()]
    return table.assign(times_published=table.epochs_per_second / PUBLISHED_SPEED)


SOLUTION, FLOOR, AT_ZERO = (-0.5832, -0.3655, -0.4843, 0.2239, -0.2713, 0.00197), 0.241688, 0.49326
REFERENCE = {
    ("from scratch", "adam"): (0.24371, 0.0013, 0.2481),
    ("from scratch", "yogi"): (0.24359, 0.0012, 0.2476),
    ("concise", "adam"): (0.24415, 0.0022, 0.2516),
}
"""Last loss over 50 seeds in float64, computed without adamx: mean, standard deviation, greatest."""
PUBLISHED = {
    ("from scratch", "adam"): (0.243, 0.243, 0.242),
    ("from scratch", "yogi"): (0.243, 0.248, 0.244),
    ("concise", "adam"): (0.243, 0.244, 0.246),
}
"""Last losses printed in the book, of one seed each, in its three frameworks."""
PUBLISHED_SPEED = 1 / 0.15  # epochs a second of one seed in the fastest of the book's versions, PyTorch


def compare(result):
    """Every number that the experiment has a reference for, except the speed: a table of `experiment.compare`."""
    solution, *losses = least_squares(load())
    names = (*(f"coefficient {i + 1} of the least squares" for i in range(5)), "its bias")
    rows = [(*row, 5e-5) for row in zip(names, solution, SOLUTION, strict=True)]
    rows += [("its loss", losses[0], FLOOR, 5e-6), ("loss of zeros", losses[1], AT_ZERO, 5e-6)]
    for (course, rule), (mean, sd, greatest) in REFERENCE.items():
        name, losses = f"{rule}, {course}: last loss,", result[course, rule].losses[:, -1]
        rows.append((f"{name} mean of {len(losses)} seeds", losses.mean(), mean, 2 * sd / math.sqrt(len(losses))))
        rows.append((f"{name} greatest, up to {greatest}", losses.max(), min(losses.max(), greatest), 2 * sd))
    least = min(one.losses.min() for one in result.values())
    return experiment.compare(
        [*rows, ("least loss of all, if below that of least squares", min(FLOOR, least), FLOOR, 1e-6)]
    )


def figure(result):
    """The losses (mean over seeds, band of 90 %) beside the published last ones."""
    panels = {}
    for (course, rule), one in result.items():
        panel = panels.setdefault(course, plot.Panel("loss", {}, course, {"least\nsquares": FLOOR}, {}, (0.24, 0.26)))
        panel.series[rule] = epochs_of(one.losses), one.losses
        if (course, rule) in PUBLISHED:
            beside = (1 + 0.03 * len(panel.points)) * epochs_of(one.losses)[-1]
            panel.points[f"{rule}, published"] = np.full(3, beside), PUBLISHED[course, rule]
    picture = plot.curves(panels.values(), x_label="epoch", columns=3)
    for ax in picture.axes:
        ax.xaxis.set_major_formatter("{x:g}")
    return picture


def main(argv=None):
    """The command."""
    parser = experiment.Parser(__doc__, out="airfoil", tensorboard=True)
    parser.add_argument("--seeds", type=experiment.number(most=10_000), default=50)
    args = parser.parse_args(argv)
    with parser.refusing():
        data_file()
    results = experiment.Results(args.out, args.tensorboard)
    result = run(args.seeds, results)
    results.picture("losses", figure(result))
    compared = compare(result)
    results.table("compared", compared)
    print(
        f"Last losses of {args.seeds} seeds, beside those printed in the book:\n{summary(result).round(5).to_string()}"
    )
    print(f"\nBeside the reference:\n{experiment.show(compared)}\n\n{experiment.require(compared)}\n{results}")


if __name__ == "__main__":
    main()
