"""Files that are written whole or not at all."""

import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable

TEMPORARY_PREFIX = ".new-"  # of the name of a file that is not complete yet


def write(path: pathlib.Path, writer: Callable[[pathlib.Path], object]) -> None:
    """Write a file or a directory under a temporary name beside `path`, then rename it in one step.

    Args:
        path: Where the file shall be. An existing file or directory is replaced.
        writer: Function that writes to the path that it is passed. If it raises, `path` stays as it is.
    """
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    remove(temporary)
    try:
        writer(temporary)
    except BaseException:
        remove(temporary)
        raise
    if path.is_dir():  # a directory cannot be replaced by another
        shutil.rmtree(path)
    os.replace(temporary, path)


def write_text(path: pathlib.Path, text: str) -> None:
    """Write `text` to the file `path`, in UTF-8."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def digest(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: pathlib.Path) -> None:
    """Remove a file, a link or a directory, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
