"""How a slot is kept between steps, and how a parameter is rounded. A rule's arithmetic never sees either."""

import dataclasses

import jax
import jax.numpy as jnp

from adamx.numerics import narrow, round_stochastically


class Storage:
    """How one slot is kept. `init`, `decode` and `encode` are pure functions of arrays."""

    def check(self, slot):
        """Raises ValueError if this storage cannot keep `slot` soundly."""

    def init(self, x):
        """The stored form of the slot's first value `x`, an array in compute precision."""
        raise NotImplementedError

    def decode(self, stored, dtype):
        """The slot as an array of `dtype`."""
        raise NotImplementedError

    def encode(self, x, stored):
        """The stored form of `x`, of the same structure, shapes and dtypes as `stored`."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Float32(Storage):
    """The default: float32 whatever the parameter's precision; float64 for float64 parameters; complex for signed slots of complex ones."""

    def init(self, x):
        return x

    def decode(self, stored, dtype):
        return stored.astype(dtype)

    def encode(self, x, stored):
        return x.astype(stored.dtype)


@dataclasses.dataclass(frozen=True)
class Cast(Storage):
    """The slot cast to a narrower float `dtype`, rounded to nearest, its range never left. For signed slots only (momenta)."""

    dtype: str

    def check(self, slot):
        if not slot.signed:
            raise ValueError(
                f"slot {slot.name!r} cannot be kept as {self.dtype}: at a decay rate of 0.999 a second moment changes by less than half a "
                f"unit in the last place, so rounding to nearest would freeze it. Keep {slot.name!r} as Float32()."
            )

    def init(self, x):
        if jnp.iscomplexobj(x):
            raise ValueError(f"a complex slot cannot be kept as {self.dtype}; keep it as Float32().")
        return x.astype(self.dtype)

    def decode(self, stored, dtype):
        return stored.astype(dtype)

    def encode(self, x, stored):
        return narrow(x, self.dtype)


def BFloat16():  # noqa: N802  (a storage reads as a type: store(mu=BFloat16()))
    """`Cast("bfloat16")`: half the bytes of a momentum."""
    return Cast("bfloat16")


def storage_in(dtype):
    """The storage of a momentum in a float `dtype`: `Float32` for 32 bits or more, else a `Cast`."""
    return Float32() if jnp.finfo(dtype).bits >= 32 else Cast(jnp.dtype(dtype).name)


class Rounding:
    """How `step` brings the new parameter back to the parameter's dtype, where that is narrower than float32."""

    def __call__(self, x, dtype, key):
        """`x` as `dtype`; `key` yields the key of this step and leaf."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Nearest(Rounding):
    """To nearest, as `optax.apply_updates` does: updates below half a unit in the last place are lost."""

    def __call__(self, x, dtype, key):
        return narrow(x, dtype)


@dataclasses.dataclass(frozen=True)
class Stochastic(Rounding):
    """Up or down at random with the exact value as mean: small updates move the parameter on average.

    The random bits depend on `seed`, the step count and the leaf's position only, so replicas agree and runs repeat.
    """

    seed: int = 0

    def __call__(self, x, dtype, key):
        if x.dtype != jnp.float32 or jnp.finfo(dtype).bits >= 32:
            return narrow(x, dtype)
        return round_stochastically(x, dtype, jax.random.fold_in(jax.random.key(self.seed), key))
