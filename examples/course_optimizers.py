"""SGD, Momentum, RMSProp and Adam as a deep-learning course teaches them (fast.ai): accuracies, and two claims put to test.

    python examples/course_optimizers.py
    python examples/course_optimizers.py --fashion-mnist some/folder --doublings 0     # its four IDX files; --download fetches them

A small convolutional network learns scikit-learn's handwritten digits, or Fashion-MNIST as in the course, for three epochs. All learning
rates and seeds of a rule train in one compiled program; the validation split chooses the learning rate. The claims: a constant gradient
gives RMSProp an update of the size of the learning rate; parameters with small gradients move as far as those with large ones. The course's
Adam has eps inside the root, unlike the paper's: both are run.

Writes, into results/course_optimizers: lanes.csv, one row a learning rate and seed, rewritten after each rule; constant_gradient.csv;
movement.csv and movement.png, how far parameters move against how large their gradients are.
"""

import functools
import math
import pathlib
from typing import NamedTuple

import experiment
import images
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

import adamx
from adamx import plot, probes

RULES = {
    "sgd": adamx.sgd,
    "momentum": functools.partial(adamx.momentum, b1=0.9),
    "rmsprop": functools.partial(adamx.rmsprop, decay=0.99, eps=1e-5, initial_scale="first", eps_in_sqrt=False),
    "adam": functools.partial(adamx.adam, b2=0.99, eps=0.0, eps_root=1e-5),
    "adam, eps outside": functools.partial(adamx.adam, b2=0.99, eps=1e-5),
}
PUBLISHED = {"sgd": (0.4, 0.852), "momentum": (1.5, 0.876), "rmsprop": (3e-3, 0.853), "adam": (6e-3, 0.871)}
"""Learning rate and final accuracy in the course: Fashion-MNIST, batches of 1024, 3 epochs, a network with batch normalisation."""
CENTRES = {name: PUBLISHED.get(name, PUBLISHED["adam"])[0] for name in RULES}
"""Learning rates about which each rule is tuned."""


# One lane: a learning rate and a seed


MEASURES = probes.gradient_rms, probes.update_rms


def begin(rule, data, seed):
    """One lane before training: parameters, state of the rule, and sums of |gradient| and |update| of every parameter."""
    params = images.network(jax.random.key(seed), data.train[0].shape[1])
    return params, rule.init(params), {m.name: jax.tree.map(jnp.zeros_like, params) for m in MEASURES}


def epoch(rule, lane, data, seed, number):
    """One lane after one more epoch of shuffled batches."""
    (x, y), probed = data.train, probes.probe(rule, *MEASURES, per="coordinate")
    order = jax.random.permutation(jax.random.fold_in(jax.random.key(seed), number), len(x))

    def step(lane, rows):
        params, state, sums = lane
        grads = jax.grad(lambda params: images.losses_and_hits(params, x[rows], y[rows])[0].mean())(params)
        updates, state, measured = probed.trace(grads, state, params)
        sums = jax.tree.map(lambda total, new: total + jnp.abs(new), sums, measured)
        return (optax.apply_updates(params, updates), state, sums), None

    return jax.lax.scan(step, lane, order[: len(x) - len(x) % data.batch].reshape(-1, data.batch))[0]


def evaluate(params, split):
    """Mean loss and accuracy, 500 images at a time."""
    one = lambda image: images.losses_and_hits(params, image[0][None], image[1][None])  # noqa: E731
    losses, hits = jax.lax.map(one, split, batch_size=500)
    return losses.mean(), hits.mean()


# All lanes: learning rates along the first axis, seeds along the second


def begin_all(rules, data, seeds):
    """`begin` of every lane."""
    return jax.vmap(jax.vmap(begin, (None, None, 0)), (adamx.axes_of(rules), None, None))(rules, data, seeds)


@jax.jit
def epoch_all(rules, lanes, data, seeds, number):
    """`epoch` of every lane: the one program in which all learning rates and seeds of a rule train."""
    over_seeds = jax.vmap(epoch, (None, 0, None, 0, None))
    return jax.vmap(over_seeds, (adamx.axes_of(rules), 0, None, None, None))(rules, lanes, data, seeds, number)


@jax.jit
def evaluate_all(lanes, split):
    """`evaluate` of every lane: losses and accuracies, each (learning rates, seeds)."""
    return jax.vmap(jax.vmap(evaluate, (0, None)), (0, None))(lanes[0], split)


