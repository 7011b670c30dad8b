"""The configurations of rules that several test modules run: each rule's default, and each of its options."""

import dataclasses

from reference import REFERENCE, alpha_schedule, b3_schedule

import adamx

OMITTED = object()
"""An argument of the rule that the reference does not have under that name."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One configuration.

    Attributes:
      rule: Name in `adamx.CATALOGUE` and in `reference.REFERENCE`.
      hyper: Arguments of the rule's function, beside the learning rate.
      reference_hyper: Those that the reference takes otherwise: a schedule of its own, or another name (and `OMITTED` for the old one).
    """

    rule: str
    hyper: dict = dataclasses.field(default_factory=dict)
    reference_hyper: dict = dataclasses.field(default_factory=dict)


def build(case, learning_rate=1e-2, **hyper):
    """The adamx rule of a case; `hyper` overrides the case's own."""
    return adamx.CATALOGUE[case.rule].constructor(learning_rate, **(case.hyper | hyper))


def reference_path(case, params, grads, learning_rate=1e-2, **hyper):
    """The reference's parameters after each step, for one leaf; `hyper` overrides the case's own."""
    arguments = {k: v for k, v in (case.hyper | case.reference_hyper | hyper).items() if v is not OMITTED}
    return REFERENCE[case.rule](params, grads, learning_rate, **arguments)


def two_values(count):
    """A schedule of decay rates that float32 holds exactly: 0.875, then 0.96875."""
    return 0.875 + 0.09375 * (count >= 10)


def halving(count):
    """A schedule of learning rates or weights, exact in float32."""
    return 0.03125 / (1 + (count >= 20))


def cube_root(count):
    """timm's clipping limit for ADOPT."""
    return count ** (1 / 3)


OPTIONS = {
    "sgd_momentum": Case("sgd", {"momentum": 0.9}),
    "sgd_nesterov": Case("sgd", {"momentum": 0.9, "nesterov": True}),
    "rmsprop_eps_outside": Case("rmsprop", {"eps_in_sqrt": False}),
    "rmsprop_initial_scale": Case("rmsprop", {"initial_scale": 0.5}),
    "rmsprop_first": Case("rmsprop", {"initial_scale": "first"}),
    "rmsprop_bias_correction": Case("rmsprop", {"bias_correction": True}),
    "rmsprop_centered": Case("rmsprop", {"centered": True}),
    "rmsprop_centered_bias_correction": Case("rmsprop", {"centered": True, "bias_correction": True}),
    "rmsprop_centered_initial_scale": Case("rmsprop", {"centered": True, "initial_scale": 0.5}),
    "rmsprop_momentum": Case("rmsprop", {"momentum": 0.9}),
    "rmsprop_nesterov": Case("rmsprop", {"momentum": 0.9, "nesterov": True}),
    "adagrad_eps_outside": Case("adagrad", {"eps_in_sqrt": False}),
    "adagrad_from_zero": Case("adagrad", {"initial_accumulator_value": 0.0}),
    "adadelta_decay": Case("adadelta", {"weight_decay": 0.1}),
    "adam_eps": Case("adam", {"eps": 1e-3, "eps_root": 1e-4}),
    "adam_without_averages": Case("adam", {"b1": 0.0, "b2": 0.0}),
    "adam_nesterov": Case("adam", {"nesterov": True}),
    "adam_scheduled": Case("adam", {"b1": two_values, "b2": two_values}),
    "adamw_decay": Case("adamw", {"weight_decay": 0.3}),
    "adamw_scheduled_decay": Case("adamw", {"weight_decay": halving}),
    "adamw_nesterov": Case("adamw", {"nesterov": True}),
    "adamaxw_decay": Case("adamaxw", {"weight_decay": 0.3}),
    "amsgrad_debiased": Case("amsgrad", {"maximum_of": "debiased"}),
    "amsgrad_paper": Case("amsgrad", {"maximum_of": "paper"}),
    "amsgradw_decay": Case("amsgradw", {"weight_decay": 0.3}),
    "yogi_from_zero": Case("yogi", {"initial_accumulator_value": 0.0}),
    "yogi_first": Case("yogi", {"initial_accumulator_value": "first"}),
    "adabelief_nesterov": Case("adabelief", {"nesterov": True}),
    "adabelief_eps": Case("adabelief", {"eps": 1e-4, "eps_root": 1e-5}),
    "nadam_torch": Case("nadam", {"momentum_decay": 0.004}),
    "nadam_keras": Case("nadam", {"momentum_decay": 1.0}),
    "nadamw_decay": Case("nadamw", {"weight_decay": 0.3}),
    "nadamw_torch": Case("nadamw", {"momentum_decay": 0.004, "weight_decay": 0.3}),
    "radam_wait": Case("radam", {"warmup": "none"}),
    "radam_nesterov": Case("radam", {"nesterov": True}),
    "radam_short": Case("radam", {"b2": 0.9}),
    "lion_decay": Case("lion", {"weight_decay": 0.3}),
    "lamb_decay": Case("lamb", {"weight_decay": 0.3}),
    "adan_decay": Case("adan", {"weight_decay": 0.3}),
    "adan_proximal": Case("adan", {"weight_decay": 0.3, "proximal": True}),
    "novograd_decay": Case("novograd", {"weight_decay": 0.3}),
    "ademamix_decay": Case("ademamix", {"weight_decay": 0.3}),
    "ademamix_schedules": Case(
        "ademamix",
        {"alpha": adamx.ademamix_alpha_schedule(5.0, 40), "b3": adamx.ademamix_b3_schedule(0.9, 0.9999, 40)},
        {"alpha": alpha_schedule(5.0, 40), "b3": b3_schedule(0.9, 0.9999, 40)},
    ),
    "adopt_nesterov": Case("adopt", {"nesterov": True}),
    "adopt_unclipped": Case("adopt", {"use_clipping": False}),
    "adopt_timm": Case("adopt", {"clip_value_fn": cube_root}, {"clip_value_fn": OMITTED, "clip": cube_root}),
}

# Id -> Case. The id of a rule's default is its name.
CASES = {name: Case(name) for name in adamx.CATALOGUE} | OPTIONS
