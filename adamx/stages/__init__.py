"""The pieces that rules are lines of, and how to write one.

A stage is written for one array. It gets a record of the step, `Signal`, reads some of its fields and writes some; what it must remember
it keeps in slots. It is a frozen dataclass: its fields are its hyperparameters, and leaves of the rule's tree. This one divides the
gradient of each leaf by the average size that it had so far:

>>> @stage
... class ByAverageNorm(Stage):
...     '''g <- g / (n_t / (1 - decay^t) + eps),    n_t = decay n_{t-1} + (1 - decay) ||g_t||'''
...
...     decay: Decay = 0.9  # kept as 1 - decay, exact near 1
...     eps: NonNegative = 1e-8  # checked when the rule is built
...
...     slots = (Slot("norm", signed=False, shape=one_per_leaf),)  # one number a leaf; without `shape`, one a coordinate
...     scalar_slots = ("norm_log_decay",)  # what of `scalars` is kept for the next step
...     reads, writes = {"g"}, {"g"}
...     elementwise = False  # a coordinate depends on others of its leaf
...
...     def scalars(self, t, last):  # once a step, for all leaves: the rate, the factor `debias`, and the new scalar slot
...         return average_scalars(self.decay, t, last, "norm_log_decay")
...
...     def __call__(self, x, s, k):  # once a leaf: signal, slots and scalars in, signal and slots out
...         size = average(s["norm"], norm(x.g), k["rate"])
...         return x.write(g=ratio(x.g, size * k["debias"] + self.eps)), {"norm": size}

It goes into a line as any other, and the rule is a rule like any other: schedules, `vmap` over `decay`, None gradients, bfloat16 parameters
and checkpoints need nothing more from it.

>>> rule = update_rule(ByAverageNorm(0.99), Momentum(0.9), TakeMomentum(), LearningRate(0.1))
>>> params = {"w": jnp.array([3.0, -4.0])}
>>> updates, state = rule.update(params, rule.init(params))
>>> print(updates["w"].round(4))
[-0.06  0.08]

A stage may ask for sums over the whole tree. The line is cut there: the stages before it run on all leaves, `measure` gives each leaf's
share, `combine` makes scalars of the sums, then `__call__` runs as ever. This one limits the step by the smallest loss so far, which is an
argument of every step, and kept in a scalar slot:

>>> @stage
... class ByProgress(Stage):
...     '''u <- u least_t / (least_t + ||u||^2 over the tree),    least_t = min(least_{t-1}, value),    least_0 = start'''
...
...     begin: Positive = 1e6
...
...     sums = ("u_squared",)  # one all-reduce for all sums of a cut, where leaves are sharded
...     scalar_slots = ("least",)
...     scalar_extras = ("value",)  # update(grads, state, params, value=loss); `extras` are trees like the parameters
...     reads, writes = {"u"}, {"u"}
...     elementwise = False
...
...     def initial(self):  # of slots and scalar slots; `start(p)` for slots that begin at something made of the parameter
...         return {"least": self.begin}
...
...     def measure(self, x, s, k):
...         return {"u_squared": sum_of_squares(x.u)}
...
...     def combine(self, sums, k):  # k has what `scalars` returns, `value`, and the scalar slots as they were
...         least = jnp.minimum(k["least"], k["value"])
...         return {"least": least, "factor": ratio(least, least + sums["u_squared"])}
...
...     def __call__(self, x, s, k):
...         return x.write(u=k["factor"] * x.u), s

>>> rule = update_rule(TakeGradient(), ByProgress(), LearningRate(1.0))
>>> updates, state = rule.update(params, rule.init(params), params, value=25.0)
>>> print(updates["w"], state.scalars["least"])
[-1.5  2. ] 25.0

- **Hyperparameters.** A field annotated `Number`, `NonNegative`, `Positive` or `Decay` takes a number, an array or a schedule, and is
  checked. In the methods of a step it is a scalar array; of a `Decay`, `complement` is the array 1 - beta. A field made by `static()` is
  structure instead: a string or a flag, hashable, compared by value.
- **Further arguments**: of `extras`, trees like the parameters, `x.NAME` is None in a step without them; declare that in `reads` too.
- **Shapes**: a slot's `shape` is any function from the parameter's. `v` and `d` may have axes of length 1 where coordinates share a value
  (`v[:, None]` for one a row); other fields are as the gradient.
- **A second moment** that `RunningMax` and `modifiers.amsgrad` can wrap derives from `SecondMomentStage`.
- **Arithmetic** is in float32 (float64, complex where the leaf is), whatever the dtypes of parameters and storage. `average`, `ratio`,
  `root`, `norm` and `abs_sq` have the right values and derivatives at zeros and at the ends of the range.
- **Work done once** belongs into `scalars`: what depends on hyperparameters and the step number, not on the leaf.
- **State**: slots start at zero, at what `initial` says, or at what `start(p)` makes of the parameter. Names are unique in a rule.
- **Fields** of other names than `Signal`'s go from stage to stage: `x.write(basis=b)` and `x.basis`, declared like any other.
- **Leaves**: `on_leaves` tells on which the stage acts (elsewhere its slots are one zero), or what it does there; `masked(stage, mask)`
  does it from outside. A `Wrapper` modifies another stage.
- **Random bits**: with `random = True`, `random_bits(x.g, k["key"])` and `standard_normal(x.g, k["key"])` differ in each step and leaf.
- **Checks**: what a stage returns is compared with what it declares when it is traced.
- **Branches** in a step are `jnp.where`: the step number `t` and all arrays are traced. What the code itself reads (a global, an
  attribute) is read anew in each trace.
"""

