"""Rules that need an estimate of the Hessian's diagonal."""

from __future__ import annotations

from adamx.annotations import Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import ClipByCurvature, DivideByRootPower, HessianMoment, HessianSecondMoment, Momentum, RawMomentum
from adamx.variants.common import decayed

__all__ = [
    "adahessian",
    "scale_by_adahessian",
    "scale_by_sophia",
    "sophia",
]


def scale_by_sophia(b1: Scalar = 0.965, b2: Scalar = 0.99, rho: Scalar = 0.04, eps: Scalar = 1e-15) -> UpdateRule:
    """The direction of `sophia` before weight decay."""
    return update_rule(RawMomentum(b1), HessianMoment(b2), ClipByCurvature(rho, eps))


def sophia(
    learning_rate: Scalar,
    b1: Scalar = 0.965,
    b2: Scalar = 0.99,
    rho: Scalar = 0.04,
    eps: Scalar = 1e-15,
    weight_decay: Scalar = 0.1,
    mask: Mask = None,
) -> UpdateRule:
    """Sophia, a clipped Newton step from the momentum (Liu et al., arXiv:2305.14342).

        h   <- b2 h + (1 - b2) hessian                                   in the steps that have the argument `hessian`
        p_t  = p_{t-1} - learning_rate (sign(m_t) min(1, |m_t| / (rho h + eps)) + weight_decay p_{t-1})

    with m_t = mu_t of `adam`. `hessian` is a tree like the parameters: `adamx.hessians.hutchinson` (Sophia-H) or
    `adamx.hessians.gauss_newton_bartlett` (Sophia-G) makes it, every ten steps or so: update(grads, state, params, hessian=...).

    As the authors' SophiaG, whose bs is in the Gauss-Newton-Bartlett estimate here. Optax clips m / max(gamma h, eps).
    """
    return decayed(scale_by_sophia(b1, b2, rho, eps), learning_rate, weight_decay, mask)


def scale_by_adahessian(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-4, hessian_power: Scalar = 1.0
) -> UpdateRule:
    """The direction of `adahessian` before weight decay."""
    return update_rule(Momentum(b1), HessianSecondMoment(b2), DivideByRootPower(hessian_power, eps))


def adahessian(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-4,
    hessian_power: Scalar = 1.0,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """AdaHessian, Adam with the Hessian's diagonal in the place of the gradient's square (Yao et al., arXiv:2006.00719).

        nu_t = b2 nu_{t-1} + (1 - b2) |hessian|^2,    v_t = nu_t / (1 - b2^n)    in the n steps that have the argument `hessian`
        p_t  = p_{t-1} - learning_rate (m_t / (sqrt(v_t)^hessian_power + eps) + weight_decay p_{t-1})

    with m_t as in `adam`. `hessian` is a tree like the parameters, from `adamx.hessians.hutchinson`: update(grads, state, params,
    hessian=...). As the authors' code (learning rate 0.15 there), which also averages the estimate over the axes of a kernel.
    """
    return decayed(scale_by_adahessian(b1, b2, eps, hessian_power), learning_rate, weight_decay, mask)
