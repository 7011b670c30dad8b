"""How a slot is kept between steps, and how a parameter is rounded. A rule's arithmetic never sees either."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from adamx.numerics import narrow
from adamx.randomness import leaf_keys, round_stochastically


class Storage:
    """How one slot is kept. `init`, `decode` and `encode` are pure functions of arrays."""

    def check(self, slot: Any) -> None:
        """Raises ValueError if this storage cannot keep `slot` soundly."""

    def init(self, x: jax.Array) -> Any:
        """The stored form of the slot's first value `x`, an array in compute precision."""
        raise NotImplementedError

    def layout(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """What `init` makes of an array of `shape` and `dtype`, as `jax.ShapeDtypeStruct`s."""
        raise NotImplementedError

    def decode(self, stored: Any, dtype: Any) -> jax.Array:
        """The slot as an array of `dtype`."""
        raise NotImplementedError

    def encode(self, x: jax.Array, stored: Any) -> Any:
        """The stored form of `x`, of the same structure, shapes and dtypes as `stored`."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Float32(Storage):
    """The default: float32 whatever the parameter's precision; float64 for float64 parameters; complex for signed slots of complex ones."""

    def init(self, x):
        return x

    def layout(self, shape, dtype):
        return jax.ShapeDtypeStruct(shape, dtype)

    def decode(self, stored, dtype):
        return stored.astype(dtype)

    def encode(self, x, stored):
        return x.astype(stored.dtype)


@dataclasses.dataclass(frozen=True)
class Cast(Storage):
    """The slot cast to a narrower float `dtype`, rounded to nearest, its range never left. For signed slots only (momenta)."""

    dtype: Any

    def __post_init__(self):
        object.__setattr__(self, "dtype", _float_dtype(self.dtype).name)

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

    def layout(self, shape, dtype):
        return jax.ShapeDtypeStruct(shape, self.dtype)

    def decode(self, stored, dtype):
        return stored.astype(dtype)

    def encode(self, x, stored):
        return narrow(x, stored.dtype)


def BFloat16() -> Cast:  # noqa: N802  (a storage reads as a type: store(mu=BFloat16()))
    """`Cast("bfloat16")`: half the bytes of a momentum."""
    return Cast("bfloat16")


def storage_in(dtype: Any) -> Storage:
    """The storage of a momentum in a float `dtype`: `Float32` for 32 bits or more, else a `Cast`.

    Raises:
      TypeError: not the name or type of a real floating dtype of at least 16 bits.
    """
    dtype = _float_dtype(dtype)
    return Float32() if jnp.finfo(dtype).bits >= 32 else Cast(dtype.name)


def _float_dtype(dtype):
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating) or jnp.finfo(found).bits < 16:
        raise TypeError(
            f"a momentum is kept in a floating dtype: jnp.bfloat16, jnp.float16 or jnp.float32 (or its name), got {dtype!r}."
        )
    return found


class Rounding:
    """How `step` brings the new parameter back to the parameter's dtype, where that is narrower than float32."""

    def keys(self, count: jax.Array, leaves: int) -> jax.Array | None:
        """A key for each of so many leaves in the step after `count`, an array; None if no random bits are needed."""
        return None

    def __call__(self, x: jax.Array, dtype: Any, key: jax.Array | None) -> jax.Array:
        """`x` as `dtype`; `key` is the leaf's, or None."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Nearest(Rounding):
    """To nearest, as `optax.apply_updates` does: updates below half a unit in the last place are lost."""

    def __call__(self, x, dtype, key):
        return narrow(x, dtype)


@dataclasses.dataclass(frozen=True)
class Stochastic(Rounding):
    """Up or down at random with the exact value as mean: small updates move the parameter on average.

    The random bits are a hash of `seed`, the step count, the leaf's place in the tree and the element's position in the whole array, so
    that runs repeat and replicas agree, on any number of devices. Lanes of a `vmap`, and shards under `shard_map`, have bits of their own.
    """

    seed: int = 0

    def keys(self, count, leaves):
        return leaf_keys(self.seed, count, leaves)

    def __call__(self, x, dtype, key):
        return narrow(x, dtype) if key is None else round_stochastically(x, dtype, key)
