"""Which store a location means, and which options are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from archiver.errors import ConfigError
from archiver.store.local import LocalStore
from archiver.store.open import open_store
from archiver.store.options import S3Options


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b%20c/", "s3://bucket/a/b%20c"),
        ("S3://bucket/a", "s3://bucket/a"),
    ],
)
def test_a_bucket_is_opened_by_its_name_and_prefix(location: str, expected: str) -> None:
    assert open_store(location, None).location == expected


def test_a_folder_is_opened_by_a_path_or_a_file_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for location, path in {
        "archive": tmp_path / "archive",
        "./a b": tmp_path / "a b",
        str(tmp_path / "x%20y"): tmp_path / "x%20y",
        f"file://{tmp_path}/x%20y": tmp_path / "x y",
        f"file://localhost{tmp_path}/z": tmp_path / "z",
        "~/archive": tmp_path / "home" / "archive",
    }.items():
        store = open_store(location, S3Options())
        assert isinstance(store, LocalStore)
        assert store.local_path("k") == str(path / "k")


@pytest.mark.parametrize(
    "location",
    [
        "",
        " ",
        "gs://bucket/x",
        "s3a://bucket/x",
        "s3:/bucket/x",
        "s3://",
        "s3:///x",
        "s3://b/a//b",
        "s3://b/../x",
        "https://bucket.s3.example.com/x",
        "file://host/x",
        "file:relative"[:5] + "//relative",
        "file:///x?y",
        "azure://x",
    ],
)
def test_other_locations_are_refused_with_a_hint(location: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(location, None)
    assert caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint_url": "s3.example.com"},
        {"endpoint_url": "ftp://s3.example.com"},
        {"endpoint_url": "https://"},
        {"endpoint_url": "https://host:port"},
        {"endpoint_url": "https://[bad"},
        {"addressing_style": "paths"},
        {"storage_class": "DEEP_ARCHIVE"},
        {"server_side_encryption": "rot13"},
        {"kms_key_id": "x"},
        {"kms_key_id": "x", "server_side_encryption": "AES256"},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        S3Options(**options)


def test_a_password_in_the_endpoint_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        S3Options(endpoint_url="https://me:hunter2@s3.example.com")
    assert "hunter2" not in caught.value.message + caught.value.hint
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.hint


def test_a_local_archive_does_not_import_boto3() -> None:
    program = (
        "import sys; from archiver.store.open import open_store; open_store('x', None)\n"
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
