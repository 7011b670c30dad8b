"""The scripts of examples/: imported, run as the README says, and what they leave behind."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from older import OLDER

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text()
COMMANDS = dict.fromkeys(re.findall(r"\.venv/bin/python examples/(\w+\.py(?: --all)?)", README))
"""What the README says to run, without the folder: "airfoil.py", "amsgrad_counterexample.py --all"."""


FLAGS = os.environ.get("XLA_FLAGS", "").replace("device_count=8", "device_count=1")
"""The tests' own, with the one device that users have: what is said to be eight takes longer."""


def load(name):
    """An example as a module, imported as Python does when it runs one: with examples/ on the path."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    return importlib.import_module(name)


def start(command, *arguments, **options):
    """Starts a script of examples/ in a process of its own; skips the test where the versions are too old for scripts."""
    if OLDER:
        pytest.skip("the examples use names that these versions of JAX and Optax do not have")
    script, *own = command.split()
    options.setdefault("env", os.environ | {"XLA_FLAGS": FLAGS})
    return subprocess.Popen([sys.executable, EXAMPLES / script, *own, *map(str, arguments)], text=True, **options)


def run(command, folder, *arguments, **options):
    """What a command of the README prints; its results are in `folder`, if it takes one; `options` of `subprocess.Popen`."""
    assert command in COMMANDS, f"{command} is not in the README"
    out = () if folder is None else ("--out", folder)
    process = start(command, *arguments, *out, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return printed


def is_picture(path):
    picture = imread(path)
    return min(picture.shape[:2]) > 250 and picture.std() > 0.03


def scalars(folder):
    """Run -> tag -> (steps, values), by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = {}
    for path in sorted(folder.iterdir()):
        events = EventAccumulator(str(path))
        events.Reload()
        read = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
        runs[path.name] = {tag: tuple(np.array([(e.step, e.value) for e in of]).T) for tag, of in read.items()}
    return runs
