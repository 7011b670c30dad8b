"""Rules that change the second moment."""

from __future__ import annotations

from adamx.annotations import DType, Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    Belief,
    ClipGradient,
    CoupledDecay,
    DebiasedRunningMax,
    DelayedSecondMoment,
    DivideByRoot,
    FromFirstGradient,
    HeavyBall,
    LayerSecondMoment,
    LearningRate,
    Momentum,
    NormaliseGradient,
    NormaliseGradientByMax,
    RawMomentum,
    RawNesterovMomentum,
    RawSecondMoment,
    RawYogi,
    RunningMax,
    SecondMoment,
    TakeMomentum,
    Yogi,
)
from adamx.variants.common import choose, decayed, momentum_of, with_mu_dtype
from adamx.warmups import fourth_root

__all__ = [
    "adabelief",
    "adopt",
    "amsgrad",
    "amsgradw",
    "novograd",
    "scale_by_adabelief",
    "scale_by_adopt",
    "scale_by_amsgrad",
    "scale_by_amsgradw",
    "scale_by_novograd",
    "scale_by_yogi",
    "yogi",
]


def scale_by_amsgrad(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    maximum_of: str = "raw",
) -> UpdateRule:
    """The direction of `amsgrad`."""
    moments = choose(
        "maximum_of",
        maximum_of,
        {
            "raw": lambda: (Momentum(b1), RunningMax(SecondMoment(b2))),
            "debiased": lambda: (Momentum(b1), DebiasedRunningMax(SecondMoment(b2))),
            "paper": lambda: (RawMomentum(b1), RunningMax(RawSecondMoment(b2))),
        },
    )
    return with_mu_dtype(update_rule(*moments(), DivideByRoot(eps, eps_root)), mu_dtype)


def amsgrad(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    maximum_of: str = "raw",
) -> UpdateRule:
    """AMSGrad, Adam with a denominator that never shrinks (Reddi, Kale & Kumar, ICLR 2018).

        v_t = max(nu_1, ..., nu_t) / (1 - b2^t)    (maximum_of="raw": torch, Keras)
        v_t = max(v_1, ..., v_t) of Adam's v       (maximum_of="debiased": Optax)
        v_t = max(nu_1, ..., nu_t), m_t = mu_t     (maximum_of="paper": no bias correction at all)
        p_t = p_{t-1} - learning_rate m_t / (sqrt(v_t + eps_root) + eps)

    with mu_t, nu_t, m_t as in `adam`. State: mu, nu, nu_max.

    Differs from Optax by default: there the maximum is of the debiased average, which freezes the denominator at the first gradients.
    """
    return scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, maximum_of).then(LearningRate(learning_rate))


def scale_by_amsgradw(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    maximum_of: str = "raw",
) -> UpdateRule:
    """The direction of `amsgradw` before weight decay: `scale_by_amsgrad`."""
    return scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, maximum_of)


def amsgradw(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 1e-4,
    mask: Mask = None,
    maximum_of: str = "raw",
) -> UpdateRule:
    """`amsgrad` with decoupled weight decay, as in `adamw`. As torch's AdamW(amsgrad=True)."""
    rule = scale_by_amsgradw(b1, b2, eps, eps_root, mu_dtype, maximum_of)
    return decayed(rule, learning_rate, weight_decay, mask)


def scale_by_yogi(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-3,
    eps_root: Scalar = 0.0,
    initial_accumulator_value: Scalar | str = 1e-6,
) -> UpdateRule:
    """The direction of `yogi`."""
    if isinstance(initial_accumulator_value, str):
        first = choose("initial_accumulator_value", initial_accumulator_value, {"first": FromFirstGradient})
        moment = first(RawYogi(b2, 0.0))
    else:
        moment = Yogi(b2, initial_accumulator_value)
    return update_rule(Momentum(b1), moment, DivideByRoot(eps, eps_root))


def yogi(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-3,
    initial_accumulator_value: Scalar | str = 1e-6,
) -> UpdateRule:
    """Yogi, additive control of the second moment (Zaheer et al., NeurIPS 2018).

        nu_t = nu_{t-1} - (1 - b2) sign(nu_{t-1} - |g_t|^2) |g_t|^2,    v_t = nu_t / (1 - b2^t)
        p_t  = p_{t-1} - learning_rate m_t / (sqrt(v_t) + eps)

    with m_t as in `adam`.

    Args:
      learning_rate, b1, b2, eps: As in `adam`.
      initial_accumulator_value: nu_0; 0 as in Dive into Deep Learning; or "first": nu_0 = |g_1|^2, and then v_t = nu_t.

    Differs from Optax and pytorch_optimizer in that the first moment starts at 0; theirs starts at nu_0 too.
    """
    rule = scale_by_yogi(b1, b2, eps, initial_accumulator_value=initial_accumulator_value)
    return rule.then(LearningRate(learning_rate))


