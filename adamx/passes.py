"""Formulas written for compilers: the same numbers as the plain ones, in fewer passes over memory.

XLA's CPU compiler makes an array of what two slots, or a slot and the update, have in common, unless that is itself a slot; and it copies a
slot that is read after its place in memory is written. In these forms nothing is in common but slots, and none is read once it is replaced.
"""

import os

import jax
import jax.numpy as jnp
from jax import lax

from adamx.numerics import average, below_overflow, ratio, scaled


def second_average(old, new, rate):
    """`average` of a slot of which another average is taken, too: the same numbers, by the difference with its sign turned."""
    return average(old, new, rate) if rate.keep is not None else old - scaled(rate.value, old - new)


def raised_average(old, new, rate, by):
    """average(old, new, rate) + by: with the sum last it would be computed anew, from the old slot, where the new one is read."""
    return average(old + by, new + by, rate)


def replaced(old, new, t):
    """`new`, for a slot that is `old`, in step `t`: as a choice by what is never negative, since a plain copy is a pass of its own."""
    return jnp.where(t < 0, old, new)


def weighted_sq(weight, x):
    """weight |x|^2, real, for a real scalar `weight`; held as `abs_sq`, of which it shares no term."""
    if jnp.iscomplexobj(x):
        return below_overflow(sum(scaled(weight, part) * part for part in (jnp.real(x), jnp.imag(x))))
    return below_overflow(scaled(weight, x) * x)


def ratio_in_sum(numerator, denominator):
    """`ratio` for a denominator >= 0, of the same shape, in what a sum adds up: a choice in there would be made an array first."""
    if jnp.iscomplexobj(numerator):
        return ratio(numerator, denominator)
    there = lax.sign(denominator)
    return numerator / (denominator + (1 - there)) * there


def several_outputs():
    """Whether XLA's CPU compiler, which is the one in use, was told to make several arrays in one pass."""
    return "xla_cpu_use_multi_output_fusion" in os.environ.get("XLA_FLAGS", "") and jax.default_backend() == "cpu"
