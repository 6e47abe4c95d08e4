"""A stream that fell silent is seen by `status` and turns `doctor` red; what else it says of receiving."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from archiver import clock
from archiver.activity import Activity, record
from archiver.archive import open_archive
from archiver.cli.main import cli
from archiver.config import read_settings
from archiver.doctor.certificate import validities
from archiver.doctor.streams import check_inbox, check_receiving
from archiver.errors import ConfigError
from archiver.live import LiveSegment
from archiver.segment import SegmentWriter, frame_head
from archiver.signature import HEADER
from archiver.store.health import Check
from archiver.store.local import LocalStore
from tests.faults.disks import Disk, disk  # noqa: F401  (a fixture)
from tests.services.certificates import self_signed
from tests.services.receiving import SECRET, SECRET_VARIABLE, SIGNER, ReceiverProcess
from tests.support import RECEIVED_US, event, ids_of

HOUR = 3_600_000_000
DAY = 24 * HOUR


class Site:
    """A host with a configuration: two streams, the second with a spool that only it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool, self.eu = folder / "spool", folder / "eu"
        for spool in (self.spool, self.eu):
            spool.mkdir()
        self.config = folder / "archiver.toml"
        self.configure()

    def configure(self, more: str = "", *, production: str = "", after: float = 3600) -> None:
        self.config.write_text(
            f'[archive]\nlocation = "archive"\n[spool]\nfolders = ["spool"]\n'
            f"[streams.production]\nsilent_after_seconds = {after}\n{production}\n"
            f'[streams.eu]\nspool = "eu"\n{more}\n'
        )

    def command(self, *words: object) -> Result:
        return CliRunner().invoke(cli, [*map(str, words), "--config", str(self.config)])

    def document(self, *words: object) -> dict[str, Any]:
        result = self.command(*words, "--json")
        tree = json.loads(result.stdout)
        assert isinstance(tree, dict)
        return tree

    def heard(self, spool: Path, stream: str, ago_us: int | None) -> None:
        now = clock.now_us()
        record(spool, Activity(stream, now - 10 * DAY, None if ago_us is None else now - ago_us))

    def checks(self, **environment: str) -> dict[str, Check]:
        settings = read_settings(self.config)
        spools = [Path(one) for one in settings.spool_folders]
        found = check_receiving(settings, spools, clock.now_us(), environment=environment)
        return {check.name: check for check in found}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name in [name for name in os.environ if name.startswith("ARCHIVER_")]:
        monkeypatch.delenv(name)
    return Site(tmp_path)


def sealed(folder: Path, *bodies: bytes) -> Path:
    with SegmentWriter(folder) as writer:
        for body in bodies:
            writer.append(body, RECEIVED_US, "eu")
    return writer.seal()


# --- run and status --------------------------------------------------------------------------------


def test_a_run_archives_what_lies_in_a_spool_that_only_a_stream_names(site: Site) -> None:
    sealed(site.spool, event("a"))
    sealed(site.eu, event("b"))
    assert site.command("run", "--workers", "0").exit_code == 0
    archive = open_archive(LocalStore(site.folder / "archive"))
    assert ids_of(archive) == ["a", "b"]
    names = [archive.ledger.read(number).content.source["name"] for number in (1, 2)]
    assert names == ["spool", "spool-2"]


def test_a_spool_that_is_named_twice_is_one(site: Site) -> None:
    site.configure('[streams.us]\nspool = "./eu/../eu"\n[streams.third]\nspool = "spool"')
    assert read_settings(site.config).spool_folders == (str(site.spool), str(site.eu))


def test_status_tells_silent_streams_and_those_that_were_never_heard(site: Site) -> None:
    assert site.command("run", "--workers", "0").exit_code == 0
    site.heard(site.spool, "production", 2 * HOUR)
    text = site.command("status").stdout
    assert "stream      production: SILENT: last delivery 2" in text
    assert "2 h ago (may be silent for 1 h)" in text
    assert "stream      eu: no receiver has listened for it" in text
    streams = {one["stream"]: one for one in site.document("status")["streams"]}
    assert streams["production"]["silent"] is True
    assert streams["production"]["silent_after_seconds"] == 3600
    assert 7200 <= streams["production"]["silent_seconds"] < 7320
    assert streams["eu"]["last_delivery_at"] is None
    site.heard(site.eu, "eu", 5_000_000)
    site.heard(site.spool, "production", 1)
    text = site.command("status").stdout
    assert "SILENT" not in text
    assert "stream      eu: last delivery" in text


