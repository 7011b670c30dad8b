"""What `make.py` runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Case:
    id: str
    rule: str  # adamx's name
    hyper: dict  # adamx's arguments
    build: Callable[..., torch.optim.Optimizer] | None = None
    differs: str = ""
    form: str = ""
    note: str = ""
    each_step: Callable | None = None  # called with (optimizer, step, hyper) before each step
    transcription: Callable | None = None  # the source where there is no `build`, else what confirms it
    extras: dict = field(default_factory=dict)  # argument: name of the stream
    tolerance: float = 1e-10  # if larger, `build` only confirms the transcription, which is the source
    exact: bool = False  # without pytorch_optimizer's batches, whose factors are float32, and the 1e-15 under its roots
