"""A sweep against the ways in which sweeps are written: lane-steps a second, compilation included; compilations; memory.

Against (a) Optax rules built in a Python loop and jitted one by one, the step ("steps") or the whole run ("runs"); (b) Optax under `vmap`,
written by hand for one rule, all learning rates and seeds at once; (c) torch.optim in a loop. The loops run a few lanes, and the time of
all is scaled from these. All in one process; (b) takes turns with a sweep of that rule that has been compiled.

    python benchmarks/sweep.py [--workloads scalar digits large] [--repeats 7] [--quick]
"""

import argparse
import functools
import math
import time
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from torch_peer import CLASSES, torch

import adamx
from adamx import sweep

RULES = ("adam", "amsgrad", "lion", "radam")
METHOD = (
    "seconds: everything from points to table, compilation included; Python loops: of `sampled` lanes, scaled to all; vmap: Optax, "
    "compilation included; compiled ratio: median of paired runs with one rule, nothing left to compile, sweep / vmap"
)


class Workload(NamedTuple):
    """What is trained.

    Attributes:
      sizes: Widths of a network with tanh between; () for a scalar parameter on the parabola.
      rules, rates, seeds: How many of each.
      steps: Of each lane.
      batch: Rows in a batch.
      sampled: Lanes of each rule that the Python loops run.
    """

    sizes: tuple[int, ...]
    rules: int
    rates: int
    seeds: int
    steps: int
    batch: int
    sampled: int


WORKLOADS = {
    "scalar": Workload((), 4, 64, 4, 500, 1, 2),
    "digits": Workload((64, 64, 10), 4, 64, 4, 500, 32, 2),
    "large": Workload((64, 960, 960, 10), 1, 4, 2, 100, 32, 2),
}


