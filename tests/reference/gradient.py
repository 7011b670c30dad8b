"""Rules that change the gradient before Adam sees it."""

import numpy as np

from reference.common import at, begin, ema, norm, ratio, squared


class Adam:
    """The moments of Adam, and the direction read from them."""

    def __init__(self, p, b1, b2, eps):
        self.b1, self.b2, self.eps = b1, b2, eps
        self.m, self.v, self.c1, self.c2 = np.zeros_like(p), np.zeros(p.shape), 0.0, 0.0

    def feed(self, g, g_for_v=None):
        """One step of both averages; the second may be fed with another gradient."""
        other = g if g_for_v is None else g_for_v
        self.m, self.c1 = ema(self.b1, self.m, g), ema(self.b1, self.c1, 1.0)
        self.v, self.c2 = ema(self.b2, self.v, squared(other)), ema(self.b2, self.c2, 1.0)

    def direction(self):
        """m_hat / (sqrt(v_hat) + eps)"""
        return ratio(ratio(self.m, self.c1), np.sqrt(ratio(self.v, self.c2)) + self.eps)


def mars(
    params,
    grads,
    learning_rate,
    *,
    b1=0.95,
    b2=0.99,
    eps=1e-8,
    gamma=0.025,
    weight_decay=0.0,
    optimize_1d=False,
    betas_1d=(0.9, 0.95),
    weight_decay_1d=None,
):
    """Yuan et al., arXiv:2411.10438, as AGI-Arena/MARS ("mars-adamw", is_approx=True).

    The gradient before the first is 0 (timm: g_1). The correction is for leaves of two axes
    exactly, or for all with optimize_1d; others are AdamW with betas_1d and weight_decay_1d (None:
    weight_decay; the authors' class: 0.1), and a factor lr_1d / lr which is 1 by default.
    """
    p, grads, path = begin(params, grads)
    corrected = optimize_1d or p.ndim == 2
    if not corrected:
        b1, b2 = betas_1d or (b1, b2)
        weight_decay = weight_decay if weight_decay_1d is None else weight_decay_1d
    adam, old = Adam(p, b1, b2, eps), np.zeros_like(p)
    for count, g in enumerate(grads):
        c = g
        if corrected:
            c = g + gamma * b1 / (1 - b1) * (g - old)
            c = c / max(1.0, norm(c))
        old = g
        adam.feed(c)
        p = p - at(learning_rate, count) * (adam.direction() + weight_decay * p)
        path[count] = p
    return path


def grokfast_adamw(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    grokfast_alpha=0.98,
    grokfast_lambda=2.0,
    eps=1e-8,
    weight_decay=0.01,
):
    """Lee et al., arXiv:2405.20233, as ironjr/grokfast's EMA filter: AdamW on g + lambda h.

    h averages g and starts at the first gradient, so the first filtered gradient is (1 + lambda) g.
    pytorch_optimizer divides the learning rate by 1 + lambda and has the root of v at least eps.
    """
    p, grads, path = begin(params, grads)
    adam, h = Adam(p, b1, b2, eps), grads[0]
    for count, g in enumerate(grads):
        h = ema(grokfast_alpha, h, g)
        adam.feed(g + grokfast_lambda * h)
        p = p - at(learning_rate, count) * (adam.direction() + weight_decay * p)
        path[count] = p
    return path


def adanorm(params, grads, learning_rate, *, b1=0.9, b2=0.999, r=0.95, eps=1e-8, weight_decay=0.0):
    """Dubey et al., arXiv:2210.06364, as shivram1987/AdaNorm (AdamNorm).

    m is fed with g scaled up to the average norm where that is larger (it starts at 0, uncorrected);
    v is fed with g. eps is added to the stored v at every step and to its root. The authors' class
    decays by L2 unless weight_decouple is set; here decay is decoupled.
    """
    p, grads, path = begin(params, grads)
    adam, average = Adam(p, b1, b2, eps), 0.0
    for count, g in enumerate(grads):
        size = norm(g)
        average = ema(r, average, size)
        adam.feed(g * ratio(average, size) if average > size else g, g)
        adam.v = adam.v + eps
        p = p - at(learning_rate, count) * (adam.direction() + weight_decay * p)
        path[count] = p
    return path


