"""What holds for every rule: it converges, compiles once, is data, and stays finite."""

import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from cases import CASES
from checks import (
    INTEGERS,
    PAIR,
    assert_close,
    assert_finite,
    assert_same,
    at,
    case_rule,
    each_case,
    each_line,
    each_rule,
    further,
    lane,
    normal,
    of_matrices,
    optimized,
    rule_of,
    run,
    run_each,
    takes,
    tree,
)
from older import OLDER

import adamx
from adamx.hyperparameters import Scheduled

# Converges


def loss_of(problem):
    """A bowl, ten times steeper one way, for 0; Rosenbrock's valley for 1: one program for both."""

    def loss(p):
        bowl = 0.5 * jnp.sum(jnp.array([1.0, 10.0]) * p**2)
        valley = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
        return jnp.where(problem > 0, valley, bowl)

    return loss


BOWL_RATES = {
    "adahessian": 0.1,
    "dog": 1.0,
    "dowg": 1.0,
    "lars": 10.0,
    "polyak_sgd": 1.0,
    "tiger": 0.01,
    "adadelta": 10.0,
    "lion": 0.01,
    "novograd": 0.001,
    "rmsprop": 0.01,
}
ROSENBROCK_RATES = {
    "acprop": 0.01,
    "adafactor": 0.01,
    "adai": 0.003,
    "adapnm": 3.0,
    "aggmo": 0.001,
    "bcos": 0.001,
    "focus": 0.003,
    "fromage": 0.01,
    "lars": 1.0,
    "msvag": 0.003,
    "signum": 0.001,
    "simplified_ademamix": 0.001,
    "stable_adamw": 0.03,
    "stable_spam": 0.001,
    "tiger": 0.001,
    "dog": 1.0,
    "adadelta": 0.3,
    "adagrad": 1.0,
    "adamax": 0.3,
    "adamaxw": 0.3,
    "adan": 0.01,
    "ademamix": 0.03,
    "adopt": 1.0,
    "lamb": 0.03,
    "lion": 0.003,
    "momentum": 0.01,
    "nadam": 0.03,
    "nadamw": 0.03,
    "novograd": 0.001,
    "radam": 0.003,
    "rmsprop": 0.01,
    "sgd": 0.001,
}


TAMED = {"adabound": {"final_lr": 1e-3}, "amsbound": {"final_lr": 1e-3}, "simplified_ademamix": {"b1": 0.9}}
"""Arguments that these problems need: the SGD that AdaBound ends as has a rate of its own; a sum over 100 steps swings long."""


@jax.jit
def remaining_loss(rule, problem, start, steps):
    """Loss at the end over loss at the start."""
    loss = loss_of(problem)

    def step(t, carry):
        params, state = carry
        given = {"value": loss(params), "hessian": adamx.hessians.hutchinson(loss, params, jax.random.key(t))}
        more = {name: given[name] for name in further(rule, params)}
        updates, state = rule.update(jax.grad(loss)(params), state, params, **more)
        return optax.apply_updates(params, updates), state

    params, _ = jax.lax.fori_loop(0, steps, step, (start, rule.init(start)))
    return loss(params) / loss(start)


# Problem -> its number in `loss_of`, start, steps, what must be left of the loss at most, learning rates of rules.
PROBLEMS = {
    "a bowl": (0, [1.0, -1.0], 300, 1e-2, BOWL_RATES),
    "rosenbrock's valley": (1, [-1.2, 1.0], 5000, 0.02, ROSENBROCK_RATES),
}


@each_rule
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_loss_falls_a_hundredfold_on_a_bowl_and_fiftyfold_in_rosenbrocks_valley(name, problem):
    number, start, steps, at_most, rates = PROBLEMS[problem]
    rule = rule_of(name, rates.get(name, 0.1), **TAMED.get(name, {}))
    assert remaining_loss(rule, number, jnp.array(start), steps) < at_most


# Compiles once, and to the same


