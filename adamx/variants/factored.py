"""Rules whose state is smaller than two numbers a parameter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adamx.annotations import Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    BlockSecondMoment,
    ClipGradientRms,
    ClipUpdateRms,
    CoverSecondMoment,
    DivideByConfidence,
    DivideByRoot,
    FactoredSecondMoment,
    FixedDecay,
    MatrixSecondMoment,
    Momentum,
    NormaliseGradient,
    OnUpdate,
    RawMomentum,
    ScaleByParameterRms,
    TakeGradient,
)
from adamx.variants.common import decayed, rated, where

__all__ = [
    "adafactor",
    "adam_mini",
    "came",
    "scale_by_adafactor",
    "scale_by_adam_mini",
    "scale_by_came",
    "scale_by_sm3",
    "sm3",
]


def scale_by_adafactor(
    min_dim_size_to_factor: int = 128,
    decay_rate: Scalar = 0.8,
    decay_offset: Scalar = 0,
    clipping_threshold: Scalar | None = 1.0,
    eps: Scalar = 1e-30,
    factored: bool = True,
) -> UpdateRule:
    """The direction of `adafactor` before learning rate, parameter scale, momentum and decay."""
    moment = FactoredSecondMoment(decay_rate, decay_offset, eps, min_dim_size_to_factor, factored)
    clip = () if clipping_threshold is None else (ClipUpdateRms(clipping_threshold),)
    return update_rule(moment, NormaliseGradient(None), TakeGradient(), *clip)


def adafactor(
    learning_rate: Scalar | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: Scalar = 0.8,
    decay_offset: Scalar = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: Scalar | None = 1.0,
    momentum: Scalar | None = None,
    weight_decay_rate: Scalar | None = None,
    eps: Scalar = 1e-30,
    factored: bool = True,
    weight_decay_mask: Mask = None,
) -> UpdateRule:
    """Adafactor, Adam's second moment in rows and columns (Shazeer & Stern, arXiv:1804.04235).

        b2_t = 1 - (t - decay_offset)^(-decay_rate),    v_t = row_t col_t / mean(row_t), averages of |g|^2 + eps with decay rate b2_t
        u_t  = g_t / sqrt(v_t),    u_t <- u_t / max(1, rms(u_t) / clipping_threshold)
        u_t <- learning_rate max(rms(p_{t-1}), 1e-3) u_t                 (learning_rate None: 1; the scale if multiply_by_parameter_scale)
        u_t <- momentum mu + (1 - momentum) u_t,    p_t = p_{t-1} - u_t - weight_decay_rate p_{t-1}

    A leaf is factored over its two largest axes if the second has min_dim_size_to_factor or more; others keep |g|^2 whole. As Optax, which
    computes b2_t in float32. Differs from torch, whose learning rate is min(learning_rate, 1 / sqrt(t)).
    """
    direction = scale_by_adafactor(min_dim_size_to_factor, decay_rate, decay_offset, clipping_threshold, eps, factored)
    rule = rated(direction, 1.0 if learning_rate is None else learning_rate)
    if multiply_by_parameter_scale:
        rule = rule.then(ScaleByParameterRms(1e-3))
    if momentum is not None:
        rule = rule.then(OnUpdate(RawMomentum(momentum)))
    return rule if weight_decay_rate is None else rule.then(where(FixedDecay(weight_decay_rate), weight_decay_mask))


def scale_by_came(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.9999,
    eps1: Scalar = 1e-30,
    eps2: Scalar = 1e-16,
    clip_threshold: Scalar = 1.0,
) -> UpdateRule:
    """The direction of `came` before weight decay."""
    return update_rule(
        MatrixSecondMoment(b2, eps1),
        NormaliseGradient(None),
        ClipGradientRms(clip_threshold),
        RawMomentum(b1),
        DivideByConfidence(b3, eps2),
    )


def came(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.9999,
    eps1: Scalar = 1e-30,
    eps2: Scalar = 1e-16,
    clip_threshold: Scalar = 1.0,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """CAME, Adafactor with momentum, scaled by confidence in it (Luo et al., arXiv:2307.02047).

        v_t = row col / mean(row), averages of |g|^2 + eps1 over the last two axes;    n_t = g_t / sqrt(v_t)
        n_t <- n_t / max(1, rms(n_t) / clip_threshold),    m_t = b1 m_{t-1} + (1 - b1) n_t
        c_t = row col / mean(row), averages of |n_t - m_t|^2 + eps2 with decay rate b3
        p_t = p_{t-1} - learning_rate (m_t / sqrt(c_t) + weight_decay p_{t-1})

    Leaves with less than two axes keep v whole and have no c. As the authors' code, which corrects no bias: the first steps of matrices are
    some ten times larger than the later ones.
    """
    return decayed(scale_by_came(b1, b2, b3, eps1, eps2, clip_threshold), learning_rate, weight_decay, mask)


def scale_by_adam_mini(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    block_axes: Sequence[int] | Callable[[str, Any], Sequence[int]] | None = None,
) -> UpdateRule:
    """The direction of `adam_mini` before weight decay."""
    return update_rule(Momentum(b1), BlockSecondMoment(b2, block_axes), DivideByRoot(eps))


def adam_mini(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    block_axes: Sequence[int] | Callable[[str, Any], Sequence[int]] | None = None,
) -> UpdateRule:
    """Adam-mini, AdamW with one second moment for each block of a leaf (Zhang et al., arXiv:2406.16793).

        nu_t = b2 nu_{t-1} + (1 - b2) mean |g_t|^2,    the mean over block_axes;    v_t, m_t and p_t as in `adamw`

    Args:
      learning_rate, b1, b2, eps, weight_decay, mask: As in `adamw`.
      block_axes: The axes that share one: a tuple of them, or a function of a leaf's path and the leaf to one. None for all but the last,
        where a JAX kernel counts its output neurons (the authors' partition since version 1.1), and all of a vector.

    The authors tell leaves by their names: biases as in AdamW (block_axes=()), query and key by heads, embeddings by tokens. Differs from
    pytorch_optimizer, which has their first version's partition.
    """
    return decayed(scale_by_adam_mini(b1, b2, eps, block_axes), learning_rate, weight_decay, mask)


def scale_by_sm3(momentum: Scalar = 0.9, eps: Scalar = 1e-8) -> UpdateRule:
    """The direction of `sm3`."""
    return update_rule(
        CoverSecondMoment(), NormaliseGradient(None, eps), TakeGradient(), OnUpdate(RawMomentum(momentum))
    )


def sm3(learning_rate: Scalar, momentum: Scalar = 0.9) -> UpdateRule:
    """SM3, AdaGrad with one number for each index of each axis (Anil et al., arXiv:1901.11150).

        v_t  = min over axes of cover_axis + |g_t|^2,    cover_axis <- max of v_t over the other axes
        mu_t = momentum mu_{t-1} + (1 - momentum) g_t / sqrt(v_t + 1e-8),    p_t = p_{t-1} - learning_rate mu_t

    As Optax, and on scalars too.
    """
    return rated(scale_by_sm3(momentum), learning_rate)
