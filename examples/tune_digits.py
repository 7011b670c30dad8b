"""Tunes eight rules on scikit-learn's handwritten digits, each over 13 learning rates and 3 seeds in one compiled program.

    python examples/tune_digits.py
    python examples/tune_digits.py --rules adam lion --epochs 10 --seeds 5 --learning-rates 25

A rule is data: `adamx.create("adam", rates)` holds all learning rates in one leaf, so `jax.vmap` over the rule and over the seeds trains
every lane (one learning rate, one seed) at once. The learning rate is chosen by the validation split; the test split is only reported.

Writes, into results/tune_digits: lanes.csv, one row a lane, rewritten after each rule; and sensitivity.png, how much each rule's result
depends on the learning rate.
"""

import functools
import time

import experiment
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

import adamx
from adamx import plot

RULES = ("adam", "amsgrad", "yogi", "adabelief", "nadam", "radam", "lion", "adopt")
EPOCHS = 40
PIXELS, HIDDEN, CLASSES, BATCH = 64, 64, 10, 64


# The problem, for one network


@functools.cache
def digits():
    """The 1797 digits as {"train" (60 %), "validation" (20 %), "test" (20 %)}: (images (n, 64) float32, labels (n,) int32).

    The splits are fixed and stratified; pixels are standardised by the training split.
    """
    from sklearn.datasets import load_digits  # takes a second: after the arguments are checked
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    mean, sd = x.mean(0), x.std(0)
    sd[sd == 0] = 1  # pixels at the rim that are always empty
    splits = {"train": (x, y), "validation": (x_val, y_val), "test": (x_test, y_test)}
    return {name: (jnp.float32((x - mean) / sd), jnp.int32(y)) for name, (x, y) in splits.items()}


def network(seed):
    """Parameters of a network 64-64-10, weights of variance 1 / fan-in."""
    first, second = jax.random.split(jax.random.key(seed))
    return {
        "w1": jax.random.normal(first, (PIXELS, HIDDEN)) / np.sqrt(PIXELS),
        "b1": jnp.zeros(HIDDEN),
        "w2": jax.random.normal(second, (HIDDEN, CLASSES)) / np.sqrt(HIDDEN),
        "b2": jnp.zeros(CLASSES),
    }


