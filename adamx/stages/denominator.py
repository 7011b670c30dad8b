"""Stages that divide the momentum by the root of the second moment, and write the update u."""

import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative, Number, Positive
from adamx.numerics import (
    abs_sq,
    average,
    below_overflow,
    debias_weight,
    mean_log_decay,
    over_root,
    rate_of,
    ratio,
    root,
)
from adamx.passes import weighted_sq
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
class DivideByRootEpsHat(Stage):
    """u = m / d with d = (sqrt(nu) + eps_hat) / sqrt(1 - b2^t) for v = nu / (1 - b2^t): Adam's "efficient form". 0 where d is 0.

    Attributes:
      eps_hat: Added to the root of the average as it is stored, before bias correction.
    """

    eps_hat: NonNegative = 1e-8

    reads, writes = {"m", "v", "v_debias"}, {"d", "u"}

    def __call__(self, x, s, k):
        u, d = over_root(x.m, x.v, None, self.eps_hat * root(x.v_debias))
        return x.write(d=d, u=u), s


@stage
class DivideByPower(Stage):
    """u = m sqrt(1 - b2^t) / d with d = (sqrt(nu) + eps)^(2 partial) for v = nu / (1 - b2^t) (PAdam). 0 where d is 0.

    Attributes:
      partial: Exponent of the second moment: 1/2 is Adam, 0 is momentum.
      eps: Added to the root.
    """

    partial: NonNegative = 0.25
    eps: NonNegative = 1e-8

    reads, writes = {"m", "v", "v_debias"}, {"d", "u"}

    def __call__(self, x, s, k):
        correction = root(x.v_debias)
        base = root(x.v) / correction + self.eps
        positive = base > 0
        d = jnp.where(positive, jnp.where(positive, base, 1) ** (2 * self.partial), 0) * correction
        return x.write(d=d, u=ratio(x.m, d)), s


@stage
class Atan2(Stage):
    """u = a atan2(m, b sqrt(v)): bounded by a pi / 2, unchanged if the loss is scaled, 0 where m and v are 0, with no eps (Adam-atan2).

    Complex m keep their phase.

    Attributes:
      a: Size of the step.
      b: Weight of the root: at small m / sqrt(v) the update is (a / b) m / sqrt(v).
    """

    a: Number = 1.27
    b: Positive = 1.0

    reads, writes = {"m", "v"}, {"u"}

    def __call__(self, x, s, k):
        below = self.b * root(x.v)
        if jnp.iscomplexobj(x.m):
            size = jnp.abs(x.m)
            return x.write(u=x.m * (self.a * ratio(_atan2(size, below), size))), s
        return x.write(u=self.a * _atan2(x.m, below)), s


def _atan2(above, below):
    # At 0/0 the derivative is NaN.
    none = (above == 0) & (below == 0)
    return jnp.where(none, 0, jnp.arctan2(above, jnp.where(none, 1, below)))


@stage
class AdaptToVariance(Stage):
    """Scales the momentum by its estimated reliability (M-SVAG).

        rho_t = (1 - b)(1 + b^t) / ((1 + b)(1 - b^t)),    s_t = v_t / (1 - rho_t)
        u     = m |m|^2 / (|m|^2 + rho_t s_t)             (0 where the denominator is)

    Attributes:
      b: Decay rate of the averages m and v.
    """

    b: Decay = 0.9

    scalar_slots = ("rho_log_decay",)
    reads, writes = {"m", "v"}, {"u"}

    def scalars(self, t, last):
        log = mean_log_decay(last["rho_log_decay"], self.b.complement, t)
        rate, weight = self.b.complement, debias_weight(log, t)
        rho = jnp.minimum(rate * (2 - weight) / ((2 - rate) * weight), 0.9999)
        return {"of_v": rho / (1 - rho), "rho_log_decay": log}

    def __call__(self, x, s, k):
        square = abs_sq(x.m)
        return x.write(u=x.m * ratio(square, square + k["of_v"] * x.v)), s


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

    Computed from the new average, as e_t + rho eps = (e_{t-1} + eps) (rho + (1 - rho) |g_t|^2 / (v_t + eps)).

    Attributes:
      rho: Decay rate of the average of squared updates.
      eps: Added under both roots.
    """

    rho: Decay = 0.9
    eps: NonNegative = 1e-6

    slots = (Slot("e_x", signed=False),)
    reads, writes = {"g", "v"}, {"d", "u"}

    def scalars(self, t, last):
        rate, rho = self.rho.complement, 1 - self.rho.complement
        return {"rate": rate_of(self.rho), "of_g": rate, "of_v": rho, "rho_eps": rho * self.eps}

    def __call__(self, x, s, k):
        normalised = ratio(x.g, root(x.v + self.eps))
        e_x = average(s["e_x"], below_overflow(abs_sq(normalised) * (s["e_x"] + self.eps)), k["rate"])
        # The old average is not read again, nor any term: XLA's CPU compiler would make arrays of them.
        above, below = e_x + k["rho_eps"], k["of_v"] * x.v + k["rho_eps"] + weighted_sq(k["of_g"], x.g)
        return x.write(d=root(ratio(below, above)), u=x.g * root(ratio(above, below))), {"e_x": e_x}
