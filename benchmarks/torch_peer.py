"""Steps of torch.optim for the rules that it has, where torch is installed."""

import functools
import inspect
import os

try:
    import torch
except ImportError:
    torch = None

CLASSES = {
    "sgd": ("SGD", {}),
    "adagrad": ("Adagrad", {"initial_accumulator_value": 0.1}),
    "rmsprop": ("RMSprop", {"alpha": 0.9}),
    "adadelta": ("Adadelta", {}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {"weight_decay": 1e-4}),
    "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {}),
    "nadamw": ("NAdam", {"weight_decay": 1e-4, "decoupled_weight_decay": True}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "radam": ("RAdam", {}),
}
"""Rule -> class of torch.optim and options. Details of the formulas differ (place of eps, warm-up); the work is the same."""


def torch_steps(name, params, grads, learning_rate):
    """ "torch foreach" and, where the class has it on CPU, "torch fused" -> a function that allocates and returns one that makes a step."""
    if torch is None or name not in CLASSES:
        return {}
    torch.set_num_threads(os.cpu_count())
    cls, options = CLASSES[name]
    cls = getattr(torch.optim, cls)
    kinds = [kind for kind in ("foreach", "fused") if kind in inspect.signature(cls).parameters]
    return {
        f"torch {kind}": functools.partial(_stepper, cls, params, grads, {"lr": learning_rate, **options, kind: True})
        for kind in kinds
    }


def _stepper(cls, params, grads, options):
    tensors = [torch.nn.Parameter(torch.tensor(p)) for p in params.values()]
    for tensor, grad in zip(tensors, grads.values(), strict=True):
        tensor.grad = torch.tensor(grad)
    return cls(tensors, **options).step
