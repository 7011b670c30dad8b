"""Rules that treat a leaf as a matrix, or as an array with a basis for each axis; real numbers only."""

import numpy as np

from reference.classics import adamw
from reference.common import at, begin, complement, ema, norm, ratio, squared


def newton_schulz(x, coefficients, eps):
    """Odd quintic iterations a X + b X X' X + c (X X')^2 X, from X of Frobenius norm 1."""
    x = ratio(x, norm(x) + eps)
    for a, b, c in coefficients:
        square = x @ x.conj().T
        x = a * x + (b * square + c * square @ square) @ x
    return x


def muon(
    params,
    grads,
    learning_rate,
    *,
    beta=0.95,
    ns_steps=5,
    ns_coeffs=(3.4445, -4.775, 2.0315),
    eps=1e-8,
    nesterov=True,
    weight_decay=0.0,
    bias_correction=False,
    adam_b1=0.9,
    adam_b2=0.999,
    adam_weight_decay=0.0,
):
    """Jordan et al. 2024, from his code: Nesterov's read-out of m, orthogonalised. Other leaves than matrices: AdamW.

    The scale sqrt(max(1, columns / rows)) is Optax's, for kernels (in, out); Jordan's are (out, in). bias_correction
    is Optax's: it changes the weights of m and g in the read-out. Jordan divides by the norm + 1e-7, in bfloat16.
    """
    p, grads, path = begin(params, grads)
    if p.ndim != 2:
        options = {"b1": adam_b1, "b2": adam_b2, "eps": eps, "weight_decay": adam_weight_decay}
        return adamw(params, grads, learning_rate, nesterov=nesterov, **options)
    table = np.atleast_2d(ns_coeffs)
    table = np.repeat(table, ns_steps, axis=0) if len(table) == 1 else table[-ns_steps:]
    scale = np.sqrt(max(1.0, p.shape[1] / p.shape[0]))
    m, c = np.zeros_like(p), 0.0
    for count, g in enumerate(grads):
        b = at(beta, count)
        m, c = ema(b, m, g), ema(b, c, 1.0)
        c_now, c_next = (c, ema(b, c, 1.0)) if bias_correction else (1.0, 1.0)
        x = b * m / c_next + complement(b) * g / c_now if nesterov else m / c_now
        x = newton_schulz(x.T, table, eps).T if x.shape[0] > x.shape[1] else newton_schulz(x, table, eps)
        p = p - at(learning_rate, count) * (scale * x + at(weight_decay, count) * p)
        path[count] = p
    return path


def rotate(x, bases, back=False):
    """x in the basis of every axis that has one, or back from it."""
    for axis, q in enumerate(bases):
        if q is not None:
            x = np.moveaxis(np.tensordot(x, q, axes=(axis, 1 if back else 0)), -1, axis)
    return x


def outer(g, axis):
    """The Gram matrix of the slices of g along an axis."""
    others = [i for i in range(g.ndim) if i != axis]
    return np.tensordot(g, g, axes=(others, others))


def soap(
    params,
    grads,
    learning_rate,
    *,
    b1=0.95,
    b2=0.95,
    eps=1e-8,
    weight_decay=0.01,
    precondition_frequency=10,
    shampoo_beta=None,
    max_precond_dim=10000,
):
    """Vyas et al., arXiv:2409.11321, from the authors' code: Adam in the eigenbases of Shampoo's averages.

    The first gradient only gives the bases. eps is added to the uncorrected sqrt(v), decay comes after the step,
    then the averages take g in; every precondition_frequency steps one QR of (average @ basis), columns (and v) by
    falling eigenvalue, and m turned to the new bases. A leaf of one axis has no basis: Adam.
    """
    p, grads, path = begin(params, grads)
    b_shampoo = b2 if shampoo_beta is None else shampoo_beta
    axes = [i for i in range(p.ndim) if p.ndim > 1 and p.shape[i] <= max_precond_dim]
    averages = {i: np.zeros((p.shape[i],) * 2) for i in axes}
    bases = [None] * p.ndim
    m, v = np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        if count > 0:
            lr, b1_t, b2_t = at(learning_rate, count), at(b1, count), at(b2, count)
            turned = rotate(g, bases)
            m, c1 = ema(b1_t, m, turned), ema(b1_t, c1, 1.0)
            v, c2 = ema(b2_t, v, squared(turned)), ema(b2_t, c2, 1.0)
            u = ratio(m, np.sqrt(v) + eps) * np.sqrt(c2) / c1
            p = p - lr * rotate(u, bases, back=True)
            p = p * (1 - lr * at(weight_decay, count))
        averages = {i: ema(at(b_shampoo, count), average, outer(g, i)) for i, average in averages.items()}
        if count == 0:
            for i, average in averages.items():
                bases[i] = np.linalg.eigh(average)[1][:, ::-1]
        elif count % precondition_frequency == 0:
            m = rotate(m, bases, back=True)
            for i, average in averages.items():
                order = np.argsort(-np.diag(bases[i].T @ average @ bases[i]), kind="stable")
                v = np.take(v, order, axis=i)
                bases[i] = np.linalg.qr(average @ bases[i][:, order])[0]
            m = rotate(m, bases)
        path[count] = p
    return path
