"""The record that the stages of a rule share."""

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signal:
    """What one step knows of one leaf, in compute precision. A field is None until a stage writes it.

    Attributes:
      t: Step number, a real scalar: 1 in the first update.
      p: Parameter.
      g: Gradient, possibly rewritten by earlier stages.
      raw: Gradient as given.
      mu: First moment as stored: the raw average, before bias correction.
      m: Momentum as read out: debiased, with Nesterov's look-ahead, mixed.
      v: Second moment as read out, real.
      d: Denominator, real: what the momentum, or the gradient before it, is divided by.
      u: Update. Before `LearningRate` it points up the slope; after it, it is what is added to the parameter.
      lr: Learning rate of this step, a real scalar, written by `LearningRate`.
    """

    t: jax.Array
    g: jax.Array
    raw: jax.Array
    p: jax.Array | None = None
    mu: jax.Array | None = None
    m: jax.Array | None = None
    v: jax.Array | None = None
    d: jax.Array | None = None
    u: jax.Array | None = None
    lr: jax.Array | None = None

    def write(self, **fields):
        """The same record with some fields set."""
        return dataclasses.replace(self, **fields)
