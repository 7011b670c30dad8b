"""Rules that change how the momentum is divided."""

from __future__ import annotations

from adamx.annotations import Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import DivideByRoot, LearningRate, Rectify, RectifyOrWait, SecondMoment
from adamx.variants.common import choose, momentum_of

__all__ = [
    "radam",
    "scale_by_radam",
]


def scale_by_radam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    threshold: Scalar = 5.0,
    *,
    nesterov: bool = False,
    warmup: str = "momentum",
) -> UpdateRule:
    """The direction of `radam`."""
    rectify = choose("warmup", warmup, {"momentum": Rectify, "none": RectifyOrWait})
    return update_rule(momentum_of(b1, nesterov), SecondMoment(b2), DivideByRoot(eps, eps_root), rectify(b2, threshold))


def radam(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    threshold: Scalar = 5.0,
    *,
    nesterov: bool = False,
    warmup: str = "momentum",
) -> UpdateRule:
    """RAdam, Adam with the variance of its early steps rectified (Liu et al., arXiv:1908.03265).

        rho_inf = 2 / (1 - b2) - 1,    rho_t = rho_inf - 2 t b2^t / (1 - b2^t)
        r_t     = sqrt((rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t))
        p_t     = p_{t-1} - learning_rate r_t m_t / (sqrt(v_t + eps_root) + eps)    where rho_t >= threshold
        p_t     = p_{t-1} - learning_rate m_t                                       before

    with m_t, v_t as in `adam`.

    Args:
      learning_rate, b1, b2, eps, eps_root, nesterov: As in `adam`.
      threshold: Least rho_t at which the step adapts.
      warmup: "momentum" (torch, Optax) for the plain momentum step until then; "none" (the author's default) for no step.

    Differs from torch and the author's code in the place of eps: they divide by (sqrt(nu_t) + eps) / sqrt(1 - b2^t), so that their eps acts
    as eps / sqrt(1 - b2^t) here. As Optax; rho_t is computed here without the cancellation that costs float32 its digits near b2 = 1.
    """
    rule = scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov, warmup=warmup)
    return rule.then(LearningRate(learning_rate))
