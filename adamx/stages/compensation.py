"""Keeping what a narrow parameter rounds away."""

import dataclasses

import jax.numpy as jnp
from jax import lax

from adamx.numerics import within
from adamx.stages.base import Slot, Stage, stage
from adamx.structure import is_absent, static


@stage
class KahanCompensation(Stage):
    """Adds to the update of a float16 or bfloat16 parameter what its rounding has lost so far, and keeps what it loses now.

    u' = round(p + (u + e)) - p;  e <- (u + e) - u'

    So p + e is the sum of all updates to the precision of both together: with e in bfloat16, 16 bits of significand. The update u' is the
    difference of two numbers of the parameter's dtype, so `update` and `optax.apply_updates` give the very parameter that `step` does.
    The last stage of a line; on other leaves it does nothing, and keeps nothing.

    Kahan (1965); for parameters Zamirai et al., arXiv:2010.06192.
    """

    dtype: str = static(default="")

    slots = (Slot("p_error"),)
    reads, writes = {"p", "u", "lr"}, {"u"}

    def on_leaves(self, structure, leaves):
        return [not is_absent(x) and jnp.finfo(x.dtype).bits < 32 and jnp.dtype(x.dtype).name for x in leaves]

    def at_leaf(self, which):
        return dataclasses.replace(self, dtype=which)

    def __call__(self, x, s, k):
        limits, u = jnp.finfo(self.dtype), x.u + s["p_error"]
        # Not by casting there and back, which XLA leaves out where it may compute more exactly than asked.
        rounded = lax.reduce_precision(within(x.p + u, self.dtype), limits.nexp, limits.nmant)
        moved = rounded - x.p
        return x.write(u=moved), {"p_error": u - moved}
