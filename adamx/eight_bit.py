"""Slots in 8 bits: codes of a byte each, and one scale for each block of `adamx.blocks`.

Codes are what is left of a float32 number whose significand is cut short and whose exponent is counted from the block's largest. So the
grid on which the numbers of a block lie is the same in every step: what does not change is never rounded again, decoding and encoding are
shifts and masks, and every backend agrees to the bit.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from adamx.blocks import LANES, Blocks, are_filled, is_blocks, over_blocks, scales_shape, spread
from adamx.numerics import narrow
from adamx.rounding import Nearest, Rounding, Stochastic
from adamx.storage import Storage

# Bits of float32 numbers

SIGNIFICAND, EXPONENT = 23, 255


def _bits(x):
    return jax.lax.bitcast_convert_type(x, jnp.int32)


def _float(bits):
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _field(x):
    """The exponent field of |x|: 0 for 0 (and what is too small to be normal), 255 for what is not finite."""
    return (_bits(x) >> SIGNIFICAND) & EXPONENT


def _largest(x, scales):
    """The largest |x| of each block; NaN if one is NaN, as integers order them: XLA may leave a NaN out of a maximum of floats."""
    return _float(over_blocks(jnp.max, _bits(jnp.abs(x)), scales))


EIGHTH = 1 << (SIGNIFICAND - 3)
"""The eighth part of an octave, the coarsest step between codes, in bits of a number."""


def _top(largest):
    """Exponent field of blocks of which this is the largest |x|: such that it is not beyond the largest code."""
    return jnp.where(
        _field(largest) == EXPONENT, EXPONENT, jnp.minimum((_bits(largest) + EIGHTH - 1) >> SIGNIFICAND, 254)
    )


def _power(field):
    """The power of 2 with an exponent field from 1 to 254."""
    return _float(field << SIGNIFICAND)


def _scale(field, bits):
    """The scale of blocks whose largest number has this exponent field: `bits` of it; 0 and NaN as `Blocks` says."""
    return jnp.where(field == EXPONENT, jnp.nan, jnp.where(field == 0, 0, _float(bits)))


# Storages


@dataclasses.dataclass(frozen=True)
class Blockwise(Storage):
    """A slot in 8 bits, with one float32 scale for 64 numbers: 1.0625 bytes a parameter.

    Attributes:
      rounding: `Stochastic()`, with which every average moves as it should in the mean; or `Nearest()`, at which slow ones stand still.
      min_size: Leaves of fewer numbers stay in float32: they cost little, and are often what matters (biases, gains).
      where: None, or a function `where(path, shape) -> bool` of leaves that are kept so, the path as in `"params['dense']['bias']"`; the
        others stay in float32.
    """

    rounding: Rounding = Stochastic()
    min_size: int = 4096
    where: Callable | None = None

    def __post_init__(self):
        for name, fine, expected in (
            ("rounding", isinstance(self.rounding, Rounding), "Stochastic() or Nearest()"),
            ("min_size", type(self.min_size) is int and self.min_size >= 0, "a whole number >= 0"),
            ("where", self.where is None or callable(self.where), "a function where(path, shape) -> bool, or None"),
        ):
            if not fine:
                raise TypeError(f"{type(self).__name__}: {name} must be {expected}, got {getattr(self, name)!r}.")

    def init(self, x, path):
        if not self._takes(x.shape, path):
            return x
        if jnp.iscomplexobj(x):
            raise ValueError(
                f"the complex slot of {path} cannot be kept as {type(self).__name__}; keep it as Float32(), or leave the leaf out: "
                f"{type(self).__name__}(where=lambda path, shape: path != {path!r})."
            )
        return _encode(self, x, scales_shape(x.shape))

    def filled(self, fill, value, shape, dtype, path):
        if not self._takes(shape, path) or jnp.issubdtype(dtype, jnp.complexfloating):
            return super().filled(fill, value, shape, dtype, path)
        # All of its blocks are like one of a single number.
        one = _encode(self, jnp.full(1, value, jnp.float32), (LANES,))
        codes, scale = fill(one.codes[0], shape, jnp.int8), one.scales[0]
        if isinstance(codes, jax.core.Tracer) or len(codes.sharding.device_set) > 1:
            # Made of an array of the leaf's shape, they are divided as it is.
            return Blocks(codes, _largest(fill(scale, shape, jnp.float32), scales_shape(shape)))
        scales = jnp.where(are_filled(shape), scale, jnp.float32(0))
        return Blocks(codes, jax.device_put(scales, codes.sharding) if codes.committed else scales)

    def layout(self, shape, dtype, path):
        if not self._takes(shape, path):
            return jax.ShapeDtypeStruct(shape, dtype)
        codes = jax.ShapeDtypeStruct(shape, jnp.int8)
        return Blocks(codes, jax.ShapeDtypeStruct(scales_shape(shape), jnp.float32))

    def decode(self, stored, dtype):
        if not is_blocks(stored):
            return stored.astype(dtype)
        scale = spread(stored.scales, stored.codes)
        value = self._value(stored.codes.astype(jnp.int32), scale)
        return jnp.where(jnp.isnan(scale), scale, value).astype(dtype)

    def encode(self, x, stored, dither):
        return self._encode(x, stored.scales.shape, dither) if is_blocks(stored) else x.astype(stored.dtype)

    def _takes(self, shape, path):
        return math.prod(shape) >= self.min_size and (self.where is None or bool(self.where(path, shape)))

    def _encode(self, x, scales, dither):
        x = narrow(x, jnp.float32)
        scales = self._scales(x, scales)
        bits = None if dither is None or self.rounding == Nearest() else dither.bits(x)
        return Blocks(self._codes(x, spread(scales, x), bits).astype(jnp.int8), scales)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _encode(storage, x, scales):
    """Rounded to nearest, in one program where it is called outside of any."""
    return storage._encode(x, scales, None)


@dataclasses.dataclass(frozen=True)
class Int8(Blockwise):
    """A signed slot in 8 bits: a sign, 4 bits of exponent and 3 of significand below the block's largest power of 2 (as MXFP8's E4M3).

    Numbers within 2^-14 of the block's largest are kept to 1/8 to 1/16 of themselves, smaller ones to 2^-17 of the largest; what is below
    half of that is 0.
    """

    def check(self, slot):
        if not slot.signed:
            raise ValueError(
                f"slot {slot.name!r} is never negative, and is divided by: as Int8() what is small would become 0. Keep it as Log8()."
            )

    def _scales(self, x, scales):
        field = _top(_largest(x, scales))
        # So large that the unit, 2^-17 of it, is a normal number.
        return _scale(field, jnp.maximum(field, 18) << SIGNIFICAND)

    def _codes(self, x, scale, bits):
        size, top = jnp.abs(x), jnp.maximum(_field(scale), 18)
        field = jnp.maximum(_field(x), top - 14)
        # In eighths of its own power of 2: 8 to 16, or less than 8 below the smallest exponent.
        eighths = size * _power(257 - field)
        chance = 0.5 if bits is None else (bits >> 8).astype(jnp.int32).astype(jnp.float32) * 2.0**-24
        # At random, what is less than half a unit would now and then become one: a momentum many times too large.
        whole = jnp.floor(eighths + jnp.where(eighths < 1, 0.5, chance)).astype(jnp.int32)
        code = jnp.minimum((field - top + 14) * 8 + whole, 127)
        return jnp.where(x < 0, -code, code)

    def _value(self, codes, scale):
        code = jnp.abs(codes)
        eighths = jnp.where(code < 8, code, 8 + (code & 7)) << jnp.maximum((code >> 3) - 1, 0)
        value = eighths.astype(jnp.float32) * (scale * 2.0**-17)
        return jnp.where(codes < 0, -value, value)


@dataclasses.dataclass(frozen=True)
class Log8(Blockwise):
    """A slot that is never negative in 8 bits: 255 numbers, spread over the octaves that its block spans, and 0.

    A block whose numbers lie within 4, 8, 16 or 32 octaves has 64, 32, 16 or 8 codes an octave; where they spread wider, the smallest are
    held 32 octaves below the largest. Only what is exactly 0 becomes 0, so nothing is ever divided by a denominator that was rounded away.

    A scale is the largest power of 2 in its block, times 1, 1.25, 1.5 or 1.75 for 4, 8, 16 or 32 octaves.
    """

    def check(self, slot):
        if slot.signed:
            raise ValueError(f"slot {slot.name!r} has a sign, which Log8() does not keep. Keep it as Int8().")

    def _scales(self, x, scales):
        top = _top(_largest(x, scales))
        # Of what is not 0: the smallest exponent is the largest difference from the largest exponent there is. What is in the first eighth
        # of an octave counts as of the octave below, or it could not fall there: the first number of a window has no code.
        least = (_bits(x) - EIGHTH) >> SIGNIFICAND
        rest = over_blocks(jnp.max, jnp.where(_field(x) > 0, EXPONENT - least, 0), scales)
        octaves = top - (EXPONENT - rest) + 1
        which = (octaves > 4).astype(jnp.int32) + (octaves > 8).astype(jnp.int32) + (octaves > 16).astype(jnp.int32)
        return _scale(top, top << SIGNIFICAND | which << (SIGNIFICAND - 2))

    def _window(self, scale):
        """Bits of the number before the smallest that has a code, and how many of a number's last bits a code lacks."""
        which = (_bits(scale) >> (SIGNIFICAND - 2)) & 3
        return (_field(scale) + 1 - (4 << which)) << SIGNIFICAND, 17 + which

    def _codes(self, x, scale, bits):
        low, dropped = self._window(scale)
        chance = 1 << (dropped - 1) if bits is None else (bits >> (32 - dropped).astype(jnp.uint32)).astype(jnp.int32)
        code = (_bits(x) - low + chance) >> dropped
        return jnp.where(_field(x) > 0, jnp.clip(code, 1, 255), 0) - 128

    def _value(self, codes, scale):
        low, dropped = self._window(scale)
        return jnp.where(codes > -128, _float(jnp.maximum(low + ((codes + 128) << dropped), 0)), 0)


@dataclasses.dataclass(frozen=True)
class EightBit(Blockwise):
    """`Int8` for signed slots and `Log8` for those that are never negative: 2.125 bytes a parameter for Adam's two instead of 8."""

    def of(self, slot):
        kind = Int8 if slot.signed else Log8
        return kind(self.rounding, self.min_size, self.where)
