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
      shape: Shape of the leaf on which it is compared with the reference, of 12 elements.
      leaves: How many leaves of a tree the reference's one leaf is cut into, along its first axis.
    """

    rule: str
    hyper: dict = dataclasses.field(default_factory=dict)
    reference_hyper: dict = dataclasses.field(default_factory=dict)
    shape: tuple = (12,)
    leaves: int = 1


def build(case, learning_rate=None, **hyper):
    """The adamx rule of a case; what is given overrides the case's own."""
    chosen = {"learning_rate": 1e-2} | case.hyper | hyper
    learning_rate = chosen.pop("learning_rate") if learning_rate is None else learning_rate
    return adamx.create(case.rule, learning_rate, **{k: v for k, v in chosen.items() if k != "learning_rate"})


def reference_path(case, params, grads, learning_rate=1e-2, **hyper):
    """The reference's parameters after each step, for one leaf; `hyper` overrides the case's own."""
    learning_rate = case.hyper.get("learning_rate", learning_rate)
    chosen = FORMS.get(case.rule, {}) | case.hyper | case.reference_hyper | hyper
    arguments = {k: v for k, v in chosen.items() if v is not OMITTED and k != "learning_rate"}
    return REFERENCE[case.rule](params, grads, learning_rate, **arguments)


def two_values(count):
    """A schedule of decay rates that float32 holds exactly: 0.875, then 0.96875."""
    return 0.875 + 0.09375 * (count >= 10)


def halving(count):
    """A schedule of learning rates or weights, exact in float32."""
    return 0.03125 / (1 + (count >= 20))


def warm(count):
    """A schedule of learning rates that starts at 0, exact in float32."""
    return 0.03125 * (count >= 2) + 0.03125 * (count >= 5)


def by_rows(path, leaf):
    """The axes of a block in torch: all but the first, which counts the outputs."""
    return tuple(range(1, leaf.ndim))


def cube_root(count):
    """timm's clipping limit for ADOPT."""
    return count ** (1 / 3)


FORMS = {
    "acprop": {"form": "author"},
    "mars": {"betas_1d": None},
    "stable_spam": {"reset_form": "paper"},
}
"""Rule -> what tells the reference which of its forms the project chose."""

