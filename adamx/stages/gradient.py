"""Stages that rewrite the gradient before the moments see it, or pass it on."""

import jax
import jax.numpy as jnp

from adamx.annotations import NonNegative, Positive
from adamx.numerics import limited, norm, over_root, ratio, rms, root, sum_of_squares
from adamx.stages.base import Stage, leaves_where, stage
from adamx.structure import other_axes, static


@stage
class NormaliseGradient(Stage):
    """Divides the gradient by the root of the second moment: g <- g / d with d = sqrt(v + eps_root) + eps.

    Put before a momentum it makes the average of ratios (NovoGrad, LaProp), where Adam is the ratio of averages.

    Attributes:
      eps: Added to the root; None for nothing.
      eps_root: Added under the root; None for nothing.
    """

    eps: NonNegative | None = 1e-8
    eps_root: NonNegative | None = 0.0

    reads, writes = {"g", "v"}, {"d", "g"}

    def __call__(self, x, s, k):
        g, d = over_root(x.g, x.v, self.eps_root, self.eps)
        return x.write(d=d, g=g), s


@stage
class NormaliseLaterGradients(Stage):
    """`NormaliseGradient` that leaves the first gradient as it is: with a second moment of the steps before, there is none yet (ACProp).

    Attributes:
      eps: Added to the root.
    """

    eps: NonNegative = 1e-16

    reads, writes = {"g", "v"}, {"d", "g"}

    def scalars(self, t, last):
        return {"first": jnp.where(t > 1, 0.0, 1.0)}

    def __call__(self, x, s, k):
        g, d = over_root(x.g, x.v, None, self.eps)
        return x.write(d=jnp.where(k["first"] > 0, 1, d), g=jnp.where(k["first"] > 0, x.g, g)), s


@stage
class NormaliseGradientByMax(Stage):
    """Divides the gradient by the root of the second moment, held above eps: g <- g / d with d = max(sqrt(v), eps) (ADOPT).

    Attributes:
      eps: Least denominator.
    """

    eps: NonNegative = 1e-6

    reads, writes = {"g", "v"}, {"d", "g"}

    def __call__(self, x, s, k):
        d = jnp.maximum(root(x.v), self.eps)
        return x.write(d=d, g=ratio(x.g, d)), s


@stage
class ClipGradient(Stage):
    """Clips each element of the gradient: g <- min(max(g, -limit), limit); complex elements by modulus.

    Attributes:
      limit: Largest modulus.
    """

    limit: NonNegative

    reads, writes = {"g"}, {"g"}

    def __call__(self, x, s, k):
        if jnp.iscomplexobj(x.g):
            # Scaled to at most sqrt(2) first, and infinities (of a division before) made numbers: no square or product leaves the range.
            re, im = (jnp.nan_to_num(part, nan=jnp.nan) for part in (jnp.real(x.g), jnp.imag(x.g)))
            size = jnp.maximum(jnp.abs(re), jnp.abs(im))
            re, im = ratio(re, size), ratio(im, size)
            length = root(re * re + im * im)
            size = jnp.minimum(size, ratio(self.limit, length))
            return x.write(g=jax.lax.complex(size * re, size * im)), s
        return x.write(g=jnp.clip(x.g, -self.limit, self.limit)), s


@stage
class TakeGradient(Stage):
    """Makes the (rewritten) gradient the update: u = g."""

    reads, writes = {"g"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=x.g), s


@stage
class NegateGradient(Stage):
    """g <- -g: the rule then maximizes."""

    reads, writes = {"g"}, {"g"}

    def __call__(self, x, s, k):
        return x.write(g=-x.g), s


@stage
class Centralize(Stage):
    """Takes the mean over the inputs of each output channel off the gradient: g <- g - mean(g), of leaves with two axes or more.

    Attributes:
      channel_axis: Axis of the output channels: the last of a JAX kernel; 0 in torch, and in Optax's `centralize`.
    """

    channel_axis: int = static(default=-1)

    reads, writes = {"g"}, {"g"}
    elementwise = False

    def on_leaves(self, structure, leaves):
        return leaves_where(leaves, lambda shape: len(shape) > 1)

    def __call__(self, x, s, k):
        inputs = other_axes(x.g.ndim, self.channel_axis)
        return x.write(g=x.g - jnp.mean(x.g, axis=inputs, keepdims=True)), s


@stage
class ClipGradientNorm(Stage):
    """Scales each leaf's gradient down to a norm of at most max_norm: g <- g min(1, max_norm / ||g||).

    Attributes:
      max_norm: Largest norm.
    """

    max_norm: NonNegative = 1.0

    reads, writes = {"g"}, {"g"}
    elementwise = False

    def __call__(self, x, s, k):
        return x.write(g=limited(x.g, norm(x.g), self.max_norm)), s


@stage
class ClipGradientRms(Stage):
    """Scales each leaf's gradient down to a root mean square of at most `threshold`: g <- g / max(1, rms(g) / threshold) (CAME).

    Attributes:
      threshold: Largest root mean square.
    """

    threshold: Positive = 1.0

    reads, writes = {"g"}, {"g"}
    elementwise = False

    def __call__(self, x, s, k):
        return x.write(g=x.g / jnp.maximum(rms(x.g) / self.threshold, 1)), s


@stage
class ClipGlobalNorm(Stage):
    """Scales the gradient down to a norm over the whole tree of at most max_norm: g <- g min(1, max_norm / ||g||).

    Attributes:
      max_norm: Largest norm.
    """

    max_norm: NonNegative = 1.0

    sums = ("g_squared",)
    reads, writes = {"g"}, {"g"}
    elementwise = False

    def measure(self, x, s, k):
        return {"g_squared": sum_of_squares(x.g)}

    def combine(self, sums, k):
        return {"g_norm": root(sums["g_squared"])}

    def __call__(self, x, s, k):
        return x.write(g=limited(x.g, k["g_norm"], self.max_norm)), s
