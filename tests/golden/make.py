"""Write trajectories.npz: what torch and pytorch_optimizer do on one fixed stream of gradients.

    python tests/golden/make.py

needs torch 2.13 and pytorch_optimizer 4.1 (the tests that read the file need neither). The file
holds

    init/w, init/b      initial parameters, shapes (3, 4) and (5,)
    grad/w, grad/b      gradients of the 120 steps, the same for every case
    steps               the step numbers at which parameters are kept: 1..10, 15, 20, ... 120
    params/ID/w, .../b  parameters of case ID after each of those steps
    cases               JSON: [{"id", "rule", "hyper", "source", "options", ...}]
    extra/NAME          further streams, of 120 steps: hessian/w, hessian/b (not negative), has_hessian,
                        value (of the function), learning_rate (of a schedule)
    versions            JSON: {library: version}

All numbers are float64; initial parameters and gradients are representable in float32, so that a
float32 run reads the same ones. Gradients do not depend on the parameters: a rounding error of one
step is not amplified by the next.

"rule" and "hyper" name an adamx rule and its arguments; "source" is the class that made the
trajectory and "options" its constructor's arguments. The two mean the same update, except where
"differs" says what does not; "form" is then the source's own formula. "note" says how the source
was brought to the same meaning. The source "transcription" is `transcriptions.py`, which also has
to agree with the libraries wherever both know a rule ("confirmed"). "extras" names the streams that
a rule takes, {argument: array}: "learning_rate" is then the rate at each count, 0, 1, ...
Notation: g gradient, p parameter, m = EMA(g), v = EMA(g^2),
c_i = 1 - b_i^t, mh = m/c1, vh = v/c2.
"""

from __future__ import annotations

import json
import math
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytorch_optimizer as po
import torch
from case import Case
from more_cases import MORE_CASES

OUTPUT = Path(__file__).resolve().with_name("trajectories.npz")
SHAPES = {"w": (3, 4), "b": (5,)}
STEPS = 120
KEPT = [*range(1, 11), *range(15, STEPS + 1, 5)]


# --- the sources: adamx's argument names on the left, the library's on the right ---------------
# A builder takes exactly the hyperparameters of its rule: one that it cannot express is an error.


def sgd(p, learning_rate, momentum=0.0, nesterov=False):
    return torch.optim.SGD(p, lr=learning_rate, momentum=momentum, nesterov=nesterov)


def adam(p, learning_rate, b1, b2, eps):
    return torch.optim.Adam(p, lr=learning_rate, betas=(b1, b2), eps=eps)


def adamw(p, learning_rate, b1, b2, eps, weight_decay):
    return torch.optim.AdamW(p, lr=learning_rate, betas=(b1, b2), eps=eps, weight_decay=weight_decay)


def adamw_by_ademamix(p, learning_rate, b1, b2, eps, weight_decay):
    return ademamix(p, learning_rate, b1, b2, 0.999, 0.0, eps, weight_decay)


def amsgrad(p, learning_rate, b1, b2, eps):
    return torch.optim.Adam(p, lr=learning_rate, betas=(b1, b2), eps=eps, amsgrad=True)


def amsgradw(p, learning_rate, b1, b2, eps, weight_decay):
    return torch.optim.AdamW(p, lr=learning_rate, betas=(b1, b2), eps=eps, weight_decay=weight_decay, amsgrad=True)


def adamax(p, learning_rate, b1, b2, eps):
    return torch.optim.Adamax(p, lr=learning_rate, betas=(b1, b2), eps=eps)


def nadam(p, learning_rate, b1, b2, eps, momentum_decay):
    return torch.optim.NAdam(p, lr=learning_rate, betas=(b1, b2), eps=eps, momentum_decay=momentum_decay)


def nadamw(p, learning_rate, b1, b2, eps, momentum_decay, weight_decay):
    return torch.optim.NAdam(
        p,
        lr=learning_rate,
        betas=(b1, b2),
        eps=eps,
        momentum_decay=momentum_decay,
        weight_decay=weight_decay,
        decoupled_weight_decay=True,
    )


