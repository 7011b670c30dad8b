"""Rules with numbers of the whole tree; the one leaf of these functions is the whole tree.

A tree is tested by its leaves laid end to end. The step-size estimates take the real part of inner products.
"""

import numpy as np

from reference.common import at, begin, complement, ema, norm, ratio, squared


def inner(x, y):
    """Real inner product of two leaves."""
    return np.vdot(x, y).real


# Rates from the mean of the second moment


def adai(params, grads, learning_rate, *, b0=0.1, b2=0.99, eps=1e-3, weight_decay=0.0, decoupled=False):
    """Xie et al., arXiv:2006.15815, from the authors' code: every entry has a b1 of its own and no denominator.

    Decay goes into the gradient of both averages, or with `decoupled` shrinks p before the step. An all-zero second
    moment has q = 0, so b1 = 1 - eps.
    """
    p, grads, path = begin(params, grads)
    m, v, product, c2 = np.zeros_like(p), np.zeros(p.shape), np.ones(p.shape), 0.0
    for count, g in enumerate(grads):
        b2_t, lr, decay = at(b2, count), at(learning_rate, count), at(weight_decay, count)
        if decoupled:
            p = p * (1 - lr * decay)
        else:
            g = g + decay * p
        v, c2 = ema(b2_t, v, squared(g)), ema(b2_t, c2, 1.0)
        v_hat = v / c2
        take = np.clip(at(b0, count) * ratio(v_hat, np.mean(v_hat)), at(eps, count), 1.0)
        product = product * (1 - take)
        m = (1 - take) * m + take * g
        p = p - lr * ratio(m, 1 - product)
        path[count] = p
    return path


def adams(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-4):
    """Xie et al., arXiv:2011.11152 (stable weight decay), from the authors' code: Adam with a rescaled decay.

    p shrinks by 1 - lr * decay / sqrt(mean of v_hat) before the step: no eps there, and no decay where that mean
    is 0 (the authors' code divides by zero). Another AdamS, arXiv:2505.16363, is a different rule.
    """
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        b1_t, b2_t, lr = at(b1, count), at(b2, count), at(learning_rate, count)
        m, c1 = ema(b1_t, m, g), ema(b1_t, c1, 1.0)
        v, c2 = ema(b2_t, v, squared(g)), ema(b2_t, c2, 1.0)
        v_hat = ratio(v, c2)
        p = p * (1 - lr * ratio(at(weight_decay, count), np.sqrt(np.mean(v_hat))))
        p = p - lr * ratio(ratio(m, c1), np.sqrt(v_hat) + eps)
        path[count] = p
    return path


# Learning rates from the distance travelled


def dog(params, grads, learning_rate=1.0, *, reps_rel=1e-6, eps=1e-8, weight_decay=0.0):
    """Ivgi, Hinder & Carmon, arXiv:2302.12022, from the authors' code (Optax: init_step=("heuristic", reps_rel)).

    The largest distance from p_0 starts at reps_rel (1 + |p_0|); eps is added once to the sum of |g|^2, inside the
    root. Decay is coupled, and so counts in that sum.
    """
    p, grads, path = begin(params, grads)
    start, distance, total = p, reps_rel * (1 + norm(p)), eps
    for count, g in enumerate(grads):
        g = g + at(weight_decay, count) * p
        distance = max(distance, norm(p - start))
        total = total + np.sum(squared(g))
        p = p - at(learning_rate, count) * ratio(distance, np.sqrt(total)) * g
        path[count] = p
    return path


def dowg(params, grads, learning_rate=1.0, *, eps=1e-4):
    """Khaled, Mishchenko & Jin, arXiv:2305.16284, from the authors' code (and Optax).

    eps is both where the largest squared distance from p_0 starts (1e-4, so a distance of 1e-2) and what is added to
    the root of the sum of distance^2 |g|^2. The authors have no learning rate and no decay.
    """
    p, grads, path = begin(params, grads)
    start, distance, total = p, eps, 0.0
    for count, g in enumerate(grads):
        distance = max(distance, np.sum(squared(p - start)))
        total = total + distance * np.sum(squared(g))
        p = p - at(learning_rate, count) * ratio(distance, np.sqrt(total) + eps) * g
        path[count] = p
    return path


