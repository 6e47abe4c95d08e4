"""What the receiver answers, over real HTTP, by a real process; and what is in the spool afterwards."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archiver import clock
from archiver.segment import LARGEST_BODY_BYTES, Frame
from archiver.signature import HEADER, Secrets
from tests.services.raw_http import Wire, ask, chunked, deliver, head, signed
from tests.services.receiving import SIGNER, ReceiverProcess, frames_of

OTHER = Secrets([b"another secret, of somebody else"])


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    folder = tmp_path_factory.mktemp("receiver")
    with ReceiverProcess(folder / "spool", words=("--seal-seconds", "0.05", "--verbose")) as found:
        yield found


@pytest.fixture
def body() -> bytes:
    """A body that no other test has."""
    return b'{"event_type": "event.created", "mark": "%s"}' % secrets.token_hex(16).encode()


def stored(spool: Path, body: bytes, seconds: float = 30) -> Frame:
    """Wait until `run` could see the delivery, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        found = [frame for frame in frames_of(spool) if frame.body == body]
        if found:
            assert len(found) == 1
            return found[0]
        assert time.monotonic() < deadline, "not sealed"
        time.sleep(0.02)


def bytes_of(spool: Path) -> bytes:
    """All bytes in all files below a folder, dot-files too."""
    while True:
        try:
            return b"".join(path.read_bytes() for path in spool.rglob("*") if path.is_file())
        except FileNotFoundError:
            continue  # renamed while it was sealed


def test_a_signed_delivery_is_answered_204_and_stored_with_its_stream_and_time(
    receiver: ReceiverProcess, body: bytes
) -> None:
    before = clock.now_us()
    assert deliver(receiver.port, body) == 204
    frame = stored(receiver.spool, body)
    assert frame.stream == "webhook"
    assert before <= frame.received_at <= clock.now_us()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"not JSON",
        b'{"id": "\xff\xfe"}',
        b"\r\n\r\n",
        b"[" * 5_000,
        b'{"a":1}\n{"a":2}\n',
        bytes(range(256)) * 300,
        b"x" * (1 << 20),
    ],
    ids=["empty", "NUL", "no JSON", "no UTF-8", "line breaks", "deep", "two lines", "all bytes", "1 MiB"],
)
def test_whatever_a_signed_body_is_it_is_answered_204_and_stored_byte_for_byte(
    receiver: ReceiverProcess, content: bytes
) -> None:
    assert deliver(receiver.port, content) == 204
    stored(receiver.spool, content)