from adamx.annotations import Decay as Decay
from adamx.annotations import NonNegative as NonNegative
from adamx.annotations import Number as Number
from adamx.annotations import Positive as Positive
from adamx.numerics import abs_sq as abs_sq
from adamx.numerics import average as average
from adamx.numerics import norm as norm
from adamx.numerics import rate_of as rate_of
from adamx.numerics import ratio as ratio
from adamx.numerics import root as root
from adamx.numerics import sum_of_squares as sum_of_squares
from adamx.randomness import random_bits as random_bits
from adamx.randomness import standard_normal as standard_normal
from adamx.stages.amos import AmosStep
from adamx.stages.around import Lookahead, ScheduleFree
from adamx.stages.base import MaskOfTree, OnUpdate, Slot, Stage, Wrapper, masked, stage
from adamx.stages.base import leaf_by_leaf as leaf_by_leaf
from adamx.stages.base import leaves_where as leaves_where
from adamx.stages.base import one_per_leaf as one_per_leaf
from adamx.stages.compensation import KahanCompensation
from adamx.stages.decay import (
    CautiousDecay,
    CorrectedDecay,
    CoupledDecay,
    DecayAfterStep,
    DecayToAverage,
    DecayWithStep,
    DecoupledDecay,
    FixedDecay,
    IndependentDecay,
    ProjectedDecay,
    ProximalDecay,
)
from adamx.stages.denominator import (
    AdaptToVariance,
    Atan2,
    Divide,
    DivideByPower,
    DivideByRoot,
    DivideByRootEpsHat,
    MatchUpdateSize,
)
from adamx.stages.distance import DAdaptation, DistanceStep, DivideByRootAtDistance, ProdigyDistance
from adamx.stages.factored import (
    BlockSecondMoment,
    CoverSecondMoment,
    DivideByConfidence,
    FactoredSecondMoment,
    MatrixSecondMoment,
)
from adamx.stages.first_moment import (
    AlgoPerfMomentum,
    DozatMomentum,
    HeavyBall,
    Momentum,
    Nesterov,
    NesterovMomentum,
    RawMomentum,
    RawNesterovMomentum,
)
from adamx.stages.gradient import (
    Centralize,
    ClipGlobalNorm,
    ClipGradient,
    ClipGradientNorm,
    ClipGradientRms,
    NegateGradient,
    NormaliseGradient,
    NormaliseGradientByMax,
    NormaliseLaterGradients,
    TakeGradient,
)
from adamx.stages.history import AmplifySlow, ClipToUsualNorm, StabilizeSpikes, VarianceReduced
from adamx.stages.matrix import FromSecondStep, IntoEigenbasis, Orthogonalize, OutOfEigenbasis, SkipFirstStep
from adamx.stages.mixed_momentum import (
    AdanMomentum,
    AdaNormMomentum,
    AggregatedMomentum,
    AveragedStep,
    LionMomentum,
    MixedMomentum,
    MixedSum,
    PositiveNegativeMomentum,
    QuasiHyperbolicMomentum,
)
from adamx.stages.moments import SecondMomentStage
from adamx.stages.moments import average_scalars as average_scalars
from adamx.stages.of_second_moment import DebiasedRunningMax, FromFirstGradient, RunningMax
from adamx.stages.oracle import ClipByCurvature, DivideByRootPower, HessianMoment, HessianSecondMoment
from adamx.stages.rate import BoundedRate, RateBelowAverage
from adamx.stages.rectify import Rectify, RectifyOrWait
from adamx.stages.restart import Restarted
from adamx.stages.second_moment import (
    CorrectedSunspikeSecondMoment,
    DelayedSecondMoment,
    FlooredSecondMoment,
    InfinityMoment,
    LayerSecondMoment,
    QuasiHyperbolicSecondMoment,
    RawSecondMoment,
    RawYogi,
    SecondMoment,
    SumOfSquares,
    SunspikeSecondMoment,
    Yogi,
)
from adamx.stages.step import (
    Cautious,
    ClipUpdateRms,
    Friction,
    LayerRate,
    LearningRate,
    MatchParameterNorm,
    RescaleParameters,
    ScaleByParameterRms,
    Sign,
    SignOfGradient,
    SlowSurprisedLayers,
    TakeMomentum,
    TrustRatio,
)
from adamx.stages.variance import (
    Belief,
    CentredSecondMoment,
    ConditionalMoments,
    CorrectedCentredSecondMoment,
    DebiasedCentredSecondMoment,
    DelayedBelief,
    MomentumAndVariance,
)
from adamx.stages.whole_tree import (
    DistanceOverGradients,
    DistanceOverWeightedGradients,
    InertiaMomentum,
    PolyakRate,
    StableDecay,
)
from adamx.structure import static as static

