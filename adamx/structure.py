"""Pytrees made of frozen dataclasses, and leaves with their paths."""

import dataclasses
import functools
import inspect
import typing

import jax
import numpy as np
import optax

from adamx.hyperparameters import show


def static(**options: typing.Any) -> typing.Any:
    """A dataclass field that is structure (hashable, compared by value), not a leaf."""
    return dataclasses.field(metadata={"static": True}, **options)


@typing.dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
def node(cls):
    """Makes `cls` a frozen dataclass and a pytree: its fields are children, its `static` fields structure.

    A field whose annotation has a `convert(value, where)` is converted and checked by it in the constructor, and only there: JAX rebuilds
    nodes with tracers, None or plain objects in the place of numbers. Annotated `Kind | None`, it may be None, and then has no leaf.
    """
    # Without what `dataclass` would write and compile for each class, which took two thirds of the time of the import.
    cls = dataclasses.dataclass(init=False, eq=False, repr=False)(cls)
    fields = dataclasses.fields(cls)
    hints = _annotations(cls)
    kinds = {f.name: _kind(hints[f.name]) for f in fields}
    children = tuple(f.name for f in fields if not f.metadata.get("static"))
    structure = tuple(f.name for f in fields if f.metadata.get("static"))
    signature = _signature(fields)

    def __init__(self, *args, **kwargs):
        vars(self).update(_bound(cls, signature, args, kwargs))
        if hasattr(self, "__post_init__"):
            self.__post_init__()
        for name in structure:
            if isinstance(getattr(self, name), jax.Array):
                raise TypeError(
                    f"{type(self).__name__}: {name} is structure, which cannot be an array: give a Python value "
                    f"(optax.inject_hyperparams needs static_args to leave it alone)."
                )
        for name, (kind, optional) in kinds.items():
            value = getattr(self, name)
            if hasattr(kind, "convert") and not (optional and value is None):
                object.__setattr__(self, name, kind.convert(value, f"{type(self).__name__}: {name}"))

    def flatten_with_keys(self):
        pairs = [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in children]
        return pairs, tuple(getattr(self, name) for name in structure)

    def unflatten(aux, leaves):
        self = object.__new__(cls)
        for name, value in zip(children + structure, (*leaves, *aux), strict=True):
            object.__setattr__(self, name, value)
        return self

    def __repr__(self):
        # Left out: options that are off, that is, zero by default and zero.
        values = [
            (f.name, getattr(self, f.name)) for f in fields if not (f.default == 0.0 and is_zero(getattr(self, f.name)))
        ]
        shown = (show(value) if name == "inner" else f"{name}={show(value)}" for name, value in values)
        return f"{cls.__name__}({', '.join(shown)})"

    cls.__signature__, cls.__init__, cls.__repr__ = signature, __init__, __repr__
    cls.__setattr__, cls.__delattr__ = _frozen, _frozen
    cls.__eq__, cls.__hash__ = trees_equal, tree_hash
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
    return cls


def _signature(fields):
    """That of the constructor which `dataclasses.dataclass` would write; a default that is a factory is there as it is."""
    parameters = []
    for f in sorted((f for f in fields if f.init), key=lambda f: f.kw_only):
        default = inspect.Parameter.empty if f.default is dataclasses.MISSING else f.default
        default = f if f.default_factory is not dataclasses.MISSING else default
        kind = inspect.Parameter.KEYWORD_ONLY if f.kw_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(inspect.Parameter(f.name, kind, default=default, annotation=f.type))
    return inspect.Signature(parameters)


def _bound(cls, signature, args, kwargs):
    """Field -> value. Raises TypeError as a function of this signature would."""
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{cls.__name__}: {error}; its fields are {', '.join(signature.parameters)}.") from None
    bound.apply_defaults()
    made = dataclasses.Field
    return {name: x.default_factory() if isinstance(x, made) else x for name, x in bound.arguments.items()}


def _frozen(self, name, value=None):
    raise dataclasses.FrozenInstanceError(
        f"{type(self).__name__} is frozen: dataclasses.replace gives one with another {name}."
    )


def is_node(cls):
    """Whether `node` was applied to this very class, not only to one it comes from."""
    return "__dataclass_fields__" in vars(cls)


def plain_fields(instance):
    """(name, value) of the fields that are neither static nor checked by their annotation."""
    return [(name, getattr(instance, name)) for name in _plain_names(type(instance))]


@functools.cache
def _plain_names(cls):
    hints = _annotations(cls)
    fields = [f.name for f in dataclasses.fields(cls) if not f.metadata.get("static")]
    return [name for name in fields if not hasattr(_kind(hints[name])[0], "convert")]