def altered(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


REFUSED: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda body: head(body, signature=None) + body,
    "empty": lambda body: head(body, f"{HEADER}:", signature=None) + body,
    "no prefix": lambda body: head(body, signature=SIGNER.sign(body)[7:]) + body,
    "another prefix": lambda body: head(body, signature="sha512=" + SIGNER.sign(body)[7:]) + body,
    "upper-case prefix": lambda body: head(body, signature="SHA256=" + SIGNER.sign(body)[7:]) + body,
    "no hex": lambda body: head(body, signature="sha256=" + "g" * 64) + body,
    "short": lambda body: head(body, signature=SIGNER.sign(body)[:-1]) + body,
    "long": lambda body: head(body, signature=SIGNER.sign(body) + "0") + body,
    "all zero": lambda body: head(body, signature="sha256=" + "0" * 64) + body,
    "of another secret": lambda body: head(body, signature=OTHER.sign(body)) + body,
    "of another body": lambda body: head(body, signature=SIGNER.sign(body + b" ")) + body,
    "of the empty body": lambda body: head(body, signature=SIGNER.sign(b"")) + body,
    "one bit of the body altered": lambda body: head(body) + altered(body),
    "twice": lambda body: head(body, signed(body)) + body,
    "two in one": lambda body: head(body, signature=f"{SIGNER.sign(body)}, {SIGNER.sign(body)}") + body,
    "a good one and another": lambda body: head(body, f"{HEADER}: {OTHER.sign(body)}") + body,
    "no ASCII": lambda body: head(body, signature="sha256=" + "\xb2" * 64) + body,
    "in a trailer": lambda body: (
        head(None, "Transfer-Encoding: chunked", signature=None)
        + chunked(body)[:-2]
        + f"{signed(body)}\r\n\r\n".encode()
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_signature_that_is_missing_malformed_or_wrong_is_answered_401_and_nothing_is_kept(
    receiver: ReceiverProcess, body: bytes, kind: str
) -> None:
    before = receiver.metrics()
    reply = ask(receiver.port, REFUSED[kind](body))
    assert reply is not None
    assert reply.status == 401
    assert SIGNER.sign(body)[7:].encode() not in reply.content
    after = receiver.metrics()
    name = 'archiver_deliveries_total{outcome="%s",stream="webhook"}'
    assert after[name % "unauthorized"] == before[name % "unauthorized"] + 1
    assert after[name % "stored"] == before[name % "stored"]
    assert body[-33:] not in bytes_of(receiver.spool)


def test_a_signature_in_upper_case_hex_is_good(receiver: ReceiverProcess, body: bytes) -> None:
    reply = ask(receiver.port, head(body, signature="sha256=" + SIGNER.sign(body)[7:].upper()) + body)
    assert reply is not None
    assert reply.status == 204


def test_spaces_around_a_signature_are_no_part_of_it(receiver: ReceiverProcess, body: bytes) -> None:
    reply = ask(receiver.port, head(body, signature=f" \t{SIGNER.sign(body)} \t") + body)
    assert reply is not None
    assert reply.status == 204


def test_a_204_has_no_content_and_leaves_the_connection_open(receiver: ReceiverProcess, body: bytes) -> None:
    with Wire(receiver.port) as wire:
        for number in range(20):
            one = body + b"%d" % number
            reply = wire.send(head(one) + one).reply()
            assert reply is not None
            assert (reply.status, reply.content) == (204, b"")
            assert "Content-Length" not in reply.headers
            assert "Transfer-Encoding" not in reply.headers


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/other",
        "/webhook/",
        "//webhook",
        "/webhook/x",
        "/WEBHOOK",
        "/webhook%2F",
        "/./webhook",
        "/x/../webhook",
        "/webhook;a=1",
        "/%00webhook",
    ],
)
def test_an_unknown_path_is_404_and_no_redirect(receiver: ReceiverProcess, body: bytes, path: str) -> None:
    reply = ask(receiver.port, head(body, path=path) + body)
    assert reply is not None
    assert reply.status == 404
    assert "Location" not in reply.headers


@pytest.mark.parametrize("path", ["/webhook?a=b&c", "/web%68ook", "http://elsewhere.example.com/webhook"])
def test_the_path_counts_without_query_escapes_and_host(
    receiver: ReceiverProcess, body: bytes, path: str
) -> None:
    reply = ask(receiver.port, head(body, path=path) + body)
    assert reply is not None
    assert reply.status == 204


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_another_method_is_405_and_says_which_is_allowed(receiver: ReceiverProcess, method: str) -> None:
    reply = ask(receiver.port, head(method=method), method)
    assert reply is not None
    assert reply.status == 405
    assert reply.headers["Allow"] == "POST"
    assert b"Host" not in reply.content  # TRACE would give back what it was sent


@pytest.fixture(scope="module")
def largest() -> bytes:
    return secrets.token_bytes(1 << 20) * 32


def test_exactly_32_mib_pass_with_a_length_and_in_chunks(receiver: ReceiverProcess, largest: bytes) -> None:
    assert len(largest) == LARGEST_BODY_BYTES
    assert deliver(receiver.port, largest) == 204
    assert stored(receiver.spool, largest).body == largest
    other = altered(largest)
    reply = ask(
        receiver.port,
        head(None, "Transfer-Encoding: chunked", signature=SIGNER.sign(other))
        + chunked(other[:99], other[99:]),
    )
    assert reply is not None
    assert reply.status == 204
    assert stored(receiver.spool, other).body == other


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_one_byte_more_is_413_and_the_sender_that_goes_on_sending_reads_it(
    receiver: ReceiverProcess, largest: bytes, version: str
) -> None:
    content = largest + b"x"
    with Wire(receiver.port) as wire:
        wire.socket.sendall(head(content, version=version))
        wire.socket.sendall(content)  # not reset meanwhile: some systems throw the answer away then
        reply = wire.reply()
        assert reply is not None
        assert reply.status == 413
        assert wire.is_closed(30 if version == "1.0" else 0.1) == (version == "1.0")


