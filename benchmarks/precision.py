"""What slots and parameters in few bits cost: error of the updates, second moments that should fall, and how well networks train.

Error: 8,192 parameters whose gradients (Student's t, 4 degrees of freedom) have scales spread log-normally within each block, the hardest
case for a shared scale; Adam's update after 300 steps against float32's. Falling: half of the gradients drop 20 times at step 500; the
median of v to float32's at step 3,000. Training: the final losses of the networks of networks.py, mean and standard deviation over seeds
that all precisions share.

    python benchmarks/precision.py [--parts slots digits airfoil text] [--seeds 20] [--out folder]
"""

import argparse
import functools
import pathlib
import statistics

import common
import jax
import jax.numpy as jnp
import networks

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
SEEDS = {"text": 5}


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


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _train(task, kind, modify, key):
    return networks.train(task, modify(adamx.adamw(task.rate)), jnp.dtype(kind), key)


def training(task, seeds):
    """Rows of a table: the final losses of a network, one a seed, for every precision."""
    kinds = {name: ("float32", functools.partial(adamx.UpdateRule.store, **s)) for name, s in SLOTS.items()}
    kinds |= {name: ("bfloat16", modify) for name, modify in PARAMS.items()}
    for name, (kind, modify) in kinds.items():
        losses = [float(_train(task, kind, modify, key)) for key in jax.random.split(jax.random.key(0), seeds)]
        row = {"kept": name, "loss": statistics.mean(losses), "deviation": statistics.stdev(losses), "losses": losses}
        print(row, flush=True)
        yield row


def slots():
    """Rows of a table: error and falling, for every way to keep Adam's slots."""
    for name, storages in SLOTS.items():
        row, fixed = {"slots": name}, tuple(storages.items())
        for spread in (1.0, 3.0):
            rms, largest = map(float, error(fixed, spread))
            row |= {f"error, spread {spread:.0f}": rms, f"largest, spread {spread:.0f}": largest}
        row["v to float32's"] = float(falling(fixed))
        print(row, flush=True)
        yield row


def main():
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("slots", *networks.TASKS)
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--seeds", type=int, help="networks a precision; 20, of text 5")
    parser.add_argument(
        "--out", type=pathlib.Path, default=common.RESULTS, help="folder of the results, a file for each part"
    )
    options = parser.parse_args()
    for part in options.parts:
        if part == "slots":
            record, title, rows = (
                common.environment(rule="adam", parameters=SIZE),
                "Adam's updates and second moments",
                slots(),
            )
        else:
            seeds = SEEDS.get(part, 20) if options.seeds is None else options.seeds
            record, title, rows = (
                common.environment(rule="adamw", seeds=seeds),
                f"Final loss, {part}",
                training(networks.TASKS[part](), seeds),
            )
        common.print_environment(record)
        record["rows"] = list(rows)
        common.print_table(title, [{k: v for k, v in row.items() if k != "losses"} for row in record["rows"]])
        common.write_json(options.out / f"precision_{part}.json", record)


if __name__ == "__main__":
    main()
