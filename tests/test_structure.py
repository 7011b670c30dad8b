"""The package's own shape: floors, sizes, docstrings, exports, the README's table, and the size of what is compiled."""

import ast
import inspect
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import optax
import pytest
from checks import each_rule
from older import OLDER

import adamx
from adamx import grouping, listing
from adamx.__main__ import main

ROOT = pathlib.Path(adamx.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))

FLOORS = (
    ("numerics", "hyperparameters", "files", "meshes"),
    ("structure", "randomness", "passes", "annotations", "warmups"),
    ("rounding",),
    ("signal", "storage"),
    ("blocks",),
    ("eight_bit",),
    ("stages.base",),
    ("stages.moments",),
    ("stages.*",),
    ("stages",),
    ("wiring",),
    ("state",),
    ("checks", "leaves"),
    ("kernels.views",),
    ("kernels.leaf",),
    ("kernels",),
    ("grouping",),
    ("execution",),
    ("rule",),
    ("transforms",),
    ("groups",),
    ("evaluation", "hessians", "modifiers"),
    ("variants.common",),
    ("variants.*", "variants"),
    ("variants.optax_names",),
    ("measure_kinds",),
    ("measures", "series"),
    ("catalogue", "probes"),
    ("interop.optax_marks",),
    ("interop.optax_table",),
    ("interop.optax_form", "interop.torch_table"),
    ("interop.*",),
    ("interop",),
    ("sweep.alike",),
    ("problems", "sweep.points", "sweep.tasks", "sweep.chunks", "sweep.progress"),
    ("sweep.spaces", "sweep.stopping", "sweep.lanes", "sweep.names"),
    ("sweep.result",),
    ("sweep.setup", "sweep.checkpoint"),
    ("sweep.runner",),
    ("drawing",),
    ("plot", "listing"),
    ("__main__",),
    ("sweep.figures",),
    ("sweep",),
    ("",),
)
"""The modules from the ground up: each imports only from floors below its own. A star is any module of that folder not named otherwise;
a folder's own name is its `__init__`, and "" is the package's. Stages thus import no other stage's file but base and
moments, and nothing of `variants` imports another file of it but common."""


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def floor_of(module):
    exact = [i for i, names in enumerate(FLOORS) if module in names]
    folder = [i for i, names in enumerate(FLOORS) if f"{module.split('.')[0]}.*" in names and "." in module]
    assert exact or folder, f"{module} is on no floor: add it to FLOORS"
    return (exact or folder)[0]


