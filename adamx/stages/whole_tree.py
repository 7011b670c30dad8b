"""Stages that need sums over the whole tree: adaptive inertia, stable decay, distances travelled, the loss."""

import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative, Number
from adamx.numerics import (
    abs_sq,
    average,
    below_overflow,
    compute_dtype,
    debiased,
    hypot,
    mean,
    ratio,
    root,
    scalar_dtype,
    scaled,
    sum_of_squares,
)
from adamx.stages.base import Slot, Stage, one_per_leaf, stage
from adamx.stages.moments import average_scalars


@stage
class InertiaMomentum(Stage):
    """A momentum whose decay rate is smaller where the second moment is large for the tree (Adai).

        nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2,    v_t = nu_t / (1 - b2^t)
        r_t  = max(min(b0 v_t / mean(v_t), 1), eps)                       (the mean is over all coordinates of the tree)
        mu_t = mu_{t-1} + r_t (g_t - mu_{t-1}),    w_t = w_{t-1} + r_t (1 - w_{t-1}),    m_t = mu_t / w_t

    Attributes:
      b0: Strength.
      b2: Decay rate of the second moment.
      eps: Least rate: b1 is at most 1 - eps.
    """

    b0: NonNegative = 0.1
    b2: Decay = 0.99
    eps: NonNegative = 1e-3

    slots = (Slot("mu"), Slot("nu", signed=False), Slot("mu_weight", signed=False, precise=True))
    scalar_slots = ("nu_log_decay",)
    sums = ("v", "size")
    reads, writes = {"g"}, {"mu", "m", "v"}
    elementwise = False

    def scalars(self, t, last):
        return average_scalars(self.b2, t, last, "nu_log_decay")

    def _moment(self, x, s, k):
        nu = average(s["nu"], abs_sq(x.g), k["rate"])
        return nu, debiased(nu, k["debias"], k["rate"])

    def measure(self, x, s, k):
        # As a mean, that large squares do not overflow, times the share of the leaf in millions of coordinates.
        v = self._moment(x, s, k)[1]
        return {"v": mean(v) * (v.size / 1e6), "size": jnp.asarray(v.size / 1e6, v.dtype)}

    def combine(self, sums, k):
        return {"v_mean": ratio(sums["v"], sums["size"])}

    def __call__(self, x, s, k):
        nu, v = self._moment(x, s, k)
        r = jnp.maximum(jnp.minimum(self.b0 * ratio(v, k["v_mean"]), 1), self.eps)
        mu = s["mu"] + r * (x.g - s["mu"])
        weight = s["mu_weight"] + r * (1 - s["mu_weight"])
        return x.write(mu=mu, m=ratio(mu, weight), v=v), {"mu": mu, "nu": nu, "mu_weight": weight}


@stage
class StableDecay(Stage):
    """Weight decay relative to the second moment of the whole tree: u <- u + weight_decay p / sqrt(mean(v)) (AdamS).

    None where the mean is 0.

    Attributes:
      weight_decay: Strength.
    """

    weight_decay: Number = 1e-4

    sums = ("v", "size")
    reads, writes = {"p", "v", "u"}, {"u"}
    before = {"lr"}
    elementwise = False

    def measure(self, x, s, k):
        return {"v": mean(x.v) * (x.p.size / 1e6), "size": jnp.asarray(x.p.size / 1e6, x.v.dtype)}

    def combine(self, sums, k):
        return {"strength": ratio(self.weight_decay, root(ratio(sums["v"], sums["size"])))}

    def __call__(self, x, s, k):
        return x.write(u=x.u + k["strength"] * x.p), s


class _Distance(Stage):
    """What DoG and DoWG share: the parameters at the start, and how far from there they are."""

    slots: tuple[Slot, ...] = (Slot("p_start", precise=True),)
    sums: tuple[str, ...] = ("g_squared", "distance_squared")
    reads, writes = {"p", "g"}, {"u", "lr"}
    before = {"lr"}
    elementwise = False

    def start(self, p):
        return {"p_start": p}

    def measure(self, x, s, k):
        return {"g_squared": sum_of_squares(x.g), "distance_squared": sum_of_squares(x.p - s["p_start"])}

    def __call__(self, x, s, k):
        return x.write(u=scaled(-k["lr"], x.g), lr=k["lr"]), s


