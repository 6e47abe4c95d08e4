"""Sending deliveries as the vendor does: what arrives, what is tried again, when it stops."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from archiver.errors import ConfigError
from archiver.http import _seconds_of
from archiver.send import SendOptions, SendReport, send
from archiver.send import run as sending
from archiver.send.order import WINDOW_BYTES, Posting, arranged
from archiver.send.report import Latencies
from archiver.signature import HEADER, Secrets
from tests.services.answering import CUT, RESET, Answer, Request, scripted, stand_in, statuses
from tests.services.certificates import self_signed
from tests.services.process import free_ports
from tests.services.receiving import SIGNER, ReceiverProcess, bodies_of

ODD = [b'{"a": 1}', b"", b"\xff\xfe not text \n\r\n\x00", b" [1, 2]\n", "ä\u2028".encode(), b"x" * 3_000_000]


def bodies(count: int) -> list[bytes]:
    return [b'{"number": %d}' % number for number in range(count)]


def at_once(**options: object) -> SendOptions:
    """Options without waits, for one delivery after another unless told otherwise."""
    usual: dict[str, object] = {"concurrency": 1, "backoff_seconds": 0.0}
    return SendOptions(**{**usual, **options})  # type: ignore[arg-type]


def adds_up(report: SendReport) -> bool:
    return (
        report.deliveries == report.acknowledged + report.not_acknowledged
        and report.attempts == report.answers.total()
        and not report.rest_unread
    )


def test_every_body_arrives_byte_for_byte_and_signed() -> None:
    with stand_in() as there:
        report = send(ODD, there.url, SIGNER, at_once())
    assert there.bodies == ODD
    for request in there.requests:
        assert SIGNER.signs(request.signature.encode(), request.body)
        assert request.headers["Content-Type"] == "application/json"
        assert request.path == "/webhook"
    assert report.is_complete
    assert (report.deliveries, report.acknowledged, report.retries) == (6, 6, 0)
    assert report.bytes == sum(map(len, ODD))
    assert report.answers == {"204": 6}


def test_the_first_secret_signs_while_two_are_known() -> None:
    first, second = b"the old one of 24 bytes!", b"the new one of 24 bytes!"
    with stand_in() as there:
        send([b"{}"], there.url, Secrets([first, second]), at_once())
    signature = there.requests[0].signature.encode()
    assert Secrets([first]).signs(signature, b"{}")
    assert not Secrets([second]).signs(signature, b"{}")


def test_connections_stay_open_and_there_are_no_more_than_asked_for() -> None:
    with stand_in() as there:
        send(bodies(60), there.url, SIGNER, at_once(concurrency=3))
    assert 1 <= len({request.connection for request in there.requests}) <= 3
    assert sorted(there.bodies) == sorted(bodies(60))


def test_a_retry_waits_as_long_as_the_answer_asks_for() -> None:
    busy = Answer(503, (("Retry-After", "1"),))
    with stand_in(scripted(busy, Answer())) as there:
        report = send([b"{}"], there.url, SIGNER, at_once())
    first, second = there.requests
    assert second.at - first.at >= 1.0
    assert (report.acknowledged, report.retries, report.answers) == (1, 1, {"503": 1, "204": 1})


@pytest.mark.parametrize("asked", ["86400", "Fri, 31 Dec 2100 23:59:59 GMT", "soon", "-1", "٣"])
def test_no_answer_can_make_a_retry_wait_for_ever(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "LONGEST_WAIT_SECONDS", 0.05)
    told = (("Retry-After", asked.encode().decode("latin-1")),)
    with stand_in(scripted(Answer(503, told), Answer())) as there:
        assert send([b"{}"], there.url, SIGNER, at_once()).is_complete


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [("7", 7, 7), (" 007 ", 7, 7), ("Fri, 31 Dec 1999 23:59:59 GMT", 0, 0), ("9" * 99, 1e8, 1e9)],
)
def test_a_retry_after_is_seconds_or_a_date(told: str, least: float, most: float) -> None:
    found = _seconds_of(told)
    assert found is not None
    assert least <= found <= most
    soon = _seconds_of(format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True))
    assert soon is not None
    assert 50 < soon <= 100
    assert _seconds_of("in a while") is None
    assert _seconds_of("Mon, 01 Jan 99999999999999999999 00:00:00 GMT") is None


def test_waits_grow_with_every_retry() -> None:
    with stand_in(statuses(500, 502, 429, 204)) as there:
        report = send([b"{}"], there.url, SIGNER, at_once(backoff_seconds=0.1, stop_after=0))
    assert report.is_complete
    waits = [there.requests[at + 1].at - there.requests[at].at for at in range(3)]
    assert all(wait >= least for wait, least in zip(waits, (0.05, 0.1, 0.2), strict=True))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413])
def test_an_answer_that_will_not_change_is_not_asked_for_again(status: int) -> None:
    given_up: list[Posting] = []

    def answer(_: int, request: Request) -> Answer:
        assert len(given_up) == (request.body == b"2")  # told before the next one is begun
        return Answer(
            status if request.body == b"1" else 204, content=b"no\n" if request.body == b"1" else b""
        )

    with stand_in(answer) as there:
        report = send([b"0", b"1", b"2"], there.url, SIGNER, at_once(), on_not_acknowledged=given_up.append)
    assert there.bodies == [b"0", b"1", b"2"]
    assert given_up == [Posting(1, b"1", False)]
    assert (report.acknowledged, report.not_acknowledged, report.stopped) == (2, 1, None)
    assert not report.is_complete
    assert adds_up(report)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_is_not_followed(status: int) -> None:
    with stand_in() as other:
        with stand_in(scripted(Answer(status, (("Location", other.url),)))) as there:
            report = send(bodies(5), there.url, SIGNER, at_once())
        assert other.requests == []
    assert len(there.requests) == 3
    assert report.stopped is not None
    assert "redirection" in report.stopped


def test_a_lost_answer_is_a_retry_so_the_receiver_may_have_it_twice() -> None:
    with stand_in(scripted(Answer(RESET), Answer())) as there:
        report = send(bodies(2), there.url, SIGNER, at_once())
    assert there.bodies == [bodies(2)[0], *bodies(2)]
    assert report.is_complete
    assert (report.deliveries, report.attempts, report.answers["reset"]) == (2, 3, 1)


def test_an_answer_counts_by_its_status_though_its_text_is_cut_short() -> None:
    with stand_in(scripted(Answer(CUT), Answer(CUT), Answer())) as there:
        report = send(bodies(4), there.url, SIGNER, at_once())
    assert there.bodies == bodies(4)
    assert report.answers == {"200": 2, "204": 2}


def test_a_silent_receiver_is_a_failed_attempt() -> None:
    with stand_in(scripted(Answer(after_seconds=2.0), Answer())) as there:
        report = send([b"{}"], there.url, SIGNER, at_once(timeout_seconds=0.2))
    assert report.answers == {"timeout": 1, "204": 1}


def test_three_failures_in_a_row_stop_the_stream() -> None:
    seen: list[Posting] = []
    with stand_in(statuses(204, 204, 500)) as there:
        report = send(bodies(100), there.url, SIGNER, at_once(retries=9), on_not_acknowledged=seen.append)
    assert len(there.requests) == 5
    assert report.stopped is not None
    assert report.stopped.startswith("3 failed in a row")
    assert (report.deliveries, report.acknowledged, report.not_acknowledged) == (100, 2, 98)
    assert [posting.body for posting in seen] == bodies(100)[2:]


def test_failures_of_several_deliveries_count_together() -> None:
    with stand_in(statuses(413)) as there:
        report = send(bodies(100), there.url, SIGNER, at_once())
    assert len(there.requests) == 3
    assert report.stopped is not None
    assert adds_up(report)


def test_an_acknowledged_delivery_begins_the_count_anew() -> None:
    with stand_in(lambda number, _: Answer(500 if number % 3 else 204)) as there:
        report = send(bodies(20), there.url, SIGNER, at_once())
    assert report.is_complete
    assert report.stopped is None
    assert report.retries == len(there.requests) - 20 >= 20


def test_it_never_stops_if_told_so() -> None:
    with stand_in(statuses(500)) as there:
        report = send(bodies(10), there.url, SIGNER, at_once(stop_after=0, retries=1))
    assert len(there.requests) == 20
    assert report.stopped is None
    assert (report.acknowledged, report.not_acknowledged) == (0, 10)
    assert adds_up(report)


def test_nobody_at_the_address_says_so() -> None:
    report = send(bodies(5), f"http://127.0.0.1:{free_ports(1)[0]}/webhook", SIGNER, at_once())
    assert report.answers == {"refused": 3}
    assert report.stopped is not None
    assert "is the receiver running" in report.stopped
    assert report.not_acknowledged == 5


def test_a_name_that_leads_nowhere_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    report = send(bodies(1), "http://receiver.example.com/webhook", SIGNER, at_once(stop_after=1))
    assert report.stopped is not None
    assert "unreachable (Name or service not known)" in report.stopped


def test_callbacks_account_for_every_delivery_once() -> None:
    acknowledged: list[Posting] = []
    given_up: list[Posting] = []

    def answer(_: int, request: Request) -> Answer:
        return Answer(413 if request.body.endswith(b"7}") else 204)

    with stand_in(answer) as there:
        report = send(
            bodies(200),
            there.url,
            SIGNER,
            at_once(concurrency=8, stop_after=0, repeats=0.3, shuffle=True),
            on_acknowledged=acknowledged.append,
            on_not_acknowledged=given_up.append,
        )
    originals = [one.number for one in acknowledged if not one.is_repeat]
    assert sorted(originals + [one.number for one in given_up]) == list(range(200))
    assert all(one.body == bodies(200)[one.number] for one in acknowledged + given_up)
    assert len(given_up) == 20 == report.not_acknowledged
    assert report.repeats_acknowledged == sum(one.is_repeat for one in acknowledged)
    assert report.repeats >= report.repeats_acknowledged > 0
    assert len(there.requests) == report.attempts == 200 + report.repeats


def test_an_error_of_the_deliveries_leaves_a_report_and_the_error() -> None:
    def broken() -> object:
        yield from bodies(3)
        raise ZeroDivisionError

    report = SendReport()
    with stand_in() as there, pytest.raises(ZeroDivisionError):
        send(broken(), there.url, SIGNER, at_once(), report=report)  # type: ignore[arg-type]
    assert (report.deliveries, report.acknowledged) == (3, 3)
    assert report.rest_unread


def test_a_rate_is_a_ceiling() -> None:
    with stand_in() as there:
        report = send(bodies(20), there.url, SIGNER, at_once(concurrency=4, rate=50.0))
    assert report.seconds >= 19 / 50 - sending._CAUGHT_UP_SECONDS
    assert report.is_complete


def test_a_dry_run_counts_and_sends_nothing() -> None:
    with stand_in() as there:
        report = send(bodies(10), there.url, SIGNER, SendOptions(dry_run=True, repeats=1.0))
    assert there.requests == []
    assert (report.deliveries, report.repeats, report.attempts) == (10, 10, 0)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8080/webhook",
        "ftp://example.com/x",
        "http://",
        "http://u:p@example.com/",
        "http://[::1",
    ],
)
def test_a_url_that_will_not_do_is_refused_before_anything_is_read(url: str) -> None:
    def unread() -> object:
        raise AssertionError
        yield

    with pytest.raises(ConfigError) as caught:
        send(unread(), url, SIGNER)  # type: ignore[arg-type]
    assert "u:p" not in caught.value.message


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"rate": 0.0},
        {"repeats": 1.1},
        {"retries": -1},
        {"timeout_seconds": 0.0},
        {"stop_after": -1},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        SendOptions(**wrong)  # type: ignore[arg-type]


def test_https_trusts_the_certificates_that_it_was_given(tmp_path: Path) -> None:
    own, another = self_signed(tmp_path), self_signed(tmp_path, "another")
    with stand_in(certificate=own) as there:
        assert send(bodies(3), there.url, SIGNER, at_once(ca_file=own.chain)).is_complete
        for ca_file in (None, another.chain):
            with pytest.raises(ConfigError) as caught:
                send(bodies(3), there.url, SIGNER, at_once(ca_file=ca_file))
            assert "not trusted" in caught.value.message
            assert "--ca-file" in caught.value.hint
    assert len(there.requests) == 3


def test_https_to_a_place_that_speaks_http_says_so() -> None:
    with stand_in() as there, pytest.raises(ConfigError) as caught:
        send(bodies(3), there.url.replace("http:", "https:"), SIGNER, at_once())
    assert "http://" in caught.value.hint


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_without_certificates_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError):
        send(bodies(1), "https://127.0.0.1:1/", SIGNER, at_once(ca_file=path))


def test_a_long_answer_is_not_read_to_its_end() -> None:
    with stand_in(scripted(Answer(500, content=b"y" * 5_000_000), Answer())) as there:
        report = send(bodies(3), there.url, SIGNER, at_once())
    assert report.is_complete
    assert there.bodies == [bodies(1)[0], *bodies(3)]


def test_what_the_receiver_says_is_shown_as_harmless_text() -> None:
    with stand_in(scripted(Answer(403, content=b"\x1b[31mgo away\x1b[0m\nsecond line"))) as there:
        report = send(bodies(1), there.url, SIGNER, at_once(stop_after=1))
    assert report.stopped is not None
    assert "403 ([31mgo away[0m)" in report.stopped


def test_the_order_is_that_of_the_input_unless_shuffled() -> None:
    assert [one.body for one in arranged(bodies(50))] == bodies(50)
    first, again, other = (list(arranged(bodies(500), shuffle=True, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert [one.body for one in first] != bodies(500)
    assert sorted(one.number for one in first) == list(range(500))


def test_a_repeat_comes_behind_its_original_and_the_share_is_kept() -> None:
    found = list(arranged(bodies(20_000), repeats=0.1, shuffle=True, seed=3))
    place = {one.number: at for at, one in enumerate(found) if not one.is_repeat}
    repeats = [(at, one) for at, one in enumerate(found) if one.is_repeat]
    assert len(place) == 20_000
    assert 1_700 < len(repeats) < 2_300
    assert len({one.number for _, one in repeats}) == len(repeats)
    assert all(at > place[one.number] for at, one in repeats)


def test_shuffling_large_bodies_holds_no_more_than_its_window() -> None:
    taken = 0

    def large() -> object:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield b"x" * (WINDOW_BYTES // 8)

    held = done = 0
    for posting in arranged(large(), shuffle=True, repeats=1.0):  # type: ignore[arg-type]
        done += posting.is_repeat
        held = max(held, taken - done)
    assert done == 100
    assert held <= 20  # a window of originals, and one of repeats


def test_latencies_are_within_a_hundredth() -> None:
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    for share in (0.01, 0.5, 0.99, 1.0):
        assert latencies.quantile(share) == pytest.approx(share, rel=0.011)
    assert Latencies().quantile(0.5) is None


def test_a_real_receiver_has_what_it_acknowledged(tmp_path: Path) -> None:
    with ReceiverProcess(tmp_path / "spool") as receiver:
        options = SendOptions(concurrency=8, shuffle=True, repeats=0.2)
        given = [*ODD, *bodies(500)]
        report = send(given, f"{receiver.url}/webhook", SIGNER, options)
        refused = send(
            given, f"{receiver.url}/webhook", Secrets([b"another secret, of 32 bytes here"]), at_once()
        )
        lost = send(given, f"{receiver.url}/elsewhere", SIGNER, at_once())
        assert receiver.terminate() == 0
    assert report.is_complete
    arrived = bodies_of(tmp_path / "spool")
    assert set(arrived) == set(given)
    assert len(arrived) == report.acknowledged + report.repeats_acknowledged > len(given)
    assert (refused.answers, refused.acknowledged) == ({"401": 3}, 0)
    assert (lost.answers, lost.acknowledged) == ({"404": 3}, 0)


def test_a_receiver_that_is_killed_and_comes_back_loses_nothing_acknowledged(tmp_path: Path) -> None:
    spool, listen = tmp_path / "spool", f"127.0.0.1:{free_ports(1)[0]}"
    acknowledged: list[Posting] = []
    receiver = ReceiverProcess(spool, listen=listen).start()
    second = ReceiverProcess(spool, listen=listen)

    def note(posting: Posting) -> None:
        acknowledged.append(posting)
        if len(acknowledged) == 700:
            receiver.process.kill()
            receiver.process.wait()
            second.start(wait=False)

    try:
        options = SendOptions(concurrency=8, stop_after=0, retries=50, backoff_seconds=0.2)
        report = send(bodies(2_000), f"{receiver.url}/webhook", SIGNER, options, on_acknowledged=note)
        assert second.terminate() == 0
    finally:
        receiver.kill()
        second.kill()
    assert report.is_complete
    assert report.retries > 0
    assert sorted(one.number for one in acknowledged) == list(range(2_000))
    arrived = bodies_of(spool)
    assert set(arrived) == set(bodies(2_000))


def test_the_signature_header_is_the_vendors() -> None:
    with stand_in() as there:
        send([b"{}"], there.url, SIGNER, at_once())
    assert there.requests[0].headers[HEADER].startswith("sha256=")
