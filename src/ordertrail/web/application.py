"""The pages as an ASGI application: which path is which page, in which thread it is made, how an error looks."""

from __future__ import annotations

import threading
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, get_args
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ordertrail import __version__
from ordertrail.config import Config
from ordertrail.errors import OrdertrailError, QueryError, UsageError
from ordertrail.log import Log
from ordertrail.look import deliveries as listing
from ordertrail.look.follow import PATIENCE_S, Followed, Moment, give_back
from ordertrail.look.metrics import Metrics
from ordertrail.look.rows import Rows
from ordertrail.web.access import COOKIE, COOKIE_S, Access
from ordertrail.web.guard import Guard
from ordertrail.web.page import Answer, Ask, Page, Twin
from ordertrail.web.pages import NAVIGATION, PAGES
from ordertrail.web.shown import ago, static, templates, when
from ordertrail.web.sparing import give_back_code, resident_bytes
from ordertrail.web.today import prepare
from ordertrail.web.twins import csv_bytes, json_bytes

THREADS = 4
"""How many pages are made at a time; the others wait."""

MOST_WAITING = 4
"""How many slow pages wait for each other; further ones are refused."""

IDLE_S = 1.0
"""When nobody has asked for a page for so long, or twice as long, in seconds, memory goes back."""

MOST_BYTES = 130_000_000
"""After a page with which the process has become larger than this, code goes back. To map it again takes a
tenth of the pages' processor time; with less it would be more, and no less memory than one page needs."""

LOGIN_BYTES = 4_096
"""Largest form that is read."""


def _now() -> datetime:
    return datetime.now(UTC)


_TZ_COOKIE = "tz"
_log = Log()
_TZ_S = 365 * 86_400
_YEAR = "public, max-age=31536000, immutable"
_WRONG_TOKEN_S = 0.5


def application(
    config: Config, access: Access, *, clock: Callable[[], datetime] = _now, patience_s: float = PATIENCE_S
) -> Starlette:
    """The pages of a pipeline.

    Args:
        config: Of the pipeline.
        access: Who may read.
        clock: Gives aware UTC.
        patience_s: How long a reader waits for a new state of the tables, see `look.follow.Followed`.

    Raises:
        UsageError: Only Spark reaches the tables, and it cannot start.
    """
    return _Site(config, access, clock, patience_s).app


