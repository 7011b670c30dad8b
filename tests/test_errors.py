"""Every message about hyperparameters, options and trees says what is wrong, where, what was expected and what to do."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import each_rule, raises, rule_of, takes, tree

import adamx
from adamx import (
    DivideByRoot,
    Momentum,
    SecondMoment,
)
from adamx.annotations import Number
from adamx.rule import RuleTree
from adamx.structure import static

ADAM = (Momentum(), SecondMoment(), DivideByRoot())
PARAMS = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}


# Hyperparameters


@each_rule
def test_a_hyperparameter_out_of_range_names_its_stage_and_field(name):
    constructor = adamx.CATALOGUE[name].constructor
    for argument, bad in (("b1", 1.0), ("b1", -0.1), ("b2", 1.0), ("decay", 1.5), ("rho", np.float32(1))):
        if takes(constructor, argument) and (name, argument) != ("sophia", "rho"):
            with raises(ValueError, ": ", " must be a decay rate in [0, 1)", f"got {bad}"):
                constructor(0.1, **{argument: bad})
    for argument, bad in (("eps", -1e-8), ("eps_root", -1.0), ("eps", float("nan"))):
        if takes(constructor, argument):
            with raises(ValueError, ": eps", " must be a number >", f"got {bad}"):
                constructor(0.1, **{argument: bad})
    for bad in (float("nan"), float("inf")):
        with raises(ValueError, "learning_rate must be a number", f"got {bad}"):
            constructor(bad)


@pytest.mark.parametrize("bad", [None, "fast", True])
def test_a_hyperparameter_that_is_no_number(bad):
    with raises(TypeError, "LearningRate: learning_rate must be a number, an array or a schedule", repr(bad)):
        adamx.adam(bad)
    with raises(TypeError, "Momentum: b1 must be a decay rate in [0, 1)", repr(bad)):
        adamx.adam(0.1, b1=bad)


NO_REAL_NUMBERS = [
    np.bool_(True),
    1j,
    np.complex64(1),
    jnp.complex64(1),
    [0.1, 0.2],
    (0.1,),
    {"a": 0.1},
    jnp.ones(2, bool),
]


@pytest.mark.parametrize("bad", NO_REAL_NUMBERS, ids=repr)
def test_a_hyperparameter_that_is_no_real_number(bad):
    with raises(TypeError, "LearningRate: learning_rate must be a number, an array or a schedule", "got"):
        adamx.adam(bad)
    with raises(TypeError, "DivideByRoot: eps must be a number >= 0", "got"):
        adamx.adam(0.1, eps=bad)
    with raises(TypeError, "SecondMoment: b2 must be a decay rate in [0, 1)", "got"):
        adamx.adam(0.1, b2=bad)


def test_a_list_says_what_to_do():
    with raises(TypeError, "LearningRate: learning_rate", "got [0.1, 0.2]", "jnp.array(...)"):
        adamx.adam([0.1, 0.2])


@pytest.mark.parametrize("bad", [1e39, -1e39, np.float64(1e300), np.array([0.1, 1e39])], ids=repr)
def test_a_hyperparameter_beyond_float32(bad):
    with raises(ValueError, "LearningRate: learning_rate must be at most 3.4e+38 in size, the largest float32"):
        adamx.adam(bad)
    with jax.enable_x64(True):
        adamx.adam(bad)


def test_a_decay_without_a_peak():
    for bad in (0.0, -1.0, np.float32(0)):
        with raises(ValueError, "IndependentDecay: peak must be a number > 0", f"got {bad}"):
            adamx.IndependentDecay(0.1, bad)


@pytest.mark.parametrize("bad", [jnp.int32, "bf16", jnp.float8_e4m3fn, jnp.complex64, bool, 16], ids=repr)
def test_a_dtype_in_which_no_momentum_is_kept(bad):
    for make in (lambda: adamx.adam(0.1, mu_dtype=bad), lambda: adamx.Cast(bad), lambda: adamx.lion(0.1, mu_dtype=bad)):
        with raises(TypeError, "a slot is kept in a floating dtype: jnp.bfloat16", f"got {bad!r}"):
            make()


@pytest.mark.parametrize(
    "bad", ["Momentum", Momentum(), None, int, optax.adam(0.1)], ids=["a name", "a stage", "None", "int", "optax"]
)
def test_a_stage_that_is_not_named_by_its_type(bad):
    rule = adamx.adam(0.1)
    for edit in (
        lambda: rule.replace(bad, Momentum()),
        lambda: rule.get(bad),
        lambda: rule.insert(Momentum(), before=bad) if bad else rule.get(bad),
    ):
        with raises(TypeError, "a stage is named by its type, as adamx.Momentum, got"):
            edit()


def test_a_stage_is_not_changed_in_place():
    stage = Momentum(0.9)
    with raises(dataclasses.FrozenInstanceError, "Momentum is frozen", "dataclasses.replace", "another b1"):
        stage.b1 = 0.5
    with raises(dataclasses.FrozenInstanceError, "Momentum is frozen"):
        del stage.b1
    assert dataclasses.replace(stage, b1=0.5) == Momentum(0.5) != stage == Momentum(0.9)


def test_a_stage_is_made_as_a_dataclass_is():
    @adamx.stage
    class Scaled(adamx.Stage):
        by: Number
        names: list = static(default_factory=list)
        twice: bool = static(default=False, kw_only=True)
        total: float = static(default=0.0, init=False)

        reads, writes = {"u"}, {"u"}

        def __post_init__(self):
            object.__setattr__(self, "total", 2.0 if self.twice else 1.0)

    one = Scaled(3.0, twice=True)
    assert (one.by, one.names, one.twice, one.total) == (3.0, [], True, 2.0)
    assert one.names is not Scaled(3.0).names and dataclasses.replace(one, by=4.0) == Scaled(4.0, [], twice=True)
    assert str(inspect.signature(Momentum)) == "(b1: adamx.hyperparameters.Decay = 0.9)"
    for make, said in (
        (lambda: Momentum(b2=0.5), "Momentum: got an unexpected keyword argument 'b2'; its fields are b1."),
        (lambda: Momentum(0.5, 0.6), "Momentum: too many positional arguments"),
        (lambda: Momentum(0.5, b1=0.4), "Momentum: multiple values for argument 'b1'"),
        (lambda: Scaled(), "Scaled: missing a required argument: 'by'; its fields are by, names, twice."),
    ):
        with raises(TypeError, said):
            make()


def test_an_array_with_one_value_out_of_range():
    with raises(ValueError, "SecondMoment: b2 must be a decay rate in [0, 1)"):
        adamx.adam(0.1, b2=jnp.array([0.9, 1.0]))


def test_a_decay_rate_in_low_precision():
    for b1 in (jnp.bfloat16(0.875), np.float16(0.875)):
        with raises(
            TypeError, "Momentum: b1 arrived as", "0.999 cannot be told from 1", "hyperparam_dtype=jnp.float32"
        ):
            adamx.adam(0.1, b1=b1)


@pytest.mark.parametrize("leaf", [None, object(), 7, -1.0, jax.ShapeDtypeStruct((), jnp.float32)])
@each_rule
def test_nothing_is_checked_when_jax_rebuilds_a_rule_of_other_things(name, leaf):
    leaves, structure = jax.tree.flatten(rule_of(name))
    rebuilt = structure.unflatten([leaf] * len(leaves))
    assert isinstance(rebuilt, RuleTree) and repr(rebuilt)
    assert structure.flatten_up_to(rebuilt) == [leaf] * len(leaves)


def test_nothing_is_checked_of_tracers():
    slope = jax.jit(jax.grad(lambda b1: jnp.sum(adamx.adam(0.1, b1=b1).init(jnp.ones(2)).slots["mu"])))
    assert slope(2.0) == 0


# Options


def test_an_unknown_option_lists_the_known_ones():
    with raises(ValueError, "maximum_of must be one of 'raw', 'debiased', 'paper', got 'first'"):
        adamx.amsgrad(0.1, maximum_of="first")
    with raises(ValueError, "warmup must be one of 'momentum', 'none', got 'linear'"):
        adamx.radam(0.1, warmup="linear")
    with raises(ValueError, "initial_accumulator_value must be one of 'first', got 'last'"):
        adamx.yogi(0.1, initial_accumulator_value="last")
    with raises(ValueError, "initial_scale must be a number >= 0 or 'first', got 'last'"):
        adamx.rmsprop(0.1, initial_scale="last")


def test_options_that_do_not_go_together():
    for other in ("centered", "bias_correction"):
        with raises(
            ValueError, "initial_scale='first' has no bias to correct", "leave out centered and bias_correction"
        ):
            adamx.rmsprop(0.1, initial_scale="first", **{other: True})


def test_an_unknown_rule():
    with raises(ValueError, "unknown rule 'adam2'; did you mean 'adam'", "`python -m adamx` lists all"):
        adamx.create("adam2", 0.1)


def test_a_stage_in_a_chain():
    with raises(TypeError, "chain takes gradient transformations, got Momentum(b1=0.9)", "update_rule"):
        adamx.chain(Momentum())


def test_stacking_different_rules_or_none():
    with raises(ValueError, "stack takes one or more rules of the same stages", "TakeGradient", "HeavyBall"):
        adamx.stack([adamx.sgd(0.1), adamx.sgd(0.1, momentum=0.9)])
    with raises(ValueError, "stack takes one or more rules", "got: none"):
        adamx.stack([])


# Trees


def update(rule, grads, params=PARAMS, init=PARAMS):
    return jax.jit(rule.update)(grads, rule.init(init), params)


def test_a_gradient_of_another_shape():
    grads = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(3)}}
    for rule in (adamx.adam(0.1), adamx.sgd(0.1)):
        with raises(
            ValueError, "the gradient of params['dense']['kernel'] has shape (3, 2)", "has (2, 3)", "call init"
        ):
            update(rule, grads)


def test_parameters_of_another_shape_than_the_state():
    other = {"dense": {"kernel": jnp.ones((2, 4)), "bias": jnp.ones(3)}}
    with raises(ValueError, "params['dense']['kernel'] has shape (2, 4), but its mu has (2, 3)"):
        update(adamx.adam(0.1), other, params=other)
    with raises(ValueError, "params['dense']['kernel'] has shape (2, 3), but its parameter has (2, 4)"):
        update(adamx.adam(0.1), PARAMS, params=other)


def test_gradients_of_another_structure():
    with raises(ValueError, "the gradients have another tree structure than the parameters that init saw", "kernel"):
        update(adamx.adam(0.1), {"dense": {"bias": jnp.ones(3)}})


def test_parameters_of_another_structure():
    with raises(ValueError, "the parameters have another tree structure", "bias"):
        update(adamx.adamw(0.1), PARAMS, params={"dense": {"kernel": jnp.ones((2, 3))}})


def test_a_state_of_another_structure():
    rule = adamx.adam(0.1)
    state = rule.init(PARAMS)
    broken = state._replace(slots=state.slots | {"nu": jnp.ones(2)})
    with raises(ValueError, "the state's slots 'nu' have another tree structure"):
        rule.update(PARAMS, broken, PARAMS)


def test_an_integer_parameter():
    with raises(
        TypeError, "parameter params['ids'] has dtype int32", "expected a floating", "optax.masked(rule, mask)"
    ):
        adamx.adam(0.1).init({"ids": jnp.arange(2)})


def test_an_integer_gradient():
    for rule in (adamx.adam(0.1), adamx.sgd(0.1)):
        with raises(TypeError, "the gradient of params['w'] has dtype int32", "optax.masked(rule, mask)"):
            update(rule, {"w": jnp.arange(2)}, params={"w": jnp.ones(2)}, init={"w": jnp.ones(2)})


def test_a_complex_gradient_of_a_real_parameter():
    for params in (jnp.ones(2), None):
        with raises(TypeError, "the gradient of params has dtype complex64", "float32"):
            update(adamx.adam(0.1), jnp.ones(2, jnp.complex64), params=params, init=jnp.ones(2))


def test_a_gradient_that_is_no_array():
    with raises(TypeError, "the gradient of params['w'] must be an array (or None), got str"):
        adamx.sgd(0.1).update({"w": "0.1"}, adamx.sgd(0.1).init({"w": jnp.ones(2)}))


def test_a_batched_rule_that_is_not_under_vmap():
    rule = adamx.adam(jnp.array([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"LearningRate.*learning_rate.*shape \(2,\).*vmap"):
        rule.update(jnp.ones((3, 2)), rule.init(jnp.ones((3, 2))))


def test_an_update_without_the_parameters_it_reads():
    with raises(ValueError, "DecoupledDecay(weight_decay=0.0001) reads the parameters", "update(grads, state, params)"):
        adamx.adamw(0.1).update(PARAMS, adamx.adamw(0.1).init(PARAMS))


def test_a_step_without_parameters():
    with raises(ValueError, "step applies the update to the parameters: call step(grads, state, params)"):
        adamx.adam(0.1).step(PARAMS, adamx.adam(0.1).init(PARAMS), None)


def test_a_mask_of_another_structure():
    rule = adamx.adamw(0.1, mask={"other": True})
    with raises(ValueError, "the mask of DecoupledDecay(weight_decay=0.0001) is not a tree (or prefix)", "other"):
        rule.update(PARAMS, rule.init(PARAMS), PARAMS)


def test_errors_reach_the_user_through_optaxs_chain():
    tx = optax.chain(optax.clip(1.0), adamx.adam(0.1))
    with raises(ValueError, "the gradient of params['bias'] has shape (2,)"):
        tx.update(tree() | {"bias": jnp.ones(2)}, tx.init(tree()), tree())