@pytest.mark.usefixtures("optimizing")
class Variants(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True, without_device=True)
    @parameterized.parameters(*adamx.CATALOGUE)
    def test_compiled_or_not_on_the_device_or_not_every_bit_is_the_same(self, name):
        rule, params, grads = rule_of(name, weight_decay=0.1), tree(shapes=PAIR), tree(1, 3, PAIR)
        update = self.variant(rule.update)
        state, expected = rule.init(params), rule.init(params)
        # A sum over the tree, part of one program, may be added up in another order; from JAX 0.12 on, Muon's products too.
        reordered = any(stage.sums for stage in rule.stages) or name == "muon" and jax.__version_info__ >= (0, 12)
        compare = assert_close if reordered else assert_same
        for step in range(3):
            g = at(grads, step)
            wanted, expected = rule.update(g, expected, params, **further(rule, g))
            updates, state = update(g, state, params, **further(rule, g))
            compare((updates, state), (wanted, expected))


@each_rule
def test_a_function_of_the_rule_is_traced_once_for_five_learning_rates(name):
    first = jax.jit(chex.assert_max_traces(n=1)(first_update.__wrapped__))
    chex.clear_trace_counter()
    params = tree()["kernel"]
    sizes = [optax.tree.norm(first(rule_of(name, rate), params)[0]) for rate in (1e-3, 3e-3, 1e-2, 3e-2, 0.1)]
    assert sorted(sizes) == sizes


# Is data


def neighbours(rule):
    """Rules that differ from `rule` in one leaf: three for each leaf."""
    leaves, structure = jax.tree.flatten(rule)
    for i, leaf in enumerate(leaves):
        for factor in (0.5, 0.75, 0.875):
            changed = leaf * factor if leaf else 1e-3 * factor
            yield structure.unflatten([*leaves[:i], changed, *leaves[i + 1 :]])


@each_line
def test_a_batch_over_every_hyperparameter_is_a_loop(case):
    rules = list(neighbours(case_rule(case)))
    params, grads = tree()["kernel"], tree(1, steps=4)["kernel"]
    together = run_each(adamx.stack(rules), params, grads)
    for i, rule in enumerate(rules):
        assert_close(lane(together, i), run(rule, params, grads))


def test_one_hyperparameter_can_be_batched_while_the_others_stay_numbers():
    rule, params, grads = rule_of("adamw"), tree()["bias"], tree(1, steps=4)["bias"]
    leaves, structure = jax.tree.flatten(rule)
    for i in range(len(leaves)):
        rules = list(neighbours(rule))[3 * i : 3 * i + 3]
        batch = structure.unflatten([*leaves[:i], jnp.array([jax.tree.leaves(r)[i] for r in rules]), *leaves[i + 1 :]])
        assert jax.tree.leaves(adamx.axes_of(batch)) == [0]
        together = run_each(batch, params, grads)
        for j, one in enumerate(rules):
            assert_close(lane(together, j), run(one, params, grads))


@each_case
def test_a_rule_survives_pickling_and_is_equal_and_hashable_by_value(case):
    rule, again, params = case_rule(case), case_rule(case), tree()["kernel"]
    copy = pickle.loads(pickle.dumps(rule))
    assert rule == again == copy and not rule != copy
    assert hash(rule) == hash(again) == hash(copy)
    assert rule != case_rule(case, learning_rate=0.25)
    assert_same(first_update(copy, params), first_update(rule, params))


@jax.jit
def first_update(rule, params):
    """Updates and state."""
    return rule.update(params, rule.init(params), params, **further(rule, params))


@each_case
def test_a_rule_reads_as_its_line_of_stages(case):
    rule = case_rule(case)
    if hasattr(rule, "parts"):
        assert repr(rule) == "partition(muon: {muon!r}, adam: {adam!r})".format(**rule.parts)
        return
    assert repr(rule) == " | ".join(map(repr, rule.stages))
    if not has_schedule(rule) and "by_rows" not in repr(rule):
        assert eval(f"update_rule({repr(rule).replace(' | ', ', ')})", vars(adamx)) == rule


def has_schedule(rule):
    leaves = jax.tree.leaves(rule, is_leaf=lambda x: isinstance(x, Scheduled))
    return any(isinstance(leaf, Scheduled) for leaf in leaves)