def tune(bar, name, data, rates, seeds, epochs):
    """Trains all lanes of one rule: a table with one row a lane, and the lanes."""
    rules, seeds = RULES[name](jnp.float32(rates)), jnp.arange(seeds)
    lanes = begin_all(rules, data, seeds)
    for number in range(epochs):
        lanes = bar.done(epoch_all(rules, lanes, data, seeds, number))
    columns = {"rule": name, "learning_rate": np.repeat(rates, len(seeds)), "seed": np.tile(seeds, len(rates))}
    for split in ("validation", "test"):
        loss, accuracy = evaluate_all(lanes, getattr(data, split))
        columns |= {f"{split}_loss": np.ravel(loss), f"{split}_accuracy": np.ravel(accuracy)}
    return pd.DataFrame(columns), lanes


def leaderboard(lanes):
    """One row a rule, at the learning rate of the least mean validation loss: learning_rate, accuracy and sd (of the test split)."""
    finite = lanes.fillna({"validation_loss": np.inf})
    means = finite.groupby(["rule", "learning_rate"], sort=False).agg(
        loss=("validation_loss", "mean"), accuracy=("test_accuracy", "mean"), sd=("test_accuracy", "std")
    )
    return means.loc[means.groupby("rule", sort=False).loss.idxmin()].reset_index("learning_rate")


# The claims


def constant_gradient(learning_rate=1e-3, gradients=(0.001, 0.01, 1.0, 100.0), steps=1000):
    """Size of the update over the learning rate after many steps of a constant gradient: a table, one row a rule, one column a gradient."""
    g = jnp.array(gradients)

    def last(rule):
        return jax.lax.scan(lambda state, _: rule.update(g, state)[::-1], rule.init(g), length=steps)[1][-1]

    sizes = {name: np.abs(jax.jit(last)(rule(learning_rate))) / learning_rate for name, rule in RULES.items()}
    return pd.DataFrame.from_dict(sizes, orient="index", columns=gradients).rename_axis("rule")


def movement(lane):
    """How far parameters moved in a run, against how large their gradients were.

    Returns:
      A table of 10 rows, each a tenth of the parameters in the order of their gradients: mean modulus of gradient and of update over the
      run, both over the mean of all parameters.
    """
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])  # noqa: E731
    gradient, update = (flat(lane[2][measure.name]) for measure in MEASURES)
    order = np.argsort(gradient)[np.count_nonzero(gradient == 0) :]  # without those that no image ever reached
    tenths = [(gradient[i].mean(), update[i].mean()) for i in np.array_split(order, 10)]
    table = pd.DataFrame(tenths / np.mean(tenths, axis=0), columns=["gradient", "update"])
    return table.assign(tenth=np.arange(1, 11))


# The whole experiment


class Result(NamedTuple):
    """What `run` returns: tables.

    Attributes:
      lanes: One row a rule, learning rate and seed: validation and test loss and accuracy.
      constant_gradient: See `constant_gradient`.
      movement: See `movement`, for every rule at its best learning rate, first seed.
    """

    lanes: pd.DataFrame
    constant_gradient: pd.DataFrame
    movement: pd.DataFrame


def run(data, doublings=5, seeds=3, epochs=3, results=experiment.Results()):  # noqa: B008
    """Tunes every rule and tests the claims, with a progress bar.

    Args:
      data: `Data`.
      doublings: Learning rates are the course's times 2^k, with k from -doublings to doublings.
      seeds: How many.
      epochs: Passes through the training split.
      results: Takes the tables of finished parts, and movements for TensorBoard.

    Returns:
      A `Result`.
    """
    constant, tables, moved = constant_gradient(), [], []
    results.table("constant_gradient", constant)
    with experiment.Bar(total=len(RULES) * epochs, unit="epoch") as bar:
        for name in RULES:
            bar.set_description(name)
            rates = CENTRES[name] * 2.0 ** np.arange(-doublings, doublings + 1)
            table, lanes = tune(bar, name, data, rates, seeds, epochs)
            best = list(rates).index(leaderboard(table).learning_rate[name])
            tenths = movement(jax.tree.map(lambda x, best=best: x[best, 0], lanes))
            tables.append(table)
            moved.append(tenths.assign(rule=name))
            results.table("lanes", pd.concat(tables), index=False)
            results.table("movement", pd.concat(moved), index=False)
            results.curves(name, tenths[["gradient", "update"]], tenths.tenth)
    return Result(pd.concat(tables), constant, pd.concat(moved))


