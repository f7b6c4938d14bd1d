"""Answers `GET /metrics` beside the service, in threads of its own: no pass waits for it, and none fails with it."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address

from msgspec import Struct

from ordertrail.errors import UsageError
from ordertrail.log import Log

MOST_AT_ONCE = 8
"""How many may be answered at the same time; who comes then is sent away."""

TIMEOUT_S = 10.0
"""How long somebody may be silent, in seconds."""

LOOPBACK = "127.0.0.1"

_log = Log()

Answer = Callable[[str | None], tuple[bytes, str]]
"""Gets the header `Accept`, returns body and content type."""


class Listening(Struct, frozen=True):
    """Where to listen.

    Attributes:
        port: 0 takes a free one.
        address: An IP address of this machine.
    """

    port: int
    address: str = LOOPBACK


def listening(port: int, address: str) -> Listening:
    """Where to listen, once the address was checked.

    Raises:
        UsageError: It is no IP address.
    """
    try:
        return Listening(port, str(ip_address(address)))
    except ValueError:
        hint = "give one such as 127.0.0.1, or 0.0.0.0 for all of this machine, with --metrics-address"
        raise UsageError(f"{address!r} is no IP address", hint=hint) from None


@contextmanager
def answering(answer: Answer, place: Listening) -> Iterator[int]:
    """Answer within the block; yields the port.

    Raises:
        UsageError: The port is taken, or the address is none of this machine.
    """
    server = _server(answer, place)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="ordertrail-metrics", daemon=True)
    thread.start()
    port = int(server.server_address[1])
    shown = f"[{place.address}]" if ":" in place.address else place.address
    _log.info("metrics", url=f"http://{shown}:{port}/metrics")
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _server(answer: Answer, place: Listening) -> _Server:
    try:
        return _Server(answer, place)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise UsageError(
            f"cannot answer at port {place.port} of {place.address}: {reason or error}",
            hint="give a free port above 1023 with --metrics-port and an IP address of this machine with "
            "--metrics-address",
        ) from error


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Answer, place: Listening) -> None:
        self.answer = answer
        self.local_only = ip_address(place.address).is_loopback
        self.address_family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
        self._room = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__((place.address, place.port), _Handler)

    def server_bind(self) -> None:
        # As HTTPServer does it, but without asking the name service for our own name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: object, client_address: object) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)  # type: ignore[arg-type]
        else:
            self.shutdown_request(request)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the library gives them
        _log.debug("somebody who asked for metrics got no answer", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server: _Server
    server_version = "ordertrail"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "there is only /metrics")
        elif self.server.local_only and not _names_this_machine(self.headers.get("Host")):
            # A page in somebody's browser may have made its own name point here.
            self.send_error(421, "ask for localhost or a loopback address")
        else:
            body, kind = self.server.answer(self.headers.get("Accept"))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: somebody asks every few seconds."""


def _names_this_machine(host: str | None) -> bool:
    if host is None:
        return True
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
