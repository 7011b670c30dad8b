"""Tunes eight rules on scikit-learn's handwritten digits, each over 13 learning rates and 3 seeds in one compiled program.

    python examples/tune_digits.py
    python examples/tune_digits.py --rules adam lion --epochs 10 --seeds 5 --learning-rates 25

The validation split chooses the learning rate; the test split is only reported. Writes lanes.csv, one row a lane, and sensitivity.png, how
much each rule's result depends on the learning rate, into results/tune_digits. With --resume DIR it may be killed and go on.
"""

import argparse
import pathlib
import time

import jax
import jax.numpy as jnp
import optax
import pandas as pd
from jax.tree_util import Partial
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import adamx
from adamx import files, plot, sweep

RULES = ("adam", "amsgrad", "yogi", "adabelief", "nadam", "radam", "lion", "adopt")
OUT, BATCH = pathlib.Path("results/tune_digits"), 64


def digits():
    """The 1797 digits as {"train" (60 %), "validation" (20 %), "test" (20 %)}: (images (n, 64), standardised, labels (n,)); stratified."""
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
    """Loss and error on each split."""
    ends = {name: loss_and_error(params, *split) for name, split in splits.items()}
    return {f"{name}_{what}": v for name, end in ends.items() for what, v in zip(("loss", "error"), end, strict=True)}


def leaderboard(result):
    """The best learning rate of each rule by the validation loss, and the test accuracy there (mean and sd over seeds); best rule first."""
    rows, table = [], result.table().groupby("name")
    for best in sorted((result.best(name, "validation_loss") for name in result.constructors), key=lambda b: b.mean):
        right, died = pd.Series(100 - result.final("test_error")[best.index]), table.get_group(best.name).died_at
        numbers = f"{best.row['learning_rate']:.2g}", f"{best.mean:.4f}", f"{right.mean():.2f} ± {right.std():.2f} %"
        rows.append((best.name, *numbers, f"{died.count()} of {len(died)}"))
    return pd.DataFrame(rows, columns=["rule", "learning rate", "validation loss", "test accuracy", "diverged lanes"])


def main(arguments=None):
    """Runs the sweep, writes table and picture, prints the leaderboard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", default=RULES, choices=adamx.CATALOGUE, metavar="RULE")
    for name, count in (("epochs", 40), ("seeds", 3), ("learning-rates", 13)):
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N", help=f"{count} unless given")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, metavar="DIR")
    parser.add_argument("--resume", type=pathlib.Path, metavar="DIR", help="where to keep what is finished, and go on")
    options, begun, splits = parser.parse_args(arguments), time.perf_counter(), digits()
    measure, rates = Partial(evaluate, splits), sweep.log(1e-4, 1)
    task = sweep.arrays(network, lambda params, b: loss_and_error(params, *b)[0], splits["train"], BATCH, measure)
    spaces = {name: sweep.space(getattr(adamx, name), learning_rate=rates) for name in options.rules}
    points = {name: space.grid(learning_rate=options.learning_rates) for name, space in spaces.items()}
    steps = options.epochs * (len(splits["train"][1]) // BATCH)
    result = sweep.run(task, points, steps=steps, seeds=options.seeds, directory=options.resume)
    files.write_csv(result.table(), options.out / "lanes.csv", index=False)
    plot.save(sweep.sensitivity(result, "test_error", chosen_by="validation_loss"), options.out / "sensitivity.png")
    print(leaderboard(result).to_string(index=False))
    print(f"{result.died_at.size} networks in {time.perf_counter() - begun:.0f} s; table and picture in {options.out}")


if __name__ == "__main__":
    main()
