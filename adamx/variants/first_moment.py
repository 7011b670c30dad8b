"""Rules that change the first moment."""

from __future__ import annotations

from jax.tree_util import Partial

from adamx.annotations import DType, Mask, Scalar
from adamx.hyperparameters import Decay
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    AdanMomentum,
    DivideByRoot,
    DozatMomentum,
    LearningRate,
    LionMomentum,
    MixedMomentum,
    NesterovMomentum,
    ProximalDecay,
    SecondMoment,
    Sign,
)
from adamx.variants.common import decayed, where, with_mu_dtype
from adamx.warmups import half_life_warmup, linear_warmup

__all__ = [
    "adan",
    "ademamix",
    "ademamix_alpha_schedule",
    "ademamix_b3_schedule",
    "lion",
    "nadam",
    "nadamw",
    "scale_by_adan",
    "scale_by_ademamix",
    "scale_by_lion",
    "scale_by_nadam",
    "scale_by_nadamw",
]


def scale_by_nadam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    *,
    momentum_decay: Scalar | None = None,
) -> UpdateRule:
    """The direction of `nadam`."""
    moment = NesterovMomentum(b1) if momentum_decay is None else DozatMomentum(b1, momentum_decay)
    return with_mu_dtype(update_rule(moment, SecondMoment(b2), DivideByRoot(eps, eps_root)), mu_dtype)


def nadam(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    *,
    momentum_decay: Scalar | None = None,
) -> UpdateRule:
    """Adam with Nesterov's momentum (Dozat 2016).

        m_t = b1 mu_t / (1 - b1^{t+1}) + (1 - b1) g_t / (1 - b1^t)                          (momentum_decay None)
        m_t = c_{t+1} mu_t / (1 - c_1 ... c_{t+1}) + (1 - c_t) g_t / (1 - c_1 ... c_t)      (otherwise)
              with c_t = b1 (1 - 0.96^{t momentum_decay} / 2)
        p_t = p_{t-1} - learning_rate m_t / (sqrt(v_t + eps_root) + eps)

    with mu_t, v_t as in `adam`.

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype: As in `adam`.
      momentum_decay: Speed of Dozat's momentum warm-up; None (Optax) for none, 0.004 for torch, 1 for Keras.

    Differs from torch and Keras by default, which always warm the momentum up. AlgoPerf's and timm's read-out is another stage:
    `nadam(...).replace(NesterovMomentum, AlgoPerfMomentum(b1))`.
    """
    rule = scale_by_nadam(b1, b2, eps, eps_root, mu_dtype, momentum_decay=momentum_decay)
    return rule.then(LearningRate(learning_rate))


def scale_by_nadamw(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    *,
    momentum_decay: Scalar | None = None,
) -> UpdateRule:
    """The direction of `nadamw` before weight decay: `scale_by_nadam`."""
    return scale_by_nadam(b1, b2, eps, eps_root, mu_dtype, momentum_decay=momentum_decay)


def nadamw(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 1e-4,
    mask: Mask = None,
    *,
    momentum_decay: Scalar | None = None,
) -> UpdateRule:
    """`nadam` with decoupled weight decay, as in `adamw`. As torch's NAdam(decoupled_weight_decay=True) with momentum_decay=0.004."""
    rule = scale_by_nadamw(b1, b2, eps, eps_root, mu_dtype, momentum_decay=momentum_decay)
    return decayed(rule, learning_rate, weight_decay, mask)


def scale_by_lion(b1: Scalar = 0.9, b2: Scalar = 0.99, mu_dtype: DType | None = None) -> UpdateRule:
    """The direction of `lion`: the sign of its momentum."""
    return with_mu_dtype(update_rule(LionMomentum(b1, b2), Sign()), mu_dtype)


def lion(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 1e-3,
    mask: Mask = None,
) -> UpdateRule:
    """Lion, evolved sign momentum (Chen et al., arXiv:2302.06675).

        u_t  = sign(b1 mu_{t-1} + (1 - b1) g_t),    mu_t = b2 mu_{t-1} + (1 - b2) g_t
        p_t  = p_{t-1} - learning_rate (u_t + weight_decay p_{t-1})

    As the authors' code and Optax. Learning rates are three to ten times smaller than Adam's.
    """
    return decayed(scale_by_lion(b1, b2, mu_dtype), learning_rate, weight_decay, mask)