class _Site:
    """The pages with what they share."""

    def __init__(self, config: Config, access: Access, clock: Callable[[], datetime], patience_s: float) -> None:
        self._config = config
        self._access = access
        self._clock = clock
        self._followed = Followed(config, prepare=prepare, patience_s=patience_s)
        self._numbers = Metrics(config, __version__)
        self._threads = anyio.CapacityLimiter(THREADS)
        self._slow = anyio.CapacityLimiter(1)
        self._asked = 0
        self._slow_asked = 0
        self._full = anyio.Event()
        routes = [Route("/healthz", self._healthz), Route("/login", self._login, methods=["GET", "POST"])]
        routes.append(Route("/metrics", self._metrics))
        routes += [Route(path, partial(_static, word=word)) for word, (path, _, _) in static().items()]
        for page in PAGES:
            routes.append(Route(page.path, partial(self._page, page=page, twin="html")))
            stem = "/today" if page.path == "/" else page.path
            twins = get_args(Twin) if page.listed else ("html", "json")
            routes += [Route(f"{stem}.{twin}", partial(self._page, page=page, twin=twin)) for twin in twins[1:]]
        handlers: Mapping[Any, Any] = {404: self._missing, 405: self._missing, Exception: self._failed}
        guard = Middleware(Guard, access=access, refuse=_refusal)
        self.app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=self._lifespan)

    # -- pages ------------------------------------------------------------------------------------------------

    async def _page(self, request: Request, *, page: Page, twin: Twin) -> Response:
        self._asked += 1
        slow = page.slow and bool(request.url.query)
        # Counted here and not by the limiter, to which those that come at the same moment are not known yet.
        if slow and self._slow_asked > MOST_WAITING:
            return self._error(request, 503, "Others are being answered.", "Try again in a moment.", twin)
        self._slow_asked += slow
        try:
            limiter = self._slow if slow else self._threads
            response = await anyio.to_thread.run_sync(self._made, request, page, twin, limiter=limiter)
        finally:
            self._slow_asked -= slow
        if resident_bytes() > MOST_BYTES:
            self._full.set()
        return response

    def _made(self, request: Request, page: Page, twin: Twin) -> Response:
        """One page, in a thread."""
        try:
            ask = self._ask(request, page, twin)
            with self._followed.now() as moment:
                return self._answer(request, page, ask, moment)
        except OrdertrailError as error:
            return self._told(request, error, twin)

    def _answer(self, request: Request, page: Page, ask: Ask, moment: Moment) -> Response:
        if not moment.begun and not page.begins:
            answer, template = Answer({"pipeline": moment.config.name, "begun": False}, rows=Rows((), ())), "empty"
        else:
            answer, template = page.make(moment, ask), page.name
        if ask.twin == "json":
            return Response(json_bytes(answer.document), media_type="application/json", status_code=answer.status)
        if ask.twin == "csv":
            name = f'attachment; filename="{page.name}.csv"'
            if answer.file is not None:  # in the vendor's encoding
                return Response(
                    answer.file, media_type="application/octet-stream", headers={"content-disposition": name}
                )
            rows = answer.rows or Rows((), ())
            return Response(
                csv_bytes(rows), media_type="text/csv; charset=utf-8", headers={"content-disposition": name}
            )
        shown = {
            "page": page,
            "ask": ask,
            "moment": moment,
            "doc": answer.document,
            "more": answer.more,
            "when": when(ask.zone),
            "ago": ago(ask.now),
            "attention": len(moment.status().open_items),
        }
        response = self._html(template, shown, answer.status)
        if "tz" in request.query_params:
            response.set_cookie(_TZ_COOKIE, ask.zone.key, max_age=_TZ_S, samesite="strict", httponly=True)
        return response

    def _ask(self, request: Request, page: Page, twin: Twin) -> Ask:
        pairs = parse_qsl(request.url.query, keep_blank_values=True, max_num_fields=100, errors="replace")
        query = dict(pairs)
        zone = self._zone(query, request.cookies.get(_TZ_COOKIE, ""))
        elsewhere = request.headers.get("sec-fetch-site", "") == "cross-site"
        return Ask(page.path, query, twin, self._clock(), zone, elsewhere)

    def _zone(self, query: Mapping[str, str], cookie: str) -> ZoneInfo:
        """The zone of the query, of the cookie, or UTC.

        Raises:
            UsageError: The query has one that does not exist.
        """
        if asked := query.get("tz", ""):
            if (found := _zone_of(asked)) is None:
                raise UsageError(f"there is no time zone {asked[:60]!r}", hint="give one such as Europe/Berlin or UTC")
            return found
        return _zone_of(cookie) or ZoneInfo("UTC")

    def _html(self, template: str, shown: Mapping[str, object], status: int = 200) -> Response:
        everywhere = {
            "navigation": NAVIGATION,
            "pipeline": self._config.name,
            "version": __version__,
            "zones": _zones(self._config),
            "token_needed": bool(self._access.token),
        }
        text = templates().get_template(f"{template}.html").render({**everywhere, **shown})
        return Response(text.encode("utf-8", "backslashreplace"), status, media_type="text/html; charset=utf-8")

    # -- errors -----------------------------------------------------------------------------------------------

    def _told(self, request: Request, error: OrdertrailError, twin: Twin) -> Response:
        """An error of ours: what the reader asked wrongly in full, of the tables only what to do."""
        asked = isinstance(error, UsageError | QueryError)
        if asked:
            return self._error(request, 400, self._placeless(error.message), self._placeless(error.hint), twin)
        _log.error("page_failed", path=request.url.path, code=error.code, error=str(error))
        what = self._placeless(error.message)
        return self._error(request, 503, what, f"{self._placeless(error.hint)}; ordertrail status tells more", twin)

    def _error(self, request: Request, status: int, what: str, todo: str, twin: Twin = "html") -> Response:
        if twin != "html" or _wants_json(request):
            return JSONResponse({"error": what, "hint": todo}, status)
        shown = {"status": status, "what": what, "todo": todo, "page": None}
        return self._html("error", shown, status)

    async def _missing(self, request: Request, error: Exception) -> Response:  # noqa: ARG002 - Starlette gives it
        return self._error(request, 404, "There is no such page.", "Choose one above.")

    async def _failed(self, request: Request, error: Exception) -> Response:
        """Any other error: it is logged, and its text is not shown."""
        _log.error("page_broken", path=request.url.path, error="".join(traceback.format_exception(error)))
        return self._error(request, 500, "This page failed.", "The log of ordertrail serve says why.")

    def _placeless(self, text: str) -> str:
        """Without the folders of this machine."""
        for name in ("warehouse", "archive", "source"):
            text = text.replace(str(getattr(self._config, name)), name)
        return text

    # -- what is no page --------------------------------------------------------------------------------------

    async def _healthz(self, request: Request) -> Response:  # noqa: ARG002 - Starlette gives it
        """Whether the pages work; the pipeline's health is that of `ordertrail health`."""

        def look() -> bool:
            with self._followed.now() as moment:
                return moment.begun

        try:
            begun = await anyio.to_thread.run_sync(look, limiter=self._threads)
        except OrdertrailError as error:
            return JSONResponse({"ok": False, "code": error.code}, 503)
        return JSONResponse({"ok": True, "begun": begun})

    async def _metrics(self, request: Request) -> Response:
        """For Prometheus: what the tables tell; passes are the service's."""
        accept = request.headers.get("accept")
        body, kind = await anyio.to_thread.run_sync(self._numbers.exposition, accept, limiter=self._threads)
        return Response(body, headers={"content-type": kind})

    async def _login(self, request: Request) -> Response:
        given = request.query_params.get("next", "/")
        target = given if given.startswith("/") and not given.startswith(("//", "/\\")) else "/"
        if not self._access.token:
            return RedirectResponse(target, 303)
        wrong = False
        if request.method == "POST":
            form = dict(parse_qsl((await _body(request)).decode("utf-8", "replace")))
            if self._access.is_token(form.get("token", "").strip()):
                response = RedirectResponse(target, 303)
                secure = request.headers.get("origin", "").startswith("https:")
                value = self._access.cookie(self._clock().timestamp())
                response.set_cookie(COOKIE, value, max_age=COOKIE_S, httponly=True, samesite="strict", secure=secure)
                return response
            wrong = True
            await anyio.sleep(_WRONG_TOKEN_S)
        return self._html("login", {"page": None, "wrong": wrong, "next": target}, 401 if wrong else 200)

    def _look(self) -> None:
        """See the tables and load the libraries before a reader waits for that."""
        give_back_code()  # that of starting libraries, before more comes
        with suppress(OrdertrailError):
            with self._followed.now() as moment:
                if moment.begun:
                    listing.deliveries(moment.look, listing.Wanted(), 1)
            templates().get_template("today.html")
            give_back_code()

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002 - Starlette gives it
        # The first reader does not wait for the first look.
        threading.Thread(target=self._look, name="ordertrail-first-look", daemon=True).start()
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._rest)
            beside.start_soon(self._stay_small)
            yield
            beside.cancel_scope.cancel()
        self._followed.close()

    async def _stay_small(self) -> None:
        """Give code back each time when the process has become large, while the next page is made."""
        while True:
            await self._full.wait()
            self._full = anyio.Event()
            await anyio.to_thread.run_sync(give_back_code)

    async def _rest(self) -> None:
        """Give memory back each time when nobody asks for pages any more."""
        given_back = self._asked
        while True:
            before = self._asked
            await anyio.sleep(IDLE_S)
            if given_back != before == self._asked:
                given_back = before
                await anyio.to_thread.run_sync(_give_back, limiter=self._threads)


