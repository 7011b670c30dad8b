"""Optuna's sampler proposes, one compiled program answers: Bayesian optimisation of AdamW, sixteen points at a time.

    python examples/sweep_with_optuna.py

The network is Flax's, 64-64-10 with batch normalisation, on scikit-learn's handwritten digits; its running statistics are the task's
auxiliary state. `sweep.evaluate` trains each batch of points that the sampler asks for, all at once. At the end, as many points of a Sobol
sequence for comparison. (Needs flax; optuna comes with the `lab` extra.)
"""

import experiment
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import optuna
from sklearn.datasets import load_digits

import adamx
from adamx import sweep

SPACE = sweep.space(
    adamx.adamw,
    learning_rate=sweep.log(1e-5, 1),
    b1=sweep.linear(0, 0.99),
    b2=sweep.log_complement(0.9, 0.9999),
    weight_decay=sweep.log(1e-5, 1),
)


class Network(nn.Module):
    """64-64-10, batch-normalised."""

    @nn.compact
    def __call__(self, x, train):
        """Logits (n, 10) of images x (n, 64)."""
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(64)(x))
        return nn.Dense(10)(nn.relu(x))


def task():
    """Cross-entropy on 1400 digits in batches of 64; evaluated on the other 397."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = jnp.float32(images[order] / 16), jnp.int32(labels[order])
    network = Network()

    def init(key):
        variables = network.init(key, x[:1], train=False)
        return variables["params"], variables["batch_stats"]

    def loss(params, stats, batch):
        variables = {"params": params, "batch_stats": stats}
        logits, new = network.apply(variables, batch[0], train=True, mutable="batch_stats")
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean(), new["batch_stats"]

    def evaluate(params, stats):
        logits = network.apply({"params": params, "batch_stats": stats}, x[1400:], train=False)
        wrong = optax.softmax_cross_entropy_with_integer_labels(logits, y[1400:]).mean()
        return {"validation": wrong, "accuracy": jnp.mean(logits.argmax(-1) == y[1400:])}

    return sweep.arrays(init, loss, (x[:1400], y[:1400]), 64, evaluate, has_aux=True, maximise=("accuracy",))


def suggest(trial):
    """The point that a trial proposes; log_complement's scale is the logarithm of 1 - b2."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 1, log=True),
        "b1": trial.suggest_float("b1", 0, 0.99),
        "b2": 1 - trial.suggest_float("1 - b2", 1e-4, 0.1, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1, log=True),
    }


def optimise(problem, batches, size, **options):
    """Asks for `batches` times `size` points and tells what became of them: the study, each trial's point in its user attributes."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, constant_liar=True))
    for number in range(batches):
        trials = [study.ask() for _ in range(size)]
        rows = [suggest(trial) for trial in trials]
        for trial, row, score in zip(trials, rows, sweep.evaluate(problem, adamx.adamw, rows, **options), strict=True):
            trial.set_user_attr("row", row)
            study.tell(trial, float(score))
        print(f"batch {number + 1}: best validation loss so far {study.best_value:.4f}")
    return study


def main(arguments=None):
    """The command."""
    parser = experiment.Parser(__doc__)
    parser.add_argument("--batches", type=experiment.number(), default=6)
    parser.add_argument("--size", type=experiment.number(), default=16)
    parser.add_argument("--steps", type=experiment.number(), default=200)
    args = parser.parse_args(arguments)
    problem, options = task(), {"steps": args.steps, "seeds": 2, "metric": "validation"}
    study = optimise(problem, args.batches, args.size, **options)
    hyperparameters = ", ".join(f"{name}={value:.4g}" for name, value in study.best_trial.user_attrs["row"].items())
    print(f"TPE's best: adamx.adamw({hyperparameters}), {study.best_value:.4f}")
    others = SPACE.sobol(args.batches * args.size, seed=0)
    result = sweep.run(problem, others, steps=args.steps, seeds=2, progress=False)
    print(f"best of a Sobol sequence of {len(others)}: {result.best(metric='validation').mean:.4f}")


if __name__ == "__main__":
    main()
