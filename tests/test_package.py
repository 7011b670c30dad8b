"""The package as it is imported: its names, its version, and what it costs nothing to leave out."""

import importlib.metadata
import subprocess
import sys

import pytest
from older import OLDER

import adamx
from adamx import plot, sweep
from adamx.sweep.progress import Progress


def test_every_public_name_is_there_and_documented():
    assert {"adam", "create", "chain", "plot", "probes", "problems", "stages"} < set(adamx.__all__) <= set(dir(adamx))
    for name in [*adamx.__all__, *adamx.stages.__all__]:
        assert getattr(adamx, name).__doc__ or name == "CATALOGUE", name
    assert not set(adamx.stages.__all__) & set(dir(adamx)), "stages are listed by adamx.stages"
    with pytest.raises(AttributeError, match="module 'adamx' has no attribute 'adma'"):
        adamx.adma  # noqa: B018


def test_the_version_is_that_of_the_distribution():
    assert adamx.__version__ == importlib.metadata.version("adamx")


def test_an_import_brings_nothing_that_most_programs_do_without():
    late = [
        "chex",
        "matplotlib",
        "pandas",
        "scipy",
        "tqdm",
        "adamx.plot",
        "adamx.probes",
        "adamx.problems",
        "adamx.sweep",
    ]
    program = f"import adamx, sys; print(*(name for name in {late} if name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # The earlier versions of Optax bring chex themselves.
    assert ran.stdout.split() == (["chex"] if OLDER else [])


POINTS = sweep.listed(adamx.adam, [{"learning_rate": 0.1}])
SPACE = sweep.space(adamx.adam, learning_rate=sweep.log(1e-3, 1))
OF_EXTRAS = {
    "matplotlib": lambda: plot.curves([("loss", {"adam": ([1, 2], [3.0, 4.0])})]),
    "pandas": POINTS.table,
    "scipy.stats": lambda: SPACE.sobol(4),
    "tqdm": lambda: Progress(shown=True).begin(10),
}


@pytest.mark.parametrize("module", OF_EXTRAS)
def test_what_needs_an_extra_says_which_one(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'needs? \w+: pip install "adamx\[lab\]"'):
        OF_EXTRAS[module]()
