"""Estimates of the Hessian's diagonal, for rules that take the argument `hessian` (`sophia`, `adahessian`)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from adamx.annotations import Tree


def hutchinson(loss: Callable[[Any], Any], params: Tree, key: jax.Array) -> Tree:
    """Hutchinson's estimate of the diagonal of the Hessian of `loss`: z (H z), elementwise, for random signs z.

    Its mean over `key`s is the diagonal; where the Hessian is diagonal, every draw is. It costs about two gradients.

    Args:
      loss: Function of the parameters alone, a real scalar, twice differentiable.
      params: Tree of real arrays.
      key: A key of `jax.random`.

    Returns:
      A tree like `params`, in their dtypes.

    >>> def loss(p):
    ...     return jnp.sum(jnp.array([1.0, 2.0]) * p["w"] ** 2)
    >>> params = {"w": jnp.array([3.0, -4.0])}
    >>> print(hutchinson(loss, params, jax.random.key(0))["w"])
    [2. 4.]
    >>> rule = sophia(0.1)
    >>> updates, state = rule.update(
    ...     jax.grad(loss)(params), rule.init(params), params, hessian=hutchinson(loss, params, jax.random.key(1))
    ... )
    """
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, max(1, len(leaves)))
    signs = [jax.random.rademacher(k, jnp.shape(p), jnp.result_type(p)) for k, p in zip(keys, leaves, strict=False)]
    signs = jax.tree.unflatten(structure, signs)
    _, product = jax.jvp(jax.grad(loss), (params,), (signs,))
    return jax.tree.map(jnp.multiply, signs, product)


def gauss_newton_bartlett(logits: Callable[[Any], jax.Array], params: Tree, key: jax.Array) -> Tree:
    """The Gauss-Newton-Bartlett estimate of the diagonal of the Gauss-Newton matrix of a mean cross-entropy: n G^2, elementwise.

    G is the gradient of the loss with labels drawn from the model's own predictions, n the number of predictions. It is never negative, and
    costs about one gradient.

    Args:
      logits: Function of the parameters alone: an array (..., classes) of unnormalised log-probabilities.
      params: Tree of real arrays.
      key: A key of `jax.random`.

    Returns:
      A tree like `params`, in their dtypes.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    >>> estimate = gauss_newton_bartlett(lambda p: x @ p, jnp.zeros((2, 3)), jax.random.key(0))
    >>> estimate.shape, bool(jnp.all(estimate >= 0))
    ((2, 3), True)
    """
    predicted, pull_back = jax.vjp(logits, params)
    labels = jax.random.categorical(key, jax.lax.stop_gradient(predicted))
    n = max(1, labels.size)
    slope = (jax.nn.softmax(predicted) - jax.nn.one_hot(labels, predicted.shape[-1], dtype=predicted.dtype)) / n
    (gradient,) = pull_back(slope)
    return jax.tree.map(lambda g: n * g * g, gradient)