def test_one_byte_more_in_chunks_is_413(receiver: ReceiverProcess, largest: bytes) -> None:
    content = largest + b"x"
    reply = ask(
        receiver.port,
        head(None, "Transfer-Encoding: chunked", signature=SIGNER.sign(content)) + chunked(content),
    )
    assert reply is not None
    assert reply.status == 413


def test_a_connection_goes_on_after_a_refusal_whose_body_came_later(
    receiver: ReceiverProcess, body: bytes
) -> None:
    unsigned = b"x" * 300_000
    with Wire(receiver.port) as wire:
        refused = wire.send(head(unsigned, signature=None) + unsigned).reply()
        accepted = wire.send(head(body) + body).reply()
    assert refused is not None
    assert accepted is not None
    assert (refused.status, accepted.status) == (401, 204)


def test_a_chunked_body_is_stored_without_its_chunks_extensions_and_trailers(
    receiver: ReceiverProcess, body: bytes
) -> None:
    content = b"".join(b"1;name=value\r\n%c\r\n" % byte for byte in body) + b"0\r\nX-Trailer: a\r\n\r\n"
    request = head(None, "Transfer-Encoding: chunked", signature=SIGNER.sign(body)) + content
    reply = ask(receiver.port, request)
    assert reply is not None
    assert reply.status == 204
    stored(receiver.spool, body)


def test_a_sender_that_waits_for_100_continue_gets_it(receiver: ReceiverProcess, body: bytes) -> None:
    with Wire(receiver.port) as wire:
        wire.send(head(body, "Expect: 100-continue"))
        assert wire.socket.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        reply = wire.send(body).reply()
    assert reply is not None
    assert reply.status == 204


def test_a_sender_that_waits_for_100_continue_is_refused_without_it_and_the_connection_closed(
    receiver: ReceiverProcess,
) -> None:
    with Wire(receiver.port) as wire:
        reply = wire.send(head(None, "Content-Length: 99999999", "Expect: 100-continue")).reply()
        assert reply is not None
        assert reply.status == 413
        assert reply.headers["Connection"] == "close"
        assert wire.is_closed()


def test_http_1_0_is_answered_and_closed(receiver: ReceiverProcess, body: bytes) -> None:
    with Wire(receiver.port) as wire:
        reply = wire.send(head(body, version="1.0") + body).reply()
        assert reply is not None
        assert reply.status == 204
        assert wire.is_closed()
    stored(receiver.spool, body)


