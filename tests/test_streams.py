"""[receive] and [streams.NAME]: what they may say, what they say by default, and flags laid over them."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from archiver.cli.main import main
from archiver.config import read_settings
from archiver.errors import ConfigError
from archiver.streams import Receive, Stream, check_receive, parse_listen

SECRET = "a secret for the tests, 32 bytes"


def settings_of(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "archiver.toml"
    file.write_text(text)
    return read_settings(file)


def test_a_stream_has_the_path_of_its_name_and_speaks_for_all_unless_told_otherwise(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "[streams.eu-1]\n").streams == {"eu-1": Stream("/eu-1")}


def test_everything_that_a_stream_can_be_told(tmp_path: Path) -> None:
    found = settings_of(
        tmp_path,
        """
        [streams.production]
        path = "/in/production"
        secret_env = "ONE"
        secret_file = ["old", "/etc/new"]
        spool = "spools/production"
        workspaces = ["ws_1", "ws_2"]
        silent_after_seconds = 1.5
        """,
    )
    assert found.streams["production"] == Stream(
        path="/in/production",
        secret_env=("ONE",),
        secret_file=(str(tmp_path / "old"), "/etc/new"),
        spool=str(tmp_path / "spools/production"),
        workspaces=("ws_1", "ws_2"),
        silent_after_seconds=1.5,
    )


REFUSED_STREAMS = {
    "[streams]\na = 1": "must be a table",
    "streams = 1": "must be a table",
    "[streams.a]\nsecret = 'x'": "means nothing",
    "[streams.a]\npath = 1": "wrong type",
    "[streams.a]\npath = true": "wrong type",
    "[streams.a]\npath = 'a'": "expected one like",
    "[streams.a]\npath = '/'": "expected one like",
    "[streams.a]\npath = ''": "expected one like",
    "[streams.a]\npath = '/a/'": "expected one like",
    "[streams.a]\npath = '//a'": "expected one like",
    "[streams.a]\npath = '/a b'": "expected one like",
    "[streams.a]\npath = '/a?b'": "expected one like",
    "[streams.a]\npath = '/{b}'": "expected one like",
    "[streams.a]\npath = '/%61'": "expected one like",
    "[streams.a]\npath = '/../a'": "expected one like",
    "[streams.a]\npath = '/./a'": "expected one like",
    '[streams.a]\npath = "/a\\n"': "expected one like",
    "[streams.a]\npath = '/metrics'": "answers there by itself",
    "[streams.healthz]": "answers there by itself",
    "[streams.a]\npath = '/x'\n[streams.b]\npath = '/x'": "is the path of stream a",
    "[streams.a]\n[streams.b]\npath = '/a'": "is the path of stream a",
    "[streams.'a/b']": "a name is",
    "[streams.'']": "a name is",
    "[streams.'.a']": "a name is",
    "[streams.'é']": "a name is",
    f"[streams.{'a' * 65}]": "a name is",
    "[streams.a]\nworkspaces = []": "name them",
    "[streams.a]\nworkspaces = 'ws_1'": "wrong type",
    "[streams.a]\nworkspaces = [1]": "list of texts",
    "[streams.a]\nworkspaces = ['']": "list of texts",
    "[streams.a]\nsecret_env = 1": "wrong type",
    "[streams.a]\nsecret_env = [1]": "list of texts",
    "[streams.a]\nsecret_env = ''": "secret_env",
    "[streams.a]\nsecret_file = ''": "secret_file",
    "[streams.a]\nspool = ''": "spool",
    "[streams.a]\nsecret_file = ['']": "list of texts",
    "[streams.a]\nsilent_after_seconds = 0": "more than 0",
    "[streams.a]\nsilent_after_seconds = -1": "more than 0",
    "[streams.a]\nsilent_after_seconds = nan": "more than 0",
    "[streams.a]\nsilent_after_seconds = inf": "at most",
    f"[streams.a]\nsilent_after_seconds = 1{'0' * 400}": "at most",
    "[streams.a]\nsilent_after_seconds = '1h'": "wrong type",
}


@pytest.mark.parametrize("text", REFUSED_STREAMS)
def test_a_stream_that_means_nothing_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED_STREAMS[text]) as found:
        settings_of(tmp_path, text)
    assert "archiver.toml" in found.value.message


def test_without_a_section_the_receiver_has_its_defaults(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "").receive == Receive()


def test_everything_that_a_receiver_can_be_told(tmp_path: Path) -> None:
    found = settings_of(
        tmp_path,
        """
        [receive]
        listen = "[::1]:0"
        metrics_listen = "127.0.0.1:9100"
        tls_cert = "chain.pem"
        tls_key = "/etc/key.pem"
        seal_bytes = 1024
        seal_seconds = 0.5
        min_free_bytes = 0
        max_connections = 1
        """,
    )
    assert found.receive == Receive(
        listen="[::1]:0",
        metrics_listen="127.0.0.1:9100",
        tls_cert=str(tmp_path / "chain.pem"),
        tls_key="/etc/key.pem",
        seal_bytes=1024,
        seal_seconds=0.5,
        min_free_bytes=0,
        max_connections=1,
    )


REFUSED_RECEIVE = {
    "port = 80": "means nothing",
    "listen = 8080": "wrong type",
    "listen = '8080'": "no address",
    "listen = 'host'": "no address",
    "listen = 'host:'": "no address",
    "listen = 'host:65536'": "no address",
    "listen = 'host:-1'": "no address",
    "listen = 'host:٣'": "no address",
    "listen = '::1:80'": "brackets",
    "metrics_listen = 'x'": "no address",
    "tls_cert = 'a'": "go together",
    "tls_key = 'a'": "go together",
    "seal_bytes = 1023": "at least 1024",
    "seal_bytes = 1.5": "wrong type",
    "seal_seconds = 0": "up to 3600",
    "seal_seconds = 3601": "up to 3600",
    "seal_seconds = nan": "up to 3600",
    "seal_seconds = true": "wrong type",
    "min_free_bytes = -1": "negative",
    "max_connections = 0": "1 to 65536",
    "max_connections = 65537": "1 to 65536",
}


@pytest.mark.parametrize("text", REFUSED_RECEIVE)
def test_a_receiver_that_means_nothing_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED_RECEIVE[text]):
        settings_of(tmp_path, f"[receive]\n{text}\n")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        (":80", ("0.0.0.0", 80)),
        ("receiver.example.com:443", ("receiver.example.com", 443)),
    ],
)
def test_an_address_is_host_and_port(told: str, expected: tuple[str, int]) -> None:
    assert parse_listen(told) == expected


def test_a_value_that_only_a_flag_can_give_is_checked_too() -> None:
    for wrong in (float("nan"), float("inf"), -1.0):
        with pytest.raises(ConfigError):
            check_receive("the command line", Receive(seal_seconds=wrong))


def checked(tmp_path: Path, text: str | None, *words: str, **environment: str) -> tuple[int, Any, str]:
    """Run `archiver receive --check`; return its exit code, its document and all that it wrote."""
    (tmp_path / "spool").mkdir(exist_ok=True)
    command = ["receive", "--check", "--json", *words]
    if text is not None:
        (tmp_path / "archiver.toml").write_text(text)
        command += ["--config", str(tmp_path / "archiver.toml")]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.delenv("ARCHIVER_WEBHOOK_SECRET", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["archiver", *command])
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0), json.loads(out.getvalue()), out.getvalue() + err.getvalue()


def test_without_streams_there_is_one_with_its_secret_in_the_usual_variable(tmp_path: Path) -> None:
    spool = str(tmp_path / "spool")
    code, document, _ = checked(tmp_path, None, "--spool", spool, ARCHIVER_WEBHOOK_SECRET=SECRET)
    assert code == 0
    assert document["streams"] == [
        {"name": "webhook", "path": "/webhook", "spool": spool, "secrets": 1},
    ]


def test_flags_and_variables_are_laid_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = str(tmp_path / "other")
    text = '[spool]\nfolders = ["spool"]\n'
    code, document, _ = checked(
        tmp_path, text, "--path", "/in", "--secret-env", "A", "--secret-env", "B", A=SECRET, B=SECRET + "2"
    )
    assert code == 0
    assert document["streams"][0] == {
        "name": "webhook",
        "path": "/in",
        "spool": str(tmp_path / "spool"),
        "secrets": 2,
    }
    _, document, _ = checked(
        tmp_path, text, "--spool", other, ARCHIVER_PATH="/v", ARCHIVER_SECRET_ENV="A", A=SECRET
    )
    assert (document["streams"][0]["path"], document["streams"][0]["spool"]) == ("/v", other)


def test_each_configured_stream_goes_to_its_spool_or_to_the_first(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    text = """
    [spool]
    folders = ["spool", "own"]
    [streams.a]
    secret_env = "A"
    [streams.b]
    secret_file = "secret"
    spool = "own"
    """
    (tmp_path / "secret").write_text(f"{SECRET}\n{SECRET}3\n")
    code, document, _ = checked(tmp_path, text, A=SECRET)
    assert code == 0
    assert [(one["path"], Path(one["spool"]).name, one["secrets"]) for one in document["streams"]] == [
        ("/a", "spool", 1),
        ("/b", "own", 2),
    ]


REFUSED_COMMANDS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "no spool": (None, ()),
    "a spool that is not there": (None, ("--spool", "gone")),
    "no secret in the usual variable": ("[spool]\nfolders = ['spool']", ("--secret-env", "UNSET")),
    "a short secret": ("[spool]\nfolders = ['spool']", ("--secret-env", "SHORT")),
    "a stream without a secret": ("[spool]\nfolders = ['spool']\n[streams.a]", ()),
    "--path beside configured streams": (
        "[spool]\nfolders = ['spool']\n[streams.a]\nsecret_env = 'SECRET'",
        ("--path", "/x"),
    ),
    "a path that is none": ("[spool]\nfolders = ['spool']", ("--path", "x", "--secret-env", "SECRET")),
    "an address that is none": ("[spool]\nfolders = ['spool']", ("--listen", "x", "--secret-env", "SECRET")),
    "a certificate without its key": (
        "[spool]\nfolders = ['spool']",
        ("--tls-cert", "archiver.toml", "--secret-env", "SECRET"),
    ),
    "a certificate that is none": (
        "[spool]\nfolders = ['spool']",
        ("--tls-cert", "archiver.toml", "--tls-key", "archiver.toml", "--secret-env", "SECRET"),
    ),
}


@pytest.mark.parametrize("kind", REFUSED_COMMANDS)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_configuration_that_cannot_work_ends_with_2_and_a_message_without_any_secret(
    tmp_path: Path, kind: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, words = REFUSED_COMMANDS[kind]
    secrets = {"ARCHIVER_WEBHOOK_SECRET": SECRET, "SECRET": SECRET, "SHORT": "hush-hush"}
    code, document, output = checked(tmp_path, text, *words, "--verbose", "--log-format", form, **secrets)
    assert code == 2, output
    assert document["message_type"] == "exit_error"
    assert "Traceback" not in output
    assert SECRET not in output
    assert "hush" not in output
