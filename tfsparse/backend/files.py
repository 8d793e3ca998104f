"""The one rule for writing: a file appears whole or not at all, and only what tfsparse wrote is replaced or removed."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

MARK = "written by tfsparse (8f3b6c1e)"  # inside pages and figures, which are replaced; nobody else writes the number
_PREFIX, _SUFFIX = ".tfsparse-", ".tmp"  # of the names of folders for what is not complete yet

Writer = Callable[[pathlib.Path], object]


def write(path: str | os.PathLike, writer: Writer, overwrite: bool = False) -> None:
    """Write a file under a temporary name, then rename it in one step.

    Args:
        path: Where the file shall be.
        writer: Function that writes to the path that it is passed, which has the suffix of `path`. If it raises, `path`
            stays as it is.
        overwrite: Whether to replace any file. Default: False, which replaces a file with `MARK` in it.

    Raises:
        ValueError: If `path` is a directory, or a file that must not be replaced.
    """
    path = pathlib.Path(path)
    check_target(path, overwrite)
    with _completed(path, writer) as new:
        os.replace(new, path)


def write_text(path: str | os.PathLike, text: str, overwrite: bool = False) -> None:
    """Write `text` to a file, in UTF-8, as `write` does."""
    write(path, lambda new: new.write_text(text, encoding="utf-8"), overwrite)


def write_directory(path: str | os.PathLike, writer: Writer) -> None:
    """Write a directory under a temporary name, then rename it in one step.

    If there is a directory already, its files of the same names are replaced, and all others stay.

    Args:
        path: Where the directory shall be.
        writer: Function that writes the directory that it is passed.

    Raises:
        ValueError: If `path` is a file or a link, or if a directory inside of it is a link.
    """
    path = pathlib.Path(path)
    if path.is_symlink() or path.is_file():
        raise ValueError(f"{path} is no directory: expected the name of one, or a new name.")
    with _completed(path, writer) as new:
        if not path.exists():
            os.replace(new, path)
            return
        targets = {path / file.relative_to(new): file for file in new.rglob("*") if file.is_file()}
        _check_no_links(path, targets)
        for target, file in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)


def check_target(path: pathlib.Path, overwrite: bool = False) -> None:
    """Refuse a path to which `write` would not write, before any work is done.

    Raises:
        ValueError: If it is a directory or a device, or a file that must not be replaced.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a directory: expected the name of a file, for example {path / 'new.file'}.")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no plain file, and tfsparse writes plain files only: write another name.")
    if os.path.lexists(path) and not overwrite and not _has_mark(path):
        raise ValueError(
            f"{path} exists, and tfsparse replaces only what it wrote. Write another name, or add --overwrite (in "
            "Python overwrite=True)."
        )


def check_name(name: str) -> str:
    """Return a name of which the name of a directory is made.

    Raises:
        ValueError: If it is a path.
    """
    if not name or name in (".", "..") or set(name) & set("/\\:\0"):
        raise ValueError(f"{name!r} becomes the name of a directory: expected no path, but a name such as 'run-1'")
    return name


def remove(directory: pathlib.Path, patterns: Iterable[str]) -> None:
    """Remove files of tfsparse, and the directories that are empty then. Links are not followed.

    Args:
        directory: The directory.
        patterns: Names of its files, relative to it, such as `"variables/variables.*"`.
    """
    for path in [path for pattern in patterns for path in directory.glob(pattern)]:
        if path.is_dir() or any(folder.is_symlink() for folder in _folders(directory, path)):
            continue
        path.unlink()
        for folder in _folders(directory, path):
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def remove_temporaries(directory: pathlib.Path) -> None:
    """Remove what was not complete when a process was killed."""
    for path in filter(is_temporary, directory.glob("*")):
        shutil.rmtree(path, ignore_errors=True)


def is_temporary(path: pathlib.Path) -> bool:
    """Return whether a path is what a killed process left of a file that it wrote."""
    return path.match(f"{_PREFIX}*{_SUFFIX}") and path.is_dir() and not path.is_symlink()


@contextlib.contextmanager
def locked(directory: str | os.PathLike) -> Iterator[None]:
    """Hold a directory, which need not exist yet, for this process. The system lets it go when the process dies.

    Args:
        directory: The directory.

    Raises:
        ValueError: If another process holds it.
    """
    if fcntl is None:
        yield
        return
    folder = pathlib.Path(tempfile.gettempdir(), f"tfsparse-locks-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    name = hashlib.sha256(str(pathlib.Path(directory).resolve()).encode()).hexdigest()[:32]
    with open(folder / name, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"Another process is training into {directory}. Wait until it ends, or choose another directory."
            ) from None
        yield


def digest(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _completed(path, writer):
    """Yield what `writer` has written, on the same file system as `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(_SUFFIX, _PREFIX, path.parent, ignore_cleanup_errors=True) as folder:
        new = pathlib.Path(folder, f"new{path.suffix}")
        writer(new)
        yield new


def _has_mark(path):
    return not path.is_symlink() and MARK.encode() in path.read_bytes()


def _folders(directory, path):
    """Return the directories between a directory and a path in it, the innermost first."""
    return [folder for folder in path.parents if directory in folder.parents]


def _check_no_links(directory, paths):
    for folder in {folder for path in paths for folder in _folders(directory, path)}:
        if folder.is_symlink():
            raise ValueError(f"{folder} is a link, and tfsparse writes nothing to where it leads: remove the link.")
