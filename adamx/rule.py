"""The update rule: a line of stages that is a pytree and an Optax gradient transformation."""

import difflib
import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from adamx import execution, state, wiring
from adamx.annotations import Tree
from adamx.kernels import Kernel
from adamx.rounding import Rounding
from adamx.signal import Signal
from adamx.stages.base import Stage
from adamx.state import RuleState
from adamx.storage import Storage
from adamx.structure import tree_hash, trees_equal

S = TypeVar("S", bound=Stage)
R = TypeVar("R", bound="RuleTree")


class RuleTree(optax.GradientTransformationExtraArgs):
    """A gradient transformation that is a pytree of hyperparameters, equal by value, and made of stages that can be searched.

    Subclasses have `stages` and a method `trace`, and are registered as pytrees.
    """

    if TYPE_CHECKING:

        @property
        def stages(self) -> tuple[Stage, ...]:
            """Its stages, or those of all its rules, in order."""

        def init(self, params: Tree) -> Any:
            """The state before the first update."""

        def update(self, updates: Tree, state: Any, params: Tree = None, **extra: Any) -> tuple[Tree, Any]:
            """The updates and the new state, of the gradients."""

        def trace(self, grads: Tree, state: Any, params: Tree = None, **extra: Any) -> tuple[Tree, Any, Any]:
            """`update`, and what there is to see inside."""

    def get(self, kind: type[S]) -> S:
        """Its one stage of type `kind`, at the top or wrapped in another: `tx.get(LearningRate).learning_rate`.

        Raises:
          WiringError: there is none, or there are several.
        """
        return wiring.found(self.stages, kind)

    # A NamedTuple's own compare and hash its functions.
    __eq__ = trees_equal
    __hash__ = tree_hash

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _replace(self, **fields):
        """Refused, as `init` and `update` are those of the stages. Raises TypeError."""
        raise TypeError(
            f"{type(self).__name__}: {' and '.join(fields) or 'init and update'} cannot be replaced, as its stages make them. Take "
            "optax.GradientTransformationExtraArgs(init, update) with the functions you want, or edit the stages: replace, insert, then."
        )

    __replace__ = _replace


