"""What slots and parameters in few bits cost: error of the updates, second moments that should fall, and how well networks train.

Error: 8,192 parameters whose gradients (Student's t, 4 degrees of freedom) have scales spread log-normally within each block, the hardest
case for a shared scale; Adam's update after 300 steps against float32's. Falling: half of the gradients drop 20 times at step 500; the
median of v to float32's at step 3,000. Training: the final training loss of a network on the digits, mean and standard deviation over
seeds that all precisions share.

    python benchmarks/precision.py [--parts error falling digits] [--seeds 20] [--out results.json]
"""

import argparse
import functools

import common
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import adamx

NEAREST = adamx.Nearest()
SLOTS = {
    "float32": {},
    "bf16": dict.fromkeys(("mu", "nu"), adamx.BFloat16()),
    "8-bit": {"mu": adamx.Int8(min_size=0), "nu": adamx.Log8(min_size=0)},
    "8-bit mu": {"mu": adamx.Int8(min_size=0)},
    "8-bit nu": {"nu": adamx.Log8(min_size=0)},
    "8-bit to nearest": {"mu": adamx.Int8(NEAREST, min_size=0), "nu": adamx.Log8(NEAREST, min_size=0)},
}
"""How Adam's slots are kept."""

SIZE = 8192


def _gradients(scale, t):
    return scale * jax.random.t(jax.random.fold_in(jax.random.key(0), t), 4.0, scale.shape)


@functools.partial(jax.jit, static_argnums=0)
def error(storages, spread):
    """RMS error of the last of 300 updates relative to float32's, and the largest |u| relative to float32's."""
    rule, exact = adamx.scale_by_adam().store(**dict(storages)), adamx.scale_by_adam()
    scale = jnp.exp(spread * jax.random.normal(jax.random.key(1), (SIZE,)))

    def step(states, t):
        (u, a), (v, b) = rule.update(_gradients(scale, t), states[0]), exact.update(_gradients(scale, t), states[1])
        return (a, b), (jnp.mean((u - v) ** 2) / jnp.mean(v**2), jnp.max(jnp.abs(u)), jnp.max(jnp.abs(v)))

    _, (errors, ours, theirs) = jax.lax.scan(step, (rule.init(scale), exact.init(scale)), jnp.arange(300))
    return jnp.sqrt(errors[-1]), jnp.max(ours) / jnp.max(theirs)


@functools.partial(jax.jit, static_argnums=0)
def falling(storages):
    """Median of v to float32's, where gradients became 20 times smaller 2,500 steps ago."""
    rule, exact = adamx.scale_by_adam().store(**dict(storages)), adamx.scale_by_adam()
    drops = jnp.arange(SIZE) % 2 == 1

    def step(states, t):
        g = _gradients(jnp.where(drops & (t >= 500), 0.05, 1.0), t)
        return tuple(r.update(g, s)[1] for r, s in zip((rule, exact), states, strict=True)), None

    (a, b), _ = jax.lax.scan(step, (rule.init(drops * 1.0), exact.init(drops * 1.0)), jnp.arange(3000))
    nu = dict(rule.storages).get("nu", adamx.Float32()).decode(a.slots["nu"], jnp.float32)
    return jnp.median((nu / b.slots["nu"])[1::2])


PARAMS = {
    "bf16 parameters, stochastic": lambda rule: rule,
    "bf16 parameters, Kahan": adamx.modifiers.kahan,
    "bf16 parameters, to nearest": lambda rule: rule.store(params=NEAREST),
}
"""How a rule's bfloat16 parameters are rounded."""


def digits(modify, dtype, seeds, rate=1e-3, steps=1500):
    """Final training losses, one a seed, of a network of 64, 256, 256 and 10 units on 1,797 digits, batches of 64."""
    x, y = load_digits(return_X_y=True)
    x, y = jnp.asarray(x / 16, jnp.float32), jnp.asarray(y)
    rule, sizes = modify(adamx.adamw(rate)), (64, 256, 256, 10)

    def forward(params, x):
        for i, (w, b) in enumerate(params):
            x = x @ w.astype(jnp.float32) + b.astype(jnp.float32)
            x = x if i == len(params) - 1 else jax.nn.relu(x)
        return x

    def loss(params, x, y):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(forward(params, x)), y[:, None], 1))

    @jax.jit
    def train(key):
        first, order = jax.random.split(key)
        weights = [
            jax.random.normal(k, (m, n)) * (2 / m) ** 0.5
            for k, m, n in zip(jax.random.split(first, 3), sizes, sizes[1:], strict=False)
        ]
        params = [(w.astype(dtype), jnp.zeros(w.shape[1], dtype)) for w in weights]

        def step(carry, key):
            batch = jax.random.randint(key, (64,), 0, len(y))
            grads = jax.grad(loss)(carry[0], x[batch], y[batch])
            return rule.step(grads, carry[1], carry[0]), None

        (params, _), _ = jax.lax.scan(step, (params, rule.init(params)), jax.random.split(order, steps))
        return loss(params, x, y)

    return [float(train(key)) for key in jax.random.split(jax.random.key(0), seeds)]


def main():
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("error", "falling", "digits")
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--seeds", type=int, default=20, help="networks a precision")
    parser.add_argument("--out", default=common.RESULTS / "precision.json")
    options = parser.parse_args()
    record = common.environment(rule="adam", parameters=SIZE)
    common.print_environment(record)
    fixed = {name: tuple(storages.items()) for name, storages in SLOTS.items()}
    if "error" in options.parts or "falling" in options.parts:
        rows = record["slots"] = []
        for name, storages in fixed.items():
            row = {"slots": name}
            if "error" in options.parts:
                for spread in (1.0, 3.0):
                    rms, largest = map(float, error(storages, spread))
                    row |= {f"error, spread {spread:.0f}": rms, f"largest, spread {spread:.0f}": largest}
            if "falling" in options.parts:
                row["v to float32's"] = float(falling(storages))
            rows.append(row)
            print(row, flush=True)
        common.print_table("Adam's updates and second moments against float32's", rows)
    if "digits" in options.parts:
        rows = record["digits"] = []
        kinds = {name: (lambda rule, s=s: rule.store(**s), jnp.float32) for name, s in SLOTS.items()}
        kinds |= {name: (modify, jnp.bfloat16) for name, modify in PARAMS.items()}
        for name, (modify, dtype) in kinds.items():
            losses = digits(modify, dtype, options.seeds)
            rows.append({"kept": name, "loss": float(np.mean(losses)), "deviation": float(np.std(losses, ddof=1))})
            print(rows[-1], flush=True)
        common.print_table("Training loss on the digits, over seeds", rows)
    common.write_json(options.out, record)


if __name__ == "__main__":
    main()
