"""Rules around AdamW whose training parameters are not the ones to evaluate."""

import numpy as np

from reference.common import at, begin, complement, ema, ratio, squared


def schedule_free(
    params,
    grads,
    learning_rate,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    weight_lr_power=2.0,
    r=0.0,
    averaged=False,
):
    """Defazio et al., arXiv:2405.15682, from the authors' AdamWScheduleFree 1.3 or later; returns y.

    Gradients and decay are taken at y = b1 x + (1 - b1) z; v is debiased, there is no first moment, and z enters x
    with weight (count + 1)^r max(lr)^weight_lr_power. Before 1.3 the debiasing was part of the learning rate of decay
    and weights too. Optax has r = 0 and calls a schedule for the weights one count later than for the step.
    """
    y, grads, path = begin(params, grads)
    z = x = y
    v, c2, largest, total = np.zeros(y.shape), 0.0, 0.0, 0.0
    for count, g in enumerate(grads):
        b2_t, lr = at(b2, count), at(learning_rate, count)
        v, c2 = ema(b2_t, v, squared(g)), ema(b2_t, c2, 1.0)
        largest = max(largest, lr)
        weight = (count + 1) ** r * largest**weight_lr_power
        total = total + weight
        share = ratio(weight, total)
        z = z - lr * (ratio(g, np.sqrt(ratio(v, c2)) + eps) + at(weight_decay, count) * y)
        x = x + share * (z - x)
        y = x + complement(b1) * (z - x)
        path[count] = x if averaged else y
    return path


def schedule_free_eval(*arguments, **options):
    """The averaged parameters x of schedule_free, called as that is: those to evaluate."""
    return schedule_free(*arguments, averaged=True, **options)


def lookahead(
    params,
    grads,
    learning_rate,
    *,
    sync_period=6,
    slow_step_size=0.5,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    weight_decay=1e-4,
):
    """Zhang et al., arXiv:1907.08610, around AdamW, whose state is kept at a synchronisation (authors, Optax).

    Returns the fast weights; after every sync_period steps they are the slow ones. The authors' code has a period
    of 5 and a step size of 0.8.
    """
    p, grads, path = begin(params, grads)
    slow, m, v = p, np.zeros_like(p), np.zeros(p.shape)
    c1 = c2 = 0.0
    for count, g in enumerate(grads):
        b1_t, b2_t = at(b1, count), at(b2, count)
        m, c1 = ema(b1_t, m, g), ema(b1_t, c1, 1.0)
        v, c2 = ema(b2_t, v, squared(g)), ema(b2_t, c2, 1.0)
        u = ratio(ratio(m, c1), np.sqrt(ratio(v, c2) + eps_root) + eps) + at(weight_decay, count) * p
        p = p - at(learning_rate, count) * u
        if (count + 1) % sync_period == 0:
            p = slow = slow + slow_step_size * (p - slow)
        path[count] = p
    return path
