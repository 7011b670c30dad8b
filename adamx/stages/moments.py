"""What averages share: the scalars of one with bias correction, and second moments in parts."""

from typing import Any

import jax
import jax.numpy as jnp

from adamx.numerics import abs_sq, average, debias_weight, debiased, mean_log_decay, rate_of
from adamx.stages.base import Slot, Stage


def average_scalars(decay: Any, t: jax.Array, last: dict[str, jax.Array], name: str) -> dict[str, Any]:
    """The scalars of an average: `rate`, for `average`; `debias`, the factor that corrects its bias; and the scalar slot `name`."""
    log = mean_log_decay(last[name], decay.complement, t)
    return {"rate": rate_of(decay), "debias": 1 / debias_weight(log, t), name: log}


def self_correcting_scalars(decay, t, last, name):
    """`average_scalars` for an average that is bias-corrected itself: `rate` is (1 - beta) / (1 - beta^t), exactly 1 in the first step."""
    k = average_scalars(decay, t, last, name)
    return k | {"rate": rate_of(decay, jnp.where(t > 1, k["rate"].value * k["debias"], 1))}


def rate_from_first(decay, t):
    """The `Rate` of an average that starts at the first value: 1 in the first step."""
    return rate_of(decay, jnp.where(t > 1, decay.complement, 1))


class SecondMomentStage(Stage):
    """A second moment in parts, so that wrappers can stand between them: `accumulate` the slots, then `read_out` v."""

    slots: tuple[Slot, ...] = (Slot("nu", signed=False),)
    reads, writes = {"g"}, {"v"}
    initial_value = 0.0

    def initial(self):
        return {"nu": self.initial_value}

    def accumulate(self, x, s, k):
        """The new slots."""
        raise NotImplementedError

    def read_out(self, s, k):
        """The second moment v for slots `s`."""
        return s["nu"]

    def seen(self, old, new):
        """The slots from which v is read: those of this step."""
        return new

    def rewrite(self, x, k):
        """The signal before v is written: as it was."""
        return x

    def mix(self, v, x):
        """What is written as v: what is read out, with nothing of this step's gradient mixed in."""
        return v

    def __call__(self, x, s, k):
        new = self.accumulate(x, s, k)
        v = self.read_out(self.seen(s, new), k)
        return self.rewrite(x, k).write(v=self.mix(v, x)), new


class AverageOfSquares(SecondMomentStage):
    """nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2, read out as it is, for stages with a field `b2`."""

    def scalars(self, t, last):
        return {"rate": rate_of(self.b2)}

    def accumulate(self, x, s, k):
        return {"nu": average(s["nu"], abs_sq(x.g), k["rate"])}


class DebiasedAverageOfSquares(AverageOfSquares):
    """The same, read out as v_t = nu_t / (1 - b2^t)."""

    writes = {"v", "v_debias"}
    scalar_slots = ("nu_log_decay",)

    def scalars(self, t, last):
        return average_scalars(self.b2, t, last, "nu_log_decay")

    def rewrite(self, x, k):
        return x.write(v_debias=k["debias"])

    def read_out(self, s, k):
        return debiased(s["nu"], k["debias"], k["rate"])
