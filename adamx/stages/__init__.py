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

- **Hyperparameters.** A field annotated `Number`, `NonNegative`, `Positive` or `Decay` takes a number, an array or a schedule, and is
  checked. In `scalars` and `__call__` it is a scalar array; of a `Decay`, `complement` is the array 1 - beta. A field made by `static()` is
  structure instead: a string or a flag, hashable, compared by value.
- **Arithmetic** is in float32 (float64, complex where the leaf is), whatever the dtypes of parameters and storage. `average`, `ratio`,
  `root`, `norm` and `abs_sq` have the right values and derivatives at zeros and at the ends of the range.
- **Work done once** belongs into `scalars`: what depends on hyperparameters and the step number, not on the leaf.
- **State**: slots start at zero, or at what `initial` says. Names are unique in a rule. A scalar slot is 0 before the first step.
- **Leaves**: `on_leaves` tells on which the stage acts; `masked(stage, mask)` does it from outside. A `Wrapper` modifies another stage.
- **Branches** in a step are `jnp.where`: the step number `t` and all arrays are traced. What the code itself reads (a global, an
  attribute) is read anew in each trace.
"""

from adamx.hyperparameters import Decay as Decay
from adamx.hyperparameters import NonNegative as NonNegative
from adamx.hyperparameters import Number as Number
from adamx.hyperparameters import Positive as Positive
from adamx.numerics import abs_sq as abs_sq
from adamx.numerics import average as average
from adamx.numerics import norm as norm
from adamx.numerics import rate_of as rate_of
from adamx.numerics import ratio as ratio
from adamx.numerics import root as root
from adamx.numerics import sum_of_squares as sum_of_squares
from adamx.randomness import random_bits as random_bits
from adamx.randomness import standard_normal as standard_normal
from adamx.stages.around import Lookahead as Lookahead
from adamx.stages.around import ScheduleFree as ScheduleFree
from adamx.stages.base import MaskOfTree as MaskOfTree
from adamx.stages.base import OnUpdate as OnUpdate
from adamx.stages.base import Slot as Slot
from adamx.stages.base import Stage as Stage
from adamx.stages.base import Wrapper as Wrapper
from adamx.stages.base import leaf_by_leaf as leaf_by_leaf
from adamx.stages.base import leaves_where as leaves_where
from adamx.stages.base import masked as masked
from adamx.stages.base import one_per_leaf as one_per_leaf
from adamx.stages.base import stage as stage
from adamx.stages.decay import CautiousDecay as CautiousDecay
from adamx.stages.decay import CorrectedDecay as CorrectedDecay
from adamx.stages.decay import CoupledDecay as CoupledDecay
from adamx.stages.decay import DecayAfterStep as DecayAfterStep
from adamx.stages.decay import DecayToAverage as DecayToAverage
from adamx.stages.decay import DecoupledDecay as DecoupledDecay
from adamx.stages.decay import FixedDecay as FixedDecay
from adamx.stages.decay import IndependentDecay as IndependentDecay
from adamx.stages.decay import ProjectedDecay as ProjectedDecay
from adamx.stages.decay import ProximalDecay as ProximalDecay
from adamx.stages.denominator import AdaptToVariance as AdaptToVariance
from adamx.stages.denominator import Atan2 as Atan2
from adamx.stages.denominator import Divide as Divide
from adamx.stages.denominator import DivideByPower as DivideByPower
from adamx.stages.denominator import DivideByRoot as DivideByRoot
from adamx.stages.denominator import DivideByRootEpsHat as DivideByRootEpsHat
from adamx.stages.denominator import MatchUpdateSize as MatchUpdateSize
from adamx.stages.distance import DAdaptation as DAdaptation
from adamx.stages.distance import DistanceStep as DistanceStep
from adamx.stages.distance import DivideByRootAtDistance as DivideByRootAtDistance
from adamx.stages.distance import ProdigyDistance as ProdigyDistance
from adamx.stages.factored import BlockSecondMoment as BlockSecondMoment
from adamx.stages.factored import CoverSecondMoment as CoverSecondMoment
from adamx.stages.factored import DivideByConfidence as DivideByConfidence
from adamx.stages.factored import FactoredSecondMoment as FactoredSecondMoment
from adamx.stages.factored import MatrixSecondMoment as MatrixSecondMoment
from adamx.stages.first_moment import AlgoPerfMomentum as AlgoPerfMomentum
from adamx.stages.first_moment import DozatMomentum as DozatMomentum
from adamx.stages.first_moment import HeavyBall as HeavyBall
from adamx.stages.first_moment import Momentum as Momentum
from adamx.stages.first_moment import Nesterov as Nesterov
from adamx.stages.first_moment import NesterovMomentum as NesterovMomentum
from adamx.stages.first_moment import RawMomentum as RawMomentum
from adamx.stages.first_moment import RawNesterovMomentum as RawNesterovMomentum
from adamx.stages.gradient import Centralize as Centralize
from adamx.stages.gradient import ClipGlobalNorm as ClipGlobalNorm
from adamx.stages.gradient import ClipGradient as ClipGradient
from adamx.stages.gradient import ClipGradientNorm as ClipGradientNorm
from adamx.stages.gradient import ClipGradientRms as ClipGradientRms
from adamx.stages.gradient import NegateGradient as NegateGradient
from adamx.stages.gradient import NormaliseGradient as NormaliseGradient
from adamx.stages.gradient import NormaliseGradientByMax as NormaliseGradientByMax
from adamx.stages.gradient import TakeGradient as TakeGradient
from adamx.stages.history import AmplifySlow as AmplifySlow
from adamx.stages.history import ClipToUsualNorm as ClipToUsualNorm
from adamx.stages.history import StabilizeSpikes as StabilizeSpikes
from adamx.stages.history import VarianceReduced as VarianceReduced
from adamx.stages.mixed_momentum import AdanMomentum as AdanMomentum
from adamx.stages.mixed_momentum import AdaNormMomentum as AdaNormMomentum
from adamx.stages.mixed_momentum import AggregatedMomentum as AggregatedMomentum
from adamx.stages.mixed_momentum import AveragedStep as AveragedStep
from adamx.stages.mixed_momentum import LionMomentum as LionMomentum
from adamx.stages.mixed_momentum import MixedMomentum as MixedMomentum
from adamx.stages.mixed_momentum import MixedSum as MixedSum
from adamx.stages.mixed_momentum import PositiveNegativeMomentum as PositiveNegativeMomentum
from adamx.stages.mixed_momentum import QuasiHyperbolicMomentum as QuasiHyperbolicMomentum
from adamx.stages.moments import SecondMomentStage as SecondMomentStage
from adamx.stages.moments import average_scalars as average_scalars
from adamx.stages.of_second_moment import DebiasedRunningMax as DebiasedRunningMax
from adamx.stages.of_second_moment import FromFirstGradient as FromFirstGradient
from adamx.stages.of_second_moment import RunningMax as RunningMax
from adamx.stages.oracle import ClipByCurvature as ClipByCurvature
from adamx.stages.oracle import DivideByRootPower as DivideByRootPower
from adamx.stages.oracle import HessianMoment as HessianMoment
from adamx.stages.oracle import HessianSecondMoment as HessianSecondMoment
from adamx.stages.rate import BoundedRate as BoundedRate
from adamx.stages.rate import RateBelowAverage as RateBelowAverage
from adamx.stages.rectify import Rectify as Rectify
from adamx.stages.rectify import RectifyOrWait as RectifyOrWait
from adamx.stages.restart import Restarted as Restarted
from adamx.stages.second_moment import CorrectedSunspikeSecondMoment as CorrectedSunspikeSecondMoment
from adamx.stages.second_moment import DelayedSecondMoment as DelayedSecondMoment
from adamx.stages.second_moment import FlooredSecondMoment as FlooredSecondMoment
from adamx.stages.second_moment import InfinityMoment as InfinityMoment
from adamx.stages.second_moment import LayerSecondMoment as LayerSecondMoment
from adamx.stages.second_moment import QuasiHyperbolicSecondMoment as QuasiHyperbolicSecondMoment
from adamx.stages.second_moment import RawSecondMoment as RawSecondMoment
from adamx.stages.second_moment import RawYogi as RawYogi
from adamx.stages.second_moment import SecondMoment as SecondMoment
from adamx.stages.second_moment import SumOfSquares as SumOfSquares
from adamx.stages.second_moment import SunspikeSecondMoment as SunspikeSecondMoment
from adamx.stages.second_moment import Yogi as Yogi
from adamx.stages.step import Cautious as Cautious
from adamx.stages.step import ClipUpdateRms as ClipUpdateRms
from adamx.stages.step import Friction as Friction
from adamx.stages.step import LayerRate as LayerRate
from adamx.stages.step import LearningRate as LearningRate
from adamx.stages.step import MatchParameterNorm as MatchParameterNorm
from adamx.stages.step import RescaleParameters as RescaleParameters
from adamx.stages.step import ScaleByParameterRms as ScaleByParameterRms
from adamx.stages.step import Sign as Sign
from adamx.stages.step import SignOfGradient as SignOfGradient
from adamx.stages.step import SlowSurprisedLayers as SlowSurprisedLayers
from adamx.stages.step import TakeMomentum as TakeMomentum
from adamx.stages.step import TrustRatio as TrustRatio
from adamx.stages.variance import Belief as Belief
from adamx.stages.variance import CentredSecondMoment as CentredSecondMoment
from adamx.stages.variance import ConditionalMoments as ConditionalMoments
from adamx.stages.variance import CorrectedCentredSecondMoment as CorrectedCentredSecondMoment
from adamx.stages.variance import DebiasedCentredSecondMoment as DebiasedCentredSecondMoment
from adamx.stages.variance import DelayedBelief as DelayedBelief
from adamx.stages.variance import MomentumAndVariance as MomentumAndVariance
from adamx.stages.whole_tree import DistanceOverGradients as DistanceOverGradients
from adamx.stages.whole_tree import DistanceOverWeightedGradients as DistanceOverWeightedGradients
from adamx.stages.whole_tree import InertiaMomentum as InertiaMomentum
from adamx.stages.whole_tree import PolyakRate as PolyakRate
from adamx.stages.whole_tree import StableDecay as StableDecay
from adamx.structure import static as static

__all__ = [
    "AdaNormMomentum",
    "AdanMomentum",
    "AdaptToVariance",
    "AggregatedMomentum",
    "AlgoPerfMomentum",
    "AmplifySlow",
    "Atan2",
    "AveragedStep",
    "Belief",
    "BlockSecondMoment",
    "BoundedRate",
    "Cautious",
    "CautiousDecay",
    "Centralize",
    "CentredSecondMoment",
    "ClipByCurvature",
    "ClipGlobalNorm",
    "ClipGradient",
    "ClipGradientNorm",
    "ClipGradientRms",
    "ClipToUsualNorm",
    "ClipUpdateRms",
    "ConditionalMoments",
    "CorrectedCentredSecondMoment",
    "CorrectedDecay",
    "CorrectedSunspikeSecondMoment",
    "CoupledDecay",
    "CoverSecondMoment",
    "DAdaptation",
    "DebiasedCentredSecondMoment",
    "DebiasedRunningMax",
    "DecayAfterStep",
    "DecayToAverage",
    "DecoupledDecay",
    "DelayedBelief",
    "DelayedSecondMoment",
    "DistanceOverGradients",
    "DistanceOverWeightedGradients",
    "DistanceStep",
    "Divide",
    "DivideByConfidence",
    "DivideByPower",
    "DivideByRoot",
    "DivideByRootAtDistance",
    "DivideByRootEpsHat",
    "DivideByRootPower",
    "DozatMomentum",
    "FactoredSecondMoment",
    "FixedDecay",
    "FlooredSecondMoment",
    "Friction",
    "FromFirstGradient",
    "HeavyBall",
    "HessianMoment",
    "HessianSecondMoment",
    "IndependentDecay",
    "InertiaMomentum",
    "InfinityMoment",
    "LayerRate",
    "LayerSecondMoment",
    "LearningRate",
    "LionMomentum",
    "Lookahead",
    "MaskOfTree",
    "MatchParameterNorm",
    "MatchUpdateSize",
    "MatrixSecondMoment",
    "MixedMomentum",
    "MixedSum",
    "Momentum",
    "MomentumAndVariance",
    "NegateGradient",
    "Nesterov",
    "NesterovMomentum",
    "NormaliseGradient",
    "NormaliseGradientByMax",
    "OnUpdate",
    "PolyakRate",
    "PositiveNegativeMomentum",
    "ProdigyDistance",
    "ProjectedDecay",
    "ProximalDecay",
    "QuasiHyperbolicMomentum",
    "QuasiHyperbolicSecondMoment",
    "RateBelowAverage",
    "RawMomentum",
    "RawNesterovMomentum",
    "RawSecondMoment",
    "RawYogi",
    "Rectify",
    "RectifyOrWait",
    "RescaleParameters",
    "Restarted",
    "RunningMax",
    "ScaleByParameterRms",
    "ScheduleFree",
    "SecondMoment",
    "SecondMomentStage",
    "Sign",
    "SignOfGradient",
    "Slot",
    "SlowSurprisedLayers",
    "StabilizeSpikes",
    "StableDecay",
    "Stage",
    "SumOfSquares",
    "SunspikeSecondMoment",
    "TakeGradient",
    "TakeMomentum",
    "TrustRatio",
    "VarianceReduced",
    "Wrapper",
    "Yogi",
    "masked",
    "stage",
]
"""The stages, and what defines one: these are reached as `adamx.NAME` too. Their arithmetic is imported from here."""
