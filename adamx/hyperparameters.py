"""How hyperparameters enter a rule: checked, exact, and as leaves of a pytree.

A hyperparameter may be a number, an array, a schedule (a callable of the step count) or a `jax.tree_util.Partial` schedule, whose
arguments are leaves themselves. Annotating a stage's field with `Number`, `NonNegative` or `Decay` converts and checks what is given.
"""

import types
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np


class Scheduled:
    """A hyperparameter that is a function of the step count (0 at the first update).

    A plain callable is structure (no leaves), compared by identity: what it would return can change. A callable that is itself a pytree,
    as `jax.tree_util.Partial`, brings its leaves.

    Attributes:
      schedule: The callable.
      kind: Annotation of the field it stands in, which converts and checks what it returns.
      where: Stage and field, for messages.
    """

    def __init__(self, schedule, kind, where):
        self.schedule, self.kind, self.where = schedule, kind, where

    def at(self, count):
        """The value at `count`, converted and checked as a constant would be."""
        value = self.schedule(count)
        if callable(value) or isinstance(value, Scheduled):
            raise TypeError(f"{self.where}: the schedule must return {self.kind.expected}, got {value!r}.")
        return self.kind.convert(value, self.where)

    def __repr__(self):
        inner = getattr(self.schedule, "func", self.schedule)
        return getattr(inner, "__name__", type(inner).__name__)

    def _flatten(self):
        known = (self.kind, self.where)
        if jax.tree_util.all_leaves([self.schedule]):
            return (), (_Same(self.schedule), *known)
        return (self.schedule,), (None, *known)

    @classmethod
    def _unflatten(cls, fixed, children):
        plain, kind, where = fixed
        return cls(*(children or (plain.function,)), kind, where)


class _Same:
    """A function as static structure: equal to itself only. Methods are equal if bound to the same object."""

    def __init__(self, function):
        self.function = function

    def _identity(self):
        bound = isinstance(self.function, types.MethodType)
        return (id(self.function.__self__), id(self.function.__func__)) if bound else id(self.function)

    def __eq__(self, other):
        return isinstance(other, _Same) and self._identity() == other._identity()

    def __hash__(self):
        return hash(self._identity())


jax.tree_util.register_pytree_node(Scheduled, Scheduled._flatten, Scheduled._unflatten)


class Number:
    """Annotation of a field that holds any real number, array or schedule."""

    expected = "a number, an array or a schedule"

    @classmethod
    def convert(cls, value, where):
        """`value` as it is kept: a schedule is wrapped; a concrete number is checked.

        Raises:
          TypeError: not a real number, array of such or schedule.
          ValueError: out of range, also that of float32 unless float64 is enabled; `where` names the stage and the field.
        """
        if isinstance(value, Scheduled):
            return Scheduled(value.schedule, cls, where)
        if callable(value):
            return Scheduled(value, cls, where)
        if hasattr(value, "__jax_array__"):
            value = jnp.asarray(value)
        if not _is_real(value):
            hint = " Make an array of it: jnp.array(...)." if isinstance(value, (list, tuple)) else ""
            raise TypeError(f"{where} must be {cls.expected}, got {value!r}.{hint}")
        if _is_concrete(value):
            values, top = np.asarray(value, dtype=np.float64), float(jnp.finfo(jnp.result_type(float)).max)
            if not cls.accepts(values):
                raise ValueError(f"{where} must be {cls.expected}, got {value}.")
            if np.any(np.isfinite(values) & (np.abs(values) > top)):
                raise ValueError(f"{where} must be at most {top:.2g} in size, the largest float32, got {value}.")
        # A whole number has no derivative.
        return float(value) if isinstance(value, int) else value

    @staticmethod
    def accepts(values):
        """Whether all of `values` are in range."""
        return bool(np.all(np.isfinite(values)))


class NonNegative(Number):
    """Annotation of a field that holds a number >= 0."""

    expected = "a number >= 0 (or an array or schedule of such)"

    @staticmethod
    def accepts(values):
        """Whether all of `values` are in range."""
        return bool(np.all(values >= 0))


class Positive(Number):
    """Annotation of a field that holds a number > 0."""

    expected = "a number > 0 (or an array or schedule of such)"

    @staticmethod
    def accepts(values):
        """Whether all of `values` are in range."""
        return bool(np.all(values > 0))


class _UnitInterval(Number):
    expected = "a decay rate in [0, 1) (or an array or schedule of such)"

    @staticmethod
    def accepts(values):
        return bool(np.all((values >= 0) & (values < 1)))


