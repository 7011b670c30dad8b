"""Rules that limit, rescale or project the step, or that decay in a way of their own."""

import numpy as np

from reference.common import at, begin, ema, norm, ratio, squared


def stable_adamw(params, grads, learning_rate, *, b1=0.9, b2=0.99, eps=1e-6, weight_decay=0.01):
    """Wortsman et al., arXiv:2304.13013, as warner-benjamin/optimi: AdamW, its step divided by
    max(1, RMS(g / max(sqrt(v_hat), eps))) of the leaf, decay and all."""
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        v_hat = v / c2
        rms = np.sqrt(np.mean(ratio(squared(g), np.maximum(v_hat, eps**2))))
        u = ratio(m / c1, np.sqrt(v_hat) + eps) + weight_decay * p
        p = p - at(learning_rate, count) / max(1.0, rms) * u
        path[count] = p
    return path


def adamod(params, grads, learning_rate, *, b1=0.9, b2=0.999, b3=0.999, eps=1e-8, weight_decay=0.0):
    """Ding et al., arXiv:1910.12249, as lancopku/AdaMod: the rate of each entry under its average.

    The rate holds the learning rate and both corrections; eps is added to the root of the raw v.
    Its average starts at 0 and is not corrected. Decay is times the plain learning rate.
    """
    p, grads, path = begin(params, grads)
    m, v, average = np.zeros_like(p), np.zeros(p.shape), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        lr = at(learning_rate, count)
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        rate = ratio(lr * np.sqrt(c2) / c1, np.sqrt(v) + eps)
        average = ema(b3, average, rate)
        p = p - np.minimum(rate, average) * m - lr * weight_decay * p
        path[count] = p
    return path


def adabound(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    final_lr=0.1,
    gamma=1e-3,
    eps=1e-8,
    weight_decay=0.0,
    amsbound=False,
    base_learning_rate=None,
):
    """Luo et al. 2019 (openreview Bkg3g2R9FX), as Luolc/AdaBound: bounded rates close in on SGD's.

    The rate lr sqrt(c2) / c1 / (sqrt(v) + eps) multiplies the raw m. The bounds follow final_lr
    times lr / base_learning_rate (None: the lr of the first step). Decay is L2, in the gradient.
    """
    p, grads, path = begin(params, grads)
    m, v, largest = np.zeros_like(p), np.zeros(p.shape), np.zeros(p.shape)
    c1 = c2 = 0.0
    base = at(learning_rate, 0) if base_learning_rate is None else base_learning_rate
    for count, g in enumerate(grads):
        t, lr = count + 1, at(learning_rate, count)
        g = g + weight_decay * p
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        largest = np.maximum(largest, v) if amsbound else v
        rate = ratio(lr * np.sqrt(c2) / c1, np.sqrt(largest) + eps)
        final = final_lr * lr / base
        rate = np.clip(rate, final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t)))
        p = p - rate * m
        path[count] = p
    return path


def amsbound(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    final_lr=0.1,
    gamma=1e-3,
    eps=1e-8,
    weight_decay=0.0,
    base_learning_rate=None,
):
    """Luo et al. 2019: AdaBound with the maximum of the raw v."""
    options = {"b1": b1, "b2": b2, "final_lr": final_lr, "gamma": gamma, "eps": eps}
    options |= {"weight_decay": weight_decay, "base_learning_rate": base_learning_rate}
    return adabound(params, grads, learning_rate, amsbound=True, **options)


