"""AdamW in rules that go around any rule: averages and slow weights along the way."""

from __future__ import annotations

from adamx.annotations import Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    DecoupledDecay,
    DivideByRoot,
    LearningRate,
    Lookahead,
    Momentum,
    NormaliseGradient,
    ScheduleFree,
    SecondMoment,
    TakeGradient,
)
from adamx.variants.common import decayed, where

__all__ = [
    "lookahead",
    "schedule_free",
]


def schedule_free(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    weight_lr_power: Scalar = 2.0,
    r: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """Schedule-Free AdamW (Defazio et al., arXiv:2405.15682).

        z_t = z_{t-1} - learning_rate (g_t / (sqrt(v_t) + eps) + weight_decay y_{t-1}),    x_t = x_{t-1} + c_t (z_t - x_{t-1})
        y_t = b1 x_t + (1 - b1) z_t,    c_t = w_t / (w_1 + ... + w_t),    w_t = t^r (max learning_rate)^weight_lr_power

    with v_t as in `adam`. The parameters are y; `eval_params(rule, state, params)` returns x, to evaluate and to keep. A warm-up is a
    schedule of the learning rate. State: nu and z. As the authors' code and, for constant rates, Optax's contrib.

    Around another rule: `rule.then(ScheduleFree(b1))`, best of one without momentum.

    >>> rule = schedule_free(0.5)
    >>> params = {"w": jnp.array([3.0, -4.0])}
    >>> state = rule.init(params)
    >>> for _ in range(200):
    ...     updates, state = rule.update(params, state, params)
    ...     params = optax.apply_updates(params, updates)
    >>> bool(jnp.all(jnp.abs(eval_params(rule, state, params)["w"]) < 0.1))
    True
    """
    return update_rule(
        SecondMoment(b2),
        NormaliseGradient(eps),
        TakeGradient(),
        where(DecoupledDecay(weight_decay), mask),
        LearningRate(learning_rate),
        ScheduleFree(b1, weight_lr_power, r),
    )


def lookahead(
    learning_rate: Scalar,
    sync_period: Scalar = 6,
    slow_step_size: Scalar = 0.5,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    weight_decay: Scalar = 1e-4,
    mask: Mask = None,
) -> UpdateRule:
    """AdamW with slow weights that follow it (Lookahead, Zhang et al., arXiv:1907.08610).

        where t is a multiple of sync_period:    slow <- slow + slow_step_size (p_t - slow),    p_t <- slow

    The parameters are the fast weights; `eval_params(rule, state, params)` returns the slow ones. AdamW's state goes on, as in Optax by
    default. Around another rule: `rule.then(Lookahead(sync_period, slow_step_size))`.
    """
    adam = update_rule(Momentum(b1), SecondMoment(b2), DivideByRoot(eps, eps_root))
    return decayed(adam, learning_rate, weight_decay, mask).then(Lookahead(sync_period, slow_step_size))
