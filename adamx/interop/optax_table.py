"""Optax's states, written as patterns over lines of stages: which part of a line keeps what Optax keeps in which state."""

import dataclasses
from collections.abc import Callable

import optax

from adamx import stages as s
from adamx.hyperparameters import Decay, Scheduled
from adamx.interop.optax_marks import COUNT, Constant, Count, Covers, Negative, Scalars
from adamx.stages.base import Masked
from adamx.wiring import nested


@dataclasses.dataclass(frozen=True)
class Row:
    """A part of a line and Optax's states for it.

    Attributes:
      line: For each stage its type, as `kinds` gives it, or a set of types.
      states: Function of the stages to the tuple of Optax's states, in the order of its chain.
      closing: States that Optax has at the end of a chain with a learning rate.
      within: A type of stage that must be in the line; None for any line.
    """

    line: tuple
    states: Callable
    closing: tuple = ()
    within: type | None = None

    def matches(self, stages, whole):
        """Whether these are the stages of the part, in the line `whole`."""
        if self.within and self.within not in map(type, whole):
            return False
        return len(stages) == len(self.line) and all(
            kinds(stage) in of for stage, of in zip(stages, self.line, strict=True)
        )


def kinds(stage):
    """The type of a stage and of those it wraps."""
    return tuple(type(inner) for inner in nested(stage))


def _one_of(*found):
    return frozenset(kind if isinstance(kind, tuple) else (kind,) for kind in found)


def _row(line, states, **options):
    line = tuple(of if isinstance(of, frozenset) else _one_of(of) for of in line)
    return Row(line, states if callable(states) else lambda *_: states, **options)


def _is_scheduled(value):
    return isinstance(value.complement if isinstance(value, Decay) else value, Scheduled)


def _decay_schedule():
    # Not public in Optax, as is the next one. Versions without a state for the schedule do not take one.
    state = optax.add_decayed_weights(lambda count: 0.0).init(())
    return state._replace(count=Count(of="decay")) if state else state


def _rms_with_count():
    return optax.scale_by_rms(bias_correction=True).init(())._replace(count=COUNT, nu="nu")


def _rate(stage):
    return optax.ScaleByScheduleState(Count(of="rate")) if _is_scheduled(stage.learning_rate) else optax.EmptyState()


def _decay(stage):
    if isinstance(stage, Masked):
        return optax.MaskedState(_decay(stage.inner))
    return _decay_schedule() if _is_scheduled(stage.weight_decay) else optax.EmptyState()


def _adam(*_):
    return (optax.ScaleByAdamState(COUNT, "mu", "nu"),)


def _belief(*_):
    return (optax.ScaleByBeliefState(COUNT, "mu", "nu"),)


def _amsgrad(*_):
    return (optax.ScaleByAmsgradState(COUNT, "mu", "nu", "nu_max"),)


def _lars(_, decay, rate):
    inner = decay.inner if isinstance(decay, Masked) else decay
    return optax.MaskedState(_decay(inner)), optax.MaskedState(optax.EmptyState())


def _prodigy(*_):
    return (
        optax.contrib.ProdigyState(
            exp_avg="mu",
            exp_avg_sq="nu",
            grad_sum="s",
            params0="p_start",
            estim_lr=Scalars(("distance", "distance_max")),
            numerator_weighted=Scalars(("numerator",)),
            count=Count(scalar="moves"),
        ),
    )


def _dadapt(*_):
    return (
        optax.contrib.DAdaptAdamWState(
            exp_avg="mu",
            exp_avg_sq="nu",
            grad_sum="s",
            estim_lr=Scalars(("distance",)),
            numerator_weighted=Scalars(("numerator",)),
            count=Count(scalar="moves"),
        ),
    )


def schedule_free(stage, base):
    """The state of `ScheduleFree` around a rule whose Optax state is `base`."""
    return optax.contrib.ScheduleFreeState(
        b1=Constant(1 - stage.b1.complement, like="weight_sum"),
        weight_sum=Scalars(("weight_sum",)),
        step_count=Count(first=1),
        max_lr=Scalars(("largest_lr",)),
        base_optimizer_state=base,
        z="z",
    )


EMPTY = optax.EmptyState()
MOMENTUM = _one_of(s.Momentum, s.NesterovMomentum)
RAW_MOMENTUM = _one_of(s.RawMomentum, s.RawNesterovMomentum)
TRACE = _one_of(s.HeavyBall, s.Nesterov)
TRACE_OF_STEPS = _one_of((s.OnUpdate, s.HeavyBall), (s.OnUpdate, s.Nesterov))
NORMALISED = (s.NormaliseGradient, s.TakeGradient)
_DECAYS = (s.DecoupledDecay, s.CoupledDecay, s.FixedDecay, s.IndependentDecay)
DECAY = _one_of(*_DECAYS, *((Masked, kind) for kind in _DECAYS))


