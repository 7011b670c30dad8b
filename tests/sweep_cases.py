"""What the tests of sweeps share: a small regression whose parameters are its metrics, and counts of what is compiled."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

from adamx import sweep

ROWS = 24
METRICS = ("loss", "error", "w0", "w1", "w2", "b")


def data(rows=ROWS):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    return x, (x @ [1.0, -2.0, 0.5] + 0.3 + 0.1 * rng.normal(size=rows)).astype(np.float32)


def init(key):
    return {"w": 0.1 * jax.random.normal(key, (3,)), "b": jnp.zeros(())}


def loss(params, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["w"]) * 2 + params["b"] - y) ** 2)


def evaluate(params):
    parts = {f"w{i}": params["w"][i] for i in range(3)} | {"b": params["b"]}
    return {"error": jnp.sum((params["w"] - jnp.array([1.0, -2.0, 0.5])) ** 2), **parts}


def task(**options):
    return sweep.arrays(init, loss, data(), 8, evaluate, **options)


def alone(task, rules, seeds, steps):
    """Final parameters of each rule and seed trained in a program of its own: (rules, seeds, 4)."""
    train = jax.jit(lambda rule, seed: sweep.train(task, rule, steps=steps, seed=seed)[0])
    ends = [[train(rule, seed) for seed in seeds] for rule in rules]
    return np.array([[[*p["w"], p["b"]] for p in row] for row in ends])


@contextlib.contextmanager
def compilations():
    """A list to which every compilation of the block adds its name's time."""
    seen = []

    def listener(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def assert_same_table(a, b):
    """Every number of two results, bit for bit."""
    assert a.names == b.names and a.rows == b.rows and a.seeds == b.seeds
    for name in ("at", "died_at", "reached_at", "stopped_at"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert list(a.metrics) == list(b.metrics)
    for name in a.metrics:
        np.testing.assert_array_equal(a.metrics[name], b.metrics[name], err_msg=name)
    assert a.table().equals(b.table())
