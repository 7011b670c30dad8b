"""Slots in 16 and 8 bits: how exact they are, that averages move in them, that they are the same everywhere, and what is refused."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import assert_same, case_rule, each_rule, further, normal, optimized, raises
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from older import OLDER

import adamx
from adamx.blocks import Blocks
from adamx.eight_bit import Int8, Log8

SHAPES = ((128, 70), (100, 33), (5000,), (16387,), (24, 300), (3, 3, 64, 4), (70, 2, 3), (2, 130, 4))
SMALL = adamx.EightBit(min_size=0)
STORAGES = {
    "float32": {},
    "bf16": dict.fromkeys(("mu", "nu"), adamx.BFloat16()),
    "8-bit": {"mu": Int8(min_size=0), "nu": Log8(min_size=0)},
}
each_storage = pytest.mark.parametrize("storage", list(STORAGES))


def log_normal(shape, spread, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape) * np.exp(spread * rng.normal(size=shape)), jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def stored_and_read(storage, x):
    """An array as a storage keeps it, rounded to nearest, and what it reads of that."""
    stored = storage.init(x, "params")
    return stored, storage.decode(stored, jnp.float32)


def kept(storage, x):
    """What a storage makes of an array, rounded to nearest."""
    return np.asarray(stored_and_read(storage, x)[1])


# One array


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_codes_have_the_leafs_shape_and_values_are_near(shape):
    signed = log_normal(shape, 1.0)
    for storage, x in ((Int8(min_size=0), signed), (Log8(min_size=0), jnp.abs(signed))):
        stored, _ = stored_and_read(storage, x)
        layout = storage.layout(shape, jnp.float32, "params")
        assert jax.tree.map(lambda a: (a.shape, a.dtype), stored) == jax.tree.map(lambda a: (a.shape, a.dtype), layout)
        assert stored.codes.shape == shape
        decoded = kept(storage, x)
        assert_same(kept(storage, jnp.asarray(decoded)), decoded)
        near = np.abs(x) > np.max(np.abs(x)) * 2.0**-13
        assert np.max(np.abs(decoded - x)[near] / np.abs(x)[near]) <= 1 / 16 + 1e-6


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 3e-40, jnp.nan])
def test_an_array_of_one_number_is_kept_as_any_other(value):
    for shape in [*SHAPES[:4], (5,), (2, 3)]:
        for storage in (Int8(min_size=0), Log8(min_size=0), adamx.BFloat16(), adamx.Float32()):
            made = storage.filled(lambda v, s, d: jnp.full(s, v, d), value, shape, jnp.float32, "params")
            assert_same(made, storage.init(jnp.full(shape, value, jnp.float32), "params"))


def test_a_block_within_few_octaves_has_more_codes_for_each():
    for octaves, error in ((4, 2**-7), (8, 2**-6), (16, 2**-5), (32, 2**-4)):
        x = jnp.exp2(jnp.linspace(0.2, octaves - 0.1, 64)).reshape(64, 1)
        relative = np.abs(kept(Log8(min_size=0), x) / x - 1)
        assert error / 4 < relative.max() <= error * 1.01


def test_only_zero_becomes_zero_in_a_slot_that_is_divided_by():
    x = jnp.array([1.0, 1e-30, 0.0, 1e-3] * 16).reshape(64, 1)
    value = kept(Log8(min_size=0), x)
    assert_same(value == 0, np.asarray(x == 0))
    assert value[1] == 2.0**-31 * 1.125
    assert not np.any(kept(Log8(min_size=0), jnp.zeros((64, 2)))) and not np.any(kept(Int8(min_size=0), jnp.zeros(64)))


@pytest.mark.parametrize("scale", [1e-44, 1e-37, 1e-20, 1e33])
def test_numbers_of_any_size_are_kept(scale):
    x = jnp.float32(scale) * jnp.abs(normal((64, 3), 0))
    for storage in (Int8(min_size=0), Log8(min_size=0)):
        value = kept(storage, x)
        assert np.all(np.isfinite(value)) and np.allclose(value, x, rtol=1 / 16, atol=max(scale * 0.1, 1e-38))


def test_what_is_not_finite_is_seen_in_its_block_and_not_in_others():
    for bad in (jnp.nan, jnp.inf):
        for storage in (Int8(min_size=0), Log8(min_size=0)):
            value = kept(storage, jnp.ones((128, 2)).at[3, 1].set(bad))
            assert np.all(np.isnan(value[:64, 1])) and np.all(value[64:] == 1) and np.all(value[:, 0] == 1)
        rule, grads = adamx.adam(0.1).store(SMALL), jnp.ones((128, 2)).at[3, 1].set(bad)
        for step in (rule.step, rule.fuse(interpret=True).step):
            params, state = jax.jit(step)(grads, rule.init(grads), jnp.ones((128, 2)))
            assert not np.isfinite(params[3, 1]) and np.sum(~np.isfinite(params)) == 1
            # A square of infinity is held within the range.
            for slot in state.slots.values() if np.isnan(bad) else [state.mu]:
                assert_same(np.isnan(slot.scales), np.array([[False, True], [False, False]]))


@pytest.mark.parametrize("name", ["8-bit", "bf16"])
def test_the_mean_of_many_roundings_is_the_number(name):
    x = jnp.abs(log_normal((64, 128), 0.5)) + 1e-2
    for slot, storage in STORAGES[name].items():
        stored = storage.init(x, "params")

        def drawn(step, slot=slot, storage=storage, stored=stored):
            dither = jax.tree.map(lambda a: a[0], storage.rounding.dithers(step, 1))
            return storage.decode(storage.encode(x, stored, dither), jnp.float32)

        draws = np.asarray(jax.jit(jax.vmap(drawn))(jnp.arange(256)))
        # Evenly spread in time: the error of the mean falls as 1/n, not as its root.
        assert np.max(np.abs(draws.mean(0) / x - 1)) < 2e-3, slot
        assert np.any(draws[0] != draws[1])


# In a rule


def error_of_update(rule, spread, steps=300, n=4096):
    """RMS error of the last update relative to float32's, and the largest of each."""
    scale, exact = jnp.exp(spread * normal((n,), 1)), adamx.scale_by_adam()
    grads = scale * np.random.default_rng(0).standard_t(4.0, (steps, n)).astype(np.float32)

    def step(states, g):
        (u, a), (v, b) = rule.update(g, states[0]), exact.update(g, states[1])
        return (a, b), (jnp.mean((u - v) ** 2) / jnp.mean(v**2), jnp.max(jnp.abs(u)), jnp.max(jnp.abs(v)))

    states = rule.init(scale), exact.init(scale)
    _, (error, largest, largest_exact) = optimized(lambda s: jax.lax.scan(step, s, grads))(states)
    return np.sqrt(error[-1]), np.max(largest) / np.max(largest_exact)


