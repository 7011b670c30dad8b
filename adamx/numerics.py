"""Array arithmetic that every rule shares: averages, debias weights, squares, roots, dtypes."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LOG_OF_ZERO = -46.051701859880914
"""log(1e-20), standing in for log(0): its exponential vanishes beside 1 in float32 and float64."""


# Dtypes


def compute_dtype(*dtypes):
    """Dtype of the arithmetic on one leaf: float32, or float64, complex64, complex128 where a dtype is that wide."""
    # Not by promotion, which users may forbid (jax_numpy_dtype_promotion="strict").
    bits = max((jnp.finfo(d).bits for d in dtypes), default=32)
    kinds = {jnp.issubdtype(d, jnp.complexfloating) for d in dtypes}
    dtype = {False: (jnp.float32, jnp.float64), True: (jnp.complex64, jnp.complex128)}[True in kinds][bits > 32]
    return jax.dtypes.canonicalize_dtype(dtype)


def real_dtype(dtype):
    """Dtype of |x| for x of `dtype`."""
    return jnp.finfo(dtype).dtype


def scalar_dtype():
    """Dtype of the per-step scalars: float32, or float64 under `jax_enable_x64`."""
    return jnp.result_type(float)


def within(x, dtype, margin=1):
    """`x` with finite values beyond the range of `dtype` (its `margin`th part) at the range's end."""
    if not jnp.issubdtype(x.dtype, jnp.floating) or jnp.finfo(dtype).max / margin >= jnp.finfo(x.dtype).max:
        return x
    top = float(jnp.finfo(dtype).max) / margin
    return jnp.where(jnp.isfinite(x), jnp.clip(x, -top, top), x)


def narrow(x, dtype):
    """`x` as `dtype`, with finite values beyond its range kept at the range's end instead of infinity."""
    return x if x.dtype == dtype else within(x, dtype).astype(dtype)


# Averages. A decay rate beta enters as rate = 1 - beta, so that nothing is lost to rounding near beta = 1.


class Rate(NamedTuple):
    """How fast an average moves: `value` = 1 - beta, and `keep`, 0 where nothing old is kept (beta = 0), else 1. Both scalars.

    `keep` is None where it is known to be 1.
    """

    value: jax.Array
    keep: jax.Array | None


def rate_of(decay: Any, value: Any = None) -> Rate:
    """The `Rate` of a `Decay`, or of `value` = 1 - beta for a beta that is above 0 if the decay's is."""
    value = decay.complement if value is None else value
    return Rate(value, None if decay.positive else jnp.where(value < 1, 1.0, 0.0))


def average(old: Any, new: Any, rate: Rate) -> jax.Array:
    """Exponential moving average: old + rate (new - old) = beta old + (1 - beta) new, and exactly `new` at beta = 0.

    `rate` is a `Rate`, as `rate_of` and `average_scalars` make it, or 1 - beta itself, a number or an array.
    """
    if not isinstance(rate, Rate):
        rate = Rate(jnp.asarray(rate), jnp.where(jnp.asarray(rate) < 1, 1.0, 0.0))
    return moved(old, new, rate.value) if rate.keep is None else _average(old, new, rate)


def moved(old, new, share):
    """old + share (new - old)."""
    return lax.add(old, scaled(share, lax.sub(new, old)))


@jax.custom_jvp
def _average(old, new, rate):
    return moved(scaled(rate.keep, old), new, rate.value)


@_average.defjvp
def _average_jvp(primals, tangents):
    (old, new, rate), (d_old, d_new, d_rate) = primals, tangents
    return _average(old, new, rate), (1 - rate.value) * d_old + rate.value * d_new + (new - old) * d_rate.value


def decayed_sum(old, new, rate):
    """Decayed sum: beta old + new, with beta = 1 - rate."""
    return lax.add(lax.sub(old, scaled(rate, old)), new)


