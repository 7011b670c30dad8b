"""Stages whose second moment is kept in less than one number a coordinate: rows and columns, blocks, covers."""

import jax.numpy as jnp

from adamx import hyperparameters
from adamx.annotations import Decay, NonNegative, Number
from adamx.meshes import whole
from adamx.numerics import abs_sq, average, mean, over_root, rate_of, ratio, room_above
from adamx.stages.base import Slot, Stage, leaf_by_leaf, stage
from adamx.stages.moments import average_scalars
from adamx.structure import static

NOT_KEPT = (1,)
"""Shape of a slot on leaves where it is not used."""


def _without(shape, axes):
    return tuple(n for axis, n in enumerate(shape) if axis not in axes)


def rebuilt(rows, columns, column_axis, row_axis):
    """The matrix of rank 1 with these means over `column_axis` (rows) and over `row_axis` (columns), of the shape of both together."""
    rows, columns = jnp.expand_dims(rows, column_axis), jnp.expand_dims(columns, row_axis)
    return ratio(rows, jnp.expand_dims(mean(rows, row_axis), row_axis)) * columns


class _Factored(Stage):
    """Averages of squares by rows and columns of two axes of a leaf; by coordinates on leaves that are not factored.

    The subclass says which axes: `axes(shape)` is (the axis that the rows are means over, that of the columns) or None.
    """

    def axes(self, shape):
        raise NotImplementedError

    def factors(self, name):
        """The slots of such an average: by rows, by columns, by coordinates."""

        def of(which):
            def shape_of(shape):
                axes = self.axes(shape)
                if which is None:
                    return shape if axes is None else NOT_KEPT
                return NOT_KEPT if axes is None else _without(shape, [axes[which]])

            return shape_of

        names = (f"{name}_row", f"{name}_col", name)
        return tuple(Slot(n, signed=False, shape=of(which)) for n, which in zip(names, (0, 1, None), strict=True))

    def accumulate(self, name, square, s, rate):
        """The new slots, and the average they stand for, of the shape of `square`."""
        axes = self.axes(square.shape)
        if axes is None:
            nu = average(s[name], square, rate)
            return {n: s[n] for n in (f"{name}_row", f"{name}_col")} | {name: nu}, nu
        row, col = (
            average(s[f"{name}_{which}"], mean(square, axis=axis), rate)
            for which, axis in zip(("row", "col"), axes, strict=True)
        )
        return {f"{name}_row": row, f"{name}_col": col, name: s[name]}, rebuilt(row, col, *axes)


@stage
class FactoredSecondMoment(_Factored):
    """A second moment kept as the means of its rows and columns, with a decay rate that grows (Adafactor).

        b2_t  = 1 - (t - decay_offset)^(-decay_rate),    row and col average the means of |g|^2 + eps over the largest and the second axis
        v_t   = row col / mean(row);    leaves with no two axes of min_dim_size_to_factor average |g|^2 + eps itself

    Attributes:
      decay_rate: Exponent.
      decay_offset: Steps to subtract, for a second run.
      eps: Added to the square.
      min_dim_size_to_factor: Least size of the second largest axis.
      factored: False to keep every leaf whole.
    """

    decay_rate: NonNegative = 0.8
    decay_offset: Number = 0
    eps: NonNegative = 1e-30
    min_dim_size_to_factor: int = static(default=128)
    factored: bool = static(default=True)

    reads, writes = {"g"}, {"v"}
    slots = property(lambda self: self.factors("nu"))
    elementwise = False

    def axes(self, shape):
        largest = sorted(range(len(shape)), key=lambda axis: (shape[axis], axis))[::-1][:2]
        small = len(largest) < 2 or shape[largest[1]] < self.min_dim_size_to_factor
        return None if small or not self.factored else tuple(largest)

    def scalars(self, t, last):
        number = jnp.maximum(t - self.decay_offset, 1)
        return {"rate": rate_of(hyperparameters.Decay(0.0), number**-self.decay_rate)}

    def __call__(self, x, s, k):
        new, v = self.accumulate("nu", abs_sq(x.g) + self.eps, s, k["rate"])
        return x.write(v=v), new


@stage
class MatrixSecondMoment(_Factored):
    """A second moment kept as the means of the rows and columns of the last two axes, with one decay rate (CAME).

        v_t = row col / mean(row), averages of |g|^2 + eps;    leaves with less than two axes average it whole

    Attributes:
      b2: Decay rate.
      eps: Added to the square.
    """

    b2: Decay = 0.999
    eps: NonNegative = 1e-30

    reads, writes = {"g"}, {"v"}
    slots = property(lambda self: self.factors("nu"))
    elementwise = False

    def axes(self, shape):
        return None if len(shape) < 2 else (len(shape) - 1, len(shape) - 2)

    def scalars(self, t, last):
        return {"rate": rate_of(self.b2)}

    def __call__(self, x, s, k):
        new, v = self.accumulate("nu", abs_sq(x.g) + self.eps, s, k["rate"])
        return x.write(v=v), new


