"""Ideas that go with any rule: each makes a new rule of one, with a stage more, another one, or one wrapped.

>>> from adamx import modifiers
>>> modifiers.cautious(lion(1e-4))
LionMomentum(b1=0.9, b2=0.99) | Sign() | Cautious(floor=0.001) | DecoupledDecay(weight_decay=0.001) | LearningRate(learning_rate=0.0001)
>>> modifiers.centralize(modifiers.amsgrad(nadam(1e-3))).stages[0]
Centralize(channel_axis=-1)

A modifier that a rule has no place for is refused with a `WiringError`. `NAMES` has the combinations that the literature has a name for.
"""

from collections.abc import Callable

from adamx import wiring
from adamx.annotations import Scalar
from adamx.rounding import Nearest
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    Cautious,
    CautiousDecay,
    Centralize,
    ClipGlobalNorm,
    ClipUpdateRms,
    DecoupledDecay,
    HeavyBall,
    KahanCompensation,
    Momentum,
    NegateGradient,
    Nesterov,
    NesterovMomentum,
    RawMomentum,
    RawNesterovMomentum,
    RunningMax,
    SecondMomentStage,
    SignOfGradient,
    TrustRatio,
    VarianceReduced,
    decay,
)
from adamx.storage import BFloat16
from adamx.wiring import WiringError


def cautious(rule: UpdateRule, floor: Scalar = 1e-3) -> UpdateRule:
    """Leaves out the coordinates in which the update goes against the gradient (`Cautious`; Liang et al., arXiv:2411.16085)."""
    return _after_direction(rule, Cautious(floor), "cautious")


def grams(rule: UpdateRule) -> UpdateRule:
    """Gives the update the sign of the present gradient (`SignOfGradient`; Cao et al., arXiv:2412.17107)."""
    return _after_direction(rule, SignOfGradient(), "grams")


def clip_rms(rule: UpdateRule, threshold: Scalar = 1.0) -> UpdateRule:
    """Scales each leaf's update down to a root mean square (`ClipUpdateRms`; Adafactor, arXiv:1804.04235)."""
    return _after_direction(rule, ClipUpdateRms(threshold), "clip_rms")


def trust_ratio(rule: UpdateRule) -> UpdateRule:
    """Gives each leaf's update, decay included, the norm of its parameter (`TrustRatio`; LAMB, arXiv:1904.00962)."""
    return _inserted(rule, _rate_at(rule, "trust_ratio"), TrustRatio(), "trust_ratio")


def cautious_decay(rule: UpdateRule, weight_decay: Scalar) -> UpdateRule:
    """Decays only where the step goes towards zero too (`CautiousDecay`; arXiv:2510.12402), in the place of a decoupled decay."""
    at = _rate_at(rule, "cautious_decay")
    kept = [stage for stage in rule.stages[:at] if not _has(stage, DecoupledDecay)]
    return _rebuilt(rule, (*kept, CautiousDecay(weight_decay), *rule.stages[at:]))


def centralize(rule: UpdateRule, channel_axis: int = -1) -> UpdateRule:
    """Takes the mean over the inputs of each output off the gradient (`Centralize`; Yong et al., arXiv:2004.01461)."""
    return _inserted(rule, 0, Centralize(channel_axis), "centralize")


def clip_global_norm(rule: UpdateRule, max_norm: Scalar = 1.0) -> UpdateRule:
    """Scales the gradient down to a norm over the whole tree (`ClipGlobalNorm`)."""
    return _inserted(rule, 0, ClipGlobalNorm(max_norm), "clip_global_norm")


def mars(rule: UpdateRule, gamma: Scalar = 0.025, b1: Scalar = 0.95) -> UpdateRule:
    """Reduces the variance of the gradient by its change since the last step (`VarianceReduced`; Yuan et al., arXiv:2411.10438).

    b1 is the decay rate of the rule's momentum.
    """
    return _inserted(rule, 0, VarianceReduced(b1, gamma, vectors=True), "mars")


def maximize(rule: UpdateRule) -> UpdateRule:
    """Ascends instead of descending (`NegateGradient`)."""
    return _inserted(rule, 0, NegateGradient(), "maximize")


def nesterov(rule: UpdateRule) -> UpdateRule:
    """Reads the momentum out with Nesterov's look-ahead, as `nadam` does."""
    for kind, ahead in ((Momentum, NesterovMomentum), (RawMomentum, RawNesterovMomentum), (HeavyBall, Nesterov)):
        if sum(_has(stage, kind) for stage in _stages(rule, "nesterov")) == 1:
            (rate,) = vars(rule.get(kind)).values()
            return rule.replace(kind, ahead(rate))
    raise WiringError(f"nesterov needs a rule with one Momentum, RawMomentum or HeavyBall, got {rule!r}.")


