"""The examples in docstrings and in the README run; the README's table is the catalogue's."""

import doctest
import importlib
import pathlib
import pkgutil
import re

import jax
import jax.numpy as jnp
import optax
import pytest

import adamx
from adamx.listing import table

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
PUBLIC = {name: getattr(adamx, name) for name in [*adamx.__all__, *adamx.stages.__all__]}
MODULES = sorted(m.name for m in pkgutil.walk_packages(adamx.__path__, "adamx.") if not m.name.endswith("__main__"))


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    module = importlib.import_module(name)
    names = {"jax": jax, "jnp": jnp, "optax": optax} | PUBLIC | vars(module)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for example in doctest.DocTestFinder().find(module, name, extraglobs=names):
        runner.run(example)
    assert runner.summarize().failed == 0


def test_readme_table_is_the_catalogue():
    assert re.search(r"<!-- rules -->\n(.*)\n<!-- /rules -->", README, re.DOTALL)[1] == table()