@pytest.mark.parametrize("name, spread, limit", [("8-bit", 1.0, 0.10), ("8-bit", 3.0, 0.40), ("bf16", 3.0, 0.02)])
def test_updates_are_near_those_of_float32_on_blocks_of_mixed_scales(name, spread, limit):
    error, size = error_of_update(adamx.scale_by_adam().store(**STORAGES[name]), spread)
    assert error < limit and size < 1.5


@each_storage
def test_a_second_moment_falls_when_the_gradients_do(storage):
    # Half of the gradients drop 20 times after 500 steps: rounded to nearest, v would stay.
    n = 1024
    small = (jnp.arange(n) % 2).astype(jnp.float32)
    grads = np.random.default_rng(1).normal(size=(3000, n)).astype(np.float32)
    grads[500:, 1::2] *= 0.05
    rule, exact = adamx.scale_by_adam().store(**STORAGES[storage]), adamx.scale_by_adam()

    def step(states, g):
        return tuple(r.update(g, s)[1] for r, s in zip((rule, exact), states, strict=True)), None

    states = rule.init(small), exact.init(small)
    (state, wide), _ = jax.jit(lambda s: jax.lax.scan(step, s, grads))(states)
    nu = dict(rule.storages).get("nu", adamx.Float32()).decode(state.slots["nu"], jnp.float32)
    assert 0.95 < np.median((nu / wide.slots["nu"])[1::2]) < 1.05


@each_rule
def test_every_rule_runs_in_8_bits(name):
    rule = case_rule(name)
    rule = rule.store(SMALL)
    params, grads = (
        {"w": normal((64, 3), 0), "b": normal((5,), 1)},
        {"w": normal((8, 64, 3), 2), "b": normal((8, 5), 3)},
    )
    state = rule.init(params)

    def step(carry, g):
        params, state = carry
        updates, state = rule.update(g, state, params, **further(rule, g))
        return (optax.apply_updates(params, updates), state), updates

    (params, after), _ = jax.jit(lambda c, g: jax.lax.scan(step, c, g))((params, state), grads)
    assert jax.tree.all(jax.tree.map(lambda p: bool(jnp.all(jnp.isfinite(p))), params))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    if not hasattr(rule, "storages"):
        return
    of_parameter = [
        slot for stage in rule.stages for slot in stage.slots if slot.shape((64, 3)) == (64, 3) and not slot.precise
    ]
    assert all(isinstance(after.slots[s.name]["w"], (Blocks, jax.Array)) for s in of_parameter)