@stage
class DistanceOverGradients(_Distance):
    """The largest distance from the start over the root of the sum of squared gradients as the learning rate (DoG).

        r_t = max(r_{t-1}, ||p - p_0||),    r_0 = reps_rel (1 + ||p_0||),    G_t = G_{t-1} + ||g_t||^2,    G_0 = eps
        u   = -lr_t g_t,    lr_t = learning_rate r_t / sqrt(G_t)          (norms over the whole tree)

    Attributes:
      learning_rate: Factor; 1 by design.
      reps_rel: First distance, relative to the parameters.
      eps: First sum.
    """

    learning_rate: Number = 1.0
    reps_rel: NonNegative = 1e-6
    eps: NonNegative = 1e-8

    slots = (*_Distance.slots, Slot("start_squared", signed=False, shape=one_per_leaf, precise=True))
    sums = (*_Distance.sums, "start_squared")
    scalar_slots = ("distance", "g_squared_sum")

    def start(self, p):
        return super().start(p) | {"start_squared": sum_of_squares(jnp.asarray(p, compute_dtype(jnp.result_type(p))))}

    def initial(self):
        return {"g_squared_sum": self.eps}

    def scalars(self, t, last):
        return {"first": jnp.where(t > 1, 0.0, 1.0), **last_of(self, last)}

    def measure(self, x, s, k):
        return super().measure(x, s, k) | {"start_squared": s["start_squared"]}

    def combine(self, sums, k):
        begun = k["first"] * self.reps_rel * (1 + root(sums["start_squared"]))
        distance = jnp.maximum(jnp.maximum(k["distance"], begun), root(sums["distance_squared"]))
        total = below_overflow(k["g_squared_sum"] + sums["g_squared"])
        return {
            "distance": distance,
            "g_squared_sum": total,
            "lr": self.learning_rate * ratio(distance, root(total)),
        }


@stage
class DistanceOverWeightedGradients(_Distance):
    """The squared distance from the start over the root of the sum of gradients weighted by it (DoWG).

        r_t = max(r_{t-1}, ||p - p_0||^2),    r_0 = eps,    V_t = V_{t-1} + r_t ||g_t||^2
        u   = -lr_t g_t,    lr_t = learning_rate r_t / (sqrt(V_t) + eps)          (norms over the whole tree)

    Attributes:
      learning_rate: Factor; 1 by design.
      eps: First squared distance, and added to the root.
    """

    learning_rate: Number = 1.0
    eps: NonNegative = 1e-4

    scalar_slots = ("distance", "weighted_root")

    def initial(self):
        return {"distance": root(jnp.asarray(self.eps, scalar_dtype()))}

    def scalars(self, t, last):
        return last_of(self, last)

    def combine(self, sums, k):
        # By distances and roots, as squares of squares leave the range.
        distance = jnp.maximum(k["distance"], root(sums["distance_squared"]))
        total = hypot(k["weighted_root"], distance * root(sums["g_squared"]))
        return {
            "distance": distance,
            "weighted_root": total,
            "lr": self.learning_rate * (distance * ratio(distance, total + self.eps)),
        }


def last_of(stage, last):
    """The scalar slots of a stage as the last step left them."""
    return {name: last[name] for name in stage.scalar_slots}


@stage
class PolyakRate(Stage):
    """Polyak's step size, from the loss and the norm of the gradient over the whole tree: u <- -lr_t u (SPS).

        lr_t = scaling min((value - f_min) / (||g_t||^2 + eps), max_learning_rate)    (0 where the denominator is as good as 0)

    Every step needs the argument `value`, the loss.

    Attributes:
      max_learning_rate: Largest step size before scaling.
      scaling: Factor.
      f_min: Least value of the loss.
      eps: Added to the squared norm.
    """

    max_learning_rate: Number = 1.0
    scaling: Number = 1.0
    f_min: Number = 0.0
    eps: NonNegative = 0.0

    sums = ("g_squared",)
    scalar_extras = ("value",)
    reads, writes = {"g", "u"}, {"u", "lr"}
    before = {"lr"}
    elementwise = False

    def measure(self, x, s, k):
        return {"g_squared": sum_of_squares(x.g)}

    def combine(self, sums, k):
        below = sums["g_squared"] + self.eps
        moves = below > jnp.finfo(jnp.float64).eps
        # Its derivative by a tiny denominator would be beyond the range, and 0 times that no number.
        step = jnp.minimum(ratio(k["value"] - self.f_min, jnp.where(moves, below, 1)), self.max_learning_rate)
        return {"lr": self.scaling * jnp.where(moves, step, 0)}

    def __call__(self, x, s, k):
        return x.write(u=scaled(-k["lr"], x.u), lr=k["lr"]), s
