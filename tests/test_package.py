"""The package as it is imported: its names, its version, and what it costs nothing to leave out."""

import importlib.metadata
import subprocess
import sys

import pytest

import adamx


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
    assert not ran.stdout.split()
