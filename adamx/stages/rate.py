"""Stages that choose the learning rate of each coordinate: they end the line as `LearningRate` does, which is not used beside them."""

import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative, Number
from adamx.numerics import average, over_root, rate_of, ratio, root
from adamx.stages.base import Slot, Stage, stage


@stage
class BoundedRate(Stage):
    """A learning rate for each coordinate that is bounded ever more tightly around one for all (AdaBound).

        a   = lr_t sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(nu) + eps)         for v = nu / (1 - b2^t), m = mu / (1 - b1^t)
        l_t = f_t (1 - 1 / (gamma t + 1)),    h_t = f_t (1 + 1 / (gamma t)),    f_t = final_lr lr_t / lr_1
        u   = -min(max(a, l_t), h_t) mu

    Attributes:
      learning_rate: Step size lr_t; the first must not be 0.
      final_lr: The rate that all coordinates approach.
      gamma: Speed of the bounds.
      eps: Added to the root.
    """

    learning_rate: Number
    final_lr: Number = 0.1
    gamma: NonNegative = 1e-3
    eps: NonNegative = 1e-8

    scalar_slots = ("first_learning_rate",)
    reads, writes = {"mu", "m_debias", "v", "v_debias"}, {"d", "u", "lr"}
    before = {"lr"}

    def scalars(self, t, last):
        first = jnp.where(t > 1, last["first_learning_rate"], self.learning_rate)
        final = self.final_lr * ratio(self.learning_rate, first)
        return {
            "first_learning_rate": first,
            "low": final * (self.gamma * t / (self.gamma * t + 1)),
            "high": final + ratio(final, self.gamma * t),
            "lr": self.learning_rate,
        }

    def __call__(self, x, s, k):
        above = jnp.full_like(x.v, k["lr"] * x.m_debias)
        rate, d = over_root(above, x.v, None, self.eps * root(x.v_debias))
        return x.write(d=d, u=-jnp.clip(rate, k["low"], k["high"]) * x.mu, lr=k["lr"]), s


@stage
class RateBelowAverage(Stage):
    """A learning rate for each coordinate, held below its own average (AdaMod).

        a_t = lr_t sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(nu) + eps)         for v = nu / (1 - b2^t), m = mu / (1 - b1^t)
        e_t = b3 e_{t-1} + (1 - b3) a_t,    u = -min(a_t, e_t) mu

    Attributes:
      learning_rate: Step size lr_t.
      b3: Decay rate of the average of rates.
      eps: Added to the root.
    """

    learning_rate: Number
    b3: Decay = 0.999
    eps: NonNegative = 1e-8

    slots = (Slot("rate_mean", signed=False),)
    reads, writes = {"mu", "m_debias", "v", "v_debias"}, {"d", "u", "lr"}
    before = {"lr"}
    shares = True

    def scalars(self, t, last):
        return {"rate": rate_of(self.b3), "lr": self.learning_rate}

    def __call__(self, x, s, k):
        above = jnp.full_like(x.v, k["lr"] * x.m_debias)
        rate, d = over_root(above, x.v, None, self.eps * root(x.v_debias))
        mean = average(s["rate_mean"], rate, k["rate"])
        return x.write(d=d, u=-jnp.minimum(rate, mean) * x.mu, lr=k["lr"]), {"rate_mean": mean}
