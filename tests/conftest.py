"""Eight CPU devices for the sharding tests; strict promotion of dtypes and ranks everywhere; which tests are quick."""

import gc
import itertools
import os
import pathlib

import pytest

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from older import name_as_later  # noqa: E402  (JAX reads the environment when it is imported)

name_as_later()


def pytest_collection_modifyitems(items):
    """Marks the tests of `quick`; those of a class of absl's have their parameters in their names."""
    from cases import CASES
    from quick import is_quick

    import adamx

    for item in items:
        test = getattr(item, "originalname", None) or item.name
        values = item.callspec.params.values() if hasattr(item, "callspec") else item.name.split("'")[1:2]
        if is_quick(item.path.stem, test, values, adamx.CATALOGUE, CASES):
            item.add_marker(pytest.mark.quick)


MAPS = pathlib.Path("/proc/self/maps")
MOST_MAPS = 20_000
"""Linux lets a process have 65,530 mappings. Each compiled program takes several, and without any left the compiler crashes."""
_ended = itertools.count(1)


def pytest_runtest_teardown():
    """Drops the compiled programs of tests that have run, when they are many; looked at every so often."""
    if next(_ended) % 50 == 0 and MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        import jax

        jax.clear_caches()
        gc.collect()
