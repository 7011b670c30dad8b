"""A rule is an Optax transformation: in `optax.chain` and `MultiSteps`, in `optax.partition`, and batched in `adamx.chain`.

    python examples/chain_with_optax.py

Fits a network 10-16-1 to scikit-learn's diabetes data (442 patients, 10 measurements, progression of the disease after a year) in three
ways, and prints the training loss (share of the variance left over) before and after. A few seconds. Writes losses.csv into
results/chain_with_optax.
"""

import functools

import experiment
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

import adamx

STEPS, BATCH = 300, 32


def patients():
    """Measurements (442, 10) and progression (442,), standardised, float32."""
    x, y = load_diabetes(return_X_y=True)
    return jnp.float32(scale(x)), jnp.float32(scale(y))


def network():
    """Parameters of a network 10-16-1."""
    first, second = jax.random.split(jax.random.key(0))
    return {
        "hidden": {"w": jax.random.normal(first, (10, 16)) / np.sqrt(10), "b": jnp.zeros(16)},
        "out": {"w": jax.random.normal(second, (16, 1)) / 4, "b": jnp.zeros(1)},
    }


def loss_of(params, x, y):
    """Mean squared error, a scalar."""
    hidden = jnp.tanh(x @ params["hidden"]["w"] + params["hidden"]["b"])
    prediction = hidden @ params["out"]["w"] + params["out"]["b"]
    return jnp.mean((prediction[:, 0] - y) ** 2)


def fit(tx, params, rows, x, y):
    """Trains on the batches `rows` (steps, batch) with any gradient transformation, by Optax's loop; returns the loss before and after."""
    before = loss_of(params, x, y)

    def step(carry, rows):
        params, state = carry
        grads = jax.grad(loss_of)(params, x[rows], y[rows])
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), rows)
    return before, loss_of(params, x, y)


def problem(steps=STEPS):
    """What `fit` takes after the transformation: parameters, rows of `steps` random batches, measurements, progression."""
    x, y = patients()
    return network(), jax.random.randint(jax.random.key(1), (steps, BATCH), 0, len(x)), x, y


def clipped_and_accumulated(steps=STEPS):
    """Gradients averaged over four batches, clipped by their global norm, then AdamW with Optax's warm-up and cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-2, warmup_steps=steps // 30, decay_steps=steps // 4)
    tx = optax.chain(optax.clip_by_global_norm(1.0), adamx.adamw(schedule, weight_decay=1e-2))
    return optax.MultiSteps(tx, every_k_schedule=4).gradient_transformation()


def matrices_and_biases():
    """AdamW for the matrices, plain gradient descent for the biases."""
    rules = {"matrix": adamx.adamw(1e-2, weight_decay=1e-2), "bias": adamx.sgd(1e-1)}
    return optax.partition(rules, lambda params: jax.tree.map(lambda p: "matrix" if p.ndim == 2 else "bias", params))


def clipped_adams(rates):
    """Clipped Adams of several learning rates, as one transformation.

    `adamx.chain` is `optax.chain`, but the result is a pytree too: of the learning rates (and the other hyperparameters) in it.
    """
    return adamx.chain(optax.clip_by_global_norm(1.0), adamx.adam(rates))


def main(argv=None):
    """Runs and prints all three."""
    parser = experiment.Parser(__doc__, out="chain_with_optax")
    steps = experiment.number(multiple_of=4, least=8, most=10**6)
    parser.add_argument("--steps", type=steps, default=STEPS, help="a multiple of 4, for four batches make one step")
    options = parser.parse_args(argv)
    given, rows = problem(options.steps), {}
    for title, tx in {
        "optax.chain(clip_by_global_norm, adamx.adamw(schedule)) in MultiSteps": clipped_and_accumulated(options.steps),
        "optax.partition: adamx.adamw for matrices, adamx.sgd for biases": matrices_and_biases(),
    }.items():
        rows[title] = jax.jit(functools.partial(fit, tx))(*given)
        print("{}\n    loss {:.3f} -> {:.3f}".format(title, *rows[title]))

    rates = jnp.array([1e-4, 1e-3, 1e-2, 1e-1])
    txs = clipped_adams(rates)
    losses = jax.jit(jax.vmap(lambda tx: fit(tx, *given), in_axes=(adamx.axes_of(txs),)))(txs)
    print(f"{len(rates)} learning rates at once: jax.vmap over adamx.chain(clip_by_global_norm, adamx.adam(rates))")
    for rate, before, after in zip(rates, *losses, strict=True):
        rows[f"adamx.chain, learning rate {rate:.4f}"] = before, after
        print(f"    learning rate {rate:.4f}: loss {before:.3f} -> {after:.3f}")
    results = experiment.Results(options.out)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["before", "after"], dtype=float)
    results.table("losses", table.rename_axis("what"))
    print(results)


if __name__ == "__main__":
    main()
