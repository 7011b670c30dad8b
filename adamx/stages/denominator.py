"""Stages that divide the momentum by the root of the second moment, and write the update u."""

import jax.numpy as jnp

from adamx.hyperparameters import Decay, NonNegative, Number
from adamx.numerics import abs_sq, average, mean_log_decay, over_root, rate_of, ratio, root
from adamx.stages.base import Slot, Stage, stage


@stage
class DivideByRoot(Stage):
    """u = m / d with d = sqrt(v + eps_root) + eps, and 0 where d is 0.

    Attributes:
      eps: Added to the root; None for nothing.
      eps_root: Added under the root; None for nothing.
    """

    eps: NonNegative | None = 1e-8
    eps_root: NonNegative | None = 0.0

    reads, writes = {"m", "v"}, {"d", "u"}

    def __call__(self, x, s, k):
        u, d = over_root(x.m, x.v, self.eps_root, self.eps)
        return x.write(d=d, u=u), s


@stage
class Divide(Stage):
    """u = m / d for a denominator d that is there already, and 0 where it is 0 (Adamax)."""

    reads, writes = {"m", "d"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=ratio(x.m, x.d)), s


@stage
class MatchUpdateSize(Stage):
    """Gives the update the units of the parameter: the ratio of two root mean squares (AdaDelta).

        u_t = g_t sqrt(e_{t-1} + eps) / sqrt(v_t + eps),    e_t = rho e_{t-1} + (1 - rho) |u_t|^2

    Attributes:
      rho: Decay rate of the average of squared updates.
      eps: Added under both roots.
    """

    rho: Decay = 0.9
    eps: NonNegative = 1e-6

    slots = (Slot("e_x", signed=False),)
    reads, writes = {"g", "v"}, {"d", "u"}

    def scalars(self, t, last):
        return {"rate": rate_of(self.rho)}

    def __call__(self, x, s, k):
        above, below = root(s["e_x"] + self.eps), root(x.v + self.eps)
        u = ratio(x.g, below) * above
        e_x = average(s["e_x"], abs_sq(u), k["rate"])
        # Never negative: this ties the update to the new slot, so that XLA makes both in one pass over memory.
        return x.write(d=ratio(below, above), u=jnp.where(e_x < 0, 0, u)), {"e_x": e_x}


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
        return x.write(u=k["of_u"] * x.u + k["of_m"] * x.m), s


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
