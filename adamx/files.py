"""Files that are whole or not there."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, made into `path` at the end of the block, or removed if the block fails.

    Folders are made; the ending of the name is kept, as writers choose a format by it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole(pathlib.Path(folder, "new", "a.txt")) as temporary:
    ...         _ = temporary.write_text("all of it")
    ...     print(pathlib.Path(folder, "new", "a.txt").read_text())
    all of it
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(table: Any, path: str | os.PathLike[str], **options: Any) -> None:
    """Writes a pandas table as CSV, numbers to 7 digits, whole or not at all; `options` go to its `to_csv`."""
    with whole(path) as temporary:
        table.to_csv(temporary, float_format="%.7g", **options)
