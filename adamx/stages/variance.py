"""Stages that average squared deviations, and write the variance as the second moment v."""

import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative
from adamx.numerics import abs_sq, average, rate_of, scaled
from adamx.passes import raised_average
from adamx.stages.base import Slot, Stage, stage
from adamx.stages.moments import (
    AverageOfSquares,
    DebiasedAverageOfSquares,
    SecondMomentStage,
    average_scalars,
    self_correcting_scalars,
)


@stage
class Belief(DebiasedAverageOfSquares):
    """Exponential average of the squared surprise, the gradient less its own average (AdaBelief).

        nu_t = b2 nu_{t-1} + (1 - b2) |g_t - mu_t|^2 + eps_root,    v_t = nu_t / (1 - b2^t)

    Attributes:
      b2: Decay rate.
      eps_root: Added to the stored average in every step, as in the authors' code.
    """

    b2: Decay = 0.999
    eps_root: NonNegative = 1e-16

    reads = {"g", "mu"}

    def accumulate(self, x, s, k):
        return {"nu": raised_average(s["nu"], abs_sq(x.g - x.mu), k["rate"], self.eps_root)}


class _Centred(AverageOfSquares):
    slots = (Slot("nu", signed=False), Slot("g_mean"))

    def accumulate(self, x, s, k):
        # Not as `average` has the difference: XLA's CPU compiler would make an array of the one that two slots share.
        raised = s["nu"] + k["rate"].value * abs_sq(s["g_mean"] - x.g)
        return {"nu": raised - k["rate"].value * raised, "g_mean": average(s["g_mean"], x.g, k["rate"])}


@stage
class CentredSecondMoment(_Centred):
    """Exponentially weighted variance, by a recurrence that cannot turn negative (centred RMSProp).

        nu_t = b2 (nu_{t-1} + (1 - b2) |g_t - mean_{t-1}|^2),    mean_t = b2 mean_{t-1} + (1 - b2) g_t,    v_t = nu_t

    With initial_value 0 it equals average(|g|^2) - |average(g)|^2 exactly, which by subtraction (torch, Optax) turns negative.

    Attributes:
      b2: Decay rate.
      initial_value: nu_0.
    """

    b2: Decay = 0.9
    initial_value: NonNegative = 0.0


@stage
class DebiasedCentredSecondMoment(_Centred):
    """`CentredSecondMoment` of bias-corrected averages: the same recurrence with b2 (1 - b2^{t-1}) / (1 - b2^t) for b2.

    The variance of one gradient is 0, so that the first step is divided by eps alone.

    Attributes:
      b2: Decay rate.
      initial_value: nu_0.
    """

    b2: Decay = 0.9
    initial_value: NonNegative = 0.0

    scalar_slots = ("nu_log_decay",)

    def scalars(self, t, last):
        return self_correcting_scalars(self.b2, t, last, "nu_log_decay")


@stage
class CorrectedCentredSecondMoment(_Centred, DebiasedAverageOfSquares):
    """`CentredSecondMoment` divided by the weight of its average: v_t = nu_t / (1 - b2^t) (centred Adam).

    It equals (average(|g|^2) - |average(g)|^2) / (1 - b2^t); with one gradient that is b2 |g_1|^2, so that the first step is a usual one.

    Attributes:
      b2: Decay rate.
    """

    b2: Decay = 0.999


