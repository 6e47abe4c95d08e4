"""The wrapper that the fault tests rely on does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.errors import ObjectNotFoundError, StoreError, WriteOutcomeUnknownError
from archiver.store.local import LocalStore
from tests.faults.faulty_store import FAULTS, Call, FaultPlan, FaultyStore


@pytest.fixture
def plan() -> FaultPlan:
    return FaultPlan()


@pytest.fixture
def faulty(local_store: LocalStore, plan: FaultPlan) -> FaultyStore:
    return FaultyStore(local_store, plan)


def test_without_rules_everything_passes_and_is_counted(faulty: FaultyStore, plan: FaultPlan) -> None:
    faulty.put("a", b"1")
    faulty.put_once("b", b"2")
    assert faulty.get("a") == b"1"
    assert [one.key for one in faulty.list("", start_after="a")] == ["b"]
    assert faulty.info("b").bytes == 1
    faulty.delete(key for key in ("a", "b"))
    faulty.settle()
    assert [call.method for call in plan.calls] == [
        "put",
        "put_once",
        "get",
        "list",
        "info",
        "delete",
        "settle",
    ]
    assert plan.calls[5] == Call("delete", "a")
    assert plan.struck == []


@pytest.mark.parametrize(("method", "kind"), [("put", StoreError), ("put_once", WriteOutcomeUnknownError)])
def test_each_fault_of_a_create(
    faulty: FaultyStore, plan: FaultPlan, local_store: LocalStore, method: str, kind: type[StoreError]
) -> None:
    create = getattr(faulty, method)
    there_at_once = {"fails": False, "lands_without_reply": True, "lands_later": False, "slow": True}
    there_later = {**there_at_once, "lands_later": True}
    for fault in FAULTS:
        plan.on(method, fault, key=fault.__eq__)
        if fault == "slow":
            create(fault, b"1")
        else:
            with pytest.raises(StoreError) as caught:
                create(fault, b"1")
            assert type(caught.value) is kind
        assert exists(local_store, fault) is there_at_once[fault]
    plan.release()
    plan.release()
    assert {fault: exists(local_store, fault) for fault in FAULTS} == there_later


def exists(store: LocalStore, key: str) -> bool:
    try:
        store.info(key)
    except ObjectNotFoundError:
        return False
    return True


def test_a_late_create_finds_its_place_taken(
    faulty: FaultyStore, plan: FaultPlan, local_store: LocalStore
) -> None:
    plan.on("put_once", "lands_later", nth=1)
    with pytest.raises(WriteOutcomeUnknownError):
        faulty.put_once("a", b"late")
    faulty.put_once("a", b"first")
    plan.release()
    assert local_store.get("a") == b"first"


def test_a_rule_strikes_one_call_by_number_or_method_and_key(faulty: FaultyStore, plan: FaultPlan) -> None:
    plan.at(3, "fails")
    plan.on("put", "fails", key=lambda key: key.startswith("_quarantine/"), nth=2)
    faulty.put("a", b"1")
    faulty.put("_quarantine/a", b"1")
    with pytest.raises(StoreError, match="get fails"):
        faulty.get("a")
    with pytest.raises(StoreError, match="_quarantine/b: put fails"):
        faulty.put("_quarantine/b", b"1")
    faulty.put("_quarantine/c", b"1")
    assert [call.key for call in plan.struck] == ["a", "_quarantine/b"]


def test_reads_and_deletions_fail_too(faulty: FaultyStore, plan: FaultPlan, local_store: LocalStore) -> None:
    local_store.put("a", b"1")
    for method in ("get", "info", "list", "settle"):
        plan.on(method, "lands_later")
    for call in (lambda: faulty.get("a"), lambda: faulty.info("a"), lambda: [*faulty.list()], faulty.settle):
        with pytest.raises(StoreError):
            call()
    plan.on("delete", "lands_without_reply")
    with pytest.raises(StoreError):
        faulty.delete(["a"])
    assert not exists(local_store, "a")


def test_it_wraps_any_store(tmp_path: Path, plan: FaultPlan) -> None:
    inner = LocalStore(tmp_path)
    faulty = FaultyStore(inner, plan)
    assert faulty.location == inner.location
    assert faulty.local_path("a") == inner.local_path("a")
    assert faulty.arrow()[1] == inner.arrow()[1]
