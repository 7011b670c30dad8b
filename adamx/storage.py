"""How a slot is kept between steps. A rule's arithmetic never sees it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from adamx.randomness import Dither
from adamx.rounding import Nearest, Rounding, Stochastic


class Storage:
    """How one slot is kept. `init`, `decode` and `encode` are pure functions of arrays."""

    rounding: Rounding = Nearest()

    def of(self, slot: Any) -> "Storage":
        """The storage of `slot`, for one that depends on what the slot is."""
        return self

    def check(self, slot: Any) -> None:
        """Raises ValueError if this storage cannot keep `slot` soundly."""

    def init(self, x: jax.Array, path: str) -> Any:
        """The stored form of the slot's first value `x`, an array in compute precision, for the leaf at `path`."""
        raise NotImplementedError

    def filled(self, fill: Callable, value: Any, shape: tuple[int, ...], dtype: Any, path: str) -> Any:
        """What `init` makes of an array whose numbers are all `value`; `fill(value, shape, dtype)` makes one, sharded as the leaf."""
        return self.init(fill(value, shape, dtype), path)

    def layout(self, shape: tuple[int, ...], dtype: Any, path: str) -> Any:
        """What `init` makes of an array of `shape` and `dtype`, as `jax.ShapeDtypeStruct`s."""
        raise NotImplementedError

    def decode(self, stored: Any, dtype: Any) -> jax.Array:
        """The slot as an array of `dtype`."""
        raise NotImplementedError

    def encode(self, x: jax.Array, stored: Any, dither: Dither | None) -> Any:
        """The stored form of `x`, of the same structure, shapes and dtypes as `stored`; `dither` is what `rounding` needs, or None."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Float32(Storage):
    """The default: float32 whatever the parameter's precision; float64 for float64 parameters; complex for signed slots of complex ones."""

    def init(self, x, path):
        return x

    def layout(self, shape, dtype, path):
        return jax.ShapeDtypeStruct(shape, dtype)

    def decode(self, stored, dtype):
        return stored.astype(dtype)

    def encode(self, x, stored, dither):
        return x.astype(stored.dtype)


@dataclasses.dataclass(frozen=True)
class Cast(Storage):
    """The slot in a narrower float `dtype`, its range never left.

    Attributes:
      dtype: Name or type of a real floating dtype of at least 16 bits.
      rounding: `Stochastic()`, with which every average moves as it should in the mean; or `Nearest()`, for signed slots only.
    """

    dtype: Any
    rounding: Rounding = Stochastic()

    def __post_init__(self):
        object.__setattr__(self, "dtype", _float_dtype(self.dtype).name)

    def check(self, slot):
        if not slot.signed and self.rounding == Nearest():
            raise ValueError(
                f"slot {slot.name!r} cannot be kept as {self.dtype} rounded to nearest: at a decay rate of 0.999 a second moment changes "
                f"by less than half a unit in the last place, which would freeze it. Round it at random: {slot.name}=Cast({self.dtype!r})."
            )
        if not slot.signed and jnp.finfo(self.dtype).nexp < 8:
            raise ValueError(
                f"slot {slot.name!r} cannot be kept as {self.dtype}, whose smallest numbers are too large for squares: it would become 0, "
                f"and is divided by. Keep it as BFloat16()."
            )

    def init(self, x, path):
        if jnp.iscomplexobj(x):
            raise ValueError(f"a complex slot ({path}) cannot be kept as {self.dtype}; keep it as Float32().")
        return x.astype(self.dtype)

    def layout(self, shape, dtype, path):
        return jax.ShapeDtypeStruct(shape, self.dtype)

    def decode(self, stored, dtype):
        return stored.astype(dtype)

    def encode(self, x, stored, dither):
        return self.rounding(x, stored.dtype, dither)


def BFloat16(rounding: Rounding = Cast.rounding) -> Cast:  # noqa: N802  (a storage reads as a type: store(mu=BFloat16()))
    """`Cast("bfloat16", rounding)`: half the bytes of a slot."""
    return Cast("bfloat16", rounding)


def storage_in(dtype: Any) -> Storage:
    """The storage of a momentum in a float `dtype`, as Optax's `mu_dtype`: `Float32` for 32 bits or more, else rounded to nearest.

    Raises:
      TypeError: not the name or type of a real floating dtype of at least 16 bits.
    """
    dtype = _float_dtype(dtype)
    return Float32() if jnp.finfo(dtype).bits >= 32 else Cast(dtype.name, Nearest())


def _float_dtype(dtype):
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating) or jnp.finfo(found).bits < 16:
        raise TypeError(
            f"a slot is kept in a floating dtype: jnp.bfloat16, jnp.float16 or jnp.float32 (or its name), got {dtype!r}."
        )
    return found
