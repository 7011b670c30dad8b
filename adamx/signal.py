"""The record that the stages of a rule share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from adamx.annotations import Tree
from adamx.numerics import real_dtype


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signal:
    """What one step knows of one leaf, in compute precision. A field is None until a stage writes it.

    `UpdateRule.trace` returns one of the whole tree: its fields are trees like the parameters, None where there was no gradient; those of
    the step (`t`, `lr`, `m_debias`, `v_debias`) stay scalars.

    Attributes:
      t: Step number, a real scalar: 1 in the first update.
      p: Parameter.
      g: Gradient, possibly rewritten by earlier stages.
      raw: Gradient as given.
      mu: First moment as stored: the raw average, before bias correction.
      m: Momentum as read out: debiased, with Nesterov's look-ahead, mixed.
      m_debias: Factor that corrects the bias of mu, 1 / (1 - b1^t), a real scalar.
      v: Second moment as read out, real.
      v_debias: Factor by which v was corrected, 1 / (1 - b2^t), a real scalar.
      d: Denominator, real: what the momentum, or the gradient before it, is divided by.
      u: Update. Before `LearningRate` it points up the slope; after it, it is what is added to the parameter.
      lr: Learning rate of this step, a real scalar, written by `LearningRate`.
      own: Fields of other names, by name: what stages hand to stages of their own kind, and the `extras` of a step. `x.NAME` reads one.
    """

    t: jax.Array
    g: Tree
    raw: Tree
    p: Tree = None
    mu: Tree = None
    m: Tree = None
    m_debias: Any = None
    v: Tree = None
    v_debias: Any = None
    d: Tree = None
    u: Tree = None
    lr: Any = None
    own: dict[str, Tree] = dataclasses.field(default_factory=dict)

    def write(self, **fields: Any) -> "Signal":
        """The same record with some fields set; a name that is no field above becomes one of `own`."""
        known = {name: fields.pop(name) for name in FIELDS if name in fields}
        if fields:
            known["own"] = self.own | fields
        return dataclasses.replace(self, **known)

    def __getattr__(self, name: str) -> Any:
        # Only for what is no attribute: the fields of `own`. JAX's and copy's own questions are not answered from there.
        own = {} if name.startswith("__") else self.__dict__.get("own", {})
        if name in own:
            return own[name]
        raise AttributeError(
            f"no stage wrote a field {name!r} into the signal; its own fields are {', '.join(own) or 'none'}."
        )


FIELDS = tuple(field.name for field in dataclasses.fields(Signal) if field.name != "own")
OF_STEP = ("t", "lr", "m_debias", "v_debias")
"""Fields that are the same for all leaves."""


def gathered(structure, signals, t):
    """The signals of all leaves (None where there was no gradient) as one whose fields are trees; None for fields that no stage wrote."""
    present = [x for x in signals if x is not None]
    # Scalars are as precise as their leaf.
    widest = max(present, key=lambda x: jnp.finfo(x.t.dtype).bits, default=None)

    def tree(name):
        values = [None if x is None else _field(x, name) for x in signals]
        if all(value is None for value in values):
            return None if present else jax.tree.unflatten(structure, values)
        return getattr(widest, name) if name in OF_STEP else jax.tree.unflatten(structure, values)

    # What is no array is between stages: a tree like the parameters has no place for it.
    arrays = [{name for name, value in x.own.items() if value is None or isinstance(value, jax.Array)} for x in present]
    own = [name for name in dict.fromkeys(name for x in present for name in x.own) if all(name in a for a in arrays)]
    fields = {name: tree(name) for name in FIELDS if name != "t"} | {"own": {name: tree(name) for name in own}}
    return Signal(t=t if widest is None else widest.t, **fields)


def _field(x, name):
    return x.own.get(name) if name not in FIELDS else getattr(x, name)


def separated(signals):
    """The `Signal` of each leaf that had a gradient, from that of the tree."""
    structure = jax.tree.structure(signals.raw, is_leaf=lambda leaf: leaf is None)
    here = [i for i, g in enumerate(structure.flatten_up_to(signals.raw)) if g is not None]
    of_step = {name: getattr(signals, name) for name in OF_STEP if getattr(signals, name) is not None}
    trees = {name: getattr(signals, name) for name in FIELDS if name not in OF_STEP} | signals.own
    columns = {name: structure.flatten_up_to(tree) for name, tree in trees.items() if tree is not None}

    def of_leaf(i):
        fields = {name: column[i] for name, column in columns.items()}
        own = {name: fields.pop(name, None) for name in signals.own}
        real = real_dtype(fields["raw"].dtype)
        return Signal(**fields, **{name: x.astype(real) for name, x in of_step.items()}, own=own)

    return [of_leaf(i) for i in here]
