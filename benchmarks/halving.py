"""Does successive halving find the full sweep's winner? On the airfoil data and the digits, each time with seeds of its own.

Found is the winner of the full sweep, or a point whose mean over seeds in the full sweep is within two standard errors of the difference
(as of independent samples) of it.

    python benchmarks/halving.py [--tasks airfoil digits] [--repetitions 20]
"""

import argparse
import pathlib
import sys

import common
import jax

from adamx import sweep

sys.path.append(str(pathlib.Path(__file__).parents[1] / "examples"))
import sweep_airfoil  # noqa: E402
import tune_digits  # noqa: E402


def digits():
    """The task of tune_digits, with the points and the steps of sweep_airfoil."""
    splits = tune_digits.digits()
    measure = jax.tree_util.Partial(tune_digits.evaluate, splits)
    task = sweep.arrays(tune_digits.network, digits_loss, splits["train"], 64, measure)
    return task, sweep_airfoil.points(), sweep_airfoil.STEPS, "validation_loss"


def digits_loss(params, batch):
    """Mean cross-entropy."""
    return tune_digits.loss_and_error(params, *batch)[0]


def airfoil():
    """The task, the points and the steps of sweep_airfoil."""
    return sweep_airfoil.task(), sweep_airfoil.points(), sweep_airfoil.STEPS, "validation"


TASKS = {"airfoil": airfoil, "digits": digits}


def measure(name, repetitions):
    """One row of the table."""
    task, points, steps, metric = TASKS[name]()
    halving = sweep.Halving(steps // 9, 3, metric=metric)
    *_, rows = sweep_airfoil.compare(task, points, halving, repetitions, steps=steps)
    shares, same, excess, noise = zip(*rows, strict=True)
    return {
        "task": name,
        "points": sum(map(len, points.values())),
        "steps": steps,
        "halving": repr(halving),
        "repetitions": repetitions,
        "the winner": sum(same),
        "or within its noise": sum(a or b <= c for a, b, c in zip(same, excess, noise, strict=True)),
        "largest share of the lane-steps": max(float(share) for share in shares),
    }


def main():
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--out", default=common.RESULTS / "halving.json")
    options = parser.parse_args()
    record = common.environment(dtype="float32", seeds=sweep_airfoil.SEEDS)
    common.print_environment(record)
    record["halving"] = [measure(name, options.repetitions) for name in options.tasks]
    common.print_table("Halving against the full sweep", record["halving"])
    common.write_json(options.out, record)


if __name__ == "__main__":
    main()
