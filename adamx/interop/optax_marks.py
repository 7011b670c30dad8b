"""What stands in the place of arrays in a pattern of Optax's state. A string is the slot of that name."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Count:
    """The number of updates made.

    Attributes:
      first: What Optax has there before the first update.
      scalar: A scalar slot that is the same number; None for none.
      of: What reads its schedules at this count.
    """

    first: int = 0
    scalar: str | None = None
    of: str = "moments"


@dataclasses.dataclass(frozen=True)
class Scalars:
    """Scalar slots that are all the same number."""

    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Constant:
    """A hyperparameter that Optax keeps in its state; it is written, and not read.

    Attributes:
      value: Number or tuple of numbers.
      like: A scalar slot of whose dtype it is; None for JAX's default.
    """

    value: Any
    like: str | None = None


@dataclasses.dataclass(frozen=True)
class Negative:
    """A slot with the other sign."""

    name: str

    def split(self, slots):
        """Optax's tree."""
        return jax.tree.map(jnp.negative, slots[self.name])

    def joined(self, tree, slots):
        """The slot."""
        return jax.tree.map(jnp.negative, tree)


@dataclasses.dataclass(frozen=True)
class Covers:
    """The slot of SM3's covers as lists with an array for each axis, for leaves of the shapes of slot `like`."""

    name: str
    like: str

    def split(self, slots):
        """The tree of lists."""

        def by_axis(cover, leaf):
            ends = [sum(jnp.shape(leaf)[: axis + 1]) for axis in range(jnp.ndim(leaf))]
            return [cover[end - n : end] for end, n in zip(ends, jnp.shape(leaf), strict=True)] if ends else [cover]

        return jax.tree.map(by_axis, slots[self.name], slots[self.like])

    def joined(self, lists, slots):
        """The slot."""

        def whole(leaf, covers):
            return jnp.concatenate(covers) if jnp.ndim(leaf) else covers[0]

        return jax.tree.map(whole, slots[self.like], lists)


COUNT = Count()
