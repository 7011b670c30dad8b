"""Our rules against Optax's and torch's of the same meaning: time of a step, temporaries, cost of compilation, exactness.

All in one process. Contestants take turns; times are medians, and "ratio" is the median over rounds of our time over the peer's, which a
slow phase of the machine leaves alone. Below 1 ours is faster.

XLA's flags are those that the README recommends, unless XLA_FLAGS says otherwise; they are in the results.

    python benchmarks/step.py [--rules adam lion] [--workloads large many small] [--programs equal distinct]
                              [--parts step temporaries traffic compile accuracy] [--repeats 20] [--quick]
    XLA_FLAGS= python benchmarks/step.py --out benchmarks/results/step_plain.json
"""

import argparse
import functools
import gc
import statistics
import time

import before_jax  # noqa: F401  (first, for its flags)
import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import jaxprs_in_params
from torch_peer import torch_steps

import adamx

SHAPES = {"large": ((32 * 2**20,), 1), "many": ((32, 1024), 1000), "small": ((64,), 1000)}
"""Workload -> shape of a leaf, number of leaves."""

QUICK_SHAPES = {"large": ((2**20,), 1), "many": ((32, 1024), 50), "small": ((64,), 50)}
PROGRAMS = {
    "equal": [(64,)] * 1000,
    "four shapes": [(8, 16), (16,), (32, 8), (4, 4, 4)] * 25,
    "distinct": [(i // 40 + 1, i % 40 + 1) for i in range(1000)],
    "ten": [(64,)] * 10,
}
"""Programs that are compiled: name -> shapes of the leaves."""

ROUNDS_A_SITTING = 5
METHOD = (
    "one process; contestants in turns, a turn one unmeasured step and one measured; arrays allocated anew every 5 rounds; medians; "
    "ratio: median of paired ratios, below 1 ours is faster"
)
PARTS = ("step", "temporaries", "traffic", "compile", "accuracy")
DECAYS = (0.999, 0.9999, 0.99999)
RULES = tuple(name for name in adamx.CATALOGUE if common.peer(name) is not None)


def main():
    """Measures, prints, writes."""
    options = arguments()
    shapes = QUICK_SHAPES if options.quick else SHAPES
    record = common.environment(
        dtype="float32",
        sizes={name: f"{count} x {list(shape)}" for name, (shape, count) in shapes.items()},
        repeats=options.repeats,
        method=METHOD,
    )
    common.print_environment(record)
    if "step" in options.parts:
        record["step"] = [
            time_steps(rule, work, shapes[work], options.repeats)
            for work in options.workloads
            for rule in options.rules
        ]
        common.print_table("Time of a step, ms (ratio: ours / peer)", record["step"])
    if "temporaries" in options.parts:
        record["temporaries"] = [temporaries(name) for name in ELEMENTWISE]
        common.print_table("Arrays of a leaf's size that a step makes beside its results", record["temporaries"])
    if "traffic" in options.parts:
        record["traffic"] = [traffic(rule) for rule in options.rules]
        common.print_table("Arrays of a leaf's size that a step reads and writes", record["traffic"])
    if "compile" in options.parts:
        repeats = max(3, options.repeats // 8)
        part = slice(None, None, 10 if options.quick else 1)
        programs = {name: PROGRAMS[name][part] for name in options.programs}
        pairs = [measure_compilation(rule, *program, repeats) for program in programs.items() for rule in options.rules]
        record["compile"] = [times for times, _ in pairs]
        record["size"] = [row for _, rows in pairs for row in rows]
        common.print_table("Compilation, s (ratio: ours / Optax)", record["compile"])
        common.print_table("Size of the program", record["size"])
    if "accuracy" in options.parts:
        record["accuracy"] = [accuracy(b2) for b2 in DECAYS]
        common.print_table("Adam, 200 steps: largest relative error of an update against float64", record["accuracy"])
    common.write_json(options.out, record)


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rules", nargs="+", default=RULES, choices=RULES, metavar="RULE")
    parser.add_argument("--workloads", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=PROGRAMS, help="which are compiled")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--repeats", type=int, default=None, help="rounds (20, or 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: does it run?")
    parser.add_argument("--out", default=common.RESULTS / "step.json")
    options = parser.parse_args()
    options.repeats = options.repeats or (3 if options.quick else 20)
    return options


# Time of a step


def make_tree(shape, count, seed):
    """A dict of `count` arrays of standard normal numbers."""
    rng = np.random.default_rng(seed)
    return {f"leaf{i:04}": rng.standard_normal(shape, dtype=np.float32) for i in range(count)}


def jax_stepper(rule, step, params, grads):
    """A function that makes one step and waits for it; `step` is the compiled step of `rule`."""
    params, grads = jax.tree.map(jnp.array, params), jax.tree.map(jnp.array, grads)
    # In buffers of its own: some of the states of Optax hold the parameters themselves, which cannot be donated twice.
    state = [params, jax.tree.map(jnp.copy, rule.init(params))]

    def run():
        state[:] = jax.block_until_ready(step(*state, grads))

    return run


def in_turns(contestants, repeats):
    """Name -> seconds of one step in each of `repeats` rounds.

    A turn is an unmeasured step and a measured one, so that nobody pays for (or gains from) what the one before left in the caches and
    in spinning threads. Every few rounds all arrays are allocated anew, in reversed order: where they happen to lie in memory makes a
    program faster or slower by up to a third, for as long as they lie there.

    Args:
      contestants: Name -> function that allocates and returns a function that makes one step.
      repeats: Number of rounds.
    """
    times = {name: [] for name in contestants}
    for i in range(repeats):
        sitting, place = divmod(i, ROUNDS_A_SITTING)
        order = list(contestants)[:: -1 if sitting % 2 else 1]
        if place == 0:
            # The old arrays go first: the large workload would otherwise lie in memory twice.
            runs = {}
            runs = {name: contestants[name]() for name in order}
            for run in runs.values():
                run()
        for name in order:
            runs[name]()
            start = time.perf_counter()
            runs[name]()
            times[name].append(time.perf_counter() - start)
    return times


def time_steps(name, workload, size, repeats):
    """One row: our step and each peer's."""
    params, grads = make_tree(*size, seed=0), make_tree(*size, seed=1)
    contestants = torch_steps(name, params, grads, common.LEARNING_RATE)
    for who, rule in (("ours", common.ours(name)), ("optax", common.peer(name))):
        contestants[who] = functools.partial(jax_stepper, rule, common.jitted_step(rule), params, grads)
    times = in_turns(contestants, repeats)
    row = {"rule": name, "workload": workload}
    row |= {who: 1e3 * statistics.median(times[who]) if who in times else None for who in WHO}
    row["of medians"] = row["ours"] / row["optax"]
    for who in WHO[1:]:
        row[f"ratio {who}"] = common.paired_ratio(times["ours"], times[who]) if who in times else None
    print(f"{workload} {name}: ours {row['ours']:.2f} ms, optax {row['optax']:.2f} ms", flush=True)
    return row


WHO = ("ours", "optax", "torch foreach", "torch fused")


# Temporaries

ELEMENTWISE = [name for name in adamx.CATALOGUE if all(stage.elementwise for stage in common.ours(name).stages)]


def temporaries(name, size=2**20):
    """One row: the temporaries of the compiled step on one leaf, in leaves; parameters and state are donated."""
    rule, peer = common.ours(name), common.peer(name)
    steps = {"update, apply": (rule, common.step_of(rule)), "step": (rule, lambda p, s, g: rule.step(g, s, p))}
    steps["optax"] = (peer, peer and common.step_of(peer))
    leaf = jax.ShapeDtypeStruct((size,), jnp.float32)

    def of(rule, step):
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(leaf, jax.eval_shape(rule.init, leaf), leaf).compile()
        return round(compiled.memory_analysis().temp_size_in_bytes / (4 * size), 2)

    return {"rule": name} | {what: of(*pair) if pair[0] else None for what, pair in steps.items()}


def traffic(name, size=2**20):
    """One row: the arrays of a leaf's size that the compiled step on one leaf reads and writes; parameters and state are donated."""
    leaf, rules = jax.ShapeDtypeStruct((size,), jnp.float32), {"ours": common.ours(name), "optax": common.peer(name)}

    def of(rule):
        return common.arrays_moved(
            common.jitted_step(rule).lower(leaf, jax.eval_shape(rule.init, leaf), leaf).compile(), size
        )

    return {"rule": name} | {whose: of(rule) if rule else None for whose, rule in rules.items()}


# Compilation


def abstract_step(rule, shapes):
    """A new step function and its arguments without data, so that nothing is cached."""
    params = {f"leaf{i:04}": jax.ShapeDtypeStruct(shape, jnp.float32) for i, shape in enumerate(shapes)}
    return common.step_of(rule), (params, jax.eval_shape(rule.init, params), params)


def compile_once(rule, shapes):
    """Seconds of tracing and lowering, and of compilation, from empty caches; and how much program it is."""
    step, example = abstract_step(rule, shapes)
    jax.clear_caches()
    # Python's garbage collector would visit all that the imports left behind, now in one contestant's time, now in the other's.
    gc.collect()
    gc.freeze()
    start = time.perf_counter()
    traced = jax.jit(step, donate_argnums=(0, 1)).trace(*example)
    lowered = traced.lower()
    middle = time.perf_counter()
    compiled = lowered.compile()
    seconds = {"lower": middle - start, "compile": time.perf_counter() - middle}
    return seconds | {"sum": sum(seconds.values())}, {
        "jaxpr equations, top level": len(traced.jaxpr.eqns),
        "in all": equations(traced.jaxpr.jaxpr),
        "StableHLO lines": len(lowered.as_text().splitlines()),
        "optimized HLO instructions": sum(" = " in line for line in compiled.as_text().splitlines()),
    }


def equations(jaxpr):
    """Number of equations, those of inner functions included once for each call."""
    inner = (sub for eqn in jaxpr.eqns for sub in jaxprs_in_params(eqn.params))
    return len(jaxpr.eqns) + sum(equations(sub) for sub in inner)


def measure_compilation(name, program, shapes, repeats):
    """One row of times (trace and lower, compile, and their sum) and two of sizes (ours, Optax's)."""
    makers = {"ours": common.ours, "optax": common.peer}
    times, sizes = {who: [] for who in makers}, {}
    for i in range(repeats):
        for who in list(makers)[:: -1 if i % 2 else 1]:
            seconds, sizes[who] = compile_once(makers[who](name), shapes)
            times[who].append(seconds)
    row = {"program": program, "rule": name}
    for what in ("lower", "compile", "sum"):
        seconds = {who: [one[what] for one in times[who]] for who in makers}
        row |= {f"{what} {who}": statistics.median(values) for who, values in seconds.items()}
        row[f"ratio {what}"] = common.paired_ratio(seconds["ours"], seconds["optax"])
    print(f"compile {program}, {name}: ours {row['sum ours']:.2f} s, optax {row['sum optax']:.2f} s", flush=True)
    return row, [{"program": program, "rule": name, "of": who, **sizes[who]} for who in makers]


# Accuracy


def adam_in_float64(grads, b1, b2, eps):
    """Adam's updates, in NumPy float64, from the paper's formulas."""
    mu = nu = np.zeros(grads.shape[1:])
    for t, g in enumerate(grads.astype(np.float64), start=1):
        mu, nu = b1 * mu + (1 - b1) * g, b2 * nu + (1 - b2) * g**2
        yield -common.LEARNING_RATE * (mu / (1 - b1**t)) / (np.sqrt(nu / (1 - b2**t)) + eps)


def accuracy(b2, steps=200, elements=1000):
    """One row: largest relative error of our and Optax's updates. Signs are fixed, so that no update is a difference near zero."""
    rng = np.random.default_rng(2)
    signs = rng.choice([-1.0, 1.0], elements)
    grads = (signs * rng.lognormal(size=(steps, elements))).astype(np.float32)
    exact = np.stack(list(adam_in_float64(grads, 0.9, b2, 1e-8)))
    row = {"b2": f"{b2:.5f}"}
    for who, make in (("ours", adamx.adam), ("optax", optax.adam)):
        rule = make(common.LEARNING_RATE, b2=b2)
        _, updates = jax.jit(lambda state, rule=rule: run_updates(rule, state, grads))(rule.init(grads[0]))
        row[who] = float(np.max(np.abs(np.asarray(updates, np.float64) / exact - 1)))
    return row


def run_updates(rule, state, grads):
    """The final state and the updates of all steps."""

    def body(state, g):
        updates, state = rule.update(g, state)
        return state, updates

    return jax.lax.scan(body, state, grads)


if __name__ == "__main__":
    main()
