"""Stages that hold back the first steps, whose second moment is known badly."""

import jax.numpy as jnp

from adamx.annotations import Decay, Number
from adamx.numerics import mean_log_decay
from adamx.stages.base import Stage, stage


class _Rectified(Stage):
    """Multiplies the update by r_t once enough gradients are averaged; what it is before, the subclass says."""

    scalar_slots = ("rho_log_decay",)
    reads, writes = {"m", "u"}, {"u"}

    def scalars(self, t, last):
        log = mean_log_decay(last["rho_log_decay"], self.b2.complement, t)
        limit, length = 2 / -jnp.expm1(log) - 1, average_length(log, t)
        adapted = (length >= self.threshold) & (length > 4)
        limit, length = jnp.where(adapted, limit, 6), jnp.where(adapted, length, 5)
        r = jnp.sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length))
        return {"of_u": jnp.where(adapted, r, 0.0), "of_m": jnp.where(adapted, 0.0, 1.0), "rho_log_decay": log}


def average_length(mean_log, t):
    """Length of the simple average that an exponential one is worth: rho_t = 2 / (1 - b) - 1 - 2 t b^t / (1 - b^t), b = exp(mean_log).

    By the series of 1/log and of x/(exp(x) - 1) where the terms would cancel: exact to rounding at every b and t.
    """
    rate, total = -jnp.expm1(mean_log), -t * mean_log
    near_one = jnp.polyval(jnp.asarray(GREGORY, rate.dtype), rate)
    excess = jnp.where(rate < 0.11, near_one, 2 / rate - 1 + 2 / mean_log)
    short = 1 - 2 * total * jnp.polyval(jnp.asarray(BERNOULLI, rate.dtype), total**2)
    far = jnp.maximum(total, 1)
    return excess + t * jnp.where(total < 1, short, 2 / far - 2 * jnp.exp(-far) / -jnp.expm1(-far))


GREGORY = (
    4671 / 394240,
    3250433 / 239500800,
    8183 / 518400,
    33953 / 1814400,
    275 / 12096,
    863 / 30240,
    3 / 80,
    19 / 360,
    1 / 12,
    1 / 6,
    0.0,
)
"""Coefficients of 2/r - 1 + 2/log(1 - r) in r, highest power first."""

BERNOULLI = (
    1 / 74724249600,
    -691 / 1307674368000,
    1 / 47900160,
    -1 / 1209600,
    1 / 30240,
    -1 / 720,
    1 / 12,
)
"""Coefficients of (1/(exp(x) - 1) - 1/x + 1/2) / x in x^2, highest power first."""


@stage
class Rectify(_Rectified):
    """RAdam's rectification; until it applies, the step is the momentum itself.

        rho_inf = 2 / (1 - b2) - 1,    rho_t = rho_inf - 2 t b2^t / (1 - b2^t)
        r_t     = sqrt((rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t))
        u_t    <- r_t u_t where rho_t >= threshold, else m_t

    Attributes:
      b2: Decay rate of the second moment before it.
      threshold: Least length rho_t of the average at which the step adapts.
    """

    b2: Decay = 0.999
    threshold: Number = 5.0

    def __call__(self, x, s, k):
        return x.write(u=jnp.where(k["of_m"] > 0, x.m, k["of_u"] * x.u)), s


@stage
class RectifyOrWait(_Rectified):
    """`Rectify` that takes no step until it applies: u_t <- r_t u_t where rho_t >= threshold, else 0 (the author's default).

    Attributes:
      b2: Decay rate of the second moment before it.
      threshold: Least length rho_t of the average at which the step adapts.
    """

    b2: Decay = 0.999
    threshold: Number = 5.0

    reads = {"u"}

    def __call__(self, x, s, k):
        return x.write(u=k["of_u"] * x.u), s
