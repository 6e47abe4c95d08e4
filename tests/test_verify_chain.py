"""Commits that were changed, chained anew, forged or cut off are named, and so are counts that are wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archiver import layout
from archiver.archive import open_archive
from archiver.errors import ConfigError, IntegrityError
from archiver.generate import deliveries
from archiver.ledger.entry import Counts, digest_of
from archiver.store.local import LocalStore
from archiver.verify import parse_expected, verify
from tests.verifying import Chained, Tree, built, check, deliver, flip, found, ledger, root

__all__ = ["built", "ledger", "root"]  # fixtures: pytest finds them here by name


@pytest.mark.parametrize("sequence", [0, 1, 2])
def test_a_commit_with_a_changed_number_is_altered(root: Path, ledger: Chained, sequence: int) -> None:
    tree = ledger.tree(sequence)
    tree["committed_at"] = tree["committed_at"][:-2] + ("1Z" if tree["committed_at"][-2] != "1" else "0Z")
    ledger.write(sequence, tree)
    damages = found(check(root, quick=True))
    assert ("altered", layout.commit(sequence)) in damages
    # Only where nothing stands behind the next commit may that be the altered one.
    assert damages - {("altered", layout.commit(sequence))} <= {("altered", layout.commit(3))}
    if sequence < 2:
        assert len(damages) == 1


def test_a_changed_link_blames_the_commit_that_holds_it(root: Path, ledger: Chained) -> None:
    tree = ledger.tree(1)
    tree["previous"] = digest_of(b"another")
    ledger.write(1, tree)
    assert found(check(root, quick=True)) == {("altered", layout.commit(1))}


@pytest.mark.parametrize("sequence", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "change", [lambda old: old + b"\n", lambda old: old[:-1], lambda old: b"", lambda old: b"[]"]
)
def test_a_commit_of_other_bytes_is_altered(
    root: Path, ledger: Chained, sequence: int, change: Callable[[bytes], bytes]
) -> None:
    ledger.path(sequence).write_bytes(change(ledger.path(sequence).read_bytes()))
    assert ("altered", layout.commit(sequence)) in found(check(root, quick=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence", "1"),
        ("sequence", 7),
        ("format", 2),
        ("counts", {}),
        ("counts", dict.fromkeys(Counts().to_json(), "x")),
        ("added", [{"key": "../../etc/passwd"}]),
        ("quarantined", [{"key": 1, "digest": "", "bytes": 0, "entries": 0}]),
        ("lists", [{"key": "../x", "digest": "", "bytes": 0, "entries": 1}]),
        ("source", []),
        ("inputs", [1]),
        ("moved", [{"commit": 1, "ordinal": None}]),
        ("removed", [7]),
        ("previous", None),
        ("batch", 5),
        ("operation", "rewrite"),
        ("archive", {"id": "x"}),
        ("oldest_readable", 9),
    ],
)
def test_a_commit_that_means_nothing_is_altered_and_the_check_goes_on(
    root: Path, ledger: Chained, name: str, value: Any
) -> None:
    ledger.change(2, lambda tree: tree.update({name: value}))
    flip(root / ledger.file().key)
    damages = found(check(root))
    assert ("altered", layout.commit(2)) in damages
    assert ("altered", ledger.file().key) in damages


def test_a_gap_is_a_missing_commit(root: Path, ledger: Chained) -> None:
    ledger.path(2).unlink()
    damages = found(check(root))
    assert ("missing", layout.commit(2)) in damages


def test_several_absent_commits_are_told_in_one_line(root: Path, ledger: Chained) -> None:
    ledger.path(0).unlink()
    ledger.path(1).unlink()
    report = check(root, quick=True)
    assert ("missing", layout.commit(0)) in found(report)
    assert "nor are the 1 after it" in report.damages[0].found


def test_a_ledger_cut_short_looks_whole_unless_its_head_is_expected(root: Path, ledger: Chained) -> None:
    before = check(root)
    ledger.path(3).unlink()
    cut = check(root)
    assert cut.is_intact
    assert any("waiting for collect" in note for note in cut.notes)
    expected = parse_expected(before.expectation)
    assert found(check(root, expect=[expected])) == {("truncated", layout.commit(3))}
    with pytest.raises(IntegrityError, match="truncated 1"):
        check(root, expect=[expected]).raise_if_damaged()


def test_a_ledger_written_anew_is_forked_when_a_commit_is_expected(root: Path, ledger: Chained) -> None:
    before = [(n, digest_of(ledger.path(n).read_bytes())) for n in range(4)]
    ledger.change(1, lambda tree: tree.update(inputs=[{"name": "forged", "digest": "", "bytes": 0}]))
    assert check(root).is_intact
    forked = found(check(root, expect=before))
    assert forked == {("forked", layout.commit(n)) for n in (1, 2, 3)}


def test_an_expected_commit_that_was_altered_alone_is_not_called_forked(root: Path, ledger: Chained) -> None:
    expected = (1, digest_of(ledger.path(1).read_bytes()))
    tree = ledger.tree(1)
    tree["inputs"] = [{"name": "forged", "digest": "", "bytes": 0}]
    ledger.write(1, tree)
    assert {word for word, _ in found(check(root, expect=[expected]))} == {"altered"}


def test_what_was_expected_and_is_there_is_no_damage(root: Path, ledger: Chained) -> None:
    assert check(root, expect=[(n, digest_of(ledger.path(n).read_bytes())) for n in range(4)]).is_intact


@pytest.mark.parametrize("text", ["", "42", "42:abc", "-1:sha256:" + "0" * 64, "x:sha256:" + "0" * 64])
def test_an_expected_commit_of_another_form_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_expected(text)


@pytest.mark.parametrize("count", ["read", "archived", "supplements", "duplicates", "quarantined"])
def test_a_count_changed_in_a_ledger_chained_anew_is_miscounted(
    root: Path, ledger: Chained, count: str
) -> None:
    ledger.change(1, lambda tree: tree["counts"].update({count: tree["counts"][count] + 1}))
    assert found(check(root, quick=True)) == {("miscounted", layout.commit(1))}


def test_counts_that_add_up_but_are_not_the_rows_are_miscounted(root: Path, ledger: Chained) -> None:
    def shift(tree: Tree) -> None:
        tree["counts"]["archived"] -= 1
        tree["counts"]["duplicates"] += 1

    ledger.change(1, shift)
    assert found(check(root, quick=True)) == {("miscounted", layout.commit(1))}


def test_a_time_that_goes_back_makes_the_commit_altered(root: Path, ledger: Chained) -> None:
    ledger.change(2, lambda tree: tree.update(committed_at="2001-01-01T00:00:00.000000Z"))
    assert found(check(root, quick=True)) == {("altered", layout.commit(2))}


def test_removing_what_is_not_live_makes_the_commit_altered(root: Path, ledger: Chained) -> None:
    key = ledger.append("expire", removed=["events/workspace=x/dt=2020-01-01/none.parquet"])
    assert found(check(root, quick=True)) == {("altered", key)}


def test_a_commit_of_a_fenced_attempt_is_inserted(root: Path, ledger: Chained) -> None:
    attempt = layout.new_attempt()
    ledger.append("fence", fenced=[attempt])
    key = ledger.append(attempt=attempt)
    assert found(check(root, quick=True)) == {("inserted", key)}


def test_a_batch_in_two_commits_is_duplicated(root: Path, ledger: Chained) -> None:
    key = ledger.append(batch=ledger.tree(1)["batch"])
    assert found(check(root, quick=True)) == {("duplicated", key)}


def test_a_cursor_that_does_not_go_on_where_it_stood_makes_the_commit_altered(
    root: Path, ledger: Chained
) -> None:
    ledger.append(source={"name": "table", "before": None, "after": "a"})
    ledger.append(source={"name": "table", "before": "a", "after": "b"})
    key = ledger.append(source={"name": "table", "before": "a", "after": "c"})
    assert found(check(root, quick=True)) == {("altered", key)}


def test_a_file_with_another_attempts_name_makes_the_commit_altered(root: Path, ledger: Chained) -> None:
    file = ledger.file().to_json()
    counts = Counts(read=file["rows"], archived=file["rows"]).to_json()
    key = ledger.append(added=[file], counts=counts)
    assert found(check(root, quick=True)) == {("altered", key)}


def _requeue(ledger: Chained, *moved: tuple[int, int], counts: Counts | None = None) -> str:
    counts = counts or Counts(read=len(moved), duplicates=len(moved))
    entries = [{"commit": commit, "ordinal": ordinal} for commit, ordinal in moved]
    return ledger.append("requeue", moved=entries, counts=counts.to_json())


def _quarantined(root: Path, ledger: Chained) -> int:
    first = gzip.decompress((root / ledger.quarantine()).read_bytes()).splitlines()[0]
    return int(json.loads(first)["ordinal"])


def test_an_entry_is_moved_once_and_only_if_it_was_there(root: Path, ledger: Chained) -> None:
    ordinal = _quarantined(root, ledger)
    _requeue(ledger, (1, ordinal))
    assert check(root).is_intact
    again = _requeue(ledger, (1, ordinal))
    absent = _requeue(ledger, (1, 100_000), (0, 3))
    assert found(check(root)) == {("duplicated", again), ("missing", absent)}


def test_a_requeue_counts_what_it_moves(root: Path, ledger: Chained) -> None:
    key = _requeue(ledger, (1, _quarantined(root, ledger)), counts=Counts(read=2, duplicates=2))
    assert found(check(root)) == {("miscounted", key)}


def test_a_list_that_names_other_files_is_followed_as_far_as_it_can_be_read(
    root: Path, ledger: Chained
) -> None:
    (root / ledger.list()).unlink()
    report = check(root)
    assert found(report) == {("missing", ledger.list())}
    assert any(note.startswith("not judged:") for note in report.notes)


def test_a_commit_added_while_verify_runs_is_no_damage(root: Path) -> None:
    class Busy(LocalStore):
        def list(self, prefix: str = "", *, start_after: str = "") -> Any:
            if not prefix:
                archive = open_archive(LocalStore(root))
                deliver(archive, deliveries(events=20, seed=99, workspaces=1, days=1))
            return super().list(prefix, start_after=start_after)

    report = verify(Busy(root))
    assert found(report) == set()
    assert report.head == 3
