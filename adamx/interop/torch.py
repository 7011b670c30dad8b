"""States of PyTorch's optimizers, both ways. Torch itself is needed only to make tensors."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx import stages as s
from adamx.groups import Partition, PartitionState
from adamx.hyperparameters import Scheduled, at_count
from adamx.interop.torch_table import keys_of, of_steps
from adamx.interop.torch_table import rule_of as rule_of
from adamx.rule import RuleTree, UpdateRule
from adamx.state import RuleState
from adamx.structure import is_absent
from adamx.transforms import Chain
from adamx.wiring import line, slots_of


def from_torch(rule, state_dict, params, names=None, *, order=None, convert=None, count=None):
    """The state of a rule, from that of torch's Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta, RMSprop or SGD.

    Args:
      rule: A rule, or a chain or partition of such: what torch's optimizer does, in adamx (`rule_of` builds it from a parameter group).
      state_dict: `optimizer.state_dict()`; tensors or NumPy arrays.
      params: The parameters in JAX, which may be abstract.
      names: Path of a parameter, its keys joined by dots, -> name of the torch parameter, or its number in the state_dict; a dict or a
        function. None where the names are the paths.
      order: Names of torch's parameters in the order in which the optimizer got them, `[name for name, _ in model.named_parameters()]`.
        None where the state_dict has them (an optimizer made of `model.named_parameters()`), or `names` gives numbers.
      convert: `convert(name, array)` returns an array of torch's parameter as the JAX parameter has it (kernels are transposed there). None
        for no change.
      count: Number of steps made, for SGD, whose state has none; needed where a schedule of the rule reads it.

    Returns:
      The state of `rule`. Parameters that torch has no state for, as they never had a gradient, begin anew.

    Raises:
      TypeError: no rule.
      ValueError: the rule is none that torch has; a parameter, a key or an array of the state_dict is missing or of another shape; the
        parameters' steps differ.
    """
    _check(rule)
    given = _given(state_dict, params, names, order, convert)
    return _each(rule, rule.init(params), lambda rule, state: _read(rule, state, given, count))


def to_torch(rule, state, params, state_dict, names=None, *, order=None, convert=None, tensor=None):
    """A state_dict for `optimizer.load_state_dict`, from the state of a rule.

    Args:
      rule, params, names, order: As in `from_torch`.
      state: The state of `rule`.
      state_dict: That of the torch optimizer that is to go on; its parameter groups, with torch's hyperparameters, are kept.
      convert: `convert(name, array)` returns an array of the JAX parameter as torch's has it.
      tensor: Makes a tensor of a NumPy array; None for torch's own.

    Returns:
      A new state_dict. What it has of parameters that are not in `params` is kept.
    """
    _check(rule)
    given, tensor, made = _given(state_dict, params, names, order, convert), tensor or _tensor, {}
    _each(rule, state, lambda rule, state: _write(rule, state, given, made))
    made = {number: {key: tensor(x) for key, x in entry.items()} for number, entry in made.items()}
    return {**state_dict, "state": {**state_dict["state"], **made}}


# Reading and writing


class _Given(NamedTuple):
    """What there is to read, or where to write.

    Attributes:
      entries: Number of a torch parameter -> key -> tensor.
      numbers: For each leaf, the number of its torch parameter.
      names: Their names.
      paths: The paths of the leaves.
      convert: Function of a name and an array.
      params: The parameters.
    """

    entries: dict
    numbers: list
    names: list
    paths: list
    convert: Callable
    params: Any

    @property
    def structure(self):
        """Structure of the parameters."""
        return jax.tree.structure(self.params)

    def own(self, columns):
        """The numbers of the leaves that a rule with these slots, leaf by leaf, works on: in a partition, not all."""
        return [i for i in range(len(self.numbers)) if not any(is_absent(column[i]) for column in columns.values())]


def _each(rule, state, function):
    """`function(rule, state)` of a rule, or of each one in a chain or partition."""
    if isinstance(rule, UpdateRule):
        return function(rule, state)
    if isinstance(rule, Chain):
        parts = zip(rule.parts, state, strict=True)
        return tuple(_each(part, x, function) if isinstance(part, RuleTree) else x for part, x in parts)
    if isinstance(rule, Partition):
        of = state.inner_states
        return PartitionState(
            {
                label: _each(part, of[label], function) if isinstance(part, RuleTree) else of[label]
                for label, part in rule.parts.items()
            }
        )
    return _check(rule)


def _check(rule):
    if not isinstance(rule, UpdateRule | Chain | Partition):
        raise TypeError(f"expected a rule, a chain or a partition, as adamx.adam(1e-3), got {rule!r}.")


def _columns(rule, state, given):
    """Slot name -> its leaves."""
    return {slot.name: given.structure.flatten_up_to(state.slots[slot.name]) for slot in slots_of(rule.stages)}


def _read(rule, start, given, count):
    """The state of a rule whose first one is `start`."""
    keys, columns, factor = keys_of(rule), _columns(rule, start, given), of_steps(rule)
    begun = [
        i for i in given.own(columns) if any(x is not None for x in given.entries.get(given.numbers[i], {}).values())
    ]
    for i in begun:
        entry, name = given.entries[given.numbers[i]], given.names[i]
        missing = [key for key in keys.slots.values() if entry.get(key) is None]
        if missing:
            raise ValueError(
                f"torch's state of {name!r} has {', '.join(entry)}; that of {line(rule.stages)} needs {', '.join(missing)} too. Give the "
                "rule that torch's optimizer is: adamx.interop.torch.rule_of builds it."
            )
        entry = {key: given.convert(name, _array(entry[key])) for key in keys.slots.values()}
        for slot, x in keys.read(entry, factor).items():
            columns[slot][i] = _like(columns[slot][i], x, f"{keys.slots[slot]} of {name!r}", given.paths[i])
    steps = _steps(given, begun) if keys.steps else count
    if steps is None and any(isinstance(h, Scheduled) for h in jax.tree.leaves(rule, is_leaf=_is_scheduled)):
        raise ValueError(
            f"torch's SGD does not count its steps, which a schedule of {line(rule.stages)} reads: give count=."
        )
    scalars = dict(start.scalars)
    for stage in rule.stages:
        if isinstance(stage, s.DozatMomentum) and begun:
            log = _mean_log_of_warmed(stage, _array(given.entries[given.numbers[begun[0]]]["mu_product"]), steps)
            scalars["mu_log_decay"] = jnp.asarray(log, scalars["mu_log_decay"].dtype)
    slots = {name: jax.tree.unflatten(given.structure, column) for name, column in columns.items()}
    return RuleState(jnp.asarray(steps or 0, jnp.int32), scalars, slots)


def _write(rule, state, given, made):
    """Puts what torch keeps into `made`, number -> key -> NumPy array."""
    keys, columns, factor = keys_of(rule), _columns(rule, state, given), of_steps(rule)
    for i in given.own(columns):
        entry = keys.write({name: _array(column[i]) for name, column in columns.items()}, factor)
        entry = {key: given.convert(given.names[i], x) for key, x in entry.items()}
        if keys.steps:
            entry["step"] = np.float32(state.count)
        if any(isinstance(stage, s.DozatMomentum) for stage in rule.stages):
            entry["mu_product"] = np.float32(math.exp(float(state.scalars["mu_log_decay"]) * int(state.count)))
        made[given.numbers[i]] = entry


def _steps(given, begun):
    """The number of steps that all parameters have made."""
    steps = {int(_array(given.entries[given.numbers[i]]["step"])): given.names[i] for i in begun}
    if len(steps) > 1:
        made = ", ".join(f"{name!r} {n}" for n, name in sorted(steps.items()))
        raise ValueError(f"torch's parameters have made different numbers of steps ({made}); in adamx they are one.")
    return next(iter(steps), 0)


def _mean_log_of_warmed(stage, product, steps):
    """Mean of the logs of NAdam's warmed-up decay rates, from their product; from the rates where that has left float32's range."""
    if product > np.finfo(np.float32).tiny:
        return math.log(product) / steps
    now = at_count((stage,), steps)[0]
    exponents = np.arange(1, steps + 1) * float(now.momentum_decay)
    return np.mean(np.log((1 - float(now.b1.complement)) * (1 - 0.5 * 0.96**exponents)))


def _is_scheduled(node):
    return isinstance(node, Scheduled)


def _like(slot, x, what, path):
    """`x` as the rule keeps it, like its first value."""
    if x.shape != slot.shape:
        raise ValueError(
            f"torch's {what} has shape {x.shape}, but the slot of {path} has {slot.shape}. Say how it becomes that: "
            "convert=lambda name, x: x.T if ... else x."
        )
    return jnp.asarray(x, slot.dtype)


def _array(x):
    """A tensor, an array or a number as NumPy's, in float32 where it is narrower."""
    if isinstance(x, int | float):
        return np.asarray(x)
    x = x.detach().cpu() if hasattr(x, "detach") else x
    x = x.float() if "bfloat16" in str(x.dtype) and hasattr(x, "float") else x
    x = np.asarray(x)
    return x.astype(np.float32) if x.dtype.kind not in "fciu" or x.dtype.itemsize < 4 else x


