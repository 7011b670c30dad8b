"""Stages that estimate how far the solution is, in the place of a learning rate (D-Adaptation, Prodigy)."""

import jax.numpy as jnp

from adamx.annotations import Decay, NonNegative, Number, Positive
from adamx.numerics import (
    clamped,
    debias_weight,
    decayed_sum,
    inner,
    l1_norm,
    mean_log_decay,
    moved,
    over_root,
    ratio,
    root,
    scaled,
)
from adamx.passes import ratio_in_sum
from adamx.stages.base import Slot, Stage, Wrapper, stage
from adamx.stages.moments import SecondMomentStage
from adamx.structure import static


def _root_of_rate(rate):
    """1 - sqrt(b) for rate = 1 - b, without cancellation."""
    return rate / (1 + root(1 - rate))


def _bounded(d):
    """An estimate no larger than the root of the dtype's range, so that steps stay within the range."""
    return jnp.minimum(d, float(jnp.finfo(d.dtype).max) ** 0.5 / 10)


class _Estimate(Stage):
    """What the two estimates share: the scalars of a step, and when there is one.

    Until a gradient is not zero nothing happens at all; a step of learning rate 0 changes neither the estimate nor the parameters.
    """

    scalar_slots: tuple[str, ...] = ("distance", "numerator", "moves")
    sums = ("product", "s_norm")
    elementwise = False

    def initial(self):
        return {"distance": self.d0}

    def scalars(self, t, last):
        kept = {name: last[name] for name in self.scalar_slots}
        rate3 = _root_of_rate(self.b2.complement) if self.b3 is None else self.b3.complement
        correction = self._correction(last["moves"] + 1) if self.bias_correction else 1.0
        step = last["distance"] * self.learning_rate * correction
        runs = jnp.where(self.learning_rate > 0, 1.0, 0.0)
        return kept | {"step": step, "rate3": rate3, "runs": runs, "rate_of_s": rate3 * runs}

    def _correction(self, n):
        first, second = (debias_weight(mean_log_decay(0.0, b.complement, 1.0), n) for b in (self.b1, self.b2))
        return root(second) / first

    def _grown(self, d):
        """The largest estimate after `d`."""
        return jnp.inf if self.growth_rate is None else d * self.growth_rate

    def _advanced(self, sums, k, new):
        """Scalars after the step: those of `new` if there is one, else as they were."""
        moves = (sums["s_norm"] > 0) & (k["runs"] > 0)
        new = new | {"moves": k["moves"] + 1}
        kept = {name: jnp.where(moves, value, k[name]) for name, value in new.items()}
        return kept | {"step": jnp.where(moves, k["step"], 0), "advances": jnp.where(moves, 1.0, 0.0)}


@stage
class ProdigyDistance(_Estimate):
    """Prodigy's estimate d of the distance to the solution; scales the gradient by it.

        step = d lr_t B,    B = sqrt(1 - b2^n) / (1 - b1^n) with bias_correction, else 1
        s   <- b3 s + (d / d0) step g,    N <- b3 N + (d / d0) step <g, p_0 - p>          (sums over the whole tree)
        D    = d_coef N / sum|s|,    where d = d0: d <- max(d, D);    D_max <- max(D_max, D);    d <- min(D_max, growth_rate d)
        g   <- d g with the old d

    Attributes:
      learning_rate: Factor lr_t; 1 by design.
      b1, b2: Decay rates of the moments that follow, for B.
      b3: Decay rate of the sums; None for sqrt(b2).
      d0: First estimate.
      d_coef: Factor of the estimate.
      growth_rate: Largest growth of d in one step; None for no limit.
      bias_correction: Whether B is there.
      safeguard_warmup: Leaves lr_t B out of s.
    """

    learning_rate: Number = 1.0
    b1: Decay = 0.9
    b2: Decay = 0.999
    b3: Decay | None = None
    d0: Positive = 1e-6
    d_coef: Number = 1.0
    growth_rate: Positive | None = None
    bias_correction: bool = static(default=False)
    safeguard_warmup: bool = static(default=False)

    slots = (Slot("p_start", precise=True), Slot("s", precise=True))
    scalar_slots = ("distance", "distance_max", "numerator", "moves")
    reads, writes = {"p", "g"}, {"g", "distance", "factor", "step"}

    def start(self, p):
        return {"p_start": p}

    def initial(self):
        return {"distance": self.d0, "distance_max": self.d0}

    def scalars(self, t, last):
        k = super().scalars(t, last)
        relative = k["distance"] / self.d0
        weight = relative * (k["distance"] if self.safeguard_warmup else k["step"])
        return k | {
            "old": k["distance"],
            "relative": relative,
            "of_s": weight * k["runs"],
            "of_product": relative * k["step"],
        }

    def _s(self, x, s, k):
        return clamped(decayed_sum(s["s"], scaled(k["of_s"], x.g), k["rate_of_s"]))

    def measure(self, x, s, k):
        return {
            "product": inner(x.g, s["p_start"] - x.p),
            "s_norm": l1_norm(self._s(x, s, k)),
        }

    def combine(self, sums, k):
        d = k["distance"]
        numerator = k["numerator"] - k["rate3"] * k["numerator"] + k["of_product"] * sums["product"]
        numerator = clamped(numerator)
        estimate = _bounded(self.d_coef * ratio(numerator, sums["s_norm"]))
        begun = jnp.where(d == self.d0, jnp.maximum(d, estimate), d)
        largest = jnp.maximum(k["distance_max"], estimate)
        new = jnp.minimum(largest, self._grown(begun))
        return self._advanced(sums, k, {"distance": new, "distance_max": largest, "numerator": numerator})

    def __call__(self, x, s, k):
        new = {"p_start": s["p_start"], "s": self._s(x, s, k)}
        g = clamped(scaled(k["old"] * k["runs"], x.g))
        return x.write(g=g, distance=k["distance"], factor=k["step"], step=k["step"]), new