def amsgrad(rule: UpdateRule) -> UpdateRule:
    """Divides by the largest second moment so far (`RunningMax`; Reddi et al., openreview ryQu7f-RZ)."""
    stages = _stages(rule, "amsgrad")
    found = [i for i, stage in enumerate(stages) if isinstance(stage, SecondMomentStage)]
    if len(found) != 1 or _has(stages[found[0]], RunningMax) or "nu" not in {s.name for s in stages[found[0]].slots}:
        raise WiringError(
            f"amsgrad needs a rule with one second moment that is kept whole and is no maximum yet, got {rule!r}."
        )
    i = found[0]
    return _rebuilt(rule, (*stages[:i], RunningMax(stages[i]), *stages[i + 1 :]))


def kahan(rule: UpdateRule) -> UpdateRule:
    """Keeps what bfloat16 or float16 parameters round away, in bfloat16 (`KahanCompensation`; Zamirai et al., arXiv:2010.06192)."""
    stages = _stages(rule, "kahan")
    if not any("lr" in stage.writes for stage in stages):
        raise WiringError(
            f"kahan is for a whole rule, which moves parameters; this one has no learning rate: {rule!r}."
        )
    return _rebuilt(rule, (*stages, KahanCompensation())).store(p_error=BFloat16(Nearest()))


MODIFIERS: dict[str, Callable[..., UpdateRule]] = {
    "amsgrad": amsgrad,
    "cautious": cautious,
    "cautious_decay": cautious_decay,
    "centralize": centralize,
    "clip_global_norm": clip_global_norm,
    "clip_rms": clip_rms,
    "grams": grams,
    "kahan": kahan,
    "mars": mars,
    "maximize": maximize,
    "nesterov": nesterov,
    "trust_ratio": trust_ratio,
}
"""Name -> modifier."""

NAMES = {
    "AMSBound": ("amsgrad", "adabound", "openreview Bkg3g2R9FX"),
    "AMSGrad": ("amsgrad", "adam", "openreview ryQu7f-RZ"),
    "AMSGradW": ("amsgrad", "adamw", "openreview ryQu7f-RZ"),
    "C-AdamW": ("cautious", "adamw", "arXiv:2411.16085"),
    "C-Lion": ("cautious", "lion", "arXiv:2411.16085"),
    "CWD-AdamW": ("cautious_decay", "adamw", "arXiv:2510.12402"),
    "GC-SGD": ("centralize", "sgd", "arXiv:2004.01461"),
    "GCAdam": ("centralize", "adam", "arXiv:2004.01461"),
    "Grams": ("grams", "adamw", "arXiv:2412.17107"),
    "LAMB": ("trust_ratio", "adamw", "arXiv:1904.00962"),
    "MARS-Lion": ("mars", "lion", "arXiv:2411.10438"),
    "NAdam": ("nesterov", "adam", "Dozat, ICLR workshop 2016"),
    "NAdamW": ("nesterov", "adamw", "Dozat, ICLR workshop 2016"),
}
"""Name in the literature -> modifier, rule, source."""


def _stages(rule, name):
    if not isinstance(rule, UpdateRule):
        raise TypeError(
            f"{name} takes a rule, got {type(rule).__name__}; modify the rules of a chain or partition one by one."
        )
    return rule.stages


def _has(stage, kind):
    return any(isinstance(inner, kind) for inner in wiring.nested(stage))


def _rebuilt(rule, stages):
    rebuilt = update_rule(*stages).store(**dict(rule.storages))
    return rebuilt.fuse(interpret=rule.kernel.interpret) if rule.kernel else rebuilt


def _inserted(rule, at, stage, name):
    stages = _stages(rule, name)
    return _rebuilt(rule, (*stages[:at], stage, *stages[at:]))


def _rate_at(rule, name):
    """Position of the stage that brings the learning rate, where the update is there before it."""
    stages = _stages(rule, name)
    at = next((i for i, stage in enumerate(stages) if "lr" in stage.writes), len(stages))
    if not any("u" in stage.writes for stage in stages[:at]):
        raise WiringError(
            f"{name} changes the update before the learning rate; this rule has none apart from it: {rule!r}."
        )
    return at


def _after_direction(rule, stage, name):
    """The rule with `stage` before its decay and learning rate."""
    at = _rate_at(rule, name)
    while at and any(type(inner).__module__ == decay.__name__ for inner in wiring.nested(rule.stages[at - 1])):
        at -= 1
    if not any("u" in before.writes for before in rule.stages[:at]):
        raise WiringError(f"{name} has no place in this rule, whose update is there only with its decay: {rule!r}.")
    return _inserted(rule, at, stage, name)
