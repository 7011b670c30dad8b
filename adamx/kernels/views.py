"""How a leaf is laid out for a kernel: as matrices whose rows blocks run down, cut into tiles."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adamx.blocks import BLOCK, LANES, axis_of_blocks

ROWS, COLUMNS = 512, 256
"""Size of a tile at most: eight blocks of rows, as the scales' own tiles have eight; and so few numbers that a dozen arrays fit."""

FLAT = 8 * LANES
"""A vector whose length is a multiple of this is rows of 128 as it lies in memory."""


class View(NamedTuple):
    """A leaf as a stack of matrices, all of the same memory: no view copies anything on the backends that keep the leaf as it assumes.

    Attributes:
      stack, rows, columns: Its shape.
      strides: By how much the position in the whole leaf grows with each of them.
      swaps: Whether the leaf's last two axes change places.
    """

    stack: int
    rows: int
    columns: int
    strides: tuple[int, int, int]
    swaps: bool = False

    def of(self, x):
        """The matrices of an array of the leaf's shape, or of its scales."""
        x = jnp.swapaxes(x, -1, -2) if self.swaps else x
        return x.reshape(self.stack, -1, self.columns)

    def back(self, x, shape):
        """The array of `shape` whose matrices are `x`."""
        if not self.swaps:
            return x.reshape(shape)
        return jnp.swapaxes(x.reshape(*shape[:-2], shape[-1], shape[-2]), -1, -2)

    @property
    def tile(self):
        """Rows and columns of a tile: whole blocks of rows."""
        rows = min(ROWS, -(-self.rows // BLOCK) * BLOCK)
        return rows, min(COLUMNS, self.columns)


def view_of(shape):
    """The `View` of a leaf of `shape`; None if it has none that costs nothing."""
    if len(shape) == 1:
        return View(1, shape[0] // LANES, LANES, (0, LANES, 1)) if shape[0] % FLAT == 0 and shape[0] else None
    axis = axis_of_blocks(shape) if len(shape) > 1 else None
    if axis is None or axis < len(shape) - 2 or 0 in shape:
        return None
    stack, (a, b) = math.prod(shape[:-2]), shape[-2:]
    if axis == len(shape) - 2:
        return View(stack, a, b, (a * b, b, 1))
    return View(stack, b, a, (a * b, 1, b), swaps=True)


def positions(view, start, tile):
    """Position of each element of a tile in the whole leaf (modulo 2^32); `start` is the tile's first matrix, row and column."""
    first = sum(s.astype(jnp.uint32) * jnp.uint32(k % 2**32) for s, k in zip(start, view.strides, strict=True))
    row, column = (jax.lax.broadcasted_iota(jnp.uint32, tile, axis) for axis in (0, 1))
    return first + row * jnp.uint32(view.strides[1] % 2**32) + column * jnp.uint32(view.strides[2] % 2**32)
