"""Stages that rewrite the gradient before the moments see it, or pass it on."""

import jax
import jax.numpy as jnp

from adamx.hyperparameters import NonNegative
from adamx.numerics import over_root, ratio, root
from adamx.stages.base import Stage, stage


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
