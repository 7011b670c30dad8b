"""The README: its blocks run in order and with no other names, its commands are tested, its picture is there."""

import re

import jax.numpy as jnp
from scripts import COMMANDS, EXAMPLES, README, ROOT, is_picture


def test_the_python_blocks_run_in_order(capsys):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block, names)
    assert jnp.shape(names["losses"]) == (64,) and bool(jnp.isfinite(names["losses"]).all())
    printed = capsys.readouterr().out.strip()
    assert printed and f"# {printed}" in README


def test_every_script_that_is_named_exists_and_is_tested():
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*ex*.py"))
    for command in COMMANDS:
        assert (EXAMPLES / command.split()[0]).exists()
        assert f'run("{command}"' in tests, f"no test runs {command}"
    named = {command.split()[0] for command in COMMANDS}
    helpers = {"experiment.py", "interrupt.py", "images.py", "fooled.py"}
    assert named == {path.name for path in EXAMPLES.glob("*.py")} - helpers


def test_shell_blocks_are_known():
    """Those that install need a network: they are the two that .ci/run and every fresh clone begin with, and those for use."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    extras = re.search(r"optional-dependencies\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text(), re.DOTALL)[1]
    for part in (part for line in lines for part in line.split(" && ")):
        run = re.fullmatch(r"\.venv/bin/python (?:examples/(\w+\.py)|-m pytest)", part)
        installed = re.fullmatch(r'(?:\.venv/bin/)?pip install (?:-q -e )?"?\.(?:\[(\w+)\])?"?', part)
        assert run or installed or part == "python3 -m venv .venv", part
        assert not (installed and installed[1]) or f"{installed[1]} = [" in extras, part


def test_the_picture_is_small_and_linked():
    (path,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert is_picture(ROOT / path) and (ROOT / path).stat().st_size < 150_000
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
