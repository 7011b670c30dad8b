"""Gradient descent, Adam and the rules closest to them."""

import numpy as np

from reference.common import at, begin, complement, ema, limit, look_ahead, norm, ratio, sign, squared

# Gradient descent and momentum


def sgd(params, grads, learning_rate, *, momentum=None, nesterov=False):
    """Polyak 1964 (heavy ball), Nesterov 1983 in the form of Sutskever et al. 2013.

    The buffer sums gradients undamped (torch, Optax); the learning rate is applied outside it.
    """
    p, grads, path = begin(params, grads)
    b = np.zeros_like(p)
    for count, g in enumerate(grads):
        u = g
        if momentum is not None:
            mu = at(momentum, count)
            b = mu * b + g
            u = g + mu * b if nesterov else b
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def momentum(params, grads, learning_rate, *, b1=0.9):
    """Momentum as a moving average of gradients, starting at 0 and not bias-corrected."""
    p, grads, path = begin(params, grads)
    m = np.zeros_like(p)
    for count, g in enumerate(grads):
        m = ema(at(b1, count), m, g)
        p = p - at(learning_rate, count) * m
        path[count] = p
    return path


# Second moment only


def rmsprop(
    params,
    grads,
    learning_rate,
    *,
    decay=0.9,
    eps=1e-8,
    initial_scale=0.0,
    eps_in_sqrt=True,
    centered=False,
    momentum=None,
    nesterov=False,
    bias_correction=False,
):
    """Tieleman & Hinton 2012; centred: Graves, arXiv:1308.0850.

    Differences: eps inside (Optax, TensorFlow) or outside (torch) the root; the momentum buffer
    holds learning_rate * u (Optax, TensorFlow) or u (torch). A v begun at "first" already has unit
    weight and is not debiased. The centred variance follows its own non-negative recurrence,
    S <- b (S + (1 - b) |g - mu|^2), which equals EMA(|g|^2) - |EMA(g)|^2; to debias both averages
    is to use b c_(t-1) / c_t in the place of b.
    """
    first = isinstance(initial_scale, str)
    if first and initial_scale != "first":
        raise ValueError(f"unknown initial_scale {initial_scale!r}")
    if first and centered and bias_correction:
        raise ValueError("a debiased mean and an undebiased square can give a negative variance")
    p, grads, path = begin(params, grads)
    start = squared(grads[0]) if first else np.full(p.shape, float(initial_scale))
    v = variance = start
    mean, buffer = np.zeros_like(p), np.zeros_like(p)
    c, left = 0.0, 1.0  # weight of the gradients seen, weight left to the start value
    if bias_correction:
        variance = np.zeros(p.shape)
    for count, g in enumerate(grads):
        b, lr = at(decay, count), at(learning_rate, count)
        old, c, left = c, ema(b, c, 1.0), b * left
        v = ema(b, v, squared(g))
        second = v / c if bias_correction and not first else v
        if centered:
            keep, take = (b * old / c, complement(b) / c) if bias_correction else (b, complement(b))
            variance = keep * (variance + take * squared(g - mean))
            mean = keep * mean + take * g
            second = variance + start * left / c if bias_correction else variance
        u = ratio(g, np.sqrt(second + eps) if eps_in_sqrt else np.sqrt(second) + eps)
        step = lr * u
        if momentum is not None:
            mu = at(momentum, count)
            buffer = mu * buffer + lr * u
            step = lr * u + mu * buffer if nesterov else buffer
        p = p - step
        path[count] = p
    return path


def adagrad(params, grads, learning_rate, *, initial_accumulator_value=0.1, eps=1e-7, eps_in_sqrt=True):
    """Duchi, Hazan & Singer 2011, diagonal form.

    Optax starts the sum at 0.1 and has eps inside the root; torch starts at 0, eps outside.
    """
    p, grads, path = begin(params, grads)
    s = np.full(p.shape, float(initial_accumulator_value))
    for count, g in enumerate(grads):
        s = s + squared(g)
        u = ratio(g, np.sqrt(s + eps) if eps_in_sqrt else np.sqrt(s) + eps)
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def adadelta(params, grads, learning_rate, *, rho=0.9, eps=1e-6, weight_decay=0.0):
    """Zeiler, arXiv:1212.5701; the paper has learning rate 1.

    Weight decay is coupled: it goes into the gradient, as in torch and Optax.
    """
    p, grads, path = begin(params, grads)
    v, x = np.zeros(p.shape), np.zeros(p.shape)
    for count, g in enumerate(grads):
        r = at(rho, count)
        g = g + at(weight_decay, count) * p
        v = ema(r, v, squared(g))
        delta = ratio(np.sqrt(x + eps) * g, np.sqrt(v + eps))
        x = ema(r, x, squared(delta))
        p = p - at(learning_rate, count) * delta
        path[count] = p
    return path


