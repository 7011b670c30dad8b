"""Stages that average the squared gradient and write the second moment v (Adamax: its maximum, the denominator d)."""

import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative
from adamx.numerics import abs_sq, average, moved, norm, rate_of, ratio, room_above, sign, sum_of_squares
from adamx.passes import raised_average, weighted_sq
from adamx.stages.base import Slot, Stage, one_per_leaf, stage
from adamx.stages.moments import (
    AverageOfSquares,
    DebiasedAverageOfSquares,
    SecondMomentStage,
    average_scalars,
    rate_from_first,
)


@stage
class SecondMoment(DebiasedAverageOfSquares):
    """Exponential average of the squared gradient, bias-corrected (Adam).

        nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2,    v_t = nu_t / (1 - b2^t)

    Attributes:
      b2: Decay rate.
      initial_value: nu_0.
    """

    b2: Decay = 0.999
    initial_value: NonNegative = 0.0


@stage
class RawSecondMoment(AverageOfSquares):
    """Exponential average of the squared gradient without bias correction: v_t = nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2 (RMSProp).

    Attributes:
      b2: Decay rate.
      initial_value: nu_0.
    """

    b2: Decay = 0.999
    initial_value: NonNegative = 0.0


class _Yogi(AverageOfSquares):
    def accumulate(self, x, s, k):
        square = abs_sq(x.g)
        return {"nu": s["nu"] - k["rate"].value * sign(s["nu"] - square) * square}


@stage
class Yogi(_Yogi, DebiasedAverageOfSquares):
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
class FlooredSecondMoment(DebiasedAverageOfSquares):
    """`SecondMoment` with a floor added to the stored average in every step, where it accumulates to eps_root / (1 - b2) (EAdam).

        nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2 + eps_root,    v_t = nu_t / (1 - b2^t)

    Attributes:
      b2: Decay rate.
      eps_root: Added in every step.
    """

    b2: Decay = 0.999
    eps_root: NonNegative = 1e-8

    def accumulate(self, x, s, k):
        return {"nu": raised_average(s["nu"], abs_sq(x.g), k["rate"], self.eps_root)}


@stage
class QuasiHyperbolicSecondMoment(DebiasedAverageOfSquares):
    """The bias-corrected average with some of the squared gradient mixed in (QHAdam): v_t = (1 - nu) |g_t|^2 + nu nu_t / (1 - b2^t).

    Attributes:
      b2: Decay rate of nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2.
      share: Share nu of the average.
    """

    b2: Decay = 0.999
    share: NonNegative = 1.0

    writes = {"v"}

    def rewrite(self, x, k):
        return x

    def mix(self, v, x):
        return self.share * v + weighted_sq(1 - self.share, x.g)


@stage
class SumOfSquares(SecondMomentStage):
    """Sum of the squared gradients: v_t = nu_t = nu_{t-1} + |g_t|^2 (AdaGrad).

    Attributes:
      initial_value: nu_0.
    """

    initial_value: NonNegative = 0.1

    def accumulate(self, x, s, k):
        # Limited before the sum, not after: XLA's CPU compiler repeats a final minimum in the update's loop, at a copy of the slot.
        return {"nu": s["nu"] + abs_sq(x.g, limit=room_above(s["nu"]))}


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
            "rate": rate_from_first(self.b2, t),
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
        return {"rate": rate_from_first(self.b2, t)}

    def accumulate(self, x, s, k):
        return {"nu": average(s["nu"], sum_of_squares(x.g), k["rate"])}


@stage
class SunspikeSecondMoment(SecondMomentStage):
    """An average of squares whose decay rate falls in leaves where the gradient is large for its history (Kourkoutas-beta).

        usual_t = alpha usual_{t-1} + (1 - alpha) ||g_t||,    r = ||g_t|| / (usual_t + tiny_spike),    sun = r / (1 + r)
        b2_t    = b2_max - (b2_max - b2_min) sun              (their mean in the first `warmup` steps)
        v_t     = nu_t = b2_t nu_{t-1} + (1 - b2_t) |g_t|^2

    Attributes:
      b2_min: Least decay rate.
      b2_max: Largest decay rate.
      alpha: Decay rate of the average of norms.
      tiny_spike: Added to it.
      warmup: Steps in which b2 does not follow the gradient.
    """

    b2_min: Decay = 0.88
    b2_max: Decay = 0.999
    alpha: Decay = 0.93
    tiny_spike: NonNegative = 1e-9
    warmup: NonNegative = 0

    slots = (Slot("nu", signed=False), Slot("g_norm", signed=False, shape=one_per_leaf))
    elementwise = False

    def scalars(self, t, last):
        return {"rate": rate_of(self.alpha), "warms": jnp.where(t <= self.warmup, 1.0, 0.0)}

    def accumulate(self, x, s, k):
        size = norm(x.g)
        usual = average(s["g_norm"], size, k["rate"])
        spike = ratio(size, usual + self.tiny_spike)
        sun = jnp.where(k["warms"] > 0, 0.5, spike / (1 + spike))
        slow, fast = self.b2_max.complement, self.b2_min.complement
        return {"nu": moved(s["nu"], abs_sq(x.g), slow + (fast - slow) * sun), "g_norm": usual}


@stage
class CorrectedSunspikeSecondMoment(SunspikeSecondMoment):
    """`SunspikeSecondMoment` with v_t = nu_t / (1 - b2_max^t).

    Attributes:
      b2_min: Least decay rate.
      b2_max: Largest decay rate.
      alpha: Decay rate of the average of norms.
      tiny_spike: Added to it.
      warmup: Steps in which b2 does not follow the gradient.
    """

    b2_min: Decay = 0.88
    b2_max: Decay = 0.999
    alpha: Decay = 0.93
    tiny_spike: NonNegative = 1e-9
    warmup: NonNegative = 0

    scalar_slots = ("nu_log_decay",)

    def scalars(self, t, last):
        of_max = average_scalars(self.b2_max, t, last, "nu_log_decay")
        return super().scalars(t, last) | {name: of_max[name] for name in ("debias", "nu_log_decay")}

    def read_out(self, s, k):
        return s["nu"] * k["debias"]