def radam(p, learning_rate, b1, b2, eps):
    return torch.optim.RAdam(p, lr=learning_rate, betas=(b1, b2), eps=eps)


def rmsprop(p, learning_rate, decay, eps, eps_in_sqrt, centered, momentum=0.0):
    assert not eps_in_sqrt
    return torch.optim.RMSprop(p, lr=learning_rate, alpha=decay, eps=eps, centered=centered, momentum=momentum)


def adagrad(p, learning_rate, initial_accumulator_value, eps, eps_in_sqrt):
    assert not eps_in_sqrt
    return torch.optim.Adagrad(p, lr=learning_rate, initial_accumulator_value=initial_accumulator_value, eps=eps)


def adadelta(p, learning_rate, rho, eps, weight_decay=0.0):
    return torch.optim.Adadelta(p, lr=learning_rate, rho=rho, eps=eps, weight_decay=weight_decay)


def adabelief(p, learning_rate, b1, b2, eps, eps_root):
    assert eps == eps_root  # pytorch_optimizer has one eps: added to the state and to the root
    return po.AdaBelief(p, lr=learning_rate, betas=(b1, b2), eps=eps, rectify=False)


def yogi(p, learning_rate, b1, b2, eps, initial_accumulator_value):
    assert initial_accumulator_value == 0.0  # pytorch_optimizer fills m with it, too
    return po.Yogi(
        p,
        lr=learning_rate,
        betas=(b1, b2),
        eps=eps,
        initial_accumulator=initial_accumulator_value,
    )


def lion(p, learning_rate, b1, b2, weight_decay=0.0):
    return po.Lion(p, lr=learning_rate, betas=(b1, b2), weight_decay=weight_decay, weight_decouple=True)


def adan(p, learning_rate, b1, b2, b3, eps, weight_decay=0.0, proximal=True):
    return po.Adan(
        p,
        lr=learning_rate,
        betas=(b1, b2, b3),
        eps=eps,
        weight_decay=weight_decay,
        weight_decouple=not proximal,
        max_grad_norm=0.0,
    )


def ademamix(p, learning_rate, b1, b2, b3, alpha, eps, weight_decay=0.0, warmup=None):
    return po.AdEMAMix(
        p,
        lr=learning_rate,
        betas=(b1, b2, b3),
        alpha=alpha,
        eps=eps,
        weight_decay=weight_decay,
        weight_decouple=True,
        t_alpha_beta3=warmup,
    )


def lamb(p, learning_rate, b1, b2, eps, weight_decay):
    return po.Lamb(
        p,
        lr=learning_rate,
        betas=(b1, b2),
        eps=eps,
        weight_decay=weight_decay,
        weight_decouple=False,
        adam_debias=True,
        pre_norm=False,
    )


def lamb_correct_bias(optimizer, step, hyper):
    """Set eps and decay of this step so that pytorch_optimizer's Lamb, which corrects no bias,
    makes a multiple of the bias-corrected update (the trust ratio removes the factor):
    m/(sqrt(v) + eps sqrt(c2)) + wd c1/sqrt(c2) p = c1/sqrt(c2) (mh/(sqrt(vh) + eps) + wd p)."""
    c1, c2 = 1 - hyper["b1"] ** step, 1 - hyper["b2"] ** step
    for group in optimizer.param_groups:
        group["eps"] = hyper["eps"] * c2**0.5
        group["weight_decay"] = hyper["weight_decay"] * c1 / c2**0.5


# --- the cases ---------------------------------------------------------------------------------


LAMB_FORM = (
    "u = m/(sqrt(v) + eps) + wd p, without bias correction;"
    " p -= lr min(|p|, 10)/(|u| + eps) u, per leaf; ratio 1 where |p| or |u| is 0"
)