# Adam and its neighbours


def adamw(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    weight_decay=1e-4,
    nesterov=False,
):
    """Loshchilov & Hutter, arXiv:1711.05101: decay beside the gradient, times the learning rate.

    torch shrinks p first and Optax adds decay to the update: the same step.
    """
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        b1_t, b2_t = at(b1, count), at(b2, count)
        m, c1 = ema(b1_t, m, g), ema(b1_t, c1, 1.0)
        v, c2 = ema(b2_t, v, squared(g)), ema(b2_t, c2, 1.0)
        m_hat = look_ahead(b1_t, m, c1, g) if nesterov else ratio(m, c1)
        v_hat = ratio(v, c2)
        u = ratio(m_hat, np.sqrt(v_hat + eps_root) + eps) + at(weight_decay, count) * p
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def adam(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, nesterov=False):
    """Kingma & Ba, arXiv:1412.6980, Algorithm 1 (torch, Optax).

    Keras and TensorFlow use the paper's "efficient" order, in which eps is not bias-corrected.
    """
    options = {"b1": b1, "b2": b2, "eps": eps, "eps_root": eps_root, "nesterov": nesterov}
    return adamw(params, grads, learning_rate, weight_decay=0.0, **options)


def amsgradw(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    maximum_of="raw",
    weight_decay=1e-4,
):
    """Reddi, Kale & Kumar 2018 with decoupled decay.

    "raw": maximum of v, then bias correction (torch, Keras). "debiased": maximum of the corrected
    v (Optax). "paper": maximum of v and no correction of either moment.
    """
    if maximum_of not in ("raw", "debiased", "paper"):
        raise ValueError(f"unknown maximum_of {maximum_of!r}")
    p, grads, path = begin(params, grads)
    m, v, largest = np.zeros_like(p), np.zeros(p.shape), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        b1_t, b2_t = at(b1, count), at(b2, count)
        m, c1 = ema(b1_t, m, g), ema(b1_t, c1, 1.0)
        v, c2 = ema(b2_t, v, squared(g)), ema(b2_t, c2, 1.0)
        largest = np.maximum(largest, ratio(v, c2) if maximum_of == "debiased" else v)
        m_hat = m if maximum_of == "paper" else ratio(m, c1)
        v_hat = ratio(largest, c2) if maximum_of == "raw" else largest
        u = ratio(m_hat, np.sqrt(v_hat + eps_root) + eps) + at(weight_decay, count) * p
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def amsgrad(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, maximum_of="raw"):
    """Reddi, Kale & Kumar 2018, Algorithm 2; see amsgradw for the three forms."""
    options = {"b1": b1, "b2": b2, "eps": eps, "eps_root": eps_root, "maximum_of": maximum_of}
    return amsgradw(params, grads, learning_rate, weight_decay=0.0, **options)


def yogi(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-3, initial_accumulator_value=1e-6):
    """Zaheer et al. 2018: v moves towards |g|^2 by a step that does not depend on their distance.

    m starts at 0 (Optax, TensorFlow and pytorch_optimizer start it at the value of v). "first":
    v starts at the squared first gradient and only m is debiased.
    """
    first = isinstance(initial_accumulator_value, str)
    if first and initial_accumulator_value != "first":
        raise ValueError(f"unknown initial_accumulator_value {initial_accumulator_value!r}")
    p, grads, path = begin(params, grads)
    m = np.zeros_like(p)
    v = squared(grads[0]) if first else np.full(p.shape, float(initial_accumulator_value))
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        b1_t, b2_t = at(b1, count), at(b2, count)
        m, c1, c2 = ema(b1_t, m, g), ema(b1_t, c1, 1.0), ema(b2_t, c2, 1.0)
        v = v - complement(b2_t) * np.sign(v - squared(g)) * squared(g)
        v_hat = v if first else ratio(v, c2)
        p = p - at(learning_rate, count) * ratio(ratio(m, c1), np.sqrt(v_hat) + eps)
        path[count] = p
    return path


