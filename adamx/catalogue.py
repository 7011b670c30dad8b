"""All rules. The catalogue drives the tests, `python -m adamx`, the README's table and `create`."""

import dataclasses
import difflib
import functools
from collections.abc import Callable
from typing import Any

from adamx.annotations import Scalar
from adamx.checks import known_rules
from adamx.rule import RuleTree
from adamx.variants import (
    adam,
    around,
    baselines,
    denominator,
    factored,
    first_moment,
    gradient,
    layerwise,
    matrix,
    mixed_momentum,
    oracle,
    rate,
    second_moment,
    variance,
    whole_tree,
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One rule.

    Attributes:
      name: Its name, also of its function.
      constructor: `NAME(learning_rate, ...)`.
      scale_by: `scale_by_NAME(...)`, the direction alone; None where the learning rate is inside.
      paper: Where it was published.
      year: When.
      group: What kind of piece it changes.
      changes: What it changes, in a phrase.
    """

    name: str
    constructor: Callable[..., RuleTree]
    scale_by: Callable[..., RuleTree] | None
    paper: str
    year: int
    group: str
    changes: str


def _entry(module, name, paper, year, group, changes):
    return Entry(name, getattr(module, name), getattr(module, f"scale_by_{name}", None), paper, year, group, changes)


CATALOGUE = {
    entry.name: entry
    for entry in (
        _entry(baselines, "sgd", "Polyak 1964; Nesterov 1983", 1964, "baseline", "plain, heavy ball or Nesterov"),
        _entry(baselines, "momentum", "fast.ai course", 2018, "baseline", "exponential average of the gradient"),
        _entry(baselines, "adagrad", "Duchi et al., JMLR 12", 2011, "baseline", "sum of squares"),
        _entry(
            baselines, "rmsprop", "Tieleman & Hinton; Graves arXiv:1308.0850", 2012, "baseline", "average of squares"
        ),
        _entry(baselines, "adadelta", "arXiv:1212.5701", 2012, "baseline", "ratio of two root mean squares"),
        _entry(adam, "adam", "arXiv:1412.6980", 2014, "adam", "average over root of average of squares"),
        _entry(adam, "adamw", "arXiv:1711.05101", 2017, "adam", "Adam with decoupled weight decay"),
        _entry(adam, "adamax", "arXiv:1412.6980", 2014, "adam", "decayed maximum instead of root"),
        _entry(adam, "adamaxw", "arXiv:1412.6980", 2014, "adam", "Adamax with decoupled weight decay"),
        _entry(first_moment, "nadam", "Dozat, ICLR workshop", 2016, "first moment", "Nesterov's look-ahead"),
        _entry(
            first_moment, "nadamw", "Dozat, ICLR workshop", 2016, "first moment", "NAdam with decoupled weight decay"
        ),
        _entry(first_moment, "adan", "arXiv:2208.06677", 2022, "first moment", "adds the gradient's difference"),
        _entry(first_moment, "lion", "arXiv:2302.06675", 2023, "first moment", "sign of an interpolation"),
        _entry(first_moment, "ademamix", "arXiv:2409.03137", 2024, "first moment", "adds a slow average"),
        _entry(second_moment, "amsgrad", "openreview ryQu7f-RZ", 2018, "second moment", "largest average so far"),
        _entry(
            second_moment, "amsgradw", "openreview ryQu7f-RZ", 2018, "second moment", "AMSGrad with decoupled decay"
        ),
        _entry(second_moment, "yogi", "NeurIPS 2018", 2018, "second moment", "bounded change of the average"),
        _entry(second_moment, "adabelief", "arXiv:2010.07468", 2020, "second moment", "squared surprise"),
        _entry(second_moment, "novograd", "arXiv:1905.11286", 2019, "second moment", "one norm a layer, then momentum"),
        _entry(second_moment, "adopt", "arXiv:2411.02853", 2024, "second moment", "last step's average, then momentum"),
        _entry(denominator, "radam", "arXiv:1908.03265", 2019, "denominator", "rectified variance of early steps"),
        _entry(layerwise, "lamb", "arXiv:1904.00962", 2019, "layers", "trust ratio a layer"),
        _entry(layerwise, "lars", "arXiv:1708.03888", 2017, "layers", "SGD with a rate for each layer"),
        _entry(layerwise, "fromage", "arXiv:2002.03432", 2020, "layers", "steps relative to the layer's norm"),
        _entry(layerwise, "stable_adamw", "arXiv:2304.13013", 2023, "layers", "slows layers that are surprised"),
        _entry(layerwise, "adamp", "arXiv:2006.08217", 2020, "layers", "takes the radial part of the step away"),
        _entry(mixed_momentum, "qhadam", "arXiv:1810.06801", 2018, "first moment", "mixes the gradient in"),
        _entry(
            mixed_momentum, "simplified_ademamix", "arXiv:2502.02431", 2025, "first moment", "decayed sum and gradient"
        ),
        _entry(layerwise, "signum", "arXiv:1802.04434", 2018, "first moment", "sign of the average"),
        _entry(layerwise, "tiger", "Su, kexue.fm 9512", 2023, "first moment", "sign of the average, decayed"),
        _entry(mixed_momentum, "adapnm", "arXiv:2103.17182", 2021, "first moment", "newer average minus older one"),
        _entry(mixed_momentum, "aggmo", "arXiv:1804.00325", 2018, "first moment", "mean of several heavy balls"),
        _entry(mixed_momentum, "grams", "arXiv:2412.17107", 2024, "first moment", "sign of the gradient, size of Adam"),
        _entry(mixed_momentum, "adanorm", "arXiv:2210.06364", 2022, "first moment", "no smaller norm than usual"),
        _entry(
            layerwise, "focus", "arXiv:2501.12243", 2025, "first moment", "sign, and pull to the average parameters"
        ),
        _entry(variance, "centered_adam", "Graves arXiv:1308.0850", 2013, "second moment", "variance, never negative"),
        _entry(variance, "acprop", "arXiv:2110.05454", 2021, "second moment", "last step's squared surprise"),
        _entry(variance, "eadam", "arXiv:2011.02150", 2020, "second moment", "eps in the average"),
        _entry(variance, "msvag", "arXiv:1705.07774", 2017, "second moment", "scales by signal over variance"),
        _entry(variance, "bcos", "arXiv:2507.08963", 2025, "second moment", "expected from the momentum, no slot"),
        _entry(variance, "kourkoutas", "arXiv:2508.12996", 2025, "second moment", "b2 a layer, lower at spikes"),
        _entry(rate, "laprop", "arXiv:2002.04839", 2020, "denominator", "normalises, then averages"),
        _entry(rate, "adam_atan2", "arXiv:2407.05872", 2024, "denominator", "atan2, no eps"),
        _entry(rate, "padam", "arXiv:1806.06763", 2018, "denominator", "power of the root"),
        _entry(rate, "diffgrad", "arXiv:1909.11015", 2019, "denominator", "friction at steady gradients"),
        _entry(rate, "adabound", "openreview Bkg3g2R9FX", 2019, "rate", "bounds that close in on SGD"),
        _entry(rate, "amsbound", "openreview Bkg3g2R9FX", 2019, "rate", "AdaBound of the largest average"),
        _entry(rate, "adamod", "arXiv:1910.12249", 2019, "rate", "no more than its own average"),
        _entry(gradient, "mars", "arXiv:2411.10438", 2024, "gradient", "variance reduced by the last one"),
        _entry(gradient, "grokfast_adamw", "arXiv:2405.20233", 2024, "gradient", "slow part amplified"),
        _entry(gradient, "adagc", "arXiv:2502.11034", 2025, "gradient", "clipped to the layer's usual norm"),
        _entry(gradient, "stable_spam", "arXiv:2502.17055", 2025, "gradient", "spikes clipped, moments forgotten"),
        _entry(layerwise, "adamc", "arXiv:2506.02285", 2025, "decay", "decay with the squared learning rate"),
        _entry(whole_tree, "adams", "arXiv:2011.11152", 2020, "decay", "decay relative to the tree's second moment"),
        _entry(factored, "adafactor", "arXiv:1804.04235", 2018, "memory", "rows and columns of squares"),
        _entry(factored, "came", "arXiv:2307.02047", 2023, "memory", "Adafactor with momentum and confidence"),
        _entry(factored, "adam_mini", "arXiv:2406.16793", 2024, "memory", "one second moment a block"),
        _entry(factored, "sm3", "arXiv:1901.11150", 2019, "memory", "one number for each index of an axis"),
        _entry(whole_tree, "adai", "arXiv:2006.15815", 2020, "first moment", "inertia by the second moment"),
        _entry(whole_tree, "prodigy", "arXiv:2306.06101", 2023, "learning rate", "estimates the distance to go"),
        _entry(whole_tree, "dadapt_adamw", "arXiv:2301.07733", 2023, "learning rate", "estimates the distance to go"),
        _entry(whole_tree, "dog", "arXiv:2302.12022", 2023, "learning rate", "distance over gradients"),
        _entry(whole_tree, "dowg", "arXiv:2305.16284", 2023, "learning rate", "distance over weighted gradients"),
        _entry(whole_tree, "polyak_sgd", "arXiv:2002.10542", 2020, "learning rate", "loss over squared gradient"),
        _entry(around, "schedule_free", "arXiv:2405.15682", 2024, "around", "average in the place of a schedule"),
        _entry(around, "lookahead", "arXiv:1907.08610", 2019, "around", "slow weights that follow"),
        _entry(oracle, "sophia", "arXiv:2305.14342", 2023, "curvature", "clipped Newton step"),
        _entry(oracle, "adahessian", "arXiv:2006.00719", 2020, "curvature", "Hessian's diagonal squared"),
        _entry(matrix, "muon", "Jordan, kellerjordan.github.io/posts/muon", 2024, "matrix", "equal singular values"),
        _entry(matrix, "soap", "arXiv:2409.11321", 2024, "matrix", "Adam in Shampoo's eigenbasis"),
        _entry(matrix, "amos", "arXiv:2210.11693", 2022, "decay", "step and decay fall together"),
    )
}
"""Name -> `Entry`, in the order of the table."""

known_rules.update({name: functools.partial(entry.constructor, 1e-3) for name, entry in CATALOGUE.items()})


def entry_of(name: str) -> Entry:
    """The `Entry` called `name`.

    Raises:
      ValueError: unknown; names the nearest ones.
    """
    if name not in CATALOGUE:
        near = difflib.get_close_matches(str(name).lower().replace("-", "_"), CATALOGUE, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(f"unknown rule {name!r}; {hint}`python -m adamx` lists all {len(CATALOGUE)}.")
    return CATALOGUE[name]


def create(name: str, learning_rate: Scalar, **hyperparameters: Any) -> Any:
    """The rule called `name`.

    Raises:
      ValueError: unknown; names the nearest ones.

    >>> create("adam", 0.1, b2=0.99)
    Momentum(b1=0.9) | SecondMoment(b2=0.99) | DivideByRoot(eps=1e-08) | LearningRate(learning_rate=0.1)
    """
    return entry_of(name).constructor(learning_rate, **hyperparameters)
