"""Rules that differ from Adam in their second moment, or in what they make of it."""

import numpy as np

from reference.common import at, begin, complement, ema, ratio, sign, squared


def laprop(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-15,
    weight_decay=0.0,
    running_learning_rate=True,
):
    """Ziyin, Wang & Ueda, arXiv:2002.04839, as Z-T-WANG/LaProp-Optimizer: normalise, then average.

    m averages lr * g / d; the step is m * lr / average of lr. Without running_learning_rate m
    averages g / d and the step is lr * m / (1 - b1^t): the same when lr is constant. Decay comes
    after the step and is not times lr (timm and pytorch_optimizer multiply by it). At lr = 0 the
    author steps by m; here, as in the limit of small lr, by 0.
    """
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    rate = c2 = 0.0
    for count, g in enumerate(grads):
        lr = at(learning_rate, count)
        weight = lr if running_learning_rate else 1.0
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        m = ema(b1, m, weight * ratio(g, np.sqrt(ratio(v, c2)) + eps))
        rate = ema(b1, rate, weight)
        p = (1 - at(weight_decay, count)) * (p - lr * ratio(m, rate))
        path[count] = p
    return path


def adam_atan2(params, grads, learning_rate, *, b1=0.9, b2=0.99, a=1.27, b=1.0, weight_decay=0.0):
    """Everett et al., arXiv:2407.05872, as lucidrains/adam-atan2-pytorch: no eps, and 0/0 is 0."""
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        u = a * sign(m) * np.arctan2(np.abs(m) / c1, b * np.sqrt(v / c2))
        p = p - at(learning_rate, count) * (u + weight_decay * p)
        path[count] = p
    return path


def centered_adam(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, debiased_mean=False):
    """Adam over the standard deviation of g (no paper; Graves' centred RMSProp with momentum).

    The variance is (EMA(|g|^2) - |EMA(g)|^2) / c2, or with debiased_mean EMA(|g|^2)/c2 - |EMA(g)/c2|^2,
    by a recurrence that cannot go below 0. The latter is 0 at the first step: eps alone then divides.
    """
    p, grads, path = begin(params, grads)
    m, mean, variance = np.zeros_like(p), np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        old, c2 = c2, ema(b2, c2, 1.0)
        keep, take = (b2 * old / c2, complement(b2) / c2) if debiased_mean else (b2, complement(b2))
        variance = keep * (variance + take * squared(g - mean))
        mean = mean + take * (g - mean)
        v = variance if debiased_mean else variance / c2
        u = ratio(m / c1, np.sqrt(v + eps_root) + eps)
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def acprop(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-16,
    eps_root=1e-16,
    weight_decay=0.0,
    form="optax",
):
    """Zhuang et al., arXiv:2110.05454: g over the deviation s that was known a step before.

    "optax": s is of g - m_(t-1). "author" (juntang-zhuang/ACProp-Optimizer with rectify=False, as
    the paper): of g - m_t. Either way the numerator is g itself, the floor is added to the stored s
    at every step, and the first step is g (Optax: g / (1 + eps)). The author rectifies by default.
    """
    if form not in ("optax", "author"):
        raise ValueError(f"unknown form {form!r}")
    p, grads, path = begin(params, grads)
    m, s, c2 = np.zeros_like(p), np.zeros(p.shape), 0.0
    for count, g in enumerate(grads):
        old, m = m, ema(b1, m, g)
        if count == 0:
            u = g / (1 + eps) if form == "optax" else g
        else:
            u = ratio(g, np.sqrt(s / c2) + eps)
        centre = old if form == "optax" else m
        s, c2 = ema(b2, s, squared(g - centre)) + eps_root, ema(b2, c2, 1.0)
        p = p - at(learning_rate, count) * (u + weight_decay * p)
        path[count] = p
    return path


def eadam(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8):
    """Yuan & Gao, arXiv:2011.02150, as yuanwei2019/EAdam-optimizer.

    eps is added to the stored v at every step, so it accumulates to eps / (1 - b2), and nowhere
    else; the bias correction divides it too.
    """
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)) + eps, ema(b2, c2, 1.0)
        p = p - at(learning_rate, count) * ratio(m / c1, np.sqrt(v / c2))
        path[count] = p
    return path


