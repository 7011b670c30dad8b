"""The Adam family for JAX: gradient transformations that are exact, that are data, and that are lines of interchangeable stages."""

import importlib
import types
import typing

from adamx.catalogue import CATALOGUE as CATALOGUE
from adamx.catalogue import create as create
from adamx.groups import partition as partition
from adamx.hyperparameters import Decay as Decay
from adamx.rule import UpdateRule as UpdateRule
from adamx.rule import axes_of as axes_of
from adamx.rule import stack as stack
from adamx.rule import update_rule as update_rule
from adamx.signal import Signal as Signal
from adamx.stages import AdanMomentum as AdanMomentum
from adamx.stages import AlgoPerfMomentum as AlgoPerfMomentum
from adamx.stages import Belief as Belief
from adamx.stages import CentredSecondMoment as CentredSecondMoment
from adamx.stages import ClipGradient as ClipGradient
from adamx.stages import CoupledDecay as CoupledDecay
from adamx.stages import DebiasedCentredSecondMoment as DebiasedCentredSecondMoment
from adamx.stages import DebiasedRunningMax as DebiasedRunningMax
from adamx.stages import DecoupledDecay as DecoupledDecay
from adamx.stages import DelayedSecondMoment as DelayedSecondMoment
from adamx.stages import Divide as Divide
from adamx.stages import DivideByRoot as DivideByRoot
from adamx.stages import DozatMomentum as DozatMomentum
from adamx.stages import FromFirstGradient as FromFirstGradient
from adamx.stages import HeavyBall as HeavyBall
from adamx.stages import IndependentDecay as IndependentDecay
from adamx.stages import InfinityMoment as InfinityMoment
from adamx.stages import LayerSecondMoment as LayerSecondMoment
from adamx.stages import LearningRate as LearningRate
from adamx.stages import LionMomentum as LionMomentum
from adamx.stages import MaskOfTree as MaskOfTree
from adamx.stages import MatchUpdateSize as MatchUpdateSize
from adamx.stages import MixedMomentum as MixedMomentum
from adamx.stages import Momentum as Momentum
from adamx.stages import Nesterov as Nesterov
from adamx.stages import NesterovMomentum as NesterovMomentum
from adamx.stages import NormaliseGradient as NormaliseGradient
from adamx.stages import NormaliseGradientByMax as NormaliseGradientByMax
from adamx.stages import OnUpdate as OnUpdate
from adamx.stages import ProximalDecay as ProximalDecay
from adamx.stages import RawMomentum as RawMomentum
from adamx.stages import RawNesterovMomentum as RawNesterovMomentum
from adamx.stages import RawSecondMoment as RawSecondMoment
from adamx.stages import RawYogi as RawYogi
from adamx.stages import Rectify as Rectify
from adamx.stages import RectifyOrWait as RectifyOrWait
from adamx.stages import RunningMax as RunningMax
from adamx.stages import SecondMoment as SecondMoment
from adamx.stages import SecondMomentStage as SecondMomentStage
from adamx.stages import Sign as Sign
from adamx.stages import Slot as Slot
from adamx.stages import Stage as Stage
from adamx.stages import SumOfSquares as SumOfSquares
from adamx.stages import TakeGradient as TakeGradient
from adamx.stages import TakeMomentum as TakeMomentum
from adamx.stages import TrustRatio as TrustRatio
from adamx.stages import Wrapper as Wrapper
from adamx.stages import Yogi as Yogi
from adamx.stages import average_scalars as average_scalars
from adamx.stages import masked as masked
from adamx.stages import stage as stage
from adamx.state import RuleState as RuleState
from adamx.storage import BFloat16 as BFloat16
from adamx.storage import Cast as Cast
from adamx.storage import Float32 as Float32
from adamx.storage import Nearest as Nearest
from adamx.storage import Stochastic as Stochastic
from adamx.transforms import chain as chain
from adamx.variants.adam import adam as adam
from adamx.variants.adam import adamax as adamax
from adamx.variants.adam import adamaxw as adamaxw
from adamx.variants.adam import adamw as adamw
from adamx.variants.adam import scale_by_adam as scale_by_adam
from adamx.variants.adam import scale_by_adamax as scale_by_adamax
from adamx.variants.adam import scale_by_adamaxw as scale_by_adamaxw
from adamx.variants.adam import scale_by_adamw as scale_by_adamw
from adamx.variants.baselines import adadelta as adadelta
from adamx.variants.baselines import adagrad as adagrad
from adamx.variants.baselines import momentum as momentum
from adamx.variants.baselines import rmsprop as rmsprop
from adamx.variants.baselines import scale_by_adadelta as scale_by_adadelta
from adamx.variants.baselines import scale_by_adagrad as scale_by_adagrad
from adamx.variants.baselines import scale_by_momentum as scale_by_momentum
from adamx.variants.baselines import scale_by_rmsprop as scale_by_rmsprop
from adamx.variants.baselines import scale_by_sgd as scale_by_sgd
from adamx.variants.baselines import sgd as sgd
from adamx.variants.denominator import radam as radam
from adamx.variants.denominator import scale_by_radam as scale_by_radam
from adamx.variants.first_moment import adan as adan
from adamx.variants.first_moment import ademamix as ademamix
from adamx.variants.first_moment import ademamix_alpha_schedule as ademamix_alpha_schedule
from adamx.variants.first_moment import ademamix_b3_schedule as ademamix_b3_schedule
from adamx.variants.first_moment import lion as lion
from adamx.variants.first_moment import nadam as nadam
from adamx.variants.first_moment import nadamw as nadamw
from adamx.variants.first_moment import scale_by_adan as scale_by_adan
from adamx.variants.first_moment import scale_by_ademamix as scale_by_ademamix
from adamx.variants.first_moment import scale_by_lion as scale_by_lion
from adamx.variants.first_moment import scale_by_nadam as scale_by_nadam
from adamx.variants.first_moment import scale_by_nadamw as scale_by_nadamw
from adamx.variants.second_moment import adabelief as adabelief
from adamx.variants.second_moment import adopt as adopt
from adamx.variants.second_moment import amsgrad as amsgrad
from adamx.variants.second_moment import amsgradw as amsgradw
from adamx.variants.second_moment import novograd as novograd
from adamx.variants.second_moment import scale_by_adabelief as scale_by_adabelief
from adamx.variants.second_moment import scale_by_adopt as scale_by_adopt
from adamx.variants.second_moment import scale_by_amsgrad as scale_by_amsgrad
from adamx.variants.second_moment import scale_by_amsgradw as scale_by_amsgradw
from adamx.variants.second_moment import scale_by_novograd as scale_by_novograd
from adamx.variants.second_moment import scale_by_yogi as scale_by_yogi
from adamx.variants.second_moment import yogi as yogi
from adamx.variants.step import lamb as lamb
from adamx.variants.step import scale_by_lamb as scale_by_lamb
from adamx.wiring import WiringError as WiringError

if typing.TYPE_CHECKING:
    from adamx import plot as plot
    from adamx import probes as probes
    from adamx import problems as problems

__version__ = "0.1.0"

_LATE = ("plot", "probes", "problems")
"""Modules that most programs do without, imported when they are asked for."""

__all__ = sorted(
    {name for name, value in globals().items() if name[0] != "_" and not isinstance(value, types.ModuleType)}
    | set(_LATE)
)


def __getattr__(name):
    if name in _LATE:
        return importlib.import_module(f"adamx.{name}")
    raise AttributeError(f"module 'adamx' has no attribute {name!r}")


def __dir__():
    return [*__all__, "__version__"]