def scale_by_adan(
    b1: Scalar = 0.98, b2: Scalar = 0.92, b3: Scalar = 0.99, eps: Scalar = 1e-8, eps_root: Scalar = 0.0
) -> UpdateRule:
    """The direction of `adan` before weight decay."""
    return update_rule(AdanMomentum(b1, b2), SecondMoment(b3), DivideByRoot(eps, eps_root))


def adan(
    learning_rate: Scalar,
    b1: Scalar = 0.98,
    b2: Scalar = 0.92,
    b3: Scalar = 0.99,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    proximal: bool = False,
) -> UpdateRule:
    """Adan, adaptive Nesterov momentum (Xie et al., arXiv:2208.06677).

        d_t  = g_t - g_{t-1},    d_1 = 0
        m_t  = debiased b1-average of g + b2 times the debiased b2-average of d
        v_t  = debiased b3-average of |g_t + b2 d_t|^2
        u_t  = m_t / (sqrt(v_t + eps_root) + eps)
        p_t  = p_{t-1} - learning_rate (u_t + weight_decay p_{t-1})
        p_t  = (p_{t-1} - learning_rate u_t) / (1 + learning_rate weight_decay)    (proximal)

    Decay rates as in the authors' code, where b = 1 - (the paper's beta). State: mu, mu_diff, nu, g_last.

    Differs from Optax, whose coefficient of the difference is 1 - b2 where the authors have b2, and whose eps_root defaults to 1e-8.
    The authors' code decays proximally by default; here, as in Optax, decay is decoupled unless `proximal=True`.
    """
    rule = scale_by_adan(b1, b2, b3, eps, eps_root)
    if proximal:
        return rule.then(LearningRate(learning_rate), where(ProximalDecay(weight_decay), mask))
    return decayed(rule, learning_rate, weight_decay, mask)


def scale_by_ademamix(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.9999,
    alpha: Scalar = 5.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
) -> UpdateRule:
    """The direction of `ademamix` before weight decay. The default of alpha is the authors'; Optax's, 6 here, is 5 in its `ademamix`."""
    rule = update_rule(MixedMomentum(b1, b3, alpha), SecondMoment(b2), DivideByRoot(eps, eps_root))
    return with_mu_dtype(rule, mu_dtype, slots=("mu", "mu_slow"))


def ademamix(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.9999,
    alpha: Scalar = 5.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """AdEMAMix, Adam with a second, slow momentum (Pagliardini, Ablin & Grangier, arXiv:2409.03137).

        slow_t = b3 slow_{t-1} + (1 - b3) g_t
        p_t    = p_{t-1} - learning_rate ((m_t + alpha slow_t) / (sqrt(v_t + eps_root) + eps) + weight_decay p_{t-1})

    with m_t, v_t as in `adam`. The slow average is not bias-corrected. State: mu, mu_slow, nu.

    Args:
      learning_rate, b1, b2, eps, eps_root, weight_decay, mask: As in `adamw`.
      b3: Decay rate of the slow average, or a schedule: `ademamix_b3_schedule`.
      alpha: Weight of the slow average, or a schedule: `ademamix_alpha_schedule`.
      mu_dtype: Dtype of both momenta. Optax's applies to the second moment too.

    As the authors' code. pytorch_optimizer's warm-up of b3 leaves out the authors' 1e-8 under the logarithm.

    >>> rule = ademamix(1e-3, alpha=ademamix_alpha_schedule(5.0, 1000), b3=ademamix_b3_schedule(0.9, 0.9999, 1000))
    """
    rule = scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype)
    return decayed(rule, learning_rate, weight_decay, mask)


def ademamix_alpha_schedule(alpha: Scalar, warmup: Scalar) -> Partial:
    """AdEMAMix's linear warm-up of alpha over `warmup` steps: alpha min(t / warmup, 1) with t = count + 1. Its arguments are leaves."""
    return Partial(linear_warmup, alpha, warmup)


def ademamix_b3_schedule(b1: Scalar, b3: Scalar, warmup: Scalar) -> Partial:
    """AdEMAMix's warm-up of b3 from b1 over `warmup` steps: linear in the half-life, with t = count + 1. Its arguments are leaves."""
    return Partial(_b3, Decay.convert(b1, "b1"), Decay.convert(b3, "b3"), warmup)


def _b3(start, end, warmup, count):
    return Decay(half_life_warmup(start.complement, end.complement, warmup, count))
