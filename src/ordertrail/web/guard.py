"""What stands before every page: refusals by name, origin, method and token, and the headers of every answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ordertrail.web.access import COOKIE, Access

LOGIN = "/login"
OPEN_PATHS = frozenset({LOGIN, "/healthz"})
"""What is answered without a token, besides the style sheet."""

STATIC = "/static/"

_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: with that a browser sends `Origin: null` with a form.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_NO_STORE = "no-store"

Refuse = Callable[[int, str, str], ASGIApp]
"""Makes the answer of a refusal: its status, what is wrong, and what to do."""


class Guard:
    """Lets requests through to the pages that may read them.

    Args:
        app: The pages.
        access: Who may read.
        refuse: Makes refusals.
        clock: Seconds since 1970.
    """

    def __init__(self, app: ASGIApp, *, access: Access, refuse: Refuse, clock: Callable[[], float] = time.time) -> None:
        self._app = app
        self._access = access
        self._refuse = refuse
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # of a websocket nothing is accepted
        answer = self._judge(scope)
        await answer(scope, receive, _with_headers(send))

    def _judge(self, scope: Scope) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        headers = _headers(scope)
        method, path = scope["method"], scope["path"]
        if not self._access.knows_host(headers.get("host")):
            return self._refuse(
                421,
                "These pages are not known by this name.",
                "Use the address that ordertrail serve printed, or start it with --allow-host NAME.",
            )
        if not self._access.knows_origin(headers.get("origin"), headers.get("host")) or _from_elsewhere(headers):
            return self._refuse(403, "Another site asked for this page.", "Open it from its own address.")
        if method not in ("GET", "HEAD") and not (method == "POST" and path == LOGIN):
            return self._refuse(405, "These pages only read.", "Whatever changes the tables is a command.")
        if path in OPEN_PATHS or path.startswith(STATIC):
            return self._app
        if self._access.admits(headers, _cookie(headers.get("cookie", "")), self._clock()):
            return self._app
        if self._access.token and "text/html" in headers.get("accept", ""):
            asked = path + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
            return _to_login(asked)
        what = "The proxy has admitted nobody." if self._access.proxy_header else "A token is missing, or it is wrong."
        return self._refuse(401, what, "Send it as Authorization: Bearer TOKEN, or open /login in a browser.")


def _headers(scope: Scope) -> dict[str, str]:
    """The headers by lower-case name; of one that stands there twice both values, which then fit nothing."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether another site's page loads this one as a part of itself; a link that a person follows is no part."""
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _to_login(asked: str) -> ASGIApp:
    from starlette.responses import RedirectResponse

    return RedirectResponse(f"{LOGIN}?next={quote(asked, safe='')}", 303)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", _NO_STORE)
        await send(message)

    return sent
