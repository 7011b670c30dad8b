"""What holds for lines of stages: each stage does what it declares; lines are edited, masked, stored, stepped, looked into."""

import dataclasses
import pickle
import sys

import jax
import jax.numpy as jnp
import optax
import pytest
from cases import CASES
from checks import (
    assert_close,
    assert_same,
    case_rule,
    each_case,
    each_rule,
    further,
    normal,
    of_matrices,
    rule_of,
    takes,
    tree,
)
from jax.tree_util import Partial

import adamx
from adamx import (
    Belief,
    BFloat16,
    ClipGradient,
    Decay,
    DecoupledDecay,
    DivideByRoot,
    IndependentDecay,
    LearningRate,
    MaskOfTree,
    Momentum,
    Nearest,
    OnUpdate,
    RunningMax,
    SecondMoment,
    Sign,
    TakeMomentum,
    Wrapper,
    Yogi,
    masked,
    update_rule,
)
from adamx.execution import per_step
from adamx.signal import FIELDS
from adamx.stages import moments
from adamx.stages.matrix import Axes
from adamx.state import activity, stage_at

# Stages

UNUSED = (
    adamx.KahanCompensation("bfloat16"),
    IndependentDecay(0.1, 0.01),
    masked(Momentum(), True),
    adamx.Cautious(),
    adamx.CautiousDecay(0.1),
    adamx.Centralize(),
)
UNUSED += (adamx.ClipGlobalNorm(0.1), adamx.ClipGradientNorm(0.1), adamx.NegateGradient())
"""Stages that no case has."""

STAGES = {repr(stage): stage for case in CASES for stage in case_rule(case).stages} | {repr(s): s for s in UNUSED}
each_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES.keys())


class Recorder:
    """A signal that notes which fields are read and written."""

    def __init__(self, signal, read, written):
        self.signal, self.read, self.written = signal, read, written

    def __getattr__(self, field):
        self.read.add(field)
        return getattr(self.signal, field)

    def write(self, **fields):
        self.written.update(fields)
        return Recorder(self.signal.write(**fields), self.read, self.written)


SHAPE = (3, 4)
OWN = {
    "factor": jnp.float32(0.5),
    "step": jnp.float32(0.5),
    "distance": jnp.float32(2.0),
    "hessian": normal(SHAPE, 30),
    "basis": ((jnp.eye(3), jnp.eye(4)), Axes((True, True))),
}
"""Fields of their own that stages hand each other, and further arguments."""


def second_step(stage):
    """The stage with its hyperparameters evaluated, and a signal, slots and scalars (before `combine`) to call it with."""
    ((which,),) = activity([stage], jax.tree.structure(0), [jnp.zeros(SHAPE)])
    stage = stage_at(stage, which or True)
    before = dict.fromkeys(stage.scalar_slots, jnp.float32(-0.1)) | {"lr": jnp.float32(0.1)}
    before |= {f"has_{name}": jnp.float32(1) for name in stage.extras}
    _, t, (stage,), (k,), _ = per_step((stage.bare(),), jnp.int32(1), before)
    k |= dict.fromkeys(stage.scalar_extras, jnp.float32(0.5))
    arrays = {field: normal(SHAPE, i) for i, field in enumerate(FIELDS)}
    scalars = dict.fromkeys(("lr", "m_debias", "v_debias"), jnp.float32(0.1))
    arrays |= {"t": t, "v": arrays["v"] ** 2} | scalars
    slots = {s.name: jnp.abs(normal(s.shape(SHAPE), 20 + i)) for i, s in enumerate(stage.slots)}
    return stage, adamx.Signal(**arrays, own=OWN), slots, k


def applied(stage, x, slots, k):
    """What the stage makes of a leaf that is the whole tree."""
    return stage(x, slots, k | stage.combine(stage.measure(x, slots, k), k) if stage.sums else k)


def stages_within(kind):
    return [sub for cls in kind.__subclasses__() for sub in [cls, *stages_within(cls)]]


