"""A file appears whole or not at all, and only what tfsparse wrote is replaced or removed."""

import os
import pathlib
import subprocess
import sys

import pytest

from tfsparse.backend import files


def names(directory):
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


def test_the_old_file_stays_when_the_new_one_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(new):
        new.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write(path, fail, overwrite=True)
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_nothing_is_left_when_a_first_file_fails(tmp_path):
    with pytest.raises(OSError, match="No space"):
        files.write(tmp_path / "inner" / "a.txt", lambda new: (_ for _ in ()).throw(OSError("No space")))
    assert names(tmp_path) == ["inner"]


def test_a_file_of_others_is_replaced_only_when_that_is_asked_for(tmp_path):
    path = tmp_path / "notes.html"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"notes.html exists, and tfsparse replaces only what it wrote.*--overwrite"):
        files.write_text(path, "new")
    assert path.read_text() == "mine"
    files.write_text(path, f"ü {files.MARK}", overwrite=True)
    files.write_text(path, "ö")
    assert path.read_text(encoding="utf-8") == "ö"


def test_a_directory_is_never_replaced_by_a_file(tmp_path):
    (tmp_path / "site" / "inner").mkdir(parents=True)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="site is a directory: expected the name of a file"):
            files.write_text(tmp_path / "site", "page", overwrite)
    assert names(tmp_path) == ["site", "site/inner"]


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.write_text(tmp_path / "link", "new", overwrite=True)
    assert (tmp_path / "target").read_text() == "mine" and (tmp_path / "link").read_text() == "new"


def test_text_about_tfsparse_is_no_mark(tmp_path):
    (tmp_path / "notes.md").write_text("The figures were written by tfsparse.")
    with pytest.raises(ValueError, match="replaces only what it wrote"):
        files.write_text(tmp_path / "notes.md", "page")


@pytest.mark.parametrize("target", ["nowhere", "page"])
def test_a_link_of_others_is_not_replaced(tmp_path, target):
    files.write_text(tmp_path / "page", files.MARK)
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(ValueError, match="replaces only what it wrote"):
        files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_what_is_no_plain_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is no plain file"):
        files.write_text(tmp_path / "pipe", "new", overwrite=True)
    assert (tmp_path / "pipe").is_fifo()


def written(*texts):
    """A writer of a directory with files of these names."""

    def write(new):
        for text in texts:
            (new / text).parent.mkdir(parents=True, exist_ok=True)
            (new / text).write_text(text)

    return write


def test_files_of_others_in_a_directory_stay(tmp_path):
    path = tmp_path / "model"
    files.write_directory(path, written("a", "inner/b"))
    (path / "inner" / "notes").write_text("mine")
    (path / "a").write_text("old")
    files.write_directory(path, written("a", "inner/c"))
    assert names(path) == ["a", "inner", "inner/b", "inner/c", "inner/notes"]
    assert (path / "a").read_text() == "a" and names(tmp_path)[0] == "model"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_directory_replaces_no_file_and_follows_no_link(tmp_path, kind):
    other = tmp_path / "other"
    other.mkdir()
    path = tmp_path / "model"
    path.write_text("mine") if kind == "file" else path.symlink_to(other)
    with pytest.raises(ValueError, match="model is no directory"):
        files.write_directory(path, written("a"))
    assert names(tmp_path) == ["model", "other"]


def test_nothing_is_written_to_where_a_link_in_a_directory_leads(tmp_path):
    written("elsewhere/b", "model/a")(tmp_path)
    (tmp_path / "model" / "inner").symlink_to(tmp_path / "elsewhere")
    before = [path.read_text() for path in (tmp_path / "elsewhere" / "b", tmp_path / "model" / "a")]
    with pytest.raises(ValueError, match="inner is a link, and tfsparse writes nothing to where it leads"):
        files.write_directory(tmp_path / "model", lambda new: written("a2", "inner/b")(new))
    assert [path.read_text() for path in (tmp_path / "elsewhere" / "b", tmp_path / "model" / "a")] == before
    assert names(tmp_path / "model") == ["a", "inner"]


def test_only_known_files_and_directories_that_are_empty_then_are_removed(tmp_path):
    for name in ("model.keras", "logs/train/events.1", "logs/mine", "saved/a", ".git/config", "model.keras.bak"):
        written(name)(tmp_path)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "linked")
    files.remove(tmp_path, ["model.keras", "logs/**/events.*", "saved/*", "link/a", "nothing"])
    left = [".git", ".git/config", "link", "linked", "linked/a", "logs", "logs/mine", "model.keras.bak"]
    assert names(tmp_path) == left


def test_only_own_temporaries_are_removed(tmp_path):
    written(".tfsparse-x1.tmp/new.keras", ".gitignore", ".ssh/key", ".new-site", ".tfsparse-notes/mine")(tmp_path)
    files.remove_temporaries(tmp_path)
    left = [".gitignore", ".new-site", ".ssh", ".ssh/key", ".tfsparse-notes", ".tfsparse-notes/mine"]
    assert names(tmp_path) == left


@pytest.mark.parametrize("name", ["", ".", "..", "/tmp/x", "../x", "a/b", "a\\b", "C:x", "a\0b"])
def test_a_name_is_no_path(name):
    with pytest.raises(ValueError, match="becomes the name of a directory"):
        files.check_name(name)


def test_a_name_may_have_dots_and_spaces():
    assert files.check_name("agp 0.9-seed0") == "agp 0.9-seed0"


HOLD = """
import sys
from tfsparse.backend import files
with files.locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(files.fcntl is None, reason="no locks of files on this system")
def test_a_directory_is_held_by_one_process_until_it_dies(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(files.__file__).parents[2])}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        message = "Another process is training into .*run. Wait until it ends, or choose another directory"
        with pytest.raises(ValueError, match=message), files.locked(tmp_path / "run"):
            pass
        with files.locked(tmp_path / "other"):
            process.kill()
    with files.locked(tmp_path / "inner" / ".." / "run"):
        assert names(tmp_path) == []
