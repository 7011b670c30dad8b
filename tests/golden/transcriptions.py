"""The authors' published algorithms in NumPy: the source of what no library at hand has right, and a check of the rest.

A transcription is `rule(init, grads, learning_rate, **hyper)`: dictionaries of leaves in, the parameters after every
step out, {leaf: (steps, *shape)}. `learning_rate` may be an array, the rate of each step. Written as generators:
`leafwise` runs one on each leaf by itself, `as_one_vector` on all leaves joined. Names as in `make.py`; t = 1, 2, ...
"""

import functools
import math

import numpy as np


def numbered(grads, learning_rate):
    """(t, rate, gradient) of every step."""
    rates = np.broadcast_to(learning_rate, len(grads))
    return [(t, float(rate), g) for t, (rate, g) in enumerate(zip(rates, grads, strict=True), start=1)]


def leafwise(generator):
    @functools.wraps(generator)
    def rule(init, grads, learning_rate, **hyper):
        def of(value, leaf):
            return value[leaf] if isinstance(value, dict) else value

        return {
            leaf: np.stack(
                list(generator(p, numbered(grads[leaf], learning_rate), **{k: of(x, leaf) for k, x in hyper.items()}))
            )
            for leaf, p in init.items()
        }

    return rule


def as_one_vector(generator):
    @functools.wraps(generator)
    def rule(init, grads, learning_rate=1.0, **hyper):
        p = np.concatenate([x.ravel() for x in init.values()])
        g = np.concatenate([x.reshape(len(x), -1) for x in grads.values()], axis=1)
        path = np.stack(list(generator(p, numbered(g, learning_rate), **hyper)))
        ends = np.cumsum([x.size for x in init.values()])[:-1]
        parts = np.split(path, ends, axis=1)
        return {leaf: x.reshape(len(x), *init[leaf].shape) for leaf, x in zip(init, parts, strict=True)}

    return rule