def test_every_public_stage_is_among_those_tested_here():
    tested = {type(stage) for stage in STAGES.values()}
    tested |= {type(stage.inner) for stage in STAGES.values() if isinstance(stage, Wrapper)}
    bases = {adamx.SecondMomentStage, Wrapper, moments.AverageOfSquares, moments.DebiasedAverageOfSquares}
    own = {s for s in stages_within(adamx.Stage) if s.__module__.startswith("adamx.")}
    # Not those that a docstring's example defines.
    public = {s for s in own if s.__name__[0] != "_" and getattr(sys.modules[s.__module__], s.__name__, None) is s}
    assert {stage.__name__ for stage in public - tested - bases} == set()


@each_stage
def test_a_stage_writes_what_it_declares_and_needs_no_more_than_it_declares(stage):
    at_step, signal, slots, k = second_step(stage)
    expected, new = applied(at_step, signal, slots, k)
    changed = {f for f in FIELDS if getattr(expected, f) is not getattr(signal, f)}
    changed |= {f for f, value in expected.own.items() if value is not OWN.get(f)}
    assert changed == set(stage.writes)
    assert set(new) == set(slots) == {slot.name for slot in stage.slots}
    assert set(stage.scalar_slots) <= set(k) | set(at_step.combine(at_step.measure(signal, slots, k), k))
    undeclared = {f: None for f in FIELDS if f not in {*stage.reads, "t", "raw"}}
    own = {f: value for f, value in OWN.items() if f in stage.reads}
    actual, again = applied(at_step, dataclasses.replace(signal.write(**undeclared), own=own), slots, k)
    assert_same(again, new)
    assert_same([getattr(actual, f) for f in stage.writes], [getattr(expected, f) for f in stage.writes])


@each_stage
def test_a_stage_reads_all_that_it_declares(stage):
    if isinstance(stage, Wrapper):
        pytest.skip("a wrapper reads for its inner stage")
    at_step, signal, slots, k = second_step(stage)
    read, written = set(), set()
    applied(at_step, Recorder(signal, read, written), slots, k)
    # What stands after the learning rate says so by reading it.
    # A second moment in parts reads itself again, once written.
    # The step number is always there.
    assert (read - {"t"} | ({"lr", "t"} & set(stage.reads))) - written == set(stage.reads) - written
    assert written == set(stage.writes)


# Rules

AROUND = {"CoupledDecay", "CorrectedDecay", "DecoupledDecay", "FixedDecay", "ProximalDecay", "StableDecay"}
AROUND |= {"LearningRate", "OnUpdate", "RescaleParameters", "ScaleByParameterRms"}
"""Stages that a rule may have around its direction."""


@each_case
def test_scale_by_is_the_rule_without_decay_and_learning_rate(case):
    entry, hyper = adamx.CATALOGUE[CASES[case].rule], CASES[case].hyper
    # Optax's `scale_by_novograd` has another default than its `novograd`, and so ours.
    hyper = {"eps": 1e-6} | hyper if entry.name == "novograd" else hyper
    rule = of_matrices(case_rule(case))
    assert sum("lr" in stage.writes for stage in rule.stages) == 1
    if entry.scale_by is None:
        assert not hasattr(adamx, f"scale_by_{entry.name}")
        return
    direction = entry.scale_by(**{k: v for k, v in hyper.items() if takes(entry.scale_by, k)}).stages
    rest = list(rule.stages)
    for stage in direction:
        rest.remove(stage)
    assert [stage for stage in rule.stages if stage in direction] == list(direction)
    assert {type(stage).__name__ for stage in rest} <= AROUND


DIRECT = {"LearningRate", "DecoupledDecay"}


