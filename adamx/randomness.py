"""Random bits from counters, and the rounding that uses them.

A bit is a hash of numbers (seed, step, leaf, position): nothing is stored, it is computed inside the loop that needs it, and it is the
same wherever that loop runs.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx.meshes import varying
from adamx.numerics import narrow, within


def mixed(x):
    """A hash of uint32 numbers: a bijection in which each input bit changes each output bit half of the time.

    Two rounds of multiply and xor-shift, with the multipliers that C. Wellons found by search ("lowbias32").
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def leaf_keys(seed, count, leaves, stream=0):
    """A key for each of so many leaves in the step after `count`: uint32, another one for each `stream` of them."""
    start = jnp.uint32((seed + stream * GOLDEN) % 2**32)
    return mixed(mixed(mixed(start) + count.astype(jnp.uint32)) + jnp.arange(leaves, dtype=jnp.uint32))


class Dither(NamedTuple):
    """The random bits of one rounding: a hash of (seed, stream, leaf, position), moved on by the golden ratio in each step.

    So each element is rounded up as often as its value asks for, and at times that are spread evenly: what an average is rounded to in many
    steps strays less than with bits of their own in each step.

    Attributes:
      key: Of the leaf, uint32, a scalar.
      shift: Of the step, uint32, a scalar.
      positions: Position of each element in the whole array, uint32; None where they are those of the array that is rounded, in which case
        `key` does not say yet which of many such arrays (lanes, shards) it is.
    """

    key: jax.Array
    shift: jax.Array
    positions: jax.Array | None = None

    def bits(self, x):
        """Random uint32 numbers of the shape of `x`."""
        here = self if self.positions is not None else self.of(x)._replace(positions=_positions(x))
        return mixed(here.positions * jnp.uint32(GOLDEN) + here.key) + here.shift

    def of(self, x):
        """The same for this very array `x`, whose `positions` are still to be told."""
        return self._replace(key=mixed(self.key + _place(x)))


GOLDEN = 0x9E3779B1
"""2^32 divided by the golden ratio, made a prime: its multiples are spread evenly."""


def dithers(seed, count, leaves, stream=0):
    """The `Dither` of each of so many leaves in the step after `count`, as one of arrays."""
    first = leaf_keys(seed, jnp.uint32(0), leaves, stream)
    return Dither(first, jnp.broadcast_to(count.astype(jnp.uint32) * jnp.uint32(GOLDEN), first.shape))


def standard_normal(x: Any, key: jax.Array) -> jax.Array:
    """Random numbers of the standard normal distribution, float32 of the shape of `x`, for a uint32 `key`, a scalar."""
    # The upper 23 bits, as the middle of one of 2^23 parts of (-1, 1).
    uniform = (random_bits(x, key) >> 9).astype(jnp.float32) * jnp.float32(2**-22) + jnp.float32(2**-23 - 1)
    return jnp.float32(2**0.5) * jax.lax.erf_inv(uniform)


def random_bits(x: Any, key: jax.Array) -> jax.Array:
    """Random uint32 numbers of the shape of `x`, for a uint32 `key`, a scalar."""
    return Dither(key, jnp.uint32(0)).bits(x)


def _positions(x):
    """Position of each element in the whole array (modulo 2^32), sharded as the array is."""
    sharding = jax.typeof(x).sharding
    explicit = jax.sharding.AxisType.Explicit in sharding.mesh.axis_types
    iota = functools.partial(jax.lax.broadcasted_iota, jnp.uint32, x.shape, out_sharding=sharding if explicit else None)
    strides = [x.size // max(1, functools.reduce(int.__mul__, x.shape[: d + 1], 1)) for d in range(x.ndim)]
    parts = [iota(d) * jnp.uint32(stride % 2**32) for d, stride in enumerate(strides) if x.shape[d] > 1]
    return sum(parts[1:], parts[0]) if parts else jnp.uint32(0)


def _place(x):
    """Which of many like it this computation on `x` is: the lane of a `vmap`, the shard of a `shard_map`; 0 for the only one."""
    shard = jnp.uint32(0)
    for axis in sorted(varying(x)):
        shard = shard * jnp.uint32(jax.lax.axis_size(axis)) + jax.lax.axis_index(axis).astype(jnp.uint32)
    return shard + _lane(jax.lax.stop_gradient(x))


@jax.custom_batching.custom_vmap
def _lane(x):
    return jnp.uint32(0)


@_lane.def_vmap
def _lanes(size, batched, x):
    outer = _lane(x[0])
    return mixed(jnp.arange(size, dtype=jnp.uint32)) + outer * jnp.uint32(GOLDEN), True


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def round_stochastically(x, dtype, bits):
    """`x` (float32 or wider) as the narrower `dtype`, up or down with probabilities that keep the mean; its derivative is 1.

    Random `bits` (uint32, of the shape of x) are added below the last kept bit of the significand, then cut off. What is beyond the dtype's
    range is held at its end.
    """
    limits = jnp.finfo(dtype)
    dropped, smallest = 23 - limits.nmant, float(limits.tiny)
    x = within(narrow(x, jnp.float32), dtype)
    # Below the smallest normal number the grid is as coarse as just above it.
    subnormal = (jnp.abs(x) < smallest) & (smallest > float(jnp.finfo(x.dtype).tiny))
    lift = jnp.where(subnormal, jnp.copysign(jnp.float32(smallest), x), 0)
    raised = jax.lax.bitcast_convert_type(x + lift, jnp.uint32) + (bits >> (32 - dropped))
    cut = jax.lax.bitcast_convert_type((raised >> dropped) << dropped, jnp.float32)
    return jnp.where(jnp.isfinite(x), cut - lift, x).astype(dtype)


@round_stochastically.defjvp
def _round_stochastically_jvp(dtype, primals, tangents):
    (x, bits), (dx, _) = primals, tangents
    return round_stochastically(x, dtype, bits), dx.astype(dtype)
