"""Stages that average the gradient and write the momentum m."""

from adamx.annotations import Decay, NonNegative
from adamx.numerics import average, debias_weight, decayed_sum, mean_log_decay, rate_of, scaled
from adamx.stages.base import Slot, Stage, stage
from adamx.stages.moments import average_scalars


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
