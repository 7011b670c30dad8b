"""Rules whose momentum is mixed of several averages, or of an average and the gradient."""

from __future__ import annotations

from collections.abc import Sequence

from adamx.annotations import Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    AdaNormMomentum,
    AggregatedMomentum,
    DivideByRoot,
    DivideByRootEpsHat,
    FlooredSecondMoment,
    MixedSum,
    Momentum,
    PositiveNegativeMomentum,
    QuasiHyperbolicMomentum,
    QuasiHyperbolicSecondMoment,
    RunningMax,
    SecondMoment,
    SignOfGradient,
    TakeMomentum,
)
from adamx.variants.common import decayed, rated

__all__ = [
    "adanorm",
    "adapnm",
    "aggmo",
    "grams",
    "qhadam",
    "scale_by_adanorm",
    "scale_by_adapnm",
    "scale_by_aggmo",
    "scale_by_grams",
    "scale_by_qhadam",
    "scale_by_simplified_ademamix",
    "simplified_ademamix",
]


def scale_by_qhadam(
    b1: Scalar = 0.995, b2: Scalar = 0.999, nu1: Scalar = 0.7, nu2: Scalar = 1.0, eps: Scalar = 1e-8
) -> UpdateRule:
    """The direction of `qhadam`."""
    return update_rule(QuasiHyperbolicMomentum(b1, nu1), QuasiHyperbolicSecondMoment(b2, nu2), DivideByRoot(eps))


def qhadam(
    learning_rate: Scalar,
    b1: Scalar = 0.995,
    b2: Scalar = 0.999,
    nu1: Scalar = 0.7,
    nu2: Scalar = 1.0,
    eps: Scalar = 1e-8,
) -> UpdateRule:
    """Quasi-hyperbolic Adam (Ma & Yarats, arXiv:1810.06801).

        p_t = p_{t-1} - learning_rate ((1 - nu1) g_t + nu1 m_t) / (sqrt((1 - nu2) |g_t|^2 + nu2 v_t) + eps)

    with m_t, v_t as in `adam`: with nu1 = nu2 = 1 it is Adam. As the authors' code (qhoptim), whose class has the defaults of Adam; those
    here are the paper's advice.
    """
    return rated(scale_by_qhadam(b1, b2, nu1, nu2, eps), learning_rate)


def scale_by_simplified_ademamix(
    b1: Scalar = 0.99, b2: Scalar = 0.95, alpha: Scalar = 0.0, eps: Scalar = 1e-8, eps_root: Scalar = 0.0
) -> UpdateRule:
    """The direction of `simplified_ademamix` before weight decay."""
    return update_rule(MixedSum(b1, alpha), SecondMoment(b2), DivideByRoot(eps, eps_root))


def simplified_ademamix(
    learning_rate: Scalar,
    b1: Scalar = 0.99,
    b2: Scalar = 0.95,
    alpha: Scalar = 0.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """AdEMAMix with one momentum, a decayed sum (Morwani et al., arXiv:2502.02431).

        mu_t = b1 mu_{t-1} + g_t,    u_t = (mu_t + alpha g_t) / (sqrt(v_t + eps_root) + eps)
        p_t  = p_{t-1} - learning_rate (u_t + weight_decay p_{t-1})

    with v_t as in `adam`. The sum is up to 1 / (1 - b1) times an average: the learning rate is that much smaller than Adam's. b1 and alpha
    may be schedules; the author's for b1 is `ademamix_b3_schedule`.

    As the author's code and Optax's contrib. Differs from pytorch_optimizer, which averages and divides by the root of a root.
    """
    return decayed(scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root), learning_rate, weight_decay, mask)


def scale_by_aggmo(betas: Sequence[Scalar] = (0.0, 0.9, 0.99)) -> UpdateRule:
    """The direction of `aggmo`."""
    return update_rule(AggregatedMomentum(betas), TakeMomentum())


def aggmo(learning_rate: Scalar, betas: Sequence[Scalar] = (0.0, 0.9, 0.99)) -> UpdateRule:
    """Aggregated momentum (Lucas et al., arXiv:1804.00325).

        mu_i,t = beta_i mu_i,t-1 + g_t,    p_t = p_{t-1} - learning_rate (mean over i of mu_i,t)

    State: a slot mu_i for each of `betas`. As the authors' code.
    """
    return rated(scale_by_aggmo(betas), learning_rate)


def scale_by_adapnm(
    b1: Scalar = 0.9, b2: Scalar = 0.999, b3: Scalar = 1.0, eps: Scalar = 1e-8, *, amsgrad: bool = True
) -> UpdateRule:
    """The direction of `adapnm` before weight decay."""
    second = RunningMax(SecondMoment(b2)) if amsgrad else SecondMoment(b2)
    return update_rule(PositiveNegativeMomentum(b1, b3), second, DivideByRoot(eps))


def adapnm(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 1.0,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    amsgrad: bool = True,
) -> UpdateRule:
    """Adam with positive-negative momentum (Xie et al., arXiv:2103.17182).

        mu_t = b1^2 mu_{t-2} + (1 - b1^2) g_t
        m_t  = ((1 + b3) mu_t - b3 mu_{t-1}) / sqrt((1 + b3)^2 + b3^2) / (1 - b1^t)
        p_t  = p_{t-1} - learning_rate (m_t / (sqrt(v_t) + eps) + weight_decay p_{t-1})

    with v_t as in `amsgrad` (or `adam`, for amsgrad=False). As the authors' code, with bias correction by 1 - b1^t.
    """
    return decayed(scale_by_adapnm(b1, b2, b3, eps, amsgrad=amsgrad), learning_rate, weight_decay, mask)


def scale_by_grams(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-6) -> UpdateRule:
    """The direction of `grams` before weight decay."""
    return update_rule(Momentum(b1), SecondMoment(b2), DivideByRootEpsHat(eps), SignOfGradient())


def grams(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """Adam's size of the step with the sign of the present gradient (Cao et al., arXiv:2412.17107).

        p_t = p_{t-1} - learning_rate (sign(g_t) |m_t| sqrt(1 - b2^t) / (sqrt(nu_t) + eps) + weight_decay p_{t-1})

    with m_t, nu_t as in `adam`. As the authors' code.
    """
    return decayed(scale_by_grams(b1, b2, eps), learning_rate, weight_decay, mask)


def scale_by_adanorm(b1: Scalar = 0.9, b2: Scalar = 0.999, r: Scalar = 0.95, eps: Scalar = 1e-8) -> UpdateRule:
    """The direction of `adanorm` before weight decay."""
    return update_rule(AdaNormMomentum(b1, r), FlooredSecondMoment(b2, eps), DivideByRoot(eps))


def adanorm(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    r: Scalar = 0.95,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """Adam whose momentum sees each leaf's gradient with at least its usual norm (Dubey et al., arXiv:2210.06364).

        e_t  = r e_{t-1} + (1 - r) ||g_t||,    h_t = g_t max(e_t / ||g_t||, 1),    mu_t = b1 mu_{t-1} + (1 - b1) h_t
        nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2 + eps
        p_t  = p_{t-1} - learning_rate (mu_t / (1 - b1^t) / (sqrt(nu_t / (1 - b2^t)) + eps) + weight_decay p_{t-1})

    As the authors' AdamNorm, where eps is added to the stored second moment in every step; their default decay is L2. Differs from
    pytorch_optimizer, which does not add it.
    """
    return decayed(scale_by_adanorm(b1, b2, r, eps), learning_rate, weight_decay, mask)
