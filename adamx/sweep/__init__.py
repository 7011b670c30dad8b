"""Sweeps: a thousand optimizers in one program.

A rule is a pytree of its hyperparameters, so all points of a sweep whose rules have one structure train in one compiled program, a lane for
each point and seed.

    from adamx import sweep

    task = sweep.arrays(init, loss, (images, labels), batch_size=64, evaluate=lambda params: {"validation_loss": ...})
    space = sweep.space(adamx.adamw, learning_rate=sweep.log(1e-4, 1e-1), b2=sweep.log_complement(0.9, 0.9999))
    result = sweep.run(task, space.grid(learning_rate=13, b2=4), steps=1000, seeds=3)
    result.best(metric="validation_loss").code()

Programs are kept for the functions they were compiled of: make a task once. A lane's numbers are those of the same rule trained alone
(`train`), up to rounding.
"""

from adamx.sweep.figures import curves as curves
from adamx.sweep.figures import heat_map as heat_map
from adamx.sweep.figures import rungs as rungs
from adamx.sweep.figures import sensitivity as sensitivity
from adamx.sweep.lanes import train as train
from adamx.sweep.points import Points as Points
from adamx.sweep.points import listed as listed
from adamx.sweep.points import zipped as zipped
from adamx.sweep.result import Best as Best
from adamx.sweep.result import Result as Result
from adamx.sweep.result import load as load
from adamx.sweep.runner import evaluate as evaluate
from adamx.sweep.runner import run as run
from adamx.sweep.spaces import choice as choice
from adamx.sweep.spaces import linear as linear
from adamx.sweep.spaces import log as log
from adamx.sweep.spaces import log_complement as log_complement
from adamx.sweep.spaces import space as space
from adamx.sweep.spaces import warmup_cosine as warmup_cosine
from adamx.sweep.stopping import Halving as Halving
from adamx.sweep.tasks import Task as Task
from adamx.sweep.tasks import arrays as arrays
