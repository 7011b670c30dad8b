"""Stages that read an estimate of the Hessian's diagonal, the argument `hessian` of the steps that have one."""

import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative
from adamx.numerics import abs_sq, average, debias_weight, debiased, mean_log_decay, rate_of, ratio, root, sign
from adamx.stages.base import Slot, Stage, stage


class _OfHessian(Stage):
    """An average that moves in the steps that have a `hessian`."""

    slots = (Slot("nu", signed=False),)
    extras = ("hessian",)
    reads, writes = {"hessian"}, {"v"}

    def _average(self, x, s, k):
        if x.hessian is None:
            return s["nu"]
        return average(s["nu"], self.seen(x.hessian), k["rate"])


@stage
class HessianMoment(_OfHessian):
    """Average of the Hessian's diagonal, as it is given, in the steps that have one (Sophia): v = nu <- b2 nu + (1 - b2) hessian.

    Negative entries count as 0.

    Attributes:
      b2: Decay rate.
    """

    b2: Decay = 0.99

    def scalars(self, t, last):
        return {"rate": rate_of(self.b2)}

    def seen(self, hessian):
        """What is averaged."""
        return jnp.maximum(jnp.real(hessian), 0)

    def __call__(self, x, s, k):
        nu = self._average(x, s, k)
        return x.write(v=nu), {"nu": nu}


@stage
class HessianSecondMoment(_OfHessian):
    """Average of the squared diagonal of the Hessian, bias-corrected (AdaHessian): nu <- b2 nu + (1 - b2) |hessian|^2, v = nu / (1 - b2^n).

    n is the number of steps so far that had a `hessian`.

    Attributes:
      b2: Decay rate.
    """

    b2: Decay = 0.999

    scalar_slots = ("nu_log_decay",)

    def scalars(self, t, last):
        log = mean_log_decay(last["nu_log_decay"], last["has_hessian"] * self.b2.complement, t)
        weight = debias_weight(log, t)
        # No weight yet: there was no Hessian so far.
        debias = jnp.where(weight > 0, 1 / jnp.where(weight > 0, weight, 1), 0)
        return {"rate": rate_of(self.b2), "debias": debias, "nu_log_decay": log}

    def seen(self, hessian):
        """What is averaged."""
        return abs_sq(hessian)

    def __call__(self, x, s, k):
        nu = self._average(x, s, k)
        return x.write(v=debiased(nu, k["debias"], k["rate"])), {"nu": nu}


@stage
class ClipByCurvature(Stage):
    """Newton's step from the momentum, each coordinate of size 1 at most: u = sign(m) min(1, |m| / (rho v + eps)) (Sophia).

    Attributes:
      rho: Weight of the curvature.
      eps: Added to it.
    """

    rho: NonNegative = 0.04
    eps: NonNegative = 1e-15

    reads, writes = {"m", "v"}, {"d", "u"}

    def __call__(self, x, s, k):
        d = self.rho * x.v + self.eps
        size = jnp.abs(x.m)
        return x.write(d=d, u=sign(x.m) * jnp.where(size < d, ratio(size, d), 1)), s


@stage
class DivideByRootPower(Stage):
    """u = m / d with d = sqrt(v)^power + eps, and 0 where d is 0 (AdaHessian).

    Attributes:
      power: Exponent of the root: the Hessian power.
      eps: Added to it.
    """

    power: NonNegative = 1.0
    eps: NonNegative = 1e-4

    reads, writes = {"m", "v"}, {"d", "u"}

    def __call__(self, x, s, k):
        base = root(x.v)
        d = jnp.where(base > 0, jnp.where(base > 0, base, 1) ** self.power, 0) + self.eps
        return x.write(d=d, u=ratio(x.m, d)), s
