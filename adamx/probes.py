"""Instruments: measures of what an optimizer does inside, taken from the signals of `UpdateRule.trace`.

A measure is a pure function of a leaf's `Signal`. `probe(rule, ...)` is the rule with some measures attached; they come back from its
`trace`, ready to be the outputs of a `lax.scan`, and never enter the optimizer's state. What is not read is not computed.

>>> probed = probe(adam(0.1), update_rms, alignment, per="tree")
>>> params = {"w": jnp.array([3.0, -4.0])}
>>> _, _, measured = probed.trace({"w": jnp.array([1.0, -8.0])}, probed.init(params), params)
>>> print({name: round(float(value), 4) for name, value in measured.items()})
{'update_rms': 0.1, 'alignment': 0.7894}
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adamx.numerics import abs_sq, debias_weight, ratio, root
from adamx.rule import UpdateRule
from adamx.signal import Signal
from adamx.wiring import GIVEN


class Measure:
    """Something measured on the signals of a step. Subclasses say how leaves are put together.

    Attributes:
      name: Key of the result.
      reads: Fields of `Signal` it needs.
    """

    name: str
    reads: frozenset

    def coordinates(self, x):
        """The measure of each coordinate of one leaf."""
        raise NotImplementedError

    def of(self, signals):
        """The measure of the leaves with these signals, taken together."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class RootMeanSquare(Measure):
    """Root mean square of a quantity over coordinates."""

    name: str
    reads: frozenset
    quantity: Callable

    def coordinates(self, x):
        """The quantity itself."""
        return self.quantity(x)

    def of(self, signals):
        """sqrt(sum of |quantity|^2 / number of coordinates)."""
        return root(_sum(abs_sq(self.quantity(x)) for x in signals) / _size(signals))


@dataclasses.dataclass(frozen=True)
class Mean(Measure):
    """Mean of a real quantity over coordinates; of a condition, the share of coordinates."""

    name: str
    reads: frozenset
    quantity: Callable

    def coordinates(self, x):
        """The quantity itself."""
        return self.quantity(x)

    def of(self, signals):
        """Sum of the quantity / number of coordinates."""
        return _sum(self.quantity(x) * jnp.ones([], _real(x)) for x in signals) / _size(signals)


@dataclasses.dataclass(frozen=True)
class Quantiles(Measure):
    """Quantiles of a real quantity over coordinates: an array of shape (len(levels),)."""

    name: str
    reads: frozenset
    quantity: Callable
    levels: tuple[float, ...] = (0.05, 0.5, 0.95)

    def coordinates(self, x):
        """The quantity itself."""
        return self.quantity(x)

    def of(self, signals):
        """Linear interpolation between order statistics, as `jnp.quantile`."""
        values = jnp.concatenate([jnp.ravel(self.quantity(x)) for x in signals])
        return jnp.quantile(values, jnp.asarray(self.levels, values.dtype))


@dataclasses.dataclass(frozen=True)
class Cosine(Measure):
    """Cosine of the angle between two directions; 0 where one is zero."""

    name: str
    reads: frozenset
    first: Callable
    second: Callable

    def coordinates(self, x):
        """Sign agreement of the coordinate: 1, 0 or -1."""
        return jnp.sign(_inner(self.first(x), self.second(x)))

    def of(self, signals):
        """<a, b> / (||a|| ||b||)."""
        pairs = [(self.first(x), self.second(x)) for x in signals]
        lengths = root(_sum(abs_sq(a) for a, _ in pairs)) * root(_sum(abs_sq(b) for _, b in pairs))
        return ratio(_sum(_inner(a, b) for a, b in pairs), lengths)


@dataclasses.dataclass(frozen=True)
class RatioOfRootMeanSquares(Measure):
    """RMS of one quantity over RMS of another; 0 where the second is zero."""

    name: str
    reads: frozenset
    first: Callable
    second: Callable

    def coordinates(self, x):
        """|first| / |second| of each coordinate."""
        return ratio(jnp.abs(self.first(x)), jnp.abs(self.second(x)))

    def of(self, signals):
        """RMS(first) / RMS(second)."""
        return root(ratio(_sum(abs_sq(self.first(x)) for x in signals), _sum(abs_sq(self.second(x)) for x in signals)))


def _fields(*names):
    return frozenset(names)


gradient_rms = RootMeanSquare("gradient_rms", _fields("raw"), lambda x: x.raw)
"""RMS of the gradient as given."""

parameter_rms = RootMeanSquare("parameter_rms", _fields("p"), lambda x: x.p)
"""RMS of the parameter before the step."""

update_rms = RootMeanSquare("update_rms", _fields("u"), lambda x: x.u)
"""RMS of the update, learning rate included."""

update_ratio = RatioOfRootMeanSquares("update_ratio", _fields("u", "p"), lambda x: x.u, lambda x: x.p)
"""RMS(update) / RMS(parameter): about 1e-3 in healthy training."""

effective_learning_rate = Quantiles("effective_learning_rate", _fields("lr", "d"), lambda x: ratio(x.lr, x.d))
"""Quantiles (5, 50, 95 %) of learning rate / denominator, the factor of the momentum in each coordinate."""

signal_to_noise = RootMeanSquare("signal_to_noise", _fields("m", "v"), lambda x: ratio(x.m, root(x.v)))
"""RMS of m / sqrt(v): near 1 where gradients agree from step to step, near 0 where they are noise."""

alignment = Cosine("alignment", _fields("u", "raw"), lambda x: x.u, lambda x: -x.raw)
"""Cosine of update and negative gradient: 1 is steepest descent; below 0 the step climbs."""

momentum_alignment = Cosine("momentum_alignment", _fields("m", "raw"), lambda x: x.m, lambda x: x.raw)
"""Cosine of momentum and gradient."""

sign_agreement = Mean("sign_agreement", _fields("u", "raw"), lambda x: _inner(x.u, -x.raw) > 0)
"""Share of coordinates whose update points down their gradient."""

eps_share = Mean("eps_share", _fields("v", "d"), lambda x: root(x.v) < x.d / 2)
"""Share of coordinates where eps is more than half of the denominator."""

staleness = RootMeanSquare("staleness", _fields("raw", "v"), lambda x: ratio(x.raw, root(x.v)))
"""RMS of gradient / sqrt(v): above 1, the second moment lags behind gradients that have grown."""

MEASURES = {
    measure.name: measure
    for measure in (
        gradient_rms,
        parameter_rms,
        update_rms,
        update_ratio,
        effective_learning_rate,
        signal_to_noise,
        alignment,
        momentum_alignment,
        sign_agreement,
        eps_share,
        staleness,
    )
}
"""Name -> measure, all of them."""


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


def _inner(a, b):
    return jnp.real(a * jnp.conj(b))


def _sum(arrays):
    return sum(jnp.sum(a) for a in arrays)


def _size(signals):
    return sum(x.g.size for x in signals)


def _real(x):
    return jnp.finfo(x.g.dtype).dtype