def _tensor(x):
    try:
        import torch
    except ImportError:
        raise ImportError(
            "to_torch makes tensors: install torch, or give tensor=, a function of a NumPy array."
        ) from None
    return torch.from_numpy(np.array(x))


def _as_it_is(name, x):
    return x


def _given(state_dict, params, names, order, convert):
    """The `_Given` of the arguments."""
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in _leaves(params)]
    if names is not None and not callable(names) and not hasattr(names, "__getitem__"):
        raise TypeError(f"names is a dict or a function from a path to a name, got {names!r}.")
    of = (lambda path: path) if names is None else names if callable(names) else names.__getitem__
    listed = [name for group in state_dict["param_groups"] for name in group.get("param_names", ())]
    numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
    known = dict(zip(listed or order or (), numbers, strict=False))
    found = []
    for path in paths:
        try:
            name = of(path)
        except KeyError:
            raise ValueError(f"names has no {path!r}; the parameters are {', '.join(paths)}.") from None
        number = name if isinstance(name, int) else known.get(name)
        if number not in numbers:
            hint = f"its parameters are {', '.join(known)}" if known else "it has no names: give order="
            raise ValueError(f"the state_dict has no parameter {name!r}, for {path!r} in JAX; {hint}.")
        found.append((number, str(name)))
    return _Given(
        state_dict["state"], [n for n, _ in found], [name for _, name in found], paths, convert or _as_it_is, params
    )


def _leaves(params):
    return jax.tree_util.tree_leaves_with_path(params)
