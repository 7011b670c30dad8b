"""Three networks to train: on scanned digits, on the noise of airfoils, and on characters of text. Nothing is downloaded.

Parameters are made, and losses computed, in float32; `train` casts them from whatever dtype they are kept in.
"""

import dataclasses
import pathlib
import pydoc_data.topics
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

sys.path.append(str(pathlib.Path(__file__).parents[1] / "examples"))


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is trained."""

    init: Callable
    """Key -> float32 parameters."""
    batch: Callable
    """Key -> a batch."""
    loss: Callable
    """(Parameters, batch) -> mean loss."""
    measured_on: object
    """The batch whose loss is reported."""
    rate: float | optax.Schedule
    """Learning rate of AdamW."""
    steps: int


def train(task, rule, dtype, key):
    """Loss of the last parameters, which were kept as `dtype`, after all steps of `rule`."""
    first, order = jax.random.split(key)
    params = optax.tree.cast(task.init(first), dtype)

    def loss(params, batch):
        return task.loss(optax.tree.cast(params, jnp.float32), batch)

    def step(carry, key):
        return rule.step(jax.grad(loss)(carry[0], task.batch(key)), carry[1], carry[0]), None

    (params, _), _ = jax.lax.scan(step, (params, rule.init(params)), jax.random.split(order, task.steps))
    return loss(params, task.measured_on)


def digits():
    """1,797 digits of 8 x 8 pixels: 64, 256, 256 and 10 units, batches of 64; the loss on all of them."""
    x, y = load_digits(return_X_y=True)
    x, y = jnp.asarray(x / 16, jnp.float32), jnp.asarray(y)

    def loss(params, batch):
        x, y = batch
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(_perceptron(params, x)), y[:, None], 1))

    return Task(_layers((64, 256, 256, 10)), _rows(x, y, 64), loss, (x, y), 1e-3, 1500)


def airfoil():
    """NASA's airfoil data, standardised: 5, 128, 128 and 1 units, batches of 64 of 1,500 rows; the mean squared error on all of them."""
    import airfoil

    x, y = (jnp.asarray(a, jnp.float32) for a in airfoil.load())

    def loss(params, batch):
        x, y = batch
        return jnp.mean((_perceptron(params, x)[:, 0] - y) ** 2)

    return Task(_layers((5, 128, 128, 1)), _rows(x, y, 64), loss, (x, y), optax.cosine_decay_schedule(3e-3, 3000), 3000)


LENGTH, WIDTH, HEADS, BLOCKS, AT_ONCE = 64, 160, 4, 4, 4


def text():
    """Characters of Python's own documentation, 750,000 of them: a transformer of 1.3 million parameters; the loss on the last tenth.

    Four blocks of width 160 with four heads, normalised before each part; windows of 64 characters, 4 at once.
    """
    topics = pydoc_data.topics.topics
    characters, codes = np.unique(list("".join(topics[name] for name in sorted(topics))), return_inverse=True)
    held_out = len(codes) // 10
    codes = jnp.asarray(codes, jnp.int32)
    windows = jnp.arange(LENGTH + 1)

    def init(key):
        keys = iter(jax.random.split(key, 3 + 4 * BLOCKS))
        normal = lambda *shape, scale: scale * jax.random.normal(next(keys), shape)  # noqa: E731
        inner = WIDTH**-0.5
        blocks = [
            {
                "norms": jnp.ones((2, WIDTH)),
                "qkv": normal(WIDTH, 3 * WIDTH, scale=inner),
                "out": normal(WIDTH, WIDTH, scale=inner / (2 * BLOCKS) ** 0.5),
                "up": normal(WIDTH, 4 * WIDTH, scale=inner),
                "bias": jnp.zeros(4 * WIDTH),
                "down": normal(4 * WIDTH, WIDTH, scale=inner / (8 * BLOCKS) ** 0.5),
            }
            for _ in range(BLOCKS)
        ]
        return {
            "embedding": normal(len(characters), WIDTH, scale=0.02),
            "positions": normal(LENGTH, WIDTH, scale=0.02),
            "blocks": blocks,
            "norm": jnp.ones(WIDTH),
            "head": normal(WIDTH, len(characters), scale=inner),
        }

    def batch(key):
        return codes[jax.random.randint(key, (AT_ONCE, 1), 0, len(codes) - held_out - LENGTH) + windows]

    def loss(params, batch):
        x = params["embedding"][batch[:, :-1]] + params["positions"]
        for block in params["blocks"]:
            x = x + _attention(_normalised(x, block["norms"][0]), block)
            x = x + jax.nn.gelu(_normalised(x, block["norms"][1]) @ block["up"] + block["bias"]) @ block["down"]
        logits = _normalised(x, params["norm"]) @ params["head"]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]))

    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, 2000)
    measured_on = codes[np.linspace(len(codes) - held_out, len(codes) - LENGTH - 1, 256, dtype=int)[:, None] + windows]
    return Task(init, batch, loss, measured_on, rate, 2000)


TASKS = {"digits": digits, "airfoil": airfoil, "text": text}


def _layers(sizes):
    def init(key):
        keys = jax.random.split(key, len(sizes) - 1)
        pairs = zip(keys, sizes, sizes[1:], strict=False)
        return [(jax.random.normal(k, (m, n)) * (2 / m) ** 0.5, jnp.zeros(n)) for k, m, n in pairs]

    return init


def _perceptron(params, x):
    for i, (w, b) in enumerate(params):
        x = x @ w + b
        x = x if i == len(params) - 1 else jax.nn.relu(x)
    return x


def _rows(x, y, size):
    def batch(key):
        chosen = jax.random.randint(key, (size,), 0, len(y))
        return x[chosen], y[chosen]

    return batch


def _normalised(x, scale):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale


def _attention(x, block):
    q, k, v = jnp.split((x @ block["qkv"]).reshape(*x.shape[:-1], 3 * HEADS, WIDTH // HEADS), 3, -2)
    return jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape) @ block["out"]
