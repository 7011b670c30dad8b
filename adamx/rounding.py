"""How a number is brought to a narrower dtype: of parameters in `step`, and of slots by their storage."""

import dataclasses

from adamx.numerics import narrow
from adamx.randomness import dithers, round_stochastically


class Rounding:
    """How numbers in compute precision become the narrower ones that are kept."""

    def dithers(self, count, leaves, stream=0):
        """The `Dither` of each of so many leaves in the step after `count`, as one of arrays; None if no random bits are needed."""
        return None

    def __call__(self, x, dtype, dither):
        """`x` as `dtype`; `dither` is the leaf's, or None."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Nearest(Rounding):
    """To nearest, as `optax.apply_updates` does: what is below half a unit in the last place is lost."""

    def __call__(self, x, dtype, dither):
        return narrow(x, dtype)


@dataclasses.dataclass(frozen=True)
class Stochastic(Rounding):
    """Up or down at random with the exact value as mean: small updates move what is kept on average.

    The random bits come from a hash of `seed`, the leaf's place in the tree and the element's position in the whole array, and from the
    step count (`Dither`), so that runs repeat and replicas agree, on any number of devices. Lanes of a `vmap`, and shards under
    `shard_map`, have bits of their own.
    """

    seed: int = 0

    def dithers(self, count, leaves, stream=0):
        return dithers(self.seed, count, leaves, stream)

    def __call__(self, x, dtype, dither):
        return narrow(x, dtype) if dither is None else round_stochastically(x, dtype, dither.bits(x))
