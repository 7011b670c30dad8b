"""Directions under the names that Optax has for them."""

from adamx.variants.baselines import scale_by_adagrad, scale_by_rmsprop
from adamx.variants.second_moment import scale_by_adabelief

__all__ = ["scale_by_belief", "scale_by_rms", "scale_by_rss", "scale_by_stddev"]

scale_by_belief = scale_by_adabelief


def scale_by_rms(decay=0.9, eps=1e-8, initial_scale=0.0, eps_in_sqrt=True, bias_correction=False):
    """The direction of `rmsprop`, neither centred nor with momentum: `scale_by_rmsprop`."""
    return scale_by_rmsprop(decay, eps, initial_scale, eps_in_sqrt, bias_correction=bias_correction)


def scale_by_stddev(decay=0.9, eps=1e-8, initial_scale=0.0, eps_in_sqrt=True, bias_correction=False):
    """The direction of centred `rmsprop`: `scale_by_rmsprop(centered=True)`."""
    return scale_by_rmsprop(decay, eps, initial_scale, eps_in_sqrt, centered=True, bias_correction=bias_correction)


def scale_by_rss(initial_accumulator_value=0.1, eps=1e-7):
    """The direction of `adagrad`: `scale_by_adagrad`."""
    return scale_by_adagrad(initial_accumulator_value, eps)