def _rms_rows(moment, state):
    """RMSProp's: Optax's chain has a place for the momentum even without one."""
    return (
        _row((moment, *NORMALISED), lambda *_: (state(),)),
        _row((moment, *NORMALISED, s.LearningRate), lambda *x: (state(), _rate(x[3]), EMPTY)),
        _row(
            (moment, *NORMALISED, s.LearningRate, TRACE_OF_STEPS),
            lambda *x: (state(), _rate(x[3]), optax.TraceState("mu")),
        ),
    )


ROWS = (
    _row((MOMENTUM, _one_of(s.SecondMoment, s.Yogi), s.DivideByRoot), _adam),
    _row((MOMENTUM, s.SecondMoment, s.DivideByRoot, _one_of(s.Rectify, s.RectifyOrWait)), _adam),
    _row((s.Momentum, s.InfinityMoment, s.Divide), _adam),
    _row((s.DelayedSecondMoment, s.NormaliseGradientByMax, RAW_MOMENTUM, s.TakeMomentum), _adam),
    _row((s.DelayedSecondMoment, s.NormaliseGradientByMax, s.ClipGradient, RAW_MOMENTUM, s.TakeMomentum), _adam),
    _row((MOMENTUM, s.Belief, s.DivideByRoot), _belief),
    _row((s.Momentum, (s.DebiasedRunningMax, s.SecondMoment), s.DivideByRoot), _amsgrad),
    _row((s.RawMomentum, (s.RunningMax, s.RawSecondMoment), s.DivideByRoot), _amsgrad),
    _row((s.LionMomentum, s.Sign), lambda *_: (optax.ScaleByLionState(COUNT, "mu"),)),
    _row(
        (s.MixedMomentum, s.SecondMoment, s.DivideByRoot),
        lambda *_: (optax.contrib.ScaleByAdemamixState(COUNT, COUNT, "mu", "mu_slow", "nu"),),
    ),
    _row(
        (s.MixedSum, s.SecondMoment, s.DivideByRoot),
        lambda *_: (optax.contrib.ScaleBySimplifiedAdEMAMixState(COUNT, "mu", "nu"),),
    ),
    _row(
        (s.LayerSecondMoment, s.NormaliseGradient, s.CoupledDecay, s.HeavyBall, s.TakeMomentum),
        lambda *_: (optax.ScaleByNovogradState(COUNT, "mu", "nu"),),
    ),
    _row((s.SumOfSquares, *NORMALISED), lambda *_: (optax.ScaleByRssState("nu"),)),
    *_rms_rows(s.RawSecondMoment, lambda: optax.ScaleByRmsState("nu")),
    *_rms_rows(s.SecondMoment, _rms_with_count),
    _row((s.RawSecondMoment, s.MatchUpdateSize), lambda *_: (optax.ScaleByAdaDeltaState("nu", "e_x"),)),
    _row(
        (s.FactoredSecondMoment, *NORMALISED),
        lambda *_: (optax.FactoredState(COUNT, "nu_row", "nu_col", "nu"),),
        closing=(EMPTY,),
    ),
    _row(
        (s.CoverSecondMoment, *NORMALISED, (s.OnUpdate, s.RawMomentum)),
        lambda *_: (optax.ScaleBySM3State(Covers("nu", like="mu"), "mu"),),
    ),
    _row(
        (s.ProdigyDistance, s.RawMomentum, s.RawSecondMoment, s.DivideByRootAtDistance, DECAY, s.DistanceStep),
        _prodigy,
    ),
    _row(
        ((s.DAdaptation, s.RawSecondMoment), s.RawMomentum, s.DivideByRoot, s.DistanceStep, DECAY),
        _dadapt,
    ),
    _row(
        (RAW_MOMENTUM, s.Orthogonalize),
        lambda _, x: (optax.contrib.MuonState(COUNT, "mu", Constant(x.ns_coeffs)), EMPTY),
    ),
    _row((TRACE, s.TakeMomentum), lambda *_: (optax.TraceState("mu"),)),
    _row((s.RawMomentum, s.TakeMomentum), lambda *_: (optax.EmaState(COUNT, "mu"),)),
    _row((s.RawMomentum, s.Sign), lambda *_: (optax.EmaState(COUNT, "mu"), EMPTY)),
    _row((TRACE_OF_STEPS,), lambda *_: (optax.TraceState("mu"),)),
    # Optax's Adafactor changes the sign at the end of the chain.
    _row(
        ((s.OnUpdate, s.RawMomentum),),
        lambda *_: (optax.EmaState(COUNT, Negative("mu")),),
        within=s.FactoredSecondMoment,
    ),
    _row((s.TakeGradient, DECAY, _one_of(s.LayerRate, (Masked, s.LayerRate))), _lars),
    _row((s.TakeGradient, s.MatchParameterNorm), (EMPTY,)),
    _row(
        (s.TakeGradient, s.MatchParameterNorm, s.LearningRate, s.RescaleParameters),
        lambda *x: (EMPTY, _rate(x[2]), _decay_schedule() if _is_scheduled(x[2].learning_rate) else EMPTY),
    ),
    _row(
        (s.TakeGradient, s.PolyakRate),
        lambda _, x: ((EMPTY, optax.ScaleByScheduleState(COUNT) if _is_scheduled(x.scaling) else EMPTY), EMPTY),
    ),
    _row((_one_of(s.TakeGradient, s.TrustRatio, s.ClipUpdateRms, s.ScaleByParameterRms),), (EMPTY,)),
    _row((s.LearningRate,), lambda x: (_rate(x),)),
    _row((DECAY,), lambda x: (_decay(x),)),
)
"""The longest that matches counts."""


