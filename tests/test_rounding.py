"""Stochastic rounding of parameters: hashes of counters, the same on every number of devices, without bias, at no memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_same, normal, optimized
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from adamx.randomness import Dither, mixed, random_bits, round_stochastically

LOW = (jnp.bfloat16, jnp.float16)


def steps(rule, params, count=3):
    """Parameters after some steps down the gradient of ones."""
    state = rule.init(params)
    for _ in range(count):
        params, state = optimized(rule.step)(jax.tree.map(jnp.ones_like, params), state, params)
    return params


# On devices


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("spec", [P("x"), P(None, "x"), P(None)], ids=str)
def test_the_bits_are_the_same_on_one_device_and_on_eight(kind, spec):
    rule, params = adamx.adam(1e-3), {"w": normal((16, 24), 0, jnp.bfloat16), "b": jnp.bfloat16(1.0)}
    expected = steps(rule, params)
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        sharded = params | {"w": jax.device_put(params["w"], NamedSharding(mesh, spec))}
        actual = steps(rule, sharded)
        assert actual["w"].sharding.is_equivalent_to(NamedSharding(mesh, spec), 2)
    assert_same(jax.tree.map(np.asarray, actual), jax.tree.map(np.asarray, expected))


def compiled_step(rule, params):
    return optimized(rule.step, donate_argnums=(1, 2)).lower(params, rule.init(params), params).compile()


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_no_device_makes_more_than_its_share_of_the_noise(kind):
    mesh, rule = jax.make_mesh((8,), ("x",), axis_types=(kind,)), adamx.adam(1e-3)
    with jax.set_mesh(mesh):
        params = jax.device_put(jnp.ones(2**16, jnp.bfloat16), NamedSharding(mesh, P("x")))
        assert compiled_step(rule, params).memory_analysis().temp_size_in_bytes < 1000


@pytest.mark.parametrize("dtype", LOW)
def test_rounding_needs_no_temporaries(dtype):
    params = jnp.ones(2**16, dtype)
    nearest = compiled_step(adamx.adam(1e-3).store(params=adamx.Nearest()), params).memory_analysis()
    stochastic = compiled_step(adamx.adam(1e-3), params).memory_analysis()
    # Scalars, of 64 bytes each as XLA aligns them: stochastic rounding has one more, the leaf's key.
    assert stochastic.temp_size_in_bytes <= nearest.temp_size_in_bytes + 64 < 300


def test_shards_and_lanes_have_bits_of_their_own():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    x, key = jnp.zeros(64), jnp.uint32(7)
    shards = optimized(jax.shard_map(lambda x: random_bits(x, key), mesh=mesh, in_specs=P("x"), out_specs=P("x")))(x)
    lanes = jax.vmap(lambda x: random_bits(x, key))(x.reshape(8, 8))
    nested = optimized(jax.vmap(jax.vmap(lambda x: random_bits(x, key))))(x.reshape(2, 4, 8))
    for bits in (shards, lanes, nested):
        assert len(np.unique(bits)) == 64
    assert_same(random_bits(x[:8], key), lanes[0])
    rules = adamx.adam(jnp.full(2, 1e-3))
    params = jax.vmap(lambda rule: steps(rule, jnp.ones(64, jnp.bfloat16), 1), in_axes=(adamx.axes_of(rules),))(rules)
    assert np.any(params[0] != params[1])


def test_replicas_under_shard_map_agree():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    rule, params = adamx.adam(1e-3), jnp.ones(32, jnp.bfloat16)
    state = rule.init(params)
    step = jax.shard_map(lambda p: rule.step(p, state, p)[0], mesh=mesh, in_specs=P(), out_specs=P())
    assert_same(np.asarray(optimized(step)(params)), np.asarray(steps(rule, params, 1)))


# The numbers


def test_bits_are_spread_evenly_over_positions_steps_leaves_and_seeds():
    position = random_bits(jnp.zeros((64, 1024)), jnp.uint32(0))
    dithers = [adamx.Stochastic(seed).dithers(jnp.int32(step), 64) for seed in range(8) for step in range(128)]
    rounding = [Dither(d.key[0], d.shift[0]).bits(jnp.zeros(64)) + d.key for d in dithers]
    for bits in (position, jnp.stack(rounding)):
        bits = np.asarray(bits).ravel()
        assert len(np.unique(bits)) > 0.999 * bits.size
        shares = ((bits[:, None] >> np.arange(32, dtype=np.uint32)) & 1).mean(axis=0)
        assert np.all(np.abs(shares - 0.5) < 5 * 0.5 / np.sqrt(bits.size))
        counts = np.bincount(bits >> 24, minlength=256)
        assert np.sum((counts - bits.size / 256) ** 2) / (bits.size / 256) < 255 + 5 * np.sqrt(2 * 255)


def test_each_input_bit_changes_half_of_the_output_bits():
    x = np.random.default_rng(0).integers(0, 2**32, 4096, dtype=np.uint32)
    for bit in range(32):
        changed = np.asarray(mixed(x) ^ mixed(x ^ np.uint32(1 << bit)))
        assert abs(np.unpackbits(changed.view(np.uint8)).sum() / x.size - 16) < 1


@pytest.mark.parametrize("wide", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("value", [1 + 2**-10 / 3, -3.14159, 1e-6, 3e-8])
def test_the_mean_of_a_million_draws_is_the_number(value, dtype, wide):
    with jax.enable_x64(True):
        x = jnp.full(2**20, value, wide)
        drawn = np.asarray(
            optimized(round_stochastically, static_argnums=1)(x, dtype, random_bits(x, jnp.uint32(3))).astype(
                jnp.float64
            )
        )
    assert len(np.unique(drawn)) == 2
    deviation = drawn.std() / np.sqrt(drawn.size)
    assert abs(drawn.mean() - value) < 4 * deviation + 2**-24 * abs(value)


def test_gradients_in_float64_are_rounded_stochastically_too():
    with jax.enable_x64(True):
        rule, params = adamx.sgd(1e-3), jnp.ones(4096, jnp.bfloat16)
        moved, _ = rule.step(jnp.ones(4096, jnp.float64), rule.init(params), params)
        assert moved.dtype == jnp.bfloat16 and abs(float(moved.astype(jnp.float64).mean()) - 0.999) < 1e-4


@pytest.mark.parametrize("dtype", LOW)
def test_what_is_at_the_end_of_the_range_stays_there(dtype):
    top = float(jnp.finfo(dtype).max)
    x = jnp.array([top, -top, top * (1 + 1e-3), -3.4e38, jnp.inf, -jnp.inf, 0.0], jnp.float32)
    for key in range(20):
        drawn = round_stochastically(x, dtype, random_bits(x, jnp.uint32(key)))
        np.testing.assert_array_equal(drawn, jnp.array([top, -top, top, -top, jnp.inf, -jnp.inf, 0.0], dtype))
    assert jnp.isnan(round_stochastically(jnp.array(jnp.nan), dtype, jnp.uint32(0)))


def test_a_parameter_at_the_end_of_the_range_does_not_become_infinite():
    params = jnp.full(256, jnp.finfo(jnp.bfloat16).max)
    assert jnp.all(jnp.isfinite(steps(adamx.adam(1e36), params)))


def test_seeds_steps_and_leaves_differ_and_runs_repeat():
    params = [jnp.ones(256, jnp.bfloat16)] * 2

    def moved(seed, count):
        return steps(adamx.adam(1e-3).store(params=adamx.Stochastic(seed)), params, count)

    first = moved(0, 1)
    assert_same(first, moved(0, 1))
    assert np.any(first[0] != first[1]) and np.any(first[0] != moved(1, 1)[0])
    further = moved(0, 2)[0] - first[0]
    assert np.any(further != first[0] - params[0])


def test_the_derivative_of_rounding_is_one():
    slope = jax.grad(lambda x: jnp.sum(round_stochastically(x, jnp.bfloat16, jnp.uint32(0)).astype(jnp.float32)))
    assert_same(slope(jnp.array([1.001, 2.0])), jnp.ones(2))
