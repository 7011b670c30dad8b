"""Stages that average the squared gradient and write the second moment v (Adamax: its maximum, the denominator d)."""

import jax.numpy as jnp

from adamx.hyperparameters import Decay, NonNegative
from adamx.numerics import abs_sq, average, debiased, rate_of, sum_of_squares
from adamx.stages.base import SecondMomentStage, Slot, Stage, average_scalars, one_per_leaf, stage


class _Average(SecondMomentStage):
    def scalars(self, t, last):
        return {"rate": rate_of(self.b2)}

    def accumulate(self, x, s, k):
        return {"nu": average(s["nu"], abs_sq(x.g), k["rate"])}


class _DebiasedAverage(_Average):
    writes = {"v", "v_debias"}
    scalar_slots = ("nu_log_decay",)

    def scalars(self, t, last):
        return average_scalars(self.b2, t, last, "nu_log_decay")

    def rewrite(self, x, k):
        return x.write(v_debias=k["debias"])

    def read_out(self, s, k):
        return debiased(s["nu"], k["debias"], k["rate"])


@stage
class SecondMoment(_DebiasedAverage):
    """Exponential average of the squared gradient, bias-corrected (Adam).

        nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2,    v_t = nu_t / (1 - b2^t)

    Attributes:
      b2: Decay rate.
      initial_value: nu_0.
    """

    b2: Decay = 0.999
    initial_value: NonNegative = 0.0


@stage
class RawSecondMoment(_Average):
    """Exponential average of the squared gradient without bias correction: v_t = nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2 (RMSProp).

    Attributes:
      b2: Decay rate.
      initial_value: nu_0.
    """

    b2: Decay = 0.999
    initial_value: NonNegative = 0.0


class _Yogi(_Average):
    def accumulate(self, x, s, k):
        square = abs_sq(x.g)
        return {"nu": s["nu"] - k["rate"].value * jnp.sign(s["nu"] - square) * square}


@stage
class Yogi(_Yogi, _DebiasedAverage):
    """Yogi's second moment, which changes by at most (1 - b2) |g_t|^2 a step.

        nu_t = nu_{t-1} - (1 - b2) sign(nu_{t-1} - |g_t|^2) |g_t|^2,    v_t = nu_t / (1 - b2^t)

    Attributes:
      b2: Decay rate.
      initial_value: nu_0.
    """

    b2: Decay = 0.999
    initial_value: NonNegative = 1e-6


@stage
class RawYogi(_Yogi):
    """`Yogi` without bias correction: v_t = nu_t.

    Attributes:
      b2: Decay rate.
      initial_value: nu_0.
    """

    b2: Decay = 0.999
    initial_value: NonNegative = 1e-6


@stage
class Belief(_DebiasedAverage):
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
        return {"nu": average(s["nu"], abs_sq(x.g - x.mu), k["rate"]) + self.eps_root}


class _Centred(_Average):
    slots = (Slot("nu", signed=False), Slot("g_mean"))

    def accumulate(self, x, s, k):
        raised = s["nu"] + k["rate"].value * abs_sq(x.g - s["g_mean"])
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
        k = average_scalars(self.b2, t, last, "nu_log_decay")
        return k | {"rate": rate_of(self.b2, jnp.where(t > 1, k["rate"].value * k["debias"], 1))}


@stage
class SumOfSquares(SecondMomentStage):
    """Sum of the squared gradients: v_t = nu_t = nu_{t-1} + |g_t|^2 (AdaGrad).

    Attributes:
      initial_value: nu_0.
    """

    initial_value: NonNegative = 0.1

    def accumulate(self, x, s, k):
        # Limited before the sum, not after: XLA's CPU compiler repeats a final minimum in the update's loop, at a copy of the slot.
        room = jnp.finfo(s["nu"].dtype).max / 2 - s["nu"]
        return {"nu": s["nu"] + abs_sq(x.g, limit=room)}


@stage
class InfinityMoment(Stage):
    """Decayed maximum of the gradient's modulus: d_t = nu_t = max(b2 nu_{t-1}, |g_t| + eps) (Adamax). It is the denominator itself.

    Attributes:
      b2: Decay rate.
      eps: Added to the modulus.
    """

    b2: Decay = 0.999
    eps: NonNegative = 1e-8

    slots = (Slot("nu", signed=False),)
    reads, writes = {"g"}, {"d"}

    def __call__(self, x, s, k):
        nu = jnp.maximum(s["nu"] - self.b2.complement * s["nu"], jnp.abs(x.g) + self.eps)
        return x.write(d=nu), {"nu": nu}


@stage
class DelayedSecondMoment(SecondMomentStage):
    """The second moment before this step's gradient enters it (ADOPT).

        v_t = nu_{t-1},    nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2,    nu_1 = |g_1|^2

    In the first step there is none yet: the gradient is only measured, and rewritten to zero.

    Attributes:
      b2: Decay rate.
    """

    b2: Decay = 0.9999

    writes = {"v", "g"}

    def scalars(self, t, last):
        return {
            "rate": rate_of(self.b2, jnp.where(t > 1, self.b2.complement, 1)),
            "measured": jnp.where(t > 1, 1.0, 0.0),
        }

    def accumulate(self, x, s, k):
        return {"nu": average(s["nu"], abs_sq(x.g), k["rate"])}

    def seen(self, old, new):
        return old

    def rewrite(self, x, k):
        return x.write(g=k["measured"] * x.g)


@stage
class LayerSecondMoment(SecondMomentStage):
    """Average of the squared norm of a leaf's gradient, one number a leaf (NovoGrad).

        v_t = nu_t = b2 nu_{t-1} + (1 - b2) ||g_t||^2,    nu_1 = ||g_1||^2

    Attributes:
      b2: Decay rate.
    """

    b2: Decay = 0.25

    slots = (Slot("nu", signed=False, shape=one_per_leaf),)
    elementwise = False

    def scalars(self, t, last):
        return {"rate": rate_of(self.b2, jnp.where(t > 1, self.b2.complement, 1))}

    def accumulate(self, x, s, k):
        return {"nu": average(s["nu"], sum_of_squares(x.g), k["rate"])}
