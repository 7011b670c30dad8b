"""The examples of sweeps, run small; those that need devices of their own in a process of their own."""

import importlib
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
AIRFOIL = EXAMPLES.parents[1] / "shared" / "data"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def test_optuna_improves_batch_by_batch(load, capsys):
    pytest.importorskip("optuna")
    load("sweep_with_optuna").main(["--batches", "2", "--size", "4", "--steps", "20"])
    numbers = [
        float(n) for n in re.findall(r"(?:so far |\), |of \d+: )([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
    ]
    first, second, best, sobol = numbers
    assert best == second <= first < 2 and 0 < sobol < 3


def test_descent_from_a_sweeps_best_improves_every_point(load, capsys):
    load("sweep_then_descend").main(["--points", "8", "--descents", "3", "--steps", "10"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("point")]
    table = np.array([row[2:] for row in rows], float)
    assert table.shape == (8, 3) and (np.diff(table[:, 0]) >= 0).all()
    np.testing.assert_allclose(table[:, 0], table[:, 1], rtol=1e-3)
    assert (table[:, 2] <= table[:, 1]).all() and (table[:, 2] < table[:, 1]).sum() >= 6


def test_eight_devices():
    pytest.importorskip("equinox")
    command = [sys.executable, str(EXAMPLES / "sweep_on_a_mesh.py"), "--steps", "10"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout
    assert "48 points x 3 seeds x 10 steps, 0 lanes diverged; 8 devices, 1 processes" in printed
    losses = [float(line.split()[0]) for line in printed.splitlines()[1:]]
    assert len(losses) == 5 and losses == sorted(losses) and "adamx.adam(learning_rate=" in printed


@pytest.mark.skipif(not AIRFOIL.exists(), reason="needs the airfoil data")
def test_halving_on_the_airfoil_data(load, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ADAMX_DATA", str(AIRFOIL))
    example = load("sweep_airfoil")
    monkeypatch.setattr(example, "RULES", ("adam", "lion"))
    example.main(["--repetitions", "1", "--steps", "18", "--learning-rates", "5", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert re.search(r"repetition 0: \d+\.\d % of the lane-steps, (the same|another) winner", printed)
    assert {path.name for path in tmp_path.iterdir()} == {"lanes.csv", "full.png", "halving.png"}
