"""A sweep over several devices, and over several processes, is the sweep on one."""

import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import sweep_cases as cases

import adamx
from adamx import sweep
from adamx.sweep import lanes
from adamx.sweep.setup import Setup

OPTIONS = {"steps": 40, "seeds": 2, "halving": sweep.Halving(8, 2)}


def points():
    return sweep.space(adamx.adam, learning_rate=sweep.log(1e-3, 1e-1), b2=sweep.log_complement(0.9, 0.999)).grid(
        learning_rate=5, b2=2
    )


def assert_close(a, b):
    np.testing.assert_array_equal(a.stopped_at, b.stopped_at)
    for name in a.metrics:
        np.testing.assert_allclose(a.metrics[name], b.metrics[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.fixture(scope="module")
def one():
    return sweep.run(cases.task(), points(), **OPTIONS)


def on(devices):
    return jax.make_mesh((devices,), ("anything",), devices=jax.devices()[:devices])


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_lanes_on_a_mesh_are_the_same_rules_trained_alone(devices):
    task, own = cases.task(), points()
    together = sweep.run(task, own, mesh=on(devices), steps=50, seeds=2)
    ends = np.stack([together.final(name) for name in ("w0", "w1", "w2", "b")], axis=-1)
    np.testing.assert_allclose(ends, cases.alone(task, own.rules, [0, 1], steps=50), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("devices", [2, 8])
def test_halving_on_a_mesh(one, devices):
    assert_close(sweep.run(cases.task(), points(), mesh=on(devices), **OPTIONS), one)


def test_devices_do_not_talk_but_for_the_metrics():
    mesh = jax.make_mesh((4, 2), ("a", "b"))
    options = {"evaluate_every": None, "halving": None, "target": None, "memory": None, "mesh": mesh}
    setup = Setup(cases.task(), points(), 10, 2, **options)
    program, _ = lanes.compiled(setup.functions, setup.batches[0].rules, 16, 2, setup.kind)
    text = program.as_text()
    talk = [
        line
        for line in text.splitlines()
        if any(f" {op}" in line for op in ("all-reduce(", "collective-permute(", "all-to-all("))
    ]
    assert not talk and text.count("all-gather(") <= len(setup.metrics)
    # One device has its share of the lanes.
    alone, _ = lanes.compiled(setup.functions, setup.batches[0].rules, 2, 2, setup.kind._replace(devices=None))
    assert lanes.bytes_of(program) < 1.5 * lanes.bytes_of(alone)


def test_two_processes_give_the_table_of_one(one, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [subprocess.Popen([sys.executable, __file__, address, str(i), str(tmp_path)]) for i in (0, 1)]
    try:
        assert [process.wait(timeout=200) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (sweep.load(tmp_path / f"result{i}") for i in (0, 1))
    cases.assert_same_table(first, second)
    assert_close(first, one)


def main(address, process, folder):
    """One of two processes with four devices each, that share a folder."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_num_cpu_devices", 4)
    jax.distributed.initialize(address, num_processes=2, process_id=int(process))
    assert jax.device_count() == 8 and jax.local_device_count() == 4
    mesh = jax.make_mesh((8,), ("lanes",))
    result = sweep.run(cases.task(), points(), mesh=mesh, directory=folder / "sweep", **OPTIONS)
    result.save(folder / f"result{process}")
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]))
