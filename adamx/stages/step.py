"""Stages that shape the step: its sign, its size, its learning rate."""

import jax
import jax.numpy as jnp

from adamx.annotations import NonNegative, Number, Positive
from adamx.numerics import norm, ratio, real_dtype, rms, root, scaled, sign
from adamx.passes import ratio_in_sum, replaced
from adamx.stages.base import Slot, Stage, stage


@stage
class TakeMomentum(Stage):
    """Makes the momentum the update: u = m."""

    reads, writes = {"m"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=x.m), s


@stage
class Sign(Stage):
    """u = sign(m) (Lion); m / |m| for complex parameters."""

    reads, writes = {"m"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=sign(x.m)), s


@stage
class TrustRatio(Stage):
    """Gives each leaf's update the norm of its parameter: u <- u ||p|| / ||u||, unchanged where either norm is 0 (LAMB)."""

    reads, writes = {"p", "u"}, {"u"}
    before = {"lr"}
    elementwise = False

    def __call__(self, x, s, k):
        p, u = norm(x.p), norm(x.u)
        return x.write(u=x.u * jnp.where((p > 0) & (u > 0), ratio(p, u), 1)), s


@stage
class LayerRate(Stage):
    """Gives each leaf's update a share of its parameter's norm: u <- u trust_coefficient ||p|| / (||u|| + eps) (LARS).

    Unchanged where either norm is 0.

    Attributes:
      trust_coefficient: The share.
      eps: Added to the norm of the update.
    """

    trust_coefficient: NonNegative = 1e-3
    eps: NonNegative = 0.0

    reads, writes = {"p", "u"}, {"u"}
    before = {"lr"}
    elementwise = False

    def __call__(self, x, s, k):
        p, u = norm(x.p), norm(x.u)
        share = ratio(self.trust_coefficient * p, u + self.eps)
        return x.write(u=x.u * jnp.where((p > 0) & (u > 0), share, 1)), s


@stage
class MatchParameterNorm(Stage):
    """u <- u max(||p||, min_norm) / max(||u||, min_norm), leaf by leaf (Fromage).

    Attributes:
      min_norm: Least norm, of both.
    """

    min_norm: Positive = 1e-6

    reads, writes = {"p", "u"}, {"u"}
    before = {"lr"}
    elementwise = False

    def __call__(self, x, s, k):
        return x.write(u=x.u * (jnp.maximum(norm(x.p), self.min_norm) / jnp.maximum(norm(x.u), self.min_norm))), s


@stage
class ClipUpdateRms(Stage):
    """Scales each leaf's update down to a root mean square of at most `threshold`: u <- u / max(1, rms(u) / threshold) (Adafactor).

    Attributes:
      threshold: Largest root mean square.
    """

    threshold: Positive = 1.0

    reads, writes = {"u"}, {"u"}
    before = {"lr"}
    elementwise = False

    def __call__(self, x, s, k):
        return x.write(u=x.u / jnp.maximum(rms(x.u) / self.threshold, 1)), s


@stage
class ScaleByParameterRms(Stage):
    """Makes the step relative to the size of each leaf: u <- u max(rms(p), floor) (Adafactor).

    Attributes:
      floor: Least root mean square of a parameter.
    """

    floor: NonNegative = 1e-3

    reads, writes = {"p", "u"}, {"u"}
    elementwise = False

    def __call__(self, x, s, k):
        return x.write(u=x.u * jnp.maximum(rms(x.p), self.floor)), s


@stage
class SlowSurprisedLayers(Stage):
    """Scales each leaf's step, decay included, down where the gradient surprises its second moment (StableAdamW).

        u <- u / max(1, rms(g / max(sqrt(v), eps)))

    Attributes:
      eps: Least root.
    """

    eps: NonNegative = 1e-6

    reads, writes = {"g", "v", "u"}, {"u"}
    before = {"lr"}
    elementwise = False

    def __call__(self, x, s, k):
        surprise = rms(ratio_in_sum(x.g, jnp.maximum(root(x.v), self.eps)))
        return x.write(u=x.u / jnp.maximum(surprise, 1)), s


@stage
class Friction(Stage):
    """Slows coordinates whose gradient stays the same: u <- u / (1 + exp(-|g_t - g_{t-1}|)), with g_0 = 0 (diffGrad)."""

    slots = (Slot("g_last"),)
    reads, writes = {"g", "u"}, {"u"}

    def __call__(self, x, s, k):
        friction = jax.nn.sigmoid(jnp.abs(x.g - s["g_last"]))
        return x.write(u=x.u * friction), {"g_last": replaced(s["g_last"], x.g, x.t)}


@stage
class SignOfGradient(Stage):
    """The update's size with the gradient's sign: u <- sign(g) |u| (Grams)."""

    reads, writes = {"g", "u"}, {"u"}
    before = {"lr"}

    def __call__(self, x, s, k):
        return x.write(u=sign(x.g) * jnp.abs(x.u)), s


@stage
class Cautious(Stage):
    """Leaves out the coordinates in which the update goes against the gradient, and raises the others by as much (C-AdamW, C-Lion).

        u <- u a / max(mean(a), floor),    a = 1 where Re(conj(u) g) > 0, else 0

    Attributes:
      floor: Least mean.
    """

    floor: Positive = 1e-3

    reads, writes = {"g", "u"}, {"u"}
    before = {"lr"}
    elementwise = False

    def __call__(self, x, s, k):
        # Signs, as a product of small numbers may be 0.
        agrees = _agreement(x.u, x.g).astype(real_dtype(x.u.dtype))
        return x.write(u=x.u * (agrees / jnp.maximum(jnp.mean(agrees), self.floor))), s


def _agreement(a, b):
    if jnp.iscomplexobj(a):
        return jnp.real(jnp.conj(sign(a)) * sign(b)) > 0
    return sign(a) * sign(b) > 0


@stage
class LearningRate(Stage):
    """u <- -learning_rate u: from the direction up the slope to what is added to the parameter.

    Attributes:
      learning_rate: Step size; a schedule sees the number of updates made so far.
    """

    learning_rate: Number

    reads, writes = {"u"}, {"u", "lr"}
    before = {"lr"}

    def scalars(self, t, last):
        return {"factor": -self.learning_rate, "lr": self.learning_rate}

    def __call__(self, x, s, k):
        return x.write(u=scaled(k["factor"], x.u), lr=k["lr"]), s


@stage
class RescaleParameters(Stage):
    """Keeps the parameters' norm from growing: p + u <- (p + u) / sqrt(1 + lr^2). It stands after `LearningRate` (Fromage)."""

    reads, writes = {"p", "u", "lr"}, {"u"}

    def __call__(self, x, s, k):
        length = root(1 + x.lr**2)
        # p (1 / length - 1), without cancellation.
        return x.write(u=x.u / length - x.p * (x.lr**2 / (length * (1 + length)))), s
