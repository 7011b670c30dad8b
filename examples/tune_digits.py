"""Tunes eight rules on scikit-learn's handwritten digits, each over 13 learning rates and 3 seeds in one compiled program.

    python examples/tune_digits.py [--rules adam lion] [--epochs 10] [--seeds 5] [--learning-rates 25] [--out DIR]

The validation split chooses, the test split is reported. Writes lanes.csv and sensitivity.png; interrupted, it goes on when run again.
"""

import time

import experiment
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

import adamx
from adamx import sweep

RULES = ("adam", "amsgrad", "yogi", "adabelief", "nadam", "radam", "lion", "adopt")


def digits():
    """The 1797 digits as {"train" (60 %), "validation" (20 %), "test" (20 %)}: (images (n, 64), standardised, labels (n,)); stratified."""
    from sklearn.datasets import load_digits  # takes a second: after the arguments are checked
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    mean, sd = x.mean(0), x.std(0) + (x.std(0) == 0)  # pixels at the rim are always empty
    splits = {"train": (x, y), "validation": (x_val, y_val), "test": (x_test, y_test)}
    return {name: (jnp.float32((x - mean) / sd), jnp.int32(y)) for name, (x, y) in splits.items()}


def network(key):
    """Parameters of a network 64-64-10, weights of variance 1 / fan-in."""
    weights = jax.random.normal(key, (64, 74)) / 8
    return {"w1": weights[:, :64], "b1": jnp.zeros(64), "w2": weights[:, 64:], "b2": jnp.zeros(10)}


def loss_and_error(params, x, y):
    """Mean cross-entropy and share of errors in per cent, scalars, on images x (n, 64) with labels y (n,)."""
    logits = jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), 100 * jnp.mean(logits.argmax(-1) != y)


def evaluate(splits, params):
    """{"train_loss": ..., "train_error": ..., "validation_loss": ...}."""
    ends = {name: loss_and_error(params, *split) for name, split in splits.items()}
    return {f"{name}_{what}": end[i] for name, end in ends.items() for i, what in enumerate(("loss", "error"))}


def leaderboard(result):
    """Each rule at its best learning rate by the validation loss: that loss, test accuracy (mean and sd over seeds); best rule first."""
    scores, errors, rows = result.scores("validation_loss"), result.final("test_error"), []
    for name in result.constructors:
        own = np.flatnonzero(np.array(result.names) == name)
        best, died = own[scores[own].argmin()], result.died_at[own] >= 0
        right, rate = 100 - pd.Series(errors[best]), result.rows[best]["learning_rate"]
        accuracy = f"{right.mean():.2f} ± {right.std():.2f} %".replace(" ± nan", "")  # of a single seed there is none
        rows.append((name, f"{rate:.2g}", scores[best], accuracy, f"{died.sum()} of {died.size}"))
    columns = ["rule", "learning rate", "validation loss", "test accuracy", "diverged lanes"]
    return pd.DataFrame(rows, columns=columns).sort_values("validation loss").round(4)


def main(arguments=None):
    """Runs the sweep, writes table and picture, prints the leaderboard."""
    parser = experiment.Parser(__doc__, out="tune_digits")
    parser.add_argument("--rules", nargs="+", default=RULES, choices=adamx.CATALOGUE, metavar="RULE")
    for name, count in ("epochs", 40), ("seeds", 3), ("learning-rates", 13):
        parser.add_argument(f"--{name}", type=experiment.number(most=10_000), default=count, metavar="N")
    options, begun, splits = parser.parse_args(arguments), time.perf_counter(), digits()
    results, measure = experiment.Results(options.out), jax.tree_util.Partial(evaluate, splits)
    task = sweep.arrays(network, lambda params, b: loss_and_error(params, *b)[0], splits["train"], 64, measure)
    spaces = {name: sweep.space(getattr(adamx, name), learning_rate=sweep.log(1e-4, 1)) for name in options.rules}
    points = {name: space.grid(learning_rate=options.learning_rates) for name, space in spaces.items()}
    steps = options.epochs * (len(splits["train"][1]) // 64)
    look = {"chosen_by": "validation_loss", "label": "test error (%)"}
    with parser.refusing(), results.unfinished() as folder:
        result = sweep.run(task, points, steps=steps, seeds=options.seeds, directory=folder)
        results.table("lanes", result.table(), index=False)
        results.picture("sensitivity", sweep.sensitivity(result, "test_error", **look))
    print(leaderboard(result).to_string(index=False))
    print(f"{result.died_at.size} networks in {time.perf_counter() - begun:.0f} s; {results}")


if __name__ == "__main__":
    main()
