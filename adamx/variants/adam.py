"""Adam and its infinity-norm sibling."""

from __future__ import annotations

from adamx.annotations import DType, Mask, Scalar
from adamx.rule import UpdateRule, update_rule
from adamx.stages import Divide, DivideByRoot, InfinityMoment, LearningRate, Momentum, SecondMoment
from adamx.variants.common import decayed, momentum_of, with_mu_dtype

__all__ = [
    "adam",
    "adamax",
    "adamaxw",
    "adamw",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_adamaxw",
    "scale_by_adamw",
]


def scale_by_adam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
) -> UpdateRule:
    """The direction of `adam`: m_t / (sqrt(v_t + eps_root) + eps)."""
    rule = update_rule(momentum_of(b1, nesterov), SecondMoment(b2), DivideByRoot(eps, eps_root))
    return with_mu_dtype(rule, mu_dtype)


def adam(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
) -> UpdateRule:
    """Adam (Kingma & Ba, arXiv:1412.6980).

        mu_t = b1 mu_{t-1} + (1 - b1) g_t,        m_t = mu_t / (1 - b1^t)
        nu_t = b2 nu_{t-1} + (1 - b2) |g_t|^2,    v_t = nu_t / (1 - b2^t)
        p_t  = p_{t-1} - learning_rate m_t / (sqrt(v_t + eps_root) + eps)

    Args:
      learning_rate: Step size, an array of them, or a schedule of the number of updates made so far.
      b1: Decay rate of the first moment.
      b2: Decay rate of the second moment.
      eps: Added to the root.
      eps_root: Added under the root.
      mu_dtype: Dtype in which mu is kept; None for float32 (see `UpdateRule.store`).
      nesterov: Nesterov's look-ahead, as in `nadam`.

    Returns:
      An `UpdateRule`. State: slots mu and nu.

    As torch and Optax; more exact than Optax's in float32, where b2^t loses digits.

    >>> params = {"w": jnp.array([1.0, -2.0])}
    >>> rule = adam(0.1)
    >>> state = rule.init(params)
    >>> for _ in range(100):
    ...     grads = jax.grad(lambda p: jnp.sum(p["w"] ** 2))(params)
    ...     updates, state = rule.update(grads, state, params)
    ...     params = optax.apply_updates(params, updates)
    >>> bool(jnp.all(jnp.abs(params["w"]) < 0.05))
    True
    """
    return scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov).then(LearningRate(learning_rate))


def scale_by_adamw(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
) -> UpdateRule:
    """The direction of `adamw` before weight decay: `scale_by_adam`."""
    return scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)


def adamw(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Scalar = 1e-4,
    mask: Mask = None,
    *,
    nesterov: bool = False,
) -> UpdateRule:
    """Adam with decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101).

        p_t = p_{t-1} - learning_rate (m_t / (sqrt(v_t + eps_root) + eps) + weight_decay p_{t-1})

    with m_t, v_t as in `adam`.

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov: As in `adam`.
      weight_decay: Strength of the decay; multiplied by the learning rate.
      mask: Where to decay: a tree (or prefix) of booleans, or a function from the parameters to one. None for everywhere.

    As torch (whose default weight_decay is 0.01) and Optax. For decay independent of the learning rate, as the paper writes it, put an
    `IndependentDecay` behind `adam`.

    >>> adamw(1e-3)
    Momentum(b1=0.9) | SecondMoment(b2=0.999) | DivideByRoot(eps=1e-08) | DecoupledDecay(weight_decay=0.0001)
      | LearningRate(learning_rate=0.001)
    """
    rule = scale_by_adamw(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    return decayed(rule, learning_rate, weight_decay, mask)


def scale_by_adamax(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> UpdateRule:
    """The direction of `adamax`: m_t / nu_t."""
    return update_rule(Momentum(b1), InfinityMoment(b2, eps), Divide())


def adamax(learning_rate: Scalar, b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> UpdateRule:
    """Adam of the infinity norm (Kingma & Ba, arXiv:1412.6980, section 7).

        nu_t = max(b2 nu_{t-1}, |g_t| + eps),    p_t = p_{t-1} - learning_rate m_t / nu_t

    with m_t as in `adam`. As torch and Optax; Keras adds eps to the denominator instead.
    """
    return scale_by_adamax(b1, b2, eps).then(LearningRate(learning_rate))


def scale_by_adamaxw(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> UpdateRule:
    """The direction of `adamaxw` before weight decay: `scale_by_adamax`."""
    return scale_by_adamax(b1, b2, eps)


def adamaxw(
    learning_rate: Scalar,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-4,
    mask: Mask = None,
) -> UpdateRule:
    """`adamax` with decoupled weight decay, as in `adamw`."""
    return decayed(scale_by_adamaxw(b1, b2, eps), learning_rate, weight_decay, mask)