def diffgrad(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8):
    """Dubey et al., arXiv:1909.11015, as shivram1987/diffGrad (v2): friction sigmoid(|g - g_old|).

    g_old is 0 before the first step; m is stored without friction; eps is added to the root of the
    raw v. In the code of the paper (v1) g_old was g itself: half of Adam's step.
    """
    p, grads, path = begin(params, grads)
    m, v, old = np.zeros_like(p), np.zeros(p.shape), np.zeros_like(p)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        friction = 1 / (1 + np.exp(-np.abs(old - g)))
        old = g
        u = friction * ratio(m * np.sqrt(c2) / c1, np.sqrt(v) + eps)
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def _without_radial(u, p, g, delta, eps):
    """u less its part along p, by rows or else as a whole, where g is nearly orthogonal to p."""
    for rows in (p.shape[0], 1):
        flat_p, flat_g, flat_u = (x.reshape(rows, -1) for x in (p, g, u))
        p_norm = np.sqrt(np.sum(squared(flat_p), axis=1, keepdims=True))
        g_norm = np.sqrt(np.sum(squared(flat_g), axis=1, keepdims=True))
        inner = np.abs(np.sum(np.conj(flat_p) * flat_g, axis=1, keepdims=True))
        cosine = ratio(inner, np.maximum(p_norm, eps) * np.maximum(g_norm, eps))
        if cosine.max() < delta / np.sqrt(flat_p.shape[1]):
            unit = ratio(flat_p, p_norm + eps)
            radial = np.sum(np.conj(unit) * flat_u, axis=1, keepdims=True)
            return (flat_u - unit * radial).reshape(p.shape), True
    return u, False


def adamp(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    delta=0.1,
    wd_ratio=0.1,
    nesterov=False,
):
    """Heo et al., arXiv:2006.08217, as clovaai/AdamP: no step along p where p has no scale to learn.

    Leaves of two axes or more: if the largest |cos(g, p)| over the slices along axis 0, else that
    of the whole leaf, is below delta / sqrt(entries), the radial part of the step goes and decay is
    times wd_ratio. nesterov reads b1 m + (1 - b1) g, corrected by 1 - b1^t all the same.
    """
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        read = ema(b1, m, g) if nesterov else m
        u, decay = ratio(read, np.sqrt(v / c2) + eps), weight_decay
        if p.ndim > 1:
            u, projected = _without_radial(u, p, g, delta, eps)
            decay = weight_decay * wd_ratio if projected else weight_decay
        p = p - at(learning_rate, count) * (u / c1 + decay * p)
        path[count] = p
    return path


def lars(
    params,
    grads,
    learning_rate,
    *,
    weight_decay=0.0,
    trust_coefficient=0.001,
    eps=0.0,
    momentum=0.9,
    nesterov=False,
):
    """You, Gitman & Ginsburg, arXiv:1708.03888, in Optax's form.

    d = g + wd p; d is scaled by trust |p| / (|d| + eps), or by 1 (not by trust) where either norm
    is 0; the momentum buffer holds lr * d. The paper's ratio is trust |p| / (|g| + wd |p|).
    """
    p, grads, path = begin(params, grads)
    buffer = np.zeros_like(p)
    for count, g in enumerate(grads):
        d = g + weight_decay * p
        p_norm, d_norm = norm(p), norm(d)
        trust = trust_coefficient * p_norm / (d_norm + eps) if p_norm > 0 and d_norm > 0 else 1.0
        d = at(learning_rate, count) * trust * d
        buffer = momentum * buffer + d
        p = p - (d + momentum * buffer if nesterov else buffer)
        path[count] = p
    return path


def fromage(params, grads, learning_rate, *, min_norm=1e-6):
    """Bernstein et al., arXiv:2002.03432, in Optax's form: a relative step, then p is shrunk.

    Both norms are at least min_norm (the author: no floor, ratio 1 where either norm is 0). Then p
    is divided by sqrt(1 + lr^2), so p shrinks even without a gradient.
    """
    p, grads, path = begin(params, grads)
    for count, g in enumerate(grads):
        lr = at(learning_rate, count)
        scale = ratio(max(norm(p), min_norm), max(norm(g), min_norm))
        p = (p - lr * scale * g) / np.sqrt(1 + lr**2)
        path[count] = p
    return path


def adamc(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.01,
    peak=None,
):
    """Defazio, arXiv:2506.02285: AdamW whose decay is lr^2 / peak * wd * p (timm, pytorch_optimizer).

    The paper corrects only normalised layers. peak is the largest learning rate of the schedule;
    None is for a constant one, where this is AdamW.
    """
    if peak is None and callable(learning_rate):
        raise ValueError("a schedule needs its peak")
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        lr = at(learning_rate, count)
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        corrected = lr if peak is None else lr**2 / peak
        p = p - lr * ratio(m / c1, np.sqrt(v / c2) + eps) - corrected * weight_decay * p
        path[count] = p
    return path
