"""Where measurements of many steps go: a table of text, TensorBoard."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np


def table(measured: Mapping[str, Any], every: int = 1) -> str:
    """Measurements of many steps (leading axis: time) as a plain text table, one row every `every` steps.

    Args:
      measured: Name -> array of shape (steps,) or (steps, k), as `lax.scan` stacks the measures of `trace` with per="tree".
      every: Rows shown, a positive integer.

    Raises:
      TypeError: not a mapping, or not of real numbers.
      ValueError: no curves, curves of several lengths, or of another shape.
    """
    if not isinstance(every, (int, np.integer)) or every < 1:
        raise ValueError(f"every must be a positive integer, got {every!r}.")
    columns = _columns(measured)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"the columns of a table are of one length, got {shown}.")
    steps = range(0, next(iter(lengths.values())), every)
    rows = [["step", *columns]] + [[str(t + 1), *(f"{values[t]:.4g}" for values in columns.values())] for t in steps]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def write_tensorboard(
    logdir: str | os.PathLike[str], series: Mapping[str, Any], steps: Sequence[int] | None = None
) -> None:
    """Writes scalar curves as TensorBoard event files (needs tensorboardX, of the `lab` extra).

    Args:
      logdir: Folder; made if absent, once all else is checked.
      series: Tag -> array of shape (steps,), or (steps, k) for k curves tag/0 ... tag/k-1.
      steps: Step number of each point, whole numbers; 1, 2, ... if None.

    Raises:
      ImportError: tensorboardX is not installed.
      NotADirectoryError: `logdir` is a file.
      TypeError: `logdir` is no path; `series` is no mapping, or not of real numbers.
      ValueError: no curves, of another shape, or not as many points as `steps`.
    """
    if not isinstance(logdir, (str, os.PathLike)):
        raise TypeError(f"logdir must be the path of a folder, got {logdir!r}: write_tensorboard(logdir, series).")
    if pathlib.Path(logdir).exists() and not pathlib.Path(logdir).is_dir():
        raise NotADirectoryError(f"logdir must be a folder, and {str(logdir)!r} is a file.")
    columns = _columns(series)
    numbers = {tag: _step_numbers(tag, len(values), steps) for tag, values in columns.items()}
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError('write_tensorboard needs tensorboardX: pip install "adamx[lab]"') from error

    with SummaryWriter(str(logdir)) as writer:
        for tag, values in columns.items():
            for step, value in zip(numbers[tag], values, strict=True):
                writer.add_scalar(tag, float(value), int(step))


def _step_numbers(tag, length, steps):
    if steps is None:
        return range(1, length + 1)
    numbers = np.asarray(steps)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf" or np.any(numbers != np.floor(numbers)):
        raise ValueError(f"steps must be a sequence of whole numbers, one for each point, got {steps!r}.")
    if len(numbers) != length:
        raise ValueError(f"{tag} has {length} points, and steps has {len(numbers)} numbers.")
    return numbers


def _columns(measured):
    """Name -> float array (steps,); the columns of a (steps, k) array are named after it."""
    if not hasattr(measured, "items"):
        raise TypeError(
            f"expected measurements by name, {{name: array of shape (steps,) or (steps, k)}}, got {type(measured).__name__}."
        )
    if not len(measured):
        raise ValueError("there are no measurements: the mapping is empty.")
    columns = {}
    for name, values in measured.items():
        values = _numbers(name, values)
        several = {f"{name}/{i}": column for i, column in enumerate(values.T)} if values.ndim == 2 else {name: values}
        taken = sorted(columns.keys() & several.keys())
        if taken:
            raise ValueError(f"there are two curves {taken[0]!r}: one is a column of an array, rename the other.")
        columns |= several
    return columns


def _numbers(name, values):
    if isinstance(values, Mapping):
        raise TypeError(f"{name} is a tree of measurements; expected an array. Measure with per='tree'.")
    values = np.asarray(values)
    if not any(jnp.issubdtype(values.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise TypeError(f"{name} has dtype {values.dtype}; expected real numbers.")
    if values.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {values.shape}; expected (steps,) or (steps, k). Measure with per='tree'.")
    return values.astype(np.float64)
