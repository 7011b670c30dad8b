"""Arrays on meshes with explicit axes: how slots are divided that are not of the parameter's shape, and sums over divided axes."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec


class Axis(int):
    """The length of an axis of a parameter, which knows of which: so do the shapes of slots that are made of it."""

    def __new__(cls, length, number):
        """Axis `number` of a parameter, of this length."""
        self = super().__new__(cls, length)
        self.number = number
        return self


def axes_of_shape(shape):
    """The shape as `Axis`es."""
    return tuple(map(Axis, shape, range(len(shape))))


def varying(x):
    """Axes of the mesh along which shards of `x` differ inside of `jax.shard_map`."""
    kind = jax.typeof(x)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma


def _explicit(x):
    """The sharding of an array or of an abstract one; None but on a mesh with explicit axes."""
    sharding = jax.typeof(x).sharding if isinstance(x, jax.core.Tracer) else getattr(x, "sharding", None)
    explicit = isinstance(sharding, NamedSharding) and AxisType.Explicit in sharding.mesh.axis_types
    return sharding if explicit else None


def sharding_of_slot(p, shape):
    """The sharding of a slot whose shape is made of the parameter's axes, or of others, which are whole; None but on explicit axes."""
    sharding = _explicit(p)
    if sharding is None:
        return None
    numbers, names = [getattr(n, "number", None) for n in shape], dict(enumerate(sharding.spec))
    # An axis of the mesh divides one axis of an array only.
    own = [names.get(number) if numbers.count(number) == 1 else None for number in numbers]
    return NamedSharding(sharding.mesh, PartitionSpec(*own))


def whole(x):
    """The array, gathered where explicit axes of a mesh divide it."""
    sharding = _explicit(x)
    return x if sharding is None else jax.sharding.reshard(x, NamedSharding(sharding.mesh, PartitionSpec()))


def divided_as(x, like):
    """The array, divided as one of its shape on explicit axes of a mesh."""
    sharding = _explicit(like)
    return x if sharding is None or sharding == _explicit(x) else jax.sharding.reshard(x, sharding)


def parts(x, axes):
    """Into how many parts explicit axes of a mesh divide an array along some of its axes."""
    sharding = _explicit(x)
    if sharding is None:
        return 1
    names = [sharding.spec[axis] for axis in axes if axis < len(sharding.spec)]
    return math.prod(sharding.mesh.shape[name] for name in jax.tree.leaves(names))


def product(a, b, like=None):
    """`a @ b`; on explicit axes of a mesh divided as the matrix `like`, or whole."""
    sharding = _explicit(a if like is None else like)
    if sharding is not None and like is None:
        sharding = NamedSharding(sharding.mesh, PartitionSpec())
    return jnp.matmul(a, b, out_sharding=sharding)


def contracted(a, b, axes):
    """`jnp.tensordot`, whole on explicit axes of a mesh."""
    sharding = _explicit(a)
    out = None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())
    return jnp.tensordot(a, b, axes=axes, out_sharding=out)


def turned(x, q, axis):
    """`x` with one axis contracted with the first of the matrix `q`, whose second is in its place, divided as `x` is."""
    out = sharding = _explicit(x)
    if sharding is not None:
        names = [*sharding.spec, *[None] * (x.ndim - len(sharding.spec))]
        names.append(names.pop(axis))
        out = NamedSharding(sharding.mesh, PartitionSpec(*names))
    return jnp.moveaxis(jnp.tensordot(x, q, axes=[[axis], [0]], out_sharding=out), -1, axis)
