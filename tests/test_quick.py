"""`pytest -m quick`: its list names every file of tests, and tests that are there."""

import ast
import pathlib

import pytest
from quick import OF_ALL_RULES, RULE, TESTS

import adamx

FILES = {path.stem: path for path in pathlib.Path(__file__).parent.glob("test_*.py")}


def names_in(file):
    return {node.name for node in ast.walk(ast.parse(FILES[file].read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.quick
def test_every_file_of_tests_is_in_the_list_of_quick_ones():
    assert set(FILES) - {"test_quick"} == set(TESTS)
    assert RULE in adamx.CATALOGUE


@pytest.mark.quick
@pytest.mark.parametrize("file", TESTS)
def test_every_quick_test_is_there(file):
    assert set(TESTS[file].split()) <= names_in(file)


@pytest.mark.quick
def test_every_quick_test_of_all_rules_is_there():
    assert set().union(*map(names_in, FILES)) >= OF_ALL_RULES
