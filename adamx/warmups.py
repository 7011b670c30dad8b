"""Schedules that rules have of their own: functions of the step count, with their numbers before it, for `jax.tree_util.Partial`."""

import jax.numpy as jnp

from adamx.numerics import scalar_dtype


def fourth_root(count):
    """count^(1/4): ADOPT's clipping limit, with count 0 in the first step."""
    return jnp.asarray(count, scalar_dtype()) ** 0.25


def linear_warmup(end, steps, count):
    """end min((count + 1) / steps, 1)."""
    return end * _share(steps, count)


def _share(steps, count):
    return jnp.minimum(jnp.asarray(count + 1, scalar_dtype()) / steps, 1)


def inverse_time_decay(start, rate, count):
    """start / (1 + rate count)."""
    return start / (1 + rate * jnp.asarray(count, scalar_dtype()))


def half_life_warmup(start, end, steps, count):
    """Rate 1 - beta of a decay whose half-life grows linearly from that of rate `start` to that of `end` over `steps`, at t = count + 1.

    The half-life of beta is log(1/2) / log(beta + 1e-8), as in AdEMAMix's code.
    """
    share = _share(steps, count)
    mean_inverse = (1 - share) / jnp.log1p(1e-8 - start) + share / jnp.log1p(1e-8 - end)
    return jnp.where(share < 1, -jnp.expm1(1 / mean_inverse), end)
