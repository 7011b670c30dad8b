"""Types: a user's program passes mypy's strict mode, mistakes are refused, and the package passes mypy's default mode."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
TYPED = ROOT / "tests" / "typed"


def test_mypy_accepts_the_package_and_a_users_program_and_refuses_mistakes(tmp_path):
    files = ["adamx", TYPED / "accepted.py", TYPED / "refused.py"]
    options = ["--config-file", TYPED / "mypy.ini", "--cache-dir", tmp_path]
    run = subprocess.run([sys.executable, "-m", "mypy", *options, *files], cwd=ROOT, capture_output=True, text=True)
    assert not run.stderr
    errors = re.findall(r"^(.+):(\d+): error: ", run.stdout, re.MULTILINE)
    refused = (TYPED / "refused.py").read_text().splitlines()
    expected = {str(i) for i, line in enumerate(refused, start=1) if line.endswith("# refused")}
    assert {line for _, line in errors} == expected and {path for path, _ in errors} == {"tests/typed/refused.py"}, (
        run.stdout
    )