CASES = [
    Case("sgd", "sgd", dict(learning_rate=0.013), sgd),
    Case("sgd_momentum", "sgd", dict(learning_rate=0.004, momentum=0.83, nesterov=False), sgd),
    Case("sgd_nesterov", "sgd", dict(learning_rate=0.003, momentum=0.87, nesterov=True), sgd),
    Case("adam", "adam", dict(learning_rate=0.02, b1=0.85, b2=0.97, eps=1e-3), adam),
    Case("adam_b1_zero", "adam", dict(learning_rate=0.013, b1=0.0, b2=0.93, eps=1e-5), adam),
    Case(
        "adamw",
        "adamw",
        dict(learning_rate=0.017, b1=0.88, b2=0.96, eps=2e-3, weight_decay=0.3),
        adamw,
    ),
    Case(
        "adamw_by_ademamix",
        "adamw",
        dict(learning_rate=0.025, b1=0.8, b2=0.98, eps=1e-4, weight_decay=0.15),
        adamw_by_ademamix,
        note="AdEMAMix with alpha = 0 is AdamW; pytorch_optimizer's AdamW is torch's class",
    ),
    Case("amsgrad", "amsgrad", dict(learning_rate=0.03, b1=0.86, b2=0.94, eps=1e-3), amsgrad),
    Case(
        "amsgradw",
        "amsgradw",
        dict(learning_rate=0.024, b1=0.82, b2=0.92, eps=3e-4, weight_decay=0.2),
        amsgradw,
    ),
    Case("adamax", "adamax", dict(learning_rate=0.03, b1=0.87, b2=0.95, eps=2e-3), adamax),
    Case(
        "nadam",
        "nadam",
        dict(learning_rate=0.016, b1=0.86, b2=0.96, eps=1e-3, momentum_decay=0.004),
        nadam,
    ),
    Case(
        "nadam_fast_decay",
        "nadam",
        dict(learning_rate=0.014, b1=0.92, b2=0.98, eps=1e-4, momentum_decay=1.0),
        nadam,
    ),
    Case(
        "nadamw",
        "nadamw",
        dict(learning_rate=0.018, b1=0.84, b2=0.97, eps=1e-3, momentum_decay=0.03, weight_decay=0.25),
        nadamw,
    ),
    Case(
        "radam",
        "radam",
        dict(learning_rate=0.02, b1=0.85, b2=0.97, eps=1e-12),
        radam,
        note="torch divides by sqrt(vh) + eps/sqrt(c2): this eps is too small to tell",
    ),
    Case(
        "radam_large_eps",
        "radam",
        dict(learning_rate=0.02, b1=0.85, b2=0.97, eps=1e-2),
        radam,
        differs="eps",
        form="u = r mh sqrt(c2)/(sqrt(v) + eps) = r mh/(sqrt(vh) + eps/sqrt(c2)) where rho > 5,"
        " else mh; adamx: r mh/(sqrt(vh) + eps)",
    ),
    Case(
        "rmsprop",
        "rmsprop",
        dict(learning_rate=0.011, decay=0.94, eps=1e-3, eps_in_sqrt=False, centered=False),
        rmsprop,
    ),
    Case(
        "rmsprop_momentum",
        "rmsprop",
        dict(
            learning_rate=0.004,
            decay=0.95,
            eps=2e-3,
            eps_in_sqrt=False,
            centered=False,
            momentum=0.8,
        ),
        rmsprop,
    ),
    Case(
        "rmsprop_centered",
        "rmsprop",
        dict(learning_rate=0.009, decay=0.93, eps=1e-3, eps_in_sqrt=False, centered=True),
        rmsprop,
    ),
    Case(
        "rmsprop_centered_momentum",
        "rmsprop",
        dict(
            learning_rate=0.003,
            decay=0.96,
            eps=3e-3,
            eps_in_sqrt=False,
            centered=True,
            momentum=0.75,
        ),
        rmsprop,
    ),
    Case(
        "adagrad",
        "adagrad",
        dict(learning_rate=0.12, initial_accumulator_value=0.05, eps=1e-2, eps_in_sqrt=False),
        adagrad,
    ),
    Case(
        "adagrad_from_zero",
        "adagrad",
        dict(learning_rate=0.1, initial_accumulator_value=0.0, eps=1e-3, eps_in_sqrt=False),
        adagrad,
    ),
    Case("adadelta", "adadelta", dict(learning_rate=0.7, rho=0.92, eps=1e-4), adadelta),
    Case(
        "adadelta_decay",
        "adadelta",
        dict(learning_rate=1.3, rho=0.88, eps=1e-5, weight_decay=0.1),
        adadelta,
        note="decay is coupled: g + wd p",
    ),
    Case(
        "adabelief",
        "adabelief",
        dict(learning_rate=0.02, b1=0.85, b2=0.97, eps=1e-4, eps_root=1e-4),
        adabelief,
        note="pytorch_optimizer's one eps is both: added to the stored s at each step (eps_root)"
        " and to sqrt(s/c2) (eps)",
    ),
    Case(
        "adabelief_small_eps",
        "adabelief",
        dict(learning_rate=0.012, b1=0.9, b2=0.95, eps=1e-9, eps_root=1e-9),
        adabelief,
    ),
    Case(
        "yogi",
        "yogi",
        dict(learning_rate=0.015, b1=0.86, b2=0.96, eps=2e-3, initial_accumulator_value=0.0),
        yogi,
        note="pytorch_optimizer's initial_accumulator fills m as well as v: only 0 agrees",
    ),
    Case("lion", "lion", dict(learning_rate=0.008, b1=0.88, b2=0.95), lion),
    Case(
        "lion_decay",
        "lion",
        dict(learning_rate=0.006, b1=0.93, b2=0.97, weight_decay=0.5),
        lion,
    ),
    Case("adan", "adan", dict(learning_rate=0.012, b1=0.95, b2=0.9, b3=0.97, eps=1e-3), adan),
    Case(
        "adan_proximal",
        "adan",
        dict(
            learning_rate=0.01,
            b1=0.93,
            b2=0.88,
            b3=0.96,
            eps=1e-4,
            weight_decay=0.4,
            proximal=True,
        ),
        adan,
    ),
    Case(
        "adan_decoupled",
        "adan",
        dict(
            learning_rate=0.01,
            b1=0.93,
            b2=0.88,
            b3=0.96,
            eps=1e-4,
            weight_decay=0.4,
            proximal=False,
        ),
        adan,
    ),
    Case(
        "ademamix",
        "ademamix",
        dict(learning_rate=0.008, b1=0.87, b2=0.97, b3=0.99, alpha=3.0, eps=1e-3),
        ademamix,
    ),
    Case(
        "ademamix_decay",
        "ademamix",
        dict(learning_rate=0.006, b1=0.85, b2=0.96, b3=0.98, alpha=2.0, eps=1e-4, weight_decay=0.3),
        ademamix,
    ),
    Case(
        "ademamix_warmup",
        "ademamix",
        dict(
            learning_rate=0.007,
            b1=0.86,
            b2=0.97,
            b3=0.995,
            alpha=4.0,
            eps=1e-3,
            weight_decay=0.2,
            warmup=70,
        ),
        ademamix,
        note="at step t = 1, 2, ...: alpha_t = min(t/T, 1) alpha; 1/log(b3_t) goes linearly in t"
        " from 1/log(b1) at 0 to 1/log(b3) at T = warmup, and stays",
    ),
    Case(
        "lamb",
        "lamb",
        dict(learning_rate=0.006, b1=0.85, b2=0.97, eps=1e-12, weight_decay=0.0),
        lamb,
        note="without decay the trust ratio removes the missing bias correction; eps, which"
        " pytorch_optimizer adds to the ratio's denominator as well, is too small to tell",
    ),
    Case(
        "lamb_decay",
        "lamb",
        dict(learning_rate=0.008, b1=0.88, b2=0.96, eps=1e-11, weight_decay=0.35),
        lamb,
        note="eps and weight_decay of the source are set before each step, to eps sqrt(c2) and"
        " wd c1/sqrt(c2): a multiple of the bias-corrected update, a factor that the trust ratio"
        " removes; the eps in the ratio's denominator is too small to tell",
        each_step=lamb_correct_bias,
    ),
    Case(
        "lamb_pytorch_optimizer",
        "lamb",
        dict(learning_rate=0.009, b1=0.85, b2=0.97, eps=1e-2, weight_decay=0.35),
        lamb,
        differs="no bias correction; |p| clamped at 10; eps also added to |u| in the ratio",
        form=LAMB_FORM,
    ),
]