def ratio(a, b):
    """a / b, with 0 / 0 = 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b))), where=(a != 0) | (b != 0))


def ema(average, new, decay):
    return decay * average + (1 - decay) * new


def norm(x):
    return math.sqrt(np.sum(x * x))


def rms(x):
    return math.sqrt(np.mean(x * x))


# --- Adam, and what changes only the gradient before it, or the decay --------------------------


@leafwise
def adamw(p, steps, b1, b2, eps, weight_decay=0.0):
    yield from adamw_path(p, steps, b1, b2, eps, weight_decay)


def adamw_path(p, steps, b1, b2, eps, weight_decay):
    m = v = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        p = p - lr * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * p)
        yield p


@leafwise
def adamc(p, steps, b1, b2, eps, weight_decay, peak=None):
    m = v = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        p = p - lr * u - lr**2 / (lr if peak is None else peak) * weight_decay * p
        yield p


@leafwise
def grokfast_adamw(p, steps, b1, b2, grokfast_alpha, grokfast_lambda, eps, weight_decay):
    slow, filtered = steps[0][2], []
    for t, lr, g in steps:
        slow = ema(slow, g, grokfast_alpha)
        filtered.append((t, lr, g + grokfast_lambda * slow))
    yield from adamw_path(p, filtered, b1, b2, eps, weight_decay)


@leafwise
def adanorm(p, steps, b1, b2, r, eps, weight_decay=0.0, eps_in_state=False):
    m = v = average = 0.0
    for t, lr, g in steps:
        p = p - lr * weight_decay * p
        size = norm(g)
        average = ema(average, size, r)
        m = ema(m, g * average / size if average > size > 0 else g, b1)
        v = ema(v, g * g, b2)
        if eps_in_state:
            v = v + eps
        p = p - lr * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        yield p


def adagc(init, grads, learning_rate, b1, b2, relative, absolute, decay, warmup, eps, weight_decay=0.0):
    rates = np.broadcast_to(learning_rate, len(next(iter(grads.values()))))
    clipped, gamma = {leaf: np.zeros_like(g) for leaf, g in grads.items()}, {}
    for i in range(len(rates)):
        size = math.sqrt(sum(norm(g[i]) ** 2 for g in grads.values()))
        for leaf, g in grads.items():
            if i + 1 < warmup:
                clipped[leaf][i] = g[i] * min(absolute / size, 1)
                gamma[leaf] = min(gamma.get(leaf, math.inf), norm(clipped[leaf][i]))
            else:
                clipped[leaf][i] = g[i] * min(relative * gamma[leaf] / norm(g[i]), 1)
                gamma[leaf] = ema(gamma[leaf], norm(clipped[leaf][i]), decay)
    return adamw(init, clipped, learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)


@leafwise
def stable_spam(
    p, steps, b1, b2, gamma1, gamma2, theta, reset_every, eps, weight_decay=0.0, slips_of_the_authors=False
):
    """`slips_of_the_authors`: their code clears m and v only after it has taken hold of the old ones, which make the
    step of the reset, corrected as a first step; the statistics of the norms are corrected with the reset count."""
    m = v = largest = first = second = 0.0
    count = 0
    for t, lr, g in steps:
        p = p - lr * weight_decay * p
        count += 1
        of_norms = count if slips_of_the_authors else t
        top = np.max(np.abs(g))
        largest = ema(largest, top, theta)
        bound = largest / (1 - theta**of_norms)
        g = np.where(np.abs(g) > bound, g * bound / top if top > 0 else 0.0, g)
        size = norm(g)
        first, second = ema(first, size, gamma1), ema(second, size**2, gamma2)
        c1, c2 = 1 - gamma1**of_norms, 1 - gamma2**of_norms
        if size > 0:
            g = g / size * (first / c1) / (math.sqrt(second / c2) + eps)
        reset = reset_every is not None and t % reset_every == 0
        if reset:
            count = 1
            if not slips_of_the_authors:
                m = v = 0.0
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        p = p - lr * m / (1 - b1**count) / (np.sqrt(v / (1 - b2**count)) + eps)
        if reset and slips_of_the_authors:
            m = v = 0.0
        yield p


@leafwise
def mars(p, steps, b1, b2, eps, gamma, weight_decay=0.0):
    if p.ndim < 2:
        yield from adamw_path(p, steps, b1, b2, eps, weight_decay)
        return
    corrected, last = [], 0.0
    for t, lr, g in steps:
        c = g + gamma * b1 / (1 - b1) * (g - last)
        corrected.append((t, lr, c / max(norm(c), 1.0)))
        last = g
    yield from adamw_path(p, corrected, b1, b2, eps, weight_decay)


# --- first moment ------------------------------------------------------------------------------


@leafwise
def qhadam(p, steps, b1, b2, nu1, nu2, eps):
    m = v = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        mean = (1 - nu1) * g + nu1 * m / (1 - b1**t)
        square = (1 - nu2) * g * g + nu2 * v / (1 - b2**t)
        p = p - lr * mean / (np.sqrt(square) + eps)
        yield p


@leafwise
def simplified_ademamix(p, steps, b1, b2, alpha, eps, eps_root=0.0, weight_decay=0.0):
    m = v = 0.0
    for t, lr, g in steps:
        m, v = b1 * m + g, ema(v, g * g, b2)
        p = p - lr * ((alpha * g + m) / (np.sqrt(v / (1 - b2**t) + eps_root) + eps) + weight_decay * p)
        yield p


@leafwise
def adapnm(p, steps, b1, b2, b3, eps, weight_decay=0.0, amsgrad=True):
    buffers, v, top = [0.0, 0.0], 0.0, 0.0
    for t, lr, g in steps:
        p = p - lr * weight_decay * p
        buffers[t % 2] = ema(buffers[t % 2], g, b1**2)
        v = ema(v, g * g, b2)
        top = np.maximum(top, v) if amsgrad else v
        mixed = ((1 + b3) * buffers[t % 2] - b3 * buffers[1 - t % 2]) / math.hypot(1 + b3, b3)
        p = p - lr * mixed / (1 - b1**t) / (np.sqrt(top / (1 - b2**t)) + eps)
        yield p


@leafwise
def aggmo(p, steps, betas):
    buffers = [0.0 for _ in betas]
    for _, lr, g in steps:
        buffers = [beta * b + g for beta, b in zip(betas, buffers, strict=True)]
        p = p - lr / len(betas) * sum(buffers)
        yield p


@leafwise
def signum(p, steps, beta):
    m = 0.0
    for _, lr, g in steps:
        m = ema(m, g, beta)
        p = p - lr * np.sign(m)
        yield p


@leafwise
def tiger(p, steps, b1, weight_decay, scaled=False):
    """`scaled`: the rate times the root mean square of the leaf, as the author has it for matrices."""
    m = 0.0
    for _, lr, g in steps:
        m = ema(m, g, b1)
        p = p - lr * (rms(p) if scaled else 1.0) * (np.sign(m) + weight_decay * p)
        yield p


@leafwise
def grams(p, steps, b1, b2, eps, weight_decay=0.0):
    m = v = 0.0
    for t, lr, g in steps:
        p = p - lr * weight_decay * p
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        p = p - lr * math.sqrt(1 - b2**t) / (1 - b1**t) * np.sign(g) * np.abs(m) / (np.sqrt(v) + eps)
        yield p


@leafwise
def focus(p, steps, b1, b2, gamma, weight_decay=0.0):
    """The corrected average in a form that keeps a parameter that does not move."""
    m, center = 0.0, p
    for t, lr, g in steps:
        m, center = ema(m, g, b1), center + (p - center) * (1 - b2) / (1 - b2**t)
        p = p - lr * (np.sign(m) + gamma * np.sign(p - center)) - lr * weight_decay * center
        yield p


@leafwise
def adahessian(p, steps, b1, b2, eps, hessian_power, hessian, weight_decay=0.0):
    m = v = 0.0
    for (t, lr, g), h in zip(steps, hessian, strict=True):
        m, v = ema(m, g, b1), ema(v, h * h, b2)
        root = np.sqrt(v / (1 - b2**t)) ** hessian_power
        p = p - lr * (m / (1 - b1**t) / (root + eps) + weight_decay * p)
        yield p


@leafwise
def sophia(p, steps, b1, b2, rho, eps, weight_decay, bs, hessian, has_hessian):
    m = h = 0.0
    for (_, lr, g), estimate, there in zip(steps, hessian, has_hessian, strict=True):
        h = ema(h, estimate, b2) if there else h
        m = ema(m, g, b1)
        p = p * (1 - lr * weight_decay) - lr * np.sign(m) * np.minimum(np.abs(m) / (rho * bs * h + eps), 1)
        yield p


# --- second moment, denominator and bounds -----------------------------------------------------


@leafwise
def eadam(p, steps, b1, b2, eps):
    m = v = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2) + eps
        p = p - lr * m / (1 - b1**t) / np.sqrt(v / (1 - b2**t))
        yield p


@leafwise
def centered_adam(p, steps, b1, b2, eps, eps_root=0.0):
    """The variance from its definition, over all gradients so far with the weights of the corrected average."""
    m, seen = 0.0, []
    for t, lr, g in steps:
        m = ema(m, g, b1)
        seen.append(g)
        weights = (1 - b2) * b2 ** np.arange(t - 1, -1, -1) / (1 - b2**t)
        mean = np.tensordot(weights, seen, axes=1)
        variance = np.tensordot(weights, (np.array(seen) - mean) ** 2, axes=1)
        p = p - lr * m / (1 - b1**t) / (np.sqrt(variance + eps_root) + eps)
        yield p


@leafwise
def acprop(p, steps, b1, b2, eps, eps_root, weight_decay=0.0, about_old_mean=False):
    """`about_old_mean`: Optax's residual g - m_(t-1), in place of the author's g - m_t; its first step is g/(1 + eps)."""
    m, s = np.zeros_like(p), 0.0
    for t, lr, g in steps:
        old, m = m, ema(m, g, b1)
        if t == 1:
            u = g / (1 + eps) if about_old_mean else g
        else:
            u = g / (np.sqrt(s / (1 - b2 ** (t - 1))) + eps)
        p = p - lr * (u + weight_decay * p)
        s = ema(s, (g - (old if about_old_mean else m)) ** 2, b2) + eps_root
        yield p


@leafwise
def msvag(p, steps, beta):
    m = v = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, beta), ema(v, g * g, beta)
        mh, vh = m / (1 - beta**t), v / (1 - beta**t)
        rho = ((1 - beta) / (1 - beta**t)) ** 2 * (1 - beta ** (2 * t)) / (1 - beta**2)
        rho = min(rho, 0.9999)
        square = mh * mh
        factor = np.clip(ratio(square, square + rho * (vh - square) / (1 - rho)), 0, 1)
        p = p - lr * factor * mh
        yield p


@leafwise
def laprop(p, steps, b1, b2, eps, weight_decay=0.0, running_learning_rate=True):
    m = v = rate = 0.0
    for t, lr, g in steps:
        v = ema(v, g * g, b2)
        unit = g / (np.sqrt(v / (1 - b2**t)) + eps)
        if running_learning_rate:
            m, rate = ema(m, lr * unit, b1), ema(rate, lr, b1)
            p = p - m * lr / rate
        else:
            m = ema(m, unit, b1)
            p = p - lr * m / (1 - b1**t)
        p = p - weight_decay * p
        yield p


@leafwise
def adam_atan2(p, steps, b1, b2, a, b, weight_decay=0.0):
    m = v = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        p = p - lr * (a * np.arctan2(m / (1 - b1**t), b * np.sqrt(v / (1 - b2**t))) + weight_decay * p)
        yield p


@leafwise
def stable_adamw(p, steps, b1, b2, eps, weight_decay):
    m = v = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        mh, vh = m / (1 - b1**t), v / (1 - b2**t)
        lr = lr / max(1.0, math.sqrt(np.mean(g * g / np.maximum(vh, eps**2))))
        p = p - lr * (mh / (np.sqrt(vh) + eps) + weight_decay * p)
        yield p


@leafwise
def adamp(p, steps, b1, b2, eps, weight_decay=0.0, delta=0.1, wd_ratio=0.1, nesterov=False):
    m = v = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        u = (ema(g, m, 1 - b1) if nesterov else m) / (np.sqrt(v / (1 - b2**t)) + eps)
        scale = 1.0
        for shape in [(len(p), -1), (1, -1)] if p.ndim > 1 else []:
            rows, slopes = p.reshape(shape), g.reshape(shape)
            sizes = np.linalg.norm(rows, axis=1) * np.linalg.norm(slopes, axis=1)
            cosine = np.abs(np.sum(rows * slopes, axis=1)) / np.maximum(sizes, eps)
            if np.max(cosine) < delta / math.sqrt(rows.shape[1]):
                unit = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + eps)
                flat = u.reshape(shape)
                u = (flat - unit * np.sum(unit * flat, axis=1, keepdims=True)).reshape(p.shape)
                scale = wd_ratio
                break
        p = p * (1 - lr * weight_decay * scale) - lr / (1 - b1**t) * u
        yield p


@leafwise
def adabound(p, steps, b1, b2, final_lr, gamma, eps, weight_decay=0.0, maximum=False):
    m = v = top = 0.0
    for t, lr, g in steps:
        g = g + weight_decay * p
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        top = np.maximum(top, v) if maximum else v
        rate = lr * math.sqrt(1 - b2**t) / (1 - b1**t) / (np.sqrt(top) + eps)
        final = final_lr * lr / steps[0][1]
        p = p - np.clip(rate, final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))) * m
        yield p


amsbound = functools.partial(adabound, maximum=True)


@leafwise
def padam(p, steps, b1, b2, eps, partial, amsgrad=True):
    m = v = top = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        top = np.maximum(top, v) if amsgrad else v
        p = p - lr * math.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(top) + eps) ** (2 * partial)
        yield p


@leafwise
def diffgrad(p, steps, b1, b2, eps):
    m = v = last = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        friction = 1 / (1 + np.exp(-np.abs(last - g)))
        p = p - lr * math.sqrt(1 - b2**t) / (1 - b1**t) * friction * m / (np.sqrt(v) + eps)
        last = g
        yield p


@leafwise
def adamod(p, steps, b1, b2, b3, eps, weight_decay=0.0):
    m = v = mean = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        rate = lr * math.sqrt(1 - b2**t) / (1 - b1**t) / (np.sqrt(v) + eps)
        mean = ema(mean, rate, b3)
        p = p - lr * weight_decay * p - np.minimum(rate, mean) * m
        yield p


@leafwise
def kourkoutas(p, steps, b1, b2_min, b2_max, alpha, eps, tiny_spike, warmup=0):
    m = v = average = 0.0
    for t, lr, g in steps:
        size = norm(g)
        average = ema(average, size, alpha)
        spike = size / (average + tiny_spike)
        b2 = (b2_min + b2_max) / 2 if t <= warmup else b2_max - (b2_max - b2_min) * spike / (1 + spike)
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        p = p - lr * m / (np.sqrt(v) + eps)
        yield p


@leafwise
def bcos(p, steps, beta, eps, weight_decay):
    m = steps[0][2]
    for _, lr, g in steps:
        v = (3 * beta**2 - 2 * beta**3) * m**2 + (1 - beta) ** 2 * g**2 + 2 * beta * (1 - beta) ** 2 * m * g
        m = ema(m, g, beta)
        p = p - lr * (m / (np.sqrt(v) + eps) + weight_decay * p)
        yield p


# --- per leaf ----------------------------------------------------------------------------------


@leafwise
def lars(p, steps, weight_decay, trust_coefficient, eps, momentum, nesterov):
    buffer = 0.0
    for _, lr, g in steps:
        u = g + weight_decay * p
        size = norm(u)
        trust = trust_coefficient * norm(p) / (size + eps) if norm(p) > 0 and size > 0 else 1.0
        step = lr * trust * u
        buffer = momentum * buffer + step
        p = p - (step + momentum * buffer if nesterov else buffer)
        yield p


@leafwise
def fromage(p, steps, min_norm):
    for _, lr, g in steps:
        shrink = 1 / math.sqrt(1 + lr**2)
        size = max(norm(g), min_norm)
        trust = max(norm(p), min_norm) / size if size > 0 else 1.0
        p = shrink * (p - lr * trust * g)
        yield p


@leafwise
def adafactor(
    p,
    steps,
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
    """For leaves of at most two axes: of those, the longer is averaged into `rows`."""
    short, long = np.argsort(p.shape)[-2:] if p.ndim == 2 else (0, 0)
    split = factored and p.ndim == 2 and p.shape[short] >= min_dim_size_to_factor
    rows = columns = v = m = 0.0
    for t, lr, g in steps:
        decay = 1 - float(t - decay_offset) ** -decay_rate
        square = g * g + eps
        if split:
            rows = ema(rows, np.mean(square, axis=long, keepdims=True), decay)
            columns = ema(columns, np.mean(square, axis=short, keepdims=True), decay)
            u = g / np.sqrt(rows / np.mean(rows)) / np.sqrt(columns)
        else:
            v = ema(v, square, decay)
            u = g / np.sqrt(v)
        if clipping_threshold is not None:
            u = u / max(1.0, rms(u) / clipping_threshold)
        u = lr * u
        if multiply_by_parameter_scale:
            u = u * max(rms(p), 1e-3)
        if momentum is not None:
            u = m = ema(m, u, momentum)
        p = p - u - (weight_decay_rate or 0.0) * p
        yield p


@leafwise
def came(p, steps, b1, b2, b3, eps1, eps2, clip_threshold, weight_decay=0.0):
    matrix = p.ndim >= 2

    def root(rows, columns):
        return 1 / np.sqrt(rows / np.mean(rows, axis=-2, keepdims=True)) / np.sqrt(columns)

    def averages(old, new, decay):
        return [
            ema(old[0], np.mean(new, -1, keepdims=True), decay),
            ema(old[1], np.mean(new, -2, keepdims=True), decay),
        ]

    m = v = 0.0
    squares, residuals = [0.0, 0.0], [0.0, 0.0]
    for _, lr, g in steps:
        if matrix:
            squares = averages(squares, g * g + eps1, b2)
            u = g * root(*squares)
        else:
            v = ema(v, g * g + eps1, b2)
            u = g / np.sqrt(v)
        u = u / max(1.0, rms(u) / clip_threshold)
        m = ema(m, u, b1)
        u, residual = m, (u - m) ** 2 + eps2
        if matrix:
            residuals = averages(residuals, residual, b3)
            u = m * root(*residuals)
        p = p - lr * (u + weight_decay * p)
        yield p


@leafwise
def adam_mini(p, steps, b1, b2, eps, weight_decay=0.0):
    """One second moment a row of a matrix, one for the whole of a vector."""
    m = v = 0.0
    axes = tuple(range(1, p.ndim)) if p.ndim > 1 else None
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, np.mean(g * g, axis=axes, keepdims=True), b2)
        p = p - lr * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * p)
        yield p


@leafwise
def sm3(p, steps, momentum, eps=1e-8):
    covers, m = [np.zeros(n) for n in p.shape], 0.0
    for _, lr, g in steps:
        shapes = [[-1 if j == i else 1 for j in range(p.ndim)] for i in range(p.ndim)]
        v = functools.reduce(np.minimum, [c.reshape(s) for c, s in zip(covers, shapes, strict=True)]) + g * g
        covers = [np.max(v, axis=tuple(j for j in range(p.ndim) if j != i)) for i in range(p.ndim)]
        m = ema(m, g / np.sqrt(v + eps), momentum)
        p = p - lr * m
        yield p


@leafwise
def amos(p, steps, eta, beta, extra_l2, d_coef, c_coef, per_leaf=False):
    v = b = 0.0
    for t, lr, g in steps:
        square = np.mean(g * g) if per_leaf else g * g
        v = ema(v, square, beta)
        inverse = (1 - beta**t) / np.maximum(v, 2.0**-125)
        gamma = lr**2 * inverse * square / np.sqrt(1 + c_coef * math.sqrt(lr) * b)
        rate = lr * eta
        slow = 1 / (1 + d_coef * math.sqrt(rate) * b)
        p = p - slow * ((gamma / 2 + extra_l2) * p + rate * np.sqrt(inverse) * g)
        b = b + gamma * (1 + b)
        yield p


@leafwise
def soap(p, steps, b1, b2, eps, weight_decay, precondition_frequency, shampoo_beta=None):
    """Vectors: Adam, whose first step is skipped, too. An average of gradients is kept, and turned where it is used."""
    beta = b2 if shampoo_beta is None else shampoo_beta
    sides = [0, 1] if p.ndim == 2 else []
    factors, bases = [0.0 for _ in sides], [np.eye(n) for n in p.shape] if sides else []
    m = v = 0.0

    def turned(x):
        return bases[0].T @ x @ bases[1] if sides else x

    def back(x):
        return bases[0] @ x @ bases[1].T if sides else x

    for t, lr, g in steps:
        if t > 1:
            m, v = ema(m, g, b1), ema(v, turned(g) ** 2, b2)
            correction = math.sqrt(1 - b2 ** (t - 1)) / (1 - b1 ** (t - 1))
            p = p - lr * correction * back(turned(m) / (np.sqrt(v) + eps))
            p = p - lr * weight_decay * p
        outer = [g @ g.T, g.T @ g] if sides else []
        factors = [ema(f, x, beta) for f, x in zip(factors, outer, strict=True)]
        if t == 1:
            bases = [np.linalg.eigh(f)[1][:, ::-1] for f in factors]
        elif (t - 1) % precondition_frequency == 0:
            for side in sides:
                order = np.argsort(-np.diag(bases[side].T @ factors[side] @ bases[side]))
                v = np.take(v, order, axis=side)
                bases[side] = np.linalg.qr(factors[side] @ bases[side][:, order])[0]
        yield p


@leafwise
def muon(p, steps, beta, ns_steps, ns_coeffs, eps, nesterov, weight_decay=0.0, corrected=False):
    """Vectors: AdamW with b1 = 0.9, b2 = 0.999, the same rate, eps and decay. `corrected`: Optax's Nesterov mix."""
    if p.ndim != 2:
        yield from adamw_path(p, steps, 0.9, 0.999, eps, weight_decay)
        return
    first, third, fifth = ns_coeffs
    m = 0.0
    for t, lr, g in steps:
        m = ema(m, g, beta)
        c, next_c = (1 - beta**t, 1 - beta ** (t + 1)) if corrected else (1.0, 1.0)
        x = ema(m / next_c, g / c, beta) if nesterov else m / c
        x = x.T if p.shape[0] > p.shape[1] else x
        x = x / (norm(x) + eps)
        for _ in range(ns_steps):
            gram = x @ x.T
            x = first * x + (third * gram + fifth * gram @ gram) @ x
        x = x.T if p.shape[0] > p.shape[1] else x
        p = p - lr * (math.sqrt(max(1.0, p.shape[1] / p.shape[0])) * x + weight_decay * p)
        yield p