def test_the_rules_of_a_partition_keep_the_slots_that_each_has():
    rule, params = case_rule("muon"), {"w": normal((64, 3), 0), "b": normal((5,), 1)}
    matrices, rest = (rule.store(SMALL).init(params).inner_states[label].slots for label in ("muon", "adam"))
    assert isinstance(matrices["mu"]["w"], Blocks) and isinstance(rest["nu"]["b"], Blocks)
    by_name = rule.store(nu=adamx.BFloat16(), params=adamx.Nearest())
    assert by_name.parts["muon"] == rule.parts["muon"].store(params=adamx.Nearest())
    assert by_name.parts["adam"] == rule.parts["adam"].store(nu=adamx.BFloat16(), params=adamx.Nearest())
    nested = adamx.partition({"all": rule, "rest": optax.sgd(0.1)}, lambda p: "all")
    assert nested.store(SMALL).parts["all"] == rule.store(SMALL)
    with raises(ValueError, "no rule of this partition has a slot 'momentum'", "mu, nu"):
        rule.store(momentum=adamx.BFloat16())
    with raises(TypeError, "store(nu=...) takes a Storage, got 8"):
        rule.store(nu=8)


@each_storage
def test_a_run_goes_on_bit_for_bit_from_a_checkpoint(storage):
    rule, params = adamx.adamw(1e-2).store(**STORAGES[storage]), normal((64, 2), 0, jnp.bfloat16)

    @jax.jit
    def run(params, state):
        def step(c, g):
            return rule.step(g, c[1], c[0]), None

        return jax.lax.scan(step, (params, state), normal((5, 64, 2), 1))[0]

    middle = run(params, rule.init(params))
    restored = jax.tree.map(jnp.asarray, pickle.loads(pickle.dumps(jax.tree.map(np.asarray, middle))))
    assert_same(jax.tree.map(np.asarray, run(*middle)), jax.tree.map(np.asarray, run(*restored)))


# Parameters in bfloat16


@pytest.mark.parametrize("how", ["nearest", "stochastic", "kahan"])
def test_updates_below_the_resolution_of_the_parameters(how):
    rule = adamx.sgd(1e-4)
    rule = adamx.modifiers.kahan(rule) if how == "kahan" else rule.store(params=getattr(adamx, how.capitalize())())
    params = {"half": jnp.ones(512, jnp.bfloat16), "full": jnp.ones(3)}
    assert ("p_error" in rule.init(params).slots) == (how == "kahan")

    @jax.jit
    def run(start):
        step = lambda c, _: (rule.step(jax.tree.map(jnp.ones_like, params), c[1], c[0]), None)  # noqa: E731
        return jax.lax.scan(step, start, length=400)[0]

    after, state = run((params, rule.init(params)))
    moved = 1 - np.asarray(after["half"], np.float64)
    wanted = {"nearest": 0.0, "stochastic": 0.04, "kahan": 0.04}[how]
    assert abs(moved.mean() - wanted) < 2e-3 and np.allclose(after["full"], 0.96, atol=1e-4)
    if how == "kahan":
        error = state.slots["p_error"]
        assert error["half"].dtype == jnp.bfloat16 and error["full"].shape == (1,)
        # Exactly the sum, to the precision of both together, whichever way the update is applied.
        assert np.max(np.abs(moved - np.asarray(error["half"], np.float64) - 0.04)) < 5e-4
        one, two = (params, rule.init(params)), (params, rule.init(params))
        for _ in range(9):
            one = rule.step(params, one[1], one[0])
            updates, again = rule.update(params, two[1], two[0])
            two = optax.apply_updates(two[0], updates), again
        assert_same(*(jax.tree.map(np.asarray, x) for x in (one, two)))


