"""Rules that look at the norms of whole leaves, or at the parameters."""

from __future__ import annotations

from adamx.annotations import DType, Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    AlgoPerfMomentum,
    CorrectedDecay,
    DecayToAverage,
    DecoupledDecay,
    DivideByRoot,
    HeavyBall,
    LayerRate,
    LearningRate,
    MatchParameterNorm,
    Momentum,
    Nesterov,
    OnUpdate,
    ProjectedDecay,
    RawMomentum,
    RescaleParameters,
    SecondMoment,
    Sign,
    SlowSurprisedLayers,
    TakeGradient,
    TrustRatio,
)
from adamx.variants.common import decayed, rated, where, with_mu_dtype

__all__ = [
    "adamc",
    "adamp",
    "focus",
    "fromage",
    "lamb",
    "lars",
    "scale_by_adamc",
    "scale_by_adamp",
    "scale_by_focus",
    "scale_by_fromage",
    "scale_by_lamb",
    "scale_by_lars",
    "scale_by_signum",
    "scale_by_stable_adamw",
    "scale_by_tiger",
    "signum",
    "stable_adamw",
    "tiger",
]


def scale_by_lamb(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    eps_root: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """The direction of `lamb`, its weight decay included: that is inside the trust ratio."""
    return update_rule(
        Momentum(b1),
        SecondMoment(b2),
        DivideByRoot(eps, eps_root),
        where(DecoupledDecay(weight_decay), mask),
        TrustRatio(),
    )


def lamb(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    eps_root: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """LAMB, Adam with a trust ratio for each leaf (You et al., arXiv:1904.00962).

        u_t = m_t / (sqrt(v_t + eps_root) + eps) + weight_decay p_{t-1}
        p_t = p_{t-1} - learning_rate u_t ||p_{t-1}|| / ||u_t||    (the ratio is 1 where either norm is 0)

    with m_t, v_t as in `adam`. As timm and Optax: bias correction, and decay inside the ratio. Differs from pytorch_optimizer, which by
    default leaves out the second moment's correction, decays outside the ratio and holds ||p|| at 10.
    """
    return scale_by_lamb(b1, b2, eps, eps_root, weight_decay, mask).then(LearningRate(learning_rate))


def scale_by_lars(
    weight_decay: Scalar = 0.0,
    trust_coefficient: Scalar = 0.001,
    eps: Scalar = 0.0,
    *,
    weight_decay_mask: Mask = None,
    trust_ratio_mask: Mask = None,
) -> UpdateRule:
    """The direction of `lars` before its momentum, which is of steps: weight decay and the rate of each leaf."""
    return update_rule(
        TakeGradient(),
        where(DecoupledDecay(weight_decay), weight_decay_mask),
        where(LayerRate(trust_coefficient, eps), trust_ratio_mask),
    )


def lars(
    learning_rate: Scalar,
    weight_decay: Scalar = 0.0,
    weight_decay_mask: Mask = None,
    trust_coefficient: Scalar = 0.001,
    eps: Scalar = 0.0,
    trust_ratio_mask: Mask = None,
    momentum: Scalar = 0.9,
    nesterov: bool = False,
) -> UpdateRule:
    """LARS, SGD with a rate for each leaf (You, Gitman & Ginsburg, arXiv:1708.03888).

        d_t  = g_t + weight_decay p_{t-1},    r_t = trust_coefficient ||p_{t-1}|| / (||d_t|| + eps)    (1 where either norm is 0)
        mu_t = momentum mu_{t-1} + learning_rate r_t d_t,    p_t = p_{t-1} - mu_t

    with nesterov, p_t = p_{t-1} - learning_rate r_t d_t - momentum mu_t. As Optax.
    """
    masks = {"weight_decay_mask": weight_decay_mask, "trust_ratio_mask": trust_ratio_mask}
    rule = rated(scale_by_lars(weight_decay, trust_coefficient, eps, **masks), learning_rate)
    return rule.then(OnUpdate((Nesterov if nesterov else HeavyBall)(momentum)))


def scale_by_fromage(min_norm: Scalar = 1e-6) -> UpdateRule:
    """The direction of `fromage`, before the parameters are rescaled."""
    return update_rule(TakeGradient(), MatchParameterNorm(min_norm))


def fromage(learning_rate: Scalar, min_norm: Scalar = 1e-6) -> UpdateRule:
    """Fromage, a step relative to the size of each leaf (Bernstein et al., arXiv:2002.03432).

        p_t = (p_{t-1} - learning_rate g_t max(||p_{t-1}||, min_norm) / max(||g_t||, min_norm)) / sqrt(1 + learning_rate^2)

    As Optax: parameters shrink where the gradient is zero. The authors' code has no min_norm, and the ratio 1 where a norm is 0.
    """
    return rated(scale_by_fromage(min_norm), learning_rate).then(RescaleParameters())


def scale_by_stable_adamw(
    b1: Scalar = 0.9, b2: Scalar = 0.99, eps: Scalar = 1e-6, weight_decay: Scalar = 0.01, mask: Mask = None
) -> UpdateRule:
    """The direction of `stable_adamw`, its weight decay included: that is scaled too."""
    return update_rule(
        Momentum(b1),
        SecondMoment(b2),
        DivideByRoot(eps),
        where(DecoupledDecay(weight_decay), mask),
        SlowSurprisedLayers(eps),
    )


def stable_adamw(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.01,
    mask: Mask = None,
) -> UpdateRule:
    """AdamW with smaller steps in leaves whose gradient is a surprise (Wortsman et al., arXiv:2304.13013).

        s_t = max(1, rms(g_t / max(sqrt(v_t), eps)))                         of each leaf
        p_t = p_{t-1} - learning_rate / s_t (m_t / (sqrt(v_t) + eps) + weight_decay p_{t-1})

    with m_t, v_t as in `adam`. As optimi's StableAdamW and pytorch_optimizer.
    """
    return rated(scale_by_stable_adamw(b1, b2, eps, weight_decay, mask), learning_rate)


def scale_by_adamp(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    delta: Scalar = 0.1,
    wd_ratio: Scalar = 0.1,
    nesterov: bool = False,
    mask: Mask = None,
    *,
    channel_axis: int = -1,
) -> UpdateRule:
    """The direction of `adamp`, its weight decay included: that depends on the projection."""
    moments = (AlgoPerfMomentum if nesterov else Momentum)(b1), SecondMoment(b2), DivideByRoot(eps)
    decay = ProjectedDecay(weight_decay, delta, wd_ratio, eps, channel_axis)
    return update_rule(*moments, where(decay, mask))


def adamp(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    delta: Scalar = 0.1,
    wd_ratio: Scalar = 0.1,
    nesterov: bool = False,
    mask: Mask = None,
    *,
    channel_axis: int = -1,
) -> UpdateRule:
    """AdamP, AdamW that does not let the norm of scale-invariant weights grow (Heo et al., arXiv:2006.08217).

        q_t = m_t / (sqrt(v_t) + eps)
        where max over channels of |cos(g_t, p)| < delta / sqrt(size of a channel):
            q_t <- q_t - n <n, q_t>,    n = p / (||p|| + eps),    weight_decay <- wd_ratio weight_decay
        p_t = p_{t-1} - learning_rate (q_t + weight_decay p_{t-1})

    with m_t, v_t as in `adam` (nesterov: b1 mu_t + (1 - b1) g_t for mu_t). Tried channel by channel, then with the leaf as one channel;
    vectors and scalars are never projected. As the authors' code; mask says where to project and decay, channel_axis which axis counts the
    output channels: the last of a JAX kernel, 0 in torch.
    """
    rule = scale_by_adamp(b1, b2, eps, weight_decay, delta, wd_ratio, nesterov, mask, channel_axis=channel_axis)
    return rated(rule, learning_rate)


def adamc(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.01,
    mask: Mask = None,
    *,
    peak: Scalar | None = None,
) -> UpdateRule:
    """AdamW whose decay falls with the square of the learning rate (AdamC, Defazio, arXiv:2506.02285).

        p_t = p_{t-1} - learning_rate_t m_t / (sqrt(v_t) + eps) - learning_rate_t^2 / peak weight_decay p_{t-1}

    with m_t, v_t as in `adam`.

    Args:
      learning_rate, b1, b2, eps, weight_decay, mask: As in `adamw`; the paper decays so the weights before a normalisation only.
      peak: Largest learning rate of the schedule; None for a constant one, which is AdamW.

    Raises:
      ValueError: a schedule without its peak.
    """
    if peak is None and callable(learning_rate):
        raise ValueError("adamc with a schedule needs its largest learning rate: adamc(schedule, peak=...).")
    rule = scale_by_adamc(b1, b2, eps)
    if peak is None:
        return decayed(rule, learning_rate, weight_decay, mask)
    return rated(rule, learning_rate).then(where(CorrectedDecay(weight_decay, peak), mask))


def scale_by_adamc(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> UpdateRule:
    """The direction of `adamc` before weight decay: that of `adam`."""
    return update_rule(Momentum(b1), SecondMoment(b2), DivideByRoot(eps))


def scale_by_signum(beta: Scalar = 0.9, accumulator_dtype: DType | None = None) -> UpdateRule:
    """The direction of `signum`."""
    return with_mu_dtype(update_rule(RawMomentum(beta), Sign()), accumulator_dtype)


def signum(learning_rate: Scalar, beta: Scalar = 0.9, accumulator_dtype: DType | None = None) -> UpdateRule:
    """The sign of the momentum (Bernstein et al., arXiv:1802.04434).

        mu_t = beta mu_{t-1} + (1 - beta) g_t,    p_t = p_{t-1} - learning_rate sign(mu_t)

    As Optax.
    """
    return rated(scale_by_signum(beta, accumulator_dtype), learning_rate)


def scale_by_tiger(b1: Scalar = 0.965) -> UpdateRule:
    """The direction of `tiger` before weight decay."""
    return scale_by_signum(b1)


def tiger(learning_rate: Scalar, b1: Scalar = 0.965, weight_decay: Scalar = 0.01, mask: Mask = None) -> UpdateRule:
    """Tiger, Lion with one decay rate (Su 2023).

        mu_t = b1 mu_{t-1} + (1 - b1) g_t,    p_t = p_{t-1} - learning_rate (sign(mu_t) + weight_decay p_{t-1})

    As pytorch_optimizer. The author's code also multiplies the learning rate by the root mean square of each weight, halves it for biases
    and scales, and does not decay those: `mask` and `partition` do that here.
    """
    return decayed(scale_by_tiger(b1), learning_rate, weight_decay, mask)


def scale_by_focus(
    b1: Scalar = 0.9, b2: Scalar = 0.99, gamma: Scalar = 0.1, weight_decay: Scalar = 0.0, mask: Mask = None
) -> UpdateRule:
    """The direction of `focus`, its weight decay included: that is of the average of the parameters."""
    return update_rule(RawMomentum(b1), Sign(), where(DecayToAverage(b2, gamma, weight_decay), mask))


def focus(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    gamma: Scalar = 0.1,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """FOCUS, the sign of the momentum and a pull towards the average of the parameters (Liu, Liu & Gore, arXiv:2501.12243).

        mu_t   = b1 mu_{t-1} + (1 - b1) g_t,    pbar_t = (average of the parameters with decay rate b2, bias-corrected)
        p_t    = p_{t-1} - learning_rate (sign(mu_t) + gamma sign(p_{t-1} - pbar_t) + weight_decay pbar_t)

    As the authors' code (b2 0.999 there), whose pull is rounding noise where a parameter has not moved; here it is 0.
    """
    return rated(scale_by_focus(b1, b2, gamma, weight_decay, mask), learning_rate)
