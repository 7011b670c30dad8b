"""What a stage may ask the skeleton for: sums over the tree, a start, further arguments, own fields, random bits, leaves to act on."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import assert_close, assert_same, raises, tree
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from older import OLDER

import adamx
from adamx import DecoupledDecay, LearningRate, Momentum, Stage, TakeGradient, TakeMomentum, WiringError, update_rule
from adamx.stages import (
    Number,
    Slot,
    masked,
    norm,
    random_bits,
    ratio,
    stage,
    standard_normal,
    static,
    sum_of_squares,
)

# Sums over the tree


@stage
class ByGlobalNorm(Stage):
    """g <- g / ||g|| over the whole tree; keeps the largest norm so far."""

    sums = ("squares", "count")
    scalar_slots = ("largest",)
    reads, writes = {"g"}, {"g"}
    elementwise = False

    def measure(self, x, s, k):
        return {"squares": sum_of_squares(x.g), "count": jnp.asarray(x.g.size, x.t.dtype)}

    def combine(self, sums, k):
        size = jnp.sqrt(sums["squares"])
        return {"size": size, "largest": jnp.maximum(k["largest"], size), "mean": size / sums["count"]}

    def __call__(self, x, s, k):
        return x.write(g=ratio(x.g, k["size"])), s


normalised = update_rule(ByGlobalNorm(), TakeGradient(), LearningRate(0.5))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_sum_is_over_all_leaves_that_have_a_gradient(compiled):
    params, grads = tree(), tree(1) | {"bias": None}
    update = jax.jit(normalised.update) if compiled else normalised.update
    updates, state = update(grads, normalised.init(params), params)
    size = optax.tree.norm({k: g for k, g in grads.items() if g is not None})
    assert updates["bias"] is None
    for name in ("kernel", "scale"):
        np.testing.assert_allclose(updates[name], -0.5 * grads[name] / size, rtol=1e-6)
    np.testing.assert_allclose(state.scalars["largest"], size, rtol=1e-6)
    _, state = update(optax.tree.scale(0.1, grads), state, params)
    np.testing.assert_allclose(state.scalars["largest"], size, rtol=1e-6)


def test_no_gradient_at_all_and_zero_gradients_are_a_sum_of_zero():
    params = tree()
    for grads in (jax.tree.map(lambda p: None, params), optax.tree.zeros_like(params)):
        updates, state = normalised.update(grads, normalised.init(params), params)
        assert not any(jnp.any(u) for u in jax.tree.leaves(updates))
        assert state.scalars["largest"] == 0


def test_finite_shares_never_sum_to_infinity():
    params = {"a": jnp.full(4, 1e30), "b": jnp.full(4, 1e30)}
    updates, state = normalised.update(params, normalised.init(params), params)
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((updates, state)))


def test_leaves_of_several_dtypes_share_a_sum():
    params = {"half": jnp.ones(3, jnp.bfloat16), "single": jnp.ones(3), "complex": jnp.full(2, 1j, jnp.complex64)}
    updates, _ = normalised.update(params, normalised.init(params), params)
    assert {k: u.dtype for k, u in updates.items()} == {k: p.dtype for k, p in params.items()}
    np.testing.assert_allclose(updates["single"], -0.5 / 8**0.5, rtol=1e-6)


def test_two_cuts_in_a_line_run_in_order():
    twice = update_rule(ByGlobalNorm(), DecayedByNorm(), DecoupledAfter(), TakeGradient(), LearningRate(1.0))
    params, grads = tree(), tree(1)
    updates, _ = jax.jit(twice.update)(grads, twice.init(params), params)
    unit = optax.tree.scale(1 / optax.tree.norm(grads), grads)
    halved = jax.tree.map(lambda g: g / (1 + 1.0), unit)
    assert_close(updates, jax.tree.map(lambda g: -(g + 0.25), halved), rtol=1e-5)


@stage
class DecayedByNorm(Stage):
    """g <- g / (1 + ||g||^2)."""

    sums = ("n",)
    reads, writes = {"g"}, {"g"}

    def measure(self, x, s, k):
        return {"n": sum_of_squares(x.g)}

    def __call__(self, x, s, k):
        return x.write(g=x.g / (1 + k["n"])), s


@stage
class DecoupledAfter(DecayedByNorm):
    """g <- g + ||g||^2, of the gradient that the last stage left."""

    def __call__(self, x, s, k):
        return x.write(g=x.g + k["n"]), s


def test_a_rule_with_sums_is_batched_scanned_and_masked_like_any_other():
    params, grads = tree(), tree(1, steps=3)

    def path(rate):
        rule = update_rule(
            masked(ByGlobalNorm(), {"kernel": True, "bias": True, "scale": False}), TakeGradient(), LearningRate(rate)
        )

        def step(state, g):
            updates, state = rule.update(g, state, params)
            return state, updates

        return jax.lax.scan(step, rule.init(params), grads)[1]

    together = jax.vmap(path)(jnp.array([0.1, 0.2]))
    for lane, rate in enumerate((0.1, 0.2)):
        assert_close(jax.tree.map(lambda x, lane=lane: x[lane], together), path(rate))
    np.testing.assert_allclose(path(0.5)["scale"], -0.5 * grads["scale"], rtol=1e-6)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_sums_over_sharded_leaves_are_one_all_reduce_and_the_same_numbers(kind):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    whole = {"a": jnp.arange(32.0).reshape(16, 2), "b": jnp.arange(8.0), "c": jnp.ones((8, 3))}
    sharded = jax.device_put(whole, NamedSharding(mesh, PartitionSpec("x")))
    state = normalised.init(sharded)
    compiled = jax.jit(normalised.update).lower(sharded, state, sharded).compile()
    # One for each leaf in the versions whose XLA does not join them.
    assert compiled.as_text().count(" all-reduce(") == (3 if OLDER else 1)
    updates, _ = compiled(sharded, state, sharded)
    assert all(
        u.sharding.is_equivalent_to(p.sharding, p.ndim) for u, p in zip(updates.values(), sharded.values(), strict=True)
    )
    assert_close(jax.device_get(updates), jax.device_get(normalised.update(whole, normalised.init(whole), whole)[0]))


# Slots and scalars that start somewhere


@stage
class TowardsStart(Stage):
    """u <- u + pull (p - p_0)."""

    pull: Number = 0.5

    slots = (Slot("p_start"),)
    scalar_slots = ("begun",)
    reads, writes = {"p", "u"}, {"u"}

    def start(self, p):
        return {"p_start": p}

    def initial(self):
        return {"begun": 7.0}

    def scalars(self, t, last):
        return {"begun": last["begun"] + 1}

    def __call__(self, x, s, k):
        return x.write(u=x.u + self.pull * (x.p - s["p_start"])), s


anchored = update_rule(TakeGradient(), TowardsStart(), LearningRate(1.0))


def test_a_slot_starts_at_the_parameter_in_a_buffer_of_its_own():
    params = tree()
    state = anchored.init(params)
    assert_same(state.slots["p_start"], params)
    for p, kept in zip(jax.tree.leaves(params), jax.tree.leaves(state.slots), strict=True):
        assert p.unsafe_buffer_pointer() != kept.unsafe_buffer_pointer()
    assert float(state.scalars["begun"]) == 7
    for dtype in (jnp.bfloat16, jnp.complex64):
        kept = anchored.init(optax.tree.cast(params, dtype)).slots["p_start"]["bias"]
        assert kept.dtype == (jnp.float32 if dtype == jnp.bfloat16 else jnp.complex64)
    jitted = jax.jit(anchored.init)(params)
    assert_same(jitted, state)
    step = jax.jit(anchored.update, donate_argnums=(1, 2))
    updates, after = step(tree(1), state, params)
    assert_close(updates, optax.tree.scale(-1, tree(1)))
    assert float(after.scalars["begun"]) == 8


def test_a_start_is_there_before_the_first_gradient():
    params, grads = tree(), tree(1)
    state, moved = anchored.init(params), jax.tree.map(lambda p: p + 1, params)
    updates, state = anchored.update(grads | {"bias": None}, state, moved)
    updates, _ = anchored.update(grads, state, moved)
    np.testing.assert_allclose(updates["bias"], -(grads["bias"] + 0.5), rtol=1e-5)


def test_abstract_parameters_give_an_abstract_start():
    shapes = jax.eval_shape(lambda: tree())
    assert jax.tree.structure(jax.eval_shape(anchored.init, shapes)) == jax.tree.structure(anchored.init(shapes))


# Slots where the stage acts


def test_a_masked_stage_keeps_one_zero_on_the_other_leaves():
    rule = update_rule(TakeGradient(), OnlyMatrices(), LearningRate(1.0))
    params = tree()
    state = rule.init(params)
    assert {k: x.shape for k, x in state.slots["kept"].items()} == {"kernel": (2, 3), "bias": (1,), "scale": (1,)}
    updates, after = jax.jit(rule.update)(tree(1), state, params)
    assert_same(jax.tree.map(jnp.shape, after), jax.tree.map(jnp.shape, state))
    assert not jnp.any(after.slots["kept"]["bias"])
    np.testing.assert_allclose(updates["kernel"], -2 * tree(1)["kernel"], rtol=1e-6)
    np.testing.assert_allclose(updates["bias"], -tree(1)["bias"], rtol=1e-6)
    assert_same(rule.update(tree(1), state)[1], after)


@stage
class OnlyMatrices(Stage):
    """u <- 2 u on matrices, remembered."""

    slots = (Slot("kept"),)
    reads, writes = {"u"}, {"u"}

    def on_leaves(self, structure, leaves):
        return [np.ndim(leaf) == 2 for leaf in leaves]

    def __call__(self, x, s, k):
        return x.write(u=2 * x.u), {"kept": x.u}


@stage
class RowsOrColumns(Stage):
    """g <- g / ||g|| along the axis that is said for each leaf."""

    axis: int = static(default=0)

    reads, writes = {"g"}, {"g"}
    slots = property(lambda self: (Slot("size", signed=False, shape=functools.partial(without, axis=self.axis)),))

    def on_leaves(self, structure, leaves):
        return [None if leaf.ndim < 2 else int(leaf.shape[0] < leaf.shape[1]) for leaf in leaves]

    def at_leaf(self, which):
        return RowsOrColumns(which)

    def __call__(self, x, s, k):
        size = jnp.sqrt(jnp.sum(x.g**2, axis=self.axis, keepdims=True))
        return x.write(g=ratio(x.g, size)), {"size": size}


def without(shape, axis):
    return tuple(1 if i == axis else n for i, n in enumerate(shape))


def test_a_stage_can_be_another_one_on_each_leaf():
    rule = update_rule(RowsOrColumns(), TakeGradient(), LearningRate(1.0))
    params = {"tall": jnp.ones((4, 2)), "wide": jnp.ones((2, 4)), "bias": jnp.ones(3)}
    state = rule.init(params)
    assert {k: x.shape for k, x in state.slots["size"].items()} == {"tall": (1, 2), "wide": (2, 1), "bias": (1,)}
    updates, after = rule.update(params, state)
    assert_close(updates, {"tall": jnp.full((4, 2), -0.5), "wide": jnp.full((2, 4), -0.5), "bias": -jnp.ones(3)})
    assert_same(after, jax.jit(rule.update)(params, state)[1])


# Further arguments of a step


@stage
class ByCurvature(Stage):
    """u <- u / h where a step has it; and times the loss."""

    extras, scalar_extras = ("curvature",), ("value",)
    reads, writes = {"u", "curvature"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=k["value"] * (x.u if x.curvature is None else ratio(x.u, x.curvature))), s


newton = update_rule(TakeGradient(), ByCurvature(), LearningRate(1.0))


def test_further_arguments_reach_the_stage_from_update_step_and_trace():
    params, grads, curvature = tree(), tree(1), optax.tree.full_like(tree(), 4.0)
    state = newton.init(params)
    wanted = optax.tree.scale(-0.5, grads)
    further = {"value": 2.0, "curvature": curvature, "of another transformation": 1}
    updates, _ = jax.jit(newton.update)(grads, state, params, value=2.0, curvature=curvature)
    assert_close(updates, wanted)
    assert_close(newton.update(grads, state, params, **further)[0], wanted)
    assert_close(newton.step(grads, state, params, **further)[0], optax.apply_updates(params, wanted))
    updates, _, signals = newton.trace(grads, state, params, **further)
    assert_close(updates, wanted)
    assert_same(signals.curvature, curvature)
    without_it = newton.update(grads, state, params, value=2.0)[0]
    assert_close(without_it, optax.tree.scale(-2, grads))
    chained = adamx.chain(optax.identity(), newton)
    assert_close(chained.update(grads, chained.init(params), params, **further)[0], wanted)


def test_further_arguments_that_are_missing_misspelt_or_of_another_tree():
    params, grads, curvature = tree(), tree(1), tree(2)
    state = newton.init(params)
    with raises(TypeError, "ByCurvature() needs the argument 'value'", "value=..."):
        newton.update(grads, state, params)
    with raises(TypeError, "unknown argument 'curvture' and no curvature", "params, curvature, value"):
        newton.update(grads, state, params, value=1.0, curvture=curvature)
    with raises(TypeError, "unknown argument 'parms' and no params"):
        newton.update(grads, state, parms=params, value=1.0)
    with raises(TypeError, "unknown argument 'valu' and no value"):
        newton.step(grads, state, params, valu=1.0)
    with raises(TypeError, "'value' of ByCurvature() must be one real number, got float32[2]"):
        newton.update(grads, state, params, value=jnp.ones(2))
    with raises(TypeError, "'value' of ByCurvature() must be one real number, got 'loss'"):
        newton.update(grads, state, params, value="loss")
    with raises(ValueError, "the argument 'curvature' have another tree structure"):
        newton.update(grads, state, params, value=1.0, curvature={"kernel": grads["kernel"]})
    with raises(ValueError, "'curvature'", "params['bias']", "float32[3]", "float32[2]"):
        newton.update(grads, state, params, value=1.0, curvature=grads | {"bias": jnp.ones(2)})


def test_a_name_of_the_signal_is_no_further_argument():
    @stage
    class Wrong(Stage):
        extras = ("mu",)
        reads, writes = {"u"}, {"u"}

    with raises(WiringError, "Wrong asks for the argument `mu`", "name it otherwise"):
        update_rule(TakeGradient(), Wrong())


# Fields of their own


@stage
class WriteBasis(Stage):
    """basis = g / ||g||, sign = 1."""

    reads, writes = {"g"}, {"basis"}

    def __call__(self, x, s, k):
        return x.write(basis=ratio(x.g, norm(x.g))), s


@stage
class ReadBasis(Stage):
    """u = basis."""

    reads, writes = {"basis"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=x.basis), s


def test_stages_hand_each_other_fields_of_their_own():
    rule, params = update_rule(WriteBasis(), ReadBasis(), LearningRate(1.0)), tree()
    grads = tree(1) | {"bias": None}
    updates, _, signals = rule.trace(grads, rule.init(params), params)
    assert_close(
        {k: -u for k, u in updates.items() if u is not None}, {k: b for k, b in signals.basis.items() if b is not None}
    )
    assert signals.basis["bias"] is None
    with raises(WiringError, "ReadBasis (stage 1) reads `basis`, which no stage before it writes", "IntoEigenbasis"):
        update_rule(ReadBasis())
    with raises(AttributeError, "no stage wrote a field 'bases'", "basis"):
        _ = signals.bases
    copied = pickle.loads(pickle.dumps(jax.device_get(signals)))
    assert_close(copied.basis["kernel"], signals.basis["kernel"])


def test_averages_write_the_factor_that_corrected_them():
    rule, params = adamx.adam(1e-3, b1=0.5, b2=0.75), tree()
    state = rule.init(params)
    for _ in range(2):
        _, state, signals = rule.trace(tree(1), state, params)
    np.testing.assert_allclose([signals.m_debias, signals.v_debias], [1 / (1 - 0.25), 1 / (1 - 0.5625)], rtol=1e-6)
    assert_close(optax.tree.scale(signals.m_debias, signals.mu), signals.m)


# Random bits


@stage
class Noise(Stage):
    """u <- u + size n with n of the standard normal distribution (Langevin dynamics)."""

    size: Number = 1.0
    seed: int = static(default=0)

    random = True
    reads, writes = {"u"}, {"u"}

    def __call__(self, x, s, k):
        return x.write(u=x.u + self.size * standard_normal(x.u, k["key"])), s


def test_random_bits_differ_between_steps_leaves_stages_and_seeds_and_repeat():
    params = {"a": jnp.zeros(4096), "b": jnp.zeros(4096)}

    def noise(*stages, steps=1):
        rule = update_rule(TakeGradient(), *stages, LearningRate(1.0))
        state = rule.init(params)
        for _ in range(steps):
            updates, state = jax.jit(rule.update)(params, state)
        return updates

    one = noise(Noise())
    assert_same(noise(Noise()), one)
    streams = [
        one["a"],
        one["b"],
        noise(Noise(), steps=2)["a"],
        noise(Noise(seed=1))["a"],
        noise(Noise(), Noise(0.0))["b"],
    ]
    streams = [np.asarray(x) for x in streams[:4]]
    for i, x in enumerate(streams):
        assert abs(x.mean()) < 4 / 64 and abs(x.var() - 1) < 4 * (2 / 4096) ** 0.5
        for y in streams[:i]:
            assert abs(np.mean(x * y)) < 4 / 64
    two = noise(Noise(), Noise())["a"]
    assert abs(float(jnp.var(two)) - 2) < 0.3, (
        "two stages draw independently: the same bits twice would have variance 4"
    )
    assert random_bits(jnp.zeros(3), jnp.uint32(1)).dtype == jnp.uint32


def test_normal_numbers_have_the_right_tails():
    x = np.asarray(standard_normal(jnp.zeros(2**20), jnp.uint32(5)))
    assert np.isfinite(x).all() and 4.3 < np.abs(x).max() < 6
    for bound, share in ((1, 0.317311), (2, 0.045500), (3, 0.002700)):
        assert abs(np.mean(np.abs(x) > bound) - share) < 4 * (share / 2**20) ** 0.5


# What a stage returns


def broken(call, **fields):
    body = {"reads": {"g"}, "writes": {"u"}, "__call__": call, "__doc__": "Broken."} | fields
    cls = stage(type("Broken", (Stage,), body))
    rule = update_rule(cls(), LearningRate(1.0))
    params = tree()
    return rule.update(params, rule.init(params), params)


def test_a_stage_that_returns_something_else_than_it_declares_is_told_so_when_traced():
    slots = (Slot("kept"),)
    with raises(WiringError, "Broken must return the signal and a dict of its slots, got Signal, NoneType"):
        broken(lambda self, x, s, k: (x.write(u=x.g), None))
    with raises(WiringError, "Broken returned the slots `wrong`; it declares `kept`"):
        broken(lambda self, x, s, k: (x.write(u=x.g), {"wrong": x.g}), slots=slots)
    with raises(WiringError, "Broken returned slot 'kept' in shape ()", "in shape (3,)"):
        broken(lambda self, x, s, k: (x.write(u=x.g), {"kept": x.g.sum()}), slots=slots)
    with raises(WiringError, "Broken wrote `m`; it declares that it writes `u`"):
        broken(lambda self, x, s, k: (x.write(u=x.g, m=x.g), s))
    with raises(WiringError, "Broken wrote `own_field`"):
        broken(lambda self, x, s, k: (x.write(u=x.g, own_field=x.g), s))
    with raises(WiringError, "Broken wrote `u` in shape () on a gradient of shape (3,)"):
        broken(lambda self, x, s, k: (x.write(u=x.g.sum()), s))
    with raises(WiringError, "Broken wrote `v` in shape (1, 3)", "of shape (3,)"):
        broken(lambda self, x, s, k: (x.write(u=x.g, v=x.g[None]), s), writes={"u", "v"})
    with raises(WiringError, "Broken", "its scalar slots rest are not among the results of `scalars`"):
        broken(lambda self, x, s, k: (x.write(u=x.g), s), scalar_slots=("rest",))
    with raises(
        WiringError, "Broken", "measure must return a real scalar for each of its sums, `n`", "n of shape (3,)"
    ):
        broken(lambda self, x, s, k: (x.write(u=x.g), s), sums=("n",), measure=lambda self, x, s, k: {"n": x.g})
    with raises(WiringError, "Broken wrote `v` in shape (3,)", "of shape (2, 3)", "with 1 for axes that share a value"):
        broken(lambda self, x, s, k: (x.write(u=x.g, v=x.g[0] if x.g.ndim > 1 else x.g), s), writes={"u", "v"})
    with raises(WiringError, "Broken", "its scalar slots rest are not among the results of `scalars` or `combine`"):
        measure = {"measure": lambda self, x, s, k: {"n": x.g.sum()}}
        broken(lambda self, x, s, k: (x.write(u=x.g), s), sums=("n",), scalar_slots=("rest",), **measure)


def test_a_second_moment_may_broadcast_to_the_gradient():
    @stage
    class RowMoment(Stage):
        slots = (Slot("nu", signed=False, shape=lambda shape: (*shape[:1], *(1 for _ in shape[1:]))),)
        reads, writes = {"g"}, {"v"}

        def __call__(self, x, s, k):
            nu = jnp.mean(x.g**2, axis=tuple(range(1, x.g.ndim)), keepdims=True)
            return x.write(v=nu), {"nu": nu}

    rule = update_rule(Momentum(0.9), RowMoment(), adamx.DivideByRoot(), LearningRate(1.0))
    params = tree()
    updates, _, signals = rule.trace(params, rule.init(params), params)
    kernel = np.asarray(params["kernel"])
    np.testing.assert_allclose(
        updates["kernel"], -kernel / np.sqrt(np.mean(kernel**2, axis=1, keepdims=True)), rtol=1e-5
    )
    assert signals.v["kernel"].shape == (2, 1)
    jax.grad(lambda p: sum(jnp.sum(u) for u in jax.tree.leaves(rule.update(p, rule.init(p), p)[0])))(params)


def test_what_a_class_of_stages_can_have_wrong():
    class Undecorated(Momentum):
        """Not a node."""

    @stage
    class Flag(Stage):
        on: bool = True

    @stage
    class Plain(Stage):
        rate: float = 0.1

    with raises(TypeError, "Undecorated is no stage yet: write @stage above its class"):
        update_rule(Undecorated(0.9), TakeMomentum())
    with raises(TypeError, "Flag: on holds True, a flag", "on: bool = static(default=...)"):
        update_rule(Flag())
    with raises(TypeError, "Plain: rate holds", "a schedule", "Annotate the field as Number"):
        update_rule(Plain(optax.constant_schedule(0.1)))


# Groups of leaves


def kinds(params):
    return jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "vector", params)


def grouped():
    return {"matrix": adamx.adamw(0.1, weight_decay=0.1), "vector": adamx.chain(optax.scale(2.0), adamx.sgd(0.01))}


@pytest.mark.parametrize("labels", [kinds, {"kernel": "matrix", "bias": "vector", "scale": "vector"}])
def test_a_partition_is_optaxs_partition_and_a_tree(labels):
    params, grads = tree(), tree(1, steps=3)
    ours, theirs = adamx.partition(grouped(), labels), optax.partition(grouped(), labels)
    state, other = ours.init(params), theirs.init(params)
    for step in range(3):
        g = jax.tree.map(lambda x, step=step: x[step], grads)
        updates, state = ours.update(g, state, params)
        wanted, other = theirs.update(g, other, params)
        assert_same(updates, wanted)
    stepped, after = ours.step(g, state, params)
    updates, wanted = ours.update(g, state, params)
    assert_close(stepped, optax.apply_updates(params, updates))
    assert_same(after, wanted)
    assert ours == adamx.partition(grouped() | {"vector": ours.parts["vector"]}, labels)
    assert jax.tree.leaves(ours) == [x for part in ours.parts.values() for x in jax.tree.leaves(part)]
    assert ours.get(DecoupledDecay) == DecoupledDecay(0.1)
    assert "matrix: Momentum(b1=0.9)" in repr(ours)
    assert_same(
        jax.jit(lambda tx: tx.update(params, tx.init(params), params))(ours),
        ours.update(params, ours.init(params), params),
    )


def test_a_partition_traces_and_lets_none_gradients_through():
    tx, params = adamx.partition(grouped(), kinds), tree()
    grads = tree(1) | {"bias": None, "kernel": None}
    for update in (tx.update, jax.jit(tx.update)):
        updates, _ = update(grads, tx.init(params), params)
        assert updates["bias"] is None and updates["kernel"] is None
        np.testing.assert_allclose(updates["scale"], -0.02 * grads["scale"], rtol=1e-6)
    updates, _, shown = tx.trace(tree(1), tx.init(params), params)
    assert_close(shown["matrix"].u["kernel"], updates["kernel"])
    assert float(shown["vector"][1].lr) == pytest.approx(0.01)
    rates = adamx.partition({"all": adamx.sgd(jnp.array([0.1, 0.2]))}, jax.tree.map(lambda p: "all", params))
    moved = jax.vmap(lambda tx: tx.update(params, tx.init(params), params)[0], in_axes=(adamx.axes_of(rates),))(rates)
    np.testing.assert_allclose(moved["bias"][1], -0.2 * params["bias"], rtol=1e-6)


def test_each_part_of_a_partition_gets_its_leaves_of_further_arguments_and_sums_over_its_own():
    tx = adamx.partition({"matrix": newton, "vector": normalised}, kinds)
    params, grads, curvature = tree(), tree(1), optax.tree.full_like(tree(), 4.0)
    updates, _ = tx.update(grads, tx.init(params), params, value=2.0, curvature=curvature)
    np.testing.assert_allclose(updates["kernel"], -0.5 * grads["kernel"], rtol=1e-6)
    size = optax.tree.norm([grads["bias"], grads["scale"]])
    np.testing.assert_allclose(updates["bias"], -0.5 * grads["bias"] / size, rtol=1e-6)


def test_a_partition_refuses_what_it_cannot_use():
    params = tree()
    with raises(TypeError, "partition takes a dict", "got ["):
        adamx.partition([adamx.sgd(0.1)], kinds)
    with raises(TypeError, "partition takes gradient transformations, got Momentum"):
        adamx.partition({"matrix": Momentum(0.9)}, kinds)
    lacking = adamx.partition({"matrix": adamx.sgd(0.1)}, kinds)
    with raises(ValueError, "params['bias'] has the label 'vector'", "the labels are 'matrix'"):
        lacking.init(params)
    with raises(ValueError, "the tree of labels is not a tree (or prefix) of the parameters"):
        adamx.partition({"a": adamx.sgd(0.1)}, {"kernel": "a"}).init(params)
    whole = adamx.partition(grouped(), kinds)
    with raises(ValueError, "the state of a partition is the PartitionState", "got RuleState"):
        whole.update(params, adamx.sgd(0.1).init(params), params)