# --- the whole tree ----------------------------------------------------------------------------


@as_one_vector
def adai(p, steps, b0, b2, eps, weight_decay=0.0):
    m, v, product = 0.0, 0.0, 1.0
    for t, lr, g in steps:
        v = ema(v, g * g, b2)
        vh = v / (1 - b2**t)
        b1 = np.clip(1 - b0 * vh / np.mean(vh), 0, 1 - eps)
        product = product * b1
        m = ema(m, g, b1)
        p = p - lr * (m / (1 - product) + weight_decay * p)
        yield p


@as_one_vector
def adams(p, steps, b1, b2, eps, weight_decay):
    m = v = 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        vh = v / (1 - b2**t)
        p = p * (1 - lr * weight_decay / math.sqrt(np.mean(vh))) - lr * m / (1 - b1**t) / (np.sqrt(vh) + eps)
        yield p


@as_one_vector
def prodigy(
    p,
    steps,
    b1,
    b2,
    eps,
    d0,
    d_coef=1.0,
    b3=None,
    weight_decay=0.0,
    growth_rate=math.inf,
    bias_correction=False,
    safeguard_warmup=False,
):
    b3 = math.sqrt(b2) if b3 is None else b3
    start, d, highest = p, d0, d0
    m = v = s = total = 0.0
    for t, lr, g in steps:
        step = d * lr * (math.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1.0)
        total = b3 * total + d / d0 * step * np.dot(g, start - p)
        m, v = b1 * m + (1 - b1) * d * g, b2 * v + (1 - b2) * (d * g) ** 2
        s = b3 * s + d / d0 * (d if safeguard_warmup else step) * g
        size = np.sum(np.abs(s))
        if size > 0:
            guess = d_coef * total / size
            d = max(d, guess) if d == d0 else d
            highest = max(highest, guess)
            d = min(highest, d * growth_rate)
            p = p - step * weight_decay * p - step * ratio(m, np.sqrt(v) + d * eps)
        yield p