def task_of(work):
    """The `sweep.Task`."""
    if not work.sizes:
        return sweep.Task(lambda key: jax.random.normal(key), lambda p, batch: p**2, lambda key, step: ())
    images, labels = load_digits(return_X_y=True)

    def init(key):
        pairs = list(zip(work.sizes, work.sizes[1:], strict=False))
        keys = jax.random.split(key, len(pairs))
        return [
            {"w": jax.random.normal(k, pair) / math.sqrt(pair[0]), "b": jnp.zeros(pair[1])}
            for k, pair in zip(keys, pairs, strict=True)
        ]

    def loss(params, batch):
        x, y = batch
        for layer in params[:-1]:
            x = jnp.tanh(x @ layer["w"] + layer["b"])
        logits = x @ params[-1]["w"] + params[-1]["b"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return sweep.arrays(init, loss, (jnp.float32(images / 16), jnp.int32(labels)), work.batch)


def rates_of(work):
    """The learning rates."""
    return np.geomspace(1e-4, 1e-1, work.rates)


def swept(task, work):
    """The sweep: seconds, compilations, the `Result`."""
    compilations = []

    def count(event, duration, **_):
        compilations.extend([duration] * (event == "/jax/core/compile/backend_compile_duration"))

    jax.monitoring.register_event_duration_secs_listener(count)
    begun = time.perf_counter()
    points = {name: sweep.zipped(getattr(adamx, name), learning_rate=rates_of(work)) for name in RULES[: work.rules]}
    result = sweep.run(task, points, steps=work.steps, seeds=work.seeds, evaluate_every=work.steps, progress=False)
    seconds = time.perf_counter() - begun
    jax.monitoring.unregister_event_duration_listener(count)
    return seconds, len(compilations), result


def sampled(work):
    """(rule, learning rate, seed) of the lanes that the Python loops run, and how many times as many there are."""
    rates = rates_of(work)[:: max(work.rates // work.sampled, 1)][: work.sampled]
    lanes = [(name, float(rate), seed) for name in RULES[: work.rules] for seed, rate in enumerate(rates)]
    return lanes, work.rules * work.rates * work.seeds / len(lanes)


def looped_steps(task, work):
    """Seconds of a Python loop over Optax's rules and over steps, a jitted step for each lane, for all lanes."""
    begin = jax.jit(task.init)
    jax.block_until_ready(begin(jax.random.key(0)))
    lanes, factor = sampled(work)
    begun = time.perf_counter()
    for name, rate, seed in lanes:
        tx, key = getattr(optax, name)(rate), jax.random.key(seed)

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def step(params, state, key, t, tx=tx):
            grads = jax.grad(task.loss)(params, task.batch(key, t))
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        params = begin(key)
        state = tx.init(params)
        for t in range(work.steps):
            params, state = step(params, state, key, np.int32(t))
        jax.block_until_ready(params)
    return (time.perf_counter() - begun) * factor


def looped_runs(task, work):
    """Seconds of a Python loop over Optax's rules, a jitted run (first parameters, scan over steps) for each lane, for all lanes."""
    lanes, factor = sampled(work)
    begun = time.perf_counter()
    for name, rate, seed in lanes:
        jax.block_until_ready(jax.jit(functools.partial(run_of(task, work, name), rate))(seed))
    return (time.perf_counter() - begun) * factor


def run_of(task, work, name):
    """Training with Optax's rule: a function (learning rate, seed) -> mean loss."""

    def run(rate, seed):
        tx = getattr(optax, name)(rate)
        for_params, key = jax.random.split(jax.random.key(seed))
        params = task.init(for_params)

        def step(carry, t):
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, task.batch(key, t))
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss

        return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(work.steps))[1].mean()

    return run


def by_hand(task, work, name):
    """Optax under `vmap` over learning rates and seeds of one rule: a jitted function (rates, seeds) -> losses."""
    return jax.jit(jax.vmap(jax.vmap(run_of(task, work, name), (None, 0)), (0, None)))


def by_hand_seconds(task, work):
    """Seconds of `by_hand` for all rules, compilation included."""
    begun = time.perf_counter()
    for name in RULES[: work.rules]:
        jax.block_until_ready(by_hand(task, work, name)(jnp.float32(rates_of(work)), jnp.arange(work.seeds)))
    return time.perf_counter() - begun


def compiled_ratio(task, work, repeats):
    """Median of paired ratios: a sweep of the first rule, all compiled, over `by_hand`, all compiled."""
    points = sweep.zipped(getattr(adamx, RULES[0]), learning_rate=rates_of(work))
    options = {"steps": work.steps, "seeds": work.seeds, "evaluate_every": work.steps, "progress": False}
    hand, arguments = by_hand(task, work, RULES[0]), (jnp.float32(rates_of(work)), jnp.arange(work.seeds))
    contestants = (
        lambda: sweep.run(task, points, **options),
        lambda: jax.block_until_ready(hand(*arguments)),
    )
    for contestant in contestants:
        contestant()
    times = [[], []]
    for _ in range(repeats):
        for contestant, own in zip(contestants, times, strict=True):
            begun = time.perf_counter()
            contestant()
            own.append(time.perf_counter() - begun)
    return common.paired_ratio(*times)


def torch_seconds(task, work):
    """Seconds of torch's loop for all lanes of the rules that torch has; None without torch."""
    names = [name for name in RULES[: work.rules] if name in CLASSES]
    if torch is None:
        return None
    params: Any = jax.tree.map(np.asarray, jax.jit(task.init)(jax.random.key(0)))
    data = load_digits(return_X_y=True)
    images, labels = torch.tensor(data[0] / 16, dtype=torch.float32), torch.tensor(data[1])
    torch.set_num_threads(1)  # faster than more on matrices this small
    begun, count = time.perf_counter(), 0
    for name in names:
        for rate in rates_of(work)[: work.sampled]:
            tensors = [torch.nn.Parameter(torch.tensor(leaf)) for leaf in jax.tree.leaves(params)]
            cls, options = CLASSES[name]
            optimizer = getattr(torch.optim, cls)(tensors, lr=float(rate), **options)
            for _ in range(work.steps):
                rows = torch.randint(len(labels), (work.batch,))
                optimizer.zero_grad()
                _torch_loss(tensors, images[rows], labels[rows]).backward()
                optimizer.step()
            count += 1
    return (time.perf_counter() - begun) * work.rules * work.rates * work.seeds / count


def _torch_loss(tensors, x, y):
    if len(tensors) == 1:
        return tensors[0] ** 2
    *hidden, last = zip(tensors[::2], tensors[1::2], strict=True)  # leaves of a layer in order of name: b, w
    for b, w in hidden:
        x = torch.tanh(x @ w + b)
    return torch.nn.functional.cross_entropy(x @ last[1] + last[0], y)


def measure(name, work, repeats):
    """One row of the table."""
    task = task_of(work)
    seconds, compilations, result = swept(task, work)
    lanes = result.died_at.size
    print(f"{name}: sweep {seconds:.1f} s, {compilations} compilations", flush=True)
    times = {
        "vmap": by_hand_seconds(task, work),
        "steps": looped_steps(task, work),
        "runs": looped_runs(task, work),
        "torch": torch_seconds(task, work),
    }
    return {
        "workload": name,
        "lanes": lanes,
        "steps": work.steps,
        "compilations": compilations,
        "sweep s": seconds,
        "lane-steps/s": lanes * work.steps / seconds,
        **{f"{who} / sweep": own and own / seconds for who, own in times.items()},
        "compiled ratio": compiled_ratio(task, work, repeats),
        "KiB a lane": max(result.took) / (lanes / work.rules) / 1024,
    }


def main():
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run?")
    parser.add_argument("--out", default=common.RESULTS / "sweep.json")
    options = parser.parse_args()
    small = {"rates": 2, "seeds": 2, "steps": 5, "sampled": 1}
    works = {name: WORKLOADS[name]._replace(**small if options.quick else {}) for name in options.workloads}
    record = common.environment(dtype="float32", method=METHOD, workloads={n: str(w) for n, w in works.items()})
    common.print_environment(record)
    record["sweep"] = [measure(name, work, options.repeats) for name, work in works.items()]
    common.print_table(
        "Sweeps (x / sweep: seconds of x over the sweep's, above 1 the sweep is faster)", record["sweep"]
    )
    common.write_json(options.out, record)


if __name__ == "__main__":
    main()