def _give_back() -> None:
    """Give back what an idle process can do without: what malloc holds for later, and code."""
    give_back()
    give_back_code()


def _refusal(status: int, what: str, todo: str) -> ASGIApp:
    """Plain text: who is refused learns nothing of the pipeline, not even its name."""
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return PlainTextResponse(f"{what} {todo}\n", status, headers=headers)


async def _body(request: Request) -> bytes:
    """A small form; what is longer is cut, and fits nothing."""
    found = b""
    async for chunk in request.stream():
        found += chunk
        if len(found) > LOGIN_BYTES:
            break
    return found[:LOGIN_BYTES]


async def _static(request: Request, *, word: str) -> Response:  # noqa: ARG001 - Starlette gives it
    _, kind, content = static()[word]
    return Response(content, media_type=kind, headers={"cache-control": _YEAR})


def _wants_json(request: Request) -> bool:
    return request.url.path.endswith(".json")


def _zone_of(name: str) -> ZoneInfo | None:
    with suppress(KeyError, ValueError, OSError):  # ValueError: a path outside the database
        return ZoneInfo(name) if name else None
    return None


def _zones(config: Config) -> list[str]:
    """The zones to choose from: those of the vendors; any other may be typed."""
    return sorted({"UTC", *(vendor.timezone for vendor in config.vendors)})
