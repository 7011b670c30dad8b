"""Stages that stand at the end of any rule, and keep other weights than those that are trained: `eval_params` returns them."""

import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative, Number, Positive
from adamx.numerics import moved, ratio
from adamx.stages.base import Slot, Stage, stage


@stage
class Lookahead(Stage):
    """Slow weights that follow the fast ones, and take them back every so often (Lookahead). It stands at the end of any rule.

        where t is a multiple of sync_period:    slow <- slow + slow_step_size (p + u - slow),    p + u <- slow

    `eval_params` returns the slow weights.

    Attributes:
      sync_period: Steps between two meetings.
      slow_step_size: Share of the way that the slow weights go.
    """

    sync_period: Positive = 6
    slow_step_size: Number = 0.5

    slots = (Slot("p_slow", precise=True),)
    reads, writes = {"p", "u", "lr"}, {"u"}
    shares = True

    def start(self, p):
        return {"p_slow": p}

    def scalars(self, t, last):
        return {"meets": jnp.where(jnp.mod(t, self.sync_period) == 0, 1.0, 0.0)}

    def __call__(self, x, s, k):
        met = moved(s["p_slow"], x.p + x.u, self.slow_step_size)
        slow = jnp.where(k["meets"] > 0, met, s["p_slow"])
        return x.write(u=jnp.where(k["meets"] > 0, slow - x.p, x.u)), {"p_slow": slow}

    def eval_params(self, p, s):
        """The slow weights."""
        return s["p_slow"]


@stage
class ScheduleFree(Stage):
    """Averages the weights along the way in the place of a schedule (Schedule-Free). It stands at the end of any rule without momentum.

    The parameters y are where gradients are taken, between the weights z that the rule moves and their average x:

        z_t = z_{t-1} + u,    x_t = x_{t-1} + c_t (z_t - x_{t-1}),    y_t = b1 x_t + (1 - b1) z_t
        c_t = w_t / (w_1 + ... + w_t),    w_t = t^r (max lr)^weight_lr_power

    `eval_params` returns x.

    Attributes:
      b1: Share of the average in y; not 0.
      weight_lr_power: Power of the largest learning rate so far in a step's weight.
      r: Power of the step number in it.
    """

    b1: Decay = 0.9
    weight_lr_power: NonNegative = 2.0
    r: NonNegative = 0.0

    slots = (Slot("z", precise=True),)
    scalar_slots = ("weight_sum", "largest_lr")
    reads, writes = {"p", "u", "lr"}, {"u"}
    shares = True

    def start(self, p):
        return {"z": p}

    def scalars(self, t, last):
        largest = jnp.maximum(last["largest_lr"], last["lr"])
        weight = t**self.r * largest**self.weight_lr_power
        total = last["weight_sum"] + weight
        c = ratio(weight, total)
        return {"weight_sum": total, "largest_lr": largest, "c": c, "of_u": self.b1.complement * (1 - c)}

    def __call__(self, x, s, k):
        # y_t - y_{t-1}, with x_{t-1} = (y_{t-1} - (1 - b1) z_{t-1}) / b1 put in, in terms of z_t: z_{t-1} is not read again.
        z = s["z"] + x.u
        return x.write(u=k["c"] * (z - x.p) + k["of_u"] * x.u), {"z": z}

    def eval_params(self, p, s):
        """The average x = z + (y - z) / b1."""
        return s["z"] + (p - s["z"]) / (1 - self.b1.complement)
