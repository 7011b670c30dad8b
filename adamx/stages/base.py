"""What a stage is, and the stages that wrap another."""

import dataclasses
import typing
from collections.abc import Callable, Hashable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import jax
import optax

from adamx.annotations import Mask
from adamx.signal import Signal
from adamx.structure import is_absent, node, paths_of, spread, static

T = typing.TypeVar("T")
S = typing.TypeVar("S")


@typing.dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
def stage(cls: type[T]) -> type[T]:
    """Class decorator of a stage: a frozen dataclass that is a pytree of its hyperparameters.

    `help(adamx.stages)` is a page on writing one.
    """
    return node(cls)


def as_parameter(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a slot: the parameter's."""
    return shape


def one_per_leaf(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a slot: a scalar for each leaf."""
    return ()


def leaves_where(leaves: Sequence[Any], test: Callable[[tuple[int, ...]], Any]) -> list[bool]:
    """For each leaf, whether its shape passes `test`: what `on_leaves` may return. False where there is no leaf."""
    return [not is_absent(leaf) and bool(test(jax.numpy.shape(leaf))) for leaf in leaves]


def leaf_by_leaf(structure: Any, leaves: Sequence[Any], function: Callable[[str, Any], Any]) -> list[Any]:
    """For each leaf, what `function(path, leaf)` says of it: what `on_leaves` may return. False where there is no leaf."""
    paths = paths_of(structure, leaves)
    return [not is_absent(leaf) and function(path, leaf) for path, leaf in zip(paths, leaves, strict=True)]


@dataclasses.dataclass(frozen=True)
class Slot:
    """Something a stage remembers for each parameter.

    Attributes:
      name: Unique in a rule; Optax's name where it has one (`mu`, `nu`, `nu_max`).
      signed: False for what is never negative; such a slot is real also for complex parameters.
      shape: Function from the parameter's shape to the slot's.
      precise: True for what is never kept in less than 32 bits: copies and averages of parameters, sums, eigenbases, products near 1.
    """

    name: str
    signed: bool = True
    shape: Callable[[tuple[int, ...]], tuple[int, ...]] = as_parameter
    precise: bool = False


class Stage:
    """One piece of a rule, written for one array: a frozen dataclass made by `@stage`.

    Attributes:
      reads: Fields of `Signal` that must have been written before.
      writes: Fields that this stage writes. A name that `Signal` does not have is a field of its own: `x.write(basis=b)`, `x.basis`.
      before: Fields that must not have been written before: the stage belongs earlier in the line.
      slots: What it remembers for each parameter.
      scalar_slots: Names among the scalars (of `scalars` or `combine`) that are kept in the state for the next step.
      elementwise: False where a leaf's elements depend on each other (norms): it says what needs no communication between shards, and
        what can be fused; it is not checked.
      sums: Names of the sums over the whole tree that it needs: `measure` gives a leaf's share of each, `combine` gets the sums.
      extras: Arguments of a step, beside gradients and parameters, that are trees like the parameters: fields of the signal, absent (None)
        in the steps that have none.
      scalar_extras: Arguments of a step that are one number: among the scalars `k`, and every step must have them.
      shares: True where two slots, or one and the update, are made of a value of this stage or of those before it that is no slot. XLA's
        CPU compiler with multi-output fusion would make an array of it: there it is computed for each, if all stages are elementwise.
      random: True for a key of random bits, `k["key"]`, another one in each step and leaf; for `random_bits` and `standard_normal`.
    """

    reads: AbstractSet[str] = frozenset()
    writes: AbstractSet[str] = frozenset()
    before: AbstractSet[str] = frozenset()
    slots: tuple[Slot, ...] = ()
    scalar_slots: tuple[str, ...] = ()
    elementwise: bool = True
    sums: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    scalar_extras: tuple[str, ...] = ()
    shares: bool = False
    random: bool = False

    def scalars(self, t: jax.Array, last: dict[str, jax.Array]) -> dict[str, Any]:
        """Scalars of step `t`, real numbers (a condition is 0 or 1), computed once for all leaves.

        Args:
          t: Step number, a real scalar, 1 in the first update.
          last: By name, what `scalar_slots` held after the previous step (at first, zeros or what `initial` says); `lr`, if a stage before
            has it among its scalars; and `has_NAME` for each of `extras`, 1 if this step has it, else 0.

        Here and in `__call__`, every hyperparameter of `self` is a scalar array: schedules have been evaluated.
        """
        return {}

    def initial(self) -> dict[str, Any]:
        """First values of those slots and scalar slots that do not start at zero, by name."""
        return {}

    def start(self, p: jax.Array) -> dict[str, jax.Array]:
        """First values of those slots that start at something made of the parameter `p`, by name."""
        return {}

    def measure(self, x: Signal, s: dict[str, jax.Array], k: dict[str, Any]) -> dict[str, jax.Array]:
        """One leaf's share of each of `sums`, real scalars by name. The stages before it have run; arguments as of `__call__`."""
        return {}

    def combine(self, sums: dict[str, jax.Array], k: dict[str, Any]) -> dict[str, Any]:
        """Further scalars of the step, and new values of scalar slots.

        Args:
          sums: The sums over all leaves that had a gradient, by name.
          k: What `scalars` returned, and what is not in there of `scalar_slots` as the last step left it.
        """
        return sums

    def __call__(self, x: Signal, s: dict[str, jax.Array], k: dict[str, Any]) -> tuple[Signal, dict[str, jax.Array]]:
        """The update of one leaf.

        Args:
          x: `Signal`, arrays in compute precision.
          s: This stage's slots, by name, in compute precision.
          k: What `scalars` returned, and `combine`.

        Returns:
          The signal with `writes` written, and the new slots.
        """
        raise NotImplementedError

    def on_leaves(self, structure: Any, leaves: Sequence[Any]) -> Sequence[Any] | None:
        """For each leaf of the tree, whether the stage applies to it; None for all of them. Elsewhere its slots are kept as one zero.

        A stage that does different things on different leaves says which instead of True: what `at_leaf` then makes a stage of, hashable.
        """
        return None

    def at_leaf(self, which: Any) -> "Stage":
        """The stage as it is on leaves of which `on_leaves` said `which`."""
        return self

    def bare(self) -> "Stage":
        """The stage without what only `on_leaves` looks at."""
        return self

    @classmethod
    def convert(cls: type[S], value: Any, where: str) -> S:
        """`value` if it is a stage of this class, for fields that hold one. Raises TypeError if it is not."""
        if not isinstance(value, cls):
            raise TypeError(f"{where} must be a {cls.__name__}, got {value!r}.")
        return value


# Stages that wrap another stage


class Wrapper(Stage):
    """A stage that modifies the stage in its field `inner`, and is as that stage where it does not say otherwise."""

    inner: Stage

    reads = property(lambda self: self.inner.reads)
    writes = property(lambda self: self.inner.writes)
    before = property(lambda self: self.inner.before)
    slots = property(lambda self: self.inner.slots)
    scalar_slots = property(lambda self: self.inner.scalar_slots)
    elementwise = property(lambda self: self.inner.elementwise)
    sums = property(lambda self: self.inner.sums)
    extras = property(lambda self: self.inner.extras)
    scalar_extras = property(lambda self: self.inner.scalar_extras)
    shares = property(lambda self: self.inner.shares)
    random = property(lambda self: self.inner.random)

    def scalars(self, t, last):
        return self.inner.scalars(t, last)

    def initial(self):
        return self.inner.initial()

    def start(self, p):
        return self.inner.start(p)

    def measure(self, x, s, k):
        return self.inner.measure(x, s, k)

    def combine(self, sums, k):
        return self.inner.combine(sums, k)

    def on_leaves(self, structure, leaves):
        return self.inner.on_leaves(structure, leaves)

    def at_leaf(self, which):
        return dataclasses.replace(self, inner=self.inner.at_leaf(which))

    def bare(self):
        return dataclasses.replace(self, inner=self.inner.bare())


@stage
class OnUpdate(Wrapper):
    """Runs a first-moment stage on the update instead of the gradient: u <- m(u).

    RMSProp with momentum accumulates its updates this way.
    """

    inner: Stage

    reads = property(lambda self: (self.inner.reads - {"g"}) | {"u"})
    writes = frozenset({"u"})

    def measure(self, x, s, k):
        return self.inner.measure(x.write(g=x.u), s, k)

    def __call__(self, x, s, k):
        y, s = self.inner(x.write(g=x.u), s, k)
        return x.write(u=y.m), s


@dataclasses.dataclass(frozen=True)
class MaskOfTree:
    """A mask given as Optax does: a function from the parameter tree to a tree (or prefix) of booleans."""

    function: Callable[[Any], Any]


@stage
class Masked(Wrapper):
    """A stage restricted to some leaves; see `masked`."""

    inner: Stage
    mask: Hashable = static()

    # On the other leaves the fields it writes keep their earlier value, so there must be one.
    reads = property(lambda self: self.inner.reads | self.inner.writes)

    def bare(self):
        return self.inner.bare()

    def on_leaves(self, structure, leaves):
        inner = self.inner.on_leaves(structure, leaves)
        masked = self._flags(structure, leaves)
        return masked if inner is None else [b if a else False for a, b in zip(masked, inner, strict=True)]

    def _flags(self, structure, leaves):
        if callable(self.mask):
            paths = paths_of(structure, leaves)
            return [bool(self.mask(path, leaf)) for path, leaf in zip(paths, leaves, strict=True)]
        prefix = self.mask.function if isinstance(self.mask, MaskOfTree) else self.mask
        return [bool(flag) for flag in spread(prefix, structure, leaves, f"the mask of {self.inner!r}")]


def masked(stage: Stage, mask: Mask) -> Stage:
    """Restricts `stage` to some leaves. On the others its slots are kept as one zero, so that the state's structure stays the same.

    Args:
      stage: Any stage.
      mask: A tree of booleans with the parameters' structure or a prefix of it; or a function `mask(path, parameter) -> bool` of a leaf,
        the path as in `"params['dense']['bias']"`; or a `MaskOfTree`, Optax's form, of the whole tree.

    Returns:
      A stage, which leaves the signal of the other leaves as it was.

    Raises:
      TypeError: no stage. For a rule there is `optax.masked`.
    """
    if isinstance(stage, optax.GradientTransformation):
        raise TypeError(
            "adamx.masked restricts one stage; for a whole gradient transformation take optax.masked(rule, mask)."
        )
    if not callable(mask) and not isinstance(mask, MaskOfTree):
        leaves, structure = jax.tree.flatten(mask)
        mask = (tuple(bool(leaf) for leaf in leaves), structure)
    return Masked(stage, mask)
