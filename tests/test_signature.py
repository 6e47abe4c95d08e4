"""Signatures, and where their secrets come from. No message and no text of ours ever holds one."""

from __future__ import annotations

import copy
import hashlib
import hmac
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archiver import signature
from archiver.errors import ConfigError
from archiver.signature import MOST_SECRETS, Secrets, read_secrets

A = b"the first secret, 32 bytes long."
B = b"the second secret, also 32 bytes"


def expected(secret: bytes, body: bytes) -> str:
    """As the vendor describes it, by the standard library alone."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


@example(b"", b"longer than a block of SHA-256, so it is hashed first, by RFC 2104")
@given(st.binary(max_size=2000), st.binary(min_size=16, max_size=200))
def test_a_signature_is_hmac_sha256_over_the_raw_body(body: bytes, secret: bytes) -> None:
    secrets = Secrets([secret])
    assert secrets.sign(body) == expected(secret, body)
    assert secrets.signs(expected(secret, body).encode(), body)
    assert secrets.signs(expected(secret, body).encode(), bytearray(body))


@given(st.binary(max_size=300), st.integers(min_value=0))
def test_one_bit_of_the_body_or_the_signature_matters(body: bytes, bit: int) -> None:
    secrets = Secrets([A])
    good = secrets.sign(body).encode()
    if body:
        altered = bytearray(body)
        altered[bit // 8 % len(body)] ^= 1 << bit % 8
        assert not secrets.signs(good, altered)
    digest = bytearray.fromhex(good[7:].decode())
    digest[bit // 8 % 32] ^= 1 << bit % 8
    assert not secrets.signs(b"sha256=" + digest.hex().encode(), body)


@given(st.binary(max_size=100) | st.text(max_size=80).map(str.encode) | st.none())
def test_what_is_no_signature_signs_nothing_and_raises_nothing(told: bytes | None) -> None:
    assert not Secrets([A]).signs(told, b"")


@pytest.mark.parametrize(
    "change",
    [
        lambda good: good[:-1],
        lambda good: good + b"0",
        lambda good: good + b"\n",
        lambda good: b" " + good,
        lambda good: good[7:],
        lambda good: good.replace(b"sha256", b"SHA256"),
        lambda good: good.replace(b"sha256", b"sha1"),
        lambda good: good[:7] + b"\xef\xbc\x91" + good[10:],
        lambda good: good[:7] + b"+" + good[8:],
        lambda good: good[:7] + b" " + good[8:],
    ],
)
def test_a_malformed_signature_is_none(change: object) -> None:
    assert not Secrets([A]).signs(change(Secrets([A]).sign(b"x").encode()), b"x")  # type: ignore[operator]


def test_each_of_several_secrets_is_good_and_the_first_signs() -> None:
    secrets = Secrets([A, B, A])
    assert len(secrets) == 2
    assert secrets.sign(b"x") == expected(A, b"x")
    assert all(secrets.signs(expected(one, b"x").encode(), b"x") for one in (A, B))
    assert not secrets.signs(expected(b"a third secret, 32 bytes long...", b"x").encode(), b"x")


def test_all_secrets_are_tried_in_constant_time_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest

    def noting(one: bytes, other: bytes) -> bool:
        compared.append(len(other))
        return real(one, other)

    monkeypatch.setattr(signature.hmac, "compare_digest", noting)
    for told in (expected(A, b"x").encode(), expected(B, b"x").encode(), b"sha256=" + b"0" * 64, None):
        compared.clear()
        Secrets([A, B]).signs(told, b"x")
        assert len(compared) == 2


def test_secrets_show_themselves_to_nobody() -> None:
    secrets = Secrets([A])
    shown = repr(secrets) + str(secrets) + f"{secrets}" + repr([secrets]) + repr(dir(secrets))
    assert A.decode() not in shown
    for writing in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not written anywhere"):
            writing(secrets)


def test_secrets_come_from_variables_and_files_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_bytes(b"\r\n  " + B + b" \t\r\n\n")
    found = read_secrets(["ONE"], [file], environment={"ONE": A.decode() + "\n"})
    assert len(found) == 2
    assert found.sign(b"x") == expected(A, b"x")
    assert found.signs(expected(B, b"x").encode(), b"x")


def test_a_secret_in_a_variable_may_have_any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = b"\xff\xfe not UTF-8, but long enough"
    monkeypatch.setitem(os.environb, b"ODD", odd)
    assert read_secrets(["ODD"]).sign(b"x") == expected(odd, b"x")


BAD = {
    "absent": {},
    "empty": {"NAME": ""},
    "blank": {"NAME": " \n "},
    "short": {"NAME": "hush-hush-hush!"},
    "long": {"NAME": "hush" * 1025},
    "one of two short": {"NAME": A.decode() + "\nhush-hush"},
    "too many": {"NAME": "\n".join(f"hush-hush-hush-hush-{number}" for number in range(MOST_SECRETS + 1))},
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_secret_is_refused_and_the_message_holds_no_part_of_it(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as found:
        read_secrets(["NAME"], environment=BAD[kind])
    messages = [str(found.value), found.value.hint or "", repr(found.value.__cause__)]
    file = tmp_path / "secrets"
    file.write_text(BAD[kind].get("NAME", ""))
    with pytest.raises(ConfigError) as other:
        read_secrets([], [file])
    messages += [str(other.value), other.value.hint or "", repr(other.value.__cause__)]
    assert not [text for text in messages if "hush" in text or A.decode() in text]


@pytest.mark.parametrize("secret", ["3f" * 32, "whsec_hush-hush-hush+hush=", "hush hush hush hush"])
def test_a_secret_that_stands_where_a_variables_name_belongs_is_not_shown(secret: str) -> None:
    with pytest.raises(ConfigError, match="is it the secret itself") as found:
        read_secrets([secret], environment={})
    assert secret not in str(found.value) + (found.value.hint or "")


def test_a_byte_order_mark_is_no_part_of_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_bytes(A.decode().encode("utf-8-sig"))
    assert read_secrets([], [file]).sign(b"x") == expected(A, b"x")
    file.write_bytes(A.decode().encode("utf-16"))
    with pytest.raises(ConfigError, match="UTF-16"):
        read_secrets([], [file])


def test_a_file_of_secrets_that_is_missing_unreadable_or_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 65_537)
    for name, message in (
        ("gone", "cannot be read"),
        (".", "cannot be read"),
        ("\0", "cannot be read"),
        ("large", "64 KiB"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_secrets([], [tmp_path / name])
    with pytest.raises(ConfigError, match="no secret was named"):
        read_secrets([])
