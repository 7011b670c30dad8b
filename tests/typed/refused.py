"""What type checkers must refuse: every line that ends in `# refused`, and no other."""

import jax.numpy as jnp

import adamx
from adamx import plot, probes, problems, sweep

rule = adamx.adamw(1e-3)
params = jnp.ones(3)

adamx.adamw("1e-3")  # refused
adamx.adamw(1e-3, b1=None)  # refused
adamx.adamw([1e-3, 1e-2])  # refused
adamx.adamw(1e-3, beta1=0.9)  # refused
adamx.adamw()  # refused
adamx.adamw(1e-3).replace(adamx.LearningRate, 0.1)  # refused
adamx.adamw(1e-3).insert(adamx.Sign(), before="LearningRate")  # refused
adamx.adamw(1e-3).store(mu="bfloat16")  # refused
adamx.update_rule(0.1)  # refused
adamx.masked(0.1, None)  # refused
adamx.LearningRate()  # refused
adamx.Momentum(b2=0.9)  # refused
adamx.RunningMax(0.9)  # refused
adamx.Slot(3)  # refused
adamx.stack(0.1)  # refused
adamx.amw(1e-3)  # refused
rate = rule.get(adamx.LearningRate).rate  # refused
problems.quadratic("steep")  # refused
probes.probe(rule, "alignment")  # refused
sweep.log("low", 1)  # refused
sweep.run(None, {}, steps=3)  # refused
plot.curves([], x_label=3)  # refused
