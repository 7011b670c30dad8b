"""Trajectories of torch and pytorch_optimizer (`golden/make.py`), and where those libraries do something else."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import optimized
from reference import REFERENCE

import adamx

DATA = np.load(Path(__file__).with_name("golden") / "trajectories.npz")
CASES = {case["id"]: case for case in json.loads(str(DATA["cases"]))}
STEPS = DATA["steps"]
LEAVES = ("w", "b")
INIT = {leaf: DATA[f"init/{leaf}"] for leaf in LEAVES}
GRADS = {leaf: DATA[f"grad/{leaf}"] for leaf in LEAVES}


FLOAT32_TOLERANCE = dict.fromkeys(
    ("prodigy_options", "dog", "dog_coupled_decay", "lookahead", "schedule_free_scheduled"), 5e-6
)
"""Cases that subtract parameters or decompose matrices, which float32 rounds."""


def by_rows(path, leaf):
    """The axes of a block in torch: all but the first; all of a vector."""
    return tuple(range(1, leaf.ndim)) or (0,)


def golden(case):
    return {leaf: DATA[f"params/{case}/{leaf}"] for leaf in LEAVES}


def half_life_of_pytorch_optimizer(start, end, steps):
    """Its warm-up of AdEMAMix's b3: 1 / log(b3) linear in t, without the 1e-8 of the authors."""

    def schedule(count):
        share = jnp.minimum((count + 1.0) / steps, 1)
        return adamx.Decay(-jnp.expm1(1 / ((1 - share) / math.log(start) + share / math.log(end))))

    return schedule


OUTPUTS_FIRST = {"adamp": {"channel_axis": 0}, "adam_mini": {"block_axes": by_rows}}
FORMS = {"adai": {"decoupled": True}, "centered_adam": {"debiased_mean": True}}
"""Rule -> arguments that say which form the source has."""


def extras_of(case):
    return CASES[case].get("extras") or {}


def further(case, step):
    """Further arguments of a step, as the case has them."""
    streams = extras_of(case)
    more = {}
    if "value" in streams:
        more["value"] = jnp.asarray(DATA["extra/value"][step])
    if "hessian" in streams and ("has_hessian" not in streams or DATA["extra/has_hessian"][step]):
        more["hessian"] = {
            leaf: DATA[f"extra/hessian/{leaf}"][step] * CASES[case]["hyper"].get("bs", 1) for leaf in LEAVES
        }
    return more


def rule_of(case):
    """The rule of a golden case."""
    hyper = {k: tuple(v) if isinstance(v, list) else v for k, v in CASES[case]["hyper"].items()}
    if case == "lion":
        hyper["weight_decay"] = 0.0
    # The sources' matrices have a row for each output.
    hyper |= OUTPUTS_FIRST.get(CASES[case]["rule"], {})
    if "learning_rate" in extras_of(case):
        rates = jnp.asarray(DATA["extra/learning_rate"])
        hyper["learning_rate"] = lambda count: rates[count]
    hyper["learning_rate"] = hyper.pop("max_learning_rate", hyper.get("learning_rate"))
    hyper |= FORMS.get(CASES[case]["rule"], {})
    if CASES[case]["rule"] == "sophia":
        hyper.pop("bs")
    if CASES[case]["rule"] == "ademamix" and (steps := hyper.pop("warmup", None)):
        hyper["alpha"] = adamx.ademamix_alpha_schedule(hyper["alpha"], steps)
        hyper["b3"] = half_life_of_pytorch_optimizer(hyper["b1"], hyper["b3"], steps)
    return adamx.create(CASES[case]["rule"], **hyper)


def update(rule, grads, state, params, more):
    return rule.update(grads, state, params, **more)


UPDATES = {np.float32: optimized(update), np.float64: jax.jit(update)}
"""`update` in each dtype: as it is used where the last bits count."""


def run(rule, dtype, case=None, shown=lambda rule, state, params: params):
    """The rule's parameters at the kept steps.

    They are added up in float64, and rounded to `dtype` for the rule: an update counts with its own error, not with that of storing the
    parameters it is added to.
    """
    cast = {leaf: GRADS[leaf].astype(dtype) for leaf in LEAVES}
    params, kept = dict(INIT), {leaf: [] for leaf in LEAVES}
    state = rule.init({leaf: p.astype(dtype) for leaf, p in params.items()})
    for step in range(STEPS[-1]):
        seen = {leaf: p.astype(dtype) for leaf, p in params.items()}
        more = jax.tree.map(lambda x: np.asarray(x, dtype), further(case, step)) if case else {}
        updates, state = UPDATES[dtype](rule, {leaf: cast[leaf][step] for leaf in LEAVES}, state, seen, more)
        params = {leaf: params[leaf] + np.asarray(updates[leaf], np.float64) for leaf in LEAVES}
        if step + 1 in STEPS:
            for leaf in LEAVES:
                kept[leaf].append(np.asarray(shown(rule, state, params)[leaf]))
    # For the leaves that are no matrices, Muon's source takes another rule.
    kept = {"w": kept["w"]} if case == "muon" else kept
    return {leaf: np.stack(values) for leaf, values in kept.items()}


def distance(actual, expected):
    """Largest difference of parameters, relative to the largest movement of a parameter in the leaf."""
    return max(np.max(np.abs(actual[k] - expected[k])) / np.max(np.abs(expected[k] - INIT[k])) for k in actual)


def run_reference(function, **hyper):
    kept = {leaf: function(INIT[leaf], GRADS[leaf], **hyper) for leaf in LEAVES}
    return {leaf: path[STEPS - 1] for leaf, path in kept.items()}


