"""The cursor: the newer whole file counts, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.errors import SourceError
from archiver.forward.cursor import FILE, NOW_FILE, CursorFile, InArchive, InSpool, read_cursor


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    one = CursorFile(tmp_path)
    assert one.is_new
    assert read_cursor(tmp_path) is None
    one.cursor.spools["/spool"] = InSpool("a.seg", 3, ["b.seg"])
    one.write()
    one.cursor.archive = InArchive(7, 1, 2)
    one.write()
    assert {path.name for path in tmp_path.iterdir()} == {FILE, NOW_FILE}
    again = CursorFile(tmp_path)
    assert not again.is_new
    assert again.cursor == one.cursor
    assert again.cursor.archive == InArchive(7, 1, 2)


@pytest.mark.parametrize("damage", [b"", b"{", b"\0" * 200, b'{"check": 1, "cursor": {}}', b"[" * 100_000])
def test_a_damaged_newer_file_leaves_the_durable_one(tmp_path: Path, damage: bytes) -> None:
    one = CursorFile(tmp_path)
    one.cursor.archive = InArchive(1)
    one.write(sync=True)
    (tmp_path / NOW_FILE).write_bytes(damage)
    assert CursorFile(tmp_path).cursor.archive == InArchive(1)


def test_two_damaged_files_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"{}")
    with pytest.raises(SourceError, match="no cursor") as caught:
        CursorFile(tmp_path)
    assert "replayed" in caught.value.hint


def test_an_altered_number_is_noticed(tmp_path: Path) -> None:
    one = CursorFile(tmp_path)
    one.cursor.archive = InArchive(41)
    one.write(sync=True)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes().replace(b"41", b"42"))
    with pytest.raises(SourceError):
        CursorFile(tmp_path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    one = CursorFile(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(SourceError, match="cannot write the cursor"):
        one.write()