@each_rule
def test_injected_hyperparameters_give_the_plain_rule_bit_for_bit(name):
    params, grads = tree(shapes=PAIR), tree(1, steps=20, shapes=PAIR)
    constructor = adamx.CATALOGUE[name].constructor
    structure = [argument for argument in INTEGERS if takes(constructor, argument)]
    injected = optax.inject_hyperparams(constructor, static_args=structure)(1e-2)

    def trajectory(rule):
        update = optimized(rule.update)
        state, path = rule.init(params), []
        for step in range(20):
            g = at(grads, step)
            updates, state = update(g, state, params, **further(rule_of(name), g))
            path.append(updates)
        return path

    # Products of matrices, means and quotients of norms, each rounded as its loop is fused.
    compare = assert_close if name in ("came", "muon", "stable_spam", *(["laprop"] if OLDER else [])) else assert_same
    compare(trajectory(injected), trajectory(rule_of(name)))


# Stays finite


DTYPES = {"f16": jnp.float16, "bf16": jnp.bfloat16, "f32": jnp.float32, "c64": jnp.complex64}
WIDE = DTYPES | {"f64": jnp.float64}
PAIRS = [(p, g) for p in DTYPES for g in DTYPES if (p == "c64") == (g == "c64")]
WIDE_PAIRS = [(p, g) for p in WIDE for g in WIDE if (p == "c64") == (g == "c64") and "f64" in (p, g)]


def mixed(pairs, steps):
    """Parameters and gradients of every pair of dtypes; the gradients of the first two steps are exactly zero."""
    params = {f"{p} {g}": normal((3,), 0, WIDE[p]) for p, g in pairs}
    grads = {f"{p} {g}": normal((steps, 3), 1, WIDE[g]).at[:2].set(0) for p, g in pairs}
    return params, grads


WAITS = {"radam_wait", "dog"}
"""Cases that take no step in the first five, or one below the resolution of float16."""

SHRINKS = {"fromage"}
"""Rules that shrink the parameters in every step."""


@each_line
def test_every_dtype_stays_as_it_is_and_a_zero_gradient_gives_a_zero_update(case):
    check_dtypes(case, PAIRS if case in adamx.CATALOGUE else [pair for pair in PAIRS if pair[0] == pair[1]])


@each_rule
def test_with_float64_every_dtype_stays_as_it_is_and_a_zero_gradient_gives_a_zero_update(name):
    with jax.enable_x64(True):
        check_dtypes(name, WIDE_PAIRS)


def check_dtypes(case, pairs):
    params, grads = mixed(pairs, steps=5)
    usual = case_rule(case, weight_decay=0.0, weight_decay_rate=None, extra_l2=0.0)
    for rule in (usual, without_floors(usual)):
        after, state, updates = run(rule, params, grads)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, grads)
        chex.assert_trees_all_equal_shapes_and_dtypes(state, jax.eval_shape(rule.init, params))
        assert_finite((after, state, updates))
        for name, u in jax.device_get(updates).items():
            assert CASES[case].rule in SHRINKS or not np.any(u[:2]), f"{name}: {u}"
            assert rule is not usual or case in WAITS or np.any(u[2:]), f"{name}: {u}"


