"""The record that the stages of a rule share."""

import dataclasses

import jax
import jax.numpy as jnp

from adamx.numerics import real_dtype


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signal:
    """What one step knows of one leaf, in compute precision. A field is None until a stage writes it.

    `UpdateRule.trace` returns one of the whole tree: its fields are trees like the parameters, None where there was no gradient; `t` and
    `lr` stay scalars.

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


def gathered(structure, signals, t):
    """The signals of all leaves (None where there was no gradient) as one whose fields are trees; None for fields that no stage wrote."""
    present = [x for x in signals if x is not None]
    # Scalars are as precise as their leaf.
    widest = max(present, key=lambda x: jnp.finfo(x.t.dtype).bits, default=None)

    def tree(name):
        if widest is not None and (name in OF_STEP or getattr(widest, name) is None):
            return getattr(widest, name)
        return jax.tree.unflatten(structure, [None if x is None else getattr(x, name) for x in signals])

    return Signal(**{"t": t} | {name: tree(name) for name in FIELDS if name != "t"})


def separated(signals):
    """The `Signal` of each leaf that had a gradient, from that of the tree."""
    trees = {name: getattr(signals, name) for name in FIELDS if getattr(signals, name) is not None}
    same = {name: trees.pop(name) for name in OF_STEP if name in trees}
    columns = [jax.tree.leaves(tree) for tree in trees.values()]
    leaves = [dict(zip(trees, row, strict=True)) for row in zip(*columns, strict=True)]
    return [
        Signal(**leaf, **{name: x.astype(real_dtype(leaf["raw"].dtype)) for name, x in same.items()}) for leaf in leaves
    ]


FIELDS = tuple(field.name for field in dataclasses.fields(Signal))
OF_STEP = ("t", "lr")
"""Fields that are the same for all leaves."""
