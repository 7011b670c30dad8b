"""Which points go on: successive halving and targets."""

import dataclasses
import math
import numbers
from collections.abc import Sequence

import numpy as np

from adamx.sweep.tasks import LOSS


@dataclasses.dataclass(frozen=True)
class Halving:
    """Successive halving (Jamieson & Talwalkar, arXiv:1502.07943): at each rung the best 1 / `factor` of the points go on.

    Rungs are at `first_rung`, `first_rung * factor`, `first_rung * factor**2`, ... steps. Points are ranked by the mean over seeds; one
    with a diverged lane is behind all that have none.

    Attributes:
      first_rung: Steps that every point makes.
      factor: 2 or more.
      keep_at_least: Points of each name that go on whatever their rank.
      metric: What they are ranked by.
    """

    first_rung: int
    factor: int = 3
    keep_at_least: int = 1
    metric: str = LOSS

    def __post_init__(self):
        whole = all(isinstance(n, numbers.Integral) for n in (self.first_rung, self.factor, self.keep_at_least))
        if not whole or self.first_rung < 1 or self.factor < 2 or self.keep_at_least < 1:
            raise ValueError(
                f"Halving needs first_rung >= 1, factor >= 2 and keep_at_least >= 1, whole numbers, got {self}."
            )

    def rungs(self, steps: int) -> list[int]:
        """The rungs of a run of `steps` steps."""
        count = math.ceil(math.log(max(steps / self.first_rung, 1), self.factor)) + 1
        return [rung for rung in (self.first_rung * self.factor**i for i in range(count)) if rung < steps]

    def kept(self, scores: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Which points go on: boolean (n,).

        Args:
          scores: Array (n,), less is better; infinite, of a diverged point, is last.
          names: The name of each point.

        >>> Halving(10, factor=2).kept(np.array([3.0, 1.0, 2.0, np.inf]), list("aaab"))
        array([False,  True,  True,  True])
        """
        order = np.argsort(scores, kind="stable")
        kept = np.zeros(len(scores), bool)
        kept[order[: math.ceil(len(scores) / self.factor)]] = True
        for name in dict.fromkeys(names):
            own = [i for i in order if names[i] == name]
            kept[own[: self.keep_at_least]] = True
        return kept


def reached(target, metrics, maximise):
    """Where every metric of `target` is as good as it says: boolean, of the metrics' shape."""
    sign = {name: -1 if name in maximise else 1 for name in target}
    return np.logical_and.reduce([sign[n] * metrics[n] <= sign[n] * value for n, value in target.items()])
