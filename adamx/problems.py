"""Small problems on which optimizers show their character: test functions, counterexamples, noise.

Each is a `Problem`: a pure function of parameters, key and step number, with its known optimum as data. `minimise` runs a rule on one in
a single `lax.scan`; `jax.vmap` it over keys or over a batched rule.

>>> run = minimise(adam(0.1), parabola, steps=200)
>>> bool(jnp.all(jnp.abs(run.params) < 0.05))
True
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adamx.annotations import Tree


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something to minimise.

    Attributes:
      name: Its name.
      loss: Pure function (params, key, step) -> scalar; step counts from 1.
      start: Customary first parameters, as a tuple (or a number).
      optima: The known minimisers, a tuple of such.
      minimum: Loss there; of the expected loss, where the loss is random; None where it changes from step to step.
      box: (lower, upper) bound of every coordinate, to which parameters are projected after each step; None for none.
    """

    name: str
    loss: Callable[[Any, jax.Array, Any], jax.Array]
    start: Any
    optima: tuple[Any, ...]
    minimum: float | None = 0.0
    box: tuple[float, float] | None = None

    def project(self, params: Tree) -> Tree:
        """The nearest point of the box."""
        return params if self.box is None else optax.projections.projection_box(params, *self.box)


# Test functions


def _parabola(x, key, step):
    return jnp.sum(jnp.square(x))


def _rosenbrock(x, key, step):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def _beale(x, key, step):
    a, b = x
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def _himmelblau(x, key, step):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def _rastrigin(x, key, step):
    return 10 * x.size + jnp.sum(x**2 - 10 * jnp.cos(2 * math.pi * x))


parabola = Problem("parabola", _parabola, (2.0, -3.0), ((0.0, 0.0),))
"""sum of x_i^2."""

rosenbrock = Problem("rosenbrock", _rosenbrock, (-1.2, 1.0), ((1.0, 1.0),))
"""100 (x_2 - x_1^2)^2 + (1 - x_1)^2: a curved valley."""

beale = Problem("beale", _beale, (1.0, 1.0), ((3.0, 0.5),))
"""(1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2: flat far out, steep at the corners."""

himmelblau = Problem(
    "himmelblau",
    _himmelblau,
    (0.0, 0.0),
    (
        (3.0, 2.0),
        (-2.805118086953, 3.131312518250),
        (-3.779310253378, -3.283185991286),
        (3.584428340330, -1.848126526964),
    ),
)
"""(x^2 + y - 11)^2 + (x + y^2 - 7)^2: four equal minima."""

rastrigin = Problem("rastrigin", _rastrigin, (2.2, -1.7), ((0.0, 0.0),))
"""10 n + sum of x_i^2 - 10 cos(2 pi x_i): a lattice of local minima."""


def quadratic(condition: float, dimension: int = 2) -> Problem:
    """Ill-conditioned quadratic sum of c_i x_i^2 / 2, the c_i log-spaced from 1 / condition to 1; start at ones."""
    if condition < 1 or dimension < 1:
        raise ValueError(f"a quadratic needs condition >= 1 and dimension >= 1, got {condition} and {dimension}.")
    curvatures = [condition ** (i / max(dimension - 1, 1) - 1) for i in range(dimension)]

    def loss(x, key, step):
        return jnp.sum(jnp.asarray(curvatures, x.dtype) * x**2) / 2

    return Problem(f"quadratic_{condition:g}", loss, (1.0,) * dimension, ((0.0,) * dimension,))


# Counterexamples: linear losses f_t(x) = c_t x on [-1, 1], whose best fixed x is -1


def _linear(name, coefficient, start, mean):
    def loss(x, key, step):
        return jnp.sum(coefficient(key, step) * x)

    return Problem(name, loss, start, (-1.0,), minimum=-mean if mean is not None else None, box=(-1.0, 1.0))


def _online(key, step):
    return jnp.where(step % 101 == 1, 1010.0, -10.0)


def _stochastic(key, step):
    return jnp.where(jax.random.bernoulli(key, 0.01), 1010.0, -10.0)


online = _linear("online", _online, 0.0, None)
"""Reddi, Kale & Kumar (2018), section 3: f_t(x) = 1010 x if t mod 101 = 1, else -10 x. Adam goes to +1, the worst point."""

stochastic = _linear("stochastic", _stochastic, 0.0, 0.2)
"""The same at random: 1010 x with probability 0.01, else -10 x; 0.2 x on average."""


def theorem_1(c: float = 3.0) -> Problem:
    """Reddi, Kale & Kumar (2018), theorem 1: f_t(x) = c x if t mod 3 = 1, else -x; from x = 1, with c > 2.

    With b1 = 0, b2 = 1 / (1 + c^2) and a learning rate that falls as 1/sqrt(t), Adam stays at +1.
    """
    if c <= 2:
        raise ValueError(f"theorem 1 needs c > 2, for the best fixed point to be -1; got {c}.")
    return _linear(f"theorem_1_{c:g}", lambda key, step: jnp.where(step % 3 == 1, float(c), -1.0), 1.0, None)


PROBLEMS = {p.name: p for p in (parabola, quadratic(1e4), rosenbrock, beale, himmelblau, rastrigin, online, stochastic)}
"""Name -> problem, those without a choice of parameters (and one quadratic)."""


# Noise: the gradient of the noisy problem is that of the problem, disturbed; its loss is the same


