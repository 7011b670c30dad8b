"""Rules that divide by a variance, or adapt to one."""

from __future__ import annotations

from adamx.annotations import Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    AdaptToVariance,
    ConditionalMoments,
    CorrectedCentredSecondMoment,
    CorrectedSunspikeSecondMoment,
    DebiasedCentredSecondMoment,
    DelayedBelief,
    DivideByRoot,
    FlooredSecondMoment,
    Momentum,
    MomentumAndVariance,
    NormaliseLaterGradients,
    RawMomentum,
    SunspikeSecondMoment,
    TakeGradient,
)
from adamx.variants.common import choose, decayed, rated

__all__ = [
    "acprop",
    "bcos",
    "centered_adam",
    "eadam",
    "kourkoutas",
    "msvag",
    "scale_by_acprop",
    "scale_by_bcos",
    "scale_by_centered_adam",
    "scale_by_eadam",
    "scale_by_kourkoutas",
    "scale_by_msvag",
]


def scale_by_centered_adam(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8, eps_root: Scalar = 0.0, *, debiased_mean: bool = False
) -> UpdateRule:
    """The direction of `centered_adam`."""
    second = DebiasedCentredSecondMoment if debiased_mean else CorrectedCentredSecondMoment
    return update_rule(Momentum(b1), second(b2), DivideByRoot(eps, eps_root))


def centered_adam(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    *,
    debiased_mean: bool = False,
) -> UpdateRule:
    """Adam divided by the standard deviation of the gradient, as centred RMSProp is (Graves, arXiv:1308.0850).

        nu_t = b2 (nu_{t-1} + (1 - b2) |g_t - mean_{t-1}|^2),    mean_t = b2 mean_{t-1} + (1 - b2) g_t
        p_t  = p_{t-1} - learning_rate m_t / (sqrt(nu_t / (1 - b2^t) + eps_root) + eps)

    with m_t as in `adam`. nu_t equals average(|g|^2) - |average(g)|^2, by a recurrence that is never negative. With debiased_mean, both
    averages are bias-corrected first: the variance of one gradient is then 0, and the first step is divided by eps alone.
    """
    return rated(scale_by_centered_adam(b1, b2, eps, eps_root, debiased_mean=debiased_mean), learning_rate)


def scale_by_acprop(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-16, eps_root: Scalar = 1e-16) -> UpdateRule:
    """The direction of `acprop` before weight decay."""
    return update_rule(DelayedBelief(b1, b2, eps_root), NormaliseLaterGradients(eps), TakeGradient())