def test_status_counts_what_is_being_received_and_what_consumers_left(site: Site) -> None:
    assert site.command("run", "--workers", "0").exit_code == 0
    (site.spool / "consumers" / "siem").mkdir(parents=True)
    growing = LiveSegment(site.spool)
    growing.append([frame_head(b"{}", RECEIVED_US), b"{}"], 1)
    growing.seal()
    growing = LiveSegment(site.spool)
    growing.append([frame_head(b"{}", RECEIVED_US), b"{}"], 1)
    growing.sync()
    spool = site.document("status")["spools"][0]
    assert (spool["files"], spool["live_segments"], spool["live_bytes"]) == (1, 1, growing.bytes)
    assert [(one["name"], one["files"]) for one in spool["consumers"]] == [("siem", 1)]
    text = site.command("status").stdout
    assert "  being received  1 segment, 30 B" in text
    assert "  consumer siem: 1 file, 30 B waiting" in text
    growing.seal()


def test_status_as_of_then_tells_nothing_of_now(site: Site) -> None:
    sealed(site.spool, event("a"))
    assert site.command("run", "--workers", "0").exit_code == 0
    site.heard(site.spool, "production", 2 * HOUR)
    assert site.document("status", "--as-of", "1")["streams"] == []


# --- doctor: silence -------------------------------------------------------------------------------


def test_doctor_is_red_when_a_stream_is_silent_for_too_long_and_says_what_to_do(site: Site) -> None:
    assert site.command("run", "--workers", "0").exit_code == 0
    site.heard(site.spool, "production", HOUR - 60_000_000)
    site.heard(site.eu, "eu", 9 * DAY)  # may be silent for ever
    assert site.command("doctor").exit_code == 0
    site.configure(after=60)
    result = site.command("doctor")
    assert result.exit_code == 1
    assert "FAIL  stream production: last delivery" in result.stdout
    assert "60 s are allowed" in result.stdout
    assert "re-enables" in result.stdout
    assert "docs/receiving.md" in result.stdout


def test_a_stream_that_never_delivered_is_silent_since_somebody_listens(site: Site) -> None:
    site.heard(site.spool, "production", None)
    check = site.checks()["stream production"]
    assert check.status == "failed"
    assert "no delivery yet" in check.found


def test_a_stream_that_nobody_listens_for_is_a_warning(site: Site) -> None:
    check = site.checks()["stream production"]
    assert check.status == "warning"
    assert "archiver receive" in check.fix


def test_a_clock_that_was_set_back_is_told_and_not_taken_for_health(site: Site) -> None:
    site.heard(site.spool, "production", None)
    path = site.spool / ".streams" / "production.json"
    tree = json.loads(path.read_text())
    path.write_text(json.dumps(tree | {"last_delivery_at": clock.to_text(clock.now_us() + DAY)}))
    assert site.checks()["stream production"].status == "warning"


def test_a_real_receiver_makes_doctor_well_until_its_stream_is_silent(tmp_path: Path, site: Site) -> None:
    named = f'secret_env = "{SECRET_VARIABLE}"'
    site.configure(named, production=named, after=3600)
    with ReceiverProcess(site.spool, words=("--config", str(site.config))) as receiver:
        connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=60)
        body = event("a")
        connection.request("POST", "/eu", body, {HEADER: SIGNER.sign(body)})
        assert connection.getresponse().status == 204
        connection.close()
        assert receiver.terminate() == 0
    environment = {SECRET_VARIABLE: SECRET}
    found = site.checks(**environment)
    assert {found[name].status for name in ("stream production", "stream eu")} == {"ok"}
    site.configure(f"{named}\nsilent_after_seconds = 0.001", production=named)
    time.sleep(0.01)
    found = site.checks(**environment)
    assert found["stream eu"].status == "failed"
    assert found["stream production"].status == "ok"
    # What it acknowledged lies in a spool that only the stream names.
    assert site.command("run", "--workers", "0").exit_code == 0
    assert ids_of(open_archive(LocalStore(site.folder / "archive"))) == ["a"]


