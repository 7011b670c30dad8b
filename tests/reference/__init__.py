"""The update rules in NumPy and float64, as an independent reference for the tests.

Written from the papers and, where a paper leaves something open, from its authors' code; never from
the package under test, whose source was not read. Where implementations in the wild differ, the
default here is the form the project chose and the other forms are named options.

Every rule is `rule(params, grads, learning_rate, **hyperparameters)`: one leaf of parameters
(float64 or complex128), the gradients of T steps stacked along axis 0, and back come the parameters
after each of those steps. Learning rate, decay rates, weight decay and mixing weights may be
numbers or functions of the count, which is 0 at the first update (the papers' t is count + 1).
Names follow the papers: g gradient, m first moment, v second moment, u the direction stepped along,
c the weight a moving average has gathered so far, p the parameters.
"""

import inspect

from reference import (
    around,
    classics,
    first_moment,
    gradient,
    matrices,
    oracles,
    second_moment,
    shaped,
    step,
    whole_tree,
)
from reference.classics import alpha_schedule as alpha_schedule
from reference.classics import b3_schedule as b3_schedule

MODULES = (classics, first_moment, second_moment, step, gradient, whole_tree, around, shaped, matrices, oracles)

REFERENCE = {
    name: function
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__
    and list(inspect.signature(function).parameters)[:2] == ["params", "grads"]
}
"""Name of a rule -> its function: those of the modules whose first arguments are `params, grads`."""