def test_bytes_of_a_state():
    params = jax.ShapeDtypeStruct((1024, 4096), jnp.float32)
    for storage, wanted in ((adamx.Float32(), 8.0), (adamx.BFloat16(), 4.0), (adamx.EightBit(), 2.125)):
        assert abs(adamx.state_bytes(adamx.adam(1e-3).store(storage), params) / params.size - wanted) < 1e-4


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("shape", [(512, 16), (256, 4), (520,), (8, 70)], ids=str)
def test_codes_are_the_same_on_one_device_and_on_eight(shape, kind):
    # Of all but the first the mesh cuts blocks.
    if OLDER and (shape, kind) == ((256, 4), AxisType.Auto):
        pytest.skip("JAX of these versions cannot name the sharding that XLA chooses for the scales")
    rule, params, grads = adamx.adam(1e-2).store(SMALL), normal(shape, 0), normal((2, *shape), 1)

    def steps(params, grads):
        state = rule.init(params)
        for g in grads:
            params, state = jax.jit(rule.step)(g, state, params)
        return params, state

    expected = steps(params, list(grads))
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, P("x"))
        actual = steps(jax.device_put(params, sharding), [jax.device_put(g, sharding) for g in grads])
        assert actual[1].slots["mu"].codes.sharding.is_equivalent_to(sharding, len(shape))
    assert_same(jax.tree.map(np.asarray, actual[1].slots), jax.tree.map(np.asarray, expected[1].slots))


def test_shardings_of_a_state_are_those_that_init_gives_and_cut_no_block():
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    shapes = {"w": (512, 16), "odd": (100, 16), "b": (512,), "experts": (4, 128, 6)}
    specs = {"w": P("x", "y"), "odd": P("x", "y"), "b": P("x"), "experts": P("x", "y", None)}
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    shardings = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    rule = adamx.adam(1e-2).store(SMALL)
    found = adamx.state_shardings(adamx.chain(rule), params, shardings)[0]
    assert jax.tree.structure(found) == jax.tree.structure(jax.eval_shape(rule.init, params))
    codes, scales = ({name: getattr(x, kind).spec for name, x in found.slots["nu"].items()} for kind in Blocks._fields)
    assert codes == specs and found.count.spec == P()
    # A part of 25 rows is less than a block, one of 128 is two.
    assert scales == {"w": P("x", "y"), "odd": P(None, "y"), "b": P(None), "experts": P("x", "y", None)}
    zeros = jax.device_put(jax.tree.map(lambda p: jnp.zeros(p.shape), params), shardings)
    state = jax.jit(rule.init, out_shardings=found)(zeros)
    _, after = jax.jit(rule.step)(zeros, state, zeros)
    assert after.slots["nu"]["w"].scales.sharding.is_equivalent_to(found.slots["nu"]["w"].scales, 2)
    with raises(TypeError, "state_shardings takes a rule or a chain of rules"):
        adamx.state_shardings(optax.adam(0.1), params, shardings)
    with raises(TypeError, "the sharding of params['b'] must be a NamedSharding"):
        adamx.state_shardings(rule, params, shardings | {"b": P("x")})


def test_small_leaves_and_those_left_out_stay_float32():
    params = {"w": jnp.ones((64, 64)), "b": jnp.ones(64), "head": jnp.ones((64, 64))}
    rule = adamx.adam(0.1).store(adamx.EightBit(where=lambda path, shape: "head" not in path))
    mu = rule.init(params).slots["mu"]
    assert isinstance(mu["w"], Blocks) and mu["b"].dtype == mu["head"].dtype == jnp.float32
    _, state = rule.update(params, rule.init(params), params)
    assert jax.tree.structure(state) == jax.tree.structure(rule.init(params))


def test_what_cannot_be_kept_in_few_bits_is_refused():
    for name, bad in (("rounding", "nearest"), ("min_size", -1), ("min_size", 1.5), ("where", "head")):
        with raises(TypeError, f"Int8: {name} must be", f"got {bad!r}"):
            Int8(**{name: bad})
    with raises(ValueError, "slot 'nu' is never negative", "Log8()"):
        adamx.adam(0.1).store(nu=Int8())
    with raises(ValueError, "slot 'mu' has a sign", "Int8()"):
        adamx.adam(0.1).store(mu=Log8())
    with raises(ValueError, "slot 'nu' cannot be kept as float16", "BFloat16()"):
        adamx.adam(0.1).store(nu=adamx.Cast("float16"))
    with raises(ValueError, "slot 'p_slow' loses what it is for", "Float32()"):
        adamx.lookahead(0.1).store(p_slow=Int8())
    with raises(ValueError, "the complex slot of params['w'] cannot be kept as Int8", "Float32()"):
        adamx.adam(0.1).store(SMALL).init({"w": jnp.ones(3, jnp.complex64)})
    rule, other = adamx.adam(0.1).store(SMALL), adamx.adam(0.1)
    with raises(TypeError, "the state's mu of params['w'] is float32[3], but this rule keeps int8[3], float32[128]"):
        rule.update({"w": jnp.ones(3)}, other.init({"w": jnp.ones(3)}))
