"""Rules that differ from Adam or sign descent in their first moment, or in how it is read."""

import numpy as np

from reference.common import at, begin, complement, ema, ratio, sign, squared


def qhadam(params, grads, learning_rate, *, b1=0.995, b2=0.999, nu1=0.7, nu2=1.0, eps=1e-8):
    """Ma & Yarats, arXiv:1810.06801, as facebookresearch/qhoptim; nu of (1, 1) is Adam.

    The authors' class defaults to betas (0.9, 0.999) and nus (1, 1); these are the paper's advice.
    """
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        numerator = (1 - nu1) * g + nu1 * ratio(m, c1)
        square = (1 - nu2) * squared(g) + nu2 * ratio(v, c2)
        p = p - at(learning_rate, count) * ratio(numerator, np.sqrt(square) + eps)
        path[count] = p
    return path


def aggmo(params, grads, learning_rate, *, betas=(0.0, 0.9, 0.99)):
    """Lucas et al., arXiv:1804.00325, as AtheMathmo/AggMo: the mean step of several heavy balls.

    The buffers sum gradients undamped, like momentum in torch.
    """
    p, grads, path = begin(params, grads)
    buffers = [np.zeros_like(p) for _ in betas]
    for count, g in enumerate(grads):
        buffers = [b * buffer + g for b, buffer in zip(betas, buffers, strict=True)]
        p = p - at(learning_rate, count) / len(betas) * sum(buffers)
        path[count] = p
    return path


def signum(params, grads, learning_rate, *, beta=0.9):
    """Bernstein et al., arXiv:1802.04434: the sign of the averaged gradient, as Optax."""
    p, grads, path = begin(params, grads)
    m = np.zeros_like(p)
    for count, g in enumerate(grads):
        m = ema(beta, m, g)
        p = p - at(learning_rate, count) * sign(m)
        path[count] = p
    return path


def tiger(params, grads, learning_rate, *, b1=0.965, weight_decay=0.01, scale_by_rms=False):
    """Su 2023, bojone/tiger: signum with decoupled decay, without gradient accumulation.

    The author also multiplies the learning rate by RMS(p) (scale_by_rms) and, going by names of
    leaves, halves it for biases and norms and does not decay them; pytorch_optimizer does neither.
    """
    p, grads, path = begin(params, grads)
    m = np.zeros_like(p)
    for count, g in enumerate(grads):
        m = ema(b1, m, g)
        scale = np.sqrt(np.mean(squared(p))) if scale_by_rms else 1.0
        p = p - at(learning_rate, count) * scale * (sign(m) + weight_decay * p)
        path[count] = p
    return path


def simplified_ademamix(
    params,
    grads,
    learning_rate,
    *,
    b1=0.99,
    b2=0.95,
    alpha=0.0,
    eps=1e-8,
    eps_root=0.0,
    weight_decay=0.0,
):
    """Morwani et al., arXiv:2502.02431, as DepenM/Simplified-AdEMAMix and Optax.

    m is a decayed sum, without 1 - b1 and never corrected (its weight nears 1 / (1 - b1)).
    pytorch_optimizer averages instead and misplaces the correction of v.
    """
    p, grads, path = begin(params, grads)
    m, v, c2 = np.zeros_like(p), np.zeros(p.shape), 0.0
    for count, g in enumerate(grads):
        m = at(b1, count) * m + g
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        u = ratio(m + at(alpha, count) * g, np.sqrt(ratio(v, c2) + eps_root) + eps)
        p = p - at(learning_rate, count) * (u + weight_decay * p)
        path[count] = p
    return path


def adapnm(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    b3=1.0,
    eps=1e-8,
    weight_decay=0.0,
    amsgrad=True,
):
    """Xie et al., arXiv:2103.17182, as zeke-xie/Positive-Negative-Momentum.

    Two averages with rate b1^2 take turns by parity; the one just fed counts 1 + b3, the other -b3.
    Yet both are corrected by 1 - b1^t. The maximum is of the raw v.
    """
    p, grads, path = begin(params, grads)
    moments, largest, v = [np.zeros_like(p), np.zeros_like(p)], np.zeros(p.shape), np.zeros(p.shape)
    c1 = c2 = 0.0
    scale = np.sqrt((1 + b3) ** 2 + b3**2)
    for count, g in enumerate(grads):
        turn = count % 2
        moments[turn] = b1**2 * moments[turn] + (1 - b1**2) * g
        c1 = ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        largest = np.maximum(largest, v) if amsgrad else v
        m = ((1 + b3) * moments[turn] - b3 * moments[1 - turn]) / scale
        u = ratio(m / c1, np.sqrt(largest / c2) + eps)
        p = p - at(learning_rate, count) * (u + weight_decay * p)
        path[count] = p
    return path


def grams(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.0):
    """Cao, Li & Song, arXiv:2412.17107, as Gunale0926/Grams: Adam's size, the gradient's sign.

    eps is added to the root of the raw v, before the bias correction (pytorch_optimizer: after).
    """
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        m, c1 = ema(b1, m, g), ema(b1, c1, 1.0)
        v, c2 = ema(b2, v, squared(g)), ema(b2, c2, 1.0)
        u = sign(g) * ratio(np.abs(m) * np.sqrt(c2) / c1, np.sqrt(v) + eps)
        p = p - at(learning_rate, count) * (u + weight_decay * p)
        path[count] = p
    return path


def focus(params, grads, learning_rate, *, b1=0.9, b2=0.99, gamma=0.1, weight_decay=0.0):
    """Liu, Liu & Gore, arXiv:2501.12243, as liuyz0/FOCUS: sign descent pulled to averaged weights.

    mean is the corrected average of p over all steps so far, the present p included; it is kept
    corrected, so that p - mean is exactly 0 at the first step and while p rests. The decay is
    towards 0, by wd * mean; pytorch_optimizer decays before it compares p and mean.
    """
    p, grads, path = begin(params, grads)
    m, mean, c2 = np.zeros_like(p), np.zeros_like(p), 0.0
    for count, g in enumerate(grads):
        m, c2 = ema(b1, m, g), ema(b2, c2, 1.0)
        mean = mean + complement(b2) / c2 * (p - mean)
        u = sign(m) + gamma * sign(p - mean)
        p = p - at(learning_rate, count) * (u + weight_decay * mean)
        path[count] = p
    return path
