"""The rules of a sweep: each a constructor called with a row of hyperparameters, batched where their structure agrees."""

import dataclasses
import difflib
import functools
import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx.rule import UpdateRule
from adamx.sweep.alike import unified
from adamx.transforms import Chain

if TYPE_CHECKING:
    import pandas


class Batch(NamedTuple):
    """Points whose rules have one structure, and thus one compiled program.

    Attributes:
      members: Positions of the points, int array (n,).
      rules: Their rules as one: each leaf a NumPy array (n,), float64 where it is real.
    """

    members: np.ndarray
    rules: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Points:
    """Points of a space of hyperparameters; made by the methods of `space`, by `zipped` or by `listed`.

    Attributes:
      constructor: The function that makes a rule of hyperparameters.
      rows: For each point, the hyperparameters that the constructor was called with.
      rules: For each point, its rule.
    """

    constructor: Callable[..., Any]
    rows: tuple[dict[str, Any], ...]
    rules: tuple[Any, ...]

    def __len__(self):
        return len(self.rows)

    def __repr__(self):
        return f"{len(self)} points of {name_of(self.constructor)}({', '.join(columns_of(self.rows))})"

    def table(self) -> "pandas.DataFrame":
        """The rows as a pandas frame."""
        return frames().DataFrame([{name: shown(value) for name, value in row.items()} for row in self.rows])

    def batches(self) -> list[Batch]:
        """The rules batched: a `Batch` for each structure."""
        return batched(self.rules)


def listed(constructor: Callable[..., Any], rows: Iterable[Mapping[str, Any]]) -> Points:
    """The points of a list of dicts of hyperparameters.

    Raises:
      TypeError: a hyperparameter that the constructor does not have; a constructor that returns something else than a rule or a chain.
      ValueError: no rows; points that differ in real numbers only, but whose rules differ in structure.

    >>> listed(adam, [{"learning_rate": 0.1}, {"learning_rate": 0.2, "nesterov": True}])
    2 points of adam(learning_rate, nesterov)
    """
    plain = tuple({name: _plain(value) for name, value in dict(row).items()} for row in rows)
    if not plain:
        raise ValueError(f"a sweep of {name_of(constructor)} needs at least one point, got none.")
    check_names(constructor, columns_of(plain))
    points = Points(constructor, plain, tuple(_built(constructor, row) for row in plain))
    _check_structures(points)
    return points


def zipped(constructor: Callable[..., Any], **values: Any) -> Points:
    """The points whose hyperparameters are given side by side, as lists of one length; a number, string or None stands for a list of it.

    >>> zipped(adam, learning_rate=[1e-3, 1e-2], b2=[0.999, 0.99], eps=1e-6).rows[1]
    {'learning_rate': 0.01, 'b2': 0.99, 'eps': 1e-06}
    """
    lists = {name: list(v) for name, v in values.items() if np.ndim(v) == 1 and not isinstance(v, str)}
    if len(lengths := {len(v) for v in lists.values()}) != 1:
        given = ", ".join(f"{name}: {len(v)}" for name, v in lists.items()) or "none"
        raise ValueError(f"zipped takes lists of one length, got {given}.")
    count = lengths.pop()
    fixed = {name: [v] * count for name, v in values.items() if name not in lists}
    table = {name: (lists | fixed)[name] for name in values}
    return listed(constructor, [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)])


def batched(rules):
    """`rules` (a sequence) by structure: a list of `Batch`."""
    members = {}
    for i, rule in enumerate(rules):
        members.setdefault(jax.tree.structure(rule), []).append(i)
    return [
        Batch(np.array(own), jax.tree.map(lambda *leaves: np.stack(leaves), *(rules[i] for i in own)))
        for own in members.values()
    ]


def frames():
    """The module pandas, of which tables are made. Raises ImportError if it is not there; says which extra has it."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError('a table needs pandas: pip install "adamx[lab]"') from error
    return pandas


# Names and values


def name_of(function):
    """The name of a function, a class or a partial application of one."""
    inner = function.func if isinstance(function, functools.partial) else function
    return getattr(inner, "__name__", type(inner).__name__)


def _plain(value):
    """A number of NumPy or JAX as Python's, of the decimal digits that it stands for; all else as it is."""
    if not isinstance(value, (np.generic, np.ndarray, jax.Array)) or np.ndim(value):
        return value
    if not (jnp.issubdtype(value.dtype, jnp.number) or value.dtype == bool):
        return value
    number = np.asarray(value)[()]
    return float(str(number)) if jnp.issubdtype(value.dtype, jnp.floating) else number.item()


def shown(value):
    """`value` as it stands in tables: numbers, strings and None as they are, else its name, with what is applied to it."""
    if value is None or isinstance(value, (numbers.Number, str)):
        return value
    if isinstance(value, functools.partial):
        applied = [str(shown(a)) for a in value.args] + [f"{name}={shown(a)}" for name, a in value.keywords.items()]
        return f"{name_of(value)}({', '.join(applied)})"
    return name_of(value) if callable(value) else repr(value)


def columns_of(rows):
    """The names of all hyperparameters in `rows`, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def check_names(constructor, names):
    """Raises TypeError if `constructor` has no argument of one of `names`; lists those it has."""
    known = inspect.signature(constructor).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{name_of(constructor)} has no hyperparameter {name!r}; it has {', '.join(known)}.{hint}")


def _built(constructor, row):
    call = f"{name_of(constructor)}({', '.join(f'{name}={shown(value)!r}' for name, value in row.items())})"
    try:
        rule = constructor(**row)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{call}: {error}") from error
    if not isinstance(rule, (UpdateRule, Chain)):
        raise TypeError(
            f"{call} is a {type(rule).__name__}; a sweep takes constructors of adamx rules, or of adamx.chain(...) of rules and "
            "Optax transformations, because their hyperparameters are leaves."
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(rule):
        if np.ndim(leaf) or not isinstance(leaf, (numbers.Number, np.ndarray, jax.Array)):
            raise TypeError(
                f"{call}: {jax.tree_util.keystr(path).lstrip('.')} must be one number for a point, got {leaf!r}."
            )
    return unified(rule)


def _check_structures(points):
    first = {}
    for row, rule in zip(points.rows, points.rules, strict=True):
        rest = repr([(name, shown(value)) for name, value in row.items() if not isinstance(value, float)])
        structure, other = first.setdefault(rest, (jax.tree.structure(rule), row))
        if structure != jax.tree.structure(rule):
            raise ValueError(
                f"points that differ in real numbers only have rules of different structure: {name_of(points.constructor)} of {other} "
                f"and of {row}. A number hidden in a function would need a program of its own: give a schedule as "
                "jax.tree_util.Partial(function, number), such as sweep.warmup_cosine(peak, steps), for its numbers to be leaves."
            )