@as_one_vector
def dadapt_adamw(p, steps, b1, b2, eps, d0, growth_rate=math.inf, weight_decay=0.0, bias_correction=False):
    d, root = d0, math.sqrt(b2)
    m, v, s, total = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p), 0.0
    for t, lr, g in steps:
        step = d * lr * (math.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1.0)
        gain = step * np.dot(g, s / (np.sqrt(v) + eps))
        m, v, s = b1 * m + (1 - b1) * step * g, ema(v, g * g, b2), root * s + (1 - root) * step * g
        size = np.sum(np.abs(s))
        if size > 0:
            total = ema(total, gain, root)
            d = max(d, min(total / ((1 - root) * size), d * growth_rate))
            p = p - step * weight_decay * p - m / (np.sqrt(v) + eps)
        yield p


@as_one_vector
def dog(p, steps, reps_rel, eps, weight_decay=0.0):
    start, reach, total = p, reps_rel * (1 + norm(p)), eps
    for _, lr, g in steps:
        g = g + weight_decay * p
        reach, total = max(reach, norm(p - start)), total + norm(g) ** 2
        p = p - lr * reach / math.sqrt(total) * g
        yield p


@as_one_vector
def dowg(p, steps, eps):
    start, square, total = p, eps, 0.0
    for _, lr, g in steps:
        square = max(square, norm(p - start) ** 2)
        total = total + square * norm(g) ** 2
        p = p - lr * square / (math.sqrt(total) + eps) * g
        yield p


