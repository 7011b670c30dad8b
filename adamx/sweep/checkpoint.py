"""The folder of a sweep: its definition, and a file for each chunk, rewritten whole after each stretch of training."""

import hashlib
import importlib.metadata
import json
import pathlib
import re
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from adamx import files
from adamx.sweep import lanes

DEFINITION = "definition.json"


def definition_of(functions, points, batches, **options):
    """What decides the outcome of a sweep, as a dict of strings and numbers.

    Args:
      functions: `Functions` of the task; described by what they compute (their jaxprs) and the data they bring.
      points: (name, `Points`) pairs.
      batches: Their `Batch`es; described by what a step of each computes, as functions inside rules have nothing else to be told by.
      **options: All else, as values that JSON has.
    """
    key = jax.eval_shape(jax.random.key, 0)
    params, aux = jax.eval_shape(functions.init, key)
    batch_arguments = (key, jax.ShapeDtypeStruct((), jnp.int32))
    batch = jax.eval_shape(functions.batch, *batch_arguments)
    computed = {
        "task's init": (functions.init, key),
        "task's loss": (functions.loss, params, aux, batch),
        "task's batch": (functions.batch, *batch_arguments),
        "task's evaluate": (functions.evaluate, params, aux),
    }
    return {
        **{what: _digest_of_function(*call) for what, call in computed.items()},
        "task's data": _digest(*jax.tree.leaves(functions)),
        "rules' steps": _digest(*(_digest_of_step(functions, own.rules) for own in batches)),
        **{f"points of {name}": _digest(repr(own.rows), *_leaves(own.rules)) for name, own in points},
        **options,
        "jax": jax.__version__,
        "adamx": importlib.metadata.version("adamx"),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        **lanes.settings(),
    }


def _leaves(rules):
    return [part for rule in rules for part in (str(jax.tree.structure(rule)), *jax.tree.leaves(rule))]


def _digest_of_step(functions, rules):
    def step(functions, rule):
        start = lanes.fresh(functions, 0)
        return lanes.advance(functions, rule, start.key, lanes.begin(rule, start), 0, True)

    return _digest_of_function(step, functions, jax.tree.map(lambda a: a[0], rules))


def _digest_of_function(function, *arguments):
    traced = jax.make_jaxpr(function)(*arguments)
    return _digest(str(traced), *traced.consts)


def _digest(*parts):
    sha = hashlib.sha256()
    for part in parts:
        # Addresses of functions differ from process to process.
        plain = re.sub("0x[0-9a-f]+", "", part).encode() if isinstance(part, str) else None
        sha.update(np.ascontiguousarray(part).tobytes() if plain is None else plain)
        sha.update(b"\0")
    return sha.hexdigest()[:16]


class Folder:
    """Where a sweep is kept, so that it goes on after it was killed.

    Args:
      path: The folder; made if it is not there.
      definition: `definition_of` the sweep.
      writes: Whether this process is the one that writes.

    Raises:
      ValueError: the folder is of a sweep of another definition (says what differs), or has chunks but no definition.
    """

    def __init__(self, path, definition, writes):
        self.path, self.writes = pathlib.Path(path), writes
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"directory={str(path)!r} is a file: give the sweep a folder, which need not exist.")
        definition = json.loads(json.dumps(definition))
        self.hash = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
        if not (self.path / DEFINITION).exists():
            if found := sorted(self.path.glob("chunk-*.npz")):
                raise ValueError(
                    f"{self.path} has {found[0].name}, but no {DEFINITION}: give the sweep another folder."
                )
            if writes:
                with files.whole(self.path / DEFINITION) as temporary:
                    temporary.write_text(json.dumps(definition | {"hash": self.hash}, indent=1) + "\n")
            return
        self._compare(definition)
        if writes:
            for left in self.path.glob(".chunk-*.npz"):
                left.unlink()

    def _compare(self, definition):
        path = self.path / DEFINITION
        try:
            stored = json.loads(path.read_text())
            stored.pop("hash")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{path} is not the definition of a sweep, or is damaged ({error}): {_ADVICE}") from None
        names = dict.fromkeys((*stored, *definition))
        changed = [name for name in names if stored.get(name) != definition.get(name)]
        if changed:
            was = "; ".join(f"{n}: {stored.get(n, 'none')} there, {definition.get(n, 'none')} now" for n in changed)
            raise ValueError(
                f"{self.path} holds another sweep ({was}). Give this one another folder, or remove that one."
            )

    def load(self, chunk, shapes):
        """What `save` was given for this chunk, or None.

        Args:
          chunk: `Chunk`.
          shapes: Tree of the lanes' shapes and dtypes.

        Returns:
          (step, lanes (None if they are needed no more), arrays).

        Raises:
          ValueError: the file is damaged, or not of this sweep.
        """
        path = self._path_of(chunk)
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file) as stored:
                arrays = dict(stored)
            if str(arrays.pop("hash")) != self.hash or arrays.pop("points").tolist() != chunk.points.tolist():
                raise ValueError("it is of another sweep")
            step, leaves = int(arrays.pop("step")), []
            expected, structure = jax.tree.flatten(shapes)
            if "lane 0" in arrays:
                leaves = [_typed(arrays.pop(f"lane {i}"), like) for i, like in enumerate(expected)]
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} cannot be gone on from ({error}): {_ADVICE}") from error
        return step, structure.unflatten(leaves) if leaves else None, arrays

    def save(self, chunk, step, carried, arrays):
        """Writes how far a chunk is: the step, its lanes (`carried`, a tree of NumPy arrays, or None) and `arrays` of what was recorded."""
        if not self.writes:
            return
        leaves = {f"lane {i}": leaf for i, leaf in enumerate(jax.tree.leaves(carried))}
        with files.whole(self._path_of(chunk)) as temporary:
            np.savez(temporary, hash=self.hash, points=chunk.points, step=step, **leaves, **arrays)

    def _path_of(self, chunk):
        return self.path / f"chunk-{chunk.key}.npz"


_ADVICE = "it was left as it is. Remove it to train its lanes anew, or give the sweep another folder."


def _typed(array, like):
    """`array` with the dtype that NumPy's files lose (bfloat16 and the like). Raises ValueError if the shapes differ."""
    if array.shape != like.shape or array.dtype.itemsize != like.dtype.itemsize:
        raise ValueError(f"expected an array of shape {like.shape}, found {array.shape}")
    return array.view(like.dtype)
