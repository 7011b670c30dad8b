"""Types of the public interface, for signatures."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np

Schedule: TypeAlias = Callable[[Any], Any]
"""A function of the number of updates made so far: plain, or a `jax.tree_util.Partial`, whose arguments are leaves."""

Scalar: TypeAlias = float | jax.Array | np.ndarray | np.number | Schedule
"""A hyperparameter as it is given to a rule: a number, an array, or a schedule."""

DType: TypeAlias = jax.typing.DTypeLike
"""A dtype, or the name or type of one."""

Tree: TypeAlias = Any
"""A pytree of arrays: parameters, gradients, updates, slots."""

Mask: TypeAlias = Any
"""Where something applies: a tree (or prefix) of booleans, or a function from the parameters to one. None for everywhere."""

if TYPE_CHECKING:
    # A field so annotated takes a `Scalar`, and is a scalar array in the methods of a step: no type is both.
    Number: TypeAlias = Any
    NonNegative: TypeAlias = Any
    Positive: TypeAlias = Any
    Decay: TypeAlias = Any
    Decays: TypeAlias = Any
else:
    from adamx.hyperparameters import Decay as Decay
    from adamx.hyperparameters import Decays as Decays
    from adamx.hyperparameters import NonNegative as NonNegative
    from adamx.hyperparameters import Number as Number
    from adamx.hyperparameters import Positive as Positive
