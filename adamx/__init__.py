"""The Adam family for JAX: gradient transformations that are exact, that are data, and that are lines of interchangeable stages."""

import importlib
import types
import typing

from adamx import hessians as hessians
from adamx import modifiers as modifiers
from adamx import stages as stages
from adamx.annotations import Decay as Decay
from adamx.catalogue import CATALOGUE as CATALOGUE
from adamx.catalogue import create as create
from adamx.eight_bit import EightBit as EightBit
from adamx.eight_bit import Int8 as Int8
from adamx.eight_bit import Log8 as Log8
from adamx.evaluation import eval_params as eval_params
from adamx.evaluation import state_bytes as state_bytes
from adamx.evaluation import state_shardings as state_shardings
from adamx.groups import partition as partition
from adamx.rounding import Nearest as Nearest
from adamx.rounding import Stochastic as Stochastic
from adamx.rule import UpdateRule as UpdateRule
from adamx.rule import axes_of as axes_of
from adamx.rule import stack as stack
from adamx.rule import update_rule as update_rule
from adamx.signal import Signal as Signal
from adamx.stages import *
from adamx.state import RuleState as RuleState
from adamx.storage import BFloat16 as BFloat16
from adamx.storage import Cast as Cast
from adamx.storage import Float32 as Float32
from adamx.transforms import chain as chain
from adamx.variants.adam import *
from adamx.variants.around import *
from adamx.variants.baselines import *
from adamx.variants.denominator import *
from adamx.variants.factored import *
from adamx.variants.first_moment import *
from adamx.variants.gradient import *
from adamx.variants.layerwise import *
from adamx.variants.matrix import *
from adamx.variants.mixed_momentum import *
from adamx.variants.optax_names import *
from adamx.variants.oracle import *
from adamx.variants.rate import *
from adamx.variants.second_moment import *
from adamx.variants.variance import *
from adamx.variants.whole_tree import *
from adamx.wiring import WiringError as WiringError

if typing.TYPE_CHECKING:
    from adamx import interop as interop
    from adamx import plot as plot
    from adamx import probes as probes
    from adamx import problems as problems
    from adamx.interop import from_optax as from_optax
    from adamx.interop import optax_layout as optax_layout
    from adamx.interop import optax_state as optax_state

__version__ = "0.1.0"

_LATE = ("interop", "plot", "probes", "problems")
"""Modules that most programs do without, imported when they are asked for."""

_OF_INTEROP = ("from_optax", "optax_layout", "optax_state")
"""Functions of one of them that are public here too."""

__all__ = sorted(
    {name for name, value in globals().items() if name[0] != "_" and not isinstance(value, types.ModuleType)}
    - set(stages.__all__)
    | {"hessians", "modifiers", "stages", *_LATE, *_OF_INTEROP}
)
"""The rules, and what is done with them. Stages are reached as `adamx.Momentum` too, and listed by `adamx.stages`."""


if not typing.TYPE_CHECKING:

    def __getattr__(name):
        if name in _LATE:
            return importlib.import_module(f"adamx.{name}")
        if name in _OF_INTEROP:
            return getattr(importlib.import_module("adamx.interop"), name)
        raise AttributeError(f"module 'adamx' has no attribute {name!r}")


def __dir__():
    return [*__all__, "__version__"]
