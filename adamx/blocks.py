"""How a leaf is cut into blocks of 64 numbers that share one scale.

A block runs down an axis of the leaf, so codes have the leaf's shape (and sharding), and scales that shape with this axis 64 times shorter:
both are dense in the axis that lies densest in memory. That is the last one; or the one before it, where only that is a multiple of 128
(TPUs then keep an array so). The axis of the blocks is the other of the two if it is 64 or longer, else the longest before the last. A leaf
without one of 32 or more (a vector, a few rows) is taken as rows of 128, down which the blocks run.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx.meshes import divided_as, parts, whole

BLOCK = 64
LANES = 128
"""Length of the rows of a leaf that has no axis for blocks to run down."""


class Blocks(NamedTuple):
    """A slot of one leaf in 8 bits.

    Attributes:
      codes: int8, of the leaf's shape.
      scales: float32, one a block: 0 where all of the block is zero, NaN where some of it was not finite.
    """

    codes: jax.Array
    scales: jax.Array


def is_blocks(node):
    """Whether `node` of a tree of slots is one leaf in 8 bits."""
    return isinstance(node, Blocks)


def axis_of_blocks(shape):
    """The axis of a leaf down which blocks run; None for one that is taken as rows of 128."""
    if len(shape) > 1:
        axis = len(shape) - (1 if shape[-1] % LANES and not shape[-2] % LANES else 2)
        if shape[axis] >= BLOCK:
            return axis
    longest = max(range(len(shape) - 1), key=lambda axis: shape[axis], default=None)
    return longest if longest is not None and shape[longest] >= BLOCK // 2 else None


def scales_shape(shape):
    """Shape of the scales of a leaf; of one that is taken as rows, all scales in a row."""
    axis = axis_of_blocks(shape)
    if axis is None:
        return (-(-math.prod(shape) // (BLOCK * LANES)) * LANES,)
    return (*shape[:axis], -(-shape[axis] // BLOCK), *shape[axis + 1 :])


def are_filled(shape):
    """Which of a leaf's blocks, in the shape of its scales, have numbers: of rows that are shorter than 128, not all."""
    scales = scales_shape(shape)
    if axis_of_blocks(shape) is not None:
        return np.ones(scales, bool)
    first = np.arange(scales[0] // LANES)[:, None] * (BLOCK * LANES) + np.arange(LANES)
    return first.reshape(scales) < math.prod(shape)


def _split(shape, scales):
    """How an array of `shape`, a leaf or a part of one, is cut into blocks with these `scales` (a shape).

    Returns:
      The shape in which it is taken, before it is filled up to whole blocks; the axis of blocks; and the shape in which that axis is two.
    """
    if len(scales) == 1:
        shape, scales = (math.prod(shape),), (scales[0] // LANES,)
        return shape, 0, (*scales, BLOCK, LANES)
    axis = next(a for a, (n, m) in enumerate(zip(shape, scales, strict=True)) if n != m)
    return shape, axis, (*shape[:axis], scales[axis], BLOCK, *shape[axis + 1 :])


def over_blocks(reduce, x, scales):
    """`reduce` of each block, of shape `scales`; zeros fill the last block up."""
    taken, axis, split = _split(x.shape, scales)
    missing = math.prod(split) // math.prod(taken[:axis] + taken[axis + 1 :]) - taken[axis]
    divided = parts(x, [axis] if taken == x.shape else range(x.ndim))
    if divided > 1 and (missing or taken != x.shape or split[axis] % divided):
        # Explicit axes of a mesh cut the blocks.
        x = whole(x)
    x = x.reshape(taken)
    if missing:
        x = jnp.pad(x, [(0, missing if a == axis else 0) for a in range(x.ndim)])
    return reduce(x.reshape(split), axis=axis + 1).reshape(scales)


def spread(of_block, like):
    """What is one a block as an array like the leaf, or the part of one, that `like` is: of its shape and sharding."""
    taken, axis, split = _split(like.shape, of_block.shape)
    wide = jnp.broadcast_to(of_block.reshape(*split[: axis + 1], 1, *split[axis + 2 :]), split)
    wide = wide.reshape(*taken[:axis], -1, *taken[axis + 1 :])
    short = wide if wide.shape == taken else jax.lax.slice_in_dim(wide, 0, taken[axis], axis=axis)
    return divided_as(short.reshape(like.shape), like)
