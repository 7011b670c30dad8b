"""A sweep that was killed goes on, bit for bit; a folder that is not its own is refused and left as it is."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import optax
import pytest
import sweep_cases as cases

import adamx
from adamx import sweep

OPTIONS = {"steps": 60, "seeds": 2, "evaluate_every": 2, "halving": sweep.Halving(20, 3)}


def points():
    return {
        "adam": sweep.space(adamx.adam, learning_rate=sweep.log(1e-3, 1e38)).grid(learning_rate=7),
        "lion": sweep.space(adamx.lion, learning_rate=sweep.log(1e-3, 1)).grid(learning_rate=4),
    }


def main(folder, slow):
    """What the killed process runs: with each file it is a little slower, so that a kill finds it under way."""
    if slow:
        save = sweep.runner.Folder.save
        sweep.runner.Folder.save = lambda *arguments: (save(*arguments), time.sleep(0.02))
    sweep.run(cases.task(), points(), directory=folder, progress=False, **OPTIONS).save(folder / "result")


@pytest.fixture(scope="module")
def whole():
    return sweep.run(cases.task(), points(), **OPTIONS)


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("chunk-*.npz")}


def digest(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_at_random_moments_it_gives_the_same_table(whole, tmp_path):
    rng = np.random.default_rng(int(os.environ.get("ADAMX_KILL_SEED", 0)))
    kills = int(os.environ.get("ADAMX_KILLS", 2))
    for _ in range(kills):
        before, begun = times(tmp_path), time.monotonic()
        process = subprocess.Popen([sys.executable, __file__, str(tmp_path)])
        # From the first file that it writes on: before, it makes no headway.
        while times(tmp_path) == before and process.poll() is None:
            assert time.monotonic() < begun + 100
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    cases.assert_same_table(sweep.run(cases.task(), points(), directory=tmp_path, **OPTIONS), whole)
    # Finished, it trains nothing any more.
    with cases.compilations():
        files = digest(tmp_path)
        cases.assert_same_table(sweep.run(cases.task(), points(), directory=tmp_path, **OPTIONS), whole)
    assert digest(tmp_path) == files and not list(tmp_path.glob(".*"))


@pytest.fixture
def folder(tmp_path):
    sweep.run(cases.task(), sweep.zipped(adamx.sgd, learning_rate=[0.1, 0.2]), steps=10, directory=tmp_path)
    return tmp_path


def resumed(folder, task=None, learning_rate=(0.1, 0.2), **options):
    own = sweep.zipped(adamx.sgd, learning_rate=list(learning_rate))
    return sweep.run(task or cases.task(), own, directory=folder, **{"steps": 10} | options)


def other_loss(params, batch):
    return 2 * cases.loss(params, batch)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 20}, "steps: 10 there, 20 now"),
        ({"seeds": 2}, r"seeds: \[0\] there, \[0, 1\] now"),
        ({"learning_rate": (0.1, 0.3)}, "points of sgd: "),
        ({"evaluate_every": 5}, "evaluate_every: 1 there, 5 now"),
        ({"halving": sweep.Halving(2)}, r"halving: None there, Halving\(first_rung=2"),
        ({"target": {"loss": 1.0}}, r"target: {} there, {'loss': 1.0} now"),
        ({"task": sweep.arrays(cases.init, other_loss, cases.data(), 8, cases.evaluate)}, "task's loss: "),
        ({"task": sweep.arrays(cases.init, cases.loss, cases.data(23), 8, cases.evaluate)}, "task's batch: "),
    ],
)
def test_a_changed_definition_is_refused(folder, change, said):
    before = digest(folder)
    with pytest.raises(ValueError, match=rf"holds another sweep \(.*{said}.*another folder"):
        resumed(folder, **change)
    assert digest(folder) == before


def test_numbers_hidden_in_functions_are_part_of_the_definition(tmp_path):
    def points(limit, decay):
        def rule(learning_rate):
            own = adamx.adam(learning_rate, b1=lambda count: decay)
            return adamx.chain(optax.clip_by_global_norm(limit), own)

        return sweep.zipped(rule, learning_rate=[0.1, 0.2])

    sweep.run(cases.task(), points(1.0, 0.9), steps=4, directory=tmp_path)
    sweep.run(cases.task(), points(1.0, 0.9), steps=4, directory=tmp_path)
    for other in (points(0.01, 0.9), points(1.0, 0.1)):
        with pytest.raises(ValueError, match=r"holds another sweep \(.*rules' steps: \w+ there, \w+ now"):
            sweep.run(cases.task(), other, steps=4, directory=tmp_path)


def test_damaged_and_foreign_files_are_refused_and_left(folder, tmp_path_factory):
    (chunk,) = folder.glob("chunk-*.npz")
    content = chunk.read_bytes()
    other = tmp_path_factory.mktemp("other")
    sweep.run(cases.task(), sweep.zipped(adamx.sgd, learning_rate=[0.3, 0.2]), steps=10, directory=other)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 255
    for bad in (
        content[:-100],
        content[: len(content) // 2],
        b"",
        b"hello",
        bytes(flipped),
        (other / chunk.name).read_bytes(),
    ):
        chunk.write_bytes(bad)
        before = digest(folder)
        with pytest.raises(ValueError, match=f"{chunk.name} cannot be gone on from .* it was left as it is. Remove it"):
            resumed(folder)
        assert digest(folder) == before
    chunk.write_bytes(content)
    for bad in (b"{", b"[]", b"{}"):
        (folder / "definition.json").write_bytes(bad)
        with pytest.raises(ValueError, match=r"definition.json is not the definition of a sweep, or is damaged"):
            resumed(folder)
        assert (folder / "definition.json").read_bytes() == bad
    (folder / "definition.json").unlink()
    with pytest.raises(ValueError, match="but no definition.json: give the sweep another folder"):
        resumed(folder)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), slow=True)
