"""How many lanes train at once: as many as fit into the memory given, by the compiled program's own figures."""

import math
import os
from typing import NamedTuple

import jax
import numpy as np


class Chunk(NamedTuple):
    """Lanes that train at once.

    Attributes:
      batch: The number of the `Batch` they are of.
      begin: Steps made before.
      end: Steps made after.
      points: Numbers of the points, int array (n,).
      seeds: Positions of the seeds, int array (m,).
      size: Points in the program, n or more; what is too much is filled up and ignored.
    """

    batch: int
    begin: int
    end: int
    points: np.ndarray
    seeds: np.ndarray
    size: int

    @property
    def key(self):
        """A name, different for all chunks of a sweep."""
        return f"{self.begin:09}-{self.batch:03}-{self.points[0]:06}-{self.seeds[0]:04}"


def chunks_of(batch, begin, end, points, seeds, size, seeds_at_once):
    """The chunks of `points` (int array) and `seeds` (a number), each of `size` points and `seeds_at_once` seeds, or fewer at the end."""
    return [
        Chunk(batch, begin, end, points[i : i + size], np.arange(s, min(s + seeds_at_once, seeds)), size)
        for i in range(0, len(points), size)
        for s in range(0, seeds, seeds_at_once)
    ]


def fit(need, points, seeds, limit, multiple=1):
    """How many points and seeds may train at once.

    Args:
      need: Function (points, seeds) -> bytes; costly, as it compiles.
      points: Points there are, a multiple of `multiple`.
      seeds: Seeds there are.
      limit: Bytes.
      multiple: Of what the number of points must be a multiple.

    Returns:
      points, seeds: all seeds of some points if possible, else some seeds of the fewest points; evenly divided.

    Raises:
      ValueError: not even one fits.
    """
    if need(points, seeds) <= limit:
        return points, seeds
    if need(multiple, seeds) <= limit:
        return _most(lambda n: need(n, seeds), points, limit, multiple), seeds
    if (least := need(multiple, 1)) > limit:
        raise ValueError(
            f"memory={limit} is too little: {'a lane takes' if multiple == 1 else f'{multiple} lanes take'} {least} bytes."
        )
    return multiple, _most(lambda n: need(multiple, n), seeds, limit, 1)


def _most(need, count, limit, step):
    """The most of `count`, a multiple of `step`, that need no more than `limit`, evened out over the rounds that it takes."""
    each = (need(count) - need(step)) / (count - step)
    most = step + (limit - need(step)) / each
    while True:
        most = max(int(most) // step * step, step)
        rounds = math.ceil(count / most)
        even = math.ceil(count / rounds / step) * step
        if need(even) <= limit:
            return even
        most = even - step


def memory_of_device():
    """Bytes that a sweep may take if it is not told: nine tenths of the device's memory, or half of the machine's on a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(0.9 * stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def power_of_two(count):
    """The least power of two that is `count` or more."""
    return 1 << (count - 1).bit_length()