class UpdateRule(RuleTree):
    """A line of stages, run over the leaves of a tree. Made by `update_rule`, or by a rule's own function such as `adamx.adamw`.

    It is an `optax.GradientTransformationExtraArgs`, so whatever takes one takes a rule; and a pytree whose leaves are its numeric
    hyperparameters (a decay rate as 1 - beta), so `jit`, `vmap`, `grad` and checkpoints treat a rule as data. It is equal and hashable by
    value where its leaves are Python numbers, can be pickled, and prints as its line of stages.

    Attributes:
      stages: The stages, in order of execution.
      storages: (slot name, `Storage`) pairs, for slots not kept as `Float32()`; ("params", `Rounding`) for the parameters.
      kernel: How leaves are worked on by kernels (`fuse`); None where that is left to the backend and the storages.

    >>> rule = update_rule(Momentum(0.9), SecondMoment(0.999), DivideByRoot(), LearningRate(0.1))
    >>> params = jnp.array([1.0, -2.0])
    >>> state = rule.init(params)
    >>> updates, state = rule.update(2 * params, state, params)
    >>> print(updates.round(6))
    [-0.1  0.1]
    >>> rule.replace(SecondMoment, Belief(0.99))
    Momentum(b1=0.9) | Belief(b2=0.99, eps_root=1e-16) | DivideByRoot(eps=1e-08) | LearningRate(learning_rate=0.1)
    """

    def __new__(
        cls, stages: tuple[Stage, ...], storages: tuple[tuple[str, Any], ...] = (), kernel: Kernel | None = None
    ) -> "UpdateRule":
        """Unchecked; JAX calls it with tracers and placeholders. Use `update_rule`."""
        init = functools.partial(state.init, stages, storages)
        update = functools.partial(_update, stages, storages, kernel)
        self = super().__new__(cls, init, update)
        self.stages, self.storages, self.kernel = stages, storages, kernel
        return self

    def trace(self, grads: Tree, state: RuleState, params: Tree = None, **extra: Any) -> tuple[Tree, RuleState, Signal]:
        """`update`, and a look inside. What is not read of the signals costs nothing once compiled.

        Returns:
          updates, state, and the final `Signal`, whose fields are trees like the parameters (None where there was no gradient): `signal.v`
          as `params`; `signal.lr` and `signal.t` are scalars.
        """
        _refuse_misspelt(self.stages, params, extra)
        return execution.advance(self.stages, self.storages, grads, state, params, extra, wants_signal=True)

    def step(self, grads: Tree, state: RuleState, params: Tree, **extra: Any) -> tuple[Tree, RuleState]:
        """Update and apply in one: the new parameters are rounded once, from p + u in compute precision.

        A float16 or bfloat16 parameter is rounded as `store(params=...)` says, by default stochastically, so that updates below its
        resolution are not lost.

        JAX gives the memory of donated arguments to results of the same type in order, so donate with the parameters first:
        `jax.jit(lambda params, state, grads: rule.step(grads, state, params), donate_argnums=(0, 1))`. With the state first, the parameters
        are written where a slot was, at a copy of one or two arrays.

        Returns:
          new parameters (dtypes as before), state.
        """
        if params is None:
            raise ValueError("step applies the update to the parameters: call step(grads, state, params).")
        _refuse_misspelt(self.stages, params, extra)
        rounding = execution.rounding_of(self.storages)
        params, state, _ = execution.advance(
            self.stages, self.storages, grads, state, params, extra, rounding, kernel=self.kernel
        )
        return params, state

    def then(self, *stages: Stage) -> "UpdateRule":
        """A new rule with `stages` after the present ones."""
        return _checked((*self.stages, *stages), self.storages, self.kernel)

    def replace(self, kind: type[Stage], stage: Stage) -> "UpdateRule":
        """A new rule with its one stage of type `kind` (at the top, or wrapped in another) replaced by `stage`."""
        return _checked(wiring.replaced(self.stages, kind, stage), self.storages, self.kernel)

    def insert(
        self, stage: Stage, *, before: type[Stage] | None = None, after: type[Stage] | None = None
    ) -> "UpdateRule":
        """A new rule with `stage` before or after its one stage of the type given."""
        if (before is None) == (after is None):
            raise TypeError(
                "insert takes the type of a neighbour: insert(stage, before=Type) or insert(stage, after=Type)."
            )
        at = wiring.position_of(self.stages, before or after) + (before is None)
        return _checked((*self.stages[:at], stage, *self.stages[at:]), self.storages, self.kernel)

    def store(self, storage: Storage | None = None, /, **storages: Storage | Rounding) -> "UpdateRule":
        """A new rule that keeps its slots otherwise: all of them `rule.store(EightBit())`, or by name `rule.store(mu=BFloat16())`.

        `params=Nearest()` sets how `step` rounds. Of all slots, those that must be precise (copies of parameters, sums) stay as they are.
        """
        slots = {slot.name: slot for slot in wiring.slots_of(self.stages)}
        kept: dict[str, Any] = dict(self.storages)
        if storage is not None:
            storages = {**{name: storage for name, slot in slots.items() if not slot.precise}, **storages}
        for name, how in storages.items():
            expected = Rounding if name == "params" else Storage
            if not isinstance(how, expected):
                raise TypeError(f"store({name}=...) takes a {expected.__name__}, got {how!r}.")
            kept[name] = how.of(slots[name]) if isinstance(how, Storage) and name in slots else how
        return _checked(self.stages, tuple(sorted(kept.items())), self.kernel)

    def fuse(self, *, interpret: bool = False) -> "UpdateRule":
        """A new rule whose `step` and `update` work on each leaf by one kernel, which reads and writes every array once.

        Rules with 8-bit slots run so by themselves on a TPU, where one device holds the leaves; `fuse` asks for it whatever the storage. A
        kernel works on what its device holds: on several, call the rule inside of `jax.shard_map`. On other backends, under `vmap`, and on
        leaves of other than 32 bits of arithmetic, the result is the same by XLA's own fusions; so it is for leaves whose shape a kernel
        does not take (vectors whose length is no multiple of 1,024; leaves of less than 64 rows).

        Args:
          interpret: Run the kernel by Pallas' interpreter, slowly and on any backend, to test it.

        Raises:
          WiringError: a stage of the rule is not elementwise; names it.
        """
        kernel = Kernel(interpret, explicit=True)
        wiring.check_fusable(self.stages)
        return UpdateRule(self.stages, self.storages, kernel)

    def __repr__(self):
        kept = ", ".join(f"{name}={storage!r}" for name, storage in self.storages)
        fused = ", fused" if self.kernel else ""
        return wiring.line(self.stages) + (f" with {kept}" if kept else "") + fused

    def __reduce__(self):
        return UpdateRule, (self.stages, self.storages, self.kernel)


