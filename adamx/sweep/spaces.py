"""Spaces of hyperparameters: named dimensions of a constructor, and the points drawn from them."""

import dataclasses
import itertools
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adamx.sweep.points import Points, check_names, listed, name_of, shown


@dataclasses.dataclass(frozen=True)
class Dimension:
    """The values that a hyperparameter may take. Made by `linear`, `log`, `log_complement` or `choice`.

    Attributes:
      at: Function from [0, 1) to a value, evenly spread.
      shown: How it prints.
      values: All values, of a choice; else None.
    """

    at: Callable[[float], Any]
    shown: str
    values: tuple[Any, ...] | None = None

    def __repr__(self):
        return self.shown


def linear(low: float, high: float) -> Dimension:
    """Real numbers from `low` to `high`, evenly."""
    _check_ends("linear", low, high)
    return Dimension(lambda u: _rounded(low + u * (high - low)), f"linear({low}, {high})")


def log(low: float, high: float) -> Dimension:
    """Positive numbers from `low` to `high`, evenly in their logarithm."""
    _check_ends("log", low, high, above=0)
    return Dimension(lambda u: _rounded(low * (high / low) ** u), f"log({low}, {high})")


def log_complement(low: float, high: float) -> Dimension:
    """Decay rates from `low` to `high` below 1, evenly in the logarithm of 1 - beta.

    >>> [log_complement(0.9, 0.999).at(u) for u in (0, 0.5, 1)]
    [0.9, 0.99, 0.999]
    """
    _check_ends("log_complement", low, high, below=1)
    ratio = (1 - high) / (1 - low)
    return Dimension(lambda u: _rounded(1 - (1 - low) * ratio**u), f"log_complement({low}, {high})")


def choice(*values: Any) -> Dimension:
    """One of `values`, which may be anything that the constructor takes: strings, numbers, None, other constructors."""
    if not values:
        raise ValueError("choice needs at least one value, got none.")
    named = ", ".join(repr(shown(value)) for value in values)
    return Dimension(lambda u: values[min(int(u * len(values)), len(values) - 1)], f"choice({named})", values)


def space(constructor: Callable[..., Any], **dimensions: Any) -> "Space":
    """The space of a constructor's hyperparameters.

    Args:
      constructor: A function that makes a rule (or `adamx.chain` of rules and Optax transformations) of named hyperparameters.
      **dimensions: For a hyperparameter, the values it may take (`linear`, `log`, `log_complement`, `choice`), or one fixed value.

    Raises:
      TypeError: a hyperparameter that the constructor does not have.
      ValueError: no dimensions.

    >>> space(adam, learning_rate=log(1e-4, 1), b2=log_complement(0.9, 0.999), eps=1e-6)
    adam(learning_rate=log(0.0001, 1), b2=log_complement(0.9, 0.999), eps=1e-06)
    """
    check_names(constructor, dimensions)
    if not any(isinstance(d, Dimension) for d in dimensions.values()):
        raise ValueError(
            f"an empty space: {name_of(constructor)} was given no dimension. Use linear, log, log_complement or choice, "
            "as in space(adam, learning_rate=log(1e-4, 1))."
        )
    return Space(constructor, dimensions)