def imports_of(path):
    """Names of the modules that a file imports, anywhere in it: (module, name or None, line)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None, node.lineno) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.module, alias.name, node.lineno) for alias in node.names)


def own_modules(path):
    """Modules of the package that a file imports, with the line."""
    known = {module_of(file) for file in FILES}
    for module, name, line in imports_of(path):
        if module == "adamx" or module.startswith("adamx."):
            inner = module.removeprefix("adamx").lstrip(".")
            deeper = f"{inner}.{name}".lstrip(".")
            yield (deeper if deeper in known else inner), line


@each_file
def test_a_module_imports_only_from_floors_below_it(path):
    module = module_of(path)
    for imported, line in own_modules(path):
        assert floor_of(imported) < floor_of(module), f"{path}:{line}: {module} imports {imported}"


@each_file
def test_only_the_dependencies_are_imported_at_the_top(path):
    top = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in top if isinstance(node, ast.ImportFrom)]
    allowed = sys.stdlib_module_names | {"jax", "jaxlib", "optax", "chex", "numpy", "adamx"}
    assert {name.split(".")[0] for name in names} <= allowed


def test_variants_have_no_array_code():
    for path in (ROOT / "variants").glob("*.py"):
        arrays = [line for module, name, line in imports_of(path) if "numpy" in f"{module}.{name}"]
        assert not arrays, f"{path}:{arrays}"


def test_matplotlib_is_imported_by_functions_of_plot_and_drawing_only():
    for path in FILES:
        found = any(module.split(".")[0] == "matplotlib" for module, _, _ in imports_of(path))
        assert not found or path in (ROOT / "plot.py", ROOT / "drawing.py")
    code = "import sys, adamx, pkgutil, importlib\n"
    code += "for m in pkgutil.walk_packages(adamx.__path__, 'adamx.'): importlib.import_module(m.name)\n"
    code += "assert not {'matplotlib', 'pandas', 'sklearn', 'torch', 'tensorboardX', 'tqdm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@each_file
def test_no_file_is_longer_than_300_lines(path):
    if "variants" not in path.parts:
        assert len(path.read_text().splitlines()) <= 300


@each_file
def test_everything_public_has_a_docstring(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno}: {node.name}"


def test_the_readmes_table_is_the_catalogue():
    readme = ROOT.parent / "README.md"
    text = readme.read_text()
    if "<!-- rules -->" in text:
        between = text.split("<!-- rules -->")[1].split("<!-- /rules -->")[0]
        assert between.strip() == listing.table()


def test_the_command_line_prints_the_table():
    printed = subprocess.run([sys.executable, "-m", "adamx"], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == listing.table()
    assert all(f"| `{name}` " in printed for name in adamx.CATALOGUE)


@each_rule
def test_the_page_on_a_rule_has_its_line_formulas_and_defaults(name, capsys):
    assert main(["show", name]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{name}(") and inspect.getdoc(getattr(adamx, name)) in shown
    assert "Line, with a learning rate of 0.001" in shown and "bytes a parameter" in shown


def test_an_unknown_rule_gets_the_nearest_names(capsys):
    assert main(["show", "adamm"]) == 2
    assert "did you mean 'adam'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="unknown rule 'Prodigi'; did you mean 'prodigy'"):
        adamx.create("Prodigi", 1.0)
    with pytest.raises(ValueError, match="unknown rule 'zzz'; `python -m adamx` lists all"):
        adamx.create("zzz", 1.0)


@each_rule
def test_the_bytes_of_the_table_are_those_that_init_allocates(name):
    rule, shapes = adamx.create(name, 1e-3), {"w": (12, 8), "b": (5,), "s": ()}
    params = {k: jnp.zeros(shape) for k, shape in shapes.items()}
    allocated = sum(x.nbytes for x in jax.tree.leaves(rule.init(params)))
    assert listing.bytes_per_parameter(rule, shapes) == allocated / sum(p.size for p in params.values())


def test_small_states_are_small():
    size = {name: listing.bytes_per_parameter(adamx.create(name, 1e-3)) for name in adamx.CATALOGUE}
    assert max(size[name] for name in ("adafactor", "sm3")) < 4.1 and size["sm3"] > 4 > 0.1 > size["adafactor"]
    assert size["adam_mini"] < 4.1 and size["came"] < 4.1
    assert 4 < size["muon"] < 4.02 and 7.9 < size["adam"] < 8.1


@each_rule
def test_a_rule_is_exported_documented_and_created_by_name(name):
    entry = adamx.CATALOGUE[name]
    assert getattr(adamx, name) is entry.constructor
    assert getattr(adamx, f"scale_by_{name}", None) is entry.scale_by
    assert entry.constructor.__name__ == entry.name == name
    assert adamx.create(name, 0.5) == entry.constructor(0.5)
    assert entry.paper and entry.group and entry.changes and 1950 < entry.year < 2100


def test_every_function_of_the_variants_is_in_the_catalogue():
    named = {f"{prefix}{name}" for name in adamx.CATALOGUE for prefix in ("", "scale_by_")}
    helpers = {"common.py", "optax_names.py", "__init__.py"}
    for path in (ROOT / "variants").glob("*.py"):
        functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        rules = {name for name in functions if name.startswith("scale_by_")}
        assert path.name in helpers or rules <= named
        assert path.name in helpers or {name.removeprefix("scale_by_") for name in rules} <= functions


# The size of what is compiled


def size(tx, leaves, shape=lambda i: (64,)):
    """Lines of StableHLO, and operations of the traced program with all it calls, of an update of so many leaves."""
    params = {f"w{i}": jax.ShapeDtypeStruct(shape(i), jnp.float32) for i in range(leaves)}
    state = jax.eval_shape(tx.init, params)
    traced = jax.jit(tx.update).trace(params, state, params)
    return len(traced.lower().as_text().splitlines()), operations(traced.jaxpr.jaxpr)


def operations(jaxpr):
    """Equations of a jaxpr; a function that is called many times counts once."""
    seen, total, todo = set(), 0, [jaxpr]
    while todo:
        inner = todo.pop()
        if id(inner) in seen:
            continue
        seen.add(id(inner))
        for equation in inner.eqns:
            total += 1
            todo += [p.jaxpr for p in equation.params.values() if hasattr(p, "jaxpr")]
    return total


def test_a_thousand_equal_leaves_are_a_smaller_program_than_optaxs():
    ours, theirs = size(adamx.adam(1e-3), 1000), size(optax.adam(1e-3), 1000)
    assert ours[0] < theirs[0] / 2 and ours[1] < theirs[1] / 2


@pytest.mark.skipif(OLDER, reason="the programs of earlier versions of Optax are smaller")
def test_irregular_leaves_are_no_larger_a_program_than_optaxs():
    def distinct(i):
        return (i // 10 + 1, i % 10 + 1)

    def of_four(i):
        return ((8, 16), (16,), (32, 8), (4, 4, 4))[i % 4]

    for shape in (distinct, of_four):
        ours, theirs = (size(lib.adam(1e-3), 100, shape) for lib in (adamx, optax))
        assert ours[0] < 1.1 * theirs[0]


def test_one_more_group_of_equal_leaves_is_one_more_call(monkeypatch):
    monkeypatch.setattr(grouping, "LARGEST_GROUP", 8)
    monkeypatch.setattr(grouping, "COST_OF_CALL", 8.0)
    (few_lines, few), (many_lines, many) = (size(adamx.adam(1e-3), n * 8) for n in (10, 20))
    assert many - few == 10
    assert many_lines - few_lines == 10


@pytest.mark.parametrize("leaves", [*range(1, 50), 100, 997, 1000])
def test_groups_have_one_size_but_for_the_last(leaves):
    groups = grouping._cut(list(range(leaves)))
    sizes = [len(group) for group in groups]
    assert sum(groups, []) == list(range(leaves))
    assert set(sizes[:-1]) <= {sizes[0]} and sizes[-1] <= sizes[0] <= grouping.LARGEST_GROUP


def flops(rule):
    params = {"w": jnp.ones(64)}
    return jax.jit(rule.update).lower(params, rule.init(params), params).compile().cost_analysis()["flops"]


def test_what_is_known_before_tracing_is_not_computed():
    adam, zero = adamx.adam(1e-3), adamx.adamw(1e-3, weight_decay=0.0)
    assert flops(zero) == flops(adamx.adamw(1e-3, weight_decay=0.0, mask={"w": True})) == flops(adam)
    assert flops(adamx.adamw(1e-3, weight_decay=0.1)) == flops(adam) + 2 * 64
    # Where b1 may be 0, the average is multiplied by a factor that is 0 or 1.
    assert flops(adamx.adam(1e-3, b1=jnp.float32(0.9))) >= flops(adam) + 64
    # The tree stays the same, so that rules with and without decay stack.
    assert jax.tree.structure(zero) == jax.tree.structure(adamx.adamw(1e-3, weight_decay=0.1))


def test_scalars_are_computed_once_and_not_for_each_leaf():
    rule = adamx.radam(optax.linear_schedule(0.1, 0.0, 10))

    def exponentials(leaves):
        params = {f"w{i}": jnp.ones(2) for i in range(leaves)}
        lowered = jax.jit(rule.update).lower(params, rule.init(params), params)
        compiled = lowered.compile().as_text()
        return lowered.as_text().count("exponential_minus_one"), compiled.count("exponential-minus-one(")

    assert exponentials(2) == exponentials(6)


def test_what_is_not_read_of_the_signals_costs_nothing():
    rule, params = adamx.adamw(1e-3), {"w": jnp.ones(64)}
    state = rule.init(params)
    plain = jax.jit(lambda: rule.update(params, state, params)).lower().compile()
    traced = jax.jit(lambda: rule.trace(params, state, params)[:2]).lower().compile()
    assert traced.cost_analysis()["flops"] == plain.cost_analysis()["flops"]
    assert traced.memory_analysis().temp_size_in_bytes <= plain.memory_analysis().temp_size_in_bytes