MATRIX = (3, 4)

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
    "qhadam_mixed": Case("qhadam", {"nu1": 0.5, "nu2": 0.25}),
    "simplified_ademamix_mixed": Case("simplified_ademamix", {"alpha": 2.0, "weight_decay": 0.3}),
    "simplified_ademamix_scheduled": Case("simplified_ademamix", {"alpha": halving, "b1": two_values}),
    "aggmo_one": Case("aggmo", {"betas": (0.5,)}),
    "adapnm_plain": Case("adapnm", {"amsgrad": False, "b3": 0.5, "weight_decay": 0.3}),
    "grams_decay": Case("grams", {"weight_decay": 0.3}),
    "adanorm_decay": Case("adanorm", {"weight_decay": 0.3}),
    "focus_decay": Case("focus", {"weight_decay": 0.3}),
    "tiger_plain": Case("tiger", {"weight_decay": 0.0}),
    "centered_adam_debiased": Case("centered_adam", {"debiased_mean": True, "eps": 0.1}),
    "acprop_decay": Case("acprop", {"weight_decay": 0.3, "eps_root": 1e-5}),
    "bcos_plain": Case("bcos", {"weight_decay": 0.0}),
    "kourkoutas_corrected": Case("kourkoutas", {"bias_correction": "beta2max", "warmup": 5}),
    "laprop_decay": Case("laprop", {"weight_decay": 0.03}),
    "laprop_scheduled": Case("laprop", {"learning_rate": halving}),
    "laprop_fixed": Case("laprop", {"running_learning_rate": False, "learning_rate": halving}),
    "adam_atan2_decay": Case("adam_atan2", {"weight_decay": 0.3, "a": 1.0, "b": 2.0}),
    "padam_plain": Case("padam", {"amsgrad": False, "partial": 0.4}),
    "adamod_decay": Case("adamod", {"weight_decay": 0.3, "b3": 0.9}),
    "adabound_decay": Case("adabound", {"weight_decay": 0.3, "gamma": 0.1}),
    "adabound_scheduled": Case("adabound", {"learning_rate": halving, "gamma": 0.1}),
    "amsbound_tight": Case("amsbound", {"gamma": 0.5}),
    "mars_matrix": Case("mars", shape=MATRIX),
    "mars_everywhere": Case("mars", {"optimize_1d": True, "weight_decay": 0.3}),
    "grokfast_adamw_plain": Case("grokfast_adamw", {"weight_decay": 0.0, "grokfast_lambda": 5.0}),
    "adagc_soon": Case("adagc", {"warmup": 10, "weight_decay": 0.3}),
    "adagc_at_once": Case("adagc", {"warmup": 0}),
    "stable_spam_resets": Case("stable_spam", {"reset_every": 7, "weight_decay": 0.3}),
    "stable_spam_never": Case("stable_spam", {"reset_every": None}),
    "lars_decay": Case("lars", {"weight_decay": 0.3, "eps": 1e-3, "trust_coefficient": 0.1}),
    "lars_nesterov": Case("lars", {"nesterov": True, "learning_rate": halving}),
    "stable_adamw_plain": Case("stable_adamw", {"weight_decay": 0.0}),
    "adamp_decay": Case("adamp", {"weight_decay": 0.3, "nesterov": True}),
    "adamp_matrix": Case(
        "adamp", {"weight_decay": 0.3, "delta": 0.5, "channel_axis": 0}, {"channel_axis": OMITTED}, MATRIX
    ),
    "adamc_scheduled": Case("adamc", {"learning_rate": halving, "peak": 0.03125}),
    "adams_tree": Case("adams", {"weight_decay": 0.3}, leaves=3),
    "adai_tree": Case("adai", {"weight_decay": 0.3}, leaves=3),
    "adai_decoupled": Case("adai", {"weight_decay": 0.3, "decoupled": True}),
    "prodigy_options": Case(
        "prodigy",
        {
            "learning_rate": 1.0,
            "weight_decay": 0.03,
            "bias_correction": True,
            "safeguard_warmup": True,
            "b3": 0.9,
            "d0": 1e-3,
        },
        leaves=3,
    ),
    "prodigy_limited": Case("prodigy", {"learning_rate": warm, "d0": 1e-3, "growth_rate": 1.1}),
    "dadapt_adamw_options": Case(
        "dadapt_adamw",
        {"learning_rate": 1.0, "weight_decay": 0.03, "bias_correction": True, "d0": 1e-3, "growth_rate": 1.2},
        leaves=3,
    ),
    "dadapt_adamw_limited": Case("dadapt_adamw", {"learning_rate": warm, "d0": 1e-3, "growth_rate": 1.1}),
    "dog_decay": Case("dog", {"learning_rate": 1.0, "weight_decay": 0.3, "reps_rel": 1e-2}, leaves=3),
    "dowg_tree": Case("dowg", {"learning_rate": 1.0}, leaves=3),
    "polyak_sgd_scaled": Case(
        "polyak_sgd", {"learning_rate": 0.05, "scaling": 0.5, "f_min": 0.1, "eps": 0.1}, leaves=3
    ),
    "schedule_free_decay": Case("schedule_free", {"learning_rate": warm, "weight_decay": 0.3, "r": 1.0}),
    "lookahead_often": Case("lookahead", {"sync_period": 3, "slow_step_size": 0.75, "weight_decay": 0.3}),
    "adafactor_matrix": Case(
        "adafactor", {"min_dim_size_to_factor": 2, "momentum": 0.9, "weight_decay_rate": 0.01}, shape=MATRIX
    ),
    "adafactor_three_axes": Case("adafactor", {"learning_rate": None, "min_dim_size_to_factor": 2}, shape=(2, 3, 2)),
    "adafactor_plain": Case(
        "adafactor", {"factored": False, "clipping_threshold": None, "multiply_by_parameter_scale": False}, shape=MATRIX
    ),
    "came_matrix": Case("came", {"weight_decay": 0.3}, shape=MATRIX),
    "came_batch": Case("came", {"b3": 0.99}, shape=(2, 3, 2)),
    "adam_mini_matrix": Case("adam_mini", {"weight_decay": 0.3, "block_axes": by_rows}, {"block_axes": (1,)}, MATRIX),
    "adam_mini_default": Case("adam_mini", {"block_axes": None}, {"block_axes": (0,)}, MATRIX),
    "sm3_matrix": Case("sm3", {"momentum": 0.5}, shape=MATRIX),
    "sm3_three_axes": Case("sm3", shape=(2, 3, 2)),
    "sophia_clipped": Case("sophia", {"rho": 3.0, "weight_decay": 0.0}),
    "adahessian_power": Case("adahessian", {"hessian_power": 0.5, "weight_decay": 0.3}),
    "muon_matrix": Case("muon", {"weight_decay": 0.3}, shape=MATRIX),
    "muon_tall": Case("muon", {"nesterov": False, "ns_steps": 3, "ns_coeffs": (2.0, -1.5, 0.5)}, shape=(6, 2)),
    "muon_adam": Case("muon", {"adam_b1": 0.8, "adam_b2": 0.9, "adam_weight_decay": 0.3}),
    "soap_matrix": Case("soap", {"precondition_frequency": 3, "shampoo_beta": 0.9}, shape=MATRIX),
    "soap_cube": Case("soap", {"precondition_frequency": 5, "weight_decay": 0.3}, shape=(2, 3, 2)),
    "soap_one_side": Case("soap", {"max_precond_dim": 3}, shape=MATRIX),
    "amos_options": Case(
        "amos",
        {"eta": 0.5, "momentum": 0.9, "clip_value": 1.0, "extra_l2": 0.1, "block_axes": (1,), "beta": 0.9},
        shape=MATRIX,
    ),
    "amos_scheduled": Case("amos", {"learning_rate": halving, "beta": 0.9}),
    "fromage_large": Case("fromage", {"learning_rate": 0.5}),
}

# Id -> Case. The id of a rule's default is its name.
CASES = {name: Case(name) for name in adamx.CATALOGUE} | OPTIONS
