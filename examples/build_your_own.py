"""A new stage, a new rule, and an ablation that exchanges one stage of a rule for others.

    python examples/build_your_own.py

The new stage is diffGrad's friction, and with it diffGrad is a line: Adam's stages, `Friction()`, the learning rate. The ablation puts
other second moments into NAdam. Every rule trains a small network on scikit-learn's handwritten digits at five learning rates, all in one
program; the table gives the training loss at the best of them. A few seconds. Writes losses.csv into results/build_your_own.
"""

import experiment
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from sklearn.datasets import load_digits

import adamx
from adamx import Belief, LearningRate, RunningMax, SecondMoment, SumOfSquares, Yogi

RATES = np.geomspace(1e-3, 1e-1, 5)
STEPS, BATCH = 100, 64


# A stage is written for one array: x is the signal that the stages share, s what this stage remembers.


@adamx.stage
class Friction(adamx.Stage):
    """diffGrad's friction, small steps where the gradient hardly changes: u <- u sigmoid(|g_{t-1} - g_t|), with g_0 = 0."""

    slots = (adamx.Slot("g_last"),)
    reads, writes = {"g", "u"}, {"u"}

    def __call__(self, x, s, k):
        """The update of one leaf."""
        return x.write(u=x.u * jax.nn.sigmoid(jnp.abs(s["g_last"] - x.g))), {"g_last": x.g}


# A rule is a line of stages.


def diffgrad(learning_rate, b1=0.9, b2=0.999, eps=1e-8):
    """diffGrad (Dubey et al., arXiv:1909.11015), as in the authors' second version: Adam with `Friction`."""
    return adamx.scale_by_adam(b1, b2, eps).then(Friction(), LearningRate(learning_rate))


# The ablation


def variants(learning_rate):
    """NAdam, NAdam with other second moments, Adam, and diffGrad: name -> rule."""
    nadam = adamx.nadam(learning_rate)
    return {
        "nadam": nadam,
        "nadam, largest second moment": nadam.replace(SecondMoment, RunningMax(SecondMoment(0.999))),
        "nadam, belief": nadam.replace(SecondMoment, Belief(0.999)),
        "nadam, yogi": nadam.replace(SecondMoment, Yogi(0.999)),
        "nadam, largest yogi": nadam.replace(SecondMoment, RunningMax(Yogi(0.999))),
        "nadam, sum of squares": nadam.replace(SecondMoment, SumOfSquares(0.0)),
        "adam": adamx.adam(learning_rate),
        "diffgrad": diffgrad(learning_rate),
    }


def problem(steps=STEPS):
    """Parameters of a network 64-32-10, rows of `steps` random batches, images (1797, 64) in [0, 1], labels (1797,)."""
    x, y = load_digits(return_X_y=True)
    first, second, third = jax.random.split(jax.random.key(0), 3)
    params = {"w1": jax.random.normal(first, (64, 32)) / 8, "w2": jax.random.normal(second, (32, 10)) / 8}
    return params, jax.random.randint(third, (steps, BATCH), 0, len(x)), jnp.float32(x / 16), jnp.int32(y)


def loss_of(params, x, y):
    """Mean cross-entropy, a scalar."""
    logits = jax.nn.relu(x @ params["w1"]) @ params["w2"]
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))


def final_loss(rule, params, rows, x, y):
    """The loss on all images after training with `rule` on the batches `rows`."""

    def step(carry, rows):
        params, state = carry
        grads = jax.grad(loss_of)(params, x[rows], y[rows])
        return rule.step(grads, state, params), None

    (params, _), _ = jax.lax.scan(step, (params, rule.init(params)), rows)
    return loss_of(params, x, y)


def ablation(rates=RATES, steps=STEPS):
    """Trains every variant at all learning rates: name -> final losses, in the order of `rates`."""
    given = problem(steps)
    losses = {}
    rules_of = variants(jnp.float32(rates))
    with experiment.Bar(total=len(rules_of), unit="rule") as bar:
        for name, rules in rules_of.items():
            grid = jax.vmap(lambda rule: final_loss(rule, *given), in_axes=(adamx.axes_of(rules),))
            losses[name] = np.asarray(bar.done(jax.jit(grid)(rules)))
    return losses


def main(argv=None):
    """Prints the lines and the table."""
    parser = experiment.Parser(__doc__, out="build_your_own")
    parser.add_argument("--steps", type=experiment.number(most=10**6), default=STEPS)
    options = parser.parse_args(argv)
    losses, results = ablation(steps=options.steps), experiment.Results(options.out)
    results.table("losses", pd.DataFrame(losses, pd.Index(RATES, name="learning_rate")))
    print(f"{'':<30}{'loss':>8}{'learning rate':>15}")
    for name, values in sorted(losses.items(), key=lambda item: np.nanmin(item[1])):
        best = np.nanargmin(values)
        print(f"{name:<30}{values[best]:>8.4f}{RATES[best]:>15.2g}")
    print("\nThe lines of stages:")
    for name, rule in variants(1e-2).items():
        print(f"  {name}:\n    {rule}")
    print(f"\n{results}")


if __name__ == "__main__":
    main()