def _annotations(cls):
    """Field -> annotation. Those of all classes above are evaluated only where one is a string, as it takes long."""
    found = {f.name: f.type for f in dataclasses.fields(cls)}
    return typing.get_type_hints(cls) if any(isinstance(kind, str) for kind in found.values()) else found


def _kind(hint):
    """The class in an annotation `Kind` or `Kind | None`, and whether None is allowed."""
    kinds = typing.get_args(hint)
    return (kinds[0], True) if type(None) in kinds else (hint, False)


def is_zero(value):
    """Whether `value` is the number 0, known before anything is traced."""
    return isinstance(value, (int, float)) and value == 0


def trees_equal(a, b):
    """Whether two pytrees have the same type, structure and leaves, by value."""
    if type(a) is not type(b):
        return NotImplemented
    (leaves_a, tree_a), (leaves_b, tree_b) = jax.tree.flatten(a), jax.tree.flatten(b)
    return tree_a == tree_b and all(np.array_equal(x, y) for x, y in zip(leaves_a, leaves_b, strict=True))


def tree_hash(tree):
    """Hash of structure and leaves; the leaves must be numbers of Python, NumPy or JAX whose values are known."""
    leaves, structure = jax.tree.flatten(tree)
    return hash((structure, tuple(map(_number, leaves))))


def _number(leaf):
    """A scalar array whose value is known as a Python number; anything else as it is."""
    is_scalar = isinstance(leaf, jax.Array | np.ndarray) and not isinstance(leaf, jax.core.Tracer) and leaf.ndim == 0
    return leaf.item() if is_scalar else leaf


# Leaves with paths


def is_absent(leaf):
    """Whether a gradient is missing: None, or masked out by `optax.masked`."""
    return leaf is None or isinstance(leaf, optax.MaskedNode)


def filled(structure, leaves):
    """The tree of `leaves`, with one of them where another is absent: nodes may check what is put into them."""
    other = next((leaf for leaf in leaves if not is_absent(leaf)), np.zeros(()))
    return jax.tree.unflatten(structure, [other if is_absent(leaf) else leaf for leaf in leaves])


def paths_of(structure, leaves):
    """Path of each leaf, for messages and masks: `params['dense']['kernel']`."""
    paths = jax.tree_util.tree_leaves_with_path(filled(structure, leaves))
    return [f"params{jax.tree_util.keystr(path)}" for path, _ in paths]


def path_of(structure, leaves, index):
    """Path of leaf number `index`; see `paths_of`."""
    return paths_of(structure, leaves)[index]


def other_axes(ndim, axis):
    """All axes of an array of `ndim` but one, which may be counted from the end."""
    return tuple(a for a in range(ndim) if a != axis % ndim)


@dataclasses.dataclass(frozen=True)
class by_shape:  # noqa: N801  (it reads as a function)
    """A function from a tree to one of what `function` says of each leaf's shape; compared by that function."""

    function: typing.Callable

    def __call__(self, tree):
        """The tree of values."""
        return jax.tree.map(lambda leaf: self.function(np.shape(leaf)), tree)


def spread(prefix, structure, leaves, what):
    """For each of `leaves` of a tree, the value that `prefix`, a tree or a prefix of that one, has for it.

    Args:
      prefix: The tree; a function from the whole tree to one; or (values, structure) of a flattened one.
      structure, leaves: The whole tree. Absent leaves count.
      what: What the prefix is, for messages.

    Raises:
      ValueError: it is not a prefix.
    """
    tree = filled(structure, leaves)
    if not leaves:
        return []
    values, shape = (
        prefix if isinstance(prefix, tuple) else jax.tree.flatten(prefix(tree) if callable(prefix) else prefix)
    )
    try:
        parts = shape.flatten_up_to(tree)
    except ValueError as error:
        raise ValueError(f"{what} is not a tree (or prefix) of the parameters: {error}") from None
    return [value for value, part in zip(values, parts, strict=True) for _ in jax.tree.leaves(part)]


def leaves_like(structure, tree, what):
    """Leaves of `tree` in the order of `structure`, where a leaf may be None or an Optax mask.

    Raises:
      ValueError: the trees differ; names `what` and the first difference.
    """
    try:
        return structure.flatten_up_to(tree)
    except ValueError as error:
        raise ValueError(
            f"{what} have another tree structure than the parameters that init saw: {error} "
            "Pass the tree that jax.grad returns for those parameters (a leaf without a gradient may be None)."
        ) from None
