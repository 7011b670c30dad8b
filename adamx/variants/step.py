"""Rules that change the size of the step."""

from adamx.rule import update_rule
from adamx.stages import DecoupledDecay, DivideByRoot, LearningRate, Momentum, SecondMoment, TrustRatio
from adamx.variants.common import where


def scale_by_lamb(b1=0.9, b2=0.999, eps=1e-6, eps_root=0.0, weight_decay=0.0, mask=None):
    """The direction of `lamb`, its weight decay included: that is inside the trust ratio."""
    return update_rule(
        Momentum(b1),
        SecondMoment(b2),
        DivideByRoot(eps, eps_root),
        where(DecoupledDecay(weight_decay), mask),
        TrustRatio(),
    )


def lamb(learning_rate, b1=0.9, b2=0.999, eps=1e-6, eps_root=0.0, weight_decay=0.0, mask=None):
    """LAMB, Adam with a trust ratio for each leaf (You et al., arXiv:1904.00962).

        u_t = m_t / (sqrt(v_t + eps_root) + eps) + weight_decay p_{t-1}
        p_t = p_{t-1} - learning_rate u_t ||p_{t-1}|| / ||u_t||    (the ratio is 1 where either norm is 0)

    with m_t, v_t as in `adam`. As timm and Optax: bias correction, and decay inside the ratio. Differs from pytorch_optimizer, which by
    default leaves out the second moment's correction, decays outside the ratio and holds ||p|| at 10.
    """
    return scale_by_lamb(b1, b2, eps, eps_root, weight_decay, mask).then(LearningRate(learning_rate))
