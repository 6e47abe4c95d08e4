"""Dead letters: durable when they are added, never lost, and workable when there are many."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from archiver import durable
from archiver.errors import SourceError
from archiver.forward import deadletters
from archiver.forward.base import Outgoing
from archiver.forward.deadletters import (
    MOST_FILE_BYTES,
    MOST_IN_A_FILE,
    DeadLetters,
    Letter,
    LettersBusyError,
)

HOSTILE = '\x1b[31m "\\u0000\x00\u2028\u202e 😀 \ud800 \n</script>'


def outgoing(name: str = "e1", body: bytes = b'{"id": "e1"}') -> Outgoing:
    return Outgoing(body, "events", name, "ws_1", "event.created", "document.created", 5, 7)


def letter(name: str = "e1", body: bytes = b"{}", first_at: int = 1_000) -> Letter:
    return Letter(outgoing(name, body), "refused by the receiver", "400 (no)", first_at)


@pytest.fixture
def letters(tmp_path: Path) -> DeadLetters:
    return DeadLetters(tmp_path / "state" / "siem" / "deadletters")


def _ids(letters: DeadLetters) -> list[str]:
    return [one.event.id for one in letters.letters()]


def _files(letters: DeadLetters) -> list[Path]:
    return sorted(letters.folder.glob("*.jsonl"))


def test_what_was_added_is_read_as_it_was(letters: DeadLetters) -> None:
    body = '{"a":\t"é\u2028",\r\n "b":"\\ud800"}'.encode()
    event = Outgoing(body, "alerts", HOSTILE, HOSTILE, HOSTILE, HOSTILE, -(10**15), 9)
    (added,) = letters.add([Letter.of(event, reason="cannot be sent", answer="x" * 10_000, attempts=0)])
    (found,) = letters.letters()
    assert found.event == event
    assert (found.reason, found.answer, found.attempts) == ("cannot be sent", "x" * 500, 0)
    assert found.id == added.id
    assert found.first_at == added.first_at > 0
    assert letters.find(added.id) == found


def test_a_body_that_is_no_utf_8_is_kept_byte_for_byte(letters: DeadLetters) -> None:
    letters.add([letter(body=bytes(range(256)))])
    assert next(letters.letters()).event.body == bytes(range(256))


def test_an_answer_is_one_line_without_control_characters(letters: DeadLetters) -> None:
    letters.add([Letter.of(outgoing(), reason="r", answer=HOSTILE * 100)])
    (found,) = letters.letters()
    assert found.answer.isprintable()
    assert len(found.answer) <= 500


def test_a_file_of_letters_is_one_that_any_terminal_can_show(letters: DeadLetters) -> None:
    letters.add([letter(HOSTILE, HOSTILE.encode(errors="replace"))])
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in _files(letters)[0].read_bytes())


def test_names_sort_by_the_time_of_the_refusal_and_are_short(letters: DeadLetters) -> None:
    later = letters.add([letter("later", first_at=2_000)])
    earlier = letters.add([letter("first", first_at=1_000), letter("second", first_at=1_000)])
    assert _ids(letters) == ["first", "second", "later"]
    names = [one.id for one in [*earlier, *later]]
    assert names == sorted(names)
    assert all(len(name) == 20 for name in names)
    assert letters.oldest() == 1_000


def test_files_of_one_moment_have_names_of_their_own(letters: DeadLetters) -> None:
    stems = {deadletters._new_stem(1_000) for _ in range(20_000)}
    assert len(stems) == 20_000


def test_nothing_was_added_is_nothing_to_read(letters: DeadLetters) -> None:
    letters.add([])
    assert (letters.count(), letters.oldest(), _ids(letters), letters.find("x")) == (
        (0, True),
        None,
        [],
        None,
    )
    assert not letters.folder.exists()


def test_letters_are_durable_when_add_returns(letters: DeadLetters, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    letters.add([letter()])
    place = str(letters.folder)
    content, names = (
        [at for at, path in enumerate(synced) if path.startswith(f"{place}/")],
        [at for at, path in enumerate(synced) if path == place],
    )
    assert content
    assert content[0] < names[-1]
    assert str(letters.folder.parent) in synced  # the folder's own name, too


def test_what_cannot_be_written_is_an_error_and_not_passed_over(
    letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "create", full)
    with pytest.raises(SourceError, match="No space left"):
        letters.add([letter()])


def test_many_letters_are_several_files_of_bounded_size(letters: DeadLetters) -> None:
    letters.add([letter(str(number)) for number in range(MOST_IN_A_FILE + 1)])
    assert len(_files(letters)) == 2
    large = b"x" * (MOST_FILE_BYTES // 2)
    letters.add([letter("large", large)] * 3)
    assert len(_files(letters)) == 4
    assert letters.count() == (MOST_IN_A_FILE + 4, True)
    assert letters.count(most=1_002) == (1_002, False)
    assert len(_ids(letters)) == MOST_IN_A_FILE + 4


def test_what_is_taken_out_is_gone_and_the_others_stay(letters: DeadLetters) -> None:
    one, two, three = letters.add([letter("1"), letter("2"), letter("3")])
    (other,) = letters.add([letter("other")])
    with letters.alone():
        assert letters.settle([two.id, other.id, "unknown", "0" * 16]) == 2
        assert _ids(letters) == ["1", "3"]
        assert letters.count() == (2, True)
        assert letters.settle([one.id, three.id]) == 2
    assert _files(letters) == []


def test_a_letter_may_be_written_anew_without_being_moved(letters: DeadLetters) -> None:
    one, two = letters.add([letter("1"), letter("2")])
    with letters.alone():
        changed = Letter(two.event, "again", "503", two.first_at, 2, two.id)
        assert letters.settle([], [changed]) == 0
    assert list(letters.letters()) == [one, changed]


def test_a_torn_line_is_told_and_loses_no_other_letter(letters: DeadLetters) -> None:
    one, two, three = letters.add([letter("1"), letter("2"), letter("3")])
    (path,) = _files(letters)
    lines = path.read_bytes().splitlines(keepends=True)
    torn = lines[1][:40] + b"\n"
    path.write_bytes(lines[0] + torn + lines[2] + b'{"letter": "')
    assert _ids(letters) == ["1", "3"]
    assert [told.partition(": ")[2] for told in letters.problems] == [
        "line 2 is no dead letter of this file",
        "line 4 is no dead letter of this file",
    ]
    with letters.alone():
        assert letters.settle([one.id, two.id]) == 1
    assert _ids(letters) == ["3"]
    (path,) = _files(letters)
    assert path.read_bytes() == lines[2] + torn + b'{"letter": "'  # what was torn is kept for whoever looks
    with letters.alone():
        letters.settle([three.id])
    assert _files(letters)[0].read_bytes() == torn + b'{"letter": "'


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"letter": 1}',
        b'{"body": {}}',
        b'{"body_base64": "*"}',
    ],
    ids=str,
)
def test_what_is_no_letter_hides_none(letters: DeadLetters, line: bytes) -> None:
    letters.add([letter("1")])
    (path,) = _files(letters)
    path.write_bytes(line + b"\n" + path.read_bytes())
    assert _ids(letters) == ["1"]
    assert len(letters.problems) == 1


def test_a_wrong_type_in_a_letter_is_no_letter(letters: DeadLetters) -> None:
    letters.add([letter("1")])
    (path,) = _files(letters)
    whole = json.loads(path.read_bytes())
    for key in whole:
        path.write_bytes(json.dumps({**whole, key: ["x"]}).encode())
        assert _ids(letters) == [], key
    path.write_bytes(json.dumps({**whole, "letter": "../../../etc/pass"}).encode())
    assert _ids(letters) == []


def test_foreign_files_are_told_and_left(letters: DeadLetters) -> None:
    letters.add([letter("1")])
    for name in ("notes.txt", "x.jsonl", "..jsonl"):
        (letters.folder / name).write_bytes(b"mine")
    (letters.folder / "00000000000000.1.jsonl").symlink_to("/etc/hostname")
    (letters.folder / "00000000000001.1.jsonl").mkdir()
    assert _ids(letters) == ["1"]
    told = "\n".join(letters.problems)
    assert all(name in told for name in ("notes.txt", "x.jsonl", "0000.1.jsonl", "0001.1.jsonl"))
    assert letters.find("../../etc/passwd") is None


def test_a_crash_between_the_new_file_and_the_old_ones_end_brings_nothing_back(
    letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = letters.add([letter("1"), letter("2")])

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with letters.alone():
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", crash)
            with pytest.raises(KeyboardInterrupt):
                letters.settle([one.id])
        assert len(_files(letters)) == 2
        names = [path.name for path in _files(letters)]
        for order in (names, names[::-1]):  # a folder is listed in any order
            with monkeypatch.context() as patch:
                patch.setattr(letters, "_listed", lambda order=order: iter(order))
                assert (_ids(letters), letters.count()) == (["2"], (1, True))
        assert letters.count() == (1, True)
        removed: list[str] = []
        real = Path.unlink

        def note(path: Path, **options: bool) -> None:
            removed.append(path.name)
            real(path, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", note)
            assert letters.settle([next(letters.letters()).id]) == 1
        # The larger one first: after a crash between them it would count.
        assert [name.split(".")[1] for name in removed] == ["2", "1"]
    assert _files(letters) == []


def test_a_crash_before_the_new_file_is_there_loses_nothing(
    letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = letters.add([letter("1"), letter("2")])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with letters.alone(), monkeypatch.context() as patch:
        patch.setattr(durable, "replace", full)
        with pytest.raises(SourceError):
            letters.settle([one.id])
    assert _ids(letters) == ["1", "2"]


def test_only_one_takes_letters_out_and_the_other_does_not_wait(letters: DeadLetters) -> None:
    letters.add([letter("1")])
    with letters.alone():
        with pytest.raises(LettersBusyError), DeadLetters(letters.folder).alone():
            pass
        DeadLetters(letters.folder).add([letter("2")])  # whoever adds is not held up
    with letters.alone():
        assert sorted(_ids(letters)) == ["1", "2"]


def test_old_pieces_of_dead_writers_are_swept_away_and_young_ones_are_not(letters: DeadLetters) -> None:
    letters.add([letter("1")])
    old, young = letters.folder / ".tmp-old", letters.folder / ".tmp-young"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    long_ago = time.time() - 86_400
    os.utime(old, (long_ago, long_ago))
    with letters.alone():
        assert (old.exists(), young.exists()) == (False, True)


def test_letters_that_are_added_and_taken_out_at_once_are_all_accounted_for(letters: DeadLetters) -> None:
    other = DeadLetters(letters.folder)

    def add() -> None:
        for number in range(60):
            other.add([letter(f"{number}-{part}") for part in range(2)])

    adding = threading.Thread(target=add)
    adding.start()
    gone: set[str] = set()
    while adding.is_alive() or len(gone) < 60:
        with letters.alone():
            found = [one for one in letters.letters() if one.event.id.endswith("-0")]
            letters.settle([one.id for one in found])
            gone |= {one.event.id for one in found}
    adding.join()
    assert len(gone) == 60
    assert sorted(_ids(letters)) == sorted(f"{number}-1" for number in range(60))


def test_a_killed_writer_leaves_whole_letters_or_none(letters: DeadLetters) -> None:
    script = (
        "import sys; from pathlib import Path; from archiver.forward.base import Outgoing\n"
        "from archiver.forward.deadletters import DeadLetters, Letter\n"
        "letters = DeadLetters(Path(sys.argv[1]))\n"
        "for number in range(100_000):\n"
        "    event = Outgoing(b'{}', 'events', str(number), 'w', 't', 'a', 1, 1)\n"
        "    letters.add([Letter.of(event, reason='r')])\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(letters.folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read().splitlines()
    process.stdout.close()
    process.wait()
    told = {line.strip() for line in said if line.strip().isdecimal()}
    assert told <= set(_ids(letters))
    assert letters.problems == []
