"""Weight decay, in four forms."""

from adamx.hyperparameters import NonNegative, Number, Positive
from adamx.stages.base import Stage, stage
from adamx.structure import is_zero


class _Decay(Stage):
    def on_leaves(self, structure, leaves):
        # A constant of 0, which is many rules' default, costs nothing.
        return [False] * len(leaves) if is_zero(self.weight_decay) else None


@stage
class DecoupledDecay(_Decay):
    """Decoupled weight decay, times the learning rate that follows: u <- u + weight_decay p (AdamW, Optax, torch).

    Attributes:
      weight_decay: Strength.
    """

    weight_decay: Number = 1e-4

    reads, writes = {"p", "u"}, {"u"}
    before = {"lr"}

    def __call__(self, x, s, k):
        return x.write(u=x.u + self.weight_decay * x.p), s


@stage
class IndependentDecay(_Decay):
    """Weight decay independent of the learning rate's size: u <- u - weight_decay (lr_t / peak) p. It stands after `LearningRate`.

    Attributes:
      weight_decay: Share of the parameter that one step at the peak learning rate takes away.
      peak: Largest learning rate of the schedule, eta_max.
    """

    weight_decay: Number
    peak: Positive

    reads, writes = {"p", "u", "lr"}, {"u"}

    def scalars(self, t, last):
        return {"per_lr": self.weight_decay / self.peak}

    def __call__(self, x, s, k):
        return x.write(u=x.u - k["per_lr"] * x.lr * x.p), s


@stage
class CoupledDecay(_Decay):
    """L2 regularisation: g <- g + weight_decay p, before the moments see the gradient.

    Attributes:
      weight_decay: Strength.
    """

    weight_decay: Number = 1e-4

    reads, writes = {"p", "g"}, {"g"}
    before = {"u"}

    def __call__(self, x, s, k):
        return x.write(g=x.g + self.weight_decay * x.p), s


@stage
class ProximalDecay(_Decay):
    """Proximal weight decay: p + u <- (p + u) / (1 + lr weight_decay). It stands after `LearningRate` (Adan).

    Attributes:
      weight_decay: Strength.
    """

    weight_decay: NonNegative = 1e-4

    reads, writes = {"p", "u", "lr"}, {"u"}

    def __call__(self, x, s, k):
        shrink = x.lr * self.weight_decay
        return x.write(u=(x.u - shrink * x.p) / (1 + shrink)), s
