"""A step as one kernel, run by Pallas' interpreter, against XLA's; and that it compiles for a TPU."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import assert_same, further, normal, raises, rule_of
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from adamx import grouping
from adamx.kernels import Kernel
from adamx.kernels.views import view_of
from adamx.wiring import WiringError, hindrance

EIGHT = adamx.EightBit(min_size=0)
FUSABLE = [
    name
    for name in adamx.CATALOGUE
    if isinstance(rule_of(name), adamx.UpdateRule) and not any(map(hindrance, rule_of(name).stages))
]
STORAGES = {"float32": adamx.Float32(), "bf16": adamx.BFloat16(), "8-bit": EIGHT}


def steps(rule, params, grads, method="step"):
    """Parameters and state after a step for each of the stacked gradients."""

    def step(carry, g):
        params, state = carry
        more = further(rule, g)
        if method == "step":
            return rule.step(g, state, params, **more), None
        updates, state = rule.update(g, state, params, **more)
        return (optax.apply_updates(params, updates), state), None

    start = params, rule.init(params)
    return jax.jit(lambda start, grads: jax.lax.scan(step, start, grads)[0])(start, grads)


def assert_near(actual, expected):
    """Parameters and float slots to 1e-6 of themselves; codes but for ties of rounding."""
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if a.dtype == jnp.int8:
            assert np.mean(np.asarray(a) == np.asarray(b)) > 0.995
        else:
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            close = np.isclose(a, b, rtol=1e-6, atol=1e-7 * max(1e-3, np.max(np.abs(b), initial=0)))
            # Where a code differs by a tie, so does what is made of it.
            assert np.mean(close) > 0.995


@pytest.mark.parametrize("name", FUSABLE)
def test_a_kernel_computes_what_xla_does_for_every_elementwise_rule(name):
    rule = rule_of(name).store(EIGHT)
    params, grads = normal((70, 3), 0), normal((3, 70, 3), 1)
    assert_near(steps(rule.fuse(interpret=True), params, grads), steps(rule, params, grads))


@pytest.mark.parametrize("storage", list(STORAGES))
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_a_kernel_takes_every_storage_and_precision_of_parameters(storage, dtype):
    rule = adamx.amsgradw(1e-2).store(STORAGES[storage])
    params, grads = normal((70, 3), 0, dtype), normal((3, 70, 3), 1, dtype)
    for method in ("step", "update"):
        fused = steps(rule.fuse(interpret=True), params, grads, method)
        assert_same(*(jax.tree.map(np.asarray, x) for x in (fused, steps(rule, params, grads, method))))


SHAPES = [(100, 33), (1024,), (9216,), (600, 300), (2, 130, 4), (2, 128, 3), (128, 70), (1, 64, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_leaves_of_any_shape_are_taken_where_they_lie(shape):
    rule, params, grads = adamx.adam(1e-2).store(EIGHT), normal(shape, 0), normal((2, *shape), 1)
    assert view_of(shape) is not None
    program = str(jax.make_jaxpr(rule.fuse(interpret=True).step)(grads[0], rule.init(params), params))
    assert program.count("pallas_call") == 1 and " pad[" not in program.split("pallas_call")[0]
    fused = steps(rule.fuse(interpret=True), params, grads)
    assert_same(*(jax.tree.map(np.asarray, x) for x in (fused, steps(rule, params, grads))))


def test_leaves_without_a_layout_for_kernels_and_those_without_gradients_go_their_way():
    rule = adamx.adam(1e-2).store(EIGHT).fuse(interpret=True)
    params = {
        "kernel": normal((64, 2), 0),
        "odd": normal((5,), 1),
        "none": normal((64, 2), 2),
        "half": jnp.ones(3, jnp.float16),
    }
    grads = params | {"none": None}
    after, state = rule.step(grads, rule.init(params), params)
    expected = adamx.adam(1e-2).store(EIGHT).step(grads, rule.init(params), params)
    assert_same(jax.tree.map(np.asarray, (after, state)), jax.tree.map(np.asarray, expected))


def test_what_runs_by_kernels_by_itself_is_what_can(monkeypatch):
    monkeypatch.setattr(grouping, "_on_one_tpu", lambda: True)
    monkeypatch.setattr(grouping, "Kernel", lambda: Kernel(interpret=True))
    params = {"w": normal((64, 2), 0), "b": normal((5,), 1)}
    clipped = adamx.masked(adamx.ClipGlobalNorm(0.1), lambda path, p: p.ndim == 1)
    rules = {"adam": adamx.adam(1e-2), "lamb": adamx.lamb(1e-2)}
    rules["clipped"] = rules["adam"].insert(clipped, before=adamx.Momentum)
    for name, rule in rules.items():
        for storage, kernels in ((EIGHT, name == "adam"), (adamx.Float32(), False)):
            kept = rule.store(storage)
            program = str(jax.make_jaxpr(kept.step)(params, kept.init(params), params))
            assert program.count("pallas_call") == kernels, (name, storage)


def test_a_kernel_works_on_shards():
    rule, params, grads = adamx.adamw(1e-2).store(EIGHT), normal((512, 4), 0), normal((512, 4), 1)
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    state = rule.init(params)
    specs = jax.tree.map(lambda a: P("x") if a.ndim else P(), state)
    step = jax.shard_map(
        rule.fuse(interpret=True).step,
        mesh=mesh,
        in_specs=(P("x"), specs, P("x")),
        out_specs=(P("x"), specs),
        check_vma=False,
    )
    plain = jax.shard_map(
        rule.step, mesh=mesh, in_specs=(P("x"), specs, P("x")), out_specs=(P("x"), specs), check_vma=False
    )
    put = lambda tree: jax.device_put(tree, NamedSharding(mesh, P("x")))  # noqa: E731
    actual, expected = (jax.jit(f)(put(grads), state, put(params)) for f in (step, plain))
    assert_near(actual, expected)


def test_lanes_of_a_batched_rule_run_without_it():
    rules = adamx.adam(jnp.array([1e-2, 1e-3])).store(mu=adamx.Int8(adamx.Nearest(), min_size=0))
    params, grads = normal((64, 2), 0), normal((2, 64, 2), 1)

    def run(rules):
        return jax.vmap(lambda rule: steps(rule, params, grads), in_axes=(adamx.axes_of(rules),))(rules)

    assert_near(run(rules.fuse(interpret=True)), run(rules))


def test_a_fused_rule_is_a_rule():
    rule = adamx.adamw(1e-3).fuse()
    assert rule == adamx.adamw(1e-3).fuse() != adamx.adamw(1e-3) and hash(rule) == hash(adamx.adamw(1e-3).fuse())
    assert pickle.loads(pickle.dumps(rule)) == rule and repr(rule).endswith(", fused")
    assert rule.store(EIGHT).kernel == rule.replace(adamx.Momentum, adamx.Momentum(0.5)).kernel == rule.kernel
    params = normal((64, 2), 0)
    assert_same(*(jax.tree.map(np.asarray, r.step(params, r.init(params), params)) for r in (rule, adamx.adamw(1e-3))))


def test_a_stage_that_is_not_elementwise_is_named():
    with raises(WiringError, "TrustRatio", "needs norms or other sums", "not fused"):
        adamx.lamb(1e-3).fuse()
    with raises(WiringError, "needs norms or other sums"):
        adamx.adam(1e-3).fuse().insert(adamx.TrustRatio(), before=adamx.LearningRate)


@pytest.mark.parametrize("name", ["adamw", "lion", "yogi", "sophia", "amsgrad"])
def test_the_kernel_is_lowered_for_tpus_and_nothing_else_is(name):
    rule, leaf = rule_of(name).store(adamx.EightBit()).fuse(), jax.ShapeDtypeStruct((1024, 512), jnp.float32)
    state, more = jax.eval_shape(rule.init, leaf), further(rule, leaf)
    step = jax.jit(lambda g, s, p: rule.step(g, s, p, **dict.fromkeys(more, g)))
    lowered = {platform: export.export(step, platforms=[platform])(leaf, state, leaf) for platform in ("tpu", "cpu")}
    assert lowered["tpu"].mlir_module().count("tpu_custom_call") == 1
    assert "custom_call" not in lowered["cpu"].mlir_module().replace("Sharding", "") or "tpu" not in str(lowered["cpu"])
