"""Rules whose second moment has fewer entries than the parameter."""

import numpy as np

from reference.common import at, begin, ema, ratio, squared


def rms(x):
    """Root of the mean square of the whole leaf."""
    return np.sqrt(np.mean(squared(x)))


def inverse_root(rows, columns, row_axis, column_axis):
    """1 / sqrt(V) for V = rows columns / mean(rows); rows lack column_axis and columns row_axis (as size 1)."""
    scaled = ratio(rows, np.mean(rows, axis=row_axis, keepdims=True))
    return ratio(1.0, np.sqrt(scaled)) * ratio(1.0, np.sqrt(columns))


def factored_axes(shape, smallest):
    """The second largest axis and the largest (of equal ones the later is the larger); None if not factored."""
    order = np.argsort(shape, kind="stable")
    if len(shape) < 2 or shape[order[-2]] < smallest:
        return None
    return int(order[-2]), int(order[-1])


def adafactor(
    params,
    grads,
    learning_rate=None,
    *,
    min_dim_size_to_factor=128,
    decay_rate=0.8,
    decay_offset=0,
    multiply_by_parameter_scale=True,
    clipping_threshold=1.0,
    momentum=None,
    weight_decay_rate=None,
    eps=1e-30,
    factored=True,
):
    """Shazeer & Stern, arXiv:1804.04235, in Optax's form; without a learning rate the step is RMS(p) alone.

    b2 is 1 - (t - decay_offset)^-decay_rate, 0 at t = 1; eps is added to |g|^2; momentum averages the scaled
    steps, undebiased; decay is not times the learning rate. torch floors differently, see its Adafactor.
    """
    p, grads, path = begin(params, grads)
    axes = factored_axes(p.shape, min_dim_size_to_factor) if factored else None
    rows = columns = v = 0.0
    m = np.zeros_like(p)
    for count, g in enumerate(grads):
        b2 = 1 - float(count - decay_offset + 1) ** -decay_rate
        square = squared(g) + eps
        if axes is None:
            v = b2 * v + (1 - b2) * square
            u = ratio(g, np.sqrt(v))
        else:
            row_axis, column_axis = axes
            rows = b2 * rows + (1 - b2) * np.mean(square, axis=column_axis, keepdims=True)
            columns = b2 * columns + (1 - b2) * np.mean(square, axis=row_axis, keepdims=True)
            u = g * inverse_root(rows, columns, row_axis, column_axis)
        if clipping_threshold is not None:
            u = u / max(1.0, rms(u) / clipping_threshold)
        if learning_rate is not None:
            u = at(learning_rate, count) * u
        if multiply_by_parameter_scale:
            u = u * max(rms(p), 1e-3)
        if momentum is not None:
            u = m = ema(at(momentum, count), m, u)
        if weight_decay_rate is not None:
            u = u + at(weight_decay_rate, count) * p
        p = p - u
        path[count] = p
    return path


def came(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    b3=0.9999,
    eps1=1e-30,
    eps2=1e-16,
    clip_threshold=1.0,
    weight_decay=0.0,
):
    """Luo et al., arXiv:2307.02047, from the authors' code: Adafactor's step, averaged, over its own instability.

    From two axes on the last two are factored, whatever their sizes; other leaves step along the average itself.
    No average is debiased; p shrinks before the step.
    """
    p, grads, path = begin(params, grads)
    factored = p.ndim >= 2
    rows = columns = v = res_rows = res_columns = 0.0
    m = np.zeros_like(p)
    for count, g in enumerate(grads):
        b2_t, b3_t, lr = at(b2, count), at(b3, count), at(learning_rate, count)
        square = squared(g) + eps1
        if factored:
            rows = ema(b2_t, rows, np.mean(square, axis=-1, keepdims=True))
            columns = ema(b2_t, columns, np.mean(square, axis=-2, keepdims=True))
            u = g * inverse_root(rows, columns, -2, -1)
        else:
            v = ema(b2_t, v, square)
            u = ratio(g, np.sqrt(v))
        u = u / max(1.0, rms(u) / clip_threshold)
        m = ema(at(b1, count), m, u)
        step = m
        if factored:
            instability = squared(u - m) + eps2
            res_rows = ema(b3_t, res_rows, np.mean(instability, axis=-1, keepdims=True))
            res_columns = ema(b3_t, res_columns, np.mean(instability, axis=-2, keepdims=True))
            step = m * inverse_root(res_rows, res_columns, -2, -1)
        p = p * (1 - lr * at(weight_decay, count)) - lr * step
        path[count] = p
    return path