def scaled(factor, x):
    """factor x, for a real scalar and an array. As `*`, which on an array of a new shape takes three times as long to trace."""
    factor, x = jnp.asarray(factor), jnp.asarray(x)
    return lax.mul(factor if factor.dtype == x.dtype else factor.astype(x.dtype), x)


def debiased(average, debias, rate):
    """debias average, for an average that moved by `rate`."""
    return scaled(debias, average) if rate.keep is None else _debiased(average, debias)


@jax.custom_jvp
def _debiased(average, debias):
    return scaled(debias, average)


@_debiased.defjvp
def _debiased_jvp(primals, tangents):
    # The two derivatives cancel; each of them alone can leave the range of the dtype.
    (average, debias), (d_average, d_debias) = primals, tangents
    return _debiased(average, debias), debias * (d_average + average * (d_debias / debias))


def log_decay(rate):
    """log(beta) for rate = 1 - beta. At beta = 0 it is `LOG_OF_ZERO`, continued linearly, so that derivatives stay right."""
    inside = rate < 1
    safe = jnp.where(inside, rate, 0.5)
    return jnp.where(inside, jnp.log1p(-safe), LOG_OF_ZERO + (1 - rate) * 1e20)


def mean_log_decay(old, rate, t):
    """Mean of log(beta_1) ... log(beta_t): the whole memory that bias correction needs, for constant or scheduled beta.

    For a constant beta the increment is exactly zero, so nothing accumulates. An `old` of 0 is one that is not known (or, before the first
    step, not there): the mean is then that of the present beta, as if it had always been so.
    """
    return old + (log_decay(rate) - old) / jnp.where(old == 0, 1, t)


def debias_weight(mean_log, t):
    """Total weight 1 - beta_1 ... beta_t of an average that started at zero: -expm1(t mean_log)."""
    total = t * mean_log
    # The derivative of expm1 is lost to rounding where the result is 1.
    return jnp.where(total < -1, 1 - jnp.exp(total), -jnp.expm1(total))


# Squares, roots, ratios


def abs_sq(x: Any, limit: Any = None) -> jax.Array:
    """|x|^2, real. Held at `limit`, by default half the largest finite number: finite gradients never put an infinity into an average."""
    return below_overflow(_square(x)) if limit is None else jnp.minimum(_square(x), limit)


def _square(x):
    return jnp.real(x) ** 2 + jnp.imag(x) ** 2 if jnp.iscomplexobj(x) else lax.mul(x, x)


def below_overflow(x, margin=2):
    """min(x, the `margin`th part, by default half, of the largest finite number); NaN stays NaN."""
    return lax.min(x, np.array(jnp.finfo(x.dtype).max / margin, x.dtype))


def room_above(x):
    """What can be added to `x` and leave it at half the largest finite number or below."""
    return float(jnp.finfo(x.dtype).max) / 2 - x


def sum_of_squares(x: Any) -> jax.Array:
    """Sum of |x|^2 over the whole array, a real scalar."""
    return below_overflow(jnp.sum(_square(x)))


def norm(x: Any) -> jax.Array:
    """Euclidean norm of the whole array, a real scalar."""
    return root(sum_of_squares(x))


def mean(x, axis=None):
    """Mean, over all axes or some; that of large numbers stays within the range of the dtype."""
    sizes = x.shape if axis is None else [x.shape[a] for a in (axis if isinstance(axis, tuple) else (axis,))]
    return jnp.sum(x / max(1, math.prod(sizes)), axis=axis)


def rms(x):
    """Root mean square of the whole array, a real scalar."""
    return norm(x) / max(1, x.size) ** 0.5


def l1_norm(x):
    """Sum of |x| over the whole array, a real scalar."""
    return below_overflow(jnp.sum(jnp.abs(x)))


