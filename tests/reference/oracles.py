"""Rules that take more than gradients: the loss, or an estimate of the Hessian's diagonal, of real parameters."""

import numpy as np

from reference.common import at, begin, ema, ratio, sign, squared


def polyak_sgd(params, grads, max_learning_rate=1.0, *, values, scaling=1.0, f_min=0.0, eps=0.0, variant="sps"):
    """Loizou et al., arXiv:2002.10542, in Optax's documented form; values are the T losses.

    Step scaling * min((f - f_min) / (|g|^2 + eps), max_learning_rate), 0 where |g|^2 + eps <= 2.2e-16. "sps+" takes
    the positive part of the gap. Optax 0.2.8's code scales g before it takes the norm, which is another step
    where scaling is not 1.
    """
    if variant not in ("sps", "sps+"):
        raise ValueError(f"unknown variant {variant!r}")
    p, grads, path = begin(params, grads)
    for count, (g, value) in enumerate(zip(grads, values, strict=True)):
        square = np.sum(squared(g)) + eps
        gap = value - f_min if variant == "sps" else max(value - f_min, 0.0)
        step = min(gap / square, at(max_learning_rate, count)) if square > np.finfo(float).eps else 0.0
        p = p - at(scaling, count) * step * g
        path[count] = p
    return path


def sophia(
    params,
    grads,
    learning_rate,
    *,
    hessians,
    has=None,
    b1=0.965,
    b2=0.99,
    rho=0.04,
    eps=1e-15,
    weight_decay=0.1,
    bs=1,
):
    """Liu et al., arXiv:2305.14342, from the authors' SophiaG: no bias correction, p shrinks before the step.

    hessians[t] enters h as it is (the authors give the squared gradient at sampled labels) before step t, where
    has[t] says so; h is 0 before the first one, and steps are then sign(m). A negative h counts as 0, as in the
    paper. Optax debiases m and divides it by max(gamma h, eps).
    """
    p, grads, path = begin(params, grads)
    m, h = np.zeros_like(p), np.zeros(p.shape)
    has = np.ones(len(grads), bool) if has is None else has
    for count, (g, estimate, fresh) in enumerate(zip(grads, hessians, has, strict=True)):
        lr = at(learning_rate, count)
        if fresh:
            h = ema(at(b2, count), h, estimate)
        m = ema(at(b1, count), m, g)
        u = sign(m) * np.minimum(1.0, ratio(np.abs(m), rho * bs * np.maximum(h, 0.0) + eps))
        p = p * (1 - lr * at(weight_decay, count)) - lr * u
        path[count] = p
    return path


def adahessian(
    params,
    grads,
    learning_rate,
    *,
    hessians,
    b1=0.9,
    b2=0.999,
    eps=1e-4,
    hessian_power=1.0,
    weight_decay=0.0,
):
    """Yao et al., arXiv:2006.00719, from the authors' code; hessians[t] is squared here.

    They are estimates z * (H z), not yet squared and already averaged over blocks if they are to be (the authors
    average |z * (H z)| over a convolution's kernel). The power is of sqrt(v_hat), eps is added after it.
    """
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, (g, estimate) in enumerate(zip(grads, np.asarray(hessians), strict=True)):
        b1_t, b2_t = at(b1, count), at(b2, count)
        m, c1 = ema(b1_t, m, g), ema(b1_t, c1, 1.0)
        v, c2 = ema(b2_t, v, squared(estimate)), ema(b2_t, c2, 1.0)
        u = ratio(ratio(m, c1), np.sqrt(ratio(v, c2)) ** hessian_power + eps) + at(weight_decay, count) * p
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path
