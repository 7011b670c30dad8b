"""Bytes that one compiled step of each rule moves on a TPU, and the temporaries it needs, without a TPU.

XLA compiles ahead of time for a described chip, so the figures are exact and repeat to the last digit. A step is update and apply on one
float32 leaf, parameters and state donated. The floor is what no program can do without: the gradient read, the parameter read and written
(12 bytes), and each slot of the parameter's shape read and written (8 bytes). A rule that needs a norm of the whole leaf before it can
write anything reads something again: "reduces" says so.

With `--parts fused`, the same of rules whose slots are kept in 8 bits: arguments and outputs of the compiled `step`, which are all that one
kernel moves if there are no temporaries; beside it the temporaries of the same step without the kernel. And leaves of several shapes.

    pip install "adamx[tpu]"
    python benchmarks/tpu.py [--parts traffic fused] [--rules adam lion] [--chips v5e] [--size 33554432] [--out results.json]
"""

import argparse
import importlib.util
import os
import sys

CHIPS = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}

if __name__ == "__main__":
    if importlib.util.find_spec("libtpu") is None:
        sys.exit(
            'benchmarks/tpu.py compiles with libtpu, which is not installed: pip install "jax[tpu]" (no TPU is needed).'
        )
    # libtpu asks for these when JAX is imported; without them it looks for the machine's TPU and waits.
    os.environ.update(
        JAX_PLATFORMS="cpu",
        TPU_SKIP_MDS_QUERY="1",
        TPU_WORKER_HOSTNAMES="localhost",
        TPU_ACCELERATOR_TYPE="v5e-4",
        ALLOW_MULTIPLE_LIBTPU_LOAD="true",
    )

import common  # noqa: E402  (after the environment is set)
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax.experimental import topologies  # noqa: E402

import adamx  # noqa: E402
from adamx.wiring import hindrance  # noqa: E402


def floor_of(rule, shape):
    """Bytes a parameter that a step must move at least."""
    slots = [slot for stage in rule.stages for slot in stage.slots]
    return 12 + 8 * sum(slot.shape(shape) == shape for slot in slots)


def traffic(rule, size, chip):
    """Bytes accessed and temporaries, a parameter, of one compiled step of `rule` on `chip` (a sharding)."""
    leaf = jax.ShapeDtypeStruct((size,), jnp.float32)
    arguments = (leaf, jax.eval_shape(rule.init, leaf), leaf)
    arguments = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=chip), arguments)
    compiled = common.jitted_step(rule).lower(*arguments).compile()
    return {
        "bytes": compiled.cost_analysis()["bytes accessed"] / size,
        "temporaries": compiled.memory_analysis().temp_size_in_bytes / size,
    }


def measure(name, size, chips):
    """One row of the results: the floor, and our and Optax's traffic on each chip."""
    rule, peer = adamx.create(name, common.LEARNING_RATE), common.peer(name)
    row = {
        "rule": name,
        "floor": floor_of(rule, (size,)),
        "reduces": not all(stage.elementwise for stage in rule.stages),
        "ours": {chip: traffic(rule, size, where) for chip, where in chips.items()},
        "optax": peer and {chip: traffic(peer, size, where) for chip, where in chips.items()},
    }
    print(name, *(f"{chip} {figures['bytes']:.2f}" for chip, figures in row["ours"].items()), flush=True)
    return row


SHAPES = (
    (32768, 1024),
    (2**25,),
    (768, 50257),
    (50257, 768),
    (12, 768, 64),
    (768, 12, 64),
    (4097, 129),
    (50257,),
    (2048,),
)
"""Of leaves whose step is compiled fused: as they occur, of odd lengths, and less than a block."""


def moved(rule, leaf, chip):
    """Arguments and outputs, and temporaries, in bytes a parameter, of one compiled `step` of `rule`; and how many kernels are in it."""
    arguments = (leaf, jax.eval_shape(rule.init, leaf), leaf)
    arguments = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=chip), arguments)
    step = jax.jit(lambda params, state, grads: rule.step(grads, state, params), donate_argnums=(0, 1))
    compiled = step.lower(*arguments).compile()
    memory = compiled.memory_analysis()
    return {
        "moved": (memory.argument_size_in_bytes + memory.output_size_in_bytes) / leaf.size,
        "temporaries": memory.temp_size_in_bytes / leaf.size,
        "kernels": compiled.as_text().count("tpu_custom_call"),
    }