CASES += MORE_CASES


# --- the stream --------------------------------------------------------------------------------


def make_stream():
    """Initial parameters and gradients, as float64 arrays of float32 numbers: normal (65 %),
    Student-t with 2.5 degrees of freedom (20 %) or exactly 0 (15 %), about a small mean, scaled
    by 1e-2 to 1e1 according to the coordinate. b[0] sleeps for six steps, w[2, 3] always."""
    rng = np.random.default_rng(20240917)
    init, grads = {}, {}
    for leaf, shape in SHAPES.items():
        size = (STEPS, *shape)
        scale = 10.0 ** rng.uniform(-2, 1, shape)
        mean = rng.uniform(-0.6, 0.6, shape)
        kind = rng.uniform(size=size)
        noise = np.where(kind < 0.65, rng.standard_normal(size), rng.standard_t(2.5, size))
        grad = np.where(kind < 0.85, scale * (mean + noise), 0.0)
        init[leaf] = rng.standard_normal(shape).astype(np.float32).astype(np.float64)
        grads[leaf] = grad.astype(np.float32).astype(np.float64)
    grads["b"][:6, 0] = 0.0
    grads["w"][:, 2, 3] = 0.0
    return init, grads


def make_extras(grads):
    """Float32 numbers, too. The Hessian has the scale of the squared gradients."""
    rng = np.random.default_rng(20251121)
    hessian = {leaf: np.mean(g * g, axis=0) * rng.standard_normal(g.shape) ** 2 for leaf, g in grads.items()}
    t = np.arange(1, STEPS + 1)
    rate = 0.02 * np.minimum(t / 10, 0.1 + 0.9 * np.cos(np.pi * np.maximum(t - 10, 0) / 220) ** 2)
    streams = {"hessian": hessian, "value": rng.uniform(0.1, 20, STEPS), "learning_rate": rate}
    rounded = {
        name: {leaf: y.astype(np.float32).astype(np.float64) for leaf, y in x.items()}
        if isinstance(x, dict)
        else x.astype(np.float32).astype(np.float64)
        for name, x in streams.items()
    }
    return rounded | {"has_hessian": t % 10 == 1}