jax.tree_util.register_pytree_with_keys(
    UpdateRule,
    lambda rule: (((jax.tree_util.GetAttrKey("stages"), rule.stages),), (rule.storages, rule.kernel)),
    lambda fixed, children: UpdateRule(next(iter(children)), *fixed),
)


def update_rule(*stages: Stage) -> UpdateRule:
    """Builds a rule from its stages and checks that they fit together.

    Raises:
      TypeError: something that is not a stage.
      WiringError: a stage reads what no stage before it writes, or writes what no stage after it reads; no stage writes the update; two
        stages remember under one name.

    >>> update_rule(Momentum(0.9), TakeMomentum(), LearningRate(0.1))
    Momentum(b1=0.9) | TakeMomentum() | LearningRate(learning_rate=0.1)
    """
    return _checked(stages)


def _checked(stages, storages=(), kernel=None):
    wiring.check(stages, storages)
    if kernel:
        wiring.check_fusable(stages)
    return UpdateRule(tuple(stages), storages, kernel)


def _update(stages, storages, kernel, updates, state, params=None, **extra):
    """Optax's `update`: the updates, in the gradients' dtypes, and the new state. Extra arguments that no stage declares are for others."""
    _refuse_misspelt(stages, params, extra)
    updates, state, _ = execution.advance(stages, storages, updates, state, params, extra, kernel=kernel)
    return updates, state


def _refuse_misspelt(stages, params, extra):
    known = {name for stage in stages for name in (*stage.extras, *stage.scalar_extras)}
    absent = (known | ({"params"} if params is None else set())) - set(extra)
    for name in set(extra) - known:
        similar = difflib.get_close_matches(name, absent, n=1, cutoff=0.7)
        if similar:
            further = ", ".join(sorted(known))
            raise TypeError(
                f"got an unknown argument {name!r} and no {similar[0]}; the arguments are (grads, state, params"
                + (f", {further})." if further else ").")
            )


def axes_of(rule: R) -> R:
    """The `in_axes` tree of a batched rule (or chain) for `jax.vmap`: 0 where a leaf is an array with a leading axis, else None.

    >>> rules = update_rule(TakeGradient(), LearningRate(jnp.array([0.1, 0.2])))
    >>> print(jax.vmap(lambda rule: rule.update(1.0, rule.init(1.0))[0], in_axes=(axes_of(rules),))(rules))
    [-0.1 -0.2]
    """
    return jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, rule)


def stack(rules: Iterable[R]) -> R:
    """One batched rule of several of the same line: each leaf an array with a leading axis of length `len(rules)`.

    Raises:
      ValueError: no rules, or rules of different lines.
    """
    rules = list(rules)
    if len({jax.tree.structure(rule) for rule in rules}) != 1:
        lines = "; ".join(dict.fromkeys(repr(rule) for rule in rules)) or "none"
        raise ValueError(f"stack takes one or more rules of the same stages and static fields, got: {lines}.")
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *rules)