def reader(stage):
    """What `Count.of` is for the schedules of a stage."""
    if isinstance(stage, s.LearningRate):
        return "rate"
    return "decay" if DECAY & {kinds(stage)} else "moments"


# Where Optax's state means something else, or there is none

_CENTRED = (
    "Optax keeps the average of |g|^2, from which it subtracts; here the variance is kept, which is never negative"
)
_DISTANCE = "Optax keeps squares of the sums that are kept here"
REFUSED = {
    s.AdanMomentum: "Optax's Adan weighs the gradient's difference by 1 - b2, the authors and adamx by b2: it averages other squares",
    s.DelayedBelief: "Optax's ACProp measures surprise at the momentum before the step, the authors and adamx at that after it",
    s.DozatMomentum: "Optax's NAdam does not warm its momentum up: leave out momentum_decay, or take adamx.interop.torch",
    s.CentredSecondMoment: _CENTRED,
    s.DebiasedCentredSecondMoment: _CENTRED,
    s.DistanceOverGradients: _DISTANCE,
    s.DistanceOverWeightedGradients: _DISTANCE,
    s.Lookahead: "Optax's Lookahead keeps the slow weights beside the parameters, not in its state",
    s.HessianMoment: "Optax's Sophia estimates the Hessian itself, and keeps the random key for it in its state",
}

RAW_AMSGRAD = [(s.Momentum,), (s.RunningMax, s.SecondMoment), (s.DivideByRoot,)]


def refusal(stages):
    """Why a line has no state of Optax's though it has a relation there; None if nothing is known against it."""
    of = [kinds(stage) for stage in stages]
    if any(of[i : i + 3] == RAW_AMSGRAD for i in range(len(of))):
        return (
            "Optax's AMSGrad keeps the maximum of the bias-corrected average; here (maximum_of='raw') it is that of the average itself, as "
            "in torch: take amsgrad(..., maximum_of='debiased')"
        )
    for stage in stages:
        for kind in kinds(stage):
            if kind in REFUSED:
                return REFUSED[kind]
        if isinstance(stage, s.ProdigyDistance | s.DAdaptation) and not (
            stage.bias_correction and stage.growth_rate is None
        ):
            return "Optax's always corrects the bias and has no growth_rate: take bias_correction=True and growth_rate=None"
    return _of_schedules(stages)


def _of_schedules(stages):
    averaged = {
        field
        for stage in stages
        for name in stage.scalar_slots
        for field in {"mu_log_decay": ("b1",), "nu_log_decay": ("b2",), "rho_log_decay": ("b2",)}.get(name, ())
    }
    if any(isinstance(stage, s.ScheduleFree) and _is_scheduled(stage.b1) for stage in stages):
        return "b1 of ScheduleFree is a schedule, and a number in Optax's state"
    for stage in stages:
        for inner in nested(stage):
            for field in averaged:
                if _is_scheduled(getattr(inner, field, None)):
                    return f"{field} of {type(inner).__name__} is a schedule, for whose bias correction Optax's state has no place"
    return None
