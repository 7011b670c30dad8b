"""Stages whose momentum is mixed of several averages, or of an average and the gradient."""

import jax.numpy as jnp

from adamx.annotations import Decay, Decays, Number
from adamx.numerics import average, decayed_sum, norm, rate_of, ratio, root, scaled
from adamx.passes import replaced, second_average
from adamx.stages.base import Slot, Stage, one_per_leaf, stage
from adamx.stages.moments import average_scalars


@stage
class LionMomentum(Stage):
    """Lion's two interpolations: m_t = b1 mu_{t-1} + (1 - b1) g_t, then mu_t = b2 mu_{t-1} + (1 - b2) g_t.

    Attributes:
      b1: Decay rate of the read-out.
      b2: Decay rate of the average that is kept.
    """

    b1: Decay = 0.9
    b2: Decay = 0.99

    slots = (Slot("mu"),)
    reads, writes = {"g"}, {"mu", "m"}

    def scalars(self, t, last):
        return {"read_out": rate_of(self.b1), "rate": rate_of(self.b2)}

    def __call__(self, x, s, k):
        mu = average(s["mu"], x.g, k["rate"])
        return x.write(mu=mu, m=second_average(s["mu"], x.g, k["read_out"])), {"mu": mu}


@stage
class MixedMomentum(Stage):
    """A fast, bias-corrected average and a slow one that is not (AdEMAMix).

        mu_t = b1 mu_{t-1} + (1 - b1) g_t,    slow_t = b3 slow_{t-1} + (1 - b3) g_t
        m_t  = mu_t / (1 - b1^t) + alpha slow_t

    Attributes:
      b1: Decay rate of the fast average.
      b3: Decay rate of the slow average.
      alpha: Weight of the slow average.
    """

    b1: Decay = 0.9
    b3: Decay = 0.9999
    alpha: Number = 5.0

    slots = (Slot("mu"), Slot("mu_slow"))
    scalar_slots = ("mu_log_decay",)
    reads, writes = {"g"}, {"mu", "m"}

    def scalars(self, t, last):
        return average_scalars(self.b1, t, last, "mu_log_decay") | {"slow_rate": rate_of(self.b3)}

    def __call__(self, x, s, k):
        mu = average(s["mu"], x.g, k["rate"])
        slow = average(s["mu_slow"], x.g, k["slow_rate"])
        return x.write(mu=mu, m=mu * k["debias"] + self.alpha * slow), {"mu": mu, "mu_slow": slow}


@stage
class MixedSum(Stage):
    """A decayed sum and the gradient itself (simplified AdEMAMix): mu_t = b1 mu_{t-1} + g_t,    m_t = mu_t + alpha g_t.

    Attributes:
      b1: Decay rate of the sum.
      alpha: Weight of the gradient.
    """

    b1: Decay = 0.99
    alpha: Number = 0.0

    slots = (Slot("mu"),)
    reads, writes = {"g"}, {"mu", "m"}

    def __call__(self, x, s, k):
        mu = decayed_sum(s["mu"], x.g, self.b1.complement)
        return x.write(mu=mu, m=mu + scaled(self.alpha, x.g)), {"mu": mu}


@stage
class QuasiHyperbolicMomentum(Stage):
    """The bias-corrected average, with some of the gradient mixed in (QHAdam): m_t = (1 - nu) g_t + nu mu_t / (1 - b1^t).

    Attributes:
      b1: Decay rate of mu_t = b1 mu_{t-1} + (1 - b1) g_t.
      nu: Share of the average.
    """

    b1: Decay = 0.995
    nu: Number = 0.7

    slots = (Slot("mu"),)
    scalar_slots = ("mu_log_decay",)
    reads, writes = {"g"}, {"mu", "m"}

    def scalars(self, t, last):
        k = average_scalars(self.b1, t, last, "mu_log_decay")
        return k | {"of_mu": self.nu * k["debias"], "of_g": 1 - self.nu}

    def __call__(self, x, s, k):
        mu = average(s["mu"], x.g, k["rate"])
        return x.write(mu=mu, m=k["of_mu"] * mu + k["of_g"] * x.g), {"mu": mu}


@stage
class AggregatedMomentum(Stage):
    """The mean of several heavy balls (AggMo): mu_i,t = beta_i mu_i,t-1 + g_t,    m_t = mean over i of mu_i,t.

    Attributes:
      betas: Decay rates, a tuple; a slot mu_i for each.
    """

    betas: Decays = (0.0, 0.9, 0.99)

    slots = property(lambda self: tuple(Slot(f"mu_{i}") for i in range(len(self.betas))))
    reads, writes = {"g"}, {"m"}

    def __call__(self, x, s, k):
        new = {name: decayed_sum(s[name], x.g, b.complement) for name, b in zip(s, self.betas, strict=True)}
        return x.write(m=sum(new.values()) / len(new)), new