def compare(result):
    """The claims, and that every rule learns: a table of `experiment.compare`."""
    formulas = {"sgd": lambda g: g, "momentum": lambda g: g, "adam": lambda g: g / math.sqrt(g**2 + 1e-5)}
    formulas |= dict.fromkeys(("rmsprop", "adam, eps outside"), lambda g: g / (g + 1e-5))
    rows = [
        (f"{name}, constant gradient {g:g}: update / learning rate", got, formulas[name](g), 1e-5 * formulas[name](g))
        for (name, g), got in result.constant_gradient.stack().items()
    ]
    gradient, update = spread(result.movement)
    for name in gradient.index:
        rows.append(
            (f"{name}: gradients of the least tenth over those of the largest, below 0.1", 1 / gradient[name], 0, 0.1)
        )
    for name, expected, tolerance in (
        ("sgd", 1, 1e-3),
        ("rmsprop", 0, 0.1),
        ("adam", 0, 0.1),
        ("adam, eps outside", 0, 0.1),
    ):
        rows.append(
            (
                f"{name}: spread of its updates over that of its gradients",
                update[name] / gradient[name],
                expected,
                tolerance,
            )
        )
    for name, accuracy in leaderboard(result.lanes).accuracy.items():
        rows.append((f"{name}: accuracy, above 0.5", accuracy, 1, 0.5))
    return experiment.compare(rows)


def spread(moved):
    """Of the tenth of parameters with the largest gradients over the tenth with the least: gradients, and updates, by rule."""
    tenths = moved.set_index(["rule", "tenth"])
    ratio = tenths.xs(10, level="tenth") / tenths.xs(1, level="tenth")
    return ratio.gradient, ratio["update"]


def show(result, published):
    """Accuracies and spreads as text, beside the published learning rates and accuracies if asked for, and what they say."""
    gradient, update = spread(result.movement)
    table = leaderboard(result.lanes).assign(gradient_spread=gradient, update_spread=update)
    if published:
        columns = ["published_learning_rate", "published_accuracy"]
        table = table.join(pd.DataFrame.from_dict(PUBLISHED, orient="index", columns=columns))
    sizes = result.constant_gradient.rename(columns="{:g}".format)
    inside, outside = (result.constant_gradient.loc[name].iloc[0] for name in ("adam", "adam, eps outside"))
    least, tuned = result.constant_gradient.columns[0], " and ".join(f"{x:.3f}" for x in table.accuracy.iloc[-2:])
    ratios = lambda name, of=0: f"{(gradient, update)[of][name]:.3g} times"  # noqa: E731
    return f"""\
Each rule at its best learning rate, and the largest tenth over the least tenth of parameters, by gradients: these, and the updates.
{table.round(4).to_string(na_rep="")}

Update / learning rate after 1000 steps of a constant gradient:
{sizes.round(5).to_string()}

Parameters with gradients {ratios("sgd")} as large move {ratios("sgd", 1)} as far under SGD; under RMSProp gradients
{ratios("rmsprop")} as large make updates {ratios("rmsprop", 1)} as large, under Adam {ratios("adam")} and {ratios("adam", 1)}.
eps inside the root is felt below a gradient of √eps = {math.sqrt(1e-5):.4f}, outside it below eps = 1e-05 itself: of a gradient
of {least:g} Adam makes {inside:.2f} of the learning rate inside, {outside:.2f} outside. Tuned, they reach accuracies of {tuned}."""


def figure(result):
    """The movement of parameters against their gradients."""
    lines = {name: (tenths.gradient, tenths["update"]) for name, tenths in result.movement.groupby("rule", sort=False)}
    label = "mean |{}| / mean of all".format
    return plot.curves(
        [plot.Panel(label("update"), lines, points=lines, log_y=True)], x_label=label("gradient"), log_x=True
    )


def main(argv=None):
    """The command."""
    parser = experiment.Parser(__doc__, out="course_optimizers", tensorboard=True)
    parser.add_argument("--fashion-mnist", type=pathlib.Path, metavar="DIR", help="use Fashion-MNIST's files in DIR")
    parser.add_argument("--download", action="store_true", help="download those files into DIR first")
    doublings = experiment.number(least=0, most=20)
    parser.add_argument("--doublings", type=doublings, default=5, help="of the published learning rates, up and down")
    parser.add_argument("--seeds", type=experiment.number(most=1000), default=3)
    parser.add_argument("--epochs", type=experiment.number(most=10_000), default=3)
    args = parser.parse_args(argv)
    if args.download and args.fashion_mnist is None:
        parser.error("--download needs --fashion-mnist DIR, the folder to download into.")
    with parser.refusing():
        if args.download:
            images.download(args.fashion_mnist)
        data = images.digits() if args.fashion_mnist is None else images.fashion_mnist(args.fashion_mnist)
    results = experiment.Results(args.out, args.tensorboard)
    result = run(data, args.doublings, args.seeds, args.epochs, results)
    results.picture("movement", figure(result))
    compared = compare(result)
    results.table("compared", compared)
    print(show(result, published=args.fashion_mnist is not None))
    print(f"\n{experiment.require(compared)}\n{results}")


if __name__ == "__main__":
    main()
