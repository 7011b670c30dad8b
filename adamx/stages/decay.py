"""Weight decay, in its several forms."""

import math

import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative, Number, Positive
from adamx.numerics import average, ratio, root, sign
from adamx.stages.base import Slot, Stage, stage
from adamx.stages.moments import self_correcting_scalars
from adamx.structure import is_zero, other_axes, static


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


@stage
class CorrectedDecay(_Decay):
    """Weight decay that falls with the square of the learning rate: u <- u - weight_decay (lr^2 / peak) p (AdamC).

    It stands after `LearningRate`.

    Attributes:
      weight_decay: Strength.
      peak: Largest learning rate of the schedule, eta_max.
    """

    weight_decay: Number
    peak: Positive

    reads, writes = {"p", "u", "lr"}, {"u"}

    def scalars(self, t, last):
        return {"per_square": self.weight_decay / self.peak}

    def __call__(self, x, s, k):
        return x.write(u=x.u - k["per_square"] * x.lr * x.lr * x.p), s


@stage
class DecayAfterStep(_Decay):
    """Weight decay of what the step leads to, not times the learning rate: p + u <- (1 - weight_decay)(p + u) (LaProp).

    It stands after `LearningRate`.

    Attributes:
      weight_decay: Strength.
    """

    weight_decay: Number

    reads, writes = {"p", "u", "lr"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=x.u - self.weight_decay * (x.p + x.u)), s


@stage
class DecayWithStep(_Decay):
    """Decoupled weight decay of what the step leads to: p + u <- (1 - lr weight_decay)(p + u) (SOAP). It stands after `LearningRate`.

    Attributes:
      weight_decay: Strength.
    """

    weight_decay: Number = 1e-4

    reads, writes = {"p", "u", "lr"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=x.u - x.lr * self.weight_decay * (x.p + x.u)), s


@stage
class FixedDecay(_Decay):
    """Weight decay that the learning rate has no part in: u <- u - weight_decay p (Adafactor in Optax). It stands after `LearningRate`.

    Attributes:
      weight_decay: Share of the parameter that one step takes away.
    """

    weight_decay: Number

    reads, writes = {"p", "u", "lr"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=x.u - self.weight_decay * x.p), s


@stage
class CautiousDecay(_Decay):
    """Decoupled weight decay only where the step goes towards zero too: u <- u + weight_decay p where Re(conj(u) p) > 0.

    Attributes:
      weight_decay: Strength.
    """

    weight_decay: Number = 1e-4

    reads, writes = {"p", "u"}, {"u"}
    before = {"lr"}

    def __call__(self, x, s, k):
        together = jnp.real(jnp.conj(sign(x.u)) * sign(x.p)) > 0
        return x.write(u=x.u + jnp.where(together, self.weight_decay * x.p, 0)), s


@stage
class DecayToAverage(Stage):
    """A pull towards the average of the parameters, and decay of that average (FOCUS).

        pbar_t = pbar_{t-1} + r_t (p - pbar_{t-1}),    r_t = (1 - b2) / (1 - b2^t)
        u     <- u + gamma sign(p - pbar_t) + weight_decay pbar_t

    Attributes:
      b2: Decay rate of the average.
      gamma: Strength of the pull.
      weight_decay: Strength of the decay.
    """

    b2: Decay = 0.99
    gamma: Number = 0.1
    weight_decay: Number = 0.0

    slots = (Slot("p_mean", precise=True),)
    scalar_slots = ("p_mean_log_decay",)
    reads, writes = {"p", "u"}, {"u"}
    before = {"lr"}

    def scalars(self, t, last):
        # The first step's rate is exactly 1: the sign of a rounding error would be a pull.
        k = self_correcting_scalars(self.b2, t, last, "p_mean_log_decay")
        return k | {"pulls": jnp.where(t > 1, 1.0, 0.0)}

    def __call__(self, x, s, k):
        mean = average(s["p_mean"], x.p, k["rate"])
        # p - pbar_t has the sign of p - pbar_{t-1}, 0 where the parameter has not moved; of complex numbers that is the more exact one.
        pull = k["pulls"] * sign(x.p - (s["p_mean"] if jnp.iscomplexobj(x.p) else mean))
        return x.write(u=x.u + self.gamma * pull + self.weight_decay * mean), {"p_mean": mean}


@stage
class ProjectedDecay(Stage):
    """Takes the part of the update along the parameter away, where the gradient is nearly orthogonal to it, and decays less there (AdamP).

        where max over channels of |cos(g, p)| < delta / sqrt(size of a channel):
            u <- u - n <n, u>,    n = p / (||p|| + eps),    weight_decay <- wd_ratio weight_decay
        u <- u + weight_decay p

    tried channel by channel, then with the whole leaf as one channel; vectors and scalars only decay.

    Attributes:
      weight_decay: Strength.
      delta: Threshold of the cosine.
      wd_ratio: Share of the decay that is left.
      eps: Least norm.
      channel_axis: Axis of the output channels: the last of a JAX kernel, 0 in torch.
    """

    weight_decay: Number = 0.0
    delta: NonNegative = 0.1
    wd_ratio: NonNegative = 0.1
    eps: NonNegative = 1e-8
    channel_axis: int = static(default=-1)

    reads, writes = {"g", "p", "u"}, {"u"}
    before = {"lr"}
    elementwise = False

    def __call__(self, x, s, k):
        u, decay = x.u, jnp.asarray(self.weight_decay)
        if x.p.ndim > 1:
            rest = other_axes(x.p.ndim, self.channel_axis)
            # The first view that is orthogonal enough is projected in, hence last in this order.
            for axes in (tuple(range(x.p.ndim)), rest):
                along, is_near = self._without_radial(x, axes)
                u, decay = jnp.where(is_near, along, u), jnp.where(is_near, self.wd_ratio * self.weight_decay, decay)
        return x.write(u=u + decay * x.p), s

    def _without_radial(self, x, axes):
        """The update without its part along the parameter, over `axes`; and whether it is to be taken."""

        def inner(a, b):
            return jnp.sum(jnp.real(jnp.conj(a) * b), axis=axes, keepdims=True)

        p, g = root(inner(x.p, x.p)), root(inner(x.g, x.g))
        cosine = ratio(jnp.abs(inner(x.g, x.p)), jnp.maximum(p, self.eps) * jnp.maximum(g, self.eps))
        size = math.prod(x.p.shape[axis] for axis in axes)
        n = ratio(x.p, p + self.eps)
        return x.u - n * inner(n, x.u), jnp.max(cosine) < self.delta / size**0.5
