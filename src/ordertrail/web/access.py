"""Who may read the pages: names of the host, origins, a token, a proxy. Pure.

A page of another site that the reader's browser shows can reach any port of the reader's machine. It gets nothing: its
name is in `Host` when it has bound that to the machine's address (DNS rebinding), and in `Origin` when it asks openly.

The token is never part of an address, where history and logs would keep it. A browser sends it once by a form, and gets
a cookie that holds a time and an HMAC of it under the token: who steals the cookie has no token, and another token
makes all cookies worthless.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlsplit

from msgspec import Struct

from ordertrail.errors import UsageError

COOKIE = "ordertrail"
"""Name of the cookie of who gave the token."""

COOKIE_S = 12 * 3600
"""How long it lasts, in seconds."""

LEAST_CHARACTERS = 16
"""Of a token: a shorter one could be guessed."""


class Access(Struct, frozen=True):
    """Who may read the pages.

    Attributes:
        host: The address that is listened at.
        names: Host names by which the pages may be asked, besides addresses; lower case.
        token: What a reader must have; "" on a loopback address or behind a proxy.
        proxy_header: The header in which a proxy names who it has admitted; "" without a proxy.
    """

    host: str
    names: frozenset[str]
    token: str = ""
    proxy_header: str = ""

    def __repr__(self) -> str:
        """Without the token."""
        return f"Access(host={self.host!r}, names={self.names!r}, proxy_header={self.proxy_header!r})"

    def knows_host(self, header: str | None) -> bool:
        """Whether a `Host` header names this server: by an address, which nobody can bind to another, or by a name."""
        name = host_of(header or "")
        return is_address(name) or name in self.names

    @staticmethod
    def knows_origin(origin: str | None, host: str | None) -> bool:
        """Whether a request comes from these pages, or from no page.

        Args:
            origin: The `Origin` header; None without one.
            host: The `Host` header.
        """
        if origin is None:
            return True
        return urlsplit(origin).netloc.lower() == (host or "").lower() != ""

    def admits(self, headers: Mapping[str, str], cookie: str, now_s: float) -> bool:
        """Whether a request may read.

        Args:
            headers: With names in lower case.
            cookie: Value of the cookie `COOKIE`.
            now_s: Seconds since 1970.
        """
        if self.proxy_header:
            return bool(headers.get(self.proxy_header.lower(), "").strip())
        if not self.token:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.is_token(given.strip())
        return self.is_cookie(cookie, now_s)

    def is_token(self, given: str) -> bool:
        """Whether this is the token; takes the same time whatever is given."""
        return bool(self.token) and hmac.compare_digest(_digest(given), _digest(self.token))

    def cookie(self, now_s: float) -> str:
        """The value of a cookie that is good from now on, for `COOKIE_S`."""
        until = str(int(now_s) + COOKIE_S)
        return f"{until}.{self._signature(until)}"

    def is_cookie(self, value: str, now_s: float) -> bool:
        """Whether this is a cookie of ours that still holds."""
        until, _, signature = value.partition(".")
        signed = hmac.compare_digest(_digest(signature), _digest(self._signature(until)))
        return signed and until.isdigit() and now_s < int(until)

    def _signature(self, until: str) -> str:
        key = sha256(b"ordertrail cookie\0" + self.token.encode()).digest()
        return hmac.new(key, until.encode("utf-8", "replace"), sha256).hexdigest()


def access(host: str, *, token: str = "", proxy_header: str = "", names: tuple[str, ...] = ()) -> Access:
    """Who may read pages at an address.

    Args:
        host: The address or name to listen at.
        token: "" for none.
        proxy_header: "" for none.
        names: More host names.

    Raises:
        UsageError: Everybody in the network could read, or the token could be guessed.
    """
    if token and len(token) < LEAST_CHARACTERS:
        raise UsageError(
            f"the token has {len(token)} characters",
            hint=f"take at least {LEAST_CHARACTERS}: python3 -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    if not is_loopback(host) and not token and not proxy_header:
        raise UsageError(
            f"everybody who reaches {host} could read the pages",
            hint="give a token (--token-file FILE, or ORDERTRAIL_SERVE_TOKEN), or --behind-proxy HEADER where a proxy "
            "admits readers",
        )
    known = {"localhost", *names} | (set() if is_address(host) else {host})
    return Access(host, frozenset(name.lower() for name in known), token, proxy_header)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host == "localhost" or (is_address(host) and ip_address(host.strip("[]")).is_loopback)


def is_address(host: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def host_of(header: str) -> str:
    """The name or address of a `Host` header, without its port, in lower case."""
    name = header.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].removesuffix(".")


def _digest(text: str) -> bytes:
    # Of one length, so that comparing does not tell that of the token.
    return sha256(text.encode("utf-8", "replace")).digest()