def scale_by_adabelief(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-16, eps_root: Scalar = 1e-16, *, nesterov: bool = False
) -> UpdateRule:
    """The direction of `adabelief` (Optax's `scale_by_belief`)."""
    return update_rule(momentum_of(b1, nesterov), Belief(b2, eps_root), DivideByRoot(eps))


def adabelief(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-16,
    eps_root: Scalar = 1e-16,
    *,
    nesterov: bool = False,
) -> UpdateRule:
    """AdaBelief, a step scaled by the belief in the gradient (Zhuang et al., arXiv:2010.07468).

        nu_t = b2 nu_{t-1} + (1 - b2) |g_t - mu_t|^2 + eps_root,    v_t = nu_t / (1 - b2^t)
        p_t  = p_{t-1} - learning_rate m_t / (sqrt(v_t) + eps)

    with mu_t, m_t as in `adam`. As the authors' code (one eps for both) and Optax.
    """
    return scale_by_adabelief(b1, b2, eps, eps_root, nesterov=nesterov).then(LearningRate(learning_rate))


def scale_by_novograd(
    b1: Scalar = 0.9, b2: Scalar = 0.25, eps: Scalar = 1e-8, eps_root: Scalar = 0.0, weight_decay: Scalar = 0.0
) -> UpdateRule:
    """The direction of `novograd`, its weight decay included: that is part of the momentum. eps is by default smaller, as Optax's."""
    return update_rule(
        LayerSecondMoment(b2),
        NormaliseGradient(eps, eps_root),
        CoupledDecay(weight_decay),
        HeavyBall(b1),
        TakeMomentum(),
    )


def novograd(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.25,
    eps: Scalar = 1e-6,
    eps_root: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
) -> UpdateRule:
    """NovoGrad, gradients normalised layer by layer (Ginsburg et al., arXiv:1905.11286).

        nu_t = b2 nu_{t-1} + (1 - b2) ||g_t||^2,    nu_1 = ||g_1||^2    (one number a leaf)
        mu_t = b1 mu_{t-1} + g_t / (sqrt(nu_t + eps_root) + eps) + weight_decay p_{t-1}
        p_t  = p_{t-1} - learning_rate mu_t

    As Optax. The paper suggests b1 = 0.95, b2 = 0.98 too.
    """
    return scale_by_novograd(b1, b2, eps, eps_root, weight_decay).then(LearningRate(learning_rate))


def scale_by_adopt(
    b1: Scalar = 0.9,
    b2: Scalar = 0.9999,
    eps: Scalar = 1e-6,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Scalar = fourth_root,
) -> UpdateRule:
    """The direction of `adopt`."""
    rule = update_rule(
        DelayedSecondMoment(b2),
        NormaliseGradientByMax(eps),
        *((ClipGradient(clip_value_fn),) if use_clipping else ()),
        RawNesterovMomentum(b1) if nesterov else RawMomentum(b1),
        TakeMomentum(),
    )
    return with_mu_dtype(rule, mu_dtype)


def adopt(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.9999,
    eps: Scalar = 1e-6,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Scalar = fourth_root,
) -> UpdateRule:
    """ADOPT, Adam that converges with any b2 (Taniguchi et al., arXiv:2411.02853).

        n_t  = clip(g_t / max(sqrt(nu_{t-1}), eps), -c_t, c_t),    c_t = (t - 1)^(1/4);    n_1 = 0
        mu_t = b1 mu_{t-1} + (1 - b1) n_t,    nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2,    nu_1 = |g_1|^2
        p_t  = p_{t-1} - learning_rate mu_t

    Args:
      learning_rate, b1, b2, eps, mu_dtype: As in `adam`; eps is the least denominator.
      nesterov: Nesterov's look-ahead: b1 mu_t + (1 - b1) n_t for mu_t.
      use_clipping: False for the algorithm as first published.
      clip_value_fn: c_t as a function of the number of updates made so far.

    As the authors' code and Optax. Differs from pytorch_optimizer, which clips at t^(1/4), and from timm, which clips at (t - 1)^(1/3).
    Complex gradients are clipped by modulus; the authors' code treats real and imaginary parts apart.
    """
    rule = scale_by_adopt(
        b1, b2, eps, mu_dtype, nesterov=nesterov, use_clipping=use_clipping, clip_value_fn=clip_value_fn
    )
    return rule.then(LearningRate(learning_rate))
