"""Kinds of measures: how a quantity of each coordinate becomes one number of a leaf, or of all leaves.

A measure of nothing is 0 (`Quantiles`: zeros): of an empty tree, of leaves without a gradient, of leaves of size 0. Where squares are
beyond the range of the arithmetic (numbers of 1e19 in float32), a norm is infinite, as `optax.tree.norm`, and a cosine 0.
"""

import dataclasses
from collections.abc import Callable, Sequence, Set

import jax
import jax.numpy as jnp

from adamx.numerics import compute_dtype, ratio, real_dtype, root
from adamx.signal import Signal


class Measure:
    """Something measured on the signals of a step. Subclasses say how leaves are put together.

    Attributes:
      name: Key of the result.
      reads: Fields of `Signal` it needs.
    """

    name: str
    reads: Set[str]

    def coordinates(self, x: Signal) -> jax.Array:
        """The measure of each coordinate of one leaf."""
        raise NotImplementedError

    def of(self, signals: Sequence[Signal]) -> jax.Array:
        """The measure of the leaves with these signals, taken together."""
        raise NotImplementedError


class _Declared(Measure):
    """A measure that is a dataclass of its name, the fields it reads, and functions of the signal."""

    def __post_init__(self):
        where = type(self).__name__
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"{where}: name must be a string, the key of the result, got {self.name!r}.")
        if not isinstance(self.reads, Set):
            raise TypeError(f"{where} {self.name!r}: reads must be a set of field names of Signal, got {self.reads!r}.")
        object.__setattr__(self, "reads", frozenset(self.reads))
        for field in dataclasses.fields(self):
            function = getattr(self, field.name)
            if field.type is Callable and not callable(function):
                raise TypeError(
                    f"{where} {self.name!r}: {field.name} must be a function of a Signal, got {function!r}."
                )

    def _over(self, quantity, x):
        """`quantity` of one leaf, spread over its coordinates where they share one number."""
        value = quantity(x)
        try:
            return jnp.broadcast_to(value, x.raw.shape)
        except (TypeError, ValueError):
            raise ValueError(
                f"{self.name} takes a quantity with one number for each coordinate of a leaf of shape {x.raw.shape}; "
                f"it returned {_described(value)}."
            ) from None

    def _numbers(self, quantity, x):
        """The same, with conditions and integers as floats."""
        value = self._over(quantity, x)
        return value if jnp.issubdtype(value.dtype, jnp.inexact) else value.astype(real_dtype(x.raw.dtype))

    def _real(self, quantity, x):
        """The same for a real quantity."""
        value = self._numbers(quantity, x)
        if jnp.iscomplexobj(value):
            raise TypeError(
                f"{self.name} is a {type(self).__name__} of a real quantity, which is complex on a leaf of dtype {x.raw.dtype}: "
                "take its real part or its magnitude."
            )
        return value


@dataclasses.dataclass(frozen=True)
class OfQuantity(_Declared):
    """A measure of one quantity, a function of the signal with one number a coordinate.

    It can be pickled where its quantity can: a function with a name at the top of a module, not a lambda.
    """

    name: str
    reads: Set[str]
    quantity: Callable

    def coordinates(self, x: Signal) -> jax.Array:
        """The quantity itself."""
        return self._over(self.quantity, x)


@dataclasses.dataclass(frozen=True)
class OfTwo(_Declared):
    """A measure of two quantities; otherwise as `OfQuantity`."""

    name: str
    reads: Set[str]
    first: Callable
    second: Callable

    def _pairs(self, signals):
        return [[self._numbers(quantity, x) for x in signals] for quantity in (self.first, self.second)]


@dataclasses.dataclass(frozen=True)
class Norm(OfQuantity):
    """Euclidean norm of a quantity."""

    def coordinates(self, x: Signal) -> jax.Array:
        """|quantity| of each coordinate."""
        return jnp.abs(self._over(self.quantity, x))

    def of(self, signals: Sequence[Signal]) -> jax.Array:
        """sqrt(sum of |quantity|^2)."""
        return _norm([self._numbers(self.quantity, x) for x in signals], signals)


