"""Groups of leaves, each with a rule of its own: Muon's recipe, learning rates that fall with depth, no decay on biases.

    python examples/groups.py

A hyperparameter is a number, never a tree of them: groups are a `partition`, label -> rule, and the labels a function of the parameters.
The script trains a network 64-64-64-10 on scikit-learn's handwritten digits in three ways, and prints the loss before and after:

    one AdamW for all, but no weight decay on biases                (an argument: mask)
    AdamW whose learning rate halves from layer to layer downwards  (a partition by depth)
    Muon for the hidden matrices, AdamW for the rest                 (a partition by kind)

A few seconds. Writes losses.csv into results/groups.
"""

import functools

import experiment
import jax
import jax.numpy as jnp
import optax
import pandas as pd
from sklearn.datasets import load_digits

import adamx

STEPS, BATCH, SIZES = 200, 64, (64, 64, 64, 10)


def digits():
    """Images (1797, 64) in [0, 1], and labels."""
    images, labels = load_digits(return_X_y=True)
    return jnp.float32(images / 16), jnp.asarray(labels)


def network():
    """Parameters of the network: a list of layers with a kernel (inputs, outputs) and a bias."""
    keys = jax.random.split(jax.random.key(0), len(SIZES) - 1)
    return [
        {"kernel": jax.random.normal(key, shape) / shape[0] ** 0.5, "bias": jnp.zeros(shape[1])}
        for key, shape in zip(keys, zip(SIZES[:-1], SIZES[1:], strict=True), strict=True)
    ]


def loss_of(params, x, labels):
    """Mean cross-entropy, a scalar."""
    for i, layer in enumerate(params):
        x = x @ layer["kernel"] + layer["bias"]
        x = jax.nn.relu(x) if i < len(params) - 1 else x
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(x, labels))


def is_kernel(params):
    """Where weights decay: a mask of booleans."""
    return [{"kernel": True, "bias": False} for _ in params]


def no_decay_on_biases():
    """One rule, its decay restricted."""
    return adamx.adamw(3e-3, weight_decay=0.1, mask=is_kernel)


def by_depth():
    """Layer i of n learns at 3e-3 2^-(n - 1 - i). A label may be a number."""
    rules = {i: adamx.adamw(3e-3 * 0.5 ** (len(SIZES) - 2 - i), weight_decay=0.1) for i in range(len(SIZES) - 1)}
    return adamx.partition(rules, lambda params: [dict.fromkeys(layer, i) for i, layer in enumerate(params)])


def kind_of(params):
    """Labels of Muon's recipe: hidden matrices apart from the last layer and the biases."""
    last = len(params) - 1
    return [{"kernel": "hidden" if i < last else "rest", "bias": "rest"} for i in range(len(params))]


def muon():
    """Muon where it belongs; `adamx.muon` itself takes every matrix."""
    hidden = adamx.scale_by_muon().then(adamx.DecoupledDecay(0.1), adamx.LearningRate(0.02))
    return adamx.partition({"hidden": hidden, "rest": adamx.adamw(3e-3, weight_decay=0.0)}, kind_of)


WAYS = {"no decay on biases": no_decay_on_biases, "rates by depth": by_depth, "Muon and AdamW": muon}


@functools.partial(jax.jit, static_argnames="steps")
def fit(rule, params, x, labels, steps=STEPS):
    """The loss before and after training; the rule's hyperparameters are arguments."""

    def step(carry, key):
        params, state = carry
        rows = jax.random.randint(key, (BATCH,), 0, len(x))
        return rule.step(jax.grad(loss_of)(params, x[rows], labels[rows]), state, params), None

    keys = jax.random.split(jax.random.key(1), steps)
    (trained, _), _ = jax.lax.scan(step, (params, rule.init(params)), keys)
    return loss_of(params, x, labels), loss_of(trained, x, labels)


def main(argv=None):
    """Runs and prints all three."""
    options = experiment.Parser(__doc__, out="groups").parse_args(argv)
    x, labels = digits()
    rows = {}
    for name, make in WAYS.items():
        rows[name] = fit(make(), network(), x, labels)
        print("{:20} loss {:.3f} -> {:.3f}".format(name, *rows[name]))
    results = experiment.Results(options.out)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["before", "after"], dtype=float)
    results.table("losses", table.rename_axis("way"))
    print(results)


if __name__ == "__main__":
    main()
