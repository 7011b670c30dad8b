"""Stages that rewrite the gradient by what earlier ones were: their change, their slow part, their usual size."""

import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative, Number
from adamx.numerics import average, below_overflow, limited, norm, rate_of, ratio, root, sum_of_squares
from adamx.stages.base import Slot, Stage, leaves_where, one_per_leaf, stage
from adamx.stages.moments import average_scalars, rate_from_first
from adamx.structure import static


@stage
class VarianceReduced(Stage):
    """Corrects the gradient by its change since the last step, clipped to norm 1 in each leaf (MARS, approximate form).

        c = g_t + gamma b1 / (1 - b1) (g_t - g_{t-1}),    g <- c / max(1, ||c||),    g_0 = 0

    Attributes:
      b1: Decay rate of the momentum that follows.
      gamma: Strength.
      vectors: Whether leaves that are not matrices are corrected too; the authors leave them as they are.
    """

    b1: Decay = 0.95
    gamma: Number = 0.025
    vectors: bool = static(default=False)

    slots = (Slot("g_last"),)
    reads, writes = {"g"}, {"g"}
    elementwise = False

    def on_leaves(self, structure, leaves):
        return None if self.vectors else leaves_where(leaves, lambda shape: len(shape) == 2)

    def scalars(self, t, last):
        rate = self.b1.complement
        return {"of_change": self.gamma * (1 - rate) / rate}

    def __call__(self, x, s, k):
        c = x.g + k["of_change"] * (x.g - s["g_last"])
        return x.write(g=limited(c, norm(c), 1.0)), {"g_last": x.g}


@stage
class AmplifySlow(Stage):
    """Adds the slow part of the gradient to it: h_t = alpha h_{t-1} + (1 - alpha) g_t, h_0 = g_1, g <- g + amplitude h_t (Grokfast).

    Attributes:
      alpha: Decay rate of the average.
      amplitude: Its weight.
    """

    alpha: Decay = 0.98
    amplitude: Number = 2.0

    slots = (Slot("g_slow"),)
    reads, writes = {"g"}, {"g"}
    shares = True

    def scalars(self, t, last):
        return {"rate": rate_from_first(self.alpha, t)}

    def __call__(self, x, s, k):
        slow = average(s["g_slow"], x.g, k["rate"])
        return x.write(g=x.g + self.amplitude * slow), {"g_slow": slow}


@stage
class ClipToUsualNorm(Stage):
    """Clips each leaf's gradient relative to an average of its norms; in a warm-up, the whole tree's to a constant (AdaGC).

        t < warmup:     h = min(absolute / ||g|| over the tree, 1),    usual_t = min(usual_{t-1}, ||h g||),    usual_1 = ||h g_1||
        from then on:   h = min(relative usual_{t-1} / ||g||, 1),      usual_t = decay usual_{t-1} + (1 - decay) ||h g||
        g <- h g

    Attributes:
      relative: Largest norm, relative to the usual one.
      absolute: Largest norm of the tree in the warm-up.
      decay: Decay rate of the average of norms.
      warmup: Steps of the warm-up, the first one that is clipped relatively.
    """

    relative: NonNegative = 1.05
    absolute: NonNegative = 1.0
    decay: Decay = 0.98
    warmup: NonNegative = 100

    slots = (Slot("g_norm", signed=False, shape=one_per_leaf),)
    sums = ("g_squared",)
    reads, writes = {"g"}, {"g"}
    elementwise = False

    def scalars(self, t, last):
        return {
            "rate": rate_of(self.decay),
            "first": jnp.where(t > 1, 0.0, 1.0),
            "warms": jnp.where(t < self.warmup, 1.0, 0.0),
        }

    def measure(self, x, s, k):
        return {"g_squared": sum_of_squares(x.g)}

    def combine(self, sums, k):
        return {"tree_norm": root(sums["g_squared"])}

    def __call__(self, x, s, k):
        size, warms, first = norm(x.g), k["warms"] > 0, k["first"] > 0
        usual = jnp.where(first & ~warms, size, s["g_norm"])
        clipped = jnp.where(
            warms,
            limited(jnp.ones_like(size), k["tree_norm"], self.absolute),
            limited(jnp.ones_like(size), size, self.relative * usual),
        )
        size = clipped * size
        in_warmup = jnp.where(first, size, jnp.minimum(usual, size))
        return x.write(g=x.g * clipped), {"g_norm": jnp.where(warms, in_warmup, average(usual, size, k["rate"]))}


@stage
class StabilizeSpikes(Stage):
    """Clips spikes of the gradient and evens its norm out (StableSPAM).

        M_t <- theta M_{t-1} + (1 - theta) max|g_t|;    elements above M_t / (1 - theta^t) are scaled by that over max|g_t|
        N_t <- gamma1 N_{t-1} + (1 - gamma1) ||g_t||,    S_t <- gamma2 S_{t-1} + (1 - gamma2) ||g_t||^2
        g   <- g / ||g|| N_t / (1 - gamma1^t) / (sqrt(S_t / (1 - gamma2^t)) + eps)

    Attributes:
      gamma1: Decay rate of the average of norms.
      gamma2: Decay rate of the average of their squares.
      theta: Decay rate of the average of maxima.
      eps: Added to the root.
    """

    gamma1: Decay = 0.7
    gamma2: Decay = 0.9
    theta: Decay = 0.999
    eps: NonNegative = 1e-8

    slots = tuple(Slot(name, signed=False, shape=one_per_leaf) for name in ("g_max", "g_norm", "g_norm_squared"))
    scalar_slots = ("g_max_log_decay", "g_norm_log_decay", "g_norm_squared_log_decay")
    reads, writes = {"g"}, {"g"}
    elementwise = False

    def scalars(self, t, last):
        of = zip(("max", "norm", "norm_squared"), (self.theta, self.gamma1, self.gamma2), strict=True)
        averages = {name: average_scalars(decay, t, last, f"g_{name}_log_decay") for name, decay in of}
        k = {f"{name}_{part}": a[part] for name, a in averages.items() for part in ("rate", "debias")}
        return k | {f"g_{name}_log_decay": a[f"g_{name}_log_decay"] for name, a in averages.items()}

    def __call__(self, x, s, k):
        size = jnp.abs(x.g)
        largest = jnp.max(size, initial=0)
        usual = average(s["g_max"], largest, k["max_rate"])
        bound = usual * k["max_debias"]
        g = jnp.where(size > bound, ratio(x.g, largest) * bound, x.g)
        length = norm(g)
        mean = average(s["g_norm"], length, k["norm_rate"])
        squares = average(s["g_norm_squared"], below_overflow(length * length), k["norm_squared_rate"])
        even = ratio(mean * k["norm_debias"], root(squares * k["norm_squared_debias"]) + self.eps)
        slots = {"g_max": usual, "g_norm": mean, "g_norm_squared": squares}
        return x.write(g=ratio(g, length) * even), slots
