"""Files are written whole or not at all."""

import pytest

from tfsparse.backend import files


def test_write_leaves_the_old_file_when_the_new_one_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_write_replaces_a_file_and_a_directory(tmp_path):
    files.write_text(tmp_path / "a", "ü")
    files.write_text(tmp_path / "a", "ö")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "ö"
    for name in ("old", "new"):
        files.write(tmp_path / "folder", lambda path, name=name: (path / name).mkdir(parents=True))
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["new"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "folder"]


def test_remove_takes_what_is_there_and_does_not_follow_links(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("link", "nothing"):
        files.remove(tmp_path / name)
    assert (tmp_path / "folder" / "inner").is_dir() and not (tmp_path / "link").is_symlink()
    files.remove(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