def run(case, init, grads, extras):
    """The optimizer, and the parameters at the kept steps: {leaf: array (kept steps, *shape)}."""
    streams = {argument: extras[name] for argument, name in case.extras.items()}
    transcribed = None
    if case.transcription is not None:
        with np.errstate(all="raise", under="ignore"):
            paths = case.transcription(init, grads, **case.hyper, **streams)
        transcribed = {leaf: path[np.array(KEPT) - 1] for leaf, path in paths.items()}
    if case.build is None:
        return None, transcribed
    root = po.AdaBound.apply_ams_bound
    defaults = root.__defaults__
    try:
        root.__defaults__ = (0.0,) if case.exact else defaults
        optimizer, kept = run_optimizer(case, init, grads, streams)
    finally:
        root.__defaults__ = defaults
    if transcribed is not None:
        far = max(np.max(np.abs(kept[k] - transcribed[k])) / np.max(np.abs(kept[k] - init[k])) for k in init)
        if (far > case.tolerance) != bool(case.differs):
            raise ValueError(f"{case.id}: {far:.1e} from its transcription")
        if case.tolerance > 1e-10:
            kept = transcribed
    return optimizer, kept


def run_optimizer(case, init, grads, streams):
    params = {leaf: torch.nn.Parameter(torch.tensor(x)) for leaf, x in init.items()}
    rates = streams.get("learning_rate")
    first = {} if rates is None else {"learning_rate": float(rates[0])}
    optimizer = case.build(list(params.values()), **case.hyper, **first)
    if case.exact:
        optimizer.foreach = False
        for group in optimizer.param_groups:
            group["foreach"] = False
    kept = {leaf: [] for leaf in params}
    for step in range(1, STEPS + 1):
        for leaf, param in params.items():
            param.grad = torch.tensor(grads[leaf][step - 1])  # a copy: some optimizers write on it
        for group in optimizer.param_groups if rates is not None else []:
            group["lr"] = float(rates[step - 1])
        if case.each_step is not None:
            case.each_step(optimizer, step, case.hyper)
        optimizer.step()
        if step in KEPT:
            for leaf, param in params.items():
                kept[leaf].append(param.detach().numpy().copy())
    return optimizer, {leaf: np.stack(values) for leaf, values in kept.items()}


