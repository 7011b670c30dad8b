"""What can be measured of an optimizer's step: pure functions of its signals."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from adamx.numerics import abs_sq, ratio, real_dtype, root


class Measure:
    """Something measured on the signals of a step. Subclasses say how leaves are put together.

    Attributes:
      name: Key of the result.
      reads: Fields of `Signal` it needs.
    """

    name: str
    reads: frozenset

    def coordinates(self, x):
        """The measure of each coordinate of one leaf."""
        raise NotImplementedError

    def of(self, signals):
        """The measure of the leaves with these signals, taken together."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class OfQuantity(Measure):
    """A measure of one quantity, a function of the signal with one number a coordinate."""

    name: str
    reads: frozenset
    quantity: Callable

    def coordinates(self, x):
        """The quantity itself."""
        return self.quantity(x)


@dataclasses.dataclass(frozen=True)
class RootMeanSquare(OfQuantity):
    """Root mean square of a quantity over coordinates."""

    def of(self, signals):
        """sqrt(sum of |quantity|^2 / number of coordinates)."""
        return root(_sum(abs_sq(self.quantity(x)) for x in signals) / _size(signals))


@dataclasses.dataclass(frozen=True)
class Mean(OfQuantity):
    """Mean of a real quantity over coordinates; of a condition, the share of coordinates."""

    def of(self, signals):
        """Sum of the quantity / number of coordinates."""
        return _sum(self.quantity(x) * jnp.ones([], real_dtype(x.g.dtype)) for x in signals) / _size(signals)


@dataclasses.dataclass(frozen=True)
class Quantiles(OfQuantity):
    """Quantiles of a real quantity over coordinates: an array of shape (len(levels),)."""

    levels: tuple[float, ...] = (0.05, 0.5, 0.95)

    def of(self, signals):
        """Linear interpolation between order statistics, as `jnp.quantile`."""
        values = jnp.concatenate([jnp.ravel(self.quantity(x)) for x in signals])
        return jnp.quantile(values, jnp.asarray(self.levels, values.dtype))


@dataclasses.dataclass(frozen=True)
class Cosine(Measure):
    """Cosine of the angle between two directions; 0 where one is zero."""

    name: str
    reads: frozenset
    first: Callable
    second: Callable

    def coordinates(self, x):
        """Sign agreement of the coordinate: 1, 0 or -1."""
        return jnp.sign(_inner(self.first(x), self.second(x)))

    def of(self, signals):
        """<a, b> / (||a|| ||b||)."""
        pairs = [(self.first(x), self.second(x)) for x in signals]
        lengths = root(_sum(abs_sq(a) for a, _ in pairs)) * root(_sum(abs_sq(b) for _, b in pairs))
        return ratio(_sum(_inner(a, b) for a, b in pairs), lengths)


@dataclasses.dataclass(frozen=True)
class RatioOfRootMeanSquares(Measure):
    """RMS of one quantity over RMS of another; 0 where the second is zero."""

    name: str
    reads: frozenset
    first: Callable
    second: Callable

    def coordinates(self, x):
        """|first| / |second| of each coordinate."""
        return ratio(jnp.abs(self.first(x)), jnp.abs(self.second(x)))

    def of(self, signals):
        """RMS(first) / RMS(second)."""
        return root(ratio(_sum(abs_sq(self.first(x)) for x in signals), _sum(abs_sq(self.second(x)) for x in signals)))


def _fields(*names):
    return frozenset(names)


gradient_rms = RootMeanSquare("gradient_rms", _fields("raw"), lambda x: x.raw)
"""RMS of the gradient as given."""

parameter_rms = RootMeanSquare("parameter_rms", _fields("p"), lambda x: x.p)
"""RMS of the parameter before the step."""

update_rms = RootMeanSquare("update_rms", _fields("u"), lambda x: x.u)
"""RMS of the update, learning rate included."""

update_ratio = RatioOfRootMeanSquares("update_ratio", _fields("u", "p"), lambda x: x.u, lambda x: x.p)
"""RMS(update) / RMS(parameter): about 1e-3 in healthy training."""

effective_learning_rate = Quantiles("effective_learning_rate", _fields("lr", "d"), lambda x: ratio(x.lr, x.d))
"""Quantiles (5, 50, 95 %) of learning rate / denominator, the factor of the momentum in each coordinate."""

signal_to_noise = RootMeanSquare("signal_to_noise", _fields("m", "v"), lambda x: ratio(x.m, root(x.v)))
"""RMS of m / sqrt(v): near 1 where gradients agree from step to step, near 0 where they are noise."""

alignment = Cosine("alignment", _fields("u", "raw"), lambda x: x.u, lambda x: -x.raw)
"""Cosine of update and negative gradient: 1 is steepest descent; below 0 the step climbs."""

momentum_alignment = Cosine("momentum_alignment", _fields("m", "raw"), lambda x: x.m, lambda x: x.raw)
"""Cosine of momentum and gradient."""

sign_agreement = Mean("sign_agreement", _fields("u", "raw"), lambda x: _inner(x.u, -x.raw) > 0)
"""Share of coordinates whose update points down their gradient."""

eps_share = Mean("eps_share", _fields("v", "d"), lambda x: root(x.v) < x.d / 2)
"""Share of coordinates where eps is more than half of the denominator."""

staleness = RootMeanSquare("staleness", _fields("raw", "v"), lambda x: ratio(x.raw, root(x.v)))
"""RMS of gradient / sqrt(v): above 1, the second moment lags behind gradients that have grown."""

MEASURES = {
    measure.name: measure
    for measure in (
        gradient_rms,
        parameter_rms,
        update_rms,
        update_ratio,
        effective_learning_rate,
        signal_to_noise,
        alignment,
        momentum_alignment,
        sign_agreement,
        eps_share,
        staleness,
    )
}
"""Name -> measure, all of them."""


def _inner(a, b):
    return jnp.real(a * jnp.conj(b))


def _sum(arrays):
    return sum(jnp.sum(a) for a in arrays)


def _size(signals):
    return sum(x.g.size for x in signals)
