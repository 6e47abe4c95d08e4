"""`archiver send` and `archiver demo`: what they read, keep, print and leave behind."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

from archiver.cli.demo import _sum_text
from archiver.errors import ConfigError, IntegrityError, SourceError
from archiver.segment import MAGIC, SegmentWriter, read_frames
from archiver.send import NotDelivered, SendReport, open_inputs
from tests.services.answering import Answer, stand_in, statuses
from tests.services.process import wait_until
from tests.services.receiving import SECRET, SECRET_VARIABLE, SIGNER

LINES = [b'{"number": %d}' % number for number in range(30)]
TEXT = b"\n".join(LINES) + b"\n"
ODD = [b'{"a":\n 1}', b"", b"\xff\xfe", b"[1, 2]", b"  {}  "]


def segment(folder: Path, bodies: list[bytes]) -> Path:
    with SegmentWriter(folder) as writer:
        for body in bodies:
            writer.append(body, 1_774_520_100_000_000, "eu")
    return writer.seal()


def bodies_in(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [frame.body for frame in read_frames(file)]  # type: ignore[union-attr]


def command(*words: str | Path, secret: str | None = SECRET) -> tuple[list[str], dict[str, str]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
    if secret is not None:
        clean[SECRET_VARIABLE] = secret
    return [sys.executable, "-m", "archiver", *map(str, words)], clean


def archiver(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    line, environment = command(*words, secret=options.pop("secret", SECRET))
    return subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", TEXT, LINES),
        ("a.NDJSON", TEXT.replace(b"\n", b"\r\n"), LINES),
        ("a.jsonl.gz", gzip.compress(TEXT), LINES),
        ("a.ndjson.zst", zstandard.compress(TEXT), LINES),
        ("a.json", b"[" + b", \n".join(LINES) + b"]", LINES),
        ("a.json.gz", gzip.compress(b'{\n "a": 1\n}\n{"b": 2}'), [b'{\n "a": 1\n}', b'{"b": 2}']),
        ("a.jsonl", b"not json\n\n \n{}", [b"not json", b"{}"]),
        ("a.jsonl", b"", []),
    ],
)
def test_files_give_what_a_spool_would_take_out_of_them(
    tmp_path: Path, name: str, content: bytes, expected: list[bytes]
) -> None:
    (tmp_path / name).write_bytes(content)
    inputs = open_inputs([tmp_path / name])
    assert list(inputs) == expected
    assert inputs.unreadable == 0
    assert (inputs.total_bytes is None) == name.endswith((".gz", ".zst"))


def test_a_segment_gives_every_body_byte_for_byte(tmp_path: Path) -> None:
    assert list(open_inputs([segment(tmp_path, ODD)])) == ODD


def test_a_folder_gives_the_files_of_a_spool_by_name(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", ".hidden.jsonl", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "c.jsonl").mkdir()
    assert list(open_inputs([tmp_path])) == [b"a.jsonl", b"b.jsonl"]


def test_what_holds_no_delivery_is_left_out_and_told(tmp_path: Path) -> None:
    path = segment(tmp_path, LINES)
    path.write_bytes(path.read_bytes()[:-1])
    (tmp_path / "b.json").write_bytes(b'{"a": 1} }}} {"b"')
    (tmp_path / "c.seg").write_bytes(MAGIC + b"\xff" * 100)
    inputs = open_inputs([tmp_path])
    assert list(inputs) == [*LINES[:-1], b'{"a": 1}']
    assert inputs.unreadable == len(inputs.problems) == 3
    assert "torn_frame" in inputs.problems[0]


@pytest.mark.parametrize("name", ["missing.jsonl", "notes.txt", "empty", "fifo.jsonl"])
def test_an_input_that_will_not_do_is_refused_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    (tmp_path / "good.jsonl").write_bytes(TEXT)
    (tmp_path / "notes.txt").write_bytes(TEXT)
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo.jsonl")
    with pytest.raises(ConfigError):
        open_inputs([tmp_path / "good.jsonl", tmp_path / name])


def test_a_file_that_vanishes_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(TEXT)
    inputs = open_inputs([tmp_path / "a.jsonl"])
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(SourceError, match=r"a\.jsonl"):
        list(inputs)


def test_what_is_kept_survives_byte_for_byte_and_appears_whole(tmp_path: Path) -> None:
    kept = NotDelivered(tmp_path / "rest.seg")
    for body in ODD:
        kept.keep(body)
    assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
    assert kept.seal() == tmp_path / "rest.seg"
    assert [path.name for path in tmp_path.iterdir()] == ["rest.seg"]
    assert list(open_inputs([tmp_path / "rest.seg"])) == ODD


def test_nothing_kept_leaves_no_file(tmp_path: Path) -> None:
    kept = NotDelivered(tmp_path / "rest.seg")
    assert kept.seal() is None
    kept.keep(b"{}")
    kept.discard()
    assert kept.seal() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["rest.jsonl", "there.seg", "dangling.seg", "missing/rest.seg"])
def test_a_place_to_keep_that_will_not_do_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "there.seg").write_bytes(b"precious")
    (tmp_path / "dangling.seg").symlink_to("nowhere")
    with pytest.raises(ConfigError):
        NotDelivered(tmp_path / name)
    assert (tmp_path / "there.seg").read_bytes() == b"precious"


def test_a_name_taken_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    kept = NotDelivered(tmp_path / "rest.seg")
    kept.keep(b"{}")
    (tmp_path / "rest.seg").write_bytes(b"precious")
    with pytest.raises(SourceError) as caught:
        kept.seal()
    assert (tmp_path / "rest.seg").read_bytes() == b"precious"
    assert bodies_in(Path(caught.value.message.rpartition(" ")[2])) == [b"{}"]


def test_all_acknowledged_is_exit_0_and_the_counts_add_up(tmp_path: Path) -> None:
    segment(tmp_path, ODD)
    (tmp_path / "a.jsonl").write_bytes(TEXT)
    with stand_in() as there:
        done = archiver("send", "--to", there.url, tmp_path, "--repeats", "1", "--shuffle")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(there.bodies) == sorted(2 * [*ODD, *LINES])
    figures = {line[:18].strip(): int(line[18:32].replace(",", "")) for line in done.stdout.splitlines()}
    assert figures == {
        "deliveries": 35,
        "= acknowledged": 35,
        "+ not acknowledged": 0,
        "sent twice": 35,
        "answers": 70,
    }


def test_json_is_one_document_and_no_output_holds_the_secret(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(TEXT)
    report = tmp_path / "report.json"
    with stand_in(statuses(401)) as there:
        words = ("--json", "--concurrency", "1", "--report", report)
        done = archiver("send", "--to", there.url, tmp_path / "a.jsonl", *words)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["message_type"] == "send_report"
    assert (document["deliveries"], document["not_acknowledged"], document["answers"]) == (30, 30, {"401": 3})
    assert "the secret that the receiver has" in document["stopped"]
    assert document == json.loads(report.read_bytes()) | {"kept_in": None}
    assert SECRET not in done.stdout + done.stderr + report.read_text()


def test_a_single_delivery_that_was_refused_tells_why_although_no_stream_stopped(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"trial": true}\n')
    with stand_in(statuses(401)) as there:
        done = archiver("send", "--to", there.url, tmp_path / "a.jsonl")
    assert done.returncode == 1
    assert "the last failure: 401" in done.stdout
    assert "is it the secret that the receiver has" in done.stdout


def test_a_second_send_delivers_exactly_what_the_first_did_not(tmp_path: Path) -> None:
    path, rest = segment(tmp_path, [*ODD, *LINES]), tmp_path / "rest.seg"
    with stand_in(lambda number, _: Answer(204 if number < 8 else 503)) as there:
        words = ("--backoff", "0", "--concurrency", "1", "--not-delivered", rest)
        first = archiver("send", "--to", there.url, path, *words)
        assert first.returncode == 1
        assert f"is in {rest}" in first.stdout
        assert "stopped: 3 failed in a row" in first.stdout
        there.answer, before = statuses(204), [*there.bodies[:8]]
        there.requests.clear()
        again = archiver("send", "--to", there.url, path, *words)
        assert again.returncode == 2
        assert "is there already" in again.stderr
        assert archiver("send", "--to", there.url, rest).returncode == 0
    assert sorted(before + there.bodies) == sorted([*ODD, *LINES])


def test_an_interruption_ends_at_once_and_reports(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(TEXT)
    rest = tmp_path / "rest.seg"
    with stand_in(lambda number, _: Answer(after_seconds=0.0 if number < 5 else 60.0)) as there:
        line, environment = command(
            "send", "--to", there.url, tmp_path / "a.jsonl", "--json", "--not-delivered", rest
        )
        process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            wait_until("nine attempts", lambda: len(there.requests) >= 9, 30)
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        answered = there.bodies[:5]
    document = json.loads(said)
    assert process.returncode == 130
    assert document["interrupted"] is True
    assert (document["deliveries"], document["acknowledged"], document["not_acknowledged"]) == (30, 5, 25)
    assert sorted(answered + bodies_in(rest)) == sorted(LINES)


def test_lines_on_standard_input_leave_as_they_come() -> None:
    with stand_in() as there:
        line, environment = command("send", "--to", there.url, "-")
        process = subprocess.Popen(
            line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False
        )
        try:
            assert process.stdin is not None
            process.stdin.write(b'{"a": 1}\n{"b"')
            process.stdin.flush()
            wait_until("it has arrived", lambda: there.bodies == [b'{"a": 1}'], 30)
            said, _ = process.communicate(b": 2}", timeout=30)
        finally:
            process.kill()
            process.wait()
    assert there.bodies == [b'{"a": 1}', b'{"b": 2}']
    assert process.returncode == 0, said


def test_unreadable_stretches_are_exit_1_though_all_else_was_acknowledged(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": 1} }}}')
    with stand_in() as there:
        done = archiver("send", "--to", there.url, tmp_path / "a.json")
    assert there.bodies == [b'{"a": 1}']
    assert done.returncode == 1
    assert "problem: " in done.stdout
    assert "not_json at byte 9" in done.stdout


@pytest.mark.parametrize(
    ("words", "secret", "told"),
    [
        ((), None, SECRET_VARIABLE),
        (("--secret-env", "ARCHIVER_NO_SUCH"), SECRET, "ARCHIVER_NO_SUCH"),
        (("--secret-file", "no/such/file"), SECRET, "no/such/file"),
        (("--ca-file", "ca.pem"), SECRET, "https"),
    ],
)
def test_what_must_be_mended_in_the_configuration_is_exit_2(
    tmp_path: Path, words: tuple[str, ...], secret: str | None, told: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(TEXT)
    done = archiver(
        "send", "--to", "http://127.0.0.1:1/", tmp_path / "a.jsonl", *words, secret=secret, cwd=tmp_path
    )
    assert done.returncode == 2
    assert told in done.stderr


def test_a_secret_file_signs_with_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(TEXT)
    (tmp_path / "secret").write_text(f"{SECRET}\nan older one, of 24 bytes\n")
    with stand_in() as there:
        words = ("--secret-file", tmp_path / "secret")
        done = archiver("send", "--to", there.url, tmp_path / "a.jsonl", *words, secret=None)
    assert done.returncode == 0
    assert all(SIGNER.signs(one.signature.encode(), one.body) for one in there.requests)


def test_the_demo_delivers_archives_verifies_and_explains_its_numbers(tmp_path: Path) -> None:
    done = archiver("demo", "--dir", "here", "--events", "300", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    sent = json.loads((tmp_path / "here/sent.json").read_bytes())
    ran = json.loads((tmp_path / "here/run.json").read_bytes())
    assert sent["acknowledged"] == 300
    assert ran["read"] == 300 + sent["repeats_acknowledged"]
    assert "it adds up" in done.stdout
    assert "INTACT" in done.stdout
    _nobody_listens(done.stdout)


def test_the_demo_stops_its_receiver_when_it_is_stopped_itself(tmp_path: Path) -> None:
    line, environment = command("demo", "--dir", "here", "--events", "20000")
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            line, env=environment, cwd=tmp_path, stdout=said, stderr=said, start_new_session=True
        )
    try:
        wait_until("it sends", lambda: "archiver send" in (tmp_path / "said").read_text(), 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    _nobody_listens((tmp_path / "said").read_text())


def _nobody_listens(said: str) -> None:
    port = int(said.partition("listening on http://127.0.0.1:")[2].split()[0])
    with socket.socket() as one, pytest.raises(ConnectionRefusedError):
        one.connect(("127.0.0.1", port))


def test_the_demo_does_not_explain_numbers_that_do_not_add_up() -> None:
    made = {"deliveries": 10, "events": 7, "alerts": 1, "duplicates": 1, "invalid": 1}
    sent = SendReport(acknowledged=10, repeats_acknowledged=3).to_json()
    ran = {"read": 13, "archived": 8, "duplicates": 3, "quarantined": 2}
    assert "13 read = 10 made + 3" in _sum_text(made, sent, ran)
    for wrong in ({"read": 12}, {"archived": 7}, {"duplicates": 4}, {"quarantined": 1}):
        with pytest.raises(IntegrityError):
            _sum_text(made, sent, ran | wrong)
