"""The real nginx and the real Caddy with the example files of docs/deploy, on loopback and without root.

Of an example only the addresses, the name and the certificate's paths are replaced.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services import process
from tests.services.certificates import Certificate

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy"
NAME = "hooks.example.com"
UPSTREAM = "127.0.0.1:8080"

# What Debian's own nginx.conf has around conf.d/*.conf, as far as it matters here.
_NGINX_AROUND = """\
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/conf.d/*.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy at work. `certificate` is what a client must trust."""

    kind: str
    port: int
    certificate: Certificate


def program(kind: str) -> str:
    """Return the path of nginx or caddy. Without it the test is skipped, or fails where it is demanded."""
    found = shutil.which(kind, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        reason = f"no {kind}: run `make services`"
        if os.environ.get("ARCHIVER_REQUIRE_PROXIES") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """Replace each first text by the second. One that is not there is an error: the example has changed."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def nginx_command(folder: Path, *, port: int, upstream: str, certificate: Certificate) -> list[str]:
    """Write nginx's files below `folder` and return the command that starts it."""
    (folder / "conf.d").mkdir()
    example = replaced(
        (DEPLOY / "nginx.conf").read_text(),
        (UPSTREAM, upstream),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (f"server_name {NAME}", "server_name localhost"),
        (f"/etc/ssl/certs/{NAME}.pem", str(certificate.chain)),
        (f"/etc/ssl/private/{NAME}.key", str(certificate.key)),
    )
    (folder / "conf.d" / "archiver.conf").write_text(example)
    # A worker that gave root up could not enter the tests' folders.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_NGINX_AROUND.format(folder=folder, user=user))
    return [
        program("nginx"),
        "-p",
        str(folder),
        "-e",
        str(folder / "error.log"),
        "-c",
        str(folder / "nginx.conf"),
    ]


def caddy_command(folder: Path, *, port: int, upstream: str, certificate: Certificate) -> list[str]:
    """Write Caddy's file below `folder` and return the command that starts it."""
    tls = f"tls /etc/ssl/certs/{NAME}.pem /etc/ssl/private/{NAME}.key"
    example = replaced(
        (DEPLOY / "Caddyfile").read_text(),
        (UPSTREAM, upstream),
        (f"# {tls}", f"tls {certificate.chain} {certificate.key}"),
        (f"{NAME} {{", f"https://localhost:{port} {{\n\tbind 127.0.0.1"),
        # Caddy's own port for commands, and its redirects from port 80, are no part of the example.
        ("{\n\tservers {", "{\n\tadmin off\n\tauto_https disable_redirects\n\tservers {"),
    )
    (folder / "Caddyfile").write_text(example)
    return [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


_COMMANDS = {"nginx": nginx_command, "caddy": caddy_command}


def check(kind: str, folder: Path, certificate: Certificate) -> str:
    """Let the program itself check the example, and return what it says about it."""
    command = _COMMANDS[kind](folder, port=8443, upstream=UPSTREAM, certificate=certificate)
    command = [*command, "-t"] if kind == "nginx" else [command[0], "validate", *command[2:]]
    done = subprocess.run(
        command, capture_output=True, text=True, env=_environment(folder), timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@contextmanager
def running(kind: str, folder: Path, *, upstream: str, certificate: Certificate) -> Iterator[Proxy]:
    """Start a proxy in front of `upstream` (HOST:PORT)."""
    folder.mkdir(exist_ok=True)
    (port,) = process.free_ports(1)
    command = _COMMANDS[kind](folder, port=port, upstream=upstream, certificate=certificate)
    output = folder / "output"
    server = process.start(command, output=output, environment=_environment(folder))
    try:
        process.wait_for_port(port, server, output=output, seconds=60)
        yield Proxy(kind, port, certificate)
    finally:
        # nginx has workers: only its master can end them.
        server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.stop([server])


def _environment(folder: Path) -> dict[str, str]:
    """Caddy keeps what it remembers below the home folder: let that be ours."""
    own = str(folder)
    return {**os.environ, "HOME": own, "XDG_DATA_HOME": own, "XDG_CONFIG_HOME": own}