@dataclasses.dataclass(frozen=True, eq=False)
class Space:
    """A space of hyperparameters; see `space`.

    Attributes:
      constructor: The function that makes a rule.
      dimensions: Hyperparameter -> `Dimension` or fixed value.
    """

    constructor: Callable[..., Any]
    dimensions: dict[str, Any]

    def __repr__(self):
        inner = ", ".join(f"{n}={d if isinstance(d, Dimension) else shown(d)}" for n, d in self.dimensions.items())
        return f"{name_of(self.constructor)}({inner})"

    def grid(self, **counts: int) -> Points:
        """Every combination of `counts` evenly spaced values of each dimension, ends included, and of all values of each choice.

        The last dimension varies fastest.

        >>> space(adam, learning_rate=log(1e-3, 1e-1), nesterov=choice(False, True)).grid(learning_rate=3).table()
           learning_rate  nesterov
        0          0.001     False
        1          0.001      True
        2          0.010     False
        3          0.010      True
        4          0.100     False
        5          0.100      True
        """
        spaced = {n for n, d in self._varied().items() if d.values is None}
        if wrong := set(counts) - spaced:
            raise ValueError(f"grid takes counts of the dimensions {_names(spaced)}, got one of {_names(wrong)}.")
        if missing := spaced - set(counts):
            raise ValueError(
                f"grid needs the number of values of {_names(missing)}: grid({sorted(missing)[0]}=5, ...)."
            )
        for name, count in counts.items():
            if not isinstance(count, numbers.Integral) or count < 1:
                raise ValueError(f"an empty grid: {name}={count!r} must be a number of values, 1 or more.")
        values: dict[str, Any] = {}
        for name, d in self.dimensions.items():
            if not isinstance(d, Dimension):
                values[name] = [d]
            elif d.values is not None:
                values[name] = d.values
            else:
                values[name] = [d.at(u) for u in (np.linspace(0, 1, counts[name]) if counts[name] > 1 else [0.5])]
        rows = itertools.product(*values.values())
        return listed(self.constructor, [dict(zip(values, row, strict=True)) for row in rows])

    def random(self, n: int, *, seed: int = 0) -> Points:
        """`n` points drawn independently."""
        return self._drawn(n, lambda d: np.random.default_rng(seed).uniform(size=(n, d)))

    def sobol(self, n: int, *, seed: int = 0) -> Points:
        """`n` points of a scrambled Sobol sequence, spread more evenly than random ones; best with a power of two."""
        return self._drawn(n, lambda d: _qmc().Sobol(d, rng=seed).random_base2(math.ceil(math.log2(n)))[:n])

    def halton(self, n: int, *, seed: int = 0) -> Points:
        """`n` points of a scrambled Halton sequence."""
        return self._drawn(n, lambda d: _qmc().Halton(d, rng=seed).random(n))

    def _varied(self):
        return {name: d for name, d in self.dimensions.items() if isinstance(d, Dimension)}

    def _drawn(self, n, sample):
        if not isinstance(n, numbers.Integral) or n < 1:
            raise ValueError(f"the number of points must be 1 or more, got {n!r}.")
        varied = self._varied()
        units = sample(len(varied))
        rows = [{n: d.at(float(u)) for (n, d), u in zip(varied.items(), us, strict=True)} for us in units]
        return listed(
            self.constructor, [{name: row.get(name, d) for name, d in self.dimensions.items()} for row in rows]
        )


def warmup_cosine(peak: Any, steps: int, *, warmup: Any = 0.0, end: Any = 0.0) -> jax.tree_util.Partial:
    """A learning rate that rises linearly to `peak` over the first `warmup` of the run, then falls as a cosine to `end` times `peak`.

    A `jax.tree_util.Partial`, so that every number of it is a leaf of the rule and may be swept.

    Args:
      peak: The greatest learning rate.
      steps: Length of the run.
      warmup: Share of the run, in [0, 1).
      end: The last learning rate, as a share of the peak.

    >>> print(*(f"{rate:.3f}" for rate in jax.vmap(warmup_cosine(1.0, 8, warmup=0.25))(jnp.arange(9))))
    0.000 0.500 1.000 0.933 0.750 0.500 0.250 0.067 0.000
    """
    return jax.tree_util.Partial(_warmup_cosine, peak, float(steps), warmup, end)


def _warmup_cosine(peak, steps, warmup, end, count):
    share = jnp.clip(jnp.asarray(count) / steps, 0, 1)
    rising = share / jnp.maximum(warmup, 1e-9)
    falling = jnp.cos(math.pi * jnp.clip((share - warmup) / (1 - warmup), 0, 1))
    return peak * jnp.where(share < warmup, rising, end + (1 - end) * (1 + falling) / 2)


def _check_ends(kind, low, high, above=-math.inf, below=math.inf):
    if not (isinstance(low, numbers.Real) and isinstance(high, numbers.Real)):
        raise TypeError(f"{kind} takes two numbers, got {low!r} and {high!r}.")
    if low > high:
        raise ValueError(f"{kind}({low}, {high}) has its ends swapped: write {kind}({high}, {low}).")
    if not (above < low < high < below):
        raise ValueError(f"{kind}({low}, {high}): expected two different numbers between {above} and {below}.")


def _rounded(value):
    # 12 digits, so that 0.001 does not print as 0.0010000000000000002.
    return float(f"{value:.12g}")


def _names(names):
    return ", ".join(map(repr, sorted(names))) or "(none)"


def _qmc():
    try:
        from scipy.stats import qmc
    except ImportError as error:
        raise ImportError('sobol and halton need SciPy: pip install "adamx[lab]"') from error
    return qmc
