"""What the scripts of this folder share: arguments, progress, results, and comparisons with published numbers."""

import argparse
import contextlib
import functools
import pathlib
import re
import shutil
import tempfile

import interrupt  # first: Ctrl-C is heeded while JAX is imported
import jax
import numpy as np
import pandas as pd
from tqdm import tqdm

from adamx import files, plot, problems

SURVEYED = (
    "sgd momentum adagrad rmsprop adadelta adam adamw adamax adamaxw nadam nadamw adan lion ademamix amsgrad amsgradw yogi adabelief "
    "novograd adopt radam lamb"
).split()
"""The rules that an experiment surveys if it is not told which: the best known ones."""

# Arguments


class Parser(argparse.ArgumentParser):
    """The arguments of a script, explained by its docstring; a wrong one is one line on stderr and exit code 2, before any work."""

    def __init__(self, doc, out=None, tensorboard=False):
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        if out is not None:
            path, what = f"results/{out}", "folder of the results, default: %(default)s"
            self.add_argument("--out", type=folder, default=path, metavar="DIR", help=what)
        if tensorboard:
            what = "also write TensorBoard files, into OUT/tensorboard"
            self.add_argument("--tensorboard", action="store_true", help=what)

    def error(self, message):
        """Ends the script with one line."""
        self.exit(2, f"{self.prog}: {' '.join(str(message).split())}\n")

    @contextlib.contextmanager
    def refusing(self):
        """In this block data are read: where they are missing or damaged the script ends as with a wrong argument."""
        try:
            yield
        except (OSError, ValueError) as error:
            self.error(error)


def number(multiple_of=1, least=1, most=10**9):
    """The type of an argument that is a whole number of this kind."""
    kind = f"multiple of {multiple_of:,}" if multiple_of > 1 else "whole number"

    def parse(text):
        n = int(text) if re.fullmatch(r"[+-]?\d+", text) else -1
        if not least <= n <= most or n % multiple_of:
            raise argparse.ArgumentTypeError(
                f"expected a {kind} from {max(least, multiple_of):,} to {most:,}, got {text!r}"
            )
        return n

    return parse


def folder(text):
    """The type of an argument that is a folder to write into; made, if need be, by the first result."""
    path = pathlib.Path(text)
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return path
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write into {text!r}: {there}: {error.strerror}") from None


# Progress


class Bar(tqdm):
    """A progress bar that tells the truth: it moves when arrays are there, not when their computation has been asked for."""

    def done(self, values, n=1):
        """Waits for the arrays in `values`, moves the bar by `n`, and returns `values`."""
        values = jax.block_until_ready(values)
        self.update(n)
        return values


def minimise(bar, rule, problem, steps, every, seeds=1, part=200_000):
    """`problems.minimise` for many seeds at once, in parts of `part` steps: yields each `problems.Run`, as NumPy, leading axis of seeds.

    Args:
      bar: A `Bar` of steps.
      rule: The rule.
      problem: A `problems.Problem`.
      steps: A multiple of `every`.
      every: Record each `every`-th step.
      seeds: How many.
      part: Steps between two moves of the bar, about.
    """
    keys = jax.random.split(jax.random.key(0), seeds)
    after = jax.vmap(lambda _: problems.begin(rule, problem))(keys)
    part = max(part // every, 1) * every
    for begun in range(0, steps, part):
        length = min(part, steps - begun)
        run, after = bar.done(_go_on(rule, problem, length, every, keys, after), length)
        yield jax.tree.map(np.asarray, run)


@functools.partial(jax.jit, static_argnames=("problem", "steps", "every"))
def _go_on(rule, problem, steps, every, keys, after):
    def lane(key, after):
        run = problems.minimise(rule, problem, steps, key=key, every=every, after=after)
        return run, run.last()

    return jax.vmap(lane)(keys, after)


# Results


class Results:
    """The results of a script: files in a folder, each whole or not there, or nowhere if the folder is None.

    Attributes:
      folder: Where.
      tensorboard: Whether TensorBoard's files are written too.
    """

    def __init__(self, folder=None, tensorboard=False):
        self.folder, self.tensorboard, self._writers = folder, tensorboard, {}
        if tensorboard:
            from tensorboardX import SummaryWriter  # not without need, as it imports torch where that is installed

            self._writer = SummaryWriter

    def keep(self, name, write):
        """Makes the file called `name` by write(path), which must write it whole."""
        if self.folder is not None:
            write(path := self.folder / name)
            if path not in interrupt.kept:
                interrupt.kept.append(path)

    def table(self, name, table, **options):
        """Writes a pandas table as name.csv; `options` go to its `to_csv`."""
        self.keep(f"{name}.csv", lambda path: files.write_csv(table, path, **options))

    def picture(self, name, figure):
        """Writes a figure as name.png."""
        self.keep(f"{name}.png", lambda path: plot.save(figure, path))

    @contextlib.contextmanager
    def unfinished(self):
        """Yields a folder for an unfinished sweep: removed when the block succeeds, kept when it is interrupted."""
        interrupt.kept.append(path := self.folder / "unfinished")
        yield path
        shutil.rmtree(path)
        interrupt.kept.remove(path)

    def curves(self, run, series, steps=None):
        """Writes curves for TensorBoard, tag -> values at `steps`. A run (folder) a rule: curves of one tag then lie over each other."""
        if not self.tensorboard or self.folder is None:
            return
        if run not in self._writers:
            logs = self.folder / "tensorboard" / plain(run.replace("/", "_"))
            for earlier in logs.glob("events.out.tfevents.*"):
                earlier.unlink()  # or the curves of two runs of the script would be drawn as one
            self._writers[run] = self._writer(str(logs))
        for tag, values in series.items():
            numbers = range(1, len(values) + 1) if steps is None else steps
            for step, value in zip(numbers, values, strict=True):
                self._writers[run].add_scalar(plain(tag), float(value), int(step))
        self._writers[run].flush()

    def __str__(self):
        names = [path.relative_to(self.folder) for path in interrupt.kept if self.folder in path.parents]
        return f"wrote {', '.join(map(str, names))} into {self.folder}"


def plain(name):
    """A name with letters, digits, dots, dashes and slashes, and underscores for the rest: for tags and folders of TensorBoard."""
    return re.sub(r"[^\w./-]+", "_", name.replace("√", "sqrt_"), flags=re.ASCII).strip("_")


# Comparisons


def compare(rows):
    """A table of measured beside expected numbers, from (what, measured, expected, tolerance); NaN agrees with NaN."""
    table = pd.DataFrame(rows, columns=["what", "measured", "expected", "tolerance"]).set_index("what")
    near = np.isclose(table.measured, table.expected, rtol=0, atol=table.tolerance, equal_nan=True)
    return table.assign(agrees=np.where(near, "yes", "NO"))


def show(table, digits=5):
    """A table as text, with numbers to `digits` significant digits; nothing where there is no number."""
    return table.to_string(
        float_format=lambda x: f"{x:,.{digits}g}", formatters={"tolerance": "{:.2g}".format}, na_rep=""
    )


def require(table):
    """Says how many numbers of a table of `compare` agree.

    Raises:
      SystemExit: one does not; says which, what was expected, what was got, and the tolerance.
    """
    for what, row in table[table.agrees != "yes"].iterrows():
        raise SystemExit(
            f"{what}: expected {row.expected:.6g}, got {row.measured:.6g}, tolerance {row.tolerance:.2g} "
            f"({sum(table.agrees == 'yes')} of {len(table)} numbers agree)"
        )
    return f"all {len(table)} numbers that this run can be compared in agree"