# --- doctor: secrets, certificate, pings -----------------------------------------------------------


def test_secrets_are_read_and_never_shown(site: Site) -> None:
    secret, short = secrets.token_hex(16), "too-short"
    file = site.folder / "secret"
    name = "stream production: secrets"
    site.configure(production='secret_env = "PRODUCTION"\nsecret_file = "secret"')
    assert site.checks()[name].status == "skipped"  # the receiver's environment may have it
    found = site.checks(PRODUCTION=secret)[name]
    assert (found.status, str(file) in found.found) == ("failed", True)
    file.write_text(f"{secret[::-1]}\n")
    found = site.checks(PRODUCTION=secret)[name]
    assert (found.status, found.found) == ("ok", "2 can be read")
    file.write_text(f"{secret}\n{short}\n")
    found = site.checks(PRODUCTION=secret)[name]
    assert found.status == "failed"
    for hidden in (secret, short):
        assert hidden not in found.found + found.fix
    assert site.checks()["stream eu: secrets"].status == "skipped"


def test_a_secret_that_only_the_receivers_user_may_read_is_no_failure(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = site.folder / "secret"
    file.write_text("x" * 32)
    # A stand-in for another user: root, who may run the tests, may read everything.
    monkeypatch.setattr(os, "access", lambda *_: False)
    site.configure(production='secret_file = "secret"')
    assert site.checks()["stream production: secrets"].status == "skipped"


def test_a_secret_below_a_folder_that_this_user_may_not_search_is_no_failure(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = site.folder / "closed" / "secret"
    usual = Path.stat

    def denied(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path == file:
            raise PermissionError(13, "Permission denied")
        return usual(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", denied)
    site.configure(production='secret_file = "closed/secret"')
    assert site.checks()["stream production: secrets"].status == "skipped"


def test_a_secret_where_a_variables_name_belongs_is_told_and_not_shown(site: Site) -> None:
    secret = secrets.token_hex(16)
    site.configure(production=f'secret_env = "{secret}"')
    found = site.checks()["stream production: secrets"]
    assert found.status == "failed"
    assert secret not in found.found + found.fix


def certificate(folder: Path, begins: timedelta, ends: timedelta) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .sign(key, hashes.SHA256())
    )
    path = folder / "cert.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("begins", "ends", "status"),
    [(-90, 31, "ok"), (-90, 29, "warning"), (-90, -1, "failed"), (1, 90, "failed"), (-90, 40_000, "ok")],
)
def test_a_certificate_is_warned_of_a_month_before_it_ends(
    site: Site, begins: int, ends: int, status: str
) -> None:
    certificate(site.folder, timedelta(begins), timedelta(ends))
    site.configure('[receive]\ntls_cert = "cert.pem"\ntls_key = "key.pem"')
    assert site.checks()["certificate"].status == status


def test_of_a_chain_the_one_that_ends_first_counts(site: Site) -> None:
    leaf = certificate(site.folder, timedelta(-1), timedelta(90)).read_bytes()
    issuer = certificate(site.folder, timedelta(-1), timedelta(3)).read_bytes()
    (site.folder / "cert.pem").write_bytes(leaf + issuer)
    site.configure('[receive]\ntls_cert = "cert.pem"\ntls_key = "key.pem"')
    found = site.checks()["certificate"]
    assert (found.status, "2 days from now" in found.found) == ("warning", True)


def test_validity_is_what_the_certificate_says(tmp_path: Path) -> None:
    made = self_signed(tmp_path)
    wanted = x509.load_pem_x509_certificate(made.chain.read_bytes())
    (found,) = validities(made.chain)
    assert found == (wanted.not_valid_before_utc, wanted.not_valid_after_utc)


@pytest.mark.parametrize("cut", [0, 40, 120, 300])
def test_a_damaged_certificate_is_an_error_that_names_it(tmp_path: Path, cut: int) -> None:
    content = certificate(tmp_path, timedelta(-1), timedelta(1)).read_bytes()
    lines = content.splitlines()
    file = tmp_path / "damaged.pem"
    file.write_bytes(b"\n".join([lines[0], b"".join(lines[1:-1])[:cut], lines[-1]]) + b"\n")
    with pytest.raises(ConfigError, match=r"damaged\.pem"):
        validities(file)


def test_a_url_to_ask_is_looked_at_and_not_shown(site: Site) -> None:
    file = site.folder / "url"
    file.write_text("http://example.com/token-1\n")
    settings = site.config.read_text()
    site.config.write_text(f'{settings}\n[run]\nping_url_file = "url"\n')
    found = site.checks()[f"ping {file}"]
    assert found.status == "warning"
    assert "token-1" not in found.found
    file.write_text("https://example.com/token-1\n")
    assert site.checks()[f"ping {file}"].status == "ok"


# --- doctor: what lies in the spools ---------------------------------------------------------------


@pytest.mark.parametrize("seconds", [400_000_000_000, -100_000_000_000])
def test_a_file_from_another_age_hides_nothing(
    tmp_path: Path,
    disk: Disk,  # noqa: F811
    seconds: int,
) -> None:
    """Some file systems keep such times, and whoever may put a file into a spool may set its own."""
    site = Site(tmp_path)
    disk("spool", 1024)
    sealed(site.spool, event("a"))
    assert site.command("run", "--workers", "0").exit_code == 0
    path = sealed(site.spool, event("b"))
    os.utime(path, (seconds, seconds))
    assert path.stat().st_mtime == seconds
    assert site.command("status").exit_code == 0
    assert inbox(site.spool)["live segments"].status == "ok"
    assert site.document("status")["spools"][0]["files"] == 1


def inbox(spool: Path) -> dict[str, Check]:
    found = check_inbox(spool, clock.now_us())
    return {check.name.removeprefix(f"spool {spool}: "): check for check in found}


def test_a_consumer_that_takes_nothing_for_a_day_is_a_warning(site: Site) -> None:
    consumer = site.spool / "consumers" / "siem"
    consumer.mkdir(parents=True)
    assert inbox(site.spool)["consumer siem"].status == "ok"
    path = sealed(consumer, b"{}")
    assert inbox(site.spool)["consumer siem"].status == "ok"
    old = time.time() - 90_000
    os.utime(path, (old, old))
    found = inbox(site.spool)["consumer siem"]
    assert found.status == "warning"
    assert str(consumer) in found.fix


def test_a_live_segment_without_an_owner_is_a_warning_until_run_adopts_it(site: Site) -> None:
    growing = LiveSegment(site.spool)
    growing.append([frame_head(event("a"), RECEIVED_US, "eu"), event("a")], 1)
    growing.sync()
    found = inbox(site.spool)["live segments"]
    assert (found.status, found.found) == ("ok", "1 of live receivers, 0 without an owner")
    os.close(growing._file)  # as a killed process leaves it
    os.close(growing._lock)
    growing._file = growing._lock = -1
    found = inbox(site.spool)["live segments"]
    assert found.status == "warning"
    assert "adopts" in found.fix
    assert site.command("run", "--workers", "0").exit_code == 0
    assert inbox(site.spool)["live segments"].status == "ok"
    assert ids_of(open_archive(LocalStore(site.folder / "archive"))) == ["a"]


def test_two_streams_with_one_spool_are_well(site: Site) -> None:
    site.configure('[streams.us]\nspool = "eu"')
    assert site.command("run", "--workers", "0").exit_code == 0
    for stream in ("eu", "us"):
        site.heard(site.eu, stream, 1_000)
    site.heard(site.spool, "production", 1_000)
    result = site.command("doctor")
    assert result.exit_code == 0, result.stdout
    assert {
        one["status"] for one in site.document("doctor")["checks"] if one["name"].startswith("stream ")
    } == {
        "ok",
        "skipped",
    }
