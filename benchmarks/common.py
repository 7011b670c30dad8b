"""What the benchmarks share: the peers of each rule, a step, the description of the machine, tables and files."""

import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics

import jax
import optax
import optax.contrib

import adamx
from adamx import files

RESULTS = pathlib.Path(__file__).parent / "results"
LEARNING_RATE = 1e-3
OPTIONS = {"amsgrad": {"maximum_of": "debiased"}}
"""Options with which a rule of ours means what Optax's rule of that name does."""


def ours(name):
    """Our rule `name` as Optax means it."""
    return adamx.create(name, LEARNING_RATE, **OPTIONS.get(name, {}))


PEERS = {
    "momentum": lambda rate: optax.chain(optax.ema(0.9, debias=False), optax.scale_by_learning_rate(rate)),
    "schedule_free": optax.contrib.schedule_free_adamw,
    # These have two sets of parameters, or need the loss.
    **dict.fromkeys(("lookahead", "sophia", "polyak_sgd"), lambda rate: None),
}
"""Optax's rules that are not called as ours."""


def peer(name):
    """Optax's rule `name`, or None if it has none that steps on gradients alone."""
    constructor = PEERS.get(name) or getattr(optax, name, None) or getattr(optax.contrib, name, None)
    return constructor and constructor(LEARNING_RATE)


def step_of(rule):
    """The function that every benchmark times: update and apply."""

    def step(params, state, grads):
        updates, state = rule.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def jitted_step(rule):
    """`step_of(rule)` compiled, with parameters and state donated."""
    return jax.jit(step_of(rule), donate_argnums=(0, 1))


def arrays_moved(compiled, size):
    """How many arrays of `size` elements the kernels of a compiled program read and write, by its text."""
    entry = compiled.as_text().partition("\nENTRY ")[2]
    whole, types, moved = f"[{size}]", {}, 0
    for name, result, kind, operands in re.findall(r"%(\S+) = (.+?) ([a-z-]+)\((.*?)\)(?:,|\n)", entry):
        types[name] = result.count(whole)
        if kind not in ("parameter", "get-tuple-element", "tuple", "bitcast"):
            moved += types[name] + sum(types[operand] for operand in re.findall(r"%([^\s,]+)", operands))
    return moved


def paired_ratio(ours, peer):
    """Median over rounds of ours / peer."""
    return statistics.median(a / b for a, b in zip(ours, peer, strict=True))


def environment(**more):
    """Machine, versions and whatever else the results depend on."""
    packages = ("jax", "jaxlib", "optax", "numpy", "torch", "libtpu")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {"adamx": _version("adamx"), **{name: _version(name) for name in packages}},
        **more,
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def print_environment(record):
    """Prints what `environment` returned, one line an item."""
    for key, value in record.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {what}" for name, what in value.items() if what is not None)
        print(f"{key}: {value}")


def print_table(title, rows):
    """Prints a list of dicts of equal keys as a table; numbers right-aligned, None as a dash."""
    if not rows:
        return
    cells = [list(rows[0])] + [[_shown(value) for value in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    print(f"\n{title}")
    for line in cells:
        print(
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            sep="  ",
        )


def _shown(value):
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-2 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def write_json(path, record):
    """Writes `record` whole or not at all."""
    with files.whole(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\nwritten: {path}", flush=True)
