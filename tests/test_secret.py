"""Where secrets are configured: what is wrong is told, and never the secret itself."""

from __future__ import annotations

import pytest

from archiver.errors import ConfigError
from archiver.secret import Secret, SecretPlace


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match="the variable SIEM_TOKEN is not set"):
        SecretPlace("the token", env="SIEM_TOKEN").read({})


@pytest.mark.parametrize("secret", ["0f8fad5b-d9cb-469f-a165-70867728950e", "abcdef0123456789", "S3cret!"])
def test_a_secret_in_the_place_of_its_variables_name_is_not_told(secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SecretPlace("the token", env=secret).read({})
    assert secret not in f"{caught.value}{caught.value!r}{caught.value.hint}"
    assert "is it the secret itself?" in caught.value.message


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret("hush")
    assert "hush" not in f"{secret}{secret!r}{secret:>20}%s" % secret
    assert secret.reveal() == "hush"
