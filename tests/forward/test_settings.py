"""`[destinations.NAME]`: what means nothing is refused, by its name, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archiver.errors import ConfigError
from archiver.forward.intakes import client_of
from archiver.forward.settings import _COMMON, _OF_KIND, KINDS, Destination, read_destinations

FOLDER = Path("/etc/archiver")
URL = "https://siem.example.com"
VALUES: dict[str, Any] = {"from": "archive", "body": "ecs", "batch": "lines"}


def plain(kind: str) -> dict[str, Any]:
    token = {"token_env": "TOKEN"} if kind in ("splunk", "datadog") else {}
    return {"type": kind, "url": URL, **token}


def read(kind: str = "http", /, **told: Any) -> Destination:
    return read_destinations("archiver.toml", {"siem": plain(kind) | told}, FOLDER)["siem"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_the_wrong_type_is_refused_at_every_key(kind: str) -> None:
    for key, expected in (_COMMON | _OF_KIND[kind]).items():
        for value in ("x", 1, 1.5, True, ["x"], {"x": 1}, FOLDER):
            kinds = expected if isinstance(expected, tuple) else (expected,)
            if type(value) not in kinds:
                with pytest.raises(
                    ConfigError, match=rf"\[destinations\.siem\] {key} is of the wrong type|type ="
                ):
                    read(kind, **{key: value})


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_another_kind_means_nothing(kind: str) -> None:
    others = {key for keys in _OF_KIND.values() for key in keys} - _OF_KIND[kind].keys()
    for key in {*others, "tokens", "password"}:
        with pytest.raises(ConfigError, match=f"{key} means nothing for {kind}"):
            read(kind, **{key: VALUES.get(key, "x")})


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"url": ""}, "url is missing"),
        ({"from": "both"}, "from = 'both': expected one of deliveries, archive"),
        ({"body": "cef"}, "body = 'cef'"),
        ({"batch": "many"}, "batch = 'many'"),
        ({"token_env": "A", "token_file": "b"}, "token_env or token_file, not both"),
        ({"token_env": ""}, "token_env is empty"),
        ({"token_file": ""}, "token_file is empty"),
        ({"token_env": "A", "user": "u", "password_env": "B"}, "leave one of them out"),
        ({"user": "u"}, "go together"),
        ({"password_env": "A"}, "go together"),
        ({"hash": ["actor_id"]}, "can be guessed back"),
        ({"ocsf_actions": "a.toml"}, "ocsf_actions means nothing"),
        ({"timeout_seconds": 0}, "timeout_seconds is up to 600"),
        ({"timeout_seconds": 601}, "timeout_seconds is up to 600"),
        ({"timeout_seconds": 10**400}, "timeout_seconds is up to 600"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds is up to 600"),
        ({"batch_events": 0}, "batch_events is 1 to 100000"),
        ({"batch_events": 100_001}, "batch_events is 1 to 100000"),
        ({"batch_bytes": 1023}, "batch_bytes is 1024 to 67108864"),
        ({"batch_bytes": (64 << 20) + 1}, "batch_bytes is 1024 to 67108864"),
        ({"max_waiting_bytes": (1 << 20) - 1}, "max_waiting_bytes is at least 1048576"),
        ({"max_per_second": 0}, "max_per_second is 1 to"),
        ({"secret_env": "A", "batch": "array"}, "leave batch out"),
        ({"actions": []}, "name them, or leave it out"),
        ({"drop": [""]}, "none of them empty"),
        ({"drop": [1]}, "must be a list of texts"),
    ],
)
def test_settings_that_mean_nothing_are_refused(told: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(**told)
    assert message in refused.value.message


def test_a_site_and_a_url_are_two_places() -> None:
    assert read("datadog", url="", site="datadoghq.eu").options["site"] == "datadoghq.eu"
    with pytest.raises(ConfigError, match="a site and a url"):
        read("datadog", site="datadoghq.eu")


@pytest.mark.parametrize("kind", ["splunk", "datadog"])
def test_a_kind_that_needs_a_token_says_so(kind: str) -> None:
    with pytest.raises(ConfigError, match="has no token"):
        read_destinations("archiver.toml", {"siem": {"type": kind, "url": URL}}, FOLDER)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "x" * 65, "é"])
def test_a_name_is_a_folders(name: str) -> None:
    with pytest.raises(ConfigError, match="a name is up to 64 letters"):
        read_destinations("archiver.toml", {name: plain("http")}, FOLDER)


def test_files_are_found_from_the_file_that_names_them() -> None:
    told = read(
        token_file="token", ca_file="/ca.pem", hash_key_file="k/key", body="ocsf", ocsf_actions="a.toml"
    )
    assert told.token is not None
    assert told.hash_key is not None
    assert (told.token.file, told.hash_key.file) == ("/etc/archiver/token", "/etc/archiver/k/key")
    assert (told.ca_file, told.ocsf_actions) == ("/ca.pem", "/etc/archiver/a.toml")


def test_a_path_that_is_none_is_a_matter_of_settings() -> None:
    with pytest.raises(ConfigError, match="no path of a file"):
        client_of(read(ca_file="a\0b"))
