"""Optax's states: of a rule's, a rule's of them, and rules that keep them as their own."""

import functools

import jax
import jax.numpy as jnp
import optax

from adamx.interop.optax_form import form_of
from adamx.rule import RuleTree
from adamx.transforms import Chain


def optax_state(rule, state):
    """The state that Optax's optimizer of the same name and options would have.

    Args:
      rule: A rule that Optax has too, or a chain or partition of such (and of Optax's transformations).
      state: Its state.

    Returns:
      The tree that `optax.NAME(...)` makes, with the arrays of `state`: moments in the rule's precision, which is float32 or more. That of
      `adafactor()` is Optax's with a learning rate of 1, not None.

    Raises:
      TypeError: no rule.
      ValueError: Optax has no such rule, or its state means something else.

    >>> params = {"w": jnp.zeros(2)}
    >>> state = optax_state(adam(0.1), adam(0.1).init(params))
    >>> jax.tree.structure(state) == jax.tree.structure(optax.adam(0.1).init(params))
    True
    """
    form = form_of(rule)
    return form.write(state, form.counts_in(state))


def from_optax(rule, opt_state):
    """The state of a rule, from that of Optax's optimizer of the same name and options.

    Args:
      rule: As of `optax_state`.
      opt_state: Optax's state: the tree that `optax.NAME(...)` makes, as it is or restored from a checkpoint.

    Returns:
      The state of `rule`, its slots in the precision in which the rule keeps them. Where Optax's state has no count the count is 0. The
      means of log decays, which Optax does not keep, are 0: they are taken from the present decay rates.

    Raises:
      TypeError: no rule.
      ValueError: not the tree of that optimizer; its counts differ; Optax has no such rule, or its state means something else.

    >>> params = {"w": jnp.array([1.0, -2.0])}
    >>> theirs, ours = optax.adam(0.1), adam(0.1)
    >>> _, state = theirs.update(params, theirs.init(params))
    >>> from_optax(ours, state).count
    Array(1, dtype=int32)
    """
    state, counts = form_of(rule).read(opt_state)
    unknown = jax.core.Tracer | jax.ShapeDtypeStruct
    known = {int(count) for count in jax.tree.leaves(counts) if not isinstance(count, unknown)}
    if len(known) > 1:
        raise ValueError(
            f"the counts in Optax's state differ ({', '.join(map(str, sorted(known)))}), and a rule has one: set them to one by "
            "optax.tree.set(opt_state, count=...), or go on with adamx.optax_layout(rule), which keeps each of them."
        )
    return state


def optax_layout(rule):
    """The rule with Optax's state as its own, for code that reads optimizer states, and for checkpoints of Optax's optimizers.

    Its state is the tree that `optax.NAME(...)` makes, in the rule's precision, and may be edited as Optax's: each count in it is its own,
    as there, so that a schedule may go on where the moments begin anew. Updates are the rule's, bit for bit (but of `prodigy` and
    `dadapt_adamw` after a step that does not move, which Optax counts). Where Optax has no count, `signals.t` of `trace` is 1.
    `eval_params` takes the rule and `from_optax(rule, state)`.

    Args:
      rule: As of `optax_state`.

    Returns:
      A gradient transformation that is a pytree of the rule's hyperparameters, with `update`, `step`, `trace` and `get` as the rule.

    Raises:
      TypeError: no rule.
      ValueError: Optax has no such rule, or its state means something else.

    >>> tx = optax_layout(adamw(optax.constant_schedule(0.1)))
    >>> state = tx.init({"w": jnp.zeros(2)})
    >>> state[0].mu
    {'w': Array([0., 0.], dtype=float32)}
    >>> optax.tree.get(state, "ScaleByScheduleState").count
    Array(0, dtype=int32)
    """
    if isinstance(rule, OptaxLayout):
        return rule
    if isinstance(rule, Chain):
        return Chain(tuple(optax_layout(part) if isinstance(part, RuleTree) else part for part in rule.parts))
    form_of(rule)
    return OptaxLayout(rule)


class OptaxLayout(RuleTree):
    """A rule whose state is Optax's; see `optax_layout`.

    Attributes:
      rule: The rule.
    """

    def __new__(cls, rule):
        """Unchecked; JAX calls it with placeholders. Use `optax_layout`."""
        self = super().__new__(cls, functools.partial(_init, rule), functools.partial(_update, rule))
        self.rule = rule
        return self

    @property
    def stages(self):
        """The stages of the rule."""
        return self.rule.stages

    def trace(self, grads, state, params=None, **extra):
        """`update`, and a look inside, as of the rule."""
        return _through("trace", self.rule, grads, state, params, extra)

    def step(self, grads, state, params, **extra):
        """Update and apply in one, as of the rule.

        Raises:
          ValueError: a parameter would be rounded stochastically, but Optax's state has no count, of which the random bits are made.
        """
        narrow = [p.dtype for p in jax.tree.leaves(params) if getattr(p, "dtype", None) in (jnp.bfloat16, jnp.float16)]
        if narrow and form_of(self.rule).lacks_count:
            raise ValueError(
                f"{narrow[0].name} parameters are rounded at random in each step, for which this state has no count. Round to nearest: "
                "optax_layout(rule.store(params=adamx.Nearest())), or update and optax.apply_updates."
            )
        return _through("step", self.rule, grads, state, params, extra)

    def __repr__(self):
        return f"optax_layout({self.rule!r})"

    def __reduce__(self):
        return OptaxLayout, (self.rule,)


jax.tree_util.register_pytree_with_keys(
    OptaxLayout,
    lambda tx: (((jax.tree_util.GetAttrKey("rule"), tx.rule),), None),
    lambda _, children: OptaxLayout(*children),
)


def _init(rule, params):
    return optax_state(rule, rule.init(params))


def _update(rule, updates, state, params=None, **extra):
    """Optax's `update`: the updates, in the gradients' dtypes, and the new state in Optax's layout."""
    return _through("update", rule, updates, state, params, extra)


def _through(method, rule, grads, opt_state, params, extra):
    """A method of the rule, on a state in Optax's layout."""
    form = form_of(rule)
    state, counts = form.read(opt_state)
    out, state, *signals = getattr(form.at(counts), method)(grads, state, params, **extra)
    following = jax.tree.map(lambda count: optax.safe_increment(jnp.asarray(count)), counts)
    return out, form.write(state, following), *signals