def describe(case, optimizer, versions):
    entry = {"id": case.id, "rule": case.rule, "hyper": case.hyper, "source": "transcription", "options": {}}
    confirmed = ""
    if optimizer is not None:
        library, kind = type(optimizer).__module__.split(".")[0], type(optimizer).__name__
        module = "torch.optim" if library == "torch" else library
        source = f"{module}.{kind} {versions[library]}"
        options = {key: x for key, x in optimizer.defaults.items() if x != math.inf}
        if case.tolerance > 1e-10:
            confirmed = f"{source} to {case.tolerance:.0e}"
        else:
            entry |= {"source": source, "options": options}
            confirmed = "transcription" if case.transcription and not case.differs else ""
    extra = {"differs": case.differs, "form": case.form, "note": case.note, "confirmed": confirmed}
    entry |= {key: text for key, text in extra.items() if text}
    if case.extras:
        entry["extras"] = {argument: f"extra/{name}" for argument, name in case.extras.items()}
    return entry


def main():
    # float64 also for what torch keeps in its default type, as NAdam's product of momenta
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    names = ["torch", "pytorch_optimizer", "numpy"]
    versions = {name: version(name).split("+")[0] for name in names}

    init, grads = make_stream()
    extras = make_extras(grads)
    arrays = {f"init/{leaf}": x for leaf, x in init.items()}
    arrays |= {f"grad/{leaf}": x for leaf, x in grads.items()}
    for name, stream in extras.items():
        arrays |= (
            {f"extra/{name}/{k}": x for k, x in stream.items()}
            if isinstance(stream, dict)
            else {f"extra/{name}": stream}
        )
    arrays["steps"] = np.array(KEPT)
    entries = []
    for case in CASES:
        optimizer, kept = run(case, init, grads, extras)
        for leaf, values in kept.items():
            if values.dtype != np.float64 or not np.isfinite(values).all():
                raise ValueError(f"{case.id}: {leaf} is not finite float64")
            arrays[f"params/{case.id}/{leaf}"] = values
        entries.append(describe(case, optimizer, versions))
    if len({case.id for case in CASES}) != len(CASES):
        raise ValueError("two cases have the same id")
    arrays["cases"] = np.array(json.dumps(entries, allow_nan=False))
    arrays["versions"] = np.array(json.dumps(versions))

    part = OUTPUT.with_name(f".{OUTPUT.stem}.{os.getpid()}.npz")
    try:
        np.savez_compressed(part, **arrays)
        os.replace(part, OUTPUT)
    finally:
        part.unlink(missing_ok=True)
    print(f"{OUTPUT}: {len(entries)} cases, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