OTHER_FORMS = {
    "adanorm": "pytorch_optimizer adds no eps to the stored second moment, the authors do",
    "polyak_sgd": "Optax's code scales the gradient before its norm too, its documentation does not",
}
"""Cases whose source has another form than the one chosen, and why."""

SAME = [
    case for case in CASES if ("differs" not in CASES[case] or case == "adanorm_authors") and case not in OTHER_FORMS
]
DIFFERENT = [
    *OTHER_FORMS,
    "acprop_optax",
    "bcos_pytorch_optimizer",
    "grams_pytorch_optimizer",
    "muon_optax",
    "padam_pytorch_optimizer",
]
DIFFERENT += [
    "grokfast_adamw_pytorch_optimizer",
    "simplified_ademamix_pytorch_optimizer",
    "stable_spam_authors",
    "tiger_scaled",
]


@pytest.mark.parametrize("case", DIFFERENT)
def test_other_forms_are_told_apart(case):
    with jax.enable_x64(True):
        assert distance(run(rule_of(case), np.float64, case), golden(case)) > 1e-4


def test_the_average_of_schedule_free_is_that_of_the_authors():
    case = "schedule_free_eval"
    with jax.enable_x64(True):
        assert distance(run(rule_of(case), np.float64, case, adamx.eval_params), golden(case)) < 1e-10


@pytest.mark.parametrize("case", SAME)
def test_same_as_torch_or_pytorch_optimizer_in_float64(case):
    with jax.enable_x64(True):
        assert distance(run(rule_of(case), np.float64, case), golden(case)) < 1e-10


@pytest.mark.parametrize("case", SAME)
def test_same_as_torch_or_pytorch_optimizer_in_float32(case):
    assert distance(run(rule_of(case), np.float32, case), golden(case)) < FLOAT32_TOLERANCE.get(case, 1e-6)


# Where they differ: what their code does is reproduced to the last digits, and adamx is told apart from it


def test_adamx_and_torch_place_the_eps_of_radam_differently():
    hyper = CASES["radam_large_eps"]["hyper"]
    assert distance(run_reference(REFERENCE["radam"], **hyper, eps_form="torch"), golden("radam_large_eps")) < 1e-10
    with jax.enable_x64(True):
        ours = run(rule_of("radam_large_eps"), np.float64)
    assert distance(ours, run_reference(REFERENCE["radam"], **hyper)) < 1e-10
    assert distance(ours, golden("radam_large_eps")) > 1e-3
    assert "Differs from torch" in adamx.radam.__doc__


def lamb_of_pytorch_optimizer(params, grads, learning_rate, b1, b2, eps, weight_decay):
    """LAMB as pytorch_optimizer was run: no bias correction, ||p|| held at 10, eps beside the norm of the update too."""
    p, m, v, path = params, np.zeros_like(params), np.zeros_like(params), []
    for g in grads:
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        u = m / (np.sqrt(v) + eps) + weight_decay * p
        p = p - learning_rate * u * min(np.linalg.norm(p), 10) / (np.linalg.norm(u) + eps)
        path.append(p)
    return np.stack(path)


def test_adamx_and_pytorch_optimizer_differ_in_the_bias_correction_of_lamb():
    hyper = CASES["lamb_pytorch_optimizer"]["hyper"]
    theirs = golden("lamb_pytorch_optimizer")
    assert distance(run_reference(lamb_of_pytorch_optimizer, **hyper), theirs) < 1e-10
    # The paper's third version is theirs but for the eps beside the norm; the form with bias correction is further away.
    assert distance(run_reference(REFERENCE["lamb"], **hyper, form="paper", clamp=10), theirs) < 3e-2
    with jax.enable_x64(True):
        ours = run(rule_of("lamb_pytorch_optimizer"), np.float64)
    assert distance(ours, run_reference(REFERENCE["lamb"], **hyper)) < 1e-10
    assert distance(ours, theirs) > 3e-2
    assert "Differs from pytorch_optimizer" in " ".join(adamx.lamb.__doc__.split())


def test_the_warm_up_of_ademamix_differs_from_pytorch_optimizer_by_an_offset_of_1e_8():
    hyper = CASES["ademamix_warmup"]["hyper"]
    b3 = adamx.ademamix_b3_schedule(hyper["b1"], hyper["b3"], hyper["warmup"])
    rule = rule_of("ademamix_warmup")
    mixed = rule.stages[0]
    with jax.enable_x64(True):
        ours = run(rule.replace(adamx.MixedMomentum, adamx.MixedMomentum(mixed.b1, b3, mixed.alpha)), np.float64)
    assert 1e-9 < distance(ours, golden("ademamix_warmup")) < 1e-5
    assert "leaves out the authors' 1e-8" in adamx.ademamix.__doc__


def test_adopt_of_pytorch_optimizer_clips_one_step_later():
    def later(count):
        return (count + 1) ** 0.25

    hyper = {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "eps": 1e-6}
    with jax.enable_x64(True):
        default = run(adamx.adopt(**hyper), np.float64)
        theirs = run(adamx.adopt(**hyper, clip_value_fn=later), np.float64)
    assert distance(default, run_reference(REFERENCE["adopt"], **hyper)) < 1e-10
    assert distance(theirs, run_reference(REFERENCE["adopt"], **hyper, clip=later)) < 1e-10
    assert distance(default, theirs) > 1e-3
    assert "Differs from pytorch_optimizer" in adamx.adopt.__doc__


def test_golden_trajectories_move_every_leaf_of_every_case():
    for case in CASES:
        assert all(np.isfinite(x).all() and np.max(np.abs(x - INIT[leaf])) > 1e-3 for leaf, x in golden(case).items())
