"""What `archiver.store.base.Store` says, held against every store there is."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import dataset

from archiver.errors import ObjectNotFoundError, PreconditionFailedError, StoreError
from archiver.store.base import Deleted, Store
from archiver.store.local import LocalStore
from archiver.store.probe import race_creates

ODD_KEYS = [
    "events/workspace=a%2Fb/dt=2026-03-26/x.parquet",
    "events/workspace=%C3%A9 %25/y.parquet",
    "with space/and+plus/x y",
    "unicode/é中\U0001f600",
    "marks/!'()*;:@&=+$,?#[]<>\"|^`{}~",
    "back\\slash/a\\b",
    "dots/..a/.b/c..",
    "a=b=c",
]
ESCAPES = [
    "../x",
    "a/../../x",
    "/etc/x",
    "a//b",
    "a/",
    "",
    ".",
    "a/./b",
    "nul\0",
    "\ud800",
    ".tmp-x",
    "a/.tmp-x",
]


def keys_of(store: Store, prefix: str = "", start_after: str = "") -> list[str]:
    return [one.key for one in store.list(prefix, start_after=start_after)]


def test_what_is_put_is_what_is_read(store: Store) -> None:
    content = bytes(range(256)) * 999
    store.put("a/b", content)
    store.put("a/empty", b"")
    assert store.get("a/b") == content
    assert store.get("a/empty") == b""


def test_create_of_other_bytes_is_refused_and_changes_nothing(store: Store) -> None:
    store.put("a/b", b"first")
    for other in (b"other", b"longer than the first", b""):
        with pytest.raises(PreconditionFailedError, match="a/b"):
            store.put("a/b", other)
    assert store.get("a/b") == b"first"


def test_create_of_the_same_bytes_is_a_success(store: Store) -> None:
    store.put("a/b", b"same")
    store.put("a/b", b"same")
    assert keys_of(store) == ["a/b"]


def test_overwrite_replaces_what_is_there_and_creates_what_is_not(store: Store) -> None:
    store.put("a", b"new", mode="overwrite")
    store.put("a", b"newer and longer", mode="overwrite")
    store.put("a", b"short", mode="overwrite")
    assert store.get("a") == b"short"


def test_put_once_creates(store: Store) -> None:
    store.put_once("_ledger/00000000000000000001.json", b"{}")
    assert store.get("_ledger/00000000000000000001.json") == b"{}"


def test_put_once_is_refused_by_whatever_is_there_even_our_bytes(store: Store) -> None:
    store.put_once("a", b"ours")
    for second in (b"ours", b"other"):
        with pytest.raises(PreconditionFailedError, match="a: expected nothing"):
            store.put_once("a", second)
    assert store.get("a") == b"ours"


def test_of_eight_racing_creates_one_wins_and_is_read(store: Store) -> None:
    report = race_creates(store, writers=8, rounds=30)
    assert report.problems == ()
    assert report.is_atomic
    assert report.rounds == 30
    assert keys_of(store) == []


def test_of_racing_puts_with_different_bytes_one_succeeds(store: Store) -> None:
    line = threading.Barrier(8)

    def put(number: int) -> bool:
        line.wait()
        try:
            store.put("new/folder/key", b"%d" % number)
        except PreconditionFailedError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(put, range(8)))
    assert won.count(True) == 1
    assert store.get("new/folder/key") == b"%d" % won.index(True)


def test_a_part_is_read_by_start_and_length_and_ends_with_the_object(store: Store) -> None:
    content = b"0123456789"
    store.put("a", content)
    for start in (0, 3, 9, 10, 50):
        assert store.get("a", start=start) == content[start:]
        for length in (0, 1, 4, 10, 100):
            assert store.get("a", start=start, length=length) == content[start : start + length]


def test_a_part_of_an_empty_object_is_empty(store: Store) -> None:
    store.put("a", b"")
    for length in (None, 0, 5):
        assert store.get("a", length=length) == b""


def test_reading_what_is_not_there_is_an_object_not_found(store: Store) -> None:
    store.put("folder/a", b"1")
    for key in ("b", "folder", "folder/b", "folder/a/c"):
        with pytest.raises(ObjectNotFoundError, match=key):
            store.get(key)
        with pytest.raises(FileNotFoundError):
            store.info(key)
        with pytest.raises(ObjectNotFoundError):
            store.get(key, start=1, length=0)


def test_info_tells_size_and_time_with_a_zone(store: Store) -> None:
    store.put("a/b", b"12345")
    found = store.info("a/b")
    assert (found.key, found.bytes) == ("a/b", 5)
    assert abs(found.modified_at - datetime.now(UTC)) < timedelta(minutes=1)
    (listed,) = store.list()
    assert (listed.key, listed.bytes) == ("a/b", 5)
    assert abs(listed.modified_at - found.modified_at) < timedelta(seconds=2)


def test_an_archive_that_is_not_there_lists_nothing(store: Store) -> None:
    assert keys_of(store) == []
    assert keys_of(store, "_ledger/") == []


def test_keys_are_listed_in_the_byte_order_of_the_whole_key(store: Store) -> None:
    keys = ["a.b", "a/b", "a/b.c/d", "a/b-x", "a0", "a-", "B", "é", "z", "\U0001f600", "￿", "a/b!"]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda key: store.put(key, b"1"), keys))
    assert keys_of(store) == sorted(keys, key=str.encode)


def test_a_prefix_may_be_half_a_name(store: Store) -> None:
    for key in ("ab/c", "ab/d", "abc", "b", "ab.e"):
        store.put(key, b"1")
    assert keys_of(store, "ab") == ["ab.e", "ab/c", "ab/d", "abc"]
    assert keys_of(store, "ab/") == ["ab/c", "ab/d"]
    assert keys_of(store, "ab/c") == ["ab/c"]
    assert keys_of(store, "x") == []
    assert keys_of(store, "ab/c/") == []


def test_start_after_yields_only_what_lies_behind(store: Store) -> None:
    keys = ["a/1", "a/2", "a/3", "b.x", "b/1", "b/2", "c"]
    for key in keys:
        store.put(key, b"1")
    for behind in (*keys, "a", "a/", "a/2x", "b", "b/", "b0", "zz"):
        assert keys_of(store, start_after=behind) == [key for key in keys if key > behind]
    assert keys_of(store, "a/", start_after="a/2") == ["a/3"]
    assert keys_of(store, "a/", start_after="b") == []
    assert keys_of(store, "b/", start_after="a/2") == ["b/1", "b/2"]


def test_more_objects_than_fit_on_a_page_are_listed_and_deleted(store: Store) -> None:
    count = 1203 if store.local_path("n") is None else 203  # a page of S3's is a thousand
    expected = [f"n/{number:05d}" for number in range(count)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: store.put(key, b"1"), expected))
    assert keys_of(store) == expected
    assert keys_of(store, start_after="n/00199") == expected[200:]
    store.delete(key for key in expected if key != "n/00150")
    assert keys_of(store) == ["n/00150"]


def test_what_is_deleted_is_gone_and_a_missing_key_is_no_error(store: Store) -> None:
    store.put("a/b", b"1")
    store.delete(["a/b", "a/c", "never/was"])
    store.delete(["a/b"])
    store.delete([])
    with pytest.raises(ObjectNotFoundError):
        store.get("a/b")
    store.put("a/b", b"2")
    assert store.get("a/b") == b"2"


def test_a_deletion_says_how_many_keys_name_nothing_any_more(store: Store) -> None:
    for key in ("a/b", "c"):
        store.put(key, b"1")
    assert store.delete(["a/b", "c", "never/was"]) == Deleted(3)
    assert store.delete([]) == Deleted()


def test_without_object_lock_nothing_is_locked(store: Store) -> None:
    store.put("a", b"1")
    assert store.lock_keep is None
    assert store.locked_until("a") is None
    assert store.lock([], datetime.now(UTC) + timedelta(days=2)) == 0
    with pytest.raises(ObjectNotFoundError):
        store.locked_until("b")


def test_odd_keys_survive_every_call(store: Store) -> None:
    for key in ODD_KEYS:
        store.put(key, key.encode())
        assert store.get(key) == key.encode()
        assert store.info(key).key == key
        with pytest.raises(PreconditionFailedError):
            store.put_once(key, b"other")
    assert keys_of(store) == sorted(ODD_KEYS, key=str.encode)
    for key in ODD_KEYS:
        assert keys_of(store, key) == [key]
    store.delete(ODD_KEYS)
    assert keys_of(store) == []


def test_a_key_that_leaves_the_archive_is_refused_by_every_call(store: Store) -> None:
    for key in ESCAPES:
        assert_refused(store, key)


def assert_refused(store: Store, key: str) -> None:
    for call in (
        lambda: store.put(key, b"1"),
        lambda: store.put(key, b"1", mode="overwrite"),
        lambda: store.put_once(key, b"1"),
        lambda: store.get(key),
        lambda: store.info(key),
        lambda: store.delete([key]),
        lambda: store.locked_until(key),
        lambda: store.local_path(key),
    ):
        with pytest.raises(StoreError, match="key "):
            call()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sets(st.text("ab./-0é", min_size=1, max_size=6), max_size=8),
    st.text("ab./-0é", max_size=4),
    st.text("ab./-0é", max_size=4),
)
def test_a_local_listing_is_that_of_a_flat_store(
    tmp_path_factory: pytest.TempPathFactory, keys: set[str], prefix: str, behind: str
) -> None:
    store, there = LocalStore(tmp_path_factory.mktemp("flat")), []
    for key in sorted(keys):
        try:
            store.put(key, b"1")
        except StoreError:
            continue  # no key, or one through an object
        there.append(key)
    expected = sorted((k for k in there if k.startswith(prefix) and k > behind), key=str.encode)
    try:
        assert keys_of(store, prefix, behind) == expected
    except StoreError:
        assert expected == []


def test_settle_may_be_called_at_any_time(store: Store) -> None:
    store.settle()
    store.put_once("_ledger/00000000000000000000.json", b"{}")
    store.settle()


@pytest.mark.parametrize("name", ["plain.parquet", "events/workspace=a%2Fb %C3%A9/dt=2026-03-26/é+x.parquet"])
def test_pyarrow_reads_what_was_put(store: Store, name: str) -> None:
    table = pa.table({"id": ["a", "b", "c"], "n": [1, 2, 3]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    store.put(name, sink.getvalue().to_pybytes())
    filesystem, root = store.arrow()
    assert root.endswith("/")
    assert pq.read_table(root + name, filesystem=filesystem).equals(table)
    found = dataset.dataset([root + name], filesystem=filesystem, format="parquet")
    assert found.to_table(filter=dataset.field("n") > 2)["id"].to_pylist() == ["c"]


def test_a_location_names_the_place_and_opens_it_again(store: Store) -> None:
    assert store.location
    assert "testsecret" not in store.location
    path = store.local_path("a/b")
    assert path is None or path == f"{store.location}/a/b"
