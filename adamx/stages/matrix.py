"""Stages for leaves that are matrices: Newton-Schulz iterations, and an eigenbasis to work in."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative, Positive
from adamx.meshes import contracted, product, turned
from adamx.numerics import average, norm, rate_of, ratio
from adamx.stages.base import Slot, Stage, Wrapper, stage
from adamx.structure import other_axes, static

MOST_AXES = 4
"""Axes of a leaf that can have an eigenbasis each; a leaf with more is worked on as it is."""


@stage
class Orthogonalize(Stage):
    """Replaces the singular values of the momentum, a matrix, by about 1, with Newton-Schulz iterations (Muon).

        X <- m / (||m|| + eps),    ns_steps times:  A = X X',  X <- a X + (b A + c A A) X,    u = sqrt(max(1, columns / rows)) X

    Attributes:
      eps: Added to the norm.
      ns_steps: Number of iterations.
      ns_coeffs: (a, b, c), or one such triple for each iteration.
    """

    eps: NonNegative = 1e-8
    ns_steps: int = static(default=5)
    ns_coeffs: tuple = static(default=(3.4445, -4.7750, 2.0315))

    reads, writes = {"m"}, {"u"}
    elementwise = False

    def __call__(self, x, s, k):
        if x.m.ndim != 2:
            raise ValueError(
                f"Orthogonalize works on matrices, got a leaf of shape {x.m.shape}: leave the others to another rule, as adamx.muon does."
            )
        rows, columns = x.m.shape
        u = ratio(x.m, norm(x.m) + self.eps)
        u = u if rows <= columns else u.T
        for a, b, c in self._table():
            square = product(u, jnp.conj(u.T))
            u = a * u + product(b * square + c * (square @ square), u, like=u)
        u = u if rows <= columns else u.T
        return x.write(u=u * max(1, columns / rows) ** 0.5), s

    def _table(self):
        """A triple for each iteration."""
        if not isinstance(self.ns_coeffs[0], tuple):
            return (self.ns_coeffs,) * self.ns_steps
        if len(self.ns_coeffs) < self.ns_steps:
            raise ValueError(f"Orthogonalize: {len(self.ns_coeffs)} triples of ns_coeffs for {self.ns_steps} steps.")
        return self.ns_coeffs[len(self.ns_coeffs) - self.ns_steps :]


def _turned(x, bases, back=False):
    """`x` with each axis turned into the basis of that axis (the columns of a matrix), or `back`; None for an axis that stays."""
    for axis, q in enumerate(bases):
        if q is not None:
            x = turned(x, q.T if back else jnp.conj(q), axis)
    return x


@stage
class IntoEigenbasis(Stage):
    """Turns gradient and momentum into the eigenbasis of Shampoo's preconditioner, where any second moment can follow (SOAP).

        G_i <- beta G_i + (1 - beta) g g'    for each axis i of the leaf, contracted over the others
        g   <- Q_i' g,    m <- Q_i' m        with the Q_i of the steps before

    Q_i are the eigenvectors of G_i in the first step, which takes no part otherwise, and every `frequency` steps after it one step of
    orthogonal iteration better. `OutOfEigenbasis` turns the update back. Vectors, axes longer than max_precond_dim and leaves of more than
    four axes stay as they are. Columns keep their place, so that slots kept in the basis stay valid.

    Attributes:
      beta: Decay rate of G_i.
      frequency: Steps from one basis to the next.
      max_precond_dim: Longest axis that has a basis.
    """

    beta: Decay = 0.95
    frequency: Positive = 10
    max_precond_dim: int = static(default=10000)

    reads, writes = {"g", "m"}, {"g", "m", "basis"}
    elementwise = False

    @property
    def slots(self):
        def shape_of(axis, shape):
            return (shape[axis], shape[axis]) if self._has_basis(shape, axis) else (1,)

        shapes = [functools.partial(shape_of, axis) for axis in range(MOST_AXES)]
        return tuple(
            Slot(f"{name}_{axis}", shape=shape, precise=True)
            for name in ("gg", "q")
            for axis, shape in enumerate(shapes)
        )

    def _has_basis(self, shape, axis):
        return 1 < len(shape) <= MOST_AXES and axis < len(shape) and shape[axis] <= self.max_precond_dim

    def scalars(self, t, last):
        due = (t > 1) & (jnp.mod(t - 1, self.frequency) == 0)
        return {"rate": rate_of(self.beta), "what": jnp.where(t > 1, jnp.where(due, 1.0, 0.0), 2.0)}

    def __call__(self, x, s, k):
        shape, new = x.g.shape, dict(s)
        bases = [s[f"q_{axis}"] if self._has_basis(shape, axis) else None for axis in range(len(shape))]
        for axis, q in enumerate(bases):
            if q is not None:
                others = other_axes(len(shape), axis)
                square = contracted(x.g, jnp.conj(x.g), axes=[others, others])
                new[f"gg_{axis}"] = average(s[f"gg_{axis}"], square, k["rate"])
                which = k["what"].astype(jnp.int32)
                # A basis has no derivative where eigenvalues meet: for jax.grad it is a constant.
                square = jax.lax.stop_gradient(new[f"gg_{axis}"])
                new[f"q_{axis}"] = jax.lax.switch(
                    which, (_same, _improved, _eigenvectors), square, jax.lax.stop_gradient(q)
                )
        basis = tuple(q for q in bases if q is not None)
        return x.write(
            g=_turned(x.g, bases), m=_turned(x.m, bases), basis=(basis, Axes(tuple(q is not None for q in bases)))
        ), new


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Axes:
    """Which axes of a leaf have a basis, beside the bases in the field `basis`."""

    have: tuple

    def of(self, bases):
        """The bases, None for an axis that has none."""
        rest = iter(bases)
        return [next(rest) if has else None for has in self.have]


def _same(square, q):
    return q


def _improved(square, q):
    turned = square @ q
    # The largest first, as the orthogonalization favours the columns that come first; then each column back to its place.
    order = jnp.argsort(-jnp.real(jnp.sum(jnp.conj(q) * turned, axis=0)), stable=True)
    return jnp.zeros_like(q).at[:, order].set(jnp.linalg.qr(turned[:, order])[0])


def _eigenvectors(square, q):
    return jnp.linalg.eigh(square)[1][:, ::-1].astype(q.dtype)


@stage
class OutOfEigenbasis(Stage):
    """Turns the update back from the basis that `IntoEigenbasis` turned into: u <- Q_i u."""

    reads, writes = {"u", "basis"}, {"u"}
    before = {"lr"}
    elementwise = False

    def __call__(self, x, s, k):
        basis, axes = x.basis
        return x.write(u=_turned(x.u, axes.of(basis), back=True)), s


@stage
class FromSecondStep(Wrapper):
    """A stage that begins in the second step, as its first: in the step before it reads its slots and changes none.

    Attributes:
      inner: The stage.
    """

    inner: Stage

    def scalars(self, t, last):
        k = self.inner.scalars(jnp.maximum(t - 1, 1), last)
        held = {name: jnp.where(t > 1, k[name], last[name]) for name in self.inner.scalar_slots}
        return k | held | {"begun": jnp.where(t > 1, 1.0, 0.0)}

    def __call__(self, x, s, k):
        y, new = self.inner(x, s, k)
        return y, {name: jnp.where(k["begun"] > 0, value, s[name]) for name, value in new.items()}


@stage
class SkipFirstStep(Stage):
    """No step where t = 1: u <- 0 there."""

    reads, writes = {"u"}, {"u"}

    def scalars(self, t, last):
        return {"begun": jnp.where(t > 1, 1.0, 0.0)}

    def __call__(self, x, s, k):
        return x.write(u=k["begun"] * x.u), s