def padam(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, partial=0.25, amsgrad=True):
    """Chen et al., arXiv:1806.06763, as uclaml/Padam: the root of v is raised to 2 * partial.

    eps is added to the root of the raw v (of its raw maximum), inside the power; the correction
    sqrt(1 - b2^t) is outside the power. pytorch_optimizer has no maximum.
    """
    p, grads, path = begin(params, grads)
    m, v, largest = np.zeros_like(p), np.zeros(p.shape), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        largest = np.maximum(largest, v) if amsgrad else v
        u = ratio(m * np.sqrt(c2) / c1, (np.sqrt(largest) + eps) ** (2 * partial))
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def msvag(params, grads, learning_rate, *, beta=0.9):
    """Balles & Hennig, arXiv:1705.07774, as lballes/msvag: m weighed by its signal over its noise.

    Both averages are corrected; rho, capped at 0.9999, is the variance of m over that of g. The
    factor is limited to [0, 1] and is 0 where m and v are 0.
    """
    p, grads, path = begin(params, grads)
    m, v, c, power = np.zeros_like(p), np.zeros(p.shape), 0.0, 1.0
    for count, g in enumerate(grads):
        m, v, c = ema(beta, m, g), ema(beta, v, squared(g)), ema(beta, c, 1.0)
        power = beta * power
        rho = (1 - beta) * (1 + power) / ((1 + beta) * c)
        rho = min(rho, 0.9999)
        m_hat, square = m / c, squared(m / c)
        noise = rho * (v / c - square) / (1 - rho)
        factor = np.clip(ratio(square, square + noise), 0.0, 1.0)
        p = p - at(learning_rate, count) * factor * m_hat
        path[count] = p
    return path


def bcos(params, grads, learning_rate, *, beta=0.9, eps=1e-6, weight_decay=0.1):
    """Jiang et al., arXiv:2507.08963, as facebookresearch/bcos in its mode "c".

    There is no second moment: v is the expected |m_new|^2 given the m before, formed from it and g.
    m starts at the first gradient, so nothing is corrected and v = |g|^2 at the first step.
    """
    p, grads, path = begin(params, grads)
    m = grads[0]
    for count, g in enumerate(grads):
        v = (3 * beta**2 - 2 * beta**3) * squared(m) + (1 - beta) ** 2 * squared(g)
        v = v + 2 * beta * (1 - beta) ** 2 * (np.conj(m) * g).real
        m = ema(beta, m, g)
        u = ratio(m, np.sqrt(v) + eps)
        p = p - at(learning_rate, count) * (u + weight_decay * p)
        path[count] = p
    return path


def kourkoutas(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2_min=0.88,
    b2_max=0.999,
    alpha=0.93,
    eps=1e-8,
    tiny_spike=1e-9,
    warmup=0,
    bias_correction="none",
):
    """Kassinos, arXiv:2508.12996, as sck-at-ucy/kbeta: b2 of a leaf falls when its gradient spikes.

    The norm's average starts at 0, uncorrected. bias_correction: "none" (the author's default),
    "beta2max" (1 - b2_max^t), "exact" (1 - product of the b2 used); the latter two correct m too.
    The class defaults to b2_min = alpha = 0.9, tiny_spike = 1e-8; its examples use those here.
    """
    if bias_correction not in ("none", "beta2max", "exact"):
        raise ValueError(f"unknown bias_correction {bias_correction!r}")
    p, grads, path = begin(params, grads)
    m, v, average = np.zeros_like(p), np.zeros(p.shape), 0.0
    c1 = largest = exact = 0.0
    for count, g in enumerate(grads):
        size = np.sqrt(np.sum(squared(g)))
        average = ema(alpha, average, size)
        raw = ratio(size, average + tiny_spike)
        b2 = b2_max - (b2_max - b2_min) * raw / (1 + raw)
        if count + 1 <= warmup:
            b2 = (b2_min + b2_max) / 2
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v = b2 * v + (1 - b2) * squared(g)
        exact, largest = b2 * exact + (1 - b2), ema(b2_max, largest, 1.0)
        c2 = exact if bias_correction == "exact" else largest
        if bias_correction == "none":
            u = ratio(m, np.sqrt(v) + eps)
        else:
            u = ratio(m / c1, np.sqrt(v / c2) + eps)
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path
