"""Who may ask: the token, the cookie that stands for it, and the names by which the service may be called.

A page of a stranger that a browser has open can send requests to 127.0.0.1, by a name that it lets point
there (DNS rebinding) or across origins. So every request must name a host of ours, come from no foreign
origin, and carry a token that no such page knows.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from contracts.errors import UsageError
from contracts.files import atomic_writer

_LEAST_TOKEN = 16  # characters
_HOST = re.compile(r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(:(?P<port>[0-9]{1,5}))?")


def token_of_file(path: Path) -> str:
    """The token that a file holds.

    Raises:
        UsageError: no such file, or a token that could be guessed.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--token-file {path}: cannot be read ({error}). Write a random token into it."
        ) from None
    if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"--token-file {path}: the token has {len(token)} characters; give at least {_LEAST_TOKEN} "
            "random ones, without spaces, such as from: openssl rand -hex 32"
        )
    return token


def own_token(folder: Path) -> str:
    """A random token of the store's own, the same at each start, so that open pages go on after one."""
    path = folder / "token"
    if path.is_file():
        return token_of_file(path)
    with atomic_writer(path) as handle:
        # Before it is written: nobody else on this machine may read it, not even for a moment.
        Path(handle.name).chmod(0o600)
        handle.write(f"{secrets.token_urlsafe(32)}\n".encode())
    return token_of_file(path)


@dataclass(frozen=True)
class Access:
    """What a request is compared with.

    Attributes:
        token: the secret.
        port: that the service listens on.
        is_open: it listens on more than this machine alone.
        names: further host names by which it may be called.
    """

    token: str
    port: int
    is_open: bool = False
    names: frozenset[str] = frozenset()

    @property
    def cookie_name(self) -> str:
        """Cookies do not know ports: two services on one machine must not take each other's."""
        return f"outnumbered-{self.port}"

    @property
    def cookie(self) -> str:
        """What the cookie holds: it can be made of the token, and the token cannot be made of it."""
        return hmac.new(self.token.encode(), b"cookie of the page", hashlib.sha256).hexdigest()

    def is_token(self, given: str) -> bool:
        """Whether it is the token; takes equally long however much of it is right."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def has_cookie(self, header: str) -> bool:
        """Whether a Cookie header holds ours."""
        try:
            morsel = SimpleCookie(header).get(self.cookie_name)
        except CookieError:
            return False
        value = "" if morsel is None else morsel.value
        return hmac.compare_digest(value.encode("utf-8", "replace"), self.cookie.encode())

    def is_own_host(self, header: str) -> bool:
        """Whether a Host header names this service.

        Of a service for the network any address of numbers is taken, since no name was looked up for it, and
        any port, since a proxy may stand before it.
        """
        name, port = _split_host(header)
        if not name or (port is not None and not self.is_open and port != self.port):
            return False
        if name in ("localhost", "127.0.0.1", "::1") or name in self.names:
            return True
        if not self.is_open:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in own_names()
        return True

    def is_own_origin(self, origin: str, host: str) -> bool:
        """Whether an Origin header is that of the page which was served under ``host``."""
        scheme, separator, rest = origin.partition("://")
        return bool(separator) and scheme in ("http", "https") and rest.lower() == host.lower()


def own_names() -> frozenset[str]:
    """Names of this machine."""
    return frozenset({socket.gethostname().lower(), socket.getfqdn().lower()})


def _split_host(header: str) -> tuple[str, int | None]:
    """Name and port of a Host header; an empty name where it is none."""
    found = _HOST.fullmatch(header.strip().lower())
    if found is None:
        return "", None
    return found["address"] or found["name"], int(found["port"]) if found["port"] else None


def check_host_option(host: str, token_file: Path | None) -> bool:
    """Whether ``--host`` opens the service to other machines.

    Raises:
        UsageError: it would, without a token file.
    """
    try:
        is_open = not ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_open = host != "localhost"
    if is_open and token_file is None:
        raise UsageError(
            f"--host {host}: other machines could reach the service, so it takes --token-file with a token "
            "that you chose. Write one with: openssl rand -hex 32 > token. Or leave --host out."
        )
    return is_open


def names_of(options: Iterable[str]) -> frozenset[str]:
    """``--name`` as host names."""
    return frozenset(option.strip().lower() for option in options if option.strip())
