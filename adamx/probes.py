"""Instruments: measures of what an optimizer does inside, taken from the signals of `UpdateRule.trace`.

A measure is a pure function of a leaf's `Signal`. `probe(rule, ...)` is the rule with some measures attached; they come back from its
`trace`, ready to be the outputs of a `lax.scan`, and never enter the optimizer's state. What is not read is not computed.

>>> probed = probe(adam(0.1), update_rms, alignment, per="tree")
>>> params = {"w": jnp.array([3.0, -4.0])}
>>> _, _, measured = probed.trace({"w": jnp.array([1.0, -8.0])}, probed.init(params), params)
>>> print({name: round(float(value), 4) for name, value in measured.items()})
{'update_rms': 0.1, 'alignment': 0.7894}
"""

import functools
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp

from adamx.annotations import Tree
from adamx.measure_kinds import Cosine as Cosine
from adamx.measure_kinds import Mean as Mean
from adamx.measure_kinds import Measure as Measure
from adamx.measure_kinds import Norm as Norm
from adamx.measure_kinds import Quantiles as Quantiles
from adamx.measure_kinds import RatioOfRootMeanSquares as RatioOfRootMeanSquares
from adamx.measure_kinds import RootMeanSquare as RootMeanSquare
from adamx.measures import MEASURES as MEASURES
from adamx.measures import alignment as alignment
from adamx.measures import effective_learning_rate as effective_learning_rate
from adamx.measures import eps_share as eps_share
from adamx.measures import gradient_norm as gradient_norm
from adamx.measures import gradient_rms as gradient_rms
from adamx.measures import momentum_alignment as momentum_alignment
from adamx.measures import parameter_rms as parameter_rms
from adamx.measures import sign_agreement as sign_agreement
from adamx.measures import signal_to_noise as signal_to_noise
from adamx.measures import staleness as staleness
from adamx.measures import update_norm as update_norm
from adamx.measures import update_ratio as update_ratio
from adamx.measures import update_rms as update_rms
from adamx.numerics import debias_weight, ratio
from adamx.rule import RuleTree, UpdateRule
from adamx.series import table as table
from adamx.series import write_tensorboard as write_tensorboard
from adamx.signal import Signal, separated
from adamx.stages.base import Stage
from adamx.state import RuleState
from adamx.wiring import GIVEN


def measures_of(rule: UpdateRule) -> tuple[Measure, ...]:
    """Those of `MEASURES` that can be taken of `rule`, whose stages write the fields they read."""
    _check_rule(rule, "measures_of")
    written = _fields_of(rule)
    return tuple(measure for measure in MEASURES.values() if measure.reads <= written)


def measure(signals: Signal, *measures: Measure, per: str = "tree") -> dict[str, Any]:
    """Measures of the signals of a step.

    Args:
      signals: The `Signal` of the tree, as `UpdateRule.trace` returns it.
      *measures: What to measure: measures of this module, or your own.
      per: "tree" for one value of all leaves together, "leaf" for a tree with one value a leaf, "coordinate" for a tree of arrays.

    Returns:
      Measure name -> value. With "tree", a measure of no coordinates (an empty tree, no gradient at all, leaves of size 0) is 0, so that
      all steps have values of one shape; with "leaf" so is that of a leaf of size 0. A leaf without a gradient is left out of "tree", and
      has None otherwise.

    Raises:
      TypeError: something else than measures, or than signals.
      ValueError: a measure reads what the signals do not have, or two have one name; an unknown `per`; signals of many steps stacked.
    """
    _check_measures("measure(signals, {})", measures, per)
    _check_signals(signals)
    leaves = separated(signals)
    if leaves:
        _check_fields(leaves[0], measures)
    if per == "tree":
        return {m.name: m.of(leaves) for m in measures}
    take = {"leaf": lambda m, x: m.of([x]), "coordinate": lambda m, x: m.coordinates(x)}[per]
    structure = jax.tree.structure(signals.raw)
    return {m.name: jax.tree.unflatten(structure, [take(m, x) for x in leaves]) for m in measures}


class Probed(RuleTree):
    """A rule with measures attached; see `probe`. Its state and updates are the rule's.

    It is a pytree of the rule's hyperparameters, equal by value, and can be pickled where its measures can.

    Attributes:
      rule: The `UpdateRule`.
      measures: The measures.
      per: As in `measure`.
    """

    def __new__(cls, rule: UpdateRule, measures: tuple[Measure, ...], per: str) -> "Probed":
        """Unchecked; JAX calls it with placeholders. Use `probe`."""
        self = super().__new__(cls, functools.partial(_init, rule), functools.partial(_update, rule))
        self.rule, self.measures, self.per = rule, measures, per
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The rule's stages."""
        return self.rule.stages

    def trace(
        self, grads: Tree, state: RuleState, params: Tree = None, **extra: Any
    ) -> tuple[Tree, RuleState, dict[str, Any]]:
        """`update`, and the measures of the step. Extra arguments are for other transformations.

        Returns:
          updates, state, and measure name -> value.

        Raises:
          ValueError: a measure reads the parameters, and there are none.
        """
        readers = [m.name for m in self.measures if "p" in m.reads]
        if params is None and readers:
            raise ValueError(
                f"{', '.join(readers)} read the parameters, but trace got params=None: call trace(grads, state, params), "
                "or probe the rule with other measures."
            )
        updates, state, signals = self.rule.trace(grads, state, params, **extra)
        return updates, state, measure(signals, *self.measures, per=self.per)

    def __repr__(self):
        return f"probe({self.rule!r}, {', '.join(m.name for m in self.measures)}, per={self.per!r})"

    def __reduce__(self):
        return Probed, (self.rule, self.measures, self.per)