@stage
class DivideByConfidence(_Factored):
    """Divides the momentum by the root of how far it is from the gradient (CAME).

        u = m / sqrt(c),    c = row col / mean(row), averages of |g - m|^2 + eps;    u = m on leaves with less than two axes

    Attributes:
      b3: Decay rate.
      eps: Added to the square.
    """

    b3: Decay = 0.9999
    eps: NonNegative = 1e-16

    reads, writes = {"g", "m"}, {"d", "u"}
    slots = property(lambda self: self.factors("confidence")[:2])
    elementwise = False

    def axes(self, shape):
        return None if len(shape) < 2 else (len(shape) - 1, len(shape) - 2)

    def scalars(self, t, last):
        return {"rate": rate_of(self.b3)}

    def __call__(self, x, s, k):
        if self.axes(x.g.shape) is None:
            return x.write(d=jnp.ones_like(jnp.abs(x.m)), u=x.m), s
        new, c = self.accumulate("confidence", abs_sq(x.g - x.m) + self.eps, s | {"confidence": None}, k["rate"])
        u, d = over_root(x.m, c, None, None)
        return x.write(d=d, u=u), {name: new[name] for name in s}


@stage
class BlockSecondMoment(Stage):
    """One second moment for each block of a leaf, bias-corrected (Adam-mini): |g|^2 is averaged over `block_axes` first.

        nu_t = b2 nu_{t-1} + (1 - b2) mean |g_t|^2,    v_t = nu_t / (1 - b2^t)

    Attributes:
      b2: Decay rate.
      block_axes: The axes of a block: a tuple of them for all leaves, or a function of a leaf's path and the leaf to one (the path as in
        `"params['dense']['bias']"`). None for all axes but the last, where a JAX kernel counts its outputs, and all of a vector.
    """

    b2: Decay = 0.999
    block_axes: object = static(default=None)

    scalar_slots = ("nu_log_decay",)
    reads, writes = {"g"}, {"v", "v_debias"}
    slots = property(lambda self: (Slot("nu", signed=False, shape=self._kept),))
    elementwise = False

    def _axes(self, shape):
        if self.block_axes is None:
            return tuple(range(len(shape) - 1)) if len(shape) > 1 else tuple(range(len(shape)))
        wrong = [axis for axis in self.block_axes if not -len(shape) <= axis < len(shape)]
        if wrong:
            raise ValueError(
                f"BlockSecondMoment: block_axes {self.block_axes} for a leaf of shape {shape}, which has no axis {wrong[0]}."
            )
        return tuple(axis % len(shape) for axis in self.block_axes)

    def _kept(self, shape):
        return _without(shape, self._axes(shape))

    def on_leaves(self, structure, leaves):
        if not callable(self.block_axes):
            return None
        return leaf_by_leaf(structure, leaves, lambda path, leaf: tuple(self.block_axes(path, leaf)))

    def at_leaf(self, which):
        return BlockSecondMoment(self.b2, which)

    def scalars(self, t, last):
        return average_scalars(self.b2, t, last, "nu_log_decay")

    def __call__(self, x, s, k):
        axes = self._axes(x.g.shape)
        nu = average(s["nu"], mean(abs_sq(x.g), axis=axes), k["rate"])
        return x.write(v=jnp.expand_dims(nu * k["debias"], axes), v_debias=k["debias"]), {"nu": nu}


@stage
class CoverSecondMoment(Stage):
    """Sums of squares covered by one number for each index of each axis (SM3).

        v_t = min over axes of cover_axis + |g_t|^2,    cover_axis <- max of v_t over the other axes

    A vector's is AdaGrad's sum.
    """

    slots = (Slot("nu", signed=False, shape=lambda shape: shape if len(shape) < 2 else (sum(shape),)),)
    reads, writes = {"g"}, {"v"}
    elementwise = False

    def __call__(self, x, s, k):
        shape = x.g.shape
        if len(shape) < 2:
            v = self._raised(s["nu"], x.g)
            return x.write(v=v), {"nu": v}
        starts = [sum(shape[:axis]) for axis in range(len(shape))]
        covers = [
            jnp.expand_dims(s["nu"][start : start + n], [a for a in range(len(shape)) if a != axis])
            for axis, (start, n) in enumerate(zip(starts, shape, strict=True))
        ]
        least = covers[0]
        for cover in covers[1:]:
            least = jnp.minimum(least, cover)
        v = self._raised(jnp.broadcast_to(least, shape), x.g)
        others = [tuple(a for a in range(len(shape)) if a != axis) for axis in range(len(shape))]
        return x.write(v=v), {"nu": jnp.concatenate([whole(jnp.max(v, axis=axes, initial=0)) for axes in others])}

    def _raised(self, least, g):
        return least + abs_sq(g, limit=room_above(least))