@as_one_vector
def polyak_sgd(p, steps, max_learning_rate, scaling, f_min, eps, value):
    for (_, _, g), f in zip(steps, value, strict=True):
        u = scaling * g
        square = norm(u) ** 2 + eps
        p = p - (min((f - f_min) / square, max_learning_rate) if square > np.finfo(np.float32).eps else 0.0) * u
        yield p


# --- averages of the parameters ----------------------------------------------------------------


@leafwise
def schedule_free(p, steps, b1, b2, eps, weight_decay=0.0, weight_lr_power=2.0, r=0.0, evaluated=False):
    x = y = z = p
    v = total = highest = 0.0
    for t, lr, g in steps:
        v = ema(v, g * g, b2)
        z = z - lr * (g / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * y)
        highest = max(highest, lr)
        weight = t**r * highest**weight_lr_power
        total += weight
        x = ema(x, z, 1 - weight / total) if total > 0 else x
        y = ema(z, x, 1 - b1)
        yield x if evaluated else y


@leafwise
def lookahead(p, steps, sync_period, slow_step_size, b1, b2, eps, weight_decay):
    slow, m, v = p, 0.0, 0.0
    for t, lr, g in steps:
        m, v = ema(m, g, b1), ema(v, g * g, b2)
        p = p - lr * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * p)
        if t % sync_period == 0:
            slow = p = slow + slow_step_size * (p - slow)
        yield p
