"""Rules that treat a leaf as a matrix, or by its axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adamx.annotations import Mask, Scalar
from adamx.groups import Partition, partition
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    AmosStep,
    ClipGradient,
    DecayWithStep,
    DecoupledDecay,
    DivideByRoot,
    DivideByRootEpsHat,
    FromSecondStep,
    IntoEigenbasis,
    LearningRate,
    Momentum,
    NesterovMomentum,
    OnUpdate,
    Orthogonalize,
    OutOfEigenbasis,
    RawMomentum,
    RawNesterovMomentum,
    SecondMoment,
    SkipFirstStep,
)
from adamx.structure import by_shape
from adamx.variants.common import where

__all__ = [
    "amos",
    "muon",
    "scale_by_muon",
    "soap",
]


def scale_by_muon(
    beta: Scalar = 0.95,
    ns_steps: int = 5,
    ns_coeffs: Any = (3.4445, -4.7750, 2.0315),
    eps: Scalar = 1e-8,
    nesterov: bool = True,
) -> UpdateRule:
    """The direction of `muon` for matrices, before weight decay."""
    momentum = (RawNesterovMomentum if nesterov else RawMomentum)(beta)
    return update_rule(momentum, Orthogonalize(eps, ns_steps, _hashable(ns_coeffs)))


def _hashable(coefficients):
    return tuple(tuple(row) if isinstance(row, list | tuple) else float(row) for row in coefficients)


def muon(
    learning_rate: Scalar,
    beta: Scalar = 0.95,
    ns_steps: int = 5,
    ns_coeffs: Any = (3.4445, -4.7750, 2.0315),
    eps: Scalar = 1e-8,
    nesterov: bool = True,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    adam_b1: Scalar = 0.9,
    adam_b2: Scalar = 0.999,
    adam_weight_decay: Scalar = 0.0,
) -> Partition:
    """Muon, momentum with all its singular values made equal (Jordan et al. 2024); AdamW for leaves that are not matrices.

        mu_t = beta mu_{t-1} + (1 - beta) g_t,    x_t = beta mu_t + (1 - beta) g_t (nesterov; else mu_t)
        p_t  = p_{t-1} - learning_rate (sqrt(max(1, columns / rows)) NS(x_t / (||x_t|| + eps)) + weight_decay p_{t-1})

    with NS the Newton-Schulz iterations X <- a X + (b A + c A A) X, A = X X', which bring singular values near 1.

    Args:
      learning_rate, weight_decay, mask: As in `adamw`.
      beta: Decay rate of the momentum.
      ns_steps, ns_coeffs: Number of iterations; (a, b, c), or one such triple for each.
      eps: Added to the norm, and AdamW's.
      nesterov: The look-ahead, for AdamW too (`nadamw`).
      adam_b1, adam_b2, adam_weight_decay: Of AdamW.

    Returns:
      A `partition` of the labels "muon" and "adam".

    As the author's code, in the parameters' precision and with the scale of Optax's contrib for (inputs, outputs) kernels. Optax also
    corrects the bias of the mix. The author has AdamW's b2 0.95 and no look-ahead there.
    """
    decay = where(DecoupledDecay(weight_decay), mask)
    rule = scale_by_muon(beta, ns_steps, ns_coeffs, eps, nesterov).then(decay, LearningRate(learning_rate))
    adam = update_rule(
        (NesterovMomentum if nesterov else Momentum)(adam_b1),
        SecondMoment(adam_b2),
        DivideByRoot(eps),
        DecoupledDecay(adam_weight_decay),
        LearningRate(learning_rate),
    )
    return partition({"muon": rule, "adam": adam}, by_shape(_kind_of))


def _kind_of(shape):
    return "muon" if len(shape) == 2 else "adam"


def soap(
    learning_rate: Scalar,
    b1: Scalar = 0.95,
    b2: Scalar = 0.95,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.01,
    mask: Mask = None,
    *,
    precondition_frequency: Scalar = 10,
    shampoo_beta: Scalar | None = None,
    max_precond_dim: int = 10000,
) -> UpdateRule:
    """SOAP, Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., arXiv:2409.11321).

        G_i <- beta G_i + (1 - beta) g g'    for each axis i,    Q_i: its eigenvectors, refreshed every precondition_frequency steps
        m'  = Q_i' m,    v' = Adam's second moment of Q_i' g
        p_t = (1 - learning_rate weight_decay) (p_{t-1} - learning_rate sqrt(1 - b2^k) Q_i [m' / (sqrt(nu') + eps)]),    k = t - 1

    with m as in `adam` at step k, beta = shampoo_beta or b2. The first step only makes the basis. Vectors, and axes longer than
    max_precond_dim, have none. State: mu, nu and for each axis gg_i, q_i.

    As the authors' code, whose basis is sorted anew by eigenvalue where here each column keeps its place.
    """
    return update_rule(
        FromSecondStep(Momentum(b1)),
        IntoEigenbasis(b2 if shampoo_beta is None else shampoo_beta, precondition_frequency, max_precond_dim),
        FromSecondStep(SecondMoment(b2)),
        DivideByRootEpsHat(eps),
        OutOfEigenbasis(),
        LearningRate(learning_rate),
        where(DecayWithStep(weight_decay), mask),
        SkipFirstStep(),
    )


def amos(
    learning_rate: Scalar,
    eta: Scalar = 1.0,
    block_axes: Sequence[int] = (),
    beta: Scalar = 0.999,
    momentum: Scalar | None = None,
    clip_value: Scalar | None = None,
    extra_l2: Scalar = 0.0,
    d_coef: Scalar = 0.25,
    c_coef: Scalar = 0.25,
    eps: Scalar = 2.0**-125,
) -> UpdateRule:
    """Amos, Adam-style steps with a decay that follows them (Tian & Parikh, arXiv:2210.11693).

        nu <- beta nu + (1 - beta) mean |g|^2,    i = (1 - beta^t) / max(nu, eps),    xi = learning_rate_t
        gamma = xi^2 mean |g|^2 i / sqrt(1 + c_coef sqrt(xi) b)
        p_t = p_{t-1} - ((gamma / 2 + extra_l2) p_{t-1} + xi eta sqrt(i) g) / (1 + d_coef sqrt(xi eta) b),    b <- b + gamma (1 + b)

    Args:
      learning_rate: xi, the global learning rate.
      eta: Expected size of the trained weights; the authors give one by a leaf's name and shape (`partition` here).
      block_axes: Axes over which the means are, which share nu and b.
      beta: Decay rate of nu.
      momentum: Decay rate of an average of the steps; None for none.
      clip_value: Largest modulus of a gradient; None for none.
      extra_l2, d_coef, c_coef, eps: As in the formulas.

    As the authors' code, whose schedules see t where those here see t - 1. pytorch_optimizer's Amos is another rule.
    """
    clip = () if clip_value is None else (ClipGradient(clip_value),)
    average = () if momentum is None else (OnUpdate(RawMomentum(momentum)),)
    step = AmosStep(learning_rate, eta, beta, extra_l2, d_coef, c_coef, eps, tuple(block_axes))
    return update_rule(*clip, step, *average)
