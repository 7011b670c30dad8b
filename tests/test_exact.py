"""Every rule against the NumPy float64 reference, over five kinds of gradients, in float32, float64 and complex64.

What is compared are updates. The rule is fed the reference's parameters at every step (its slots stay its own), so that an error of one
step does not reach the next one through the parameters, and rounding of the parameters, which is not the rule's, does not count.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, build, reference_path
from checks import optimized
from reference import REFERENCE

import adamx

STEPS, SIZE = 50, 12
NEAR_ONE = (0.999, 0.9999, 0.99999)
DECAY_RATES = ("b2", "b3", "decay", "rho")

# Where every step changes a slot by nearly the same small number, float32 rounds it the same way every time.
FLOAT32_TOLERANCE = {"rmsprop_initial_scale": 2e-6, "rmsprop_centered_initial_scale": 2e-6, "adabelief_eps": 2e-6}
# These subtract parameters of about 1, rounded to float32, to move by about a hundredth; Prodigy's first steps are below that rounding.
FLOAT32_TOLERANCE |= dict.fromkeys(
    ("schedule_free", "schedule_free_decay", "lookahead", "lookahead_often", "prodigy_limited", "dadapt_adamw_limited"),
    3e-5,
)
FLOAT32_TOLERANCE |= {"prodigy": 2e-2, "dadapt_adamw_options": 3e-5}
# A momentum over a small curvature.
FLOAT32_TOLERANCE |= {"sophia": 2e-5, "sophia_clipped": 2e-5}
FLOAT32_TOLERANCE |= {"muon_matrix": 3e-6}
# Preconditioners of heavy-tailed gradients are ill-conditioned, and of gradients that span one direction have no definite eigenvectors.
FLOAT32_TOLERANCE |= {"soap_matrix": 1e-2, "soap_cube": 3e-4, "soap_one_side": 2e-5}
NOT_DEFINITE = dict.fromkeys(("soap_matrix", "soap_cube", "soap_one_side"), ("constant", "sign_flipping"))
# The reference subtracts numbers of about 2000 to get RAdam's length of the average, of about 5.
FLOAT64_TOLERANCE = dict.fromkeys(("radam", "radam_wait", "radam_nesterov", "radam_short"), 2e-11)
# The reference takes its variance as a difference of averages.
FLOAT64_TOLERANCE["msvag"] = 1e-11


def make_gradients():
    """Kind -> gradients of all steps, as float64 arrays of float32 numbers."""
    rng = np.random.default_rng(0)
    shape = (STEPS, SIZE)
    normal = rng.normal(size=shape)
    kinds = {
        "random": normal,
        "heavy_tailed": rng.standard_t(1.5, shape) * 10 ** rng.uniform(-3, 1, SIZE),
        "sparse": normal * (rng.uniform(size=shape) < 0.2),
        "constant": np.broadcast_to(rng.normal(size=SIZE), shape),
        "sign_flipping": rng.normal(size=SIZE) * (-1.0) ** np.arange(STEPS)[:, None],
    }
    return {kind: g.astype(np.float32).astype(np.float64) for kind, g in kinds.items()}


GRADIENTS = make_gradients()
GRADS = np.stack(list(GRADIENTS.values()))
PARAMS = np.random.default_rng(1).normal(size=(len(GRADS), SIZE)).astype(np.float32).astype(np.float64)
TURN = np.exp(1j * np.arange(STEPS)[:, None] * np.linspace(0.1, 1, SIZE))


VALUES = np.random.default_rng(2).uniform(0.5, 2, (len(GRADS), STEPS)).astype(np.float32).astype(np.float64)
HESSIANS = (GRADS[::-1] ** 2).astype(np.float32).astype(np.float64)
ORACLES = {
    "polyak_sgd": ("value", "values", VALUES),
    "sophia": ("hessian", "hessians", HESSIANS),
    "adahessian": ("hessian", "hessians", HESSIANS),
}
"""Rule -> a further argument of its steps: its name in adamx, in the reference, and the argument for each kind of gradients."""


def cut(x, leaves):
    """An array as a tree of so many."""
    return x if leaves == 1 else dict(enumerate(jnp.array_split(x, leaves)))


def updates_of(rule, params, grads, further, leaves=1):
    """The updates at given parameters and gradients, both (kinds, steps, *shape), and further arguments of the steps by name."""

    def of_kind(params, grads, further):
        def step(state, at_step):
            p, g, more = at_step
            updates, state = rule.update(cut(g, leaves), state, cut(p, leaves), **more)
            return state, updates if leaves == 1 else jnp.concatenate(list(updates.values()))

        return jax.lax.scan(step, rule.init(cut(params[0], leaves)), (params, grads, further))[1]

    return jax.vmap(of_kind)(params, grads, further)


PROGRAMS = {
    np.float32: optimized(updates_of, static_argnums=4),
    np.float64: jax.jit(updates_of, static_argnums=4),
    np.complex64: jax.jit(updates_of, static_argnums=4),
}
"""`updates_of` in each dtype: as it is used where the last bits count."""


def assert_exact(case, dtype, tolerance, params=PARAMS, grads=GRADS, skipped=(), **hyper):
    """The rule's updates equal the reference's, relative to the largest one of each kind of gradients."""
    params, grads = params.reshape(-1, *case.shape), grads.reshape(-1, STEPS, *case.shape)
    name, in_reference, given = ORACLES.get(case.rule, (None, None, None))
    given = given if name != "hessian" else given.reshape(grads.shape)
    further = [{} if name is None else {in_reference: given[i]} for i in range(len(grads))]
    after = np.stack(
        [reference_path(case, p, g, **hyper, **more) for p, g, more in zip(params, grads, further, strict=True)]
    )
    before = np.concatenate([params[:, None], after[:, :-1]], axis=1)
    expected = after - before
    further = {} if name is None else {name: given.astype(np.finfo(dtype).dtype)}
    rule = build(case, **hyper)
    actual = np.asarray(PROGRAMS[dtype](rule, before.astype(dtype), grads.astype(dtype), further, case.leaves))
    assert actual.dtype == dtype
    # The reference rounds its parameters to float64; the difference of two of them is as uncertain as that.
    rounding = 4 * np.finfo(np.float64).eps * np.max(np.abs(after))
    # The first step apart: a centred rule's is ten thousand times larger than those that follow.
    for steps in (slice(0, 1), slice(1, None)):
        error = largest(actual[:, steps] - expected[:, steps])
        allowed = tolerance * largest(expected[:, steps]) + rounding
        errors = {kind: (e, a) for kind, e, a in zip(GRADIENTS, error, allowed, strict=True) if kind not in skipped}
        inexact = {kind: e / a for kind, (e, a) in errors.items() if not e <= a}
        assert not inexact, f"errors in units of the tolerance: {inexact}"


def largest(x):
    """Largest modulus, for each kind of gradients."""
    return np.max(np.abs(x.reshape(len(x), -1)), axis=1)


def rates_near_one(case):
    """The decay rates of a case that act over long times, as the arguments that set them near one."""
    arguments = inspect.signature(adamx.CATALOGUE[case.rule].constructor).parameters
    names = [name for name in DECAY_RATES if name in arguments and name not in case.reference_hyper]
    return [{name: rate} for name in names if not callable(case.hyper.get(name)) for rate in NEAR_ONE]


def test_every_rule_has_a_reference_and_a_case():
    assert set(adamx.CATALOGUE) == set(REFERENCE) == {case.rule for case in CASES.values()}
    assert set(adamx.CATALOGUE) <= set(CASES)


@pytest.mark.parametrize("name", adamx.CATALOGUE)
def test_every_keyword_option_is_in_a_case(name):
    parameters = inspect.signature(adamx.CATALOGUE[name].constructor).parameters.values()
    tested = {option for case in CASES.values() if case.rule == name for option in case.hyper}
    assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} <= tested


@pytest.mark.parametrize("case", CASES)
def test_exact_in_float32(case):
    tolerance = FLOAT32_TOLERANCE.get(case, 1e-6)
    for hyper in [{}, *rates_near_one(CASES[case])]:
        assert_exact(CASES[case], np.float32, tolerance, skipped=NOT_DEFINITE.get(case, ()), **hyper)


@pytest.mark.parametrize("case", CASES)
def test_exact_in_float64(case):
    with jax.enable_x64(True):
        assert_exact(CASES[case], np.float64, FLOAT64_TOLERANCE.get(case, 1e-12), skipped=NOT_DEFINITE.get(case, ()))


@pytest.mark.parametrize("name", adamx.CATALOGUE)
def test_exact_in_complex64(name):
    params, grads = (x.astype(np.complex64).astype(np.complex128) for x in (PARAMS * TURN[3], GRADS * TURN))
    # Where an average nearly vanishes, its phase, and so its sign, is uncertain.
    tolerance = 1e-5 if name in ("lion", "signum", "tiger", "focus") else FLOAT32_TOLERANCE.get(name, 1e-6)
    assert_exact(CASES[name], np.complex64, tolerance, params, grads)
