"""What the rules' functions share: the tail of decay and learning rate, and Optax's `mu_dtype`."""

from adamx.stages import DecoupledDecay, LearningRate, MaskOfTree, NesterovMomentum, masked
from adamx.stages.first_moment import Momentum
from adamx.storage import storage_in


def momentum_of(b1, nesterov):
    """Adam's first moment, with Nesterov's look-ahead if asked for."""
    return NesterovMomentum(b1) if nesterov else Momentum(b1)


def with_mu_dtype(rule, mu_dtype, *, slots=("mu",)):
    """`rule` with its momenta kept in `mu_dtype`, if that is given."""
    return rule if mu_dtype is None else rule.store(**dict.fromkeys(slots, storage_in(mu_dtype)))


def where(decay, mask):
    """A decay stage restricted by `mask` in Optax's form: None, a tree of booleans, or a function from the parameters to one."""
    if mask is None:
        return decay
    return masked(decay, MaskOfTree(mask) if callable(mask) else mask)


def rated(rule, learning_rate):
    """`rule` followed by the learning rate."""
    return rule.then(LearningRate(learning_rate))


def decayed(rule, learning_rate, weight_decay, mask):
    """`rule` followed by decoupled weight decay and the learning rate."""
    return rule.then(where(DecoupledDecay(weight_decay), mask), LearningRate(learning_rate))


def choose(name, value, choices):
    """The entry of `choices` for a string option.

    Raises:
      ValueError: unknown; names the option and its choices.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
    return choices[value]