class Decay:
    """A decay rate beta, kept as its complement 1 - beta: the leaf of the pytree.

    Attributes:
      complement: 1 - beta, a number, an array or a schedule.
      positive: Whether beta is known to be above 0, in float32 too, as it can be of a Python number. Not part of the pytree.

    The complement is exact: 0.999 is kept as 0.001 by decimal arithmetic, and an array of float32 as the complement of the decimal
    number (up to 7 digits) that it stands for. A rule that is traced, batched or injected is thus as exact as one with constants.

    >>> Decay.convert(0.999, "b2").complement
    0.001
    """

    expected = _UnitInterval.expected

    def __init__(self, complement, positive=None):
        self.complement = complement
        known = isinstance(complement, float) and bool(np.float32(complement) < 1)
        self.positive = known if positive is None else positive

    @classmethod
    def convert(cls, value, where):
        """`value` (beta) as a `Decay`. Raises as `Number.convert`, and TypeError for float16 or bfloat16 values."""
        if isinstance(value, cls):
            return value
        if callable(value):
            return cls(Scheduled(value, cls, where))
        _require_precision(value, where)
        return cls(complement(_UnitInterval.convert(value, where)))

    @property
    def schedule(self):
        """Its `Scheduled`, which returns beta or a `Decay` (nothing is rounded); None for a constant."""
        return self.complement if isinstance(self.complement, Scheduled) else None

    def __repr__(self):
        kept = self.complement
        return repr(float(1 - Decimal(repr(float(kept))))) if isinstance(kept, float) else f"1-({show(kept)})"


jax.tree_util.register_pytree_with_keys(
    Decay, lambda d: (((jax.tree_util.GetAttrKey("complement"), d.complement),), None), lambda _, c: Decay(*c)
)


class Decays:
    """Annotation of a field that holds several decay rates."""

    expected = "one or more decay rates"

    @classmethod
    def convert(cls, value, where):
        """A tuple of `Decay`s. Raises as `Decay.convert`, and TypeError for what is no tuple or list."""
        if not isinstance(value, tuple | list) or not value:
            raise TypeError(f"{where} must be a tuple of {cls.expected}, got {value!r}.")
        return tuple(Decay.convert(beta, f"{where}[{i}]") for i, beta in enumerate(value))


def is_whole(node):
    """Whether `node` is one hyperparameter that is a tree itself: a decay rate or a schedule."""
    return isinstance(node, (Decay, Scheduled))


def at_count(tree, count):
    """`tree` with every schedule called at `count`, by plain Python: it may read what it likes, and sees a number if the count is one."""

    def value(h):
        schedule = h.schedule if isinstance(h, Decay) else h if isinstance(h, Scheduled) else None
        return schedule.at(count) if schedule else h

    return jax.tree.map(value, tree, is_leaf=is_whole)


def complement(beta):
    """1 - beta, exact for the decimal number that `beta` stands for."""
    if isinstance(beta, (int, float, np.number)):
        return float(1 - Decimal(str(beta)))
    if isinstance(beta, np.ndarray):
        return np.vectorize(complement, otypes=[np.float64])(beta)
    beta = jnp.asarray(beta)
    beta = beta.astype(jnp.promote_types(beta.dtype, jnp.float32))
    # Hidden from XLA that it is constant: else it multiplies by the reciprocal, which is rounded.
    steps = jax.lax.optimization_barrier(jnp.full_like(beta, 1e7 if beta.dtype == jnp.float32 else 1e15))
    digits, difference = jnp.round(beta * steps), 1 - beta
    exact = jnp.where(digits / steps == beta, (steps - digits) / steps, difference)
    return difference + jax.lax.stop_gradient(exact - difference)


def show(value):
    """`value` for a rule's printed line: numbers as they are, arrays as dtype and shape, functions by name."""
    if isinstance(value, types.FunctionType):
        return value.__name__
    if isinstance(value, (jax.Array, np.ndarray)) and np.ndim(value):
        return f"{jnp.dtype(value.dtype).name}{list(value.shape)}"
    if _is_concrete(value) and not isinstance(value, (int, float)):
        value = float(str(value)) if isinstance(value, np.number) else value.item()
    return repr(value)


def _is_concrete(value):
    return isinstance(value, (int, float, np.number, np.ndarray)) or (
        isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    )


def _is_real(value):
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _require_precision(value, where):
    dtype = getattr(value, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
        raise TypeError(
            f"{where} arrived as {jnp.dtype(dtype).name}, in which 0.999 cannot be told from 1. "
            "optax.inject_hyperparams casts to the parameters' dtype unless told otherwise: pass hyperparam_dtype=jnp.float32 to it, "
            "or pass the rule itself through jit (an adamx rule is a pytree of its hyperparameters)."
        )
