"""The examples of docs/deploy for nginx and Caddy: real proxies, with TLS, before a real receiver."""

from __future__ import annotations

import gzip
import http.client
import re
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from archiver.segment import LARGEST_BODY_BYTES
from archiver.signature import HEADER
from tests.integration import proxies
from tests.integration.proxies import Proxy
from tests.services.certificates import Certificate, self_signed
from tests.services.receiving import SIGNER, ReceiverProcess, bodies_of
from tests.support import event

KINDS = ["nginx", "caddy"]
CHUNK_BYTES = 256 * 1024


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    spool = tmp_path_factory.mktemp("receiver") / "spool"
    with ReceiverProcess(spool, words=("--seal-seconds", "0.1")) as running:
        yield running


@pytest.fixture(scope="module", params=KINDS)
def proxy(
    request: pytest.FixtureRequest,
    receiver: ReceiverProcess,
    certificate: Certificate,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp(request.param)
    upstream = f"127.0.0.1:{receiver.port}"
    with proxies.running(request.param, folder, upstream=upstream, certificate=certificate) as running:
        yield running


@contextmanager
def connected(proxy: Proxy) -> Iterator[http.client.HTTPSConnection]:
    trusting = ssl.create_default_context(cafile=str(proxy.certificate.chain))
    connection = http.client.HTTPSConnection("localhost", proxy.port, timeout=60, context=trusting)
    try:
        yield connection
    finally:
        connection.close()


def deliver(
    connection: http.client.HTTPConnection,
    body: bytes,
    *,
    path: str = "/webhook",
    chunked: bool = False,
    signature: str | None = None,
    more: Mapping[str, str] | None = None,
) -> int:
    """Deliver as the vendor would, and return the answer's status."""
    headers = {"Content-Type": "application/json", HEADER: signature or SIGNER.sign(body), **(more or {})}
    if chunked:
        pieces = (body[at : at + CHUNK_BYTES] for at in range(0, len(body), CHUNK_BYTES))
        headers["Transfer-Encoding"] = "chunked"
        connection.request("POST", path, pieces, headers, encode_chunked=True)
    else:
        connection.request("POST", path, body, headers)
    return answered(connection)


def answered(connection: http.client.HTTPConnection) -> int:
    answer = connection.getresponse()
    answer.read()
    return answer.status


def asked(connection: http.client.HTTPConnection, path: str) -> int:
    connection.request("GET", path)
    return answered(connection)


def bodies_from(spool: Path, first: bytes, last: bytes) -> list[bytes]:
    """Wait until `last` can be read, and return what the spool has from `first` on."""
    deadline = time.monotonic() + 60
    while last not in (found := bodies_of(spool)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found[found.index(first) :]


def test_bodies_arrive_byte_for_byte(proxy: Proxy, receiver: ReceiverProcess) -> None:
    first, last = event(f"{proxy.kind}-first"), event(f"{proxy.kind}-last")
    large = bytes(range(256)) * (20 * 4096)
    odd = b"\xff\xfe no UTF-8 \x00\r\n"
    # What a sender calls compressed is signed as it is sent, and nobody unpacks it on the way.
    packed = gzip.compress(event("packed"))
    with connected(proxy) as connection:
        assert deliver(connection, first) == 204
        assert deliver(connection, odd, chunked=True) == 204
        assert deliver(connection, b"") == 204
        assert deliver(connection, large, chunked=True) == 204
        assert deliver(connection, large) == 204
        assert deliver(connection, packed, more={"Content-Encoding": "gzip"}) == 204
        assert deliver(connection, last) == 204
    arrived = bodies_from(receiver.spool, first, last)
    assert arrived == [first, odd, b"", large, large, packed, last]


def test_what_the_receiver_refuses_comes_back_as_it_said_it(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert deliver(connection, b"{}", signature="sha256=" + "0" * 64) == 401
        assert deliver(connection, b"{}", path="/other") == 404
        assert deliver(connection, b"{}", path="/webhook/more") == 404
        assert asked(connection, "/webhook") == 405
        assert deliver(connection, b"{}") == 204


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/webhook/../metrics", "//metrics"])
def test_nothing_but_the_streams_is_reachable_from_outside(
    proxy: Proxy, receiver: ReceiverProcess, path: str
) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=60)) as inside:
        assert asked(inside, "/metrics") == 200
    with connected(proxy) as outside:
        assert asked(outside, path) == 404


def test_a_body_beyond_the_limit_is_refused_and_one_at_the_limit_is_not(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert deliver(connection, b"[" + b" " * (LARGEST_BODY_BYTES - 2) + b"]") == 204
    with connected(proxy) as connection:
        connection.putrequest("POST", "/webhook")
        connection.putheader("Content-Length", str(LARGEST_BODY_BYTES + 1))
        connection.putheader(HEADER, "sha256=" + "0" * 64)
        connection.endheaders()
        # The answer comes before the body has been sent; nobody reads all of it.
        with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            for _ in range(0, LARGEST_BODY_BYTES, CHUNK_BYTES):
                connection.send(b" " * CHUNK_BYTES)
            connection.send(b" ")
        assert answered(connection) == 413


@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_connection_outlives_a_restart_of_the_receiver(
    kind: str, certificate: Certificate, tmp_path: Path
) -> None:
    """The proxy holds a connection to a receiver that is gone; what comes next goes to its successor."""
    with ReceiverProcess(tmp_path / "spool") as first:
        upstream = f"127.0.0.1:{first.port}"
        with (
            proxies.running(kind, tmp_path / kind, upstream=upstream, certificate=certificate) as proxy,
            connected(proxy) as connection,
        ):
            assert deliver(connection, event("before")) == 204
            assert first.terminate() == 0
            with ReceiverProcess(tmp_path / "spool", listen=upstream) as second:
                assert deliver(connection, event("after")) == 204
                assert second.terminate() == 0
    assert bodies_of(tmp_path / "spool") == [event("before"), event("after")]


def test_every_metric_that_the_page_names_is_one(receiver: ReceiverProcess) -> None:
    told = (proxies.DEPLOY.parent / "receiving.md").read_text()
    with closing(http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=60)) as inside:
        inside.request("GET", "/metrics")
        page = inside.getresponse().read().decode()
    families = set(re.findall(r"^# TYPE (\w+) ", page, re.MULTILINE))
    named = set(re.findall(r"`(archiver_\w+)`", told))
    assert named
    assert {name.removesuffix("_total") for name in named} - families == set()


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_itself_finds_nothing_wrong_in_the_example(
    kind: str, certificate: Certificate, tmp_path: Path
) -> None:
    assert "[warn]" not in proxies.check(kind, tmp_path, certificate)
    if kind == "caddy":
        formatted = subprocess.run(
            [proxies.program("caddy"), "fmt", str(proxies.DEPLOY / "Caddyfile")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert formatted.stdout == (proxies.DEPLOY / "Caddyfile").read_text()