def prodigy(
    params,
    grads,
    learning_rate=1.0,
    *,
    b1=0.9,
    b2=0.999,
    b3=None,
    eps=1e-8,
    d0=1e-6,
    d_coef=1.0,
    weight_decay=0.0,
    growth_rate=np.inf,
    bias_correction=False,
    safeguard_warmup=False,
):
    """Mishchenko & Defazio, arXiv:2306.06101, from the authors' code, decoupled decay (times d * lr).

    The step is along d_old lr with eps d_new in the denominator. A step that leaves s all zero (no gradient yet)
    moves m, v and s alone: neither the numerator, d, the count of the bias correction nor p. One with lr = 0 moves
    nothing. Optax always corrects the bias and gives NaN in both cases.
    """
    p, grads, path = begin(params, grads)
    start, b3 = p, np.sqrt(b2) if b3 is None else b3
    m, v, s = np.zeros_like(p), np.zeros(p.shape), np.zeros_like(p)
    d, d_max, numerator, c1, c2 = d0, d0, 0.0, 0.0, 0.0
    for count, g in enumerate(grads):
        lr = at(learning_rate, count)
        path[count] = p
        if lr == 0:
            continue
        next_c1, next_c2 = ema(b1, c1, 1.0), ema(b2, c2, 1.0)
        rate = d * lr * (np.sqrt(next_c2) / next_c1 if bias_correction else 1.0)
        m, v = ema(b1, m, d * g), ema(b2, v, squared(d * g))
        s = b3 * s + d / d0 * (d if safeguard_warmup else rate) * g
        denominator = np.sum(np.abs(s))
        if denominator == 0:
            continue
        c1, c2 = next_c1, next_c2
        numerator = b3 * numerator + d / d0 * rate * inner(g, start - p)
        d_hat = d_coef * numerator / denominator
        if d == d0:
            d = max(d, d_hat)
        d_max = max(d_max, d_hat)
        d = min(d_max, d * growth_rate)
        p = p * (1 - at(weight_decay, count) * rate)
        p = p - rate * ratio(m, np.sqrt(v) + d * eps)
        path[count] = p
    return path


def dadapt_adamw(
    params,
    grads,
    learning_rate=1.0,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    d0=1e-6,
    growth_rate=np.inf,
    weight_decay=0.0,
    bias_correction=False,
):
    """Defazio & Mishchenko, arXiv:2301.07733, from the authors' DAdaptAdam(decouple=True).

    m averages d lr g, so a new d acts through the average alone. The numerator reads s and v of the step before. A
    step that leaves s all zero moves m, v and s alone, one with lr = 0 nothing; Optax gives NaN in both cases and
    always corrects the bias.
    """
    p, grads, path = begin(params, grads)
    b3 = np.sqrt(b2)
    m, v, s = np.zeros_like(p), np.zeros(p.shape), np.zeros_like(p)
    d, numerator, c1, c2 = d0, 0.0, 0.0, 0.0
    for count, g in enumerate(grads):
        lr = at(learning_rate, count)
        path[count] = p
        if lr == 0:
            continue
        next_c1, next_c2 = ema(b1, c1, 1.0), ema(b2, c2, 1.0)
        rate = d * lr * (np.sqrt(next_c2) / next_c1 if bias_correction else 1.0)
        gain = rate * inner(g, ratio(s, np.sqrt(v) + eps))
        m, v, s = ema(b1, m, rate * g), ema(b2, v, squared(g)), ema(b3, s, rate * g)
        total = np.sum(np.abs(s))
        if total == 0:
            continue
        c1, c2 = next_c1, next_c2
        numerator = ema(b3, numerator, gain)
        d = max(d, min(numerator / (complement(b3) * total), d * growth_rate))
        p = p * (1 - at(weight_decay, count) * rate)
        p = p - ratio(m, np.sqrt(v) + eps)
        path[count] = p
    return path
