"""The names that the tests use, in the versions before those that brought them: JAX 0.7, Optax 0.2.4."""

import types

import jax
import optax
import optax.contrib
import pytest

OLDER = not hasattr(jax, "enable_x64") or not hasattr(optax, "tree")
"""Whether a script that uses those names fails here, in a process of its own."""


def in_optax(name):
    """What Optax has under this name, itself or in contrib; skips the test where the versions are too old for it."""
    found = getattr(optax, name, None) or getattr(optax.contrib, name, None)
    if found is None and OLDER:
        pytest.skip(f"Optax {optax.__version__} has no {name}")
    assert found is not None, f"Optax has no {name}"
    return found


def name_as_later():
    """Gives what JAX and Optax have under other names those of later versions."""
    if not hasattr(jax, "enable_x64"):
        from jax._src import monitoring
        from jax.experimental import enable_x64

        jax.enable_x64, jax.set_mesh = enable_x64, jax.sharding.use_mesh
        unregister = monitoring._unregister_event_duration_listener_by_callback
        jax.monitoring.unregister_event_duration_listener = unregister
    if not hasattr(optax, "tree"):
        trees = {name.removeprefix("tree_"): function for name, function in vars(optax.tree_utils).items()}
        optax.tree = types.SimpleNamespace(**trees, norm=optax.global_norm, scale=optax.tree_utils.tree_scalar_mul)
        optax.partition = optax.multi_transform
