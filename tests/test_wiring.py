"""Every message about a line of stages says what is wrong, where, what was expected and what to do: one test for each."""

import jax.numpy as jnp
import optax
import pytest
from checks import raises

import adamx
from adamx import (
    BFloat16,
    ClipGradient,
    CoupledDecay,
    DecoupledDecay,
    DivideByRoot,
    FromFirstGradient,
    IndependentDecay,
    LearningRate,
    Momentum,
    RunningMax,
    SecondMoment,
    TakeMomentum,
    TrustRatio,
    WiringError,
    masked,
    update_rule,
)

ADAM = (Momentum(), SecondMoment(), DivideByRoot())


# Lines


def test_a_line_without_stages():
    with raises(WiringError, "a rule needs at least one stage", "update_rule(TakeGradient(), LearningRate(0.1))"):
        update_rule()


def test_a_class_for_a_stage():
    with raises(TypeError, "got the class Momentum", "write Momentum(...)"):
        update_rule(Momentum, LearningRate(0.1))


def test_a_transformation_for_a_stage():
    for transformation in (adamx.adam(0.1), optax.sgd(0.1)):
        with raises(TypeError, "got a gradient transformation", "adamx.chain"):
            update_rule(transformation, LearningRate(0.1))


def test_something_else_for_a_stage():
    with raises(TypeError, "update_rule takes stages, got 0.1"):
        update_rule(0.1)


def test_a_field_that_nobody_wrote():
    with raises(
        WiringError,
        "DivideByRoot (stage 2) reads `v`, which no stage before it writes",
        "Written so far: `g`, `m`, `m_debias`, `mu`, `p`, `raw`, `t`",
        "Put a stage that writes `v` before it:",
        "SecondMoment",
    ):
        update_rule(Momentum(), DivideByRoot())


def test_a_wrapped_stage_is_named_with_its_wrapper():
    with raises(WiringError, "Masked(DecoupledDecay) (stage 1) reads `u`"):
        update_rule(masked(DecoupledDecay(), True), Momentum(), TakeMomentum())


def test_a_stage_too_late_in_the_line():
    with raises(
        WiringError, "CoupledDecay (stage 4) must stand before the stage that writes `u`", "but comes after it"
    ):
        update_rule(*ADAM, CoupledDecay(0.1))
    with raises(WiringError, "TrustRatio (stage 5) must stand before the stage that writes `lr` (", "LearningRate"):
        update_rule(*ADAM, LearningRate(0.1), TrustRatio())


def test_a_second_learning_rate():
    with raises(WiringError, "LearningRate (stage 5) must stand before the stage that writes `lr`"):
        adamx.adam(0.1).then(LearningRate(0.1))


def test_a_line_without_an_update():
    with raises(WiringError, "no stage writes `u`, the update", "Written: ", "End the line with ", "TakeMomentum"):
        update_rule(Momentum())


def test_a_stage_that_nobody_reads():
    with raises(
        WiringError,
        "SecondMoment (stage 2) writes `v`, `v_debias`, which no stage after it reads",
        "Move it",
        "or leave it out",
    ):
        update_rule(Momentum(), SecondMoment(), TakeMomentum(), LearningRate(0.1))
    with raises(WiringError, "ClipGradient (stage 2) writes `g`, which no stage after it reads", "Read after it: `m`"):
        update_rule(Momentum(), ClipGradient(1.0), TakeMomentum())


def test_two_stages_of_one_slot():
    with raises(WiringError, "slot 'mu' belongs to both Momentum and OnUpdate(HeavyBall)", "Keep one"):
        update_rule(*ADAM, adamx.OnUpdate(adamx.HeavyBall()))


def test_two_stages_of_one_scalar():
    @adamx.stage
    class Twice(adamx.Stage):
        scalar_slots = ("mu_log_decay",)
        reads, writes = {"u"}, {"u"}

    with raises(WiringError, "scalar 'mu_log_decay' belongs to both Momentum and Twice"):
        update_rule(*ADAM, Twice())


# Editing


def test_replacing_a_stage_that_is_not_there():
    with raises(WiringError, "the rule has no TrustRatio: Momentum(b1=0.9) | SecondMoment", "Name the type of a stage"):
        adamx.adam(0.1).replace(TrustRatio, TakeMomentum())


def test_replacing_a_stage_that_is_there_twice():
    twice = update_rule(*ADAM, DecoupledDecay(0.1), DecoupledDecay(0.2), LearningRate(0.1))
    with raises(WiringError, "the rule has 2 times a DecoupledDecay", "that it has once"):
        twice.replace(DecoupledDecay, DecoupledDecay(0.3))


def test_inserting_nowhere_or_in_two_places():
    for places in ({}, {"before": Momentum, "after": Momentum}):
        with raises(TypeError, "insert(stage, before=Type) or insert(stage, after=Type)"):
            adamx.adam(0.1).insert(ClipGradient(1.0), **places)


def test_inserting_beside_a_stage_that_is_not_there():
    with raises(WiringError, "the rule has no TrustRatio"):
        adamx.adam(0.1).insert(ClipGradient(1.0), before=TrustRatio)


def test_wrapping_what_is_no_second_moment():
    for wrapper in (RunningMax, FromFirstGradient):
        with raises(TypeError, f"{wrapper.__name__}: inner must be a SecondMomentStage, got Momentum(b1=0.9)"):
            wrapper(Momentum())
    with raises(TypeError, "OnUpdate: inner must be a Stage, got 0.9"):
        adamx.OnUpdate(0.9)


# Storage


def test_storing_a_slot_that_is_not_there():
    with raises(WiringError, "the rule has no slot 'nu' to store; its slots are `mu`"):
        adamx.lion(0.1).store(nu=adamx.Float32())


def test_a_second_moment_in_bfloat16():
    with raises(ValueError, "slot 'nu' cannot be kept as bfloat16", "freeze", "nu=Cast('bfloat16')"):
        adamx.adam(0.1).store(nu=BFloat16(adamx.Nearest()))


def test_a_storage_that_is_none():
    with raises(TypeError, "store(mu=...) takes a Storage, got <class 'jax.numpy.bfloat16'>"):
        adamx.adam(0.1).store(mu=jnp.bfloat16)
    with raises(TypeError, "store(params=...) takes a Rounding, got Cast(dtype='bfloat16'"):
        adamx.adam(0.1).store(params=BFloat16())


def test_a_complex_momentum_in_bfloat16():
    with raises(ValueError, "a complex slot (params) cannot be kept as bfloat16", "Float32()"):
        adamx.adam(0.1, mu_dtype="bfloat16").init(jnp.ones(2, jnp.complex64))


def test_independent_decay_needs_the_learning_rate_before_it():
    with raises(WiringError, "IndependentDecay (stage 4) reads `lr`", "LearningRate"):
        update_rule(*ADAM, IndependentDecay(0.1, 0.1))


def test_the_message_of_a_masked_learning_rate_can_be_followed():
    with pytest.raises(WiringError) as error:
        update_rule(*ADAM, masked(LearningRate(0.1), True))
    assert "Put a stage that writes `lr` before it: LearningRate" not in str(error.value)