@stage
class DelayedBelief(SecondMomentStage):
    """The average of squared surprise before this step's gradient enters it, with an average of the gradient for that alone (ACProp).

        v_t  = nu_{t-1} / (1 - b2^{t-1}),    v_1 = 0
        mu_t = b1 mu_{t-1} + (1 - b1) g_t,    nu_t = b2 nu_{t-1} + (1 - b2) |g_t - mu_t|^2 + eps_root

    The surprise is written as g_t - mu_t = b1 (g_t - mu_{t-1}), which needs no slot that is new.

    Attributes:
      b1: Decay rate of the average.
      b2: Decay rate of its squared surprise.
      eps_root: Added to the stored squares in every step.
    """

    b1: Decay = 0.9
    b2: Decay = 0.999
    eps_root: NonNegative = 1e-16

    slots = (Slot("mu"), Slot("nu", signed=False))
    scalar_slots = ("nu_log_decay",)

    def scalars(self, t, last):
        k = average_scalars(self.b2, t, last, "nu_log_decay")
        before = average_scalars(self.b2, jnp.maximum(t - 1, 1), last, "nu_log_decay")
        mean = {"mean_rate": rate_of(self.b1), "left": 1 - self.b1.complement}
        return k | mean | {"debias": jnp.where(t > 1, before["debias"], 0.0)}

    def accumulate(self, x, s, k):
        # Not as `average` has the difference: XLA's CPU compiler would make an array of the one that two slots share.
        surprise = scaled(k["left"], s["mu"] - x.g)
        nu = raised_average(s["nu"], abs_sq(surprise), k["rate"], self.eps_root)
        return {"mu": average(s["mu"], x.g, k["mean_rate"]), "nu": nu}

    def seen(self, old, new):
        return old

    def read_out(self, s, k):
        return s["nu"] * k["debias"]


@stage
class MomentumAndVariance(Stage):
    """The bias-corrected mean and variance of the gradient, with one decay rate (M-SVAG).

        r_t = (1 - b) / (1 - b^t),    m_t = mu_t = mu_{t-1} + r_t (g_t - mu_{t-1})
        v_t = nu_t = (1 - r_t) (nu_{t-1} + r_t |g_t - mu_{t-1}|^2)

    By the recurrence v is never negative and exactly 0 after one gradient, where a difference of averages is rounding noise.

    Attributes:
      b: Decay rate.
    """

    b: Decay = 0.9

    slots = (Slot("mu"), Slot("nu", signed=False))
    scalar_slots = ("mu_log_decay",)
    reads, writes = {"g"}, {"mu", "m", "v"}

    def scalars(self, t, last):
        return self_correcting_scalars(self.b, t, last, "mu_log_decay")

    def __call__(self, x, s, k):
        rate = k["rate"].value
        # Not as `average` has the difference: XLA's CPU compiler would make an array of the one that two slots share.
        raised = s["nu"] + rate * abs_sq(s["mu"] - x.g)
        nu, mu = raised - rate * raised, average(s["mu"], x.g, k["rate"])
        return x.write(mu=mu, m=mu, v=nu), {"mu": mu, "nu": nu}


@stage
class ConditionalMoments(Stage):
    """The momentum, and the second moment that is expected of it, with no slot of its own (BCOS, conditional mode).

        v_t  = (1 - b)^2 |g_t + b mu_{t-1}|^2 + b^2 (2 - b^2) |mu_{t-1}|^2,    mu_0 = g_1
        m_t  = mu_t = b mu_{t-1} + (1 - b) g_t

    That is (3 b^2 - 2 b^3) |mu|^2 + (1 - b)^2 |g|^2 + 2 b (1 - b)^2 Re(conj(mu) g), written as squares, never negative, and computed from
    the new average: g + b mu_{t-1} = mu_t + b g, and b mu_{t-1} = mu_t - (1 - b) g.

    Attributes:
      b: Decay rate.
    """

    b: Decay = 0.9

    slots = (Slot("mu"),)
    reads, writes = {"g"}, {"mu", "m", "v"}

    def scalars(self, t, last):
        rate = self.b.complement
        b = 1 - rate
        return {
            "rate": rate_of(self.b),
            "of_both": rate * rate,
            "of_mu": 2 - b * b,
            "b": b,
            "first": jnp.where(t > 1, 0.0, 1.0),
        }

    def __call__(self, x, s, k):
        old = jnp.where(k["first"] > 0, x.g, s["mu"])
        mu = average(old, x.g, k["rate"])
        v = k["of_both"] * abs_sq(mu + k["b"] * x.g) + k["of_mu"] * abs_sq(mu - k["rate"].value * x.g)
        return x.write(mu=mu, m=mu, v=v), {"mu": mu}