def fused(name, shape, chips, dtypes=(jnp.float32, jnp.bfloat16)):
    """One row: what a fused step with 8-bit slots moves on each chip, and what the same needs without the kernel on the first of them."""
    rule = adamx.create(name, common.LEARNING_RATE).store(adamx.EightBit())
    leaves = {dtype.__name__: jax.ShapeDtypeStruct(shape, dtype) for dtype in dtypes}
    first = next(iter(chips))
    row = {
        "rule": name,
        "shape": list(shape),
        "fused": {
            dtype: {chip: moved(rule.fuse(), leaf, where) for chip, where in chips.items()}
            for dtype, leaf in leaves.items()
        },
        "unfused": {first: moved(rule, leaves["float32"], chips[first])},
    }
    print(name, shape, *(f"{x['moved']:.2f}" for x in row["fused"]["float32"].values()), flush=True)
    return row


def fused_table(rows):
    """The rows of fused steps as they are printed."""
    for row in rows:
        line = {"rule": row["rule"], "leaf": " x ".join(map(str, row["shape"]))}
        for dtype, on_chips in row["fused"].items():
            for chip, figures in on_chips.items():
                line[f"{dtype} {chip}"] = f"{figures['moved']:.2f}"
                line[f"temp {chip}"] = f"{max(row['fused'][d][chip]['temporaries'] for d in row['fused']):.2f}"
        for chip, figures in row["unfused"].items():
            line[f"unfused temp {chip}"] = f"{figures['temporaries']:.2f}"
        yield line


def table(rows):
    """The rows as they are printed."""
    for row in rows:
        line = {"rule": row["rule"], "reduces": "yes" if row["reduces"] else "", "floor": row["floor"]}
        for chip, figures in row["ours"].items():
            line[chip] = f"{figures['bytes']:.2f}"
            line[f"temp {chip}"] = f"{figures['temporaries']:.2f}"
            line[f"optax {chip}"] = row["optax"] and f"{row['optax'][chip]['bytes']:.2f}"
        yield line


def main():
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    plain = [name for name in adamx.CATALOGUE if not any(s.scalar_extras for s in adamx.create(name, 1e-3).stages)]
    parser.add_argument("--parts", nargs="+", default=["traffic", "fused"], choices=["traffic", "fused"])
    parser.add_argument("--rules", nargs="+", default=plain, choices=plain, metavar="RULE")
    parser.add_argument("--chips", nargs="+", default=list(CHIPS), choices=CHIPS)
    parser.add_argument("--size", type=int, default=32 * 2**20, help="parameters in the leaf")
    parser.add_argument("--out", default=common.RESULTS / "tpu.json")
    options = parser.parse_args()
    chips = {
        chip: jax.sharding.SingleDeviceSharding(
            topologies.get_topology_desc(platform="tpu", topology_name=CHIPS[chip]).devices[0]
        )
        for chip in options.chips
    }
    record = common.environment(
        method="compiled ahead of time; XLA's cost and memory analysis", dtype="float32", size=options.size
    )
    common.print_environment(record)
    if "traffic" in options.parts:
        rows = record["rows"] = [measure(name, options.size, chips) for name in options.rules]
        common.print_table("Bytes of HBM traffic and of temporaries (temp), a parameter and step", list(table(rows)))
        above = [row["rule"] for row in rows if any(f["bytes"] > row["floor"] + 0.01 for f in row["ours"].values())]
        print(f"\nabove the floor: {', '.join(above) or 'none'}")
    if "fused" in options.parts:
        names = [name for name in options.rules if not any(map(hindrance, adamx.create(name, 1e-3).stages))]
        title = (
            "Bytes moved and of temporaries by a fused step with 8-bit slots (unfused: temporaries without the kernel)"
        )
        record["fused"] = [fused(name, (options.size // 1024, 1024), chips) for name in names]
        record["shapes"] = [fused("adamw", shape, chips, (jnp.float32,)) for shape in SHAPES]
        for part in ("fused", "shapes"):
            common.print_table(title, list(fused_table(record[part])))
    common.write_json(options.out, record)


if __name__ == "__main__":
    main()