def adam_mini(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    block_axes=None,
):
    """Zhang et al., arXiv:2406.16793, from the authors' code, version 1.1: AdamW with one v for every block.

    |g|^2 is averaged over block_axes: all but the first (one v per row, torch's output neuron), and all of a leaf of
    one axis. Authors: blocks by name, biases with an entry each (block_axes=()), and norms without decay.
    """
    p, grads, path = begin(params, grads)
    if block_axes is None:
        block_axes = tuple(range(1, p.ndim)) or (0,) * p.ndim
    m, v = np.zeros_like(p), 0.0
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        b1_t, b2_t, lr = at(b1, count), at(b2, count), at(learning_rate, count)
        m, c1 = ema(b1_t, m, g), ema(b1_t, c1, 1.0)
        v, c2 = ema(b2_t, v, np.mean(squared(g), axis=block_axes, keepdims=True)), ema(b2_t, c2, 1.0)
        u = ratio(ratio(m, c1), np.sqrt(ratio(v, c2)) + eps)
        p = p * (1 - lr * at(weight_decay, count)) - lr * u
        path[count] = p
    return path


def sm3(params, grads, learning_rate, *, momentum=0.9, eps=1e-8):
    """Anil et al., arXiv:1901.11150, SM3-II in Optax's form: covers are the slices along every axis.

    u = EMA(g / sqrt(nu + eps)), undebiased, with 0 where nu is 0; a leaf of one axis or none is Adagrad begun at 0.
    The paper has no eps.
    """
    p, grads, path = begin(params, grads)
    m = np.zeros_like(p)
    others = [tuple(j for j in range(p.ndim) if j != i) for i in range(p.ndim)] or [()]
    covers = [np.zeros(p.shape)] * len(others)
    for count, g in enumerate(grads):
        nu = squared(g) + np.min(np.broadcast_arrays(*covers), axis=0)
        covers = [np.max(nu, axis=axes, keepdims=True) for axes in others]
        m = ema(at(momentum, count), m, np.where(nu > 0, ratio(g, np.sqrt(nu + eps)), 0.0))
        p = p - at(learning_rate, count) * m
        path[count] = p
    return path


def amos(
    params,
    grads,
    learning_rate,
    *,
    eta=1.0,
    block_axes=(),
    beta=0.999,
    momentum=None,
    clip_value=None,
    extra_l2=0.0,
    d_coef=0.25,
    c_coef=0.25,
    eps=2.0**-125,
):
    """Tian & Parikh, arXiv:2210.11693, from the authors' code (jestimator); eta is the entries' expected scale.

    v and b have size 1 along block_axes (the authors' shape_fn; default none). The decay and the step both shrink
    as b grows, and the learning rate is inside both. The authors call a schedule with 1 at the first update, here 0.
    """
    p, grads, path = begin(params, grads)
    m, v, b, c = np.zeros_like(p), 0.0, 0.0, 0.0
    for count, g in enumerate(grads):
        xi, beta_t = at(learning_rate, count), at(beta, count)
        if clip_value is not None:
            g = np.clip(g, -clip_value, clip_value)
        square = np.mean(squared(g), axis=block_axes, keepdims=True) if block_axes else squared(g)
        v, c = ema(beta_t, v, square), ema(beta_t, c, 1.0)
        inverse = ratio(c, np.maximum(v, eps))
        gamma = xi**2 * square * inverse / np.sqrt(1 + c_coef * np.sqrt(xi) * b)
        u = (gamma / 2 + extra_l2) * p + xi * eta * np.sqrt(inverse) * g
        u = u / (1 + d_coef * np.sqrt(xi * eta) * b)
        b = b + gamma * (1 + b)
        if momentum is not None:
            u = m = ema(at(momentum, count), m, u)
        p = p - u
        path[count] = p
    return path
