"""The race that finds out whether a store creates atomically."""

from __future__ import annotations

import threading

import pytest

from archiver.errors import PermissionDeniedError, StoreError, WriteOutcomeUnknownError
from archiver.store.local import LocalStore
from archiver.store.probe import race_creates


class Overwrites(LocalStore):
    def put_once(self, key: str, content: bytes) -> None:
        self.put(key, content, mode="overwrite")


class LooksFirst(LocalStore):
    """Checks and then writes, which is what a server without atomic creates does."""

    def put_once(self, key: str, content: bytes) -> None:
        if not hasattr(self, "line"):
            self.line = threading.Barrier(8)
        free = not any(self.list(key))
        if free:
            self.line.wait(5)
            self.put(key, content, mode="overwrite")
            return
        super().put_once(key, content)


class LosesTheWinner(LocalStore):
    """Stores other bytes than it was given."""

    def put_once(self, key: str, content: bytes) -> None:
        super().put_once(key, content + b"!")


class NeverAnswers(LocalStore):
    """Does it, and says nothing."""

    def put_once(self, key: str, content: bytes) -> None:
        super().put_once(key, content)
        raise WriteOutcomeUnknownError("no reply")


class KeepsEverything(LocalStore):
    def delete(self, keys: object) -> None:
        raise PermissionDeniedError("no deletion")


def test_a_store_that_creates_atomically_passes_and_is_left_empty(local_store: LocalStore) -> None:
    report = race_creates(local_store, rounds=5)
    assert report.is_atomic
    assert report.left_behind == ()
    assert list(local_store.list()) == []


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (Overwrites, "8 of 8 concurrent creates succeeded"),
        (LosesTheWinner, "not those of the create that succeeded"),
    ],
)
def test_a_store_that_does_not_is_refused(tmp_path, kind: type[LocalStore], problem: str) -> None:
    report = race_creates(kind(tmp_path), rounds=3)
    assert not report.is_atomic
    assert len(report.problems) == 3
    assert all(problem in one for one in report.problems)


def test_a_store_that_looks_before_it_writes_is_refused(tmp_path) -> None:
    report = race_creates(LooksFirst(tmp_path), rounds=1)
    assert not report.is_atomic


def test_a_create_whose_reply_is_lost_is_no_second_winner(tmp_path) -> None:
    assert race_creates(NeverAnswers(tmp_path), rounds=3).is_atomic


def test_what_could_not_be_deleted_is_reported(tmp_path) -> None:
    store = KeepsEverything(tmp_path)
    report = race_creates(store, rounds=2)
    assert report.is_atomic
    assert list(report.left_behind) == [one.key for one in store.list()]


def test_a_store_that_cannot_be_written_raises(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        race_creates(LocalStore(tmp_path / "file"), rounds=2)
