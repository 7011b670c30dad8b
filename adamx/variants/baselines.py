"""The rules before Adam: one moment, or a root mean square."""

from __future__ import annotations

from adamx.annotations import DType, Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import (
    CentredSecondMoment,
    CoupledDecay,
    DebiasedCentredSecondMoment,
    FromFirstGradient,
    HeavyBall,
    LearningRate,
    MatchUpdateSize,
    Nesterov,
    NormaliseGradient,
    OnUpdate,
    RawMomentum,
    RawSecondMoment,
    SecondMoment,
    SumOfSquares,
    TakeGradient,
    TakeMomentum,
)
from adamx.variants.common import where, with_mu_dtype

__all__ = [
    "adadelta",
    "adagrad",
    "momentum",
    "rmsprop",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_momentum",
    "scale_by_rmsprop",
    "scale_by_sgd",
    "sgd",
]


def scale_by_sgd(
    momentum: Scalar | None = None, nesterov: bool = False, accumulator_dtype: DType | None = None
) -> UpdateRule:
    """The direction of `sgd`: the gradient, heavy ball or Nesterov's momentum."""
    if momentum is None:
        return update_rule(TakeGradient())
    rule = update_rule(Nesterov(momentum) if nesterov else HeavyBall(momentum), TakeMomentum())
    return with_mu_dtype(rule, accumulator_dtype)


def sgd(
    learning_rate: Scalar,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    accumulator_dtype: DType | None = None,
) -> UpdateRule:
    """Stochastic gradient descent, plain, with Polyak's heavy ball (1964) or Nesterov's momentum (1983).

        mu_t = momentum mu_{t-1} + g_t
        p_t  = p_{t-1} - learning_rate mu_t                      (heavy ball; mu_t = g_t without momentum)
        p_t  = p_{t-1} - learning_rate (g_t + momentum mu_t)     (Nesterov)

    As Optax and torch (dampening 0).

    >>> sgd(0.1, momentum=0.9)
    HeavyBall(momentum=0.9) | TakeMomentum() | LearningRate(learning_rate=0.1)
    """
    return scale_by_sgd(momentum, nesterov, accumulator_dtype).then(LearningRate(learning_rate))


def scale_by_momentum(b1: Scalar = 0.9) -> UpdateRule:
    """The direction of `momentum`: the average of the gradient."""
    return update_rule(RawMomentum(b1), TakeMomentum())


def momentum(learning_rate: Scalar, b1: Scalar = 0.9) -> UpdateRule:
    """Momentum as an exponential average, without bias correction (fast.ai's course).

        mu_t = b1 mu_{t-1} + (1 - b1) g_t,    p_t = p_{t-1} - learning_rate mu_t

    Differs from heavy ball (`sgd(momentum=...)`, torch) by the factor 1 - b1.
    """
    return scale_by_momentum(b1).then(LearningRate(learning_rate))


def _rms(decay, eps, initial_scale, eps_in_sqrt, centered, bias_correction):
    first = isinstance(initial_scale, str)
    if first and initial_scale != "first":
        raise ValueError(f"initial_scale must be a number >= 0 or 'first', got {initial_scale!r}.")
    if first and (centered or bias_correction):
        raise ValueError(
            "initial_scale='first' has no bias to correct and no mean to centre on: leave out centered and bias_correction."
        )
    if first:
        moment = FromFirstGradient(RawSecondMoment(decay))
    elif centered:
        moment = (DebiasedCentredSecondMoment if bias_correction else CentredSecondMoment)(decay, initial_scale)
    else:
        moment = (SecondMoment if bias_correction else RawSecondMoment)(decay, initial_scale)
    return update_rule(moment, NormaliseGradient(None, eps) if eps_in_sqrt else NormaliseGradient(eps), TakeGradient())


def _with_trace(rule, momentum, nesterov):
    return rule if momentum is None else rule.then(OnUpdate((Nesterov if nesterov else HeavyBall)(momentum)))


