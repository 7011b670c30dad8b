"""Torch's optimizers in adamx: the rule that each is, and what of its state is which slot."""

from typing import NamedTuple

import jax
import numpy as np

from adamx import stages as s
from adamx.hyperparameters import Scheduled
from adamx.rule import update_rule
from adamx.state import storage_of
from adamx.storage import Cast, Float32
from adamx.variants import adam, baselines, denominator, first_moment, second_moment
from adamx.warmups import inverse_time_decay
from adamx.wiring import line, nested, slots_of


def rule_of(name, group):
    """The rule that torch's optimizer of that name is for one of its parameter groups.

    Args:
      name: Of the class: "AdamW".
      group: An entry of `optimizer.state_dict()["param_groups"]`.

    Raises:
      ValueError: another optimizer, or an option that adamx does not have.

    >>> rule_of("AdamW", {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.01, "decoupled_weight_decay": True})
    Momentum(b1=0.9) | SecondMoment(b2=0.99) | DivideByRoot(eps=1e-08) | DecoupledDecay(weight_decay=0.01)
      | LearningRate(learning_rate=0.1)
    """
    if name not in _DIRECTIONS:
        raise ValueError(f"unknown optimizer {name!r} of torch; known are {', '.join(_DIRECTIONS)}.")
    if group.get("maximize"):
        raise ValueError("maximize=True has no counterpart: give the rule the negative gradients.")
    direction = _DIRECTIONS[name](group).stages
    decay, rate = float(group.get("weight_decay", 0)), float(group["lr"])
    if group.get("lr_decay"):
        rate = jax.tree_util.Partial(inverse_time_decay, rate, float(group["lr_decay"]))
    coupled, decoupled = (s.CoupledDecay(decay),), (s.DecoupledDecay(decay),)
    if name == "AdamW" or group.get("decoupled_weight_decay"):
        return update_rule(*direction, *decoupled, s.LearningRate(rate))
    return update_rule(*(coupled if decay else ()), *direction, s.LearningRate(rate))


def _betas(group):
    return {name: float(beta) for name, beta in zip(("b1", "b2"), group["betas"], strict=True)} | {"eps": group["eps"]}


def _sgd(group):
    if group["momentum"] and group["dampening"]:
        raise ValueError(f"dampening={group['dampening']} has no counterpart in adamx.sgd.")
    return baselines.scale_by_sgd(group["momentum"] or None, group["nesterov"])


def _adam(group):
    return (second_moment.scale_by_amsgrad if group.get("amsgrad") else adam.scale_by_adam)(**_betas(group))


_DIRECTIONS = {
    "Adam": _adam,
    "AdamW": _adam,
    "NAdam": lambda g: first_moment.scale_by_nadam(**_betas(g), momentum_decay=g["momentum_decay"]),
    "RAdam": lambda g: denominator.scale_by_radam(**_betas(g)),
    "Adamax": lambda g: adam.scale_by_adamax(**_betas(g)),
    "Adagrad": lambda g: baselines.scale_by_adagrad(g["initial_accumulator_value"], g["eps"], eps_in_sqrt=False),
    "Adadelta": lambda g: baselines.scale_by_adadelta(g["rho"], g["eps"]),
    "RMSprop": lambda g: baselines.scale_by_rmsprop(
        g["alpha"], g["eps"], eps_in_sqrt=False, centered=g["centered"], momentum=g["momentum"] or None
    ),
    "SGD": _sgd,
}


# Which keys of torch's state are which slots


class Keys(NamedTuple):
    """What torch keeps for a line.

    Attributes:
      slots: Slot -> key.
      steps: Whether torch counts the steps.
    """

    slots: dict
    steps: bool = True

    def read(self, entry, factor):
        """Slots from torch's arrays by key; `factor` is `of_steps`."""
        slots = {
            name: entry[key] * factor if key == "momentum_buffer" else entry[key] for name, key in self.slots.items()
        }
        if "g_mean" in slots:
            slots["nu"] = np.maximum(slots["nu"] - np.abs(slots["g_mean"]) ** 2, 0)
        return slots

    def write(self, slots, factor):
        """Torch's arrays by key from slots."""
        if "g_mean" in slots:
            slots = slots | {"nu": slots["nu"] + np.abs(slots["g_mean"]) ** 2}
        return {
            key: slots[name] / factor if key == "momentum_buffer" else slots[name] for name, key in self.slots.items()
        }


_MOMENTS = {"mu": "exp_avg", "nu": "exp_avg_sq"}
_TRACE = ((s.OnUpdate, s.HeavyBall),)
_KEYS = {
    (): Keys({}, steps=False),
    ((s.HeavyBall,),): Keys({"mu": "momentum_buffer"}, steps=False),
    ((s.Nesterov,),): Keys({"mu": "momentum_buffer"}, steps=False),
    ((s.Momentum,), (s.SecondMoment,)): Keys(_MOMENTS),
    ((s.Momentum,), (s.RunningMax, s.SecondMoment)): Keys(_MOMENTS | {"nu_max": "max_exp_avg_sq"}),
    ((s.DozatMomentum,), (s.SecondMoment,)): Keys(_MOMENTS),
    ((s.Momentum,), (s.InfinityMoment,)): Keys({"mu": "exp_avg", "nu": "exp_inf"}),
    ((s.SumOfSquares,),): Keys({"nu": "sum"}),
    ((s.RawSecondMoment,), (s.MatchUpdateSize,)): Keys({"nu": "square_avg", "e_x": "acc_delta"}),
    ((s.RawSecondMoment,),): Keys({"nu": "square_avg"}),
    ((s.RawSecondMoment,), *_TRACE): Keys({"nu": "square_avg", "mu": "momentum_buffer"}),
    ((s.CentredSecondMoment,),): Keys({"nu": "square_avg", "g_mean": "grad_avg"}),
    ((s.CentredSecondMoment,), *_TRACE): Keys({"nu": "square_avg", "g_mean": "grad_avg", "mu": "momentum_buffer"}),
}
"""Types of the stages with slots -> what torch keeps."""


def keys_of(rule):
    """The `Keys` of a rule. Raises ValueError if torch has none for it."""
    kinds = tuple(tuple(type(inner) for inner in nested(stage)) for stage in rule.stages if stage.slots)
    if kinds not in _KEYS:
        raise ValueError(
            f"torch has no optimizer with the state of {line(rule.stages)}. Those of torch are, in adamx, adam, adamw, amsgrad, amsgradw, "
            "nadam(momentum_decay=0.004), radam, adamax, adagrad, adadelta, rmsprop and sgd."
        )
    for slot in slots_of(rule.stages):
        storage = storage_of(rule.storages, slot)
        if type(storage) not in (Float32, Cast):
            raise ValueError(f"{slot.name} is kept as {storage!r}, which torch does not have.")
    return _KEYS[kinds]


def of_steps(rule):
    """By what the momentum of updates is more than torch's, which is of updates without the learning rate.

    Raises:
      ValueError: by another learning rate in each step.
    """
    types = [type(stage) for stage in rule.stages]
    if s.OnUpdate not in types or types.index(s.OnUpdate) < types.index(s.LearningRate):
        return 1.0
    rate = rule.get(s.LearningRate).learning_rate
    if isinstance(rate, Scheduled):
        raise ValueError(
            f"the momentum of {line(rule.stages)} is of steps with a scheduled learning rate, torch's is of steps without it: put the "
            "learning rate last, adamx.scale_by_rmsprop(..., momentum=0.9).then(adamx.LearningRate(schedule))."
        )
    return -float(rate)