@dataclasses.dataclass(frozen=True)
class RootMeanSquare(OfQuantity):
    """Root mean square of a quantity over coordinates."""

    def of(self, signals: Sequence[Signal]) -> jax.Array:
        """sqrt(sum of |quantity|^2 / number of coordinates)."""
        return _norm([self._numbers(self.quantity, x) for x in signals], signals) / max(_size(signals), 1) ** 0.5


@dataclasses.dataclass(frozen=True)
class Mean(OfQuantity):
    """Mean of a real quantity over coordinates; of a condition, the share of coordinates."""

    def of(self, signals: Sequence[Signal]) -> jax.Array:
        """Sum of the quantity / number of coordinates."""
        return _sum([self._real(self.quantity, x) for x in signals], signals) / max(_size(signals), 1)


@dataclasses.dataclass(frozen=True)
class Quantiles(OfQuantity):
    """Quantiles of a real quantity over coordinates: an array of shape (len(levels),)."""

    levels: tuple[float, ...] = (0.05, 0.5, 0.95)

    def __post_init__(self):
        super().__post_init__()
        try:
            levels = tuple(float(level) for level in self.levels)
        except (TypeError, ValueError):
            levels = ()
        if not levels or not all(0 <= level <= 1 for level in levels):
            raise ValueError(f"Quantiles {self.name!r}: levels must be numbers from 0 to 1, got {self.levels!r}.")
        object.__setattr__(self, "levels", levels)

    def of(self, signals: Sequence[Signal]) -> jax.Array:
        """Linear interpolation between order statistics, as `jnp.quantile`."""
        dtype = _dtype(signals)
        if not _size(signals):
            return jnp.zeros(len(self.levels), dtype)
        values = jnp.concatenate([jnp.ravel(self._real(self.quantity, x)).astype(dtype) for x in signals])
        return jnp.quantile(values, jnp.asarray(self.levels, dtype))


@dataclasses.dataclass(frozen=True)
class Cosine(OfTwo):
    """Cosine of the angle between two directions; 0 where one is zero."""

    def coordinates(self, x: Signal) -> jax.Array:
        """Sign agreement of the coordinate: 1, 0 or -1."""
        (a,), (b,) = self._pairs([x])
        return jnp.sign(inner(a, b))

    def of(self, signals: Sequence[Signal]) -> jax.Array:
        """<a, b> / (||a|| ||b||)."""
        return _sum(map(inner, *(_unit(arrays, signals) for arrays in self._pairs(signals))), signals)


@dataclasses.dataclass(frozen=True)
class RatioOfRootMeanSquares(OfTwo):
    """RMS of one quantity over RMS of another; 0 where the second is zero."""

    def coordinates(self, x: Signal) -> jax.Array:
        """|first| / |second| of each coordinate."""
        (a,), (b,) = self._pairs([x])
        return ratio(jnp.abs(a), jnp.abs(b))

    def of(self, signals: Sequence[Signal]) -> jax.Array:
        """RMS(first) / RMS(second)."""
        return ratio(*(_norm(arrays, signals) for arrays in self._pairs(signals)))


def inner(a, b):
    """Re(a b*) of each coordinate: the product, of complex numbers as vectors of two."""
    return jnp.real(a * jnp.conj(b))


def _dtype(signals):
    """Dtype of what is put together from these signals, real."""
    return real_dtype(compute_dtype(*(x.raw.dtype for x in signals)))


def _size(signals):
    return sum(x.raw.size for x in signals)


def _sum(arrays, signals):
    dtype = _dtype(signals)
    return sum((jnp.sum(a.astype(dtype)) for a in arrays), start=jnp.zeros([], dtype))


def _norm(arrays, signals):
    """Euclidean norm of all arrays together."""
    return root(_sum((inner(a, a) for a in arrays), signals))


def _unit(arrays, signals):
    """The arrays over their norm; zeros where it is 0."""
    norm = _norm(arrays, signals)
    inverse = ratio(jnp.ones_like(norm), norm)
    return [inverse.astype(a.real.dtype) * a for a in arrays]


def _described(value):
    return f"an array of shape {value.shape}" if hasattr(value, "shape") else repr(value)