jax.tree_util.register_pytree_with_keys(
    Probed,
    lambda tx: (((jax.tree_util.GetAttrKey("rule"), tx.rule),), (tx.measures, tx.per)),
    lambda fixed, children: Probed(next(iter(children)), *fixed),
)


def probe(rule: UpdateRule, *measures: Measure, per: str = "tree") -> Probed:
    """`rule` with measures attached, which its `trace` returns.

    Args:
      rule: An `UpdateRule`. In a chain, probe the rule, then chain it.
      *measures: Measures of this module, or your own; none for all that can be taken of the rule.
      per: As in `measure`.

    Raises:
      TypeError: `rule` is no `UpdateRule`, or a measure no `Measure`.
      ValueError: a measure reads what no stage of the rule writes, or two have one name; an unknown `per`.
    """
    _check_rule(rule, "probe")
    _check_measures("probe(rule, {})", measures, per)
    possible, written = measures_of(rule), _fields_of(rule)
    for m in measures:
        if not m.reads <= written:
            raise ValueError(
                f"{m.name} reads {', '.join(sorted(m.reads - written))}, which no stage of the rule writes: {rule!r}. "
                f"Measures it can take: {', '.join(p.name for p in possible)}."
            )
    return Probed(rule, measures or possible, per)


def debias_weights(state: RuleState) -> dict[str, jax.Array]:
    """Total weight of each bias-corrected average so far, 1 when it has warmed up, from a `RuleState`: name -> scalar."""
    logs = _log_decays(state)
    t = jnp.maximum(state.count, 1)
    return {name: debias_weight(log, t.astype(log.dtype)) for name, log in logs.items()}


def half_lives(state: RuleState) -> dict[str, jax.Array]:
    """Half-life in steps of each bias-corrected average, log(1/2) / log(beta), from a `RuleState`: name -> scalar, 0 before any step."""
    return {name: ratio(jnp.log(0.5).astype(log.dtype), log) for name, log in _log_decays(state).items()}


def _log_decays(state):
    if not isinstance(state, RuleState):
        raise TypeError(
            f"expected the RuleState of one rule, got {type(state).__name__}; in the state of a chain it is the rule's entry."
        )
    suffix = "_log_decay"
    return {name.removesuffix(suffix): log for name, log in state.scalars.items() if name.endswith(suffix)}


def _init(rule, *args, **kwargs):
    return rule.init(*args, **kwargs)


def _update(rule, *args, **kwargs):
    return rule.update(*args, **kwargs)


def _fields_of(rule):
    """Fields of the signal that are there after the last stage."""
    return GIVEN.union(*(stage.writes for stage in rule.stages))


def _check_rule(rule, caller):
    if isinstance(rule, Probed):
        raise TypeError(f"{caller} takes an UpdateRule, got one with measures already: {caller}(probed.rule, ...).")
    if not isinstance(rule, UpdateRule):
        raise TypeError(
            f"{caller} takes an UpdateRule, got {rule!r}. In a chain, probe the rule before chaining it: "
            "adamx.chain(..., probe(rule, ...)); its trace then gives the measures."
        )


def _check_measures(call, measures, per):
    for m in measures:
        if isinstance(m, (list, tuple)):
            raise TypeError(f"measures are separate arguments, got a {type(m).__name__}: {call.format('*measures')}.")
        if not isinstance(m, Measure):
            hint = (
                f"probes.{m}"
                if isinstance(m, str) and m in MEASURES
                else "an instance of one of the kinds, as Mean(...)"
            )
            raise TypeError(f"expected a measure, got {m!r}: pass {hint}.")
    repeated = [name for name, times in Counter(m.name for m in measures).items() if times > 1]
    if repeated:
        raise ValueError(f"the results are by name, and there is more than one measure {repeated[0]!r}.")
    if per not in ("tree", "leaf", "coordinate"):
        raise ValueError(f"per must be 'tree', 'leaf' or 'coordinate', got {per!r}.")


def _check_signals(signals):
    if not isinstance(signals, Signal):
        raise TypeError(
            f"measure takes a Signal, the third of what a rule's trace returns, got {type(signals).__name__}."
        )
    if jnp.ndim(signals.t):
        raise ValueError(
            f"the signals are of {len(signals.t)} steps or lanes; measure takes one: measure where the step is made, or under jax.vmap."
        )


def _check_fields(x, measures):
    for m in measures:
        absent = sorted(field for field in m.reads if getattr(x, field, None) is None)
        if "p" in absent:
            raise ValueError(
                f"{m.name} is a measure of the parameters, which the signals do not have: call trace(grads, state, params)."
            )
        if absent:
            raise ValueError(f"{m.name} reads {', '.join(absent)}, which no stage of the rule wrote into the signals.")