def acprop(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-16,
    eps_root: Scalar = 1e-16,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """ACProp, the gradient over the last step's root mean squared surprise (Zhuang et al., arXiv:2110.05454).

        u_t  = g_t / (sqrt(nu_{t-1} / (1 - b2^{t-1})) + eps),    u_1 = g_1
        mu_t = b1 mu_{t-1} + (1 - b1) g_t,    nu_t = b2 nu_{t-1} + (1 - b2) |g_t - mu_t|^2 + eps_root
        p_t  = p_{t-1} - learning_rate (u_t + weight_decay p_{t-1})

    As the paper, and the authors' code without its rectification. Differs from Optax's contrib, where the surprise is g_t - mu_{t-1}
    and u_1 = g_1 / (1 + eps).
    """
    return decayed(scale_by_acprop(b1, b2, eps, eps_root), learning_rate, weight_decay, mask)


def scale_by_eadam(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> UpdateRule:
    """The direction of `eadam`."""
    return update_rule(Momentum(b1), FlooredSecondMoment(b2, eps), DivideByRoot(None))


def eadam(learning_rate: Scalar, b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> UpdateRule:
    """Adam with eps added to the second moment in every step instead of to its root (Yuan & Gao, arXiv:2011.02150).

        nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2 + eps,    p_t = p_{t-1} - learning_rate m_t / sqrt(nu_t / (1 - b2^t))

    with m_t as in `adam`: eps grows to eps / (1 - b2) under the root. As the authors' code.
    """
    return rated(scale_by_eadam(b1, b2, eps), learning_rate)


def scale_by_msvag(beta: Scalar = 0.9) -> UpdateRule:
    """The direction of `msvag`."""
    return update_rule(MomentumAndVariance(beta), AdaptToVariance(beta))


def msvag(learning_rate: Scalar, beta: Scalar = 0.9) -> UpdateRule:
    """M-SVAG, momentum scaled down where the gradient's variance is large (Balles & Hennig, arXiv:1705.07774).

        m_t, s_t: bias-corrected mean and variance of the gradient with decay rate beta
        rho_t = (1 - beta)(1 + beta^t) / ((1 + beta)(1 - beta^t)) <= 0.9999
        p_t   = p_{t-1} - learning_rate m_t |m_t|^2 / (|m_t|^2 + rho_t s_t / (1 - rho_t))

    As the authors' code; the variance is by a recurrence that is never negative, where their difference of averages is rounding noise.
    """
    return rated(scale_by_msvag(beta), learning_rate)


def scale_by_bcos(beta: Scalar = 0.9, eps: Scalar = 1e-6) -> UpdateRule:
    """The direction of `bcos` before weight decay."""
    return update_rule(ConditionalMoments(beta), DivideByRoot(eps))


def bcos(
    learning_rate: Scalar, beta: Scalar = 0.9, eps: Scalar = 1e-6, weight_decay: Scalar = 0.1, mask: Mask = None
) -> UpdateRule:
    """BCOS in its conditional mode: Adam with no second slot (Jiang & Xiao, arXiv:2507.08963).

        v_t  = (3 beta^2 - 2 beta^3) |mu_{t-1}|^2 + (1 - beta)^2 |g_t|^2 + 2 beta (1 - beta)^2 mu_{t-1} g_t,    mu_0 = g_1
        mu_t = beta mu_{t-1} + (1 - beta) g_t
        p_t  = p_{t-1} - learning_rate (mu_t / (sqrt(v_t) + eps) + weight_decay p_{t-1})

    State: mu. As the authors' code. Differs from pytorch_optimizer, whose v_t has mu_t in the place of mu_{t-1}.
    """
    return decayed(scale_by_bcos(beta, eps), learning_rate, weight_decay, mask)


def scale_by_kourkoutas(
    b1: Scalar = 0.9,
    b2_min: Scalar = 0.88,
    b2_max: Scalar = 0.999,
    alpha: Scalar = 0.93,
    eps: Scalar = 1e-8,
    tiny_spike: Scalar = 1e-9,
    warmup: Scalar = 0,
    *,
    bias_correction: str = "none",
) -> UpdateRule:
    """The direction of `kourkoutas`."""
    first, second = choose(
        "bias_correction",
        bias_correction,
        {"none": (RawMomentum, SunspikeSecondMoment), "beta2max": (Momentum, CorrectedSunspikeSecondMoment)},
    )
    return update_rule(first(b1), second(b2_min, b2_max, alpha, tiny_spike, warmup), DivideByRoot(eps))


def kourkoutas(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2_min: Scalar = 0.88,
    b2_max: Scalar = 0.999,
    alpha: Scalar = 0.93,
    eps: Scalar = 1e-8,
    tiny_spike: Scalar = 1e-9,
    warmup: Scalar = 0,
    *,
    bias_correction: str = "none",
) -> UpdateRule:
    """Kourkoutas-beta, Adam with a b2 for each leaf that falls when its gradient spikes (Kassinos, arXiv:2508.12996).

        usual_t = alpha usual_{t-1} + (1 - alpha) ||g_t||,    r = ||g_t|| / (usual_t + tiny_spike),    sun = r / (1 + r)
        b2_t    = b2_max - (b2_max - b2_min) sun              ((b2_min + b2_max) / 2 in the first `warmup` steps)
        nu_t    = b2_t nu_{t-1} + (1 - b2_t) |g_t|^2,         p_t = p_{t-1} - learning_rate mu_t / (sqrt(nu_t) + eps)

    with mu_t as in `adam`. bias_correction: "none", or "beta2max" for mu_t / (1 - b1^t) and nu_t / (1 - b2_max^t).

    As the authors' code (kbeta) without its soft maximum, ratio limit and adaptive eps; its class has b2_min 0.9, alpha 0.9 and tiny_spike
    1e-8, its examples the defaults here.
    """
    rule = scale_by_kourkoutas(b1, b2_min, b2_max, alpha, eps, tiny_spike, warmup, bias_correction=bias_correction)
    return rated(rule, learning_rate)
