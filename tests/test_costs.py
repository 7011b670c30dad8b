"""What compiled steps cost on CPU beside their inputs and outputs, and that what is computed apart to save it is the same."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from older import OLDER

import adamx

FUSION = "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion"
WITHOUT_FLAGS = ("adam", "adabelief", "eadam", "focus", "bcos", "adadelta", "qhadam", "grokfast_adamw")
"""Rules whose form sees to it that no slot is read as it was once it is written."""


def temporaries(flags, *names):
    """What `tests/temporaries.py` prints with these flags, if more than nothing: rule -> the more of its two programs."""
    script = pathlib.Path(__file__).parent / "temporaries.py"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, script, *names], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == len(names) or len(found) > 40
    return {name: max(needed) for name, needed in found.items() if max(needed) > 0.1}


@pytest.mark.skipif(OLDER, reason="XLA of these versions makes arrays with the flag too")
def test_no_elementwise_rule_needs_temporaries_as_recommended_on_cpu():
    assert temporaries(FUSION) == {}


@pytest.mark.skipif(OLDER, reason="XLA of these versions makes arrays with the flag too")
def test_a_step_reads_and_writes_no_more_arrays_than_optaxs(tmp_path):
    script, out = pathlib.Path(__file__).parents[1] / "benchmarks" / "step.py", tmp_path / "traffic.json"
    rules = ["adam", "lion", "acprop", "adafactor"]
    command = [sys.executable, script, "--parts", "traffic", "--rules", *rules, "--out", out]
    environment = os.environ | {"XLA_FLAGS": FUSION, "JAX_PLATFORMS": "cpu"}
    subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True)
    found = {row.pop("rule"): row for row in json.loads(out.read_text())["traffic"]}
    assert found == {
        "adam": {"ours": 9, "optax": 9},
        "lion": {"ours": 5, "optax": 5},
        "acprop": {"ours": 7, "optax": 7},
        "adafactor": {"ours": 11, "optax": 14},
    }


def test_rules_whose_form_needs_no_flag_have_no_temporaries():
    assert temporaries("", *WITHOUT_FLAGS) == {}


@pytest.mark.parametrize("name", ["adamod", "grokfast_adamw", "lookahead", "schedule_free"])
def test_slots_and_updates_computed_apart_are_the_same(name, monkeypatch):
    rule, rng = adamx.create(name, 1e-2), np.random.default_rng(0)
    dtypes = {"float": np.float32, "half": jnp.bfloat16, "complex": np.complex64, "absent": np.float32}
    make = {key: lambda dtype=dtype: jnp.asarray(rng.normal(size=(3, 4)), dtype) for key, dtype in dtypes.items()}
    params, steps = {key: make[key]() for key in make}, [{key: make[key]() for key in make} for _ in range(7)]

    def run():
        state, all_updates = rule.init(params), []
        for grads in steps:
            updates, state = rule.update(grads | {"absent": None}, state, params)
            all_updates.append(updates)
        return all_updates, state

    together = run()
    monkeypatch.setenv("XLA_FLAGS", FUSION)
    for actual, expected in zip(jax.tree.leaves(run()), jax.tree.leaves(together), strict=True):
        assert actual.dtype == expected.dtype
        tolerance = 1e-2 if actual.dtype == jnp.bfloat16 else 1e-5
        kind = np.complex128 if jnp.iscomplexobj(actual) else np.float64
        np.testing.assert_allclose(np.asarray(actual, kind), np.asarray(expected, kind), tolerance, 1e-6)