def test_a_head_and_body_that_come_byte_by_byte_are_taken(receiver: ReceiverProcess, body: bytes) -> None:
    with Wire(receiver.port) as wire:
        wire.socket.setsockopt(6, 1, 1)  # TCP_NODELAY
        for byte in head(body) + body:
            wire.send(bytes([byte]))
        reply = wire.reply()
    assert reply is not None
    assert reply.status == 204


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"),
    ],
    ids=["h2c", "websocket"],
)
def test_a_delivery_that_also_asks_for_another_protocol_is_taken_all_the_same(
    receiver: ReceiverProcess, body: bytes, lines: tuple[str, ...]
) -> None:
    # The JDK's client asks for h2c with all that it sends; the parser would take the body for HTTP/2.
    large = body * 10_000
    with Wire(receiver.port) as wire:
        for content in (body, large, body + b" "):
            reply = wire.send(head(content, *lines) + content).reply()
            assert reply is not None
            assert reply.status == 204
    stored(receiver.spool, large)


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "length and chunks": lambda body: head(body, "Transfer-Encoding: chunked") + chunked(body),
    "two lengths": lambda body: head(body, f"Content-Length: {len(body)}") + body,
    "a negative length": lambda body: head(None, "Content-Length: -1", signed(body)) + body,
    "a length with a sign": lambda body: head(None, f"Content-Length: +{len(body)}", signed(body)) + body,
    "an endless length": lambda body: head(None, "Content-Length: " + "9" * 400, signed(body)) + body,
    "another transfer encoding": lambda body: head(None, "Transfer-Encoding: gzip", signed(body)) + body,
    "nearly chunked": lambda body: head(None, "Transfer-Encoding: xchunked", signed(body)) + chunked(body),
    "a chunk without a size": lambda body: head(None, "Transfer-Encoding: chunked", signed(body)) + b"zz\r\n",
    "a NUL in a header": lambda body: head(body, "X-A: b\0c") + body,
    "a header over two lines": lambda body: head(body, "X-A: b", " c") + body,
    "a space before the colon": lambda body: head(body, "X-A : b") + body,
    "HTTP/2": lambda body: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": lambda body: head(body, version="9.9") + body,
    "a path that is none": lambda body: head(body, path="\xff\xfe") + body,
    "a URL without a host": lambda body: head(body, path="http://") + body,
    "a URL with a port that is none": lambda body: head(body, path="http://a:99999999/webhook") + body,
    "CONNECT": lambda body: head(body, path="elsewhere.example.com:443", method="CONNECT") + body,
    "TLS": lambda body: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + body,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_http_or_may_be_read_in_two_ways_is_400_closed_and_not_stored(
    receiver: ReceiverProcess, body: bytes, kind: str
) -> None:
    with Wire(receiver.port) as wire:
        reply = wire.send(BROKEN[kind](body)).reply()
        assert reply is not None
        assert reply.status == 400
        assert wire.is_closed()
    assert deliver(receiver.port, body + b"2") == 204
    stored(receiver.spool, body + b"2")
    assert [frame.body for frame in frames_of(receiver.spool) if body in frame.body] == [body + b"2"]
    assert "Traceback" not in receiver.said.read_text()


def test_a_second_request_before_the_answer_to_the_first_closes_the_connection(
    receiver: ReceiverProcess, body: bytes
) -> None:
    with Wire(receiver.port) as wire:
        assert wire.send((head(body) + body) * 2).reply() is None


def test_a_body_shorter_than_its_length_is_not_stored_when_the_sender_goes(
    receiver: ReceiverProcess, body: bytes
) -> None:
    name = 'archiver_deliveries_total{outcome="disconnected",stream="webhook"}'
    before = receiver.metrics()[name]
    with Wire(receiver.port) as wire:
        wire.send(head(body + b"more") + body)
    deadline = time.monotonic() + 30
    while receiver.metrics()[name] == before:
        assert time.monotonic() < deadline
    assert body not in bytes_of(receiver.spool)


def test_a_body_longer_than_its_length_closes_the_connection(receiver: ReceiverProcess, body: bytes) -> None:
    with Wire(receiver.port) as wire:
        assert wire.send(head(body) + body + b"more").reply() is None
        assert wire.is_closed()


def test_strange_headers_do_not_matter(receiver: ReceiverProcess, body: bytes) -> None:
    lines = ["X-Long: " + "x" * 30_000, "Content-Type: \xff", "Content-Encoding: gzip", "Cookie:", "A: b"]
    lines += [f"X-{number}: {number}" for number in range(100)]
    reply = ask(receiver.port, head(body, *lines) + body)
    assert reply is not None
    assert reply.status == 204


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_the_own_paths_are_answered_to_get_and_to_nothing_else(receiver: ReceiverProcess, path: str) -> None:
    good = ask(receiver.port, head(path=path, method="GET", signature=None), "GET")
    bad = ask(receiver.port, head(b"", path=path))
    assert good is not None
    assert bad is not None
    assert (good.status, bad.status) == (200, 405)


def test_what_it_wrote_holds_no_body_no_signature_and_no_trouble(
    receiver: ReceiverProcess, body: bytes
) -> None:
    for request in (head(body) + body, head(body, signature=OTHER.sign(body)) + body, b"GARBAGE " + body):
        ask(receiver.port, request)
    said = receiver.said.read_bytes()
    assert SIGNER.sign(body).encode() not in said
    assert body[-33:-3] not in said
    assert b"Traceback" not in said
    assert b"GARBAGE" not in said