def adabelief(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16, nesterov=False):
    """Zhuang et al., arXiv:2010.07468: second moment of g about the m just updated.

    The floor is added to the stored s at every step, so it accumulates, as in the authors' code.
    """
    p, grads, path = begin(params, grads)
    m, s = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        b1_t, b2_t = at(b1, count), at(b2, count)
        m, c1 = ema(b1_t, m, g), ema(b1_t, c1, 1.0)
        s, c2 = ema(b2_t, s, squared(g - m)) + eps_root, ema(b2_t, c2, 1.0)
        m_hat = look_ahead(b1_t, m, c1, g) if nesterov else ratio(m, c1)
        p = p - at(learning_rate, count) * ratio(m_hat, np.sqrt(ratio(s, c2)) + eps)
        path[count] = p
    return path


def adamaxw(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-4):
    """Kingma & Ba, arXiv:1412.6980, section 7.1, with decoupled decay.

    eps is added to |g| inside the maximum (torch, Optax), not to the denominator (Keras).
    """
    p, grads, path = begin(params, grads)
    m, u_inf = np.zeros_like(p), np.zeros(p.shape)
    c1 = 0.0
    for count, g in enumerate(grads):
        b1_t, b2_t = at(b1, count), at(b2, count)
        m, c1 = ema(b1_t, m, g), ema(b1_t, c1, 1.0)
        u_inf = np.maximum(b2_t * u_inf, np.abs(g) + eps)
        u = ratio(ratio(m, c1), u_inf) + at(weight_decay, count) * p
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def adamax(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8):
    """Kingma & Ba, arXiv:1412.6980, section 7.1; see adamaxw."""
    return adamaxw(params, grads, learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=0.0)


def nadamw(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    momentum_decay=None,
    weight_decay=1e-4,
):
    """Dozat 2016 with decoupled decay. Without momentum_decay the read-out of Optax.

    With momentum_decay psi, Dozat's momentum mu_t = b1 (1 - 0.96^(t psi) / 2) weighs g and m when
    they are read, while m itself averages with b1 (torch: psi 0.004, Keras: 1).
    """
    if momentum_decay is None:
        options = {"b1": b1, "b2": b2, "eps": eps, "eps_root": eps_root}
        options["weight_decay"] = weight_decay
        return adamw(params, grads, learning_rate, nesterov=True, **options)
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c_mu = c2 = 0.0
    for count, g in enumerate(grads):
        t, b1_t, b2_t = count + 1, at(b1, count), at(b2, count)
        mu, mu_next = (b1_t * (1 - 0.96 ** (s * momentum_decay) / 2) for s in (t, t + 1))
        c_mu = ema(mu, c_mu, 1.0)
        m = ema(b1_t, m, g)
        v, c2 = ema(b2_t, v, squared(g)), ema(b2_t, c2, 1.0)
        m_hat = ratio(mu_next * m, ema(mu_next, c_mu, 1.0)) + ratio((1 - mu) * g, c_mu)
        u = ratio(m_hat, np.sqrt(ratio(v, c2) + eps_root) + eps) + at(weight_decay, count) * p
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def nadam(params, grads, learning_rate, *, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, momentum_decay=None):
    """Dozat 2016; see nadamw for the two forms."""
    options = {"b1": b1, "b2": b2, "eps": eps, "eps_root": eps_root}
    options["momentum_decay"] = momentum_decay
    return nadamw(params, grads, learning_rate, weight_decay=0.0, **options)


