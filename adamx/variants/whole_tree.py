"""Rules with sums over the whole tree, most of them in the place of a learning rate."""

from __future__ import annotations

from adamx.annotations import Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    CoupledDecay,
    DAdaptation,
    DecoupledDecay,
    DistanceOverGradients,
    DistanceOverWeightedGradients,
    DistanceStep,
    DivideByRoot,
    DivideByRootAtDistance,
    IndependentDecay,
    InertiaMomentum,
    LearningRate,
    Momentum,
    PolyakRate,
    ProdigyDistance,
    RawMomentum,
    RawSecondMoment,
    SecondMoment,
    StableDecay,
    TakeGradient,
    TakeMomentum,
)
from adamx.variants.common import rated, where

__all__ = [
    "adai",
    "adams",
    "dadapt_adamw",
    "dog",
    "dowg",
    "polyak_sgd",
    "prodigy",
    "scale_by_adai",
    "scale_by_adams",
]


def scale_by_adai(b0: Scalar = 0.1, b2: Scalar = 0.99, eps: Scalar = 1e-3) -> UpdateRule:
    """The direction of `adai` before weight decay."""
    return update_rule(InertiaMomentum(b0, b2, eps), TakeMomentum())


def adai(
    learning_rate: Scalar,
    b0: Scalar = 0.1,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-3,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    decoupled: bool = False,
) -> UpdateRule:
    """Adai, momentum with adaptive inertia in the place of an adaptive step (Xie et al., arXiv:2006.15815).

        g_t <- g_t + weight_decay p_{t-1}                                (decoupled: p_t = ... - learning_rate weight_decay p_{t-1})
        v_t  = average of |g|^2 with decay rate b2, bias-corrected;      r_t = max(min(b0 v_t / mean(v_t), 1), eps)
        m_t  = bias-corrected average of g with decay rate 1 - r_t,      p_t = p_{t-1} - learning_rate m_t

    The mean is over the whole tree. State: mu, nu and the weight of mu. As the authors' code.
    """
    direction = scale_by_adai(b0, b2, eps).stages
    if decoupled:
        return update_rule(*direction, where(DecoupledDecay(weight_decay), mask), LearningRate(learning_rate))
    return update_rule(where(CoupledDecay(weight_decay), mask), *direction, LearningRate(learning_rate))