def batches(seed, number):
    """Rows of the training split in the batches of epoch `number`, shuffled: int array (steps, BATCH)."""
    size = len(digits()["train"][1])
    order = np.random.default_rng([seed, number]).permutation(size)
    return order[: size // BATCH * BATCH].reshape(-1, BATCH)


def loss_and_accuracy(params, x, y):
    """Mean cross-entropy and accuracy, scalars, on images x (n, 64) with labels y (n,)."""
    logits = jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return jnp.mean(loss), jnp.mean(logits.argmax(-1) == y)


def begin(rule, params):
    """One lane before training: (parameters, the rule's state)."""
    return params, rule.init(params)


def epoch(rule, lane, rows, images, labels):
    """One lane after training on the batches `rows`."""

    def step(lane, rows):
        params, state = lane
        grads, _ = jax.grad(loss_and_accuracy, has_aux=True)(params, images[rows], labels[rows])
        return rule.step(grads, state, params), None

    return jax.lax.scan(step, lane, rows)[0]


# The same for all lanes: learning rates along the first axis, seeds along the second


@jax.jit
def begin_all(rules, params):
    """`begin` of every lane; `params` has an axis of seeds."""
    per_seed = jax.vmap(begin, in_axes=(None, 0))
    return jax.vmap(per_seed, in_axes=(adamx.axes_of(rules), None))(rules, params)


@jax.jit
def epoch_all(rules, lanes, rows, images, labels):
    """`epoch` of every lane: the one program in which all learning rates and seeds of a rule train. `rows` has an axis of seeds."""
    per_seed = jax.vmap(epoch, in_axes=(None, 0, 0, None, None))
    per_rate = jax.vmap(per_seed, in_axes=(adamx.axes_of(rules), 0, None, None, None))
    return per_rate(rules, lanes, rows, images, labels)


@jax.jit
def evaluate_all(params, splits):
    """{split: (losses, accuracies)} of every lane, each (learning rates, seeds)."""
    over = jax.vmap(jax.vmap(loss_and_accuracy, in_axes=(0, None, None)), in_axes=(0, None, None))
    return {name: over(params, *data) for name, data in splits.items()}


def tune(bar, name, rates, seeds, epochs):
    """Trains all lanes of one rule.

    Args:
      bar: An `experiment.Bar` of epochs.
      name: The rule's name in the catalogue.
      rates: Learning rates (n,).
      seeds: Seeds (m,) of the initial parameters and of the shuffling.
      epochs: Number of passes through the training split.

    Returns:
      A table of n m rows, one a lane; see `run`.
    """
    splits = digits()
    rules = adamx.create(name, jnp.float32(rates))
    lanes = begin_all(rules, jax.vmap(network)(jnp.asarray(seeds)))
    for number in range(epochs):
        rows = np.stack([batches(seed, number) for seed in seeds])
        lanes = bar.done(epoch_all(rules, lanes, rows, *splits["train"]))
    results = jax.tree.map(np.ravel, evaluate_all(lanes[0], splits))
    (train_loss, _), (val_loss, val_accuracy) = results["train"], results["validation"]
    return pd.DataFrame(
        {
            "rule": name,
            "learning_rate": np.repeat(rates, len(seeds)),
            "seed": np.tile(seeds, len(rates)),
            "train_loss": train_loss,
            "validation_loss": val_loss,
            "validation_accuracy": val_accuracy,
            "test_accuracy": results["test"][1],
            "diverged": ~np.isfinite(train_loss),
        }
    )


# The whole experiment


def run(rules=RULES, learning_rates=13, seeds=3, epochs=EPOCHS, results=experiment.Results()):  # noqa: B008
    """Tunes each of `rules` in turn, with a progress bar.

    Args:
      rules: Names in the catalogue.
      learning_rates: How many, evenly spaced in logarithm from 1e-4 to 1.
      seeds: How many.
      epochs: Passes through the training split.
      results: Takes the table of lanes, rewritten after each rule.

    Returns:
      The table of all lanes: rule, learning_rate, seed, train_loss, validation_loss, validation_accuracy, test_accuracy, diverged (the
      training loss is not finite).
    """
    rates, finished = np.geomspace(1e-4, 1, learning_rates), []
    with experiment.Bar(total=len(rules) * epochs, unit="epoch") as bar:
        for name in rules:
            bar.set_description(f"{name}, {learning_rates * seeds} lanes")
            finished.append(tune(bar, name, rates, np.arange(seeds), epochs))
            results.table("lanes", lanes := pd.concat(finished, ignore_index=True), index=False)
    return lanes


def leaderboard(result):
    """One row a rule, at the learning rate of least mean validation loss; sorted by that loss.

    Columns: rule, learning_rate, validation_loss, test_mean and test_sd (test accuracy over the seeds, with the sample's standard
    deviation), diverged (how many of the rule's lanes), lanes.
    """
    loss = result.validation_loss.where(~result.diverged, np.inf)
    means = (
        result.assign(validation_loss=loss)
        .groupby(["rule", "learning_rate"])
        .agg(
            validation_loss=("validation_loss", "mean"),
            test_mean=("test_accuracy", "mean"),
            test_sd=("test_accuracy", "std"),
        )
    )
    best = means.loc[means.groupby("rule").validation_loss.idxmin()].reset_index("learning_rate")
    lanes = result.groupby("rule").diverged.agg(diverged="sum", lanes="size")
    return best.join(lanes).sort_values("validation_loss").reset_index()


def show(board):
    """A leaderboard as text."""
    lines = [f"{'rule':<11}{'learning rate':>14}{'validation loss':>18}{'test accuracy':>18}{'diverged lanes':>17}"]
    for row in board.itertuples():
        spread = "" if np.isnan(row.test_sd) else f" ± {100 * row.test_sd:.2f}"  # of a single seed there is none
        accuracy = f"{100 * row.test_mean:.2f}{spread} %"
        diverged = f"{row.diverged} of {row.lanes}"
        lines.append(
            f"{row.rule:<11}{row.learning_rate:>14.2g}{row.validation_loss:>18.4f}{accuracy:>18}{diverged:>17}"
        )
    return "\n".join(lines)


def figure(result):
    """Test error against learning rate: a line a rule (mean over seeds, band from least to most), a cross above where a lane diverged."""
    rates, rules = sorted(result.learning_rate.unique()), list(result.rule.unique())
    grid = {name: result[result.rule == name].pivot(index="learning_rate", columns="seed") for name in rules}
    board = leaderboard(result).set_index("rule")
    return plot.sensitivity(
        {name: rates for name in rules},
        {name: 100 * (1 - grid[name].test_accuracy.to_numpy()) for name in rules},
        y_label="test error (%)",
        log_y=True,
        chosen={name: rates.index(board.learning_rate[name]) for name in rules},
        chosen_by="chosen: least validation loss",
        diverged={name: grid[name].diverged.to_numpy(bool) for name in rules},
    )


def main(arguments=None):
    """Runs the experiment, prints the leaderboard and writes table and picture."""
    parser = experiment.Parser(__doc__, out="tune_digits")
    many = experiment.number(most=10_000)
    parser.add_argument("--rules", nargs="+", default=RULES, choices=adamx.CATALOGUE, metavar="RULE")
    parser.add_argument("--epochs", type=many, default=EPOCHS)
    parser.add_argument("--seeds", type=many, default=3)
    parser.add_argument("--learning-rates", type=many, default=13, metavar="N", help="how many, from 1e-4 to 1")
    options = parser.parse_args(arguments)
    results, begun = experiment.Results(options.out), time.perf_counter()
    rules = list(dict.fromkeys(options.rules))
    lanes = run(rules, options.learning_rates, options.seeds, options.epochs, results)
    results.picture("sensitivity", figure(lanes))
    print(show(leaderboard(lanes)))
    print(f"{len(lanes)} networks in {time.perf_counter() - begun:.0f} s; {results}")


if __name__ == "__main__":
    main()