def radam(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    threshold=5.0,
    nesterov=False,
    warmup="momentum",
    eps_form="debiased",
):
    """Liu et al., arXiv:1908.03265: the variance of the adaptive rate is rectified by r.

    Below the threshold (authors and Optax: rho >= 5 adapts, torch: rho > 5) the step is m_hat, or
    none at all (warmup="none", the authors' default). eps_form="torch" adds eps to the root of the
    raw v, as torch and the authors do.
    """
    if warmup not in ("momentum", "none") or eps_form not in ("debiased", "torch"):
        raise ValueError(f"unknown warmup {warmup!r} or eps_form {eps_form!r}")
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1, c2, b2_power = 0.0, 0.0, 1.0
    for count, g in enumerate(grads):
        t, b1_t, b2_t = count + 1, at(b1, count), at(b2, count)
        m, c1 = ema(b1_t, m, g), ema(b1_t, c1, 1.0)
        v, c2 = ema(b2_t, v, squared(g)), ema(b2_t, c2, 1.0)
        b2_power = b2_t * b2_power
        m_hat = look_ahead(b1_t, m, c1, g) if nesterov else ratio(m, c1)
        rho_inf = 2 / complement(b2_t) - 1
        rho = rho_inf - 2 * t * b2_power / c2
        if rho >= threshold:
            r = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
            if eps_form == "torch":
                denominator = (np.sqrt(v + eps_root) + eps) / np.sqrt(c2)
            else:
                denominator = np.sqrt(v / c2 + eps_root) + eps
            u = np.sqrt(r) * ratio(m_hat, denominator)
        else:
            u = m_hat if warmup == "momentum" else np.zeros_like(p)
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def lion(params, grads, learning_rate, *, b1=0.9, b2=0.99, weight_decay=1e-3):
    """Chen et al., arXiv:2302.06675: sign of one average, the memory kept with another rate."""
    p, grads, path = begin(params, grads)
    m = np.zeros_like(p)
    for count, g in enumerate(grads):
        u = sign(ema(at(b1, count), m, g)) + at(weight_decay, count) * p
        m = ema(at(b2, count), m, g)
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def lamb(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-6,
    eps_root=0.0,
    weight_decay=0.0,
    form="debiased",
    clamp=None,
):
    """You et al., arXiv:1904.00962: an Adam direction plus decay, rescaled to the norm of p.

    "debiased" corrects both moments (Optax, timm); "paper" corrects neither (third version of the
    paper; pytorch_optimizer too, but its default then divides the whole step by 1 - b1^t). In both
    the decay is inside the ratio |p| / |u|, which has no eps and is 1 where either norm is 0; clamp
    bounds |p| from above (pytorch_optimizer: 10).
    """
    if form not in ("debiased", "paper"):
        raise ValueError(f"unknown form {form!r}")
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        b1_t, b2_t = at(b1, count), at(b2, count)
        m, c1 = ema(b1_t, m, g), ema(b1_t, c1, 1.0)
        v, c2 = ema(b2_t, v, squared(g)), ema(b2_t, c2, 1.0)
        m_hat, v_hat = (m, v) if form == "paper" else (ratio(m, c1), ratio(v, c2))
        u = ratio(m_hat, np.sqrt(v_hat + eps_root) + eps) + at(weight_decay, count) * p
        p_norm, u_norm = norm(p), norm(u)
        if clamp is not None:
            p_norm = min(p_norm, clamp)
        trust = p_norm / u_norm if p_norm > 0 and u_norm > 0 else 1.0
        p = p - at(learning_rate, count) * trust * u
        path[count] = p
    return path


def adan(
    params,
    grads,
    learning_rate,
    *,
    b1=0.98,
    b2=0.92,
    b3=0.99,
    eps=1e-8,
    eps_root=0.0,
    weight_decay=0.0,
    proximal=False,
):
    """Xie et al., arXiv:2208.06677, with betas as in the authors' code (1 - beta of the paper).

    The gradient difference is weighted by b2 (Optax: 1 - b2) and is 0 at the first step. Decay is
    decoupled, or divides by 1 + lr * decay after the step (proximal, the authors' default).
    """
    p, grads, path = begin(params, grads)
    m, d, n = np.zeros_like(p), np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = c3 = 0.0
    for count, g in enumerate(grads):
        b1_t, b2_t, b3_t = at(b1, count), at(b2, count), at(b3, count)
        lr, decay = at(learning_rate, count), at(weight_decay, count)
        difference = g - grads[max(count - 1, 0)]
        m, c1 = ema(b1_t, m, g), ema(b1_t, c1, 1.0)
        d, c2 = ema(b2_t, d, difference), ema(b2_t, c2, 1.0)
        n, c3 = ema(b3_t, n, squared(g + b2_t * difference)), ema(b3_t, c3, 1.0)
        u = ratio(m, c1) + b2_t * ratio(d, c2)
        u = ratio(u, np.sqrt(ratio(n, c3) + eps_root) + eps)
        p = (p - lr * u) / (1 + lr * decay) if proximal else p * (1 - lr * decay) - lr * u
        path[count] = p
    return path


