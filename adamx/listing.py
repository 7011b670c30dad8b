"""The catalogue to read: a table of all rules, and a page on each."""

import inspect

import jax
import jax.numpy as jnp

from adamx.catalogue import CATALOGUE, entry_of
from adamx.evaluation import state_bytes
from adamx.rule import RuleTree
from adamx.wiring import slots_of

EXAMPLE = {"kernel": (1024, 1024), "bias": (1024,)}
"""Shapes of the parameters for which the table says how large a state is."""


def bytes_per_parameter(rule: RuleTree, shapes: dict[str, tuple[int, ...]] | None = None) -> float:
    """Bytes of state for each parameter, with float32 parameters of these shapes (by default one layer of 1024 units)."""
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in (shapes or EXAMPLE).items()}
    return state_bytes(rule, params) / sum(p.size for p in params.values())


def slot_names(rule: RuleTree) -> str:
    """Names of a rule's slots, in order; the parts of a partition may share some."""
    return ", ".join(dict.fromkeys(slot.name for slot in slots_of(rule.stages))) or "none"


def table() -> str:
    """The catalogue as a Markdown table, with the slots that each rule keeps by default and what they take."""
    rows = [("rule", "year", "changes", "state", "bytes", "source")]
    for entry in CATALOGUE.values():
        rule = entry.constructor(1e-3)
        size = f"{bytes_per_parameter(rule):.2f}"
        rows.append((f"`{entry.name}`", str(entry.year), entry.changes, slot_names(rule), size, entry.paper))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def page(name: str) -> str:
    """What there is to know of a rule: its line of stages, formulas, defaults, and how it differs elsewhere.

    Raises:
      ValueError: unknown; names the nearest ones.
    """
    entry = entry_of(name)
    rule = entry.constructor(1e-3)
    parts = [
        f"{name}{_arguments(entry.constructor)}",
        inspect.getdoc(entry.constructor) or "",
        f"Line, with a learning rate of 0.001:\n    {rule}".replace(" | ", "\n  | "),
        f"State: {slot_names(rule)}; {bytes_per_parameter(rule):.2f} bytes a parameter (float32, 1024 units).",
        f"Changes: {entry.changes} ({entry.group}). Source: {entry.paper}, {entry.year}.",
    ]
    return "\n\n".join(parts)


def _arguments(function):
    """Names and defaults of a function's arguments; their types are for checkers."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