def scale_by_rmsprop(
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> UpdateRule:
    """The direction of `rmsprop`."""
    rule = _rms(decay, eps, initial_scale, eps_in_sqrt, centered, bias_correction)
    return _with_trace(rule, momentum, nesterov)


def rmsprop(
    learning_rate: Scalar,
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    initial_scale: Scalar = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> UpdateRule:
    """RMSProp (Tieleman & Hinton 2012), plain, centred (Graves 2013) or with momentum.

        nu_t = decay nu_{t-1} + (1 - decay) |g_t|^2,    nu_0 = initial_scale
        u_t  = g_t / sqrt(nu_t + eps)                   (eps_in_sqrt; else g_t / (sqrt(nu_t) + eps))
        b_t  = momentum b_{t-1} - learning_rate u_t,    p_t = p_{t-1} + b_t

    Args:
      learning_rate: Step size or schedule.
      decay: Decay rate of nu.
      eps: Added under the root, or to it.
      initial_scale: nu_0; or "first", for nu_0 = |g_1|^2 (fast.ai).
      eps_in_sqrt: False for torch's denominator.
      centered: Divide by the standard deviation: nu_t - |average of g|^2, by a recurrence that is never negative.
      momentum: Decay rate of the accumulated updates; None for none.
      nesterov: Nesterov's momentum instead of the heavy ball.
      bias_correction: Divide the averages by 1 - decay^t.

    Differs from torch in the place of eps, the default decay (torch: 0.99), and in that momentum accumulates updates already multiplied by
    the learning rate, as Optax does: the same while that is constant. Centred, it stays finite where torch and Optax, which subtract, give
    NaN on a constant gradient.
    """
    rule = _rms(decay, eps, initial_scale, eps_in_sqrt, centered, bias_correction)
    return _with_trace(rule.then(LearningRate(learning_rate)), momentum, nesterov)


def scale_by_adagrad(
    initial_accumulator_value: Scalar = 0.1, eps: Scalar = 1e-7, eps_in_sqrt: bool = True
) -> UpdateRule:
    """The direction of `adagrad`."""
    root = NormaliseGradient(None, eps) if eps_in_sqrt else NormaliseGradient(eps)
    return update_rule(SumOfSquares(initial_accumulator_value), root, TakeGradient())


def adagrad(
    learning_rate: Scalar, initial_accumulator_value: Scalar = 0.1, eps: Scalar = 1e-7, eps_in_sqrt: bool = True
) -> UpdateRule:
    """AdaGrad (Duchi, Hazan & Singer 2011).

        nu_t = nu_{t-1} + |g_t|^2,    nu_0 = initial_accumulator_value
        p_t  = p_{t-1} - learning_rate g_t / sqrt(nu_t + eps)    (eps_in_sqrt; else / (sqrt(nu_t) + eps))

    Differs from torch in its defaults (there nu_0 = 0, eps = 1e-10 outside the root).
    """
    return scale_by_adagrad(initial_accumulator_value, eps, eps_in_sqrt).then(LearningRate(learning_rate))


def scale_by_adadelta(rho: Scalar = 0.9, eps: Scalar = 1e-6) -> UpdateRule:
    """The direction of `adadelta`."""
    return update_rule(RawSecondMoment(rho), MatchUpdateSize(rho, eps))


def adadelta(
    learning_rate: Scalar = 1.0,
    rho: Scalar = 0.9,
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    weight_decay_mask: Mask = None,
) -> UpdateRule:
    """AdaDelta (Zeiler, arXiv:1212.5701).

        g_t <- g_t + weight_decay p_{t-1},    nu_t = rho nu_{t-1} + (1 - rho) |g_t|^2
        u_t  = g_t sqrt(e_{t-1} + eps) / sqrt(nu_t + eps),    e_t = rho e_{t-1} + (1 - rho) |u_t|^2
        p_t  = p_{t-1} - learning_rate u_t

    Differs from Optax, where learning_rate None (the default there) leaves out the minus sign too; and for complex parameters, where Optax
    averages g^2 instead of |g|^2.
    """
    decay = where(CoupledDecay(weight_decay), weight_decay_mask)
    return update_rule(decay, *scale_by_adadelta(rho, eps).stages, LearningRate(learning_rate))
