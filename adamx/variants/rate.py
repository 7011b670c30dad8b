"""Rules with a learning rate for each coordinate that is bounded, averaged or shaped; some have no direction apart from it."""

from __future__ import annotations

from adamx.annotations import Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    Atan2,
    AveragedStep,
    BoundedRate,
    CoupledDecay,
    DecayAfterStep,
    DivideByPower,
    DivideByRootEpsHat,
    Friction,
    IndependentDecay,
    LearningRate,
    Momentum,
    NormaliseGradient,
    RateBelowAverage,
    RunningMax,
    SecondMoment,
    TakeMomentum,
)
from adamx.variants.common import decayed, rated, where

__all__ = [
    "adabound",
    "adam_atan2",
    "adamod",
    "amsbound",
    "diffgrad",
    "laprop",
    "padam",
    "scale_by_adam_atan2",
    "scale_by_diffgrad",
    "scale_by_padam",
]


def laprop(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-15,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    running_learning_rate: bool = True,
) -> UpdateRule:
    """LaProp: normalise the gradient, then average it (Ziyin, Wang & Ueda, arXiv:2002.04839).

        n_t  = g_t / (sqrt(v_t) + eps)
        mu_t = b1 mu_{t-1} + (1 - b1) learning_rate_t n_t,    a_t = b1 a_{t-1} + (1 - b1) learning_rate_t
        p_t  = (1 - weight_decay) (p_{t-1} - learning_rate_t mu_t / a_t)

    with v_t as in `adam`. With running_learning_rate=False, mu_t averages n_t alone and a_t is 1 - b1^t: the same while the learning rate
    is constant.

    As the author's code; where a_t is 0, at the start of a warm-up from 0, the step is 0. Differs from pytorch_optimizer and timm, which
    multiply the decay by the learning rate.
    """
    second = (SecondMoment(b2), NormaliseGradient(eps))
    first = (
        (AveragedStep(learning_rate, b1),)
        if running_learning_rate
        else (Momentum(b1), TakeMomentum(), LearningRate(learning_rate))
    )
    return update_rule(*second, *first, where(DecayAfterStep(weight_decay), mask))


def scale_by_adam_atan2(b1: Scalar = 0.9, b2: Scalar = 0.99, a: Scalar = 1.27, b: Scalar = 1.0) -> UpdateRule:
    """The direction of `adam_atan2` before weight decay."""
    return update_rule(Momentum(b1), SecondMoment(b2), Atan2(a, b))


def adam_atan2(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    a: Scalar = 1.27,
    b: Scalar = 1.0,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """Adam without eps (Everett et al., arXiv:2407.05872).

        p_t = p_{t-1} - learning_rate (a atan2(m_t, b sqrt(v_t)) + weight_decay p_{t-1})

    with m_t, v_t as in `adam`: unchanged if the loss is scaled. As lucidrains' adam-atan2, with its a and b.
    """
    return decayed(scale_by_adam_atan2(b1, b2, a, b), learning_rate, weight_decay, mask)


def scale_by_padam(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8, partial: Scalar = 0.25, *, amsgrad: bool = True
) -> UpdateRule:
    """The direction of `padam`."""
    second = RunningMax(SecondMoment(b2)) if amsgrad else SecondMoment(b2)
    return update_rule(Momentum(b1), second, DivideByPower(partial, eps))


def padam(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    partial: Scalar = 0.25,
    *,
    amsgrad: bool = True,
) -> UpdateRule:
    """Partially adaptive AMSGrad (Chen et al., arXiv:1806.06763).

        p_t = p_{t-1} - learning_rate m_t sqrt(1 - b2^t) / (sqrt(nu_max_t) + eps)^(2 partial)

    with m_t, nu_max_t as in `amsgrad`; nu_t of `adam` for amsgrad=False. partial = 1/2 is AMSGrad, 0 is momentum. As the authors' code
    (learning rate 0.1 there). Differs from pytorch_optimizer, which has no maximum.
    """
    return rated(scale_by_padam(b1, b2, eps, partial, amsgrad=amsgrad), learning_rate)


def scale_by_diffgrad(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> UpdateRule:
    """The direction of `diffgrad`."""
    return update_rule(Momentum(b1), SecondMoment(b2), DivideByRootEpsHat(eps), Friction())


def diffgrad(learning_rate: Scalar, b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> UpdateRule:
    """diffGrad, Adam with friction where the gradient stays the same (Dubey et al., arXiv:1909.11015).

        p_t = p_{t-1} - learning_rate m_t sqrt(1 - b2^t) / (sqrt(nu_t) + eps) / (1 + exp(-|g_t - g_{t-1}|)),    g_0 = 0

    with m_t, nu_t as in `adam`. As the author's second version; the first one, used in the paper, has g_{t-1} = g_t by mistake.
    """
    return rated(scale_by_diffgrad(b1, b2, eps), learning_rate)


def adamod(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """AdaMod, Adam with each coordinate's learning rate below its own average (Ding et al., arXiv:1910.12249).

        a_t = learning_rate sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(nu_t) + eps),    e_t = b3 e_{t-1} + (1 - b3) a_t
        p_t = p_{t-1} - min(a_t, e_t) mu_t - learning_rate weight_decay p_{t-1}

    with mu_t, nu_t as in `adam`. As the authors' code: e_0 = 0, a warm-up over some 1 / (1 - b3) steps.
    """
    return update_rule(
        Momentum(b1),
        SecondMoment(b2),
        RateBelowAverage(learning_rate, b3, eps),
        where(IndependentDecay(weight_decay, peak=1.0), mask),
    )


def _bounded(second, learning_rate, b1, final_lr, gamma, eps, weight_decay, mask):
    decay = where(CoupledDecay(weight_decay), mask)
    return update_rule(decay, Momentum(b1), second, BoundedRate(learning_rate, final_lr, gamma, eps))


def adabound(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    final_lr: Scalar = 0.1,
    gamma: Scalar = 1e-3,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """AdaBound, Adam that turns into SGD (Luo et al., openreview Bkg3g2R9FX).

        g_t <- g_t + weight_decay p_{t-1},    f_t = final_lr learning_rate_t / learning_rate_1
        a_t  = learning_rate_t sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(nu_t) + eps)
        p_t  = p_{t-1} - min(max(a_t, f_t (1 - 1 / (gamma t + 1))), f_t (1 + 1 / (gamma t))) mu_t

    with mu_t, nu_t as in `adam`. The first learning rate of a schedule must not be 0. As the authors' code.
    """
    return _bounded(SecondMoment(b2), learning_rate, b1, final_lr, gamma, eps, weight_decay, mask)


def amsbound(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    final_lr: Scalar = 0.1,
    gamma: Scalar = 1e-3,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """`adabound` with the largest nu_t so far, as in `amsgrad`."""
    return _bounded(RunningMax(SecondMoment(b2)), learning_rate, b1, final_lr, gamma, eps, weight_decay, mask)
