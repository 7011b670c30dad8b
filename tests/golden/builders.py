"""The libraries' optimizers of `more_cases.py`: adamx's argument names on the left, the library's on the right."""

import pytorch_optimizer as po
import torch


def qhadam(p, learning_rate, b1, b2, nu1, nu2, eps):
    return po.QHAdam(p, lr=learning_rate, betas=(b1, b2), nus=(nu1, nu2), eps=eps)


def laprop(p, learning_rate, b1, b2, eps):
    return po.LaProp(p, lr=learning_rate, betas=(b1, b2), eps=eps)


def stable_adamw(p, learning_rate, b1, b2, eps, weight_decay):
    return po.StableAdamW(p, lr=learning_rate, betas=(b1, b2), eps=eps, weight_decay=weight_decay)


def mars(p, learning_rate, b1, b2, eps, gamma, weight_decay=0.0):
    return po.MARS(
        p,
        lr=learning_rate,
        lr_1d=learning_rate,
        betas=(b1, b2),
        betas_1d=(b1, b2),
        eps=eps,
        gamma=gamma,
        weight_decay=weight_decay,
        weight_decay_1d=weight_decay,
    )


def adabound(p, learning_rate, b1, b2, final_lr, gamma, eps, weight_decay=0.0, ams_bound=False):
    return po.AdaBound(
        p,
        lr=learning_rate,
        betas=(b1, b2),
        final_lr=final_lr,
        gamma=gamma,
        eps=eps,
        weight_decay=weight_decay,
        weight_decouple=False,
        ams_bound=ams_bound,
    )


def amsbound(p, **hyper):
    return adabound(p, **hyper, ams_bound=True)


def padam(p, learning_rate, b1, b2, eps, partial, amsgrad):
    return po.PAdam(p, lr=learning_rate, betas=(b1, b2), partial=partial, eps=eps)


def diffgrad(p, learning_rate, b1, b2, eps):
    return po.DiffGrad(p, lr=learning_rate, betas=(b1, b2), eps=eps)


def adamod(p, learning_rate, b1, b2, b3, eps, weight_decay=0.0):
    return po.AdaMod(p, lr=learning_rate, betas=(b1, b2, b3), eps=eps, weight_decay=weight_decay, weight_decouple=True)


def adamp(p, learning_rate, b1, b2, eps, weight_decay, delta, wd_ratio, nesterov):
    return po.AdamP(
        p,
        lr=learning_rate,
        betas=(b1, b2),
        eps=eps,
        weight_decay=weight_decay,
        delta=delta,
        wd_ratio=wd_ratio,
        nesterov=nesterov,
    )


def simplified_ademamix(p, learning_rate, b1, b2, alpha, eps, weight_decay):
    return po.SimplifiedAdEMAMix(p, lr=learning_rate, betas=(b1, b2), alpha=alpha, eps=eps, weight_decay=weight_decay)


def grams(p, learning_rate, b1, b2, eps, weight_decay):
    return po.Grams(p, lr=learning_rate, betas=(b1, b2), eps=eps, weight_decay=weight_decay)


def adapnm(p, learning_rate, b1, b2, b3, eps, weight_decay, amsgrad):
    return po.AdaPNM(p, lr=learning_rate, betas=(b1, b2, b3), eps=eps, weight_decay=weight_decay, ams_bound=amsgrad)


def msvag(p, learning_rate, beta):
    return po.MSVAG(p, lr=learning_rate, beta=beta)


def aggmo(p, learning_rate, betas):
    return po.AggMo(p, lr=learning_rate, betas=tuple(betas))


def grokfast_adamw(p, learning_rate, b1, b2, grokfast_alpha, grokfast_lambda, eps, weight_decay):
    return po.GrokFastAdamW(
        p,
        lr=learning_rate,
        betas=(b1, b2),
        grokfast_alpha=grokfast_alpha,
        grokfast_lamb=grokfast_lambda,
        eps=eps,
        weight_decay=weight_decay,
        normalize_lr=False,
    )


def adamc(p, learning_rate, b1, b2, eps, weight_decay, peak=None):
    return torch.optim.AdamW(p, lr=learning_rate, betas=(b1, b2), eps=eps, weight_decay=weight_decay)


def adanorm(p, learning_rate, b1, b2, r, eps, weight_decay=0.0):
    return po.AdaNorm(p, lr=learning_rate, betas=(b1, b2), r=r, eps=eps, weight_decay=weight_decay)