def scale_by_adams(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> UpdateRule:
    """The direction of `adams` before weight decay: that of `adam`."""
    return update_rule(Momentum(b1), SecondMoment(b2), DivideByRoot(eps))


def adams(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-4,
    mask: Mask = None,
) -> UpdateRule:
    """AdamS, AdamW with stable weight decay (Xie et al., arXiv:2011.11152).

        p_t = p_{t-1} - learning_rate (m_t / (sqrt(v_t) + eps) + weight_decay p_{t-1} / sqrt(mean(v_t)))

    with m_t, v_t as in `adam`; the mean is over the leaves that decay. As the authors' code; no decay where the mean is 0.
    """
    return rated(scale_by_adams(b1, b2, eps).then(where(StableDecay(weight_decay), mask)), learning_rate)


def prodigy(
    learning_rate: Scalar = 1.0,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar | None = None,
    eps: Scalar = 1e-8,
    d0: Scalar = 1e-6,
    d_coef: Scalar = 1.0,
    weight_decay: Scalar = 0.0,
    growth_rate: Scalar | None = None,
    mask: Mask = None,
    *,
    bias_correction: bool = False,
    safeguard_warmup: bool = False,
) -> UpdateRule:
    """Prodigy, AdamW that estimates its learning rate (Mishchenko & Defazio, arXiv:2306.06101).

        step = d learning_rate_t B,    B = sqrt(1 - b2^n) / (1 - b1^n) with bias_correction, else 1
        m   <- b1 m + (1 - b1) d g,    v <- b2 v + (1 - b2) d^2 |g|^2,    s <- b3 s + (d / d0) step g
        N   <- b3 N + (d / d0) step <g, p_0 - p>,    D = d_coef N / sum|s|
        where d = d0: d <- max(d, D);    D_max <- max(D_max, D);    d <- min(D_max, growth_rate d)
        p_t  = p_{t-1} - step (m / (sqrt(v) + d eps) + weight_decay p_{t-1})        with the new d beside eps, the old one in step

    Sums are over the whole tree. b3 is sqrt(b2) by default. safeguard_warmup leaves learning_rate_t B out of s. Until a gradient is not
    zero, and in steps of learning rate 0, parameters and estimate stay as they are, as in the authors' code; Optax gives NaN. In a step of
    learning rate 0 the authors keep the moments too; here they see a zero gradient, which is the same at the start.
    """
    estimate = ProdigyDistance(learning_rate, b1, b2, b3, d0, d_coef, growth_rate, bias_correction, safeguard_warmup)
    return update_rule(
        estimate,
        RawMomentum(b1),
        RawSecondMoment(b2),
        DivideByRootAtDistance(eps),
        where(DecoupledDecay(weight_decay), mask),
        DistanceStep(),
    )


def dadapt_adamw(
    learning_rate: Scalar = 1.0,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    d0: Scalar = 1e-6,
    growth_rate: Scalar | None = None,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    bias_correction: bool = False,
) -> UpdateRule:
    """D-Adaptation for AdamW, which estimates its learning rate (Defazio & Mishchenko, arXiv:2301.07733).

        step = d learning_rate_t B,    B = sqrt(1 - b2^n) / (1 - b1^n) with bias_correction, else 1;    b3 = sqrt(b2)
        N   <- b3 N + (1 - b3) step <g, s / (sqrt(v) + eps)>,    s <- b3 s + (1 - b3) step g,    D = N / ((1 - b3) sum|s|)
        m   <- b1 m + (1 - b1) step g,    v <- b2 v + (1 - b2) |g|^2,    d <- max(d, min(D, growth_rate d))
        p_t  = p_{t-1} - m / (sqrt(v) + eps) - step weight_decay p_{t-1}

    Sums are over the whole tree. Until a gradient is not zero, and in steps of learning rate 0, parameters and estimate stay as they are,
    as in the authors' code; Optax gives NaN there, and always corrects the bias.
    """
    estimate = DAdaptation(RawSecondMoment(b2), learning_rate, b1, b2, None, eps, d0, growth_rate, bias_correction)
    return update_rule(
        estimate,
        RawMomentum(b1),
        DivideByRoot(eps),
        DistanceStep(),
        where(IndependentDecay(weight_decay, peak=1.0), mask),
    )


def dog(
    learning_rate: Scalar = 1.0,
    reps_rel: Scalar = 1e-6,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """DoG, SGD with the distance over the gradients as its learning rate (Ivgi, Hinder & Carmon, arXiv:2302.12022).

        g_t <- g_t + weight_decay p_{t-1},    r_t = max(r_{t-1}, ||p_{t-1} - p_0||),    r_0 = reps_rel (1 + ||p_0||)
        p_t  = p_{t-1} - learning_rate r_t / sqrt(eps + ||g_1||^2 + ... + ||g_t||^2) g_t

    Norms are over the whole tree. As the authors' code and Optax's contrib, where the decay is coupled too.
    """
    return update_rule(where(CoupledDecay(weight_decay), mask), DistanceOverGradients(learning_rate, reps_rel, eps))


def dowg(learning_rate: Scalar = 1.0, eps: Scalar = 1e-4) -> UpdateRule:
    """DoWG, DoG with gradients weighted by the distance (Khaled, Mishchenko & Jin, arXiv:2305.16284).

        r_t = max(r_{t-1}, ||p_{t-1} - p_0||^2),    r_0 = eps,    V_t = V_{t-1} + r_t ||g_t||^2
        p_t = p_{t-1} - learning_rate r_t / (sqrt(V_t) + eps) g_t

    Norms are over the whole tree. As the authors' code (where learning_rate is 1) and Optax's contrib.
    """
    return update_rule(DistanceOverWeightedGradients(learning_rate, eps))


def polyak_sgd(
    max_learning_rate: Scalar = 1.0, scaling: Scalar = 1.0, f_min: Scalar = 0.0, eps: Scalar = 0.0
) -> UpdateRule:
    """SGD with Polyak's step size (Loizou et al., arXiv:2002.10542).

        p_t = p_{t-1} - scaling min((value - f_min) / (||g_t||^2 + eps), max_learning_rate) g_t

    The norm is over the whole tree. Every step needs the loss: update(grads, state, params, value=loss). As Optax's documentation; its code
    multiplies the gradient by `scaling` before the norm as well.
    """
    return update_rule(TakeGradient(), PolyakRate(max_learning_rate, scaling, f_min, eps))
