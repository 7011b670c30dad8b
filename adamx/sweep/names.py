"""Functions by the names they are imported by, in files and in code."""

import dataclasses
import functools
import importlib
import sys

import jax
import numpy as np

from adamx.sweep.points import name_of, shown


@dataclasses.dataclass(frozen=True)
class Unavailable:
    """A function that cannot be imported here, by its name."""

    __name__: str

    def __call__(self, *args, **kwargs):
        """Raises ValueError."""
        raise ValueError(f"{self.__name__} cannot be imported here: the result was loaded from a file without it.")


def _path_of(value):
    """module:name of something that can be imported by it, else None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    found = getattr(sys.modules.get(module), name or "", None) if module != "__main__" else None
    return f"{module}:{name}" if found is value else None


def reference(value):
    """A value of a row as JSON: numbers and strings as they are, anything else by name. See `resolved`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    return {"path": _path_of(value), "name": str(shown(value))}


def resolved(value):
    """The value that `reference` was made of; `Unavailable` if it cannot be imported."""
    if not isinstance(value, dict):
        return value
    try:
        module, name = value["path"].split(":")
        return getattr(importlib.import_module(module), name)
    except (AttributeError, ImportError):
        return Unavailable(value["name"])


def code_of(value):
    """A number, a string, what can be imported, or a partial application of it, as code."""
    if isinstance(value, functools.partial):
        applied = [
            code_of(value.func),
            *map(code_of, value.args),
            *(f"{n}={code_of(v)}" for n, v in value.keywords.items()),
        ]
        kind = "jax.tree_util.Partial" if isinstance(value, jax.tree_util.Partial) else "functools.partial"
        return f"{kind}({', '.join(applied)})"
    if isinstance(value, Unavailable):
        return value.__name__
    if not callable(value):
        return repr(value)
    module, name = getattr(value, "__module__", ""), name_of(value)
    if module.split(".")[0] == "adamx" and getattr(sys.modules["adamx"], name, None) is value:
        return f"adamx.{name}"
    return name if module in ("__main__", "builtins") else f"{module}.{name}"
