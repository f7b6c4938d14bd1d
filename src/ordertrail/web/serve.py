"""`ordertrail serve`: the pages at an address, until a signal ends it."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from ordertrail.errors import UsageError
from ordertrail.watch.signals import stopping_by_signal
from ordertrail.web.access import Access

if TYPE_CHECKING:
    import uvicorn

    from ordertrail.config import Config

PORT = 8765
"""Taken when none is given and it is free."""

_BACKLOG = 128
_AT_A_TIME = 64
_IDLE_S = 10
_GRACE_S = 3


class Listening(Struct, frozen=True):
    """Where the pages are.

    Attributes:
        pipeline: Whose.
        url: What to open.
        token: Whether a reader needs the token.
    """

    pipeline: str
    url: str
    token: bool


def require_libraries() -> None:
    """Raise an error when the extra `web` is not installed.

    Raises:
        UsageError: It is not.
    """
    try:
        import jinja2  # noqa: F401 - an extra
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{error.name}, which the pages need, is not installed", hint="pip install 'ordertrail[web]'"
        ) from error


def serve(config: Config, access: Access, port: int | None, tell: Callable[[Listening], None]) -> int:
    """Show the pages until SIGTERM or Ctrl-C.

    Args:
        config: Of the pipeline.
        access: Where to listen, and who may read.
        port: 0 for any that is free; None for `PORT`, or any other when that is taken.
        tell: Called with the address once readers are taken.

    Returns:
        The exit code.

    Raises:
        UsageError: The extra `web` is missing, or the address or the port cannot be taken.
    """
    require_libraries()
    from ordertrail.web.sparing import be_sparing

    be_sparing()
    import uvicorn

    from ordertrail.web.application import application

    app = application(config, access)
    with _bound(access.host, port) as listener:
        options = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="on",
            limit_concurrency=_AT_A_TIME,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        host = f"[{access.host}]" if ":" in access.host else access.host
        tell(Listening(config.name, f"http://{host}:{listener.getsockname()[1]}/", bool(access.token)))
        _run(uvicorn.Server(options), listener)
    return 0


@contextmanager
def _bound(host: str, port: int | None) -> Iterator[socket.socket]:
    try:
        family, kind, _, _, _ = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"there is no address {host!r}: {error.strerror}", hint="take --host 127.0.0.1") from error
    # The protocol is said, as asyncio asks for it before it sends small parts at once: else each page waits 40 ms.
    with socket.socket(family, kind, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            _bind(listener, host, port)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise UsageError(
                f"cannot listen at {host}, port {port or PORT}: {error.strerror}", hint="take another one, or --port 0"
            ) from error
        yield listener


def _bind(listener: socket.socket, host: str, port: int | None) -> None:
    try:
        listener.bind((host, PORT if port is None else port))
    except OSError as error:
        if port is not None or error.errno != errno.EADDRINUSE:
            raise
        listener.bind((host, 0))


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    """Run a server until a signal, in a thread of its own, and let the others end what they do."""
    ended = threading.Event()

    def work() -> None:
        try:
            server.run(sockets=[listener])
        finally:
            ended.set()

    serving = threading.Thread(target=work, name="ordertrail-pages", daemon=True)
    with stopping_by_signal(ended.set):  # a query that does not end would hold the process
        serving.start()
        ended.wait()
        server.should_exit = True
        serving.join()
        for thread in threading.enumerate():
            if not (thread.daemon or thread is threading.current_thread()):
                thread.join()
