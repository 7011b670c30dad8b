"""States of other libraries' optimizers, both ways: `optax_state`, `from_optax` and `optax_layout` for Optax, `torch` for PyTorch."""

from adamx.interop import torch as torch
from adamx.interop.optax import from_optax as from_optax
from adamx.interop.optax import optax_layout as optax_layout
from adamx.interop.optax import optax_state as optax_state