@each_rule
def test_scale_by_times_the_learning_rate_is_the_update(name):
    entry, params, grads = adamx.CATALOGUE[name], {"w": tree()["kernel"]}, {"w": tree(1)["kernel"]}
    rule = of_matrices(rule_of(name, 0.125, weight_decay=0.0))
    if entry.scale_by is None or not {type(s).__name__ for s in rule.stages[len(entry.scale_by().stages) :]} <= DIRECT:
        pytest.skip("something stands between the direction and the update")
    direction, more = (
        entry.scale_by(**({"weight_decay": 0.0} if takes(entry.scale_by, "weight_decay") else {})),
        further(rule, grads),
    )
    updates, _ = rule.update(grads, rule.init(params), params, **more)
    directions, _ = direction.update(grads, direction.init(params), params, **more)
    weight = getattr(rule.stages[-2], "weight_decay", 0.0)
    assert_close(updates, jax.tree.map(lambda u, p: -0.125 * (u + weight * p), directions, params))


def test_a_line_is_extended_edited_and_inserted_into():
    adam = adamx.adam(1e-3)
    assert adamx.scale_by_adam().then(LearningRate(1e-3)) == adam
    assert adam.replace(SecondMoment, Yogi(0.9)).stages[1] == Yogi(0.9)
    assert adam.insert(DecoupledDecay(1e-4), before=LearningRate) == adamx.adamw(1e-3)
    assert adam.insert(DecoupledDecay(1e-4), after=DivideByRoot) == adamx.adamw(1e-3)
    assert adam == adamx.adam(1e-3), "the rule itself is unchanged"


def test_editing_reaches_into_wrappers():
    amsgrad = adamx.amsgrad(1e-3)
    assert amsgrad.replace(SecondMoment, Belief(0.9)).stages[1] == RunningMax(Belief(0.9))
    assert amsgrad.replace(RunningMax, SecondMoment(0.999)) == adamx.adam(1e-3)
    assert amsgrad.insert(ClipGradient(1.0), before=SecondMoment).stages[1:3] == (ClipGradient(1.0), amsgrad.stages[1])
    decayed = adamx.adamw(1e-3, mask={"w": True})
    assert decayed.replace(DecoupledDecay, DecoupledDecay(0.5)).stages[3].inner == DecoupledDecay(0.5)


def test_an_edited_rule_keeps_its_storages():
    small = adamx.scale_by_adam().store(mu=BFloat16())
    assert small.replace(SecondMoment, Yogi()).storages == small.then(LearningRate(1e-3)).storages == small.storages
    assert small.store(params=Nearest()).storages == (("mu", BFloat16()), ("params", Nearest()))
    assert "mu=Cast(dtype='bfloat16'" in repr(small)
    assert pickle.loads(pickle.dumps(small)) == small != adamx.scale_by_adam()


# Masked stages

MASK = {"layer": {"kernel": True, "bias": False}, "head": True}
NESTED = {"layer": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "head": jnp.ones(2)}


@pytest.mark.parametrize(
    "mask",
    [
        MASK,
        lambda path, p: "bias" not in path,
        lambda path, p: path != "params['layer']['bias']",
        MaskOfTree(lambda params: jax.tree_util.tree_map_with_path(lambda path, p: "bias" not in str(path), params)),
    ],
    ids=["tree", "path", "exact path", "function of the tree"],
)
def test_a_masked_stage_acts_where_the_mask_says(mask):
    rule = update_rule(Momentum(0.9), TakeMomentum(), masked(DecoupledDecay(0.5), mask), LearningRate(1.0))
    zeros = optax.tree.zeros_like(NESTED)
    updates, _ = rule.update(zeros, rule.init(NESTED), NESTED)
    assert_same(updates, jax.tree.map(lambda decays, p: -0.5 * p if decays else 0 * p, MASK, NESTED))
    assert_same(jax.jit(rule.update)(zeros, rule.init(NESTED), NESTED)[0], updates)


def test_a_mask_can_be_a_prefix_of_the_tree():
    rule = update_rule(Momentum(), TakeMomentum(), masked(DecoupledDecay(1.0), {"layer": False, "head": True}))
    updates, _ = rule.update(optax.tree.zeros_like(NESTED), rule.init(NESTED), NESTED)
    assert_same(updates, {"layer": optax.tree.zeros_like(NESTED["layer"]), "head": NESTED["head"]})


