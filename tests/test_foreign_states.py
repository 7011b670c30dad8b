"""A state, gradients or parameters that do not belong to the rule are refused when the step is traced, in words; nothing is changed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import (
    assert_same,
    case_rule,
    description,
    each_line,
    each_rule,
    raises,
    rule_of,
    trace,
    tree,
    update,
    updating,
)

import adamx
from adamx.wiring import slots_of

PARAMS = tree()
START = "Begin with rule.init(params)"
METHODS = ("update", "trace", "step")


@functools.cache
def abstract_state(name):
    return jax.eval_shape(rule_of(name).init, PARAMS)


@functools.cache
def rules_by_layout():
    """The names of all rules; those with equal states are one list."""
    lists = []
    for name in adamx.CATALOGUE:
        same = next((names for names in lists if abstract_state(names[0]) == abstract_state(name)), None)
        if same is None:
            lists.append([name])
        else:
            same.append(name)
    return lists


@each_rule
def test_the_state_of_another_rule(name):
    rule = rule_of(name)
    for others in rules_by_layout():
        state = abstract_state(others[0])
        if name in others:
            jax.eval_shape(updating(rule), PARAMS, state, PARAMS)
            continue
        try:
            jax.eval_shape(updating(rule), PARAMS, state, PARAMS)
        except (TypeError, ValueError) as error:
            assert "init" in str(error)
            if hasattr(rule, "parts") or hasattr(rule_of(others[0]), "parts"):
                continue
            assert START in str(error) or "must belong together: call init again" in str(error)
            if set(state.slots) != {slot.name for slot in slots_of(rule.stages)}:
                assert "It seems to be a state of" in str(error) and all(other in str(error) for other in others)
        else:
            pytest.fail(f"{name} took the state of {others}")


@pytest.mark.parametrize("method", METHODS)
def test_a_state_with_more_slots_names_the_rules_it_may_belong_to(method):
    rule, state = adamx.adam(0.1), adamx.amsgrad(0.1).init(PARAMS)
    with raises(
        ValueError, "the state has slots mu, nu, nu_max", "keeps mu, nu", "a state of amsgrad or amsgradw", START
    ):
        getattr(rule, method)(PARAMS, state, PARAMS)


def test_a_slot_kept_otherwise():
    plain, stored = adamx.adam(0.1), adamx.adam(0.1).store(mu=adamx.BFloat16())
    with raises(TypeError, "the state's mu of params['bias'] is float32[3]", "keeps bfloat16[3]", "Cast(", START):
        stored.update(PARAMS, plain.init(PARAMS), PARAMS)
    with raises(TypeError, "the state's mu of params['bias'] is bfloat16[3]", "keeps float32[3]", "Float32()"):
        plain.update(PARAMS, stored.init(PARAMS))


def test_a_slot_of_another_shape_or_dtype():
    rule = adamx.novograd(0.1)
    state = rule.init(PARAMS)
    wide = state._replace(slots=state.slots | {"nu": PARAMS})
    with raises(TypeError, "the state's nu of params['bias'] is float32[3]", "keeps float32[]"):
        rule.update(PARAMS, wide, PARAMS)
    whole = state._replace(slots=state.slots | {"mu": jax.tree.map(lambda x: x.astype(jnp.int32), PARAMS)})
    with raises(TypeError, "the state's mu of params['bias'] is int32[3]", "keeps float32[3]"):
        rule.update(PARAMS, whole, PARAMS)


def test_parameters_wider_than_the_state():
    rule = adamx.adam(0.1)
    state = rule.init(PARAMS)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), PARAMS)
        with raises(TypeError, "the state's mu of params['bias'] is float32[3]", "keeps float64[3]"):
            rule.update(wide, state, wide)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "state, message",
    [
        (optax.adam(0.1).init(PARAMS), "Optax's EmptyState, ScaleByAdamState"),
        (optax.scale_by_adam().init(PARAMS), "Optax's ScaleByAdamState"),
        (None, "got NoneType"),
        (PARAMS, "got dict"),
        ((), "got tuple"),
        ({"count": 0, "scalars": {}, "slots": {}}, "got dict"),
        (adamx.RuleState, "got type"),
    ],
    ids=["optax", "part of optax", "None", "parameters", "empty", "a restored dict", "a class"],
)
def test_something_that_is_no_state(state, message, method):
    with raises(TypeError, "the state must be the RuleState of this rule", message, START):
        getattr(adamx.adam(0.1), method)(PARAMS, state, PARAMS)


def test_swapped_arguments():
    rule = adamx.adamw(0.1)
    with raises(TypeError, "the state was given where the gradients belong", "update(grads, state, params)"):
        rule.update(rule.init(PARAMS), PARAMS, PARAMS)
    with raises(TypeError, "the state must be the RuleState of this rule, got dict"):
        rule.update(PARAMS, PARAMS, rule.init(PARAMS))


@pytest.mark.parametrize(
    "part, value, shown",
    [("count", jnp.zeros(2, jnp.int32), "int32[2]"), ("count", jnp.float32(1), "float32[]"), ("scalars", 1, "int32[]")],
)
def test_a_count_or_scalar_of_another_kind(part, value, shown):
    rule = adamx.adam(0.1)
    state = rule.init(PARAMS)
    value = value if part == "count" else dict.fromkeys(state.scalars, value)
    with raises(TypeError, "the state's", "must be one", shown):
        rule.update(PARAMS, state._replace(**{part: value}))


@each_line
def test_the_check_takes_what_belongs(case):
    rule, params = case_rule(case), PARAMS
    state = rule.init(params)
    for form in (lambda x: x, lambda x: jax.tree.map(np.asarray, x), lambda x: jax.device_get(x)):
        assert description(jax.eval_shape(updating(rule), params, form(state), params)[1]) == description(state)


# float64 switched on and off


@each_rule
def test_the_state_is_the_same_whether_float64_is_enabled_or_not(name):
    rule, params = rule_of(name), PARAMS["kernel"]
    state = rule.init(params)
    expected = description(state)
    with jax.enable_x64(True):
        assert description(rule.init(params)) == expected
        updates, after = jax.eval_shape(updating(rule), params, state, params)
        assert description(after) == expected and description(updates) == description(params)
        wide = jax.eval_shape(updating(rule), jnp.asarray(params, jnp.float64), after, params)
        assert description(wide[1]) == expected
    assert description(jax.eval_shape(updating(rule), params, after, params)[1]) == expected


def test_a_run_goes_on_under_float64_as_it_would_have_without():
    rule, grads = adamx.adam(0.1), [tree(i) for i in range(6)]

    def go(state, grads):
        for g in grads:
            updates, state = rule.update(g, state)
        return updates, state

    _, half = go(rule.init(PARAMS), grads[:3])
    expected = go(half, grads[3:])
    with jax.enable_x64(True):
        actual = go(half, grads[3:])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), actual, expected)


# The other arguments


def test_optaxs_keywords():
    rule = adamx.adamw(0.1)
    state = rule.init(PARAMS)
    expected = rule.update(PARAMS, state, PARAMS)
    assert_same(rule.update(updates=PARAMS, state=state, params=PARAMS), expected)
    assert_same(rule.init(params=PARAMS), state)


@pytest.mark.parametrize("word", ["parms", "param", "parameters", "paramz"])
@pytest.mark.parametrize("method", ["update", "trace"])
def test_a_misspelt_keyword_does_not_vanish(method, word):
    rule = adamx.adam(0.1)
    with raises(TypeError, f"got an unknown argument {word!r} and no params", "(grads, state, params)"):
        getattr(rule, method)(PARAMS, rule.init(PARAMS), **{word: PARAMS})


NO_ARRAYS = {
    "a key": (jax.random.key(0), "key"),
    "a function": (jnp.sum, "function"),
    "text": ("abc", "str"),
    "float8": (jnp.ones(3, jnp.float8_e4m3fn), "float8_e4m3fn"),
    "an object": (object(), "object"),
}


@pytest.mark.parametrize("leaf", NO_ARRAYS)
@each_line
def test_a_leaf_that_is_no_array_is_named(case, leaf):
    rule, (bad, shown) = case_rule(case), NO_ARRAYS[leaf]
    good = {"layer": {"a": jnp.ones(3), "b": jnp.ones(3)}}
    wrong = {"layer": {"a": jnp.ones(3), "b": bad}}
    if slots_of(rule.stages):
        with raises(TypeError, "params['layer']['b']", shown):
            rule.init(wrong)
    state = rule.init(good)
    with raises(TypeError, "the gradient of params['layer']['b']", shown):
        update(rule, wrong, state, good)
    with raises(TypeError, "parameter params['layer']['b']", shown):
        update(rule, good, state, wrong)


@jax.tree_util.register_pytree_with_keys_class
class Checked:
    """A node that looks at its children whenever it is built."""

    def __init__(self, a, b):
        for x in (a, b):
            if not (x is None or hasattr(x, "shape")):
                raise TypeError(f"a Checked of {type(x).__name__}")
        self.a, self.b = a, b

    def tree_flatten_with_keys(self):
        return ((jax.tree_util.GetAttrKey("a"), self.a), (jax.tree_util.GetAttrKey("b"), self.b)), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


@each_line
def test_nothing_but_leaves_is_put_into_nodes_that_check_their_children(case):
    rule, params = case_rule(case), {"n": Checked(jnp.ones(3), jnp.ones((2, 2)))}
    if hasattr(rule, "parts"):
        pytest.skip("the trees of a partition's parts have MaskedNodes among their leaves, as Optax's")
    masked = rule
    if any("p" in stage.reads for stage in rule.stages) and any(isinstance(s, adamx.LearningRate) for s in rule.stages):
        masked = rule.replace(adamx.LearningRate, adamx.LearningRate(0.1))
    for absent in (None, jnp.ones((2, 2))):
        grads = {"n": Checked(jnp.ones(3), absent)}
        updates, state, signals = jax.eval_shape(functools.partial(trace, masked), grads, masked.init(params), params)
        assert isinstance(updates["n"], Checked) and isinstance(signals.u["n"], Checked)
        assert (updates["n"].b is None) == (signals.u["n"].b is None) == (absent is None)
        assert description(state) == description(masked.init(params))
    wrong = {"n": Checked(jnp.ones(3), jnp.ones((2, 3)))}
    with raises(ValueError, "the gradient of params['n'].b has shape (2, 3)"):
        update(rule, wrong, rule.init(params), params)


MASKS = {
    "by path": lambda path, p: path == "params['n'].a",
    "a tree": {"n": True},
    "a tree of Optax": adamx.MaskOfTree(lambda tree: {"n": tree["n"].a.ndim == 1}),
}


@pytest.mark.parametrize("mask", MASKS)
def test_masks_over_nodes_that_check_their_children(mask):
    decay = adamx.masked(adamx.DecoupledDecay(0.5), MASKS[mask])
    rule = adamx.update_rule(adamx.TakeGradient(), decay, adamx.LearningRate(1.0))
    params = {"n": Checked(jnp.ones(3), jnp.ones((2, 2)))}
    updates, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)
    assert_same(updates["n"].a, jnp.full(3, -0.5))
    assert_same(updates["n"].b, jnp.full((2, 2), -0.5 * (mask != "by path")))


@pytest.mark.parametrize(
    "mask", [{"a": True, "frozen": None}, {"a": True, "frozen": True}, lambda p: {"a": True, "frozen": None}]
)
def test_a_rule_without_slots_with_a_mask_and_a_parameter_of_none(mask):
    decay = adamx.masked(adamx.DecoupledDecay(0.5), adamx.MaskOfTree(mask) if callable(mask) else mask)
    rule = adamx.update_rule(adamx.TakeGradient(), decay, adamx.LearningRate(1.0))
    params = {"a": jnp.ones(2), "frozen": None}
    updates, state = rule.update({"a": jnp.zeros(2), "frozen": None}, rule.init(params), params)
    assert updates["frozen"] is None
    assert_same(updates["a"], jnp.full(2, -0.5))
