"""Ctrl-C ends a script of this folder at once, with one line that says what was kept, and exit code 130.

Python's own KeyboardInterrupt would wait for what XLA compiles or runs, or be raised in the middle of it, and end in a traceback. So the
signal is kept from every thread but one, which waits for it and ends the process. Nothing finished is lost: files are written whole.
"""

import os
import pathlib
import signal
import sys
import threading

kept = []
"""Paths of the results written so far, and of the folder of a sweep under way."""


def line():
    """What an interrupt says."""
    there = [str(path) for path in kept if path.exists()]
    return f"interrupted; kept: {', '.join(there) or 'nothing, as nothing was finished'}"


def _wait():
    signal.sigwait({signal.SIGINT})
    for folder in {path if path.is_dir() else path.parent for path in kept}:
        for unfinished in folder.glob(f".*.{os.getpid()}.*"):  # of adamx.files.whole
            unfinished.unlink(missing_ok=True)
    os.write(2, f"\n{line()}\n".encode())  # a new line, as a progress bar may stand on this one
    os._exit(130)


def watch():
    """From now on Ctrl-C ends the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_wait, daemon=True).start()


if pathlib.Path(sys.argv[0]).resolve().parent == pathlib.Path(__file__).resolve().parent:
    watch()  # a script of this folder runs: also while it imports JAX