def inner(a, b):
    """Inner product of two whole arrays, a real scalar; that of large numbers stays within the range of the dtype."""
    product = jnp.real(a) * jnp.real(b) + jnp.imag(a) * jnp.imag(b) if jnp.iscomplexobj(a) else a * b
    # Held from above only: no two infinities cancel, and XLA's CPU compiler makes no array of it, as it does of what is clamped.
    return clamped(jnp.sum(below_overflow(product, margin=2 * max(1, product.size))), margin=2)


def clamped(x, margin=4):
    """`x` with what is beyond the `margin`th part of the dtype's range, infinities too, at its end; NaN stays NaN."""
    if jnp.iscomplexobj(x):
        return lax.complex(clamped(jnp.real(x), margin), clamped(jnp.imag(x), margin))
    top = float(jnp.finfo(x.dtype).max) / margin
    return jnp.clip(x, -top, top)


def sign(x):
    """-1, 0 or 1, and NaN of NaN; x / |x| for complex x."""
    # By comparisons: jnp.sign in a TPU kernel asks for the device at hand, which need not be the one that is compiled for.
    return jnp.sign(x) if jnp.iscomplexobj(x) else jnp.where(x > 0, 1, jnp.where(x < 0, -1, x)).astype(x.dtype)


def hypot(a, b):
    """sqrt(a^2 + b^2) for a, b >= 0, within the range of the dtype wherever the result is."""
    largest = jnp.maximum(a, b)
    return largest * root(ratio(a, largest) ** 2 + ratio(b, largest) ** 2)


def limited(x, size, limit):
    """x min(1, limit / size), for a `size` >= 0."""
    return x * jnp.where(size > limit, ratio(jnp.asarray(limit, size.dtype), size), 1)


@jax.custom_jvp
def root(x):
    """Square root with derivative 0 (instead of infinity) at 0."""
    return lax.sqrt(x)


@root.defjvp
def _root_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = root(x)
    return y, dx * ratio(jnp.full_like(y, 0.5), y)


@jax.custom_jvp
def ratio(numerator, denominator):
    """numerator / denominator, and 0 (with derivatives 0) where the denominator, real and of a shape that broadcasts, is 0."""
    return _quotient(numerator, denominator)


@ratio.defjvp
def _ratio_jvp(primals, tangents):
    (numerator, denominator), (dn, dd) = primals, tangents
    y, inverse = ratio(numerator, denominator), ratio(jnp.ones_like(denominator), denominator)
    return y, dn * inverse - y * inverse * dd


def _quotient(numerator, denominator):
    if jnp.iscomplexobj(numerator):
        # Part by part: complex division leaves the range where the quotient does not.
        return lax.complex(*(_quotient(part(numerator), denominator) for part in (jnp.real, jnp.imag)))
    if denominator.ndim and numerator.ndim and denominator.shape != numerator.shape:
        # By operations that broadcast: an array made larger first would be sharded otherwise than the numerator.
        none = denominator == 0
        return numerator / jnp.where(none, 1, denominator) * jnp.where(none, 0, 1).astype(denominator.dtype)
    quotient = lax.div(numerator, denominator)
    zero = lax.full_like(denominator, 0)
    # Not jnp.where, which is a function of its own in the lowered program: a call for every leaf.
    return lax.select(lax.ne(denominator, zero), quotient, lax.full_like(quotient, 0))


@jax.custom_jvp
def over_root(x, square, eps_root, eps):
    """x / d (0 where d is 0) and d = sqrt(square + eps_root) + eps; None for an eps is nothing. Derivatives as of `root` and `ratio`."""
    d = _raised(lax.sqrt(_raised(square, eps_root)), eps)
    return _quotient(x, d), d


@over_root.defjvp
def _over_root_jvp(primals, tangents):
    def parts(x, square, eps_root, eps):
        d = _raised(root(_raised(square, eps_root)), eps)
        return ratio(x, d), d

    return jax.jvp(parts, primals, tangents)


def _raised(x, by):
    return x if by is None else lax.add(x, by)
