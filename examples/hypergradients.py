"""The derivative of a validation loss with respect to the rule that trained the network: a rule of hypergradients.

    python examples/hypergradients.py

A rule is a pytree of its hyperparameters, so `jax.grad` of a whole training run with respect to the rule is a rule again, each leaf the
derivative with respect to that hyperparameter. (The leaf of a decay rate beta is 1 - beta.) The script prints it beside a finite
difference, then descends along it: from a learning rate far too small, gradient descent on its logarithm finds a good one, and the same
descent on every hyperparameter goes further. The network 10-16-1 learns scikit-learn's diabetes data. A few seconds. Writes descent.csv,
the descent on the learning rate, into results/hypergradients.
"""

import experiment
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

import adamx

STEPS, TRAIN = 60, 300


def problem():
    """(x, y) for training, (x, y) for validation: 300 and 142 patients, x the 10 measurements, y the progression, standardised."""
    x, y = (scale(part) for part in load_diabetes(return_X_y=True))
    order = np.random.default_rng(0).permutation(len(y))
    return [(jnp.asarray(x[rows]), jnp.asarray(y[rows])) for rows in (order[:TRAIN], order[TRAIN:])]


def network():
    """Parameters of a network 10-16-1."""
    rng = np.random.default_rng(0)
    return {"w1": jnp.asarray(rng.normal(size=(10, 16)) / np.sqrt(10)), "w2": jnp.asarray(rng.normal(size=16) / 4)}


def loss_of(params, x, y):
    """Mean squared error, a scalar."""
    return jnp.mean((jnp.tanh(x @ params["w1"]) @ params["w2"] - y) ** 2)


def validation_loss(rule, train, validation, steps=STEPS):
    """The loss on `validation` after `steps` steps of `rule` on `train`: a differentiable function of the rule."""
    params = network()

    def step(carry, _):
        params, state = carry
        return rule.step(jax.grad(loss_of)(params, *train), state, params), None

    (params, _), _ = jax.lax.scan(step, (params, rule.init(params)), length=steps)
    return loss_of(params, *validation)


def finite_differences(f, rule, relative=1e-5):
    """Central differences of f(rule) in each hyperparameter, as a rule; in float64 they hold about six digits."""
    leaves, structure = jax.tree.flatten(rule)

    def difference(i):
        width = relative * max(abs(leaves[i]), 1e-7)  # some hyperparameters are 0
        up, down = (
            jax.tree.unflatten(structure, [*leaves[:i], leaves[i] + h, *leaves[i + 1 :]]) for h in (width, -width)
        )
        return (f(up) - f(down)) / (2 * width)

    return jax.tree.unflatten(structure, [difference(i) for i in range(len(leaves))])


def descend_learning_rate(f, learning_rate, steps=10, size=3.0):
    """Gradient descent on the logarithm of Adam's learning rate: [(learning rate, f(rule))], one more than `steps`."""
    slope = jax.jit(jax.value_and_grad(lambda log: f(adamx.adam(jnp.exp(log)))))
    log, visited = jnp.log(learning_rate), []
    for _ in range(steps + 1):
        value, gradient = slope(log)
        visited.append((float(jnp.exp(log)), float(value)))
        log -= size * gradient
    return visited


def descend_rule(f, rule, steps=10, size=3.0):
    """Gradient descent on the logarithms of all hyperparameters of a rule at once (one that is 0 stays 0): [(rule, f(rule))]."""
    slope = jax.jit(jax.value_and_grad(f))
    visited = []
    for _ in range(steps + 1):
        value, hypergradient = slope(rule)
        visited.append((rule, float(value)))
        rule = jax.tree.map(lambda h, g: h * jnp.exp(-size * h * g), rule, hypergradient)
    return visited


def show(*rules):
    """Rules of one line side by side, a hyperparameter a line."""
    columns = [jax.tree_util.tree_leaves_with_path(rule) for rule in rules]
    lines = []
    for leaves in zip(*columns, strict=True):
        name = jax.tree_util.keystr(leaves[0][0])
        lines.append(f"  {name:<32}" + "".join(f"{float(leaf):>16.8g}" for _, leaf in leaves))
    return "\n".join(lines)


def main(argv=None):
    """Prints the hypergradients with their check, and both descents."""
    parser = experiment.Parser(__doc__, out="hypergradients")
    parser.add_argument("--steps", type=experiment.number(most=10**5), default=STEPS, help="of the training run")
    options = parser.parse_args(argv)
    results = experiment.Results(options.out)
    with jax.enable_x64(True):
        train, validation = problem()
        f = jax.jit(lambda rule: validation_loss(rule, train, validation, options.steps))

        rule = adamx.adam(1e-3)
        print(f"{rule}\n{options.steps} steps, then the validation loss: {f(rule):.4f}\n")
        print(f"  {'its derivative with respect to':<32}{'at':>16}{'jax.grad':>16}{'difference':>16}")
        print(show(rule, jax.grad(f)(rule), finite_differences(f, rule)))

        print("\nDescent on the logarithm of the learning rate:")
        visited = descend_learning_rate(f, 1e-4)
        for rate, loss in visited:
            print(f"  learning rate {rate:.6f}   validation loss {loss:.6f}")
        table = pd.DataFrame(visited, columns=["learning_rate", "validation_loss"])
        results.table("descent", table.rename_axis("step"))

        print("\nDescent on the logarithms of all hyperparameters, from there:")
        visited = descend_rule(f, adamx.adam(visited[-1][0]), steps=50)
        (first, before), (last, after) = visited[0], visited[-1]
        print(f"  {'':<32}{'from':>16}{'to':>16}\n{show(first, last)}")
        print(f"  {'validation loss':<32}{before:>16.6f}{after:>16.6f}\n\n{results}")


if __name__ == "__main__":
    main()
