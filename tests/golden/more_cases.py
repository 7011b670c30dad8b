"""Further cases of `make.py`: every rule with its transcription, and with a library's class where that has the same update."""

import functools

import pytorch_optimizer as po
import torch
import transcriptions as tr
from case import Case

RATE = {"learning_rate": "learning_rate"}

# --- builders, as in make.py -------------------------------------------------------------------


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
        p,
        lr=learning_rate,
        betas=(b1, b2),
        eps=eps,
        weight_decay=weight_decay,
        weight_lr_power=weight_lr_power,
        r=r,
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


EPS_NOTE = "eps of the source is set before each step, to eps sqrt(c2): its root is divided by sqrt(c2) after eps"
ROOT_NOTE = "without the 1e-15 that pytorch_optimizer adds under the root"
RAW_EPS = "eps is added to sqrt(v) before the correction, as the author has it"
FOCUS_NOTE = (
    "p-bar is exactly p as long as p has not moved (at the first step; w[2, 3] always): its sign is then 0, where the"
    " corrected average of the libraries leaves the sign of a rounding error"
)

# --- cases -------------------------------------------------------------------------------------

MORE_CASES = [
    Case(
        "qhadam",
        "qhadam",
        dict(learning_rate=0.015, b1=0.9, b2=0.97, nu1=0.6, nu2=0.8, eps=1e-3),
        qhadam,
        note="pytorch_optimizer counts with float32 weights",
        transcription=tr.qhadam,
        tolerance=1e-6,
    ),
    Case(
        "qhadam_slow",
        "qhadam",
        dict(learning_rate=0.02, b1=0.995, b2=0.999, nu1=0.7, nu2=1.0, eps=1e-8),
        qhadam,
        note="pytorch_optimizer counts with float32 weights",
        transcription=tr.qhadam,
        tolerance=1e-6,
    ),
    Case(
        "laprop",
        "laprop",
        dict(learning_rate=0.012, b1=0.87, b2=0.96, eps=1e-3),
        laprop,
        note=f"{EPS_NOTE}; {ROOT_NOTE}",
        each_step=eps_outside_of_the_correction,
        transcription=tr.laprop,
        exact=True,
    ),
    Case(
        "laprop_scheduled",
        "laprop",
        dict(b1=0.9, b2=0.97, eps=1e-4),
        laprop,
        note=f"{EPS_NOTE}; {ROOT_NOTE}",
        each_step=eps_outside_of_the_correction,
        transcription=tr.laprop,
        extras=RATE,
        exact=True,
    ),
    Case(
        "laprop_decay",
        "laprop",
        dict(learning_rate=0.014, b1=0.85, b2=0.95, eps=1e-15, weight_decay=0.004),
        note="the author's decay: after the step, p -= wd p, not times the rate",
        transcription=tr.laprop,
    ),
    Case(
        "laprop_fixed_rate",
        "laprop",
        dict(b1=0.9, b2=0.97, eps=1e-4, weight_decay=0.002, running_learning_rate=False),
        note="the plain average of g/d, corrected by 1 - b1^t, times the rate of this step",
        transcription=tr.laprop,
        extras=RATE,
    ),
    Case(
        "stable_adamw",
        "stable_adamw",
        dict(learning_rate=0.02, b1=0.88, b2=0.97, eps=1e-3, weight_decay=0.2),
        stable_adamw,
        transcription=tr.stable_adamw,
    ),
    Case(
        "adam_atan2",
        "adam_atan2",
        dict(learning_rate=0.015, b1=0.9, b2=0.96, a=1.27, b=1.5, weight_decay=0.0),
        transcription=tr.adam_atan2,
    ),
    Case(
        "adam_atan2_decay",
        "adam_atan2",
        dict(learning_rate=0.012, b1=0.85, b2=0.99, a=1.1, b=1.0, weight_decay=0.3),
        transcription=tr.adam_atan2,
    ),
    Case(
        "mars",
        "mars",
        dict(learning_rate=0.01, b1=0.93, b2=0.97, eps=1e-3, gamma=0.04, weight_decay=0.2),
        mars,
        note=f"vectors: plain AdamW; its own betas, rate and decay of vectors are set to those of the matrices;"
        f" {EPS_NOTE}; {ROOT_NOTE}",
        each_step=eps_outside_of_the_correction,
        transcription=tr.mars,
        exact=True,
    ),
    Case(
        "adabound",
        "adabound",
        dict(learning_rate=0.02, b1=0.87, b2=0.97, final_lr=0.05, gamma=0.02, eps=1e-3, weight_decay=0.1),
        adabound,
        note=f"decay is coupled: g + wd p; {RAW_EPS}; {ROOT_NOTE}",
        transcription=tr.adabound,
        exact=True,
    ),
    Case(
        "adabound_scheduled",
        "adabound",
        dict(b1=0.9, b2=0.96, final_lr=0.01, gamma=0.05, eps=1e-8),
        adabound,
        note=f"the final rate is final_lr times this rate over the first one; {ROOT_NOTE}",
        transcription=tr.adabound,
        extras=RATE,
        exact=True,
    ),
    Case(
        "amsbound",
        "amsbound",
        dict(learning_rate=0.03, b1=0.85, b2=0.95, final_lr=0.04, gamma=0.01, eps=1e-3, weight_decay=0.05),
        amsbound,
        note=f"decay is coupled: g + wd p; {RAW_EPS}; {ROOT_NOTE}",
        transcription=tr.amsbound,
        exact=True,
    ),
    Case(
        "padam",
        "padam",
        dict(learning_rate=0.05, b1=0.88, b2=0.96, eps=1e-3, partial=0.2, amsgrad=True),
        note=RAW_EPS,
        transcription=tr.padam,
    ),
    Case(
        "padam_without_amsgrad",
        "padam",
        dict(learning_rate=0.05, b1=0.88, b2=0.96, eps=1e-3, partial=0.25, amsgrad=False),
        padam,
        note=RAW_EPS,
        transcription=tr.padam,
    ),
    Case(
        "padam_pytorch_optimizer",
        "padam",
        dict(learning_rate=0.05, b1=0.88, b2=0.96, eps=1e-3, partial=0.2, amsgrad=True),
        padam,
        differs="without the maximum, which is the author's default",
        form="u = sqrt(c2)/c1 m/(sqrt(v) + eps)^(2 partial)",
        transcription=tr.padam,
    ),
    Case(
        "diffgrad",
        "diffgrad",
        dict(learning_rate=0.025, b1=0.87, b2=0.96, eps=1e-3),
        diffgrad,
        note=f"{RAW_EPS}; {ROOT_NOTE}",
        transcription=tr.diffgrad,
        exact=True,
    ),
    Case(
        "adamod",
        "adamod",
        dict(learning_rate=0.03, b1=0.87, b2=0.96, b3=0.98, eps=1e-3, weight_decay=0.2),
        adamod,
        note=RAW_EPS,
        transcription=tr.adamod,
    ),
    Case(
        "adamod_scheduled",
        "adamod",
        dict(b1=0.9, b2=0.99, b3=0.95, eps=1e-8),
        adamod,
        transcription=tr.adamod,
        extras=RATE,
    ),
    Case(
        "adamp",
        "adamp",
        dict(
            learning_rate=0.02,
            b1=0.88,
            b2=0.96,
            eps=1e-3,
            weight_decay=0.3,
            delta=0.9,
            wd_ratio=0.2,
            nesterov=False,
        ),
        note="eps is in the norms of the projection, too",
        transcription=tr.adamp,
    ),
    Case(
        "adamp_nesterov",
        "adamp",
        dict(
            learning_rate=0.018,
            b1=0.85,
            b2=0.97,
            eps=1e-8,
            weight_decay=0.1,
            delta=0.6,
            wd_ratio=0.1,
            nesterov=True,
        ),
        transcription=tr.adamp,
    ),
    Case(
        "lars",
        "lars",
        dict(learning_rate=0.6, weight_decay=0.05, trust_coefficient=0.02, eps=1e-3, momentum=0.8, nesterov=False),
        note="Optax: on every leaf; ratio of (g + wd p); the rate is inside the momentum buffer",
        transcription=tr.lars,
    ),
    Case(
        "lars_nesterov_scheduled",
        "lars",
        dict(weight_decay=0.0, trust_coefficient=0.8, eps=0.0, momentum=0.7, nesterov=True),
        transcription=tr.lars,
        extras=RATE,
    ),
    Case(
        "grams",
        "grams",
        dict(learning_rate=0.02, b1=0.88, b2=0.97, eps=1e-3, weight_decay=0.2),
        note=RAW_EPS,
        transcription=tr.grams,
    ),
    Case(
        "grams_pytorch_optimizer",
        "grams",
        dict(learning_rate=0.02, b1=0.88, b2=0.97, eps=1e-3, weight_decay=0.2),
        grams,
        differs="eps",
        form="u = sign(g) |mh|/(sqrt(vh) + eps)",
        transcription=tr.grams,
    ),
    Case(
        "simplified_ademamix",
        "simplified_ademamix",
        dict(learning_rate=0.002, b1=0.9, b2=0.96, alpha=2.0, eps=1e-3, eps_root=0.0, weight_decay=0.3),
        transcription=tr.simplified_ademamix,
    ),
    Case(
        "simplified_ademamix_pytorch_optimizer",
        "simplified_ademamix",
        dict(learning_rate=0.002, b1=0.9, b2=0.96, alpha=2.0, eps=1e-3, weight_decay=0.3),
        simplified_ademamix,
        differs="m is an average, not a sum; the correction of v is applied the wrong way round",
        form="u = (m + alpha g)/(c2 (sqrt(vh) + eps))",
        transcription=tr.simplified_ademamix,
    ),
    Case("signum", "signum", dict(learning_rate=0.008, beta=0.9), transcription=tr.signum),
    Case(
        "tiger",
        "tiger",
        dict(learning_rate=0.007, b1=0.93, weight_decay=0.4),
        note="without any scaling of leaves",
        transcription=tr.tiger,
    ),
    Case(
        "tiger_scaled",
        "tiger",
        dict(learning_rate=0.01, b1=0.93, weight_decay=0.4),
        differs="the author also multiplies the rate by the root mean square of the leaf",
        form="p -= lr rms(p) (sign(m) + wd p), for b as for w",
        transcription=functools.partial(tr.tiger, scaled=True),
    ),
    Case(
        "centered_adam",
        "centered_adam",
        dict(learning_rate=0.015, b1=0.87, b2=0.95, eps=0.05, eps_root=0.01),
        note="the variance is 0 at the first step: eps and eps_root are large",
        transcription=tr.centered_adam,
    ),
    Case(
        "acprop",
        "acprop",
        dict(learning_rate=0.01, b1=0.85, b2=0.96, eps=1e-2, eps_root=1e-2, weight_decay=0.2),
        note="the author's residual, g - m_t, and first step, g (Optax: g/(1 + eps)); the author has one eps",
        transcription=tr.acprop,
    ),
    Case(
        "acprop_optax",
        "acprop",
        dict(learning_rate=0.01, b1=0.85, b2=0.96, eps=1e-2, eps_root=1e-2, weight_decay=0.2),
        differs="Optax's residual, g - m_(t-1), is 1/b1 of the author's; its first step is g/(1 + eps)",
        form="s = EMA((g - m_(t-1))^2) + eps_root; u = g/(sqrt(s_(t-1)/(1 - b2^(t-1))) + eps)",
        transcription=functools.partial(tr.acprop, about_old_mean=True),
    ),
    Case(
        "adapnm",
        "adapnm",
        dict(learning_rate=0.012, b1=0.87, b2=0.95, b3=1.0, eps=1e-3, weight_decay=0.2, amsgrad=True),
        adapnm,
        note=f"{EPS_NOTE}; {ROOT_NOTE}",
        each_step=eps_outside_of_the_correction,
        transcription=tr.adapnm,
        exact=True,
    ),
    Case(
        "adapnm_without_amsgrad",
        "adapnm",
        dict(learning_rate=0.012, b1=0.9, b2=0.96, b3=0.7, eps=1e-4, weight_decay=0.0, amsgrad=False),
        adapnm,
        note=f"{EPS_NOTE}; {ROOT_NOTE}",
        each_step=eps_outside_of_the_correction,
        transcription=tr.adapnm,
        exact=True,
    ),
    Case(
        "eadam",
        "eadam",
        dict(learning_rate=0.02, b1=0.88, b2=0.96, eps=1e-3),
        note="eps is added to the state at each step, and not to the root",
        transcription=tr.eadam,
    ),
    Case("msvag", "msvag", dict(learning_rate=0.01, beta=0.85), msvag, transcription=tr.msvag),
    Case("aggmo", "aggmo", dict(learning_rate=0.002, betas=[0.0, 0.8, 0.95]), aggmo, transcription=tr.aggmo),
    Case(
        "grokfast_adamw",
        "grokfast_adamw",
        dict(
            learning_rate=0.012,
            b1=0.87,
            b2=0.97,
            grokfast_alpha=0.9,
            grokfast_lambda=1.5,
            eps=1e-3,
            weight_decay=0.2,
        ),
        note="the filter starts at the first gradient, and the first gradient then enters it",
        transcription=tr.grokfast_adamw,
    ),
    Case(
        "grokfast_adamw_pytorch_optimizer",
        "grokfast_adamw",
        dict(
            learning_rate=0.012,
            b1=0.87,
            b2=0.97,
            grokfast_alpha=0.9,
            grokfast_lambda=1.5,
            eps=1e-1,
            weight_decay=0.2,
        ),
        grokfast_adamw,
        differs="eps",
        form="u = mh/max(sqrt(vh), eps)",
        transcription=tr.grokfast_adamw,
    ),
    Case(
        "adamc",
        "adamc",
        dict(learning_rate=0.015, b1=0.87, b2=0.96, eps=1e-3, weight_decay=0.5, peak=0.04),
        adamc,
        note="AdamW, whose decay is set to wd lr/peak before each step",
        each_step=decay_times_rate_over_peak,
        transcription=tr.adamc,
    ),
    Case(
        "adamc_scheduled",
        "adamc",
        dict(b1=0.9, b2=0.97, eps=1e-4, weight_decay=0.8, peak=0.02),
        adamc,
        note="AdamW, whose decay is set to wd lr/peak before each step",
        each_step=decay_times_rate_over_peak,
        transcription=tr.adamc,
        extras=RATE,
    ),
    Case(
        "adanorm",
        "adanorm",
        dict(learning_rate=0.015, b1=0.88, b2=0.96, r=0.9, eps=1e-3, weight_decay=0.2),
        adanorm,
        note=f"eps beside the root alone, decay decoupled; {EPS_NOTE}; {ROOT_NOTE}",
        each_step=eps_outside_of_the_correction,
        transcription=tr.adanorm,
        exact=True,
    ),
    Case(
        "adanorm_authors",
        "adanorm",
        dict(learning_rate=0.015, b1=0.88, b2=0.96, r=0.95, eps=1e-3),
        differs="the authors' code also adds eps to the stored v at each step",
        form="v = EMA(g^2) + eps; u = mh/(sqrt(vh) + eps)",
        transcription=functools.partial(tr.adanorm, eps_in_state=True),
    ),
    Case(
        "focus",
        "focus",
        dict(learning_rate=0.006, b1=0.88, b2=0.97, gamma=0.3, weight_decay=0.0),
        focus,
        note=FOCUS_NOTE,
        transcription=tr.focus,
        tolerance=1e-2,
    ),
    Case(
        "focus_decay",
        "focus",
        dict(learning_rate=0.008, b1=0.9, b2=0.95, gamma=0.2, weight_decay=0.3),
        note=f"the authors' decay: lr wd p-bar is subtracted, and the sign is of p before it; {FOCUS_NOTE}",
        transcription=tr.focus,
    ),
    Case(
        "prodigy",
        "prodigy",
        dict(learning_rate=1.0, b1=0.9, b2=0.99, eps=1e-8, d0=1e-3, d_coef=0.1),
        prodigy,
        transcription=tr.prodigy,
    ),
    Case(
        "prodigy_options",
        "prodigy",
        dict(
            learning_rate=0.8,
            b1=0.87,
            b2=0.97,
            b3=0.95,
            eps=1e-3,
            d0=2e-3,
            d_coef=0.7,
            weight_decay=0.3,
            growth_rate=1.03,
            bias_correction=True,
            safeguard_warmup=True,
        ),
        prodigy,
        transcription=tr.prodigy,
    ),
    Case(
        "dadapt_adamw",
        "dadapt_adamw",
        dict(learning_rate=1.0, b1=0.9, b2=0.99, eps=1e-8, d0=1e-6),
        dadapt_adamw,
        transcription=tr.dadapt_adamw,
    ),
    Case(
        "dadapt_adamw_options",
        "dadapt_adamw",
        dict(
            learning_rate=0.7,
            b1=0.87,
            b2=0.97,
            eps=1e-3,
            d0=5e-3,
            weight_decay=0.3,
            growth_rate=1.02,
            bias_correction=True,
        ),
        dadapt_adamw,
        transcription=tr.dadapt_adamw,
    ),
    Case(
        "adams",
        "adams",
        dict(learning_rate=0.015, b1=0.88, b2=0.97, eps=1e-3, weight_decay=0.5),
        adams,
        note="without the eps that pytorch_optimizer adds to the root of the mean",
        transcription=tr.adams,
    ),
    Case(
        "adai",
        "adai",
        dict(learning_rate=0.01, b0=0.2, b2=0.96, eps=1e-2, weight_decay=0.1),
        adai,
        note="decay decoupled, times the rate: an option of the authors",
        transcription=tr.adai,
    ),
    Case(
        "dog",
        "dog",
        dict(learning_rate=0.9, reps_rel=1e-3, eps=1e-2, weight_decay=0.0),
        transcription=tr.dog,
    ),
    Case(
        "dog_coupled_decay",
        "dog",
        dict(learning_rate=1.0, reps_rel=1e-2, eps=1e-8, weight_decay=0.2),
        note="as the authors and Optax have it: g + wd p, before everything else",
        transcription=tr.dog,
    ),
    Case(
        "dowg",
        "dowg",
        dict(learning_rate=0.3, eps=1e-2),
        note="the squared distance starts at eps",
        transcription=tr.dowg,
    ),
    Case(
        "schedule_free",
        "schedule_free",
        dict(learning_rate=0.02, b1=0.85, b2=0.97, eps=1e-3, weight_decay=0.2, weight_lr_power=2.0, r=0.0),
        schedule_free,
        note=f"y; {ROOT_NOTE}",
        transcription=tr.schedule_free,
        exact=True,
    ),
    Case(
        "schedule_free_scheduled",
        "schedule_free",
        dict(b1=0.9, b2=0.96, eps=1e-4, weight_decay=0.1, weight_lr_power=1.5, r=0.7),
        schedule_free,
        note=f"y; {ROOT_NOTE}",
        transcription=tr.schedule_free,
        extras=RATE,
        exact=True,
    ),
    Case(
        "schedule_free_eval",
        "schedule_free",
        dict(b1=0.9, b2=0.96, eps=1e-4, weight_decay=0.1, weight_lr_power=1.5, r=0.7),
        differs="x, the parameters to evaluate at, in place of y",
        form="x, of the case schedule_free_scheduled",
        transcription=functools.partial(tr.schedule_free, evaluated=True),
        extras=RATE,
    ),
    Case(
        "lookahead",
        "lookahead",
        dict(learning_rate=0.02, sync_period=4, slow_step_size=0.6, b1=0.88, b2=0.97, eps=1e-3, weight_decay=0.2),
        lookahead,
        note="the fast parameters",
        transcription=tr.lookahead,
    ),
    Case(
        "adafactor",
        "adafactor",
        dict(learning_rate=0.05, min_dim_size_to_factor=2, decay_rate=0.7, clipping_threshold=0.8),
        note="Optax's form, its decay in float64",
        transcription=tr.adafactor,
    ),
    Case(
        "adafactor_momentum_decay",
        "adafactor",
        dict(
            learning_rate=0.03,
            min_dim_size_to_factor=2,
            multiply_by_parameter_scale=False,
            clipping_threshold=None,
            momentum=0.8,
            weight_decay_rate=0.004,
            eps=1e-3,
        ),
        note="Optax's form: decay after the rate, p -= u + wd p; the momentum is not corrected",
        transcription=tr.adafactor,
    ),
    Case(
        "adafactor_unfactored_scheduled",
        "adafactor",
        dict(min_dim_size_to_factor=128, decay_offset=-3, momentum=0.5),
        note="Optax's form; no axis is long enough to be factored",
        transcription=tr.adafactor,
        extras=RATE,
    ),
    Case(
        "came",
        "came",
        dict(
            learning_rate=0.01,
            b1=0.88,
            b2=0.96,
            b3=0.98,
            eps1=1e-6,
            eps2=1e-4,
            clip_threshold=0.9,
            weight_decay=0.2,
        ),
        came,
        transcription=tr.came,
    ),
    Case(
        "adam_mini",
        "adam_mini",
        dict(learning_rate=0.015, b1=0.88, b2=0.97, eps=1e-3, weight_decay=0.2),
        note="v1.1: one v a row of w (rows are output neurons), one for b",
        transcription=tr.adam_mini,
    ),
    Case(
        "sm3",
        "sm3",
        dict(learning_rate=0.1, momentum=0.8),
        sm3,
        note="eps = 1e-8 in the root, as Optax has it",
        transcription=tr.sm3,
    ),
    Case(
        "muon",
        "muon",
        dict(
            learning_rate=0.01,
            beta=0.9,
            ns_steps=5,
            ns_coeffs=[3.4445, -4.775, 2.0315],
            eps=1e-8,
            nesterov=True,
            weight_decay=0.2,
        ),
        note="in float64; w times sqrt(max(1, columns/rows)); b by AdamW with the same rate, eps and decay, b1 0.9, b2"
        " 0.999",
        transcription=tr.muon,
    ),
    Case(
        "muon_optax",
        "muon",
        dict(
            learning_rate=0.01,
            beta=0.9,
            ns_steps=5,
            ns_coeffs=[3.4445, -4.775, 2.0315],
            eps=1e-8,
            nesterov=True,
            weight_decay=0.0,
        ),
        differs="Optax corrects m and g before it mixes them; b, which Optax gives to NAdamW, stays AdamW's here",
        form="x = beta m/(1 - beta^(t+1)) + (1 - beta) g/(1 - beta^t)",
        transcription=functools.partial(tr.muon, corrected=True),
    ),
    Case(
        "muon_heavy_ball",
        "muon",
        dict(
            learning_rate=0.012,
            beta=0.85,
            ns_steps=3,
            ns_coeffs=[2.0, -1.5, 0.5],
            eps=1e-2,
            nesterov=False,
            weight_decay=0.0,
        ),
        note="as muon, with other coefficients",
        transcription=tr.muon,
    ),
    Case(
        "soap",
        "soap",
        dict(learning_rate=0.015, b1=0.9, b2=0.95, eps=1e-3, weight_decay=0.2, precondition_frequency=10),
        note="in float64 (the authors decompose in float32); the first step is skipped, for b as well, which is Adam's;"
        f" decay after the step; {RAW_EPS}",
        transcription=tr.soap,
    ),
    Case(
        "soap_frequent",
        "soap",
        dict(
            learning_rate=0.012,
            b1=0.92,
            b2=0.96,
            eps=1e-8,
            weight_decay=0.0,
            precondition_frequency=3,
            shampoo_beta=0.8,
        ),
        note="as soap",
        transcription=tr.soap,
    ),
    Case(
        "adagc",
        "adagc",
        dict(
            learning_rate=0.015,
            b1=0.87,
            b2=0.96,
            relative=1.05,
            absolute=1.0,
            decay=0.9,
            warmup=40,
            eps=1e-3,
            weight_decay=0.2,
        ),
        note="the steps t < warmup are of the warm-up; no eps in the ratios of norms",
        transcription=tr.adagc,
    ),
    Case(
        "stable_spam",
        "stable_spam",
        dict(
            learning_rate=0.015,
            b1=0.88,
            b2=0.96,
            gamma1=0.7,
            gamma2=0.9,
            theta=0.98,
            reset_every=1000,
            eps=1e-3,
            weight_decay=0.2,
        ),
        stable_spam,
        note="no reset in these steps",
        transcription=tr.stable_spam,
    ),
    Case(
        "stable_spam_reset",
        "stable_spam",
        dict(
            learning_rate=0.015,
            b1=0.88,
            b2=0.96,
            gamma1=0.7,
            gamma2=0.9,
            theta=0.98,
            reset_every=25,
            eps=1e-3,
            weight_decay=0.2,
        ),
        stable_spam,
        note="m and v are 0 before the steps 25, 50, ..., which are first steps again; the statistics of the norms go on",
        transcription=tr.stable_spam,
    ),
    Case(
        "stable_spam_authors",
        "stable_spam",
        dict(
            learning_rate=0.015,
            b1=0.88,
            b2=0.96,
            gamma1=0.7,
            gamma2=0.9,
            theta=0.98,
            reset_every=25,
            eps=1e-3,
            weight_decay=0.2,
        ),
        differs="two slips of the authors' code at a reset",
        form="the step of the reset is made with the old m and v, corrected as a first step, and m = v = 0 after it,"
        " with count 1; the statistics of the norms are corrected with that count",
        transcription=functools.partial(tr.stable_spam, slips_of_the_authors=True),
    ),
    Case(
        "kourkoutas",
        "kourkoutas",
        dict(
            learning_rate=0.006,
            b1=0.88,
            b2_min=0.85,
            b2_max=0.99,
            alpha=0.9,
            eps=1e-3,
            tiny_spike=1e-9,
            warmup=5,
        ),
        note="no bias correction, the default of the authors; b2 is the mean of its bounds at the steps t <= warmup",
        transcription=tr.kourkoutas,
    ),
    Case(
        "bcos",
        "bcos",
        dict(learning_rate=0.006, beta=0.88, eps=1e-3, weight_decay=0.2),
        note="m starts at the first gradient; v is made from m before its update",
        transcription=tr.bcos,
    ),
    Case(
        "bcos_pytorch_optimizer",
        "bcos",
        dict(learning_rate=0.006, beta=0.88, eps=1e-3, weight_decay=0.2),
        bcos,
        differs="v is made from m after its update",
        form="m = EMA(g); v = (3 b^2 - 2 b^3) m^2 + (1 - b)^2 g^2 + 2 b (1 - b)^2 m g",
        transcription=tr.bcos,
    ),
    Case(
        "fromage",
        "fromage",
        dict(learning_rate=0.02, min_norm=1e-6),
        transcription=tr.fromage,
    ),
    Case(
        "polyak_sgd",
        "polyak_sgd",
        dict(learning_rate=0.1, scaling=0.5, f_min=0.2, eps=0.1),
        note="the learning rate is max_learning_rate; scaling is inside the norm, as Optax has it",
        transcription=tr.polyak_sgd,
        extras={"value": "value"},
    ),
    Case(
        "amos",
        "amos",
        dict(learning_rate=0.05, eta=0.4, beta=0.97, extra_l2=0.001, d_coef=0.25, c_coef=0.3),
        note="one v and b a coordinate",
        transcription=tr.amos,
    ),
    Case(
        "amos_per_leaf",
        "amos",
        dict(learning_rate=0.1, eta=0.5, beta=0.98, extra_l2=0.0, d_coef=0.25, c_coef=0.25),
        differs="one v and b a leaf: the author leaves the shape of the state to the user",
        form="v and b of shape (), from the mean of g^2",
        transcription=functools.partial(tr.amos, per_leaf=True),
    ),
    Case(
        "sophia",
        "sophia",
        dict(learning_rate=0.008, b1=0.9, b2=0.95, rho=0.3, eps=1e-15, weight_decay=0.2, bs=2),
        note="the Hessian of a step enters the average before the step; it is there where has_hessian is",
        transcription=tr.sophia,
        extras={"hessian": "hessian", "has_hessian": "has_hessian"},
    ),
    Case(
        "adahessian",
        "adahessian",
        dict(learning_rate=0.1, b1=0.88, b2=0.96, eps=1e-2, hessian_power=0.7, weight_decay=0.2),
        note="the rule squares the Hessian",
        transcription=tr.adahessian,
        extras={"hessian": "hessian"},
    ),
]