def novograd(params, grads, learning_rate, *, b1=0.9, b2=0.25, eps=1e-6, eps_root=0.0, weight_decay=0.0):
    """Ginsburg et al., arXiv:1905.11286: one second moment per leaf, started at |g_1|^2.

    The normalised gradient and the decay enter m undamped (no 1 - b1), as in the paper and Optax.
    """
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), 0.0
    for count, g in enumerate(grads):
        square = np.sum(squared(g))
        v = square if count == 0 else ema(at(b2, count), v, square)
        direction = ratio(g, np.sqrt(v + eps_root) + eps)
        m = at(b1, count) * m + direction + at(weight_decay, count) * p
        p = p - at(learning_rate, count) * m
        path[count] = p
    return path


def alpha_schedule(alpha, warmup):
    """AdEMAMix: linear from 0 to alpha over warmup steps, at step count + 1."""

    def schedule(count):
        return alpha * min((count + 1) / warmup, 1.0)

    return schedule


def b3_schedule(b1, b3, warmup):
    """AdEMAMix: from b1 to b3 with a half-life that grows linearly, at step count + 1.

    The authors offset each rate by 1e-8 when its half-life is taken; pytorch_optimizer does not.
    """

    def half_life(b):
        return np.log(0.5) / np.log(b + 1e-8)

    def schedule(count):
        done = (count + 1) / warmup
        if done >= 1:
            return b3
        return 0.5 ** (1 / ((1 - done) * half_life(b1) + done * half_life(b3)))

    return schedule


def ademamix(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    b3=0.9999,
    alpha=5.0,
    eps=1e-8,
    eps_root=0.0,
    weight_decay=0.0,
):
    """Pagliardini, Ablin & Grangier, arXiv:2409.03137: a fast and a slow average of gradients.

    The fast one is debiased, the slow one is not; decay is decoupled.
    """
    p, grads, path = begin(params, grads)
    fast, slow, v = np.zeros_like(p), np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        b1_t, b2_t = at(b1, count), at(b2, count)
        fast, c1 = ema(b1_t, fast, g), ema(b1_t, c1, 1.0)
        slow = ema(at(b3, count), slow, g)
        v, c2 = ema(b2_t, v, squared(g)), ema(b2_t, c2, 1.0)
        u = ratio(fast, c1) + at(alpha, count) * slow
        u = ratio(u, np.sqrt(ratio(v, c2) + eps_root) + eps) + at(weight_decay, count) * p
        p = p - at(learning_rate, count) * u
        path[count] = p
    return path


def adopt(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.9999,
    eps=1e-6,
    nesterov=False,
    use_clipping=True,
    clip=lambda count: count**0.25,
):
    """Taniguchi et al., arXiv:2411.02853: g is divided by the v of the step before, then averaged.

    The first gradient only sets v. Clip bound count^(1/4) (Optax); timm's exponent is 1/3 and
    pytorch_optimizer counts one step further.
    """
    p, grads, path = begin(params, grads)
    m, v = np.zeros_like(p), np.zeros(p.shape)
    for count, g in enumerate(grads):
        if count == 0:
            v, path[0] = squared(g), p
            continue
        b1_t = at(b1, count)
        n = ratio(g, np.maximum(np.sqrt(v), eps))
        if use_clipping:
            n = limit(n, at(clip, count))
        m = ema(b1_t, m, n)
        u = ema(b1_t, m, n) if nesterov else m
        p = p - at(learning_rate, count) * u
        v = ema(at(b2, count), v, squared(g))
        path[count] = p
    return path
