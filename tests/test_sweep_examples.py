"""The examples of sweeps, run small, each in a process of its own."""

import re

import numpy as np
from scripts import is_picture, run


def test_optuna_improves_batch_by_batch():
    printed = run("sweep_with_optuna.py", None, "--batches", 2, "--size", 4, "--steps", 20)
    numbers = re.findall(r"(?:so far |\), |of \d+: )([\d.]+)$", printed, re.MULTILINE)
    first, second, best, sobol = map(float, numbers)
    assert best == second <= first < 2 and 0 < sobol < 3


def test_descent_from_a_sweeps_best_improves_every_point():
    printed = run("sweep_then_descend.py", None, "--points", 8, "--descents", 3, "--steps", 10)
    rows = [line.split() for line in printed.splitlines() if line.startswith("point")]
    table = np.array([row[2:] for row in rows], float)
    assert table.shape == (8, 3) and (np.diff(table[:, 0]) >= 0).all()
    np.testing.assert_allclose(table[:, 0], table[:, 1], rtol=1e-3)
    assert (table[:, 2] <= table[:, 1]).all() and (table[:, 2] < table[:, 1]).sum() >= 6


def test_eight_devices():
    printed = run("sweep_on_a_mesh.py", None, "--steps", 10)
    assert "48 points x 3 seeds x 10 steps, 0 lanes diverged; 8 devices, 1 processes" in printed
    losses = [float(line.split()[0]) for line in printed.splitlines()[1:]]
    assert len(losses) == 5 and losses == sorted(losses) and "adamx.adam(learning_rate=" in printed


def test_halving_on_the_airfoil_data(tmp_path):
    printed = run("sweep_airfoil.py", tmp_path, "--repetitions", 1, "--steps", 18, "--learning-rates", 5)
    assert re.search(r"repetition 0: \d+\.\d % of the lane-steps, (the same|another) winner", printed)
    assert {path.name for path in tmp_path.iterdir()} == {"lanes.csv", "full.png", "halving.png"}
    assert is_picture(tmp_path / "full.png") and is_picture(tmp_path / "halving.png")
