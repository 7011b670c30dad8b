"""A user's program, to be checked by mypy --strict (as `test_typing` does) and pyright: nothing in it is refused. It runs."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

import adamx
from adamx import modifiers, plot, probes, problems, sweep
from adamx.stages import Decay, NonNegative, average, average_scalars, norm, one_per_leaf, ratio, static

params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
Params = dict[str, jax.Array]


def loss(params: Params, data: Any = 1.0) -> jax.Array:
    return jnp.mean((params["w"] ** 2).sum() + (params["b"] - data) ** 2)


# A rule of numbers, arrays, and schedules of all kinds


def halved(count: jax.Array) -> jax.Array:
    return 0.1 / (1 + count)


rules = [
    adamx.adamw(1e-3),
    adamx.adamw(1, b1=np.float32(0.9), weight_decay=np.asarray(0.1), mask={"w": True, "b": False}),
    adamx.adamw(jnp.array(1e-3), mu_dtype=jnp.bfloat16, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
    adamx.adamw(optax.cosine_decay_schedule(1e-3, 100), mu_dtype="bfloat16"),
    adamx.adamw(halved),
    adamx.adamw(sweep.warmup_cosine(1e-3, 100)),
    adamx.create("lion", 1e-3, b1=0.95),
]
rule: adamx.UpdateRule = adamx.adamw(3e-4, weight_decay=0.1)
state: adamx.RuleState = rule.init(params)
count: jax.Array = rule.update(params, state, params)[1].count


def step(rule: adamx.UpdateRule, params: Params, state: adamx.RuleState) -> tuple[Params, adamx.RuleState]:
    return rule.step(jax.grad(loss)(params), state, params)


# A grid


def train(rule: adamx.UpdateRule) -> jax.Array:
    last, _ = jax.lax.fori_loop(0, 3, lambda _, carry: step(rule, *carry), (params, rule.init(params)))
    return loss(last)


grid = adamx.adam(jnp.geomspace(1e-4, 1e-1, 4))
losses = jax.vmap(train, in_axes=(adamx.axes_of(grid),))(grid)
stacked: adamx.UpdateRule = adamx.stack([adamx.adam(rate) for rate in (0.1, 0.2)])
hypergradients: adamx.UpdateRule = jax.grad(train)(adamx.adam(1e-3))
rate: jax.Array = hypergradients.get(adamx.LearningRate).learning_rate


# Stages


@adamx.stage
class ByAverageNorm(adamx.Stage):
    """Divides the gradient of each leaf by the average size that it had so far."""

    decay: Decay = 0.9
    eps: NonNegative = 1e-8
    power: int = static(default=1)

    slots = (adamx.Slot("norm", signed=False, shape=one_per_leaf),)
    scalar_slots = ("norm_log_decay",)
    reads, writes = {"g"}, {"g"}
    elementwise = False

    def scalars(self, t: jax.Array, last: dict[str, jax.Array]) -> dict[str, Any]:
        return average_scalars(self.decay, t, last, "norm_log_decay")

    def __call__(
        self, x: adamx.Signal, s: dict[str, jax.Array], k: dict[str, Any]
    ) -> tuple[adamx.Signal, dict[str, jax.Array]]:
        size = average(s["norm"], norm(x.g), k["rate"])
        largest = jnp.maximum(size, self.eps)
        return x.write(g=ratio(x.g, (largest * k["debias"] + self.eps) ** self.power)), {"norm": size}


@adamx.stage
class Half(adamx.Wrapper):
    """Half of what the stage within would write."""

    inner: adamx.Stage

    def on_leaves(self, structure: Any, leaves: Sequence[Any]) -> Sequence[Any] | None:
        return [True] * len(leaves)

    def __call__(
        self, x: adamx.Signal, s: dict[str, jax.Array], k: dict[str, Any]
    ) -> tuple[adamx.Signal, dict[str, jax.Array]]:
        y, s = self.inner(x, s, k)
        return y.write(u=y.u / 2), s


own = adamx.update_rule(
    ByAverageNorm(0.99, eps=1e-6, power=1),
    adamx.Momentum(optax.linear_schedule(0.8, 0.9, 10)),
    Half(adamx.TakeMomentum()),
    adamx.masked(adamx.DecoupledDecay(0.1), lambda path, leaf: leaf.ndim > 1),
    adamx.LearningRate(jnp.array(0.1)),
)
ablation = adamx.nadam(1e-3).replace(adamx.SecondMoment, adamx.RunningMax(adamx.Yogi(0.999)))
inserted = ablation.insert(adamx.Cautious(), before=adamx.LearningRate).then(adamx.Lookahead(5))
small = inserted.store(mu=adamx.BFloat16(), params=adamx.Nearest())
new_params, small_state = small.step(params, small.init(params), params)
size: int = adamx.state_bytes(own, params)
averaged: Params = adamx.eval_params(inserted, inserted.init(params), params)
cautious = modifiers.clip_global_norm(modifiers.cautious(adamx.lion(1e-4)), 1.0)


# A trace, a chain, groups, probes

updates, state, signals = rule.trace(params, state, params)
moved = optax.apply_updates(params, updates)
root_of_v = jnp.sqrt(signals.v["w"])
learning_rate: float = float(signals.lr)

tx = adamx.chain(optax.clip_by_global_norm(1.0), rule)
updates, states, (_, seen) = tx.trace(params, tx.init(params), params)
in_optax = optax.chain(optax.clip_by_global_norm(1.0), adamx.adamw(3e-4))
groups = adamx.partition(
    {"matrix": rule, "vector": optax.sgd(0.1)},
    lambda params: jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "vector", params),
)
new_params, group_state = groups.step(params, groups.init(params), params)

probed = probes.probe(rule, probes.update_ratio, probes.alignment, per="tree")
updates, state, measured = probed.trace(params, probed.init(params), params)
alignment: float = float(measured["alignment"])
loudness = probes.Norm("loudness", {"u"}, lambda x: x.u)
further = probes.measure(signals, loudness)
diagonal = adamx.hessians.hutchinson(loss, params, jax.random.key(0))
updates, _ = adamx.sophia(1e-3).update(params, adamx.sophia(1e-3).init(params), params, hessian=diagonal)


# Problems, sweeps, pictures

run = problems.minimise(adamx.adam(0.1), problems.sparse(problems.quadratic(10.0), 0.5), 4, every=2)
path: npt.NDArray[Any] = np.asarray(run.path)


def started(key: jax.Array) -> Params:
    return {"w": jax.random.normal(key, (3, 2)), "b": jnp.zeros(2)}


task = sweep.arrays(started, loss, jnp.ones((8, 2)), batch_size=4, evaluate=lambda params: {"size": loss(params)})
space = sweep.space(adamx.adam, learning_rate=sweep.log(1e-4, 1), b2=sweep.log_complement(0.9, 0.999))
result: sweep.Result = sweep.run(task, {"adam": space.grid(learning_rate=2, b2=2)}, steps=4, seeds=[0, 1])
best: sweep.Best = result.best(metric="size")
text: str = best.code()
table, position = result.table(), best.index


def draw() -> None:
    plot.save(sweep.sensitivity(result, "size"), "sensitivity.png")
    plot.save(plot.curves([plot.Panel("loss", {"adam": (run.steps, run.losses)})]), "curves.png")
