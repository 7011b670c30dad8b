"""Amos: one stage for step and decay, which depend on each other."""

import jax
import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative, Number
from adamx.numerics import abs_sq, average, debias_weight, mean, mean_log_decay, rate_of, ratio, root
from adamx.stages.base import Slot, Stage, stage
from adamx.structure import static


@stage
class AmosStep(Stage):
    """A step and a decay that fall together with what the leaf has learnt (Amos).

        nu <- beta nu + (1 - beta) mean |g|^2,    i = (1 - beta^t) / max(nu, eps),    gamma = lr^2 mean|g|^2 i / sqrt(1 + c_coef sqrt(lr) b)
        u  = -((gamma / 2 + extra_l2) p + lr eta sqrt(i) g) / (1 + d_coef sqrt(lr eta) b),    b <- b + gamma (1 + b)

    Means are over block_axes.

    Attributes:
      learning_rate: lr, the global learning rate.
      eta: Expected size of the trained weights.
      beta: Decay rate of nu.
      extra_l2: Further decay.
      d_coef, c_coef: Speed at which step and decay fall.
      eps: Least nu.
      block_axes: Axes that share nu and b.
    """

    learning_rate: Number
    eta: Number = 1.0
    beta: Decay = 0.999
    extra_l2: Number = 0.0
    d_coef: NonNegative = 0.25
    c_coef: NonNegative = 0.25
    eps: NonNegative = 2.0**-125
    block_axes: tuple = static(default=())

    scalar_slots = ("nu_log_decay",)
    reads, writes = {"p", "g"}, {"u", "lr"}
    before = {"lr"}
    slots = property(
        lambda self: tuple(
            Slot(name, signed=False, shape=self._kept, precise=name == "decayed") for name in ("nu", "decayed")
        )
    )
    elementwise = False

    def _kept(self, shape):
        axes = {axis % len(shape) for axis in self.block_axes if -len(shape) <= axis < len(shape)}
        return tuple(1 if axis in axes else n for axis, n in enumerate(shape))

    def scalars(self, t, last):
        log = mean_log_decay(last["nu_log_decay"], self.beta.complement, t)
        return {
            "rate": rate_of(self.beta),
            "weight": debias_weight(log, t),
            "nu_log_decay": log,
            "lr": self.learning_rate,
            "root_lr": root(self.learning_rate),
            "root_step": root(self.learning_rate * self.eta),
        }

    def __call__(self, x, s, k):
        axes = tuple(axis % x.g.ndim for axis in self.block_axes if -x.g.ndim <= axis < x.g.ndim)
        square = jnp.expand_dims(mean(abs_sq(x.g), axes), axes) if axes else abs_sq(x.g)
        nu, b = average(s["nu"], square, k["rate"]), s["decayed"]
        # The floor is a constant, whose derivative would leave the range.
        large = nu > self.eps
        floor = jax.lax.stop_gradient(ratio(k["weight"], self.eps))
        inverse = jnp.where(large, ratio(k["weight"], jnp.where(large, nu, 1)), floor)
        gamma = k["lr"] ** 2 * (square * inverse) / root(1 + self.c_coef * k["root_lr"] * b)
        step = (gamma / 2 + self.extra_l2) * x.p + k["lr"] * self.eta * (root(inverse) * x.g)
        u = -step / (1 + self.d_coef * k["root_step"] * b)
        return x.write(u=u, lr=k["lr"]), {"nu": nu, "decayed": b + gamma * (1 + b)}
