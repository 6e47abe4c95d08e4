"""Dead letters sent again and given up; and `archiver deadletters`, which does that."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.errors import ArchiverError, ConfigError
from archiver.forward import resend as resending
from archiver.forward.base import Outgoing
from archiver.forward.deadletters import DeadLetters, Letter, LettersBusyError
from archiver.forward.resend import give_up, resend
from archiver.forward.sending import Policy
from archiver.forward.settings import Destination, read_destinations
from tests.calling import Archiver, archiver
from tests.services.hook import HookStandIn
from tests.services.standin import Fault, Reply
from tests.support import event

__all__ = ["archiver"]  # a fixture: pytest finds it here by name

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \u202etxt \x9b2J\nforged"
DANGEROUS = "\x1b\x07\u202e\x9b\x00\r"
QUICK = Policy(first_wait=0.002, longest_wait=0.01, give_up_after=0.05)


def letter(name: str, workspace: str = "ws_1", **data: str) -> Letter:
    body = event(name, workspace=workspace, **data)
    told = Outgoing(body, "events", name, workspace, "event.created", "document.created", 5, 7)
    return Letter(told, "refused by the receiver", "422 (old answer)", 1_000)


@pytest.fixture
def letters(tmp_path: Path) -> DeadLetters:
    return DeadLetters(tmp_path / "spool" / "forward" / "siem" / "deadletters")


@pytest.fixture
def hook() -> Iterator[HookStandIn]:
    server = HookStandIn()
    with server.serving():
        yield server


def destination(hook: HookStandIn, **settings: object) -> Destination:
    members = {"type": "http", "url": hook.url, "batch": "array", "timeout_seconds": 5} | settings
    return read_destinations("test.toml", {"siem": members}, Path())["siem"]


def _arrived(hook: HookStandIn) -> list[str]:
    return [json.loads(body)["data"]["id"] for body in hook.bodies]


def test_what_is_taken_now_is_a_dead_letter_no_more(letters: DeadLetters, hook: HookStandIn) -> None:
    letters.add([letter("e1"), letter("e2")])
    letters.add([letter("e3")])
    report = resend(destination(hook), letters)
    assert (report.chosen, report.taken, report.is_complete) == (3, 3, True)
    assert sorted(_arrived(hook)) == ["e1", "e2", "e3"]
    assert letters.count() == (0, True)


def test_what_is_refused_again_stays_with_the_new_answer(letters: DeadLetters, hook: HookStandIn) -> None:
    names = [f"e{number}" for number in range(7)]
    letters.add([letter(name) for name in names])
    hook.refuses = b'"e4"'
    report = resend(destination(hook), letters)
    assert (report.taken, report.refused, report.is_complete) == (6, 1, False)
    (left,) = letters.letters()
    assert left.event.id == "e4"
    assert "an event will not do" in left.answer
    assert left.attempts >= 2
    assert left.first_at == 1_000
    assert sorted(_arrived(hook)) == sorted(set(names) - {"e4"})


def test_only_the_named_ones_are_sent(letters: DeadLetters, hook: HookStandIn) -> None:
    first, second, _ = letters.add([letter("e1"), letter("e2"), letter("e3")])
    report = resend(destination(hook), letters, [second.id, first.id, second.id])
    assert (report.taken, _arrived(hook)) == (2, ["e1", "e2"])
    assert [one.event.id for one in letters.letters()] == ["e3"]


def test_an_unknown_name_is_told_before_anything_is_sent(letters: DeadLetters, hook: HookStandIn) -> None:
    (known,) = letters.add([letter("e1")])
    for unknown in ("0" * 16, "../x", HOSTILE):
        with pytest.raises(ArchiverError, match="no dead letter of this name"):
            resend(destination(hook), letters, [known.id, unknown])
        with pytest.raises(ArchiverError, match="no dead letter of this name"):
            give_up(letters, [known.id, unknown])
    assert (hook.requests, letters.count()) == (0, (1, True))


def test_todays_settings_hold_for_old_letters(letters: DeadLetters, hook: HookStandIn) -> None:
    letters.add([letter("e1", "ws_1", actor_name="somebody"), letter("e2", "ws_2")])
    report = resend(destination(hook, workspaces=["ws_1"], drop=["actor_name"]), letters)
    assert (report.taken, report.unwanted, report.is_complete) == (1, 1, False)
    assert _arrived(hook) == ["e1"]
    assert b"somebody" not in hook.bodies[0]
    assert [one.event.id for one in letters.letters()] == ["e2"]


def test_a_receiver_that_is_down_stops_it_and_what_was_taken_before_is_gone(
    letters: DeadLetters, hook: HookStandIn
) -> None:
    letters.add([letter(f"e{number}") for number in range(4)])
    hook.fault(*[Fault("reply", Reply(401, b"who is it?"), times=1)])
    report = resend(destination(hook), letters, policy=QUICK)
    assert (report.taken, letters.count()) == (0, (4, True))
    assert "401" in report.stopped
    original = hook.answer
    hook.answer = lambda asked: original(asked) if hook.requests < 4 else Reply(503)  # type: ignore[method-assign]
    report = resend(destination(hook, batch="single"), letters, policy=QUICK)
    assert "503" in report.stopped
    assert (report.taken, report.is_complete) == (2, False)
    assert [one.event.id for one in letters.letters()] == ["e2", "e3"]
    assert [one.answer for one in letters.letters()] == ["422 (old answer)"] * 2


def test_a_crash_between_sending_and_removing_repeats_and_loses_nothing(
    letters: DeadLetters, hook: HookStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters.add([letter("e1"), letter("e2")])

    def crash(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DeadLetters, "settle", crash)
        with pytest.raises(KeyboardInterrupt):
            resend(destination(hook), letters)
    assert letters.count() == (2, True)
    assert resend(destination(hook), letters).taken == 2
    assert _arrived(hook) == ["e1", "e2", "e1", "e2"]


def test_what_was_done_is_written_down_while_it_goes_on(
    letters: DeadLetters, hook: HookStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters.add([letter(f"e{number}") for number in range(3)])
    monkeypatch.setattr(resending, "_SETTLE_SECONDS", 0.0)
    left: list[int] = []
    original = hook.answer

    def answer(asked: object) -> Reply:
        left.append(letters.count()[0])
        return original(asked)  # type: ignore[arg-type]

    hook.answer = answer  # type: ignore[method-assign]
    resend(destination(hook, batch="single"), letters)
    assert left == [3, 2, 1]


def test_two_at_once_do_not_send_a_letter_twice(letters: DeadLetters, hook: HookStandIn) -> None:
    letters.add([letter("e1")])
    with letters.alone():
        with pytest.raises(LettersBusyError):
            resend(destination(hook), letters)
        with pytest.raises(LettersBusyError):
            give_up(letters)
    assert hook.requests == 0


def test_letters_that_come_meanwhile_are_kept_for_the_next_time(
    letters: DeadLetters, hook: HookStandIn
) -> None:
    letters.add([letter("e1")])
    hook.fault(Fault("slow", seconds=0.1))
    adding = threading.Timer(0.02, lambda: DeadLetters(letters.folder).add([letter("new")]))
    adding.start()
    resend(destination(hook), letters)
    adding.join()
    assert [one.event.id for one in letters.letters()] in (["new"], [])
    assert sorted({*_arrived(hook), *(one.event.id for one in letters.letters())}) == ["e1", "new"]


def test_nothing_is_sent_or_deleted_on_trial(letters: DeadLetters, hook: HookStandIn) -> None:
    letters.add([letter("e1"), letter("e2", "ws_2")])
    report = resend(destination(hook, workspaces=["ws_1"]), letters, dry_run=True)
    assert (report.taken, report.unwanted, hook.requests) == (1, 1, 0)
    assert give_up(letters, dry_run=True) == 2
    assert letters.count() == (2, True)
    assert give_up(letters) == 2
    assert letters.count() == (0, True)


# The command


@pytest.fixture
def configured(tmp_path: Path, hook: HookStandIn) -> Path:
    path = tmp_path / "archiver.toml"
    path.write_text(
        f'[spool]\nfolders = ["spool"]\n[destinations.siem]\ntype = "http"\nurl = "{hook.url}"\n'
        '[destinations.other]\ntype = "http"\nurl = "http://127.0.0.1:1"\n'
    )
    return path


def test_list_show_resend_and_delete(
    archiver: Archiver, configured: Path, letters: DeadLetters, hook: HookStandIn
) -> None:
    done = archiver("deadletters", "list", "-c", configured)
    assert (done.code, done.out.strip()) == (0, "no dead letters")
    first, second, third = letters.add([letter("e1"), letter("e2"), letter("e3")])
    listed = archiver("deadletters", "list", "-c", configured, "--limit", 2)
    assert "siem: 3 dead letters" in listed.out
    assert first.id in listed.out
    assert third.id not in listed.out
    assert "and 1 more" in listed.out
    (document,) = archiver("deadletters", "list", "siem", "-c", configured, "--json").document["destinations"]
    assert [one["letter"] for one in document["letters"]] == [first.id, second.id, third.id]
    shown = archiver("deadletters", "show", "siem", second.id, "-c", configured)
    assert "422 (old answer)" in shown.out
    assert second.event.body.decode() in shown.out
    assert archiver("deadletters", "show", "siem", second.id, "-c", configured, "--body").out.encode() == (
        second.event.body
    )
    document = archiver("deadletters", "show", "siem", second.id, "-c", configured, "--json").document
    assert document["body"].encode() == second.event.body
    done = archiver("deadletters", "resend", "siem", first.id, "-c", configured)
    assert (done.code, done.out.strip()) == (0, "siem: 1 of 1 dead letter taken")
    done = archiver("deadletters", "delete", "siem", second.id, "-c", configured, "--json")
    assert done.document["deleted"] == 1
    hook.refuses = b'"e3"'
    done = archiver("deadletters", "resend", "siem", "--all", "-c", configured)
    assert done.code == 1
    assert "1 refused again" in done.out
    assert _arrived(hook) == ["e1"]


def test_usage_of_the_command(archiver: Archiver, configured: Path, letters: DeadLetters) -> None:
    (one,) = letters.add([letter("e1")])
    for words in (
        ["resend", "siem"],
        ["delete", "siem"],
        ["resend", "siem", "--all", one.id],
        ["list", "nobody"],
        ["show", "../siem", one.id],
    ):
        done = archiver("deadletters", *words, "-c", configured)
        assert (done.code, done.out) == (2, ""), words
    assert archiver("deadletters", "show", "siem", "nothing", "-c", configured).code == 1
    done = archiver("deadletters", "resend", "siem", "--all", "--dry-run", "-c", configured)
    assert (done.code, done.out.strip()) == (0, "1 dead letter of siem would be sent")
    assert letters.count() == (1, True)


def test_letters_of_a_destination_that_is_configured_no_more_can_still_be_seen(
    archiver: Archiver, letters: DeadLetters, tmp_path: Path
) -> None:
    letters.add([letter("e1")])
    assert "e1" in archiver("deadletters", "list", "--spool", tmp_path / "spool").out
    done = archiver("deadletters", "resend", "siem", "--all", "--spool", tmp_path / "spool")
    assert done.code == 2
    done = archiver("deadletters", "delete", "siem", "--all", "--spool", tmp_path / "spool")
    assert (done.code, letters.count()) == (0, (0, True))


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_text_of_events_and_answers_never_reaches_the_terminal_raw(
    archiver: Archiver, configured: Path, letters: DeadLetters, json_flag: list[str]
) -> None:
    body = HOSTILE.replace("\n", "").encode() + b"\x80"
    told = Outgoing(body, "events", HOSTILE, "\ud800" + HOSTILE, HOSTILE, HOSTILE, 5, 7)
    (one,) = letters.add([Letter(told, "refused by the receiver", HOSTILE)])
    (letters.folder / f"{HOSTILE}.jsonl").write_bytes(b"x")
    for words in (["list"], ["list", "siem"], ["show", "siem", one.id], ["show", "siem", HOSTILE]):
        done = archiver("deadletters", *words, "-c", configured, *json_flag)
        assert [char for char in DANGEROUS if char in done.out + done.err] == [], words
        assert not any(line.startswith("forged") for line in done.out.splitlines()), words


def test_resend_needs_its_secret(letters: DeadLetters, hook: HookStandIn) -> None:
    letters.add([letter("e1")])
    with pytest.raises(ConfigError, match="NOT_SET is not set"):
        resend(destination(hook, token_env="NOT_SET"), letters, environment={})
    assert letters.count() == (1, True)