def test_a_mask_may_depend_on_the_parameters_shape():
    rule = update_rule(Momentum(), TakeMomentum(), masked(DecoupledDecay(1.0), lambda path, p: p.ndim > 1))
    updates, _ = rule.update(optax.tree.zeros_like(NESTED), rule.init(NESTED), NESTED)
    assert optax.tree.sum(updates) == 4


@pytest.mark.parametrize("mask", [MASK, {"layer": False, "head": True}, lambda path, p: "bias" in path])
@pytest.mark.parametrize("with_params", [True, False])
def test_a_masked_stage_accepts_absent_gradients(mask, with_params):
    rule = update_rule(masked(ClipGradient(0.5), mask), Momentum(0.0), TakeMomentum())
    grads = {"layer": {"kernel": None, "bias": jnp.ones(2)}, "head": optax.MaskedNode()}
    updates, _ = rule.update(grads, rule.init(NESTED), NESTED if with_params else None)
    clipped = callable(mask)
    assert updates["layer"]["kernel"] is None and updates["head"] == optax.MaskedNode()
    assert_same(updates["layer"]["bias"], jnp.full(2, 0.5 if clipped else 1.0))


def test_a_constant_decay_of_zero_is_left_out_and_its_mask_checked_all_the_same():
    grads, params = normal((3,), 0), jnp.array([jnp.inf, 1.0, -1.0])
    rule, adam = adamx.adamw(1e-3, weight_decay=0.0), adamx.adam(1e-3)
    assert_same(rule.update(grads, rule.init(params), params), adam.update(grads, adam.init(params), params))
    wrong = adamx.adamw(1e-3, weight_decay=0.0, mask={"b": True})
    with pytest.raises(ValueError, match="is not a tree"):
        wrong.update({"a": grads}, wrong.init({"a": params}), {"a": params})


def test_a_decay_rate_inside_a_schedule_is_not_taken_for_a_stages_own():
    half = Partial(lambda decay, count: decay.complement, Decay(0.5))
    grads = jnp.array([1e4, 1e-2])

    def last_update(alpha):
        rule = adamx.scale_by_ademamix(alpha=alpha, b2=jnp.float32(0.0))
        state = rule.init(grads[0])
        for g in grads:
            updates, state = rule.update(g, state)
        return updates

    # At b2 = 0 the last square is 1e-4, which the 1e8 before it, not forgotten exactly, would drown in its rounding.
    assert_same(last_update(half), last_update(0.5))


def test_an_eps_of_none_is_absent():
    parts = Momentum(), SecondMoment()
    with_zero, without = (update_rule(*parts, DivideByRoot(eps, eps), LearningRate(0.1)) for eps in (0.0, None))
    assert len(jax.tree.leaves(without)) == len(jax.tree.leaves(with_zero)) - 2
    assert repr(without.get(DivideByRoot)) == "DivideByRoot(eps=None, eps_root=None)"
    params, grads = tree(), tree(1)
    assert_same(*(rule.update(grads, rule.init(params), params) for rule in (with_zero, without)))
    with pytest.raises(TypeError, match="SecondMoment: initial_value must be a number"):
        SecondMoment(0.9, None)


def test_a_mask_leaves_the_state_as_it_is():
    plain, part = adamx.adamw(1e-3), adamx.adamw(1e-3, mask=MASK)
    assert_same(plain.init(NESTED), part.init(NESTED))


def test_a_wrapped_stage_keeps_its_own_hyperparameters_as_leaves():
    assert jax.tree.leaves(OnUpdate(adamx.HeavyBall(0.75))) == [0.25]
    assert jax.tree.leaves(masked(DecoupledDecay(0.5), True)) == [0.5]
    assert jax.tree.leaves(Sign()) == []
