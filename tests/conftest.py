"""Eight CPU devices for the sharding tests; programs that compile quickly; which tests are quick."""

import functools
import gc
import importlib.metadata
import itertools
import os
import pathlib

import pytest

FLAGS = {
    "xla_force_host_platform_device_count": 8,
    # Machine code is not optimized, which is most of what compiling takes, but where `checks.optimized` asks for it.
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
}
if tuple(map(int, importlib.metadata.version("jax").split(".")[:2])) < (0, 12):
    # From there on XLA ends a process that names it.
    FLAGS["xla_cpu_use_fusion_emitters"] = False
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *(f"--{k}={v}" for k, v in FLAGS.items())])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Or a key is made of every program, for no cache.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

from older import name_as_later  # noqa: E402  (JAX reads the environment when it is imported)

name_as_later()


def share_contexts(programs=400):
    """Lowers so many programs in one MLIR context. JAX makes one for each, which is a tenth of what this suite takes."""
    from jax._src.interpreters import mlir

    make, made = getattr(mlir, "make_ir_context", None), itertools.count()
    if make is not None:
        of_generation = functools.lru_cache(maxsize=1)(lambda generation: make())
        mlir.make_ir_context = lambda: of_generation(next(made) // programs)


def take_a_core():
    """Keeps a worker to one core where each has one, so that the compiler's threads do not get in another's way."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if workers and workers == len(cores):
        os.sched_setaffinity(0, {cores[int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))]})


share_contexts()
take_a_core()


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


def pytest_collection_finish():
    """Garbage is looked for seldom, and never among what was imported: traces are large, and few of them end in a cycle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


@pytest.fixture
def optimizing(monkeypatch):
    """All programs of a test are optimized, also those of chex, and those of rules that are called outside of any."""
    import jax
    from checks import OPTIMIZED_EAGERLY, optimized

    from adamx.execution import _Compiled

    monkeypatch.setattr(jax, "jit", optimized)
    for name, program in OPTIMIZED_EAGERLY.items():
        monkeypatch.setattr(_Compiled, name, staticmethod(program))


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
