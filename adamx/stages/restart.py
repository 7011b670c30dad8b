"""A wrapper that lets a stage begin again."""

import jax.numpy as jnp

from adamx.annotations import Positive
from adamx.stages.base import Stage, Wrapper, stage


@stage
class Restarted(Wrapper):
    """A stage that forgets what it remembers every so many steps: its slots and its step number begin again (SPAM).

        in step t = every, 2 every, ...: slots as at first, and t = 1 for this stage

    Attributes:
      inner: The stage, of which no slot starts at the parameter.
      every: Steps from one beginning to the next (to the first: every - 1).
    """

    inner: Stage
    every: Positive = 1000

    def scalars(self, t, last):
        number = jnp.where(t < self.every, t, jnp.mod(t, self.every) + 1)
        begins = number == 1
        first = self.inner.initial()
        before = {name: jnp.where(begins, first.get(name, 0), last[name]) for name in self.inner.scalar_slots}
        return self.inner.scalars(number, last | before) | {"begins": jnp.where(begins, 1.0, 0.0)}

    def _before(self, s, k):
        first = self.inner.initial()
        return {name: jnp.where(k["begins"] > 0, first.get(name, 0), old) for name, old in s.items()}

    def measure(self, x, s, k):
        return self.inner.measure(x, self._before(s, k), k)

    def __call__(self, x, s, k):
        return self.inner(x, self._before(s, k), k)
