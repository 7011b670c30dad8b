"""What slots and parameters in few bits cost: error of the updates, second moments that should fall, and how well networks train.

Error: 8,192 parameters whose gradients (Student's t, 4 degrees of freedom) have scales spread log-normally within each block, the hardest
case for a shared scale; Adam's update after 300 steps against float32's. Falling: half of the gradients drop 20 times at step 500; the
median of v to float32's at step 3,000. Rules: 10,000 steps of each on a noisy quadratic. Training: the final losses of the networks of
networks.py, mean and standard deviation over seeds that all precisions share.

    python benchmarks/precision.py [--parts slots rules digits airfoil text] [--seeds 20] [--kept float32 8-bit]
                                   [--out folder]
"""

import argparse
import functools
import math
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
STEPS, SHAPE = 10_000, (128, 4)
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


@functools.partial(jax.jit, static_argnums=1)
def _descend(rule, needs, scale):
    """The largest |u| of a run on a noisy quadratic, and the mean square of its last parameters."""

    def step(carry, t):
        params, state, largest = carry
        noise = jax.random.t(jax.random.fold_in(jax.random.key(0), t), 4.0, scale.shape)
        grads = scale * (params + noise)
        given = {"value": 0.5 * jnp.mean(scale * params**2), "hessian": scale}
        updates, state = rule.update(grads, state, params, **{name: given[name] for name in needs})
        return (params + updates, state, jnp.maximum(largest, jnp.max(jnp.abs(updates)))), None

    start = (jnp.ones_like(scale), rule.init(scale), jnp.float32(0))
    (params, _, largest), _ = jax.lax.scan(step, start, jnp.arange(STEPS))
    return largest, jnp.mean(params**2)


def rules():
    """Rows of a table: every rule of the catalogue for 10,000 steps in 8 bits, against float32."""
    scale = jnp.exp(jax.random.normal(jax.random.key(1), SHAPE))
    for name in adamx.CATALOGUE:
        rule = common.ours(name)
        if hasattr(rule, "parts"):
            continue
        needs = tuple(extra for stage in rule.stages for extra in (*stage.scalar_extras, *stage.extras))
        exact = _descend(rule, needs, scale)
        ours = _descend(rule.store(adamx.EightBit(min_size=0)), needs, scale)
        row = {"rule": name, "largest update, of float32's": float(ours[0] / exact[0])}
        row |= {"mean square of the parameters": float(ours[1]), "in float32": float(exact[1])}
        print(row, flush=True)
        yield row


PARAMS = {
    "bf16 parameters, stochastic": lambda rule: rule,
    "bf16 parameters, Kahan": adamx.modifiers.kahan,
    "bf16 parameters, to nearest": lambda rule: rule.store(params=NEAREST),
}
"""How a rule's bfloat16 parameters are rounded."""


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _train(task, kind, modify, key):
    return networks.train(task, modify(adamx.adamw(task.rate)), jnp.dtype(kind), key)


def training(task, seeds, kept):
    """Rows of a table: the final losses of a network, one a seed, for the precisions that are named, or all."""
    kinds = {name: ("float32", functools.partial(adamx.UpdateRule.store, **s)) for name, s in SLOTS.items()}
    kinds |= {name: ("bfloat16", modify) for name, modify in PARAMS.items()}
    for name, (kind, modify) in kinds.items():
        if kept and name not in kept:
            continue
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


def table_of(part, seeds, kept):
    """Title, what the results depend on besides the machine, and rows."""
    if part == "slots":
        return "Adam's updates and second moments", {"parameters": SIZE}, slots()
    if part == "rules":
        return "Every rule in 8 bits", {"steps": STEPS, "parameters": math.prod(SHAPE)}, rules()
    seeds = seeds or SEEDS.get(part, 20)
    return f"Final loss, {part}", {"seeds": seeds}, training(networks.TASKS[part](), seeds, kept)


def main():
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("slots", "rules", *networks.TASKS)
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--kept", nargs="+", choices=(*SLOTS, *PARAMS), help="train with these precisions only; all")
    parser.add_argument("--seeds", type=int, help="networks a precision; 20, of text 5")
    parser.add_argument(
        "--out", type=pathlib.Path, default=common.RESULTS, help="folder of the results, a file for each part"
    )
    options = parser.parse_args()
    for part in options.parts:
        title, more, rows = table_of(part, options.seeds, options.kept)
        record = common.environment(**more)
        common.print_environment(record)
        record["rows"] = list(rows)
        common.print_table(title, [{k: v for k, v in row.items() if k != "losses"} for row in record["rows"]])
        common.write_json(options.out / f"precision_{part}.json", record)


if __name__ == "__main__":
    main()