@stage
class PositiveNegativeMomentum(Stage):
    """Two averages that take the gradients in turn, the newer one counted positive, the older one negative (AdaPNM).

        mu_t = b1^2 mu_{t-2} + (1 - b1^2) g_t
        m_t  = ((1 + b3) mu_t - b3 mu_{t-1}) / sqrt((1 + b3)^2 + b3^2) / (1 - b1^t)

    Attributes:
      b1: Decay rate over one step.
      b3: Weight of the negative average.
    """

    b1: Decay = 0.9
    b3: Number = 1.0

    slots = (Slot("mu"), Slot("mu_last"))
    scalar_slots = ("mu_log_decay",)
    reads, writes = {"g"}, {"mu", "m"}

    def scalars(self, t, last):
        k = average_scalars(self.b1, t, last, "mu_log_decay")
        rate, size = k["rate"].value, root((1 + self.b3) ** 2 + self.b3**2)
        return k | {
            "rate": rate_of(self.b1, rate * (2 - rate)),
            "of_new": (1 + self.b3) / size * k["debias"],
            "of_old": self.b3 / size * k["debias"],
        }

    def __call__(self, x, s, k):
        mu = average(s["mu_last"], x.g, k["rate"])
        last = replaced(x.g, s["mu"], x.t)
        return x.write(mu=mu, m=k["of_new"] * mu - k["of_old"] * last), {"mu": mu, "mu_last": last}


@stage
class AdanMomentum(Stage):
    """Averages of the gradient and of its difference to the last one; the second moment then sees the gradient extrapolated (Adan).

        d_t    = g_t - g_{t-1}    (0 in the first step)
        mu_t   = b1 mu_{t-1} + (1 - b1) g_t,    diff_t = b2 diff_{t-1} + (1 - b2) d_t
        m_t    = mu_t / (1 - b1^t) + b2 diff_t / (1 - b2^t)
        g_t   <- g_t + b2 d_t

    Attributes:
      b1: Decay rate of the gradient's average.
      b2: Decay rate of the difference's average, and its coefficient.
    """

    b1: Decay = 0.98
    b2: Decay = 0.92

    slots = (Slot("mu"), Slot("mu_diff"), Slot("g_last"))
    scalar_slots = ("mu_log_decay", "mu_diff_log_decay")
    reads, writes = {"g"}, {"mu", "m", "g"}

    def scalars(self, t, last):
        of_g = average_scalars(self.b1, t, last, "mu_log_decay")
        of_d = average_scalars(self.b2, t, last, "mu_diff_log_decay")
        beta = 1 - of_d["rate"].value
        return of_g | {
            "mu_diff_log_decay": of_d["mu_diff_log_decay"],
            "diff_rate": of_d["rate"],
            "beta": beta,
            "of_diff": beta * of_d["debias"],
            "has_last": jnp.where(t > 1, 1.0, 0.0),
        }

    def __call__(self, x, s, k):
        mu = average(s["mu"], x.g, k["rate"])
        diff = average(s["mu_diff"], k["has_last"] * (x.g - s["g_last"]), k["diff_rate"])
        m = mu * k["debias"] + k["of_diff"] * diff
        # Not by the difference above: XLA's CPU compiler would make an array of it.
        g = x.g - k["beta"] * (k["has_last"] * (s["g_last"] - x.g))
        new = {"mu": mu, "mu_diff": diff, "g_last": replaced(s["g_last"], x.g, x.t)}
        return x.write(mu=mu, m=m, g=g), new


@stage
class AdaNormMomentum(Stage):
    """A bias-corrected average of the gradient, each leaf's raised to the average of its norms where it is smaller (AdaNorm).

        e_t  = r e_{t-1} + (1 - r) ||g_t||,       h_t = g_t max(e_t / ||g_t||, 1)
        mu_t = b1 mu_{t-1} + (1 - b1) h_t,    m_t = mu_t / (1 - b1^t)

    Attributes:
      b1: Decay rate.
      r: Decay rate of the average of norms.
    """

    b1: Decay = 0.9
    r: Decay = 0.95

    slots = (Slot("mu"), Slot("g_norm", signed=False, shape=one_per_leaf))
    scalar_slots = ("mu_log_decay",)
    reads, writes = {"g"}, {"mu", "m"}
    elementwise = False

    def scalars(self, t, last):
        return average_scalars(self.b1, t, last, "mu_log_decay") | {"norm_rate": rate_of(self.r)}

    def __call__(self, x, s, k):
        size = norm(x.g)
        usual = average(s["g_norm"], size, k["norm_rate"])
        mu = average(s["mu"], x.g * jnp.maximum(ratio(usual, size), 1), k["rate"])
        return x.write(mu=mu, m=scaled(k["debias"], mu)), {"mu": mu, "g_norm": usual}


@stage
class AveragedStep(Stage):
    """An average of steps, each with the learning rate of its time (LaProp): the averages of lr_t g_t and of lr_t have the same decay.

        mu_t = b1 mu_{t-1} + (1 - b1) lr_t g_t,    a_t = b1 a_{t-1} + (1 - b1) lr_t
        u_t  = -lr_t mu_t / a_t

    Attributes:
      learning_rate: Step size lr_t.
      b1: Decay rate.
    """

    learning_rate: Number
    b1: Decay = 0.9

    slots = (Slot("mu"),)
    scalar_slots = ("mean_learning_rate",)
    reads, writes = {"g"}, {"mu", "m", "u", "lr"}
    before = {"lr"}

    def scalars(self, t, last):
        rate = rate_of(self.b1)
        mean = average(last["mean_learning_rate"], self.learning_rate, rate)
        return {
            "rate": rate,
            "mean_learning_rate": mean,
            "of_m": ratio(jnp.ones_like(mean), mean),
            "lr": self.learning_rate,
        }

    def __call__(self, x, s, k):
        mu = average(s["mu"], scaled(k["lr"], x.g), k["rate"])
        m = scaled(k["of_m"], mu)
        return x.write(mu=mu, m=m, u=scaled(-k["lr"], m), lr=k["lr"]), {"mu": mu}
