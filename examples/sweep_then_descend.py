"""Gradient descent on hyperparameters, from the best points of a sweep.

    python examples/sweep_then_descend.py

A sweep of 128 points finds where AdamW does well; `jax.grad` of the validation loss through the whole run then improves the best eight,
all at once, every hyperparameter on its logarithm. A rule is a pytree of its hyperparameters, so the eight are one batched rule, and its
gradient is a rule. The network 10-16-1 learns scikit-learn's diabetes data. Under a minute.
"""

import experiment
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

import adamx
from adamx import sweep

STEPS, SEEDS, BEST = 100, 2, 8
SPACE = sweep.space(
    adamx.adamw,
    learning_rate=sweep.log(1e-4, 1),
    b1=sweep.log_complement(0.5, 0.99),
    b2=sweep.log_complement(0.9, 0.9999),
    weight_decay=sweep.log(1e-4, 1),
)


def problem():
    """The task, and the validation loss as a function of the parameters."""
    x, y = (jnp.float32(scale(part)) for part in load_diabetes(return_X_y=True))
    order = np.random.default_rng(0).permutation(len(y))
    train, held_out = ((x[rows], y[rows]) for rows in (order[:300], order[300:]))

    def init(key):
        first, second = jax.random.split(key)
        return {"w1": jax.random.normal(first, (10, 16)) / 3, "w2": jax.random.normal(second, (16,)) / 4}

    def loss(params, batch):
        return jnp.mean((jnp.tanh(batch[0] @ params["w1"]) @ params["w2"] - batch[1]) ** 2)

    def validation(params):
        return loss(params, held_out)

    return sweep.arrays(init, loss, train, 50, lambda params: {"validation": validation(params)}), validation


def descend(task, validation, rule, descents, size=0.3, steps=STEPS):
    """Gradient descent on the logarithms of a rule's numbers: the best rule visited, and the validation loss at each, (descents + 1,)."""

    def value(rule):
        ends = [sweep.train(task, rule, steps=steps, seed=seed)[0] for seed in range(SEEDS)]
        return sum(validation(params) for params in ends) / SEEDS

    def step(carry, _):
        rule, best, least = carry
        loss, slope = jax.value_and_grad(value)(rule)
        better = loss < least
        best = jax.tree.map(lambda now, before: jnp.where(better, now, before), rule, best)
        # Bounded steps: a run's derivative can be huge where it is chaotic.
        moved = jax.tree.map(lambda h, g: h * jnp.exp(-size * jnp.tanh(h * jnp.nan_to_num(g))), rule, slope)
        return (moved, best, jnp.minimum(loss, least)), loss

    (_, best, _), losses = jax.lax.scan(step, (rule, rule, jnp.inf), length=descents + 1)
    return best, losses


def main(arguments=None):
    """The command."""
    parser = experiment.Parser(__doc__)
    parser.add_argument("--points", type=experiment.number(), default=128)
    parser.add_argument("--descents", type=experiment.number(), default=15)
    parser.add_argument("--steps", type=experiment.number(), default=STEPS)
    args = parser.parse_args(arguments)
    task, validation = problem()
    result = sweep.run(task, SPACE.sobol(args.points, seed=0), steps=args.steps, seeds=SEEDS)
    best = result.top(BEST, metric="validation")
    rules = jax.tree.map(jnp.float32, adamx.stack([one.rule for one in best]))
    batched = jax.vmap(lambda rule: descend(task, validation, rule, args.descents, steps=args.steps))
    improved, losses = jax.jit(batched)(rules)
    print(f"{'validation loss of':<20}{'the sweep':>12}{'at the start':>14}{'after descent':>15}")
    for one, own in zip(best, np.asarray(losses), strict=True):
        print(f"{f'point {one.index}':<20}{one.mean:>12.5f}{own[0]:>14.5f}{own.min():>15.5f}")
    winner = int(np.argmin(np.asarray(losses).min(axis=1)))
    print(f"best: {jax.tree.map(lambda leaf: float(leaf[winner]), improved)}")


if __name__ == "__main__":
    main()