@stage
class DAdaptation(Wrapper, _Estimate):
    """D-Adaptation's estimate d of the distance to the solution; scales the gradient by its step after the second moment saw it.

        step = d lr_t B,    B = sqrt(1 - b2^n) / (1 - b1^n) with bias_correction, else 1
        N   <- b3 N + (1 - b3) step <g, s / (sqrt(v) + eps)>    with the old s and v;    s <- b3 s + (1 - b3) step g
        D    = N / ((1 - b3) sum|s|),    d <- max(d, min(D, growth_rate d))               (sums over the whole tree)
        g   <- step g

    Attributes:
      inner: A second moment without bias correction.
      learning_rate: Factor lr_t; 1 by design.
      b1, b2: Decay rates of the moments, for B.
      b3: Decay rate of the sums; None for sqrt(b2).
      eps: Added to the root.
      d0: First estimate.
      growth_rate: Largest growth of d in one step; None for no limit.
      bias_correction: Whether B is there.
    """

    inner: SecondMomentStage
    learning_rate: Number = 1.0
    b1: Decay = 0.9
    b2: Decay = 0.999
    b3: Decay | None = None
    eps: NonNegative = 1e-8
    d0: Positive = 1e-6
    growth_rate: Positive | None = None
    bias_correction: bool = static(default=False)

    slots = property(lambda self: (*self.inner.slots, Slot("s", precise=True)))
    scalar_slots = property(lambda self: (*self.inner.scalar_slots, *_Estimate.scalar_slots))
    writes = property(lambda self: self.inner.writes | {"g", "factor", "step"})
    sums, elementwise = _Estimate.sums, False

    def initial(self):
        return self.inner.initial() | _Estimate.initial(self)

    def scalars(self, t, last):
        return self.inner.scalars(t, last) | _Estimate.scalars(self, t, last)

    def _of_inner(self, s):
        return {name: s[name] for name in s if name != "s"}

    def measure(self, x, s, k):
        v = self.inner.read_out(self._of_inner(s), k)
        following = moved(s["s"], scaled(k["step"], x.g), k["rate_of_s"])
        return {"product": inner(x.g, ratio_in_sum(s["s"], root(v) + self.eps)), "s_norm": l1_norm(following)}

    def combine(self, sums, k):
        d = k["distance"]
        numerator = clamped(k["numerator"] + k["rate3"] * (clamped(k["step"] * sums["product"]) - k["numerator"]))
        estimate = _bounded(ratio(numerator, k["rate3"] * sums["s_norm"]))
        new = jnp.maximum(d, jnp.minimum(estimate, self._grown(d)))
        return self._advanced(sums, k, {"distance": new, "numerator": numerator})

    def __call__(self, x, s, k):
        # By what the sums decided, so that no slot is written before they are there: a compiler would copy it. Of the new slots v reads
        # those that are kept, and s shares no term with the sum of its sizes: nothing else is made an array.
        before = self._of_inner(s)
        new = self.inner.accumulate(x, before, k)
        new = {name: jnp.where(k["advances"] > 0, value, before[name]) for name, value in new.items()}
        v = self.inner.mix(self.inner.read_out(self.inner.seen(before, new), k), x)
        y = self.inner.rewrite(x, k).write(v=v, g=clamped(scaled(k["step"], x.g)), factor=k["advances"], step=k["step"])
        return y, new | {"s": clamped(decayed_sum(s["s"], scaled(k["rate_of_s"] * k["step"], x.g), k["rate_of_s"]))}


@stage
class DivideByRootAtDistance(Stage):
    """u = m / d with d = sqrt(v) + distance eps, and 0 where d is 0 (Prodigy).

    Attributes:
      eps: Added to the root, times the estimate of the distance.
    """

    eps: NonNegative = 1e-8

    reads, writes = {"m", "v", "distance"}, {"d", "u"}

    def __call__(self, x, s, k):
        u, d = over_root(x.m, x.v, None, x.distance * self.eps)
        return x.write(d=d, u=u), s


@stage
class DistanceStep(Stage):
    """u <- -factor u, with the factor and the learning rate that the estimate of the distance gave."""

    reads, writes = {"u", "factor", "step"}, {"u", "lr"}
    before = {"lr"}

    def __call__(self, x, s, k):
        return x.write(u=scaled(-x.factor, x.u), lr=x.step), s
