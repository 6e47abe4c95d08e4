"""Each event is settled once, in order; the cursor moves behind what is settled, and never before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.errors import SourceError
from archiver.forward import sending
from archiver.forward.base import Limits, Portion, Trouble, Verdict, all_again
from archiver.forward.deadletters import DeadLetters
from archiver.forward.sending import (
    MOST_REFUSED_IN_A_ROW,
    DestinationError,
    Policy,
    Tally,
    fitted,
)
from tests.forward.sending import QUICK, ScriptedIntake, ScriptedReader, later, sender


def _ids(count: int) -> list[str]:
    return [f"e{number}" for number in range(count)]


def _dead(folder: Path) -> list[str]:
    return [letter.event.id for letter in DeadLetters(folder).letters()]


def test_events_arrive_in_order_in_requests_within_the_limits_across_portions(tmp_path: Path) -> None:
    intake, reader = ScriptedIntake(), ScriptedReader([3, 0, 6, 1])
    assert sender(intake, tmp_path).send(reader)
    assert intake.taken == _ids(10)
    assert [len(ids) for ids in intake.requests] == [4, 4, 2]
    assert reader.acknowledged[-1] == (3, 1)


def test_a_request_is_not_larger_than_its_bytes_allow(tmp_path: Path) -> None:
    intake = ScriptedIntake(limits=Limits(100, 6, 100))
    sender(intake, tmp_path).send(ScriptedReader([5]))
    assert [len(ids) for ids in intake.requests] == [3, 2]


def test_the_cursor_moves_only_behind_what_was_taken(tmp_path: Path) -> None:
    intake, reader = ScriptedIntake(), ScriptedReader([10])
    known: list[int] = []
    reader.before_acknowledging = lambda: known.append(len(intake.taken))
    sender(intake, tmp_path).send(reader)
    assert [place for _, place in reader.acknowledged] == known == [4, 8, 10]


def test_a_portion_of_which_nothing_is_wanted_moves_the_cursor(tmp_path: Path) -> None:
    intake, reader = ScriptedIntake(), ScriptedReader([0, 0])
    sender(intake, tmp_path).send(reader)
    assert intake.requests == []
    assert reader.acknowledged[-1] == (1, 0)


def test_what_fails_is_sent_again_until_it_is_taken(tmp_path: Path) -> None:
    intake = ScriptedIntake([later, later, later])
    one = sender(intake, tmp_path)
    one.send(ScriptedReader([4]))
    assert intake.taken == _ids(4)
    assert (one.tally.requests, one.tally.retries, one.tally.taken) == (4, 3, 4)
    assert one.tally.failures == 0
    assert one.tally.trouble == "503 (busy)"


def test_only_the_part_that_failed_is_sent_again(tmp_path: Path) -> None:
    half = Trouble("later", "429")
    intake = ScriptedIntake([lambda _: Verdict(again=[1, 3], trouble=half)])
    sender(intake, tmp_path).send(ScriptedReader([4]))
    assert intake.requests == [_ids(4), ["e1", "e3"]]


def test_what_is_to_be_sent_again_without_trouble_goes_at_once(tmp_path: Path) -> None:
    intake = ScriptedIntake([lambda _: Verdict(refused={1: "code 6"}, again=[2, 3])])
    slow = replace(QUICK, first_wait=60.0, longest_wait=60.0)
    sender(intake, tmp_path, policy=slow).send(ScriptedReader([4]))
    assert intake.taken == ["e0", "e2", "e3"]
    assert _dead(tmp_path) == ["e1"]


@settings(max_examples=25)
@given(poison=st.sets(st.integers(0, 15)), sizes=st.lists(st.integers(0, 6), max_size=4))
def test_a_refused_batch_is_divided_until_the_poison_stands_alone(
    poison: set[int], sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("letters")
    intake = ScriptedIntake(poison=frozenset(f"e{number}" for number in poison))
    one = sender(intake, folder)
    one.send(reader := ScriptedReader(sizes))
    sent = _ids(sum(sizes))
    assert intake.taken == [each for each in sent if each not in intake.poison]
    assert sorted(_dead(folder)) == sorted(each for each in sent if each in intake.poison)
    assert one.tally.dead + one.tally.taken == len(sent)
    if sent:
        assert reader.acknowledged[-1] == (len(sizes) - 1, sizes[-1])


def test_a_dead_letter_is_durable_before_the_cursor_passes_it(tmp_path: Path) -> None:
    intake, reader = ScriptedIntake(poison=frozenset({"e2"})), ScriptedReader([4])
    found: list[list[str]] = []
    reader.before_acknowledging = lambda: found.append(_dead(tmp_path))
    sender(intake, tmp_path).send(reader)
    assert found == [["e2"]]


def test_an_event_above_the_limit_is_a_dead_letter_and_its_neighbours_arrive(tmp_path: Path) -> None:
    intake = ScriptedIntake(limits=Limits(4, 1000, 11))
    one = sender(intake, tmp_path)
    one.send(ScriptedReader([12]))
    assert intake.taken == _ids(10)
    assert _dead(tmp_path) == ["e10", "e11"]
    (first, _) = DeadLetters(tmp_path).letters()
    assert "12 bytes" in first.answer
    assert first.attempts == 0


def test_what_a_working_receiver_fails_at_for_long_is_a_dead_letter_and_holds_up_nothing(
    tmp_path: Path,
) -> None:
    trouble = Trouble("later", "500", "cannot index it", of_items=True)

    def fails(ids: list[str]) -> Verdict:
        return Verdict(again=[ids.index("e1")], trouble=trouble) if "e1" in ids else Verdict()

    intake = ScriptedIntake([fails] * 1000)
    sender(intake, tmp_path, policy=replace(QUICK, give_up_after=0.05)).send(ScriptedReader([8]))
    assert intake.taken == [f"e{number}" for number in (0, 2, 3, 4, 5, 6, 7)]
    assert _dead(tmp_path) == ["e1"]


@pytest.mark.parametrize("poison", ["e0", "e3", "e7"])
def test_an_event_at_which_a_receiver_fails_with_500_is_found_and_holds_up_nothing(
    tmp_path: Path, poison: str
) -> None:
    def fails(ids: list[str]) -> Verdict:
        return all_again(len(ids), Trouble("later", "500", "oops")) if poison in ids else Verdict()

    intake = ScriptedIntake([fails] * 10_000, limits=Limits(8, 1 << 20, 1 << 20))
    sender(intake, tmp_path, policy=replace(QUICK, give_up_after=0.2)).send(ScriptedReader([16]))
    assert sorted(intake.taken, key=lambda one: int(one[1:])) == [one for one in _ids(16) if one != poison]
    assert _dead(tmp_path) == [poison]


def test_where_each_event_goes_alone_one_that_fails_with_500_holds_up_nothing(tmp_path: Path) -> None:
    def fails(ids: list[str]) -> Verdict:
        return all_again(len(ids), Trouble("later", "500", "oops")) if "e0" in ids else Verdict()

    intake, reader = ScriptedIntake([fails] * 10_000, limits=Limits(1, 1 << 20, 1 << 20)), ScriptedReader([4])
    policy, tally = replace(QUICK, give_up_after=0.05), Tally()
    with pytest.raises(DestinationError):  # nothing shows yet whose fault it is
        sender(intake, tmp_path, policy=policy, tally=tally).send(reader)
    assert reader.acknowledged == []
    sender(intake, tmp_path, policy=policy, tally=tally).send(ScriptedReader([4]))
    assert sorted(intake.taken) == ["e1", "e2", "e3"]
    assert _dead(tmp_path) == ["e0"]
    assert {len(ids) for ids in intake.requests} == {1}


def test_a_receiver_that_fails_at_everything_gets_no_dead_letters(tmp_path: Path) -> None:
    intake = ScriptedIntake([lambda ids: all_again(len(ids), Trouble("later", "500", "oops"))] * 10_000)
    with pytest.raises(DestinationError):
        sender(intake, tmp_path, policy=replace(QUICK, give_up_after=0.1)).send(ScriptedReader([16]))
    assert not tmp_path.exists() or _dead(tmp_path) == []


def test_settings_trouble_ends_it_at_once_and_makes_no_dead_letter(tmp_path: Path) -> None:
    refused = Trouble("settings", "401", "no such token", "is the token right?")
    intake = ScriptedIntake([lambda ids: all_again(len(ids), refused)])
    reader = ScriptedReader([4])
    one = sender(intake, tmp_path)
    with pytest.raises(DestinationError, match=r"401 \(no such token\)") as caught:
        one.send(reader)
    assert "token right" in caught.value.hint
    assert reader.acknowledged == []
    assert not tmp_path.exists() or _dead(tmp_path) == []
    assert one.tally.is_open


def test_the_reader_is_closed_though_what_went_wrong_is_kept(tmp_path: Path) -> None:
    ended: list[bool] = []

    class Open(ScriptedReader):
        def read(self) -> Iterator[Portion]:
            try:
                yield from super().read()
            finally:
                ended.append(True)

    intake = ScriptedIntake([later] * 100)
    with pytest.raises(DestinationError) as kept:
        sender(intake, tmp_path, policy=replace(QUICK, give_up_after=0.01)).send(Open([8, 8]))
    assert kept.traceback
    assert ended == [True]


def test_a_failure_of_an_earlier_run_does_not_shorten_the_patience_of_this_one(tmp_path: Path) -> None:
    intake = ScriptedIntake([later])
    one = sender(intake, tmp_path, tally=Tally(failures=7, failing_since_us=1, is_open=True))
    one.send(ScriptedReader([4]))
    assert intake.taken == _ids(4)
    assert one.tally.failing_since_us is None


def test_a_wait_longer_than_the_patience_is_not_begun(tmp_path: Path) -> None:
    busy = Trouble("later", "429", retry_after=30.0)
    intake = ScriptedIntake([lambda ids: all_again(len(ids), busy)] * 9)
    with pytest.raises(DestinationError, match="asks to wait for 30 s") as caught:
        sender(intake, tmp_path).send(ScriptedReader([4]))
    assert caught.value.wait_seconds == 30.0
    assert len(intake.requests) == 1


def test_after_it_gives_up_nothing_is_acknowledged_and_the_next_one_goes_on(tmp_path: Path) -> None:
    intake = ScriptedIntake([later] * 1000)
    reader = ScriptedReader([4])
    tally = Tally()
    with pytest.raises(DestinationError, match="503"):
        sender(intake, tmp_path, tally=tally, policy=replace(QUICK, give_up_after=0.02)).send(reader)
    assert reader.acknowledged == []
    intake.script.clear()
    sender(intake, tmp_path, tally=tally).send(reader)
    assert intake.taken == _ids(4)
    assert not tally.is_open


def test_an_open_circuit_is_tried_with_one_event_and_closes_when_it_is_taken(tmp_path: Path) -> None:
    policy = replace(QUICK, failures_until_open=2)
    intake = ScriptedIntake([later] * 4)
    sender(intake, tmp_path, policy=policy).send(ScriptedReader([8]))
    assert [len(ids) for ids in intake.requests] == [4, 4, 1, 1, 1, 3, 4]
    assert intake.taken == _ids(8)


def test_retry_after_is_waited_for_and_a_stop_ends_the_waiting(tmp_path: Path) -> None:
    busy = Trouble("later", "429", retry_after=500.0)
    stop = threading.Event()
    intake = ScriptedIntake([lambda ids: all_again(len(ids), busy)])
    reader = ScriptedReader([4])
    policy = replace(QUICK, give_up_after=None)
    done: list[bool] = []
    one = sender(intake, tmp_path, stop=stop, policy=policy)
    thread = threading.Thread(target=lambda: done.append(one.send(reader)))
    thread.start()
    time.sleep(0.1)
    assert len(intake.requests) == 1
    stop.set()
    thread.join(5)
    assert done == [False]
    assert reader.acknowledged == []


def test_waits_grow_and_stay_within_the_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    stop = threading.Event()

    def wait(seconds: float | None = None) -> bool:
        waits.append(seconds or 0.0)
        return False

    monkeypatch.setattr(stop, "wait", wait)
    policy = Policy(first_wait=1.0, longest_wait=8.0, failures_until_open=100, give_up_after=None)
    sender(ScriptedIntake([later] * 7), tmp_path, stop=stop, policy=policy).send(ScriptedReader([1]))
    longest = [1, 2, 4, 8, 8, 8, 8]
    for wait_seconds, most in zip(waits, longest, strict=True):
        assert most / 2 <= wait_seconds <= most
    assert waits != longest  # several hosts do not come at once


def test_an_absurd_retry_after_is_waited_for_an_hour_at_most(tmp_path: Path) -> None:
    busy = Trouble("later", "429", retry_after=999_999_999.0)
    intake = ScriptedIntake([lambda ids: all_again(len(ids), busy)])
    with pytest.raises(DestinationError) as caught:
        sender(intake, tmp_path).send(ScriptedReader([1]))
    assert caught.value.wait_seconds == 3600.0


def test_a_stop_lets_the_request_on_its_way_be_settled(tmp_path: Path) -> None:
    intake, reader = ScriptedIntake(stop_after=2), ScriptedReader([20])
    assert not sender(intake, tmp_path, stop=threading.Event()).send(reader)
    assert intake.taken == _ids(8)
    assert reader.acknowledged[-1] == (0, 8)


def test_a_destination_that_refuses_everything_is_stopped(tmp_path: Path) -> None:
    count = MOST_REFUSED_IN_A_ROW + 8
    intake = ScriptedIntake(poison=frozenset(_ids(count)))
    with pytest.raises(DestinationError, match="refuses every event"):
        sender(intake, tmp_path).send(ScriptedReader([count]))
    assert len(_dead(tmp_path)) == MOST_REFUSED_IN_A_ROW


def test_a_receiver_that_refuses_everything_is_left_one_event_by_each_later_run(tmp_path: Path) -> None:
    intake = ScriptedIntake([lambda ids: Verdict(refused=dict.fromkeys(range(len(ids)), "no"))])
    tally = Tally(refused_in_a_row=MOST_REFUSED_IN_A_ROW)
    reader = ScriptedReader([8])
    with pytest.raises(DestinationError, match="refuses every event"):
        sender(intake, tmp_path, tally=tally).send(reader)
    assert (_dead(tmp_path), reader.acknowledged) == (["e0"], [(0, 1)])
    sender(intake, tmp_path, tally=tally).send(ScriptedReader([8]))
    assert intake.taken == _ids(8)
    assert tally.refused_in_a_row == 0


def test_what_was_taken_before_it_gives_up_is_acknowledged(tmp_path: Path) -> None:
    def second_half(ids: list[str]) -> Verdict:
        return Verdict(refused={1: "no"}, again=range(2, len(ids)), trouble=Trouble("later", "503"))

    intake, reader = ScriptedIntake([second_half, *[later] * 1000]), ScriptedReader([4])
    with pytest.raises(DestinationError, match="503"):
        sender(intake, tmp_path, policy=replace(QUICK, give_up_after=0.02)).send(reader)
    assert intake.taken == ["e0"]
    assert reader.acknowledged == [(0, 2)]
    assert _dead(tmp_path) == ["e1"]


def test_what_stands_before_something_unreadable_is_sent(tmp_path: Path) -> None:
    class Torn(ScriptedReader):
        def read(self) -> Iterator[Portion]:
            yield from super().read()
            raise SourceError("cannot be read")

    intake, reader = ScriptedIntake(), Torn([3])
    with pytest.raises(SourceError):
        sender(intake, tmp_path).send(reader)
    assert intake.taken == _ids(3)
    assert reader.acknowledged == [(0, 3)]


def test_an_event_waits_only_so_long_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "LONGEST_HELD_SECONDS", 0.0)
    intake = ScriptedIntake()
    sender(intake, tmp_path).send(ScriptedReader([1, 0, 2]))
    assert intake.requests == [["e0"], ["e1", "e2"]]


def test_the_pace_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    stop = threading.Event()
    real: Callable[[float | None], bool] = stop.wait

    def wait(seconds: float | None = None) -> bool:
        waits.append(seconds or 0.0)
        return real(seconds)

    monkeypatch.setattr(stop, "wait", wait)
    began = time.monotonic()
    sender(ScriptedIntake(), tmp_path, stop=stop, most_per_second=200).send(ScriptedReader([12]))
    assert time.monotonic() - began >= 8 / 200
    assert len(waits) == 2


def test_an_operator_lowers_limits_and_never_raises_them() -> None:
    assert fitted(Limits(1000, 10, 5), most_events=5_000, most_bytes=3) == Limits(1000, 3, 5)
