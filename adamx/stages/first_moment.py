"""Stages that average the gradient and write the momentum m."""

import jax.numpy as jnp

from adamx.hyperparameters import Decay, NonNegative, Number
from adamx.numerics import average, debias_weight, decayed_sum, mean_log_decay, rate_of, scaled
from adamx.stages.base import Slot, Stage, average_scalars, stage


class _Average(Stage):
    """mu_t = b1 mu_{t-1} + (1 - b1) g_t, read out by the subclass."""

    slots = (Slot("mu"),)
    reads, writes = {"g"}, {"mu", "m"}

    def scalars(self, t, last):
        return {"rate": rate_of(self.b1)}

    def __call__(self, x, s, k):
        mu = average(s["mu"], x.g, k["rate"])
        return x.write(mu=mu, m=self.read_out(x.g, mu, k)), {"mu": mu}

    def read_out(self, g, mu, k):
        raise NotImplementedError


class _DebiasedAverage(_Average):
    writes = {"mu", "m", "m_debias"}
    scalar_slots = ("mu_log_decay",)

    def scalars(self, t, last):
        return average_scalars(self.b1, t, last, "mu_log_decay")

    def __call__(self, x, s, k):
        return super().__call__(x.write(m_debias=k["debias"]), s, k)


@stage
class Momentum(_DebiasedAverage):
    """Exponential average of the gradient, bias-corrected (Adam).

        mu_t = b1 mu_{t-1} + (1 - b1) g_t,    m_t = mu_t / (1 - b1^t)

    With a scheduled b1 the weight is 1 - b1_1 ... b1_t.

    Attributes:
      b1: Decay rate.
    """

    b1: Decay = 0.9

    def read_out(self, g, mu, k):
        return scaled(k["debias"], mu)


@stage
class RawMomentum(_Average):
    """Exponential average of the gradient without bias correction: m_t = mu_t = b1 mu_{t-1} + (1 - b1) g_t.

    Attributes:
      b1: Decay rate.
    """

    b1: Decay = 0.9

    def read_out(self, g, mu, k):
        return mu


@stage
class NesterovMomentum(_DebiasedAverage):
    """Exponential average with Nesterov's look-ahead, as Optax reads NAdam out.

        m_t = b1 mu_t / (1 - b1^{t+1}) + (1 - b1) g_t / (1 - b1^t)

    Attributes:
      b1: Decay rate.
    """

    b1: Decay = 0.9

    def scalars(self, t, last):
        k = super().scalars(t, last)
        next_log = mean_log_decay(k["mu_log_decay"], k["rate"].value, t + 1)
        beta = 1 - k["rate"].value
        return k | {"of_mu": beta / debias_weight(next_log, t + 1), "of_g": k["rate"].value * k["debias"]}

    def read_out(self, g, mu, k):
        return k["of_mu"] * mu + k["of_g"] * g


@stage
class AlgoPerfMomentum(_DebiasedAverage):
    """Nesterov's look-ahead as AlgoPerf's and timm's NAdamW read it out: m_t = (b1 mu_t + (1 - b1) g_t) / (1 - b1^t).

    Attributes:
      b1: Decay rate.
    """

    b1: Decay = 0.9

    def read_out(self, g, mu, k):
        return average(mu, g, k["rate"]) * k["debias"]


@stage
class RawNesterovMomentum(_Average):
    """Nesterov's look-ahead without bias correction: m_t = b1 mu_t + (1 - b1) g_t.

    Attributes:
      b1: Decay rate.
    """

    b1: Decay = 0.9

    def read_out(self, g, mu, k):
        return average(mu, g, k["rate"])


@stage
class DozatMomentum(Stage):
    """NAdam's momentum with Dozat's warm-up (torch, Keras).

        c_t  = b1 (1 - 0.96^{t momentum_decay} / 2),    mu_t = b1 mu_{t-1} + (1 - b1) g_t
        m_t  = c_{t+1} mu_t / (1 - c_1 ... c_{t+1}) + (1 - c_t) g_t / (1 - c_1 ... c_t)

    Attributes:
      b1: Decay rate.
      momentum_decay: psi, the speed of the warm-up: 0.004 in torch, 1 in Keras.
    """

    b1: Decay = 0.9
    momentum_decay: NonNegative = 0.004

    slots = (Slot("mu"),)
    scalar_slots = ("mu_log_decay",)
    reads, writes = {"g"}, {"mu", "m"}

    def scalars(self, t, last):
        rate, next_rate = self.warmed_rate(t), self.warmed_rate(t + 1)
        log = mean_log_decay(last["mu_log_decay"], rate, t)
        next_log = mean_log_decay(log, next_rate, t + 1)
        return {
            "rate": rate_of(self.b1),
            "of_mu": (1 - next_rate) / debias_weight(next_log, t + 1),
            "of_g": rate / debias_weight(log, t),
            "mu_log_decay": log,
        }

    def warmed_rate(self, t):
        """1 - c_t."""
        return 1 - (1 - self.b1.complement) * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def __call__(self, x, s, k):
        mu = average(s["mu"], x.g, k["rate"])
        return x.write(mu=mu, m=k["of_mu"] * mu + k["of_g"] * x.g), {"mu": mu}


class _Trace(Stage):
    slots = (Slot("mu"),)
    reads, writes = {"g"}, {"mu", "m"}

    def __call__(self, x, s, k):
        rate = self.momentum.complement
        mu = decayed_sum(s["mu"], x.g, rate)
        return x.write(mu=mu, m=self.read_out(x.g, mu, rate)), {"mu": mu}

    def read_out(self, g, mu, rate):
        raise NotImplementedError


@stage
class HeavyBall(_Trace):
    """Polyak's momentum, a decayed sum: m_t = mu_t = momentum mu_{t-1} + g_t.

    Attributes:
      momentum: Decay rate.
    """

    momentum: Decay = 0.9

    def read_out(self, g, mu, rate):
        return mu


@stage
class Nesterov(_Trace):
    """Nesterov's momentum, a decayed sum with look-ahead: mu_t = momentum mu_{t-1} + g_t, m_t = g_t + momentum mu_t.

    Attributes:
      momentum: Decay rate.
    """

    momentum: Decay = 0.9

    def read_out(self, g, mu, rate):
        return decayed_sum(mu, g, rate)


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
        return x.write(mu=mu, m=average(s["mu"], x.g, k["read_out"])), {"mu": mu}


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
        # Never negative: a plain copy of the gradient would be a pass over memory of its own.
        g = jnp.where(k["has_last"] < 0, s["g_last"], x.g)
        d = k["has_last"] * (g - s["g_last"])
        mu = average(s["mu"], g, k["rate"])
        diff = average(s["mu_diff"], d, k["diff_rate"])
        m = mu * k["debias"] + k["of_diff"] * diff
        return x.write(mu=mu, m=m, g=g + k["beta"] * d), {"mu": mu, "mu_diff": diff, "g_last": g}