# fmt: off
__all__ = [
    "AdaNormMomentum", "AdanMomentum", "AdaptToVariance", "AggregatedMomentum", "AlgoPerfMomentum", "AmosStep",
    "AmplifySlow", "Atan2", "AveragedStep", "Belief", "BlockSecondMoment", "BoundedRate", "Cautious",
    "CautiousDecay", "Centralize", "CentredSecondMoment", "ClipByCurvature", "ClipGlobalNorm", "ClipGradient",
    "ClipGradientNorm", "ClipGradientRms", "ClipToUsualNorm", "ClipUpdateRms", "ConditionalMoments",
    "CorrectedCentredSecondMoment", "CorrectedDecay", "CorrectedSunspikeSecondMoment", "CoupledDecay",
    "CoverSecondMoment", "DAdaptation", "DebiasedCentredSecondMoment", "DebiasedRunningMax", "DecayAfterStep",
    "DecayToAverage", "DecayWithStep", "DecoupledDecay", "DelayedBelief", "DelayedSecondMoment",
    "DistanceOverGradients", "DistanceOverWeightedGradients", "DistanceStep", "Divide", "DivideByConfidence",
    "DivideByPower", "DivideByRoot", "DivideByRootAtDistance", "DivideByRootEpsHat", "DivideByRootPower",
    "DozatMomentum", "FactoredSecondMoment", "FixedDecay", "FlooredSecondMoment", "Friction", "FromFirstGradient",
    "FromSecondStep", "HeavyBall", "HessianMoment", "HessianSecondMoment", "IndependentDecay", "InertiaMomentum",
    "InfinityMoment", "IntoEigenbasis", "KahanCompensation", "LayerRate", "LayerSecondMoment", "LearningRate", "LionMomentum",
    "Lookahead", "MaskOfTree", "MatchParameterNorm", "MatchUpdateSize", "MatrixSecondMoment", "MixedMomentum",
    "MixedSum", "Momentum", "MomentumAndVariance", "NegateGradient", "Nesterov", "NesterovMomentum",
    "NormaliseGradient", "NormaliseGradientByMax", "NormaliseLaterGradients", "OnUpdate", "Orthogonalize",
    "OutOfEigenbasis", "PolyakRate", "PositiveNegativeMomentum", "ProdigyDistance", "ProjectedDecay",
    "ProximalDecay", "QuasiHyperbolicMomentum", "QuasiHyperbolicSecondMoment", "RateBelowAverage", "RawMomentum",
    "RawNesterovMomentum", "RawSecondMoment", "RawYogi", "Rectify", "RectifyOrWait", "RescaleParameters",
    "Restarted", "RunningMax", "ScaleByParameterRms", "ScheduleFree", "SecondMoment", "SecondMomentStage", "Sign",
    "SignOfGradient", "SkipFirstStep", "Slot", "SlowSurprisedLayers", "StabilizeSpikes", "StableDecay", "Stage",
    "SumOfSquares", "SunspikeSecondMoment", "TakeGradient", "TakeMomentum", "TrustRatio", "VarianceReduced",
    "Wrapper", "Yogi", "masked", "stage",
]
"""The stages, and what defines one: these are reached as `adamx.NAME` too. Their arithmetic is imported from here."""
# fmt: on
