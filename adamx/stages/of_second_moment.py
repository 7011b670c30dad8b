"""Stages that wrap a second moment: another start, or its maximum."""

import dataclasses

import jax.numpy as jnp

from adamx.numerics import abs_sq
from adamx.stages.base import Wrapper, stage
from adamx.stages.moments import SecondMomentStage


class _OfAnother(Wrapper, SecondMomentStage):
    def seen(self, old, new):
        return self.inner.seen(old, new)

    def rewrite(self, x, k):
        return self.inner.rewrite(x, k)

    def mix(self, v, x):
        return self.inner.mix(v, x)


@stage
class FromFirstGradient(_OfAnother):
    """A second moment that starts at the first squared gradient: nu_0 = |g_1|^2.

    Attributes:
      inner: A second moment, best one without bias correction.
    """

    inner: SecondMomentStage

    def scalars(self, t, last):
        return self.inner.scalars(t, last) | {"first": t == 1}

    def accumulate(self, x, s, k):
        return self.inner.accumulate(x, s | {"nu": jnp.where(k["first"] > 0, abs_sq(x.g), s["nu"])}, k)

    def read_out(self, s, k):
        return self.inner.read_out(s, k)


class _Maximum(_OfAnother):
    @property
    def slots(self):
        nu = next(slot for slot in self.inner.slots if slot.name == "nu")
        return (*self.inner.slots, dataclasses.replace(nu, name="nu_max"))


@stage
class RunningMax(_Maximum):
    """The largest second moment so far: nu_max_t = max(nu_max_{t-1}, nu_t), read out (bias-corrected) as the inner stage would (AMSGrad).

    Attributes:
      inner: A second moment.
    """

    inner: SecondMomentStage

    def accumulate(self, x, s, k):
        new = self.inner.accumulate(x, s, k)
        return new | {"nu_max": jnp.maximum(s["nu_max"], new["nu"])}

    def read_out(self, s, k):
        return self.inner.read_out(s | {"nu": s["nu_max"]}, k)


@stage
class DebiasedRunningMax(_Maximum):
    """The largest bias-corrected second moment so far: v_t = nu_max_t = max(nu_max_{t-1}, v_t) (Optax's AMSGrad).

    Attributes:
      inner: A second moment.
    """

    inner: SecondMomentStage

    def accumulate(self, x, s, k):
        new = self.inner.accumulate(x, s, k)
        return new | {"nu_max": jnp.maximum(s["nu_max"], self.inner.read_out(new, k))}

    def read_out(self, s, k):
        return s["nu_max"]
