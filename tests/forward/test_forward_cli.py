"""`archiver forward` as operators meet it: reports, exit codes, usage, replays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from archiver.cli.main import cli
from archiver.forward import run
from archiver.forward.outlet import locked
from tests.calling import Archiver, archiver
from tests.forward.spooling import bodies, seal
from tests.services.hook import HookStandIn
from tests.services.standin import Fault, Reply
from tests.support import archive_bodies, new_archive

__all__ = ["archiver"]  # a fixture: pytest finds it here by name


@pytest.fixture
def hook() -> Iterator[HookStandIn]:
    found = HookStandIn()
    with found.serving():
        yield found


@pytest.fixture
def config(tmp_path: Path, hook: HookStandIn) -> str:
    (tmp_path / "spool").mkdir()
    path = tmp_path / "archiver.toml"
    path.write_text(
        f"""
        [archive]
        location = "archive"
        [spool]
        folders = ["spool"]
        [destinations.siem]
        type = "http"
        url = "{hook.url}/in"
        batch = "lines"
        [destinations.other]
        type = "http"
        url = "{hook.url}/other"
        batch = "lines"
        actions = ["nothing.*"]
        """
    )
    return str(path)


def found(hook: HookStandIn) -> list[str]:
    return [json.loads(body)["data"]["id"] for body in hook.bodies]


def test_all_destinations_are_served_and_told(
    archiver: Archiver, config: str, tmp_path: Path, hook: HookStandIn
) -> None:
    assert archiver("forward", "--config", config).code == 0
    seal(tmp_path / "spool", bodies(0, 3))
    done = archiver("forward", "--config", config)
    assert done.code == 0
    assert done.out.splitlines() == ["siem: 3 events taken", "other: 0 events taken, 3 not wanted"]
    assert found(hook) == ["e0", "e1", "e2"]


def test_the_report_is_one_document(archiver: Archiver, config: str, tmp_path: Path) -> None:
    archiver("forward", "siem", "--config", config)
    seal(tmp_path / "spool", bodies(0, 2))
    told = archiver("forward", "siem", "--config", config, "--json").document
    assert told["message_type"] == "forward_report"
    (one,) = told["destinations"]
    assert (one["destination"], one["taken"], one["complete"], one["error"]) == ("siem", 2, True, None)


def test_dead_letters_end_with_3_and_are_pointed_at(
    archiver: Archiver, config: str, tmp_path: Path, hook: HookStandIn
) -> None:
    archiver("forward", "siem", "--config", config)
    seal(tmp_path / "spool", bodies(0, 3))
    hook.refuses = b'"e1"'
    done = archiver("forward", "siem", "--config", config)
    assert done.code == 3
    assert "1 dead letters" in done.out
    assert "archiver deadletters list siem" in done.out
    assert found(hook) == ["e0", "e2"]


def test_a_destination_that_fails_ends_with_1_and_says_why(
    archiver: Archiver, config: str, tmp_path: Path, hook: HookStandIn
) -> None:
    archiver("forward", "siem", "--config", config)
    seal(tmp_path / "spool", bodies(0, 1))
    hook.fault(Fault("reply", Reply(503, b"maintenance"), times=100))
    done = archiver("forward", "siem", "--config", config, "--give-up-after", "0")
    assert done.code == 1
    assert "503 (maintenance)" in done.out
    assert "is sent by the next run" in done.out


def test_metrics_that_cannot_be_written_end_with_1_behind_the_report(
    archiver: Archiver, config: str, tmp_path: Path
) -> None:
    with Path(config).open("a") as file:
        file.write('\n[forward]\nmetrics_file = "nowhere/archiver.prom"\n')
    assert archiver("forward", "--config", config).code == 1
    seal(tmp_path / "spool", bodies(0, 3))
    done = archiver("forward", "--config", config)
    assert done.code == 1
    assert "siem: 3 events taken" in done.out
    assert "the metrics cannot be written" in done.err
    told = archiver("forward", "--config", config, "--json")
    assert (told.code, told.document["message_type"]) == (1, "forward_report")


def test_a_replay_tells_how_much_it_is_and_sends_only_what_is_asked_for(
    archiver: Archiver, config: str, tmp_path: Path, hook: HookStandIn
) -> None:
    archive_bodies(new_archive(tmp_path / "archive"), *bodies(0, 4))
    words = ("forward", "siem", "--replay", "--config", config)
    dry = archiver(*words, "--dry-run")
    assert dry.code == 0
    assert "at most 4 events" in dry.out
    assert hook.requests == 0
    assert archiver(*words, "--dry-run", "--json").document["events_at_most"] == 4
    assert archiver(*words, "--action", "nothing.*").out.splitlines() == [
        "siem: 0 events taken, 4 not wanted"
    ]
    done = archiver(*words, "--since", "2026-01-01")
    assert done.out.splitlines() == ["siem: 4 events taken"]
    assert "at most 4 events" in done.err
    assert sorted(found(hook)) == ["e0", "e1", "e2", "e3"]
    assert archiver(*words, "--until", "2026-01-01").out.startswith("siem: 0 events taken")


def test_what_was_not_done_ends_with_1(
    archiver: Archiver, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_archive(tmp_path / "archive")
    folder = tmp_path / "spool" / "forward" / "siem" / "replays"
    folder.mkdir(parents=True)
    with locked(folder, "siem"):
        assert archiver("forward", "siem", "--replay", "--config", config).code == 1
    # As SIGTERM ends it.
    monkeypatch.setattr(run, "forward", lambda *_, **__: [run.Forwarded("siem")])
    assert archiver("forward", "--config", config).code == 1
    assert archiver("forward", "--follow", "--config", config).code == 0
    monkeypatch.setattr(run, "forward", lambda *_, **__: [run.Forwarded("siem", is_busy=True)])
    assert archiver("forward", "--config", config).code == 0


def test_one_synthetic_event_is_sent_and_explained(
    archiver: Archiver, config: str, hook: HookStandIn
) -> None:
    done = archiver("forward", "siem", "--test", "--config", config)
    assert done.code == 0
    (body,) = hook.bodies
    assert json.loads(body)["data"]["id"] in done.out
    assert archiver("forward", "siem", "--test", "--config", config, "--json").document["message_type"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--replay",), "needs one NAME"),
        (("siem", "other", "--test"), "needs one NAME"),
        (("siem", "--test", "--follow"), "exclude each other"),
        (("siem", "--since", "7d"), "--since is for --replay"),
        (("siem", "--dry-run"), "--dry-run is for --replay"),
        (("nobody",), "there is no [destinations.nobody]"),
    ],
)
def test_what_means_nothing_is_refused(
    archiver: Archiver, config: str, words: tuple[str, ...], told: str
) -> None:
    done = archiver("forward", *words, "--config", config)
    assert done.code == 2
    assert told in done.err


def test_without_destinations_it_says_how_to_name_one(archiver: Archiver, tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    done = archiver("forward", "--config", str(empty))
    assert done.code == 2
    assert "[destinations.NAME]" in done.err


@pytest.mark.parametrize(
    "line", ["forward -c FILE ", "deadletters list -c FILE ", "deadletters show -c FILE "]
)
def test_a_shell_completes_the_names_of_destinations(
    config: str, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("COMP_WORDS", f"archiver {line.replace('FILE', config)}o")
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) + 1))
    completing = get_completion_class("bash")
    assert completing is not None
    one = completing(cli, {}, "archiver", "_ARCHIVER_COMPLETE")
    assert [item.value for item in one.get_completions(*one.get_completion_args())] == ["other"]
