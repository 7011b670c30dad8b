"""Rules that rewrite the gradient before the moments see it."""

from __future__ import annotations

from adamx.annotations import Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    AmplifySlow,
    ClipToUsualNorm,
    DivideByRoot,
    Momentum,
    Restarted,
    SecondMoment,
    StabilizeSpikes,
    VarianceReduced,
)
from adamx.variants.common import decayed

__all__ = [
    "adagc",
    "grokfast_adamw",
    "mars",
    "scale_by_adagc",
    "scale_by_grokfast_adamw",
    "scale_by_mars",
    "scale_by_stable_spam",
    "stable_spam",
]


def _adam(b1, b2, eps):
    return Momentum(b1), SecondMoment(b2), DivideByRoot(eps)


def scale_by_mars(
    b1: Scalar = 0.95, b2: Scalar = 0.99, eps: Scalar = 1e-8, gamma: Scalar = 0.025, *, optimize_1d: bool = False
) -> UpdateRule:
    """The direction of `mars` before weight decay."""
    return update_rule(VarianceReduced(b1, gamma, vectors=optimize_1d), *_adam(b1, b2, eps))


def mars(
    learning_rate: Scalar,
    b1: Scalar = 0.95,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-8,
    gamma: Scalar = 0.025,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    optimize_1d: bool = False,
) -> UpdateRule:
    """MARS-AdamW, approximate form: AdamW of a gradient with less variance (Yuan et al., arXiv:2411.10438).

        c_t = g_t + gamma b1 / (1 - b1) (g_t - g_{t-1}),    g_t <- c_t / max(1, ||c_t||),    g_0 = 0

    leaf by leaf, then as `adamw`. Leaves that are not matrices are left to AdamW, unless optimize_1d=True.

    As the authors' code, which gives those leaves decay rates, learning rate and decay of their own (0.9, 0.95, 3e-3, 0.1): `partition`
    does that here. Differs from timm, where the first correction is 0.
    """
    return decayed(scale_by_mars(b1, b2, eps, gamma, optimize_1d=optimize_1d), learning_rate, weight_decay, mask)


def scale_by_grokfast_adamw(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    grokfast_alpha: Scalar = 0.98,
    grokfast_lambda: Scalar = 2.0,
    eps: Scalar = 1e-8,
) -> UpdateRule:
    """The direction of `grokfast_adamw` before weight decay."""
    return update_rule(AmplifySlow(grokfast_alpha, grokfast_lambda), *_adam(b1, b2, eps))


def grokfast_adamw(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    grokfast_alpha: Scalar = 0.98,
    grokfast_lambda: Scalar = 2.0,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.01,
    mask: Mask = None,
) -> UpdateRule:
    """AdamW of a gradient whose slow part is amplified (Grokfast-EMA, Lee et al., arXiv:2405.20233).

        h_t = grokfast_alpha h_{t-1} + (1 - grokfast_alpha) g_t,    h_0 = g_1,    g_t <- g_t + grokfast_lambda h_t

    then as `adamw`. As the authors' filter in front of torch's AdamW. Differs from pytorch_optimizer, which divides the learning rate by
    1 + grokfast_lambda.
    """
    rule = scale_by_grokfast_adamw(b1, b2, grokfast_alpha, grokfast_lambda, eps)
    return decayed(rule, learning_rate, weight_decay, mask)


def scale_by_adagc(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    relative: Scalar = 1.05,
    absolute: Scalar = 1.0,
    decay: Scalar = 0.98,
    warmup: Scalar = 100,
    eps: Scalar = 1e-8,
) -> UpdateRule:
    """The direction of `adagc` before weight decay."""
    return update_rule(ClipToUsualNorm(relative, absolute, decay, warmup), *_adam(b1, b2, eps))


def adagc(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    relative: Scalar = 1.05,
    absolute: Scalar = 1.0,
    decay: Scalar = 0.98,
    warmup: Scalar = 100,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """AdamW of gradients clipped leaf by leaf to what is usual there (AdaGC, Wang et al., arXiv:2502.11034).

        t < warmup:    h = min(absolute / ||g|| over the tree, 1),    usual_t = min(usual_{t-1}, ||h g||),    usual_1 = ||h g_1||
        later:         h = min(relative usual_{t-1} / ||g||, 1),      usual_t = decay usual_{t-1} + (1 - decay) ||h g||

    then as `adamw` with h g. As the paper's algorithm: a leaf whose gradient is zero once in the warm-up is clipped to zero ever after.
    """
    rule = scale_by_adagc(b1, b2, relative, absolute, decay, warmup, eps)
    return decayed(rule, learning_rate, weight_decay, mask)


def scale_by_stable_spam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    gamma1: Scalar = 0.7,
    gamma2: Scalar = 0.9,
    theta: Scalar = 0.999,
    reset_every: Scalar | None = 1000,
    eps: Scalar = 1e-8,
) -> UpdateRule:
    """The direction of `stable_spam` before weight decay."""
    first, second, divide = _adam(b1, b2, eps)
    if reset_every is not None:
        first, second = Restarted(first, reset_every), Restarted(second, reset_every)
    return update_rule(StabilizeSpikes(gamma1, gamma2, theta, eps), first, second, divide)


def stable_spam(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    gamma1: Scalar = 0.7,
    gamma2: Scalar = 0.9,
    theta: Scalar = 0.999,
    reset_every: Scalar | None = 1000,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
) -> UpdateRule:
    """AdamW that clips spikes, evens out the gradient's norm and forgets its moments now and then (StableSPAM, arXiv:2502.17055).

        M_t <- theta M_{t-1} + (1 - theta) max|g_t|;    elements above M_t / (1 - theta^t) are scaled by that over max|g_t|
        N_t <- gamma1 N_{t-1} + (1 - gamma1) ||g_t||,    S_t <- gamma2 S_{t-1} + (1 - gamma2) ||g_t||^2
        g_t <- g_t / ||g_t|| N_t / (1 - gamma1^t) / (sqrt(S_t / (1 - gamma2^t)) + eps)

    leaf by leaf, then as `adamw`, whose moments and count begin again in steps reset_every, 2 reset_every, ... (None: never).

    As the paper and pytorch_optimizer. The authors' code resets by an alias after the step, and counts the three averages anew as well.
    """
    rule = scale_by_stable_spam(b1, b2, gamma1, gamma2, theta, reset_every, eps)
    return decayed(rule, learning_rate, weight_decay, mask)
