"""Prints, as JSON, the temporaries of elementwise rules' compiled steps: rule -> [of update and apply, of `step`], in leaves' sizes.

The rules are named as arguments; all, if none is. One float32 leaf, parameters and state donated. XLA's flags are those of the environment,
so this runs in a process of its own.
"""

import json
import sys

import jax
import jax.numpy as jnp
import optax

import adamx

SIZE = 2**16


def of(rule):
    """The temporaries of both forms of a step."""

    def apply(params, state, grads):
        updates, state = rule.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def step(params, state, grads):
        return rule.step(grads, state, params)

    leaf = jax.ShapeDtypeStruct((SIZE,), jnp.float32)
    arguments = leaf, jax.eval_shape(rule.init, leaf), leaf
    lowered = [jax.jit(f, donate_argnums=(0, 1)).lower(*arguments) for f in (apply, step)]
    texts = [program.as_text().split("\n", 1)[1] for program in lowered]  # without its name
    # What is the same program is compiled once.
    compiled = {text: program.compile() for text, program in zip(texts, lowered, strict=True)}
    return [round(compiled[text].memory_analysis().temp_size_in_bytes / (4 * SIZE), 1) for text in texts]


if __name__ == "__main__":
    rules = {name: adamx.create(name, 1e-3) for name in sys.argv[1:] or adamx.CATALOGUE}
    elementwise = {name: rule for name, rule in rules.items() if all(stage.elementwise for stage in rule.stages)}
    print(json.dumps({name: of(rule) for name, rule in elementwise.items()}))