def without_floors(rule):
    """The rule with every eps and every first value 0."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: 0.0 if "eps" in str(path) or "initial_value" in str(path) else leaf, rule
    )


@each_line
def test_slots_are_float32_or_as_wide_as_the_parameter_and_second_moments_are_real(case):
    rule = of_matrices(case_rule(case))
    with jax.enable_x64(True):
        params = {name: normal((3,), 0, dtype) for name, dtype in WIDE.items()}
        slots = rule.init(params).slots
    signed = {slot.name: slot.signed for stage in rule.stages for slot in stage.slots}
    for slot, leaves in slots.items():
        wide = {name: jnp.float32 for name in params} | {"f64": jnp.float64}
        if signed[slot]:
            wide["c64"] = jnp.complex64
        assert {name: leaf.dtype for name, leaf in leaves.items()} == wide, slot


# Up to a factor 1e5 below float32's end: what a decayed sum, a look-ahead or a step divided by eps alone may grow by.
EXTREMES = {
    "huge": [1e30, 1e30, 1e30],
    "largest": [1e33, 1e33, 1e33],
    "tiny": [1e-30, 1e-30, 1e-30],
    "smallest": [1e-45, 1e-45, 1e-45],
    "alternating": [1e30, -1e30, 1e30],
    "largest, alternating": [1e33, -1e33, 1e33],
    "huge once": [1e30, 0.0, 0.0],
    "tiny then huge": [1e-30, 1e30, 1e-30],
    "zero then huge": [0.0, 1e30, 0.0],
}
HALF_EXTREMES = {
    "largest": [65504.0, 65504.0, 65504.0],
    "largest, alternating": [65504.0, -65504.0, 65504.0],
    "smallest": [6e-8, 6e-8, 6e-8],
    "zero then largest": [0.0, 65504.0, 0.0],
}


run_lanes = jax.jit(jax.vmap(run, in_axes=(None, 0, 0)))
"""A rule on each of several parameters and their gradients."""


@each_line
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_extreme_gradients_never_give_nan_or_infinity(case, dtype):
    extremes = EXTREMES if dtype == jnp.float32 else HALF_EXTREMES
    grads = jnp.array([[[g, 1.0] for g in [*extreme, 0.5, -0.25]] for extreme in extremes.values()], dtype)
    params = jnp.ones((len(extremes), 2), dtype)
    usual = case_rule(case, learning_rate=1e-3)
    for rule in (usual, without_floors(usual)):
        _, state, updates = run_lanes(rule, params, grads)
        for i, name in enumerate(extremes):
            assert_finite({name: lane((updates, state), i)})


# Complex gradients at the ends of the range


@pytest.mark.parametrize(
    "dtype, sizes",
    [(jnp.complex64, [0.0, 5e32, 1e33]), (jnp.complex128, [0.0, 1e303, 1e302])],
    ids=["complex64", "complex128"],
)
@each_rule
def test_huge_complex_gradients_after_a_zero_one_give_finite_updates(name, dtype, sizes):
    with jax.enable_x64(dtype == jnp.complex128):
        rule, params = rule_of(name), jnp.ones(5, dtype)
        for order in (sizes, sizes[::-1]):
            grads = jnp.array([[size * angle for angle in (1 + 1j, 1, 1j, -1 + 0.01j, 0)] for size in order], dtype)
            _, state, updates = run(rule, params, grads)
            if name not in UNNORMALISED:
                assert_finite(updates)


UNNORMALISED = {"acprop", "aggmo", "momentum", "polyak_sgd", "sgd"}
"""Their updates are as large as the gradients, or those over a denominator that knows of smaller ones only."""


def test_complex_elements_are_clipped_by_modulus():
    clip = adamx.update_rule(adamx.ClipGradient(2.0), adamx.TakeGradient())
    for dtype, huge in ((jnp.complex64, 3e38), (jnp.complex128, 1e308)):
        with jax.enable_x64(dtype == jnp.complex128):
            g = jnp.array([3 + 4j, 0.3 - 0.4j, 0, huge * (1 + 1j), complex(jnp.inf, jnp.inf), -huge * 1j, 1e-30], dtype)
            clipped, _ = clip.update(g, clip.init(g))
            expected = [1.2 + 1.6j, 0.3 - 0.4j, 0, 2**0.5 * (1 + 1j), 2**0.5 * (1 + 1j), -2j, 1e-30]
            np.testing.assert_allclose(clipped, np.array(expected, dtype), rtol=1e-6)


# Strict promotion of dtypes


@each_rule
def test_rules_run_where_dtypes_may_not_be_promoted(name):
    rule = rule_of(name, learning_rate=jnp.float32(0.01))
    params = {d: jax.ShapeDtypeStruct((3,), d) for d in ("bfloat16", "float16", "float32")}
    with jax.numpy_dtype_promotion("strict"):
        state = jax.eval_shape(rule.init, params)
        scheduled = rule_of(name, learning_rate=optax.linear_schedule(0.1, 0.01, 10), peak=0.1)
        state_of = jax.eval_shape(scheduled.init, params)
        for update, before in (
            (rule.update, state),
            (rule.trace, state),
            (rule.step, state),
            (scheduled.update, state_of),
        ):
            assert jax.eval_shape(update, params, before, params, **further(rule, params))[1] == before
