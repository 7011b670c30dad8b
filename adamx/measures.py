"""What can be measured of an optimizer's step: pure functions of its signals."""

from adamx.measure_kinds import Cosine, Mean, Norm, Quantiles, RatioOfRootMeanSquares, RootMeanSquare, inner
from adamx.numerics import ratio, root

# Functions with names, so that a measure can be pickled.


def _gradient(x):
    return x.raw


def _descent(x):
    return -x.raw


def _parameter(x):
    return x.p


def _update(x):
    return x.u


def _momentum(x):
    return x.m


def _learning_rate_over_denominator(x):
    return ratio(x.lr, x.d)


def _momentum_over_root(x):
    return ratio(x.m, root(x.v))


def _gradient_over_root(x):
    return ratio(x.raw, root(x.v))


def _points_down(x):
    return inner(x.u, -x.raw) > 0


def _is_mostly_eps(x):
    return root(x.v) < x.d / 2


gradient_norm = Norm("gradient_norm", {"raw"}, _gradient)
"""Global norm of the gradient as given to the rule: behind a clipping transformation in a chain, of the clipped one."""

update_norm = Norm("update_norm", {"u"}, _update)
"""Global norm of the update, learning rate included."""

gradient_rms = RootMeanSquare("gradient_rms", {"raw"}, _gradient)
"""RMS of the gradient as given."""

parameter_rms = RootMeanSquare("parameter_rms", {"p"}, _parameter)
"""RMS of the parameter before the step."""

update_rms = RootMeanSquare("update_rms", {"u"}, _update)
"""RMS of the update, learning rate included."""

update_ratio = RatioOfRootMeanSquares("update_ratio", {"u", "p"}, _update, _parameter)
"""RMS(update) / RMS(parameter): about 1e-3 in healthy training."""

effective_learning_rate = Quantiles("effective_learning_rate", {"lr", "d"}, _learning_rate_over_denominator)
"""Quantiles (5, 50, 95 %) of learning rate / denominator, the factor of the momentum in each coordinate."""

signal_to_noise = RootMeanSquare("signal_to_noise", {"m", "v"}, _momentum_over_root)
"""RMS of m / sqrt(v): near 1 where gradients agree from step to step, near 0 where they are noise."""

alignment = Cosine("alignment", {"u", "raw"}, _update, _descent)
"""Cosine of update and negative gradient: 1 is steepest descent; below 0 the step climbs."""

momentum_alignment = Cosine("momentum_alignment", {"m", "raw"}, _momentum, _gradient)
"""Cosine of momentum and gradient."""

sign_agreement = Mean("sign_agreement", {"u", "raw"}, _points_down)
"""Share of coordinates whose update points down their gradient."""

eps_share = Mean("eps_share", {"v", "d"}, _is_mostly_eps)
"""Share of coordinates where eps is more than half of the denominator."""

staleness = RootMeanSquare("staleness", {"raw", "v"}, _gradient_over_root)
"""RMS of gradient / sqrt(v): above 1, the second moment lags behind gradients that have grown."""

MEASURES = {
    measure.name: measure
    for measure in (
        gradient_norm,
        update_norm,
        gradient_rms,
        parameter_rms,
        update_rms,
        update_ratio,
        effective_learning_rate,
        signal_to_noise,
        alignment,
        momentum_alignment,
        sign_agreement,
        eps_share,
        staleness,
    )
}
"""Name -> measure, all of them."""
