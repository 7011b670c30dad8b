"""Wrong arguments and Ctrl-C: one line, before any work or at once, and nothing lost."""

import resource
import signal
import subprocess
import time

import pandas as pd
import pytest
from scripts import load, start

# Wrong arguments

WRONG = {  # by the script that once failed late, or did something else, each in a process of its own
    ("amsgrad_counterexample.py", "--steps", "-3"): "a multiple of 1,000 from 1,000 .* got '-3'",
    ("amsgrad_counterexample.py", "--steps", "1234"): "a multiple of 1,000 from 1,000 .* got '1234'",
    ("amsgrad_counterexample.py", "--lanes", "0"): "--lanes: expected a whole number from 1 .* got '0'",
    ("airfoil.py", "--seeds", "0"): "--seeds: expected a whole number from 1 .* got '0'",
    ("airfoil_exercises.py", "--epochs", "3"): "--epochs: expected a multiple of 2 .* got '3'",
    ("course_optimizers.py", "--epochs", "0"): "--epochs: expected a whole number from 1 .* got '0'",
    ("gradient_signal.py", "--steps", "20000"): "--steps: expected a whole number from 1 to 10,000, got '20000'",
    ("rescaling_invariance.py", "--steps", "0"): "--steps: expected a whole number from 1 .* got '0'",
    (
        "tune_digits.py",
        "--out",
        "/dev/null/results",
    ): "--out: cannot write into '/dev/null/results': /dev/null: Not a dir",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_wrong_argument_is_one_line_before_any_work(arguments, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = start(*arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, errors = process.communicate(timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == 2 and not printed and not list(tmp_path.iterdir())
    assert errors.count("\n") == 1 and "Traceback" not in errors
    assert_matches(errors, f"{arguments[0]}: .*{WRONG[arguments]}")
    # On a quiet machine, these seconds are those of the clock.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5


def assert_matches(text, pattern):
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("amsgrad_counterexample", ["--steps", "0"], "got '0'"),
        ("amsgrad_counterexample", ["--steps", "many"], "got 'many'"),
        ("amsgrad_counterexample", ["--seeds", "0"], "got '0'"),
        ("amsgrad_counterexample", ["--all", "adma"], "invalid choice: 'adma'"),
        ("amsgrad_counterexample", ["--lanes", "4", "--steps", "1000"], "--lanes measures 600,000 steps"),
        ("amsgrad_counterexample", ["--all", "--tensorboard"], "goes without --lanes and --all"),
        ("airfoil_exercises", ["--steps", "1234"], "multiple of 10,000"),
        ("airfoil_exercises", ["--seeds", "0"], "got '0'"),
        ("build_your_own", ["--steps", "0"], "got '0'"),
        ("chain_with_optax", ["--steps", "5"], "multiple of 4"),
        ("course_optimizers", ["--seeds", "0"], "got '0'"),
        ("course_optimizers", ["--doublings", "-1"], "got '-1'"),
        ("course_optimizers", ["--download"], "--download needs --fashion-mnist DIR"),
        ("course_optimizers", ["--fashion-mnist", "nowhere"], "nowhere has neither train-images"),
        ("hypergradients", ["--steps", "-3"], "got '-3'"),
        ("images", ["/dev/null/x"], "cannot write into"),
        ("rescaling_invariance", ["--rules", "adma"], "invalid choice: 'adma'"),
        ("tune_digits", ["--epochs", "0"], "got '0'"),
        ("tune_digits", ["--seeds", "0"], "got '0'"),
        ("tune_digits", ["--learning-rates", "1.5"], "got '1.5'"),
        ("tune_digits", ["--tensorboard"], "unrecognized arguments"),
        ("gradient_signal", ["--out", "/dev/null/x"], "cannot write into '/dev/null/x': /dev/null: Not a dir"),
    ],
)
def test_every_other_wrong_argument(name, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        load(name).main(arguments)
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and errors.count("\n") == 1 and message in errors and not list(tmp_path.iterdir())


def test_data_that_are_another_file_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ADAMX_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("airfoil", "airfoil_exercises"):
        with pytest.raises(SystemExit) as ended:
            load(name).main([])
        assert ended.value.code == 2 and "airfoil_self_noise.dat does not exist; unset ADAMX" in capsys.readouterr().err
    (tmp_path / "airfoil_self_noise.dat").write_text("1\t2\n")
    with pytest.raises(SystemExit):
        load("airfoil").main([])
    assert "is not the file expected: sha1" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1


# Ctrl-C

LONG = {  # arguments -> what is finished first; None: Ctrl-C comes before that
    ("amsgrad_counterexample.py", "--steps", "1000"): "online.csv",
    ("amsgrad_counterexample.py", "--all", "--steps", "1000"): "fooled.csv",
    ("amsgrad_counterexample.py", "--lanes", "64"): None,
    ("airfoil.py",): None,
    ("airfoil_exercises.py",): None,
    ("rescaling_invariance.py",): None,
    ("course_optimizers.py",): "constant_gradient.csv",
    ("tune_digits.py", "--epochs", "1", "--learning-rates", "2"): "unfinished",
}


@pytest.mark.parametrize("arguments", LONG, ids=" ".join)
def test_an_interrupt_ends_a_script_at_once_and_keeps_what_is_finished(arguments, tmp_path):
    out, log, first = tmp_path / "out", tmp_path / "log", LONG[arguments]
    with log.open("w") as errors:
        process = start(*arguments, "--out", out, cwd=tmp_path, stdout=subprocess.PIPE, stderr=errors)
        # A bar is shown when work begins. By then or by the first result, what comes next is a compilation.
        wait_for(lambda: "%|" in log.read_text() if first is None else (out / first).exists(), process)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    seconds, lines = time.monotonic() - begun, log.read_text().splitlines()
    assert process.returncode == 130 and not printed and seconds < 2
    assert sum("interrupted" in line for line in lines) == 1 and lines[-1].startswith("interrupted; kept: ")
    assert not any("Traceback" in line for line in lines)
    kept = sorted(out.iterdir()) if out.exists() else []
    if first is None:
        assert lines[-1].endswith("nothing, as nothing was finished") and not kept
    else:
        assert str(out / first) in lines[-1] and all(str(path) in lines[-1] for path in kept)
        assert (
            len(pd.read_csv(out / first)) > 0 if first.endswith(".csv") else (out / first / "definition.json").exists()
        )


def test_an_interrupt_while_jax_is_imported(tmp_path):
    process = start("airfoil.py", "--out", tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and not printed
    assert errors.strip() == "interrupted; kept: nothing, as nothing was finished"


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