def adagc(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    relative=1.05,
    absolute=1.0,
    decay=0.98,
    warmup=100,
    eps=1e-8,
    weight_decay=0.0,
    warmup_norm="clipped",
):
    """Wang et al., arXiv:2502.11034, Algorithm 1: each leaf is clipped to its own usual norm.

    Steps t < warmup: the norm of the whole tree (here the leaf) is clipped to `absolute`, and bound
    is the least norm of the clipped leaf so far (warmup_norm="raw": of the leaf before, as in the
    authors' code in Paddle). Later the leaf is clipped to relative * bound and bound averages the
    clipped norms. pytorch_optimizer adds eps to the tree's norm.
    """
    if warmup_norm not in ("clipped", "raw"):
        raise ValueError(f"unknown warmup_norm {warmup_norm!r}")
    p, grads, path = begin(params, grads)
    adam, bound = Adam(p, b1, b2, eps), None
    for count, g in enumerate(grads):
        size = norm(g)
        if count + 1 < warmup:
            g = g * (absolute / size if size > absolute else 1.0)
            candidate = size if warmup_norm == "raw" else norm(g)
            bound = candidate if bound is None else min(bound, candidate)
        else:
            bound = size if bound is None else bound
            g = g * (relative * bound / size if size > relative * bound else 1.0)
            bound = ema(decay, bound, norm(g))
        adam.feed(g)
        p = p - at(learning_rate, count) * (adam.direction() + weight_decay * p)
        path[count] = p
    return path


def stable_spam(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    gamma1=0.7,
    gamma2=0.9,
    theta=0.999,
    reset_every=1000,
    eps=1e-8,
    weight_decay=0.0,
    reset_form="authors",
):
    """Huang et al., arXiv:2502.17055, as TianjinYellow/StableSPAM, without its cosine (total_T).

    Entries above the corrected average M of max|g| are scaled by M / max|g|; then the leaf's norm
    becomes (average norm) / (sqrt(average squared norm) + eps); then Adam. At t = reset_every, 2
    reset_every, ... "authors": the step counter of the leaf, which corrects all five averages, is
    set to 1 after the gradient is prepared; this step still uses the old moments, updated, and
    zeros replace them afterwards. "paper": the moments restart before the step, with a counter of
    their own, and the other averages go on.
    """
    if reset_form not in ("authors", "paper"):
        raise ValueError(f"unknown reset_form {reset_form!r}")
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    peak = mean = square = 0.0
    t = t_adam = 0
    for count, g in enumerate(grads):
        t, t_adam = t + 1, t_adam + 1
        largest = np.max(np.abs(g))
        peak = ema(theta, peak, largest)
        bound = peak / (1 - theta**t)
        g = np.where(np.abs(g) > bound, ratio(g, largest) * bound, g)
        size = norm(g)
        mean, square = ema(gamma1, mean, size), ema(gamma2, square, size**2)
        target = ratio(mean / (1 - gamma1**t), np.sqrt(square / (1 - gamma2**t)) + eps)
        g = ratio(g, size) * target
        reset = bool(reset_every) and (count + 1) % reset_every == 0
        if reset:
            t_adam = 1
            if reset_form == "authors":
                t = 1
            else:
                m, v = np.zeros_like(p), np.zeros(p.shape)
        m, v = ema(b1, m, g), ema(b2, v, squared(g))
        u = ratio(m / (1 - b1**t_adam), np.sqrt(v / (1 - b2**t_adam)) + eps)
        p = p - at(learning_rate, count) * (u + weight_decay * p)
        path[count] = p
        if reset and reset_form == "authors":
            m, v = np.zeros_like(p), np.zeros(p.shape)
    return path
