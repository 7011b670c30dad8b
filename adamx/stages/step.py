"""Stages that shape the step: its sign, its size, its learning rate."""

import jax.numpy as jnp

from adamx.hyperparameters import Number
from adamx.numerics import norm, ratio, scaled
from adamx.stages.base import Stage, stage


@stage
class TakeMomentum(Stage):
    """Makes the momentum the update: u = m."""

    reads, writes = {"m"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=x.m), s


@stage
class Sign(Stage):
    """u = sign(m) (Lion); m / |m| for complex parameters."""

    reads, writes = {"m"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=jnp.sign(x.m)), s


@stage
class TrustRatio(Stage):
    """Gives each leaf's update the norm of its parameter: u <- u ||p|| / ||u||, unchanged where either norm is 0 (LAMB)."""

    reads, writes = {"p", "u"}, {"u"}
    before = {"lr"}
    elementwise = False

    def __call__(self, x, s, k):
        p, u = norm(x.p), norm(x.u)
        return x.write(u=x.u * jnp.where((p > 0) & (u > 0), ratio(p, u), 1)), s


@stage
class LearningRate(Stage):
    """u <- -learning_rate u: from the direction up the slope to what is added to the parameter.

    Attributes:
      learning_rate: Step size; a schedule sees the number of updates made so far.
    """

    learning_rate: Number

    reads, writes = {"u"}, {"u", "lr"}
    before = {"lr"}

    def scalars(self, t, last):
        return {"factor": -self.learning_rate}

    def __call__(self, x, s, k):
        return x.write(u=scaled(k["factor"], x.u), lr=self.learning_rate), s
