import os
import stat

import pytest

from education_crm.files import copy_into, is_below, remove_file, remove_folder, whole_file


def test_a_whole_file_appears_when_it_is_complete(tmp_path):
    with whole_file(tmp_path / "x") as file:
        file.write(b"abc")
        assert not (tmp_path / "x").exists()

    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"abc"


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    sync = os.fsync

    def watched(descriptor):
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "x").exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)

    with whole_file(tmp_path / "x") as file:
        file.write(b"abc")

    file_before_rename, folder_after = (False, False), (True, True)
    assert synced == [file_before_rename, folder_after]


def test_a_file_that_failed_leaves_what_was_there_and_nothing_else(tmp_path):
    (tmp_path / "x").write_bytes(b"before")

    def write_half():
        with whole_file(tmp_path / "x") as file:
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()

    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"before"


def test_copying_shows_every_byte(tmp_path):
    (tmp_path / "source").write_bytes(b"x" * 300_000)
    seen = []

    with (tmp_path / "target").open("wb") as target:
        assert copy_into(tmp_path / "source", target, seen=seen.append) == 300_000

    assert b"".join(seen) == (tmp_path / "target").read_bytes()


def test_a_link_does_not_lead_out_of_a_folder(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.write_text("keep me")
    (root / "link").symlink_to(outside)

    assert not is_below(root / "link", root)
    assert not is_below(root / ".." / "outside", root)
    assert not is_below(root, root)
    assert not remove_file(root / "link", below=root)
    assert outside.exists()


def test_removing_what_is_gone_is_fine(tmp_path):
    assert not remove_file(tmp_path / "x", below=tmp_path)
    remove_folder(tmp_path / "y", below=tmp_path)


def test_a_folder_outside_is_left_alone(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "other").mkdir()
    remove_folder(tmp_path / "other", below=tmp_path / "root")
    assert (tmp_path / "other").exists()
