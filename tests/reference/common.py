"""The arithmetic that the references share, and how one begins."""

from decimal import Decimal

import numpy as np


def at(value, count):
    """A hyperparameter at this count: a constant, or a schedule called with the count."""
    return float(value(count) if callable(value) else value)


def complement(b):
    """1 - b rounded once: 1 - 0.999 is 0.001, without the cancellation of the subtraction."""
    return float(1 - Decimal(repr(float(b))))


def ema(b, average, x):
    """One step of a moving average. Fed with ones from 0 it is the bias weight 1 - prod(b_i)."""
    return b * average + complement(b) * x


def ratio(x, y):
    """x / y, and 0 where y is 0: an entry that never had a gradient does not move."""
    return np.where(y == 0, 0.0, x / np.where(y == 0, 1.0, y))


def squared(x):
    """|x|^2, real for complex x too."""
    return x.real**2 + x.imag**2


def sign(x):
    """The sign; for complex numbers x / |x|."""
    return ratio(x, np.abs(x))


def limit(x, bound):
    """x limited to [-bound, bound]; a complex number is limited in modulus and keeps its phase."""
    if np.iscomplexobj(x):
        return x * np.minimum(1.0, ratio(bound, np.abs(x)))
    return np.clip(x, -bound, bound)


def norm(x):
    """Euclidean norm of the whole leaf."""
    return np.sqrt(np.sum(squared(x)))


def begin(params, grads):
    """Start values, gradients and room for the result, all in double precision."""
    dtype = np.complex128 if np.iscomplexobj(params) else np.float64
    p, grads = np.asarray(params, dtype), np.asarray(grads, dtype)
    return p, grads, np.empty_like(grads)


def look_ahead(b, m, c, g):
    """Nesterov read-out of a debiased average: b m / (1 - b^(t+1)) + (1 - b) g / (1 - b^t).

    With a schedule the present b also stands for the coming one: weight 1 - prod(b_i) * b_t.
    """
    return ratio(b * m, ema(b, c, 1.0)) + ratio(complement(b) * g, c)