def with_noise(problem: Problem, noise: Callable[[jax.Array, Any], Any], name: str) -> Problem:
    """`problem` with noise(key, gradient) added to its gradient."""

    def loss(params, key, step):
        key, own = jax.random.split(key)
        value, grads = jax.value_and_grad(problem.loss)(params, key, step)
        moved = jax.tree.map(lambda p: p - jax.lax.stop_gradient(p), params)
        return problem.loss(params, key, step) + optax.tree_utils.tree_vdot(
            jax.lax.stop_gradient(noise(own, grads)), moved
        )

    return dataclasses.replace(problem, name=f"{problem.name}_{name}", loss=loss)


def gaussian(problem: Problem, scale: float = 1.0) -> Problem:
    """`problem` with Gaussian gradient noise of standard deviation `scale`."""
    return with_noise(problem, lambda key, g: scale * jax.random.normal(key, g.shape, g.dtype), f"gaussian_{scale:g}")


def heavy_tailed(problem: Problem, degrees_of_freedom: float = 2.0, scale: float = 1.0) -> Problem:
    """`problem` with Student-t gradient noise; at 2 degrees of freedom or fewer its variance is infinite."""
    name = f"student_t_{degrees_of_freedom:g}"
    return with_noise(problem, lambda key, g: scale * jax.random.t(key, degrees_of_freedom, g.shape, g.dtype), name)


def sparse(problem: Problem, density: float = 0.1) -> Problem:
    """`problem` with each coordinate of its gradient shown with probability `density`, scaled up by its inverse, else zero."""
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1], got {density}.")
    return with_noise(
        problem, lambda key, g: (jax.random.bernoulli(key, density, g.shape) / density - 1) * g, f"sparse_{density:g}"
    )


def minibatch(problem: Problem, size: int) -> Problem:
    """`problem` with its loss averaged over `size` independent draws a step."""
    if size < 1:
        raise ValueError(f"a minibatch needs a size of at least 1, got {size}.")

    def loss(params, key, step):
        return jnp.mean(jax.vmap(problem.loss, (None, 0, None))(params, jax.random.split(key, size), step))

    return dataclasses.replace(problem, name=f"{problem.name}_minibatch_{size}", loss=loss)


# Running a rule


class Run(NamedTuple):
    """What `minimise` returns.

    Attributes:
      params: The last parameters.
      state: The optimizer's last state.
      steps: Step numbers at which the following were recorded, shape (n,).
      path: Parameters after those steps, leading axis n.
      losses: Loss met in those steps, before the update, shape (n,).
      regret: Average regret up to those steps: mean of f_t(x_t) - f_t(best), shape (n,); with the first of `optima` as the best.
    """

    params: Any
    state: Any
    steps: jax.Array
    path: Any
    losses: jax.Array
    regret: jax.Array

    def last(self) -> "Run":
        """The run with its last record alone, all that `minimise` needs to go on: of one shape, so that parts of a run share a program."""
        records = jax.tree.map(lambda x: x[-1:], self[2:])
        return Run(self.params, self.state, *records)


def begin(tx: optax.GradientTransformation, problem: Problem, start: Any = None) -> Run:
    """The `Run` of `tx` on `problem` before its first step, to be given to `minimise`; from the problem's own start if None is given."""
    params = jnp.asarray(problem.start if start is None else start, jnp.result_type(float))
    zero = jnp.zeros(1, params.dtype)
    return Run(params, tx.init(params), jnp.arange(1), params[None], zero, zero)


def minimise(
    tx: optax.GradientTransformation,
    problem: Problem,
    steps: int,
    *,
    key: jax.Array | None = None,
    start: Any = None,
    every: int = 1,
    after: Run | None = None,
) -> Run:
    """Runs an optimizer on a problem, all in one `lax.scan`.

    Args:
      tx: A rule, or any gradient transformation.
      problem: A `Problem`.
      steps: How many, a multiple of `every`.
      key: PRNG key of the problem's randomness; `jax.random.key(0)` if None.
      start: First parameters; the problem's own if None.
      every: Record each `every`-th step.
      after: A `Run` of the same optimizer, problem and key to go on from (`begin` or an earlier part's `last`), instead of a start: long
        runs in parts, with progress shown.

    Returns:
      A `Run`.
    """
    if steps % every or steps < 1:
        raise ValueError(f"steps must be a positive multiple of every={every}, got {steps}.")
    after = begin(tx, problem, start) if after is None else after
    params, first = after.params, after.steps[-1]
    carried = (params, after.state, after.regret[-1], after.losses[-1])
    best = jnp.asarray(problem.optima[0], params.dtype)
    key = jax.random.key(0) if key is None else key
    grad = jax.value_and_grad(problem.loss)

    def step(carry, t):
        params, state, total, _ = carry
        own = jax.random.fold_in(key, t)
        value, grads = grad(params, own, t)
        updates, state = tx.update(grads, state, params)
        total = total + (value - problem.loss(best, own, t))
        return (problem.project(optax.apply_updates(params, updates)), state, total, value), None

    def record(carry, t):
        params, state, mean, value = carry
        block = jnp.arange(every) + t - every + 1
        # Sums of one block at a time: a float32 running sum over millions of steps would stall.
        (params, state, total, value), _ = jax.lax.scan(step, (params, state, jnp.zeros_like(mean), value), block)
        mean = mean + (total / every - mean) * (every / t)
        return (params, state, mean, value), (params, value, mean)

    numbers = first + jnp.arange(1, steps // every + 1) * every
    (params, state, _, _), (path, losses, regret) = jax.lax.scan(record, carried, numbers)
    return Run(params, state, numbers, path, losses, regret)
