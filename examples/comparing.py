"""How the experiments compare what they get with a reference."""

import numpy as np


def close(what, got, expected, tolerance, equal_nan=False):
    """Raises AssertionError, which says all four, if `got` is farther from `expected` than `tolerance`; numbers or arrays."""
    if not np.allclose(got, expected, rtol=0, atol=tolerance, equal_nan=equal_nan):
        raise AssertionError(f"{what}: expected {expected}, got {got} (tolerance {tolerance:.2g})")