def focus(p, learning_rate, b1, b2, gamma, weight_decay=0.0):
    return po.FOCUS(p, lr=learning_rate, betas=(b1, b2), gamma=gamma, weight_decay=weight_decay)


def prodigy(p, learning_rate, b1, b2, b3=None, **options):
    return po.Prodigy(p, lr=learning_rate, betas=(b1, b2), beta3=b3, **options)


def dadapt_adamw(p, learning_rate, b1, b2, **options):
    return po.DAdaptAdam(p, lr=learning_rate, betas=(b1, b2), weight_decouple=True, **options)


def adams(p, learning_rate, b1, b2, eps, weight_decay):
    optimizer = po.AdamS(p, lr=learning_rate, betas=(b1, b2), eps=eps, weight_decay=weight_decay)
    optimizer.defaults["eps"] = 0.0  # what it would add to the root of the mean
    return optimizer


def adai(p, learning_rate, b0, b2, eps, weight_decay=0.0):
    return po.Adai(p, lr=learning_rate, betas=(b0, b2), eps=eps, weight_decay=weight_decay, weight_decouple=True)


def schedule_free(p, learning_rate, b1, b2, eps, weight_decay, weight_lr_power, r):
    return po.ScheduleFreeAdamW(
        p, lr=learning_rate, betas=(b1, b2), eps=eps, weight_decay=weight_decay, weight_lr_power=weight_lr_power, r=r
    )


def lookahead(p, learning_rate, sync_period, slow_step_size, b1, b2, eps, weight_decay):
    inner = torch.optim.AdamW(p, lr=learning_rate, betas=(b1, b2), eps=eps, weight_decay=weight_decay)
    optimizer = po.Lookahead(inner, k=sync_period, alpha=slow_step_size)
    optimizer.defaults = {"k": sync_period, "alpha": slow_step_size, "AdamW": inner.defaults}
    return optimizer


def came(p, learning_rate, b1, b2, b3, eps1, eps2, clip_threshold, weight_decay):
    return po.CAME(
        p,
        lr=learning_rate,
        betas=(b1, b2, b3),
        eps1=eps1,
        eps2=eps2,
        clip_threshold=clip_threshold,
        weight_decay=weight_decay,
    )


def sm3(p, learning_rate, momentum):
    return po.SM3(p, lr=learning_rate, momentum=momentum, eps=1e-8)


def soap(p, learning_rate, b1, b2, eps, weight_decay, precondition_frequency, shampoo_beta=None):
    return po.SOAP(
        p,
        lr=learning_rate,
        betas=(b1, b2),
        eps=eps,
        weight_decay=weight_decay,
        precondition_frequency=precondition_frequency,
        shampoo_beta=shampoo_beta,
    )


def adagc(p, learning_rate, b1, b2, relative, absolute, decay, warmup, eps, weight_decay):
    return po.AdaGC(
        p,
        lr=learning_rate,
        betas=(b1, b2),
        beta=decay,
        lambda_abs=absolute,
        lambda_rel=relative,
        warmup_steps=warmup,
        weight_decay=weight_decay,
        eps=eps,
    )


def stable_spam(p, learning_rate, b1, b2, gamma1, gamma2, theta, reset_every, eps, weight_decay):
    return po.StableSPAM(
        p,
        lr=learning_rate,
        betas=(b1, b2),
        gamma1=gamma1,
        gamma2=gamma2,
        theta=theta,
        update_proj_gap=reset_every,
        eps=eps,
        weight_decay=weight_decay,
    )


def bcos(p, learning_rate, beta, eps, weight_decay):
    return po.BCOS(p, lr=learning_rate, beta=beta, eps=eps, weight_decay=weight_decay)


def eps_outside_of_the_correction(optimizer, step, hyper):
    """(sqrt(v) + eps sqrt(c2))/sqrt(c2) = sqrt(vh) + eps."""
    for group in optimizer.param_groups:
        group["eps"] = hyper["eps"] * (1 - hyper["b2"] ** step) ** 0.5


def decay_times_rate_over_peak(optimizer, step, hyper):
    for group in optimizer.param_groups:
        group["weight_decay"] = hyper["weight_decay"] * group["lr"] / (hyper.get("peak") or group["lr"])
