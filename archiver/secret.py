"""Tokens, passwords and keys: where they are configured, and a text that shows itself to nobody."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from archiver.errors import ConfigError
from archiver.signature import may_be_variable

_MOST_BYTES: Final = 64 << 10


class Secret(str):
    """A secret text. `reveal` gives it; nothing else does."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(…)"

    def __str__(self) -> str:
        return "(a secret)"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def reveal(self) -> str:
        """Return the text itself, for what is sent alone."""
        return "".join(self)


@dataclass(frozen=True, slots=True)
class SecretPlace:
    """Where a secret is: a variable or a file, one of them.

    Attributes:
        what: What it is, for errors: `destination siem: the token`.
        env, file: One of them is None.
    """

    what: str
    env: str | None = None
    file: str | None = None

    @property
    def shown(self) -> str:
        return f"the variable {self.env}" if self.env is not None else str(self.file)

    def read(self, environment: Mapping[str, str] | None = None) -> Secret:
        """Return the secret: one line, no white space around it.

        Raises:
            ConfigError: The variable is not set, the file cannot be read, or it is no one line of ASCII.
        """
        if self.env is not None:
            value = (os.environ if environment is None else environment).get(self.env, "").strip()
            if not value:
                raise self._not_set()
        else:
            try:
                with Path(self.file or "").open(encoding="utf-8") as opened:
                    value = opened.read(_MOST_BYTES).strip()
            except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path with NUL in it
                why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise ConfigError(f"{self.what}: {self.file}: cannot be read: {why}") from None
            if not value:
                raise ConfigError(f"{self.what}: {self.file} is empty")
        if not value.isascii() or not value.isprintable():
            raise ConfigError(f"{self.what}: {self.shown} holds more than one line of ASCII")
        return Secret(value)

    def _not_set(self) -> ConfigError:
        if self.env is not None and may_be_variable(self.env):
            return ConfigError(f"{self.what}: the variable {self.env} is not set")
        return ConfigError(
            f"{self.what}: what is named as its variable is not set, and looks like none:"
            " is it the secret itself?",
            hint="name the variable that holds it; what stands in a configuration is no secret any more",
        )
