"""Instruments: measures of what an optimizer does inside, taken from the signals of `UpdateRule.trace`.

A measure is a pure function of a leaf's `Signal`. `probe(rule, ...)` is the rule with some measures attached; they come back from its
`trace`, ready to be the outputs of a `lax.scan`, and never enter the optimizer's state. What is not read is not computed.

>>> probed = probe(adam(0.1), update_rms, alignment, per="tree")
>>> params = {"w": jnp.array([3.0, -4.0])}
>>> _, _, measured = probed.trace({"w": jnp.array([1.0, -8.0])}, probed.init(params), params)
>>> print({name: round(float(value), 4) for name, value in measured.items()})
{'update_rms': 0.1, 'alignment': 0.7894}
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adamx.measures import MEASURES as MEASURES
from adamx.measures import Cosine as Cosine
from adamx.measures import Mean as Mean
from adamx.measures import Measure as Measure
from adamx.measures import Quantiles as Quantiles
from adamx.measures import RatioOfRootMeanSquares as RatioOfRootMeanSquares
from adamx.measures import RootMeanSquare as RootMeanSquare
from adamx.measures import alignment as alignment
from adamx.measures import effective_learning_rate as effective_learning_rate
from adamx.measures import eps_share as eps_share
from adamx.measures import gradient_rms as gradient_rms
from adamx.measures import momentum_alignment as momentum_alignment
from adamx.measures import parameter_rms as parameter_rms
from adamx.measures import sign_agreement as sign_agreement
from adamx.measures import signal_to_noise as signal_to_noise
from adamx.measures import staleness as staleness
from adamx.measures import update_ratio as update_ratio
from adamx.measures import update_rms as update_rms
from adamx.numerics import debias_weight
from adamx.rule import UpdateRule
from adamx.signal import Signal
from adamx.wiring import GIVEN


def measures_of(rule):
    """Those of `MEASURES` that can be taken of `rule`, whose stages write the fields they read."""
    written = GIVEN.union(*(stage.writes for stage in rule.stages))
    return tuple(measure for measure in MEASURES.values() if measure.reads <= written)


def measure(signals, *measures, per="tree"):
    """Measures of a tree of signals, as `UpdateRule.trace` returns it.

    Args:
      signals: Tree of `Signal`, None where there was no gradient.
      *measures: What to measure.
      per: "tree" for one value of all leaves together, "leaf" for a tree with one value a leaf, "coordinate" for a tree of arrays.

    Returns:
      Measure name -> value.
    """
    is_signal = lambda x: isinstance(x, Signal)  # noqa: E731
    if per == "tree":
        leaves = jax.tree.leaves(signals, is_leaf=is_signal)
        return {m.name: m.of(leaves) for m in measures}
    if per not in ("leaf", "coordinate"):
        raise ValueError(f"per must be 'tree', 'leaf' or 'coordinate', got {per!r}.")
    take = {"leaf": lambda m: lambda x: m.of([x]), "coordinate": lambda m: m.coordinates}[per]
    return {m.name: jax.tree.map(take(m), signals, is_leaf=is_signal) for m in measures}


class Probed(optax.GradientTransformationExtraArgs):
    """A rule with measures attached; see `probe`. Its state and updates are the rule's."""

    def __new__(cls, rule, measures, per):
        """Unchecked; use `probe`."""
        self = super().__new__(cls, rule.init, rule.update)
        self.rule, self.measures, self.per = rule, measures, per
        return self

    def trace(self, grads, state, params=None):
        """`update`, and the measures of the step.

        Returns:
          updates, state, and measure name -> value.
        """
        updates, state, signals = self.rule.trace(grads, state, params)
        return updates, state, measure(signals, *self.measures, per=self.per)

    def __repr__(self):
        return f"probe({self.rule!r}, {', '.join(m.name for m in self.measures)}, per={self.per!r})"

    def __reduce__(self):
        return probe, (self.rule, *self.measures), {"per": self.per}


jax.tree_util.register_pytree_node(
    Probed, lambda tx: ((tx.rule,), (tx.measures, tx.per)), lambda fixed, children: Probed(*children, *fixed)
)


def probe(rule, *measures, per="tree"):
    """`rule` with measures attached, which its `trace` returns.

    Args:
      rule: An `UpdateRule`.
      *measures: Measures of this module, or your own; none for all that can be taken of the rule.
      per: As in `measure`.

    Raises:
      TypeError: `rule` is no `UpdateRule`.
      ValueError: a measure reads what no stage of the rule writes.
    """
    if not isinstance(rule, UpdateRule):
        raise TypeError(f"probe takes an UpdateRule, got {rule!r}; probe the rule before chaining it.")
    possible = measures_of(rule)
    written = GIVEN.union(*(stage.writes for stage in rule.stages))
    for m in measures:
        if not m.reads <= written:
            raise ValueError(
                f"{m.name} reads {', '.join(sorted(m.reads - written))}, which no stage of the rule writes: {rule!r}. "
                f"Measures it can take: {', '.join(p.name for p in possible)}."
            )
    return Probed(rule, measures or possible, per)


def debias_weights(state):
    """Total weight of each bias-corrected average so far, 1 when it has warmed up, from a `RuleState`: name -> scalar."""
    t = jnp.maximum(state.count, 1)
    logs = _log_decays(state)
    return {name: debias_weight(log, t.astype(log.dtype)) for name, log in logs.items()}


def half_lives(state):
    """Half-life in steps of each bias-corrected average, log(1/2) / log(beta), from a `RuleState`: name -> scalar."""
    return {name: jnp.log(0.5) / log for name, log in _log_decays(state).items()}


def _log_decays(state):
    suffix = "_log_decay"
    return {name.removesuffix(suffix): log for name, log in state.scalars.items() if name.endswith(suffix)}


# Where measurements go


def table(measured, every=1):
    """Measurements of many steps (leading axis: time) as a plain text table, one row every `every` steps.

    Args:
      measured: Name -> array of shape (steps,) or (steps, k), as `lax.scan` stacks the measures of `trace` with per="tree".
      every: Rows shown.
    """
    columns = _columns(measured)
    steps = range(0, len(next(iter(columns.values()))), every)
    rows = [["step", *columns]] + [[str(t + 1), *(f"{values[t]:.4g}" for values in columns.values())] for t in steps]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def write_tensorboard(logdir, series: Mapping, steps=None):
    """Writes scalar curves as TensorBoard event files (needs tensorboardX, of the `lab` extra).

    Args:
      logdir: Folder; made if absent.
      series: Tag -> array of shape (steps,), or (steps, k) for k curves tag/0 ... tag/k-1.
      steps: Step number of each point; 1, 2, ... if None.
    """
    from tensorboardX import SummaryWriter

    columns = _columns(series)
    with SummaryWriter(str(logdir)) as writer:
        for tag, values in columns.items():
            numbers = range(1, len(values) + 1) if steps is None else steps
            for step, value in zip(numbers, values, strict=True):
                writer.add_scalar(tag, float(value), int(step))


def _columns(measured):
    columns = {}
    for name, values in measured.items():
        values = np.asarray(values)
        if values.ndim == 1:
            columns[name] = values
        elif values.ndim == 2:
            columns |= {f"{name}/{i}": values[:, i] for i in range(values.shape[1])}
        else:
            raise ValueError(
                f"{name} has shape {values.shape}; expected (steps,) or (steps, k). Measure with per='tree'."
            )
    return columns
