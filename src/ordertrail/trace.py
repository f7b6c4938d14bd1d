"""The steps of a pass as spans of OpenTelemetry, for whoever has imported it; for all others this costs nothing.

Spans are made when a pass ends, from the times that were noted: a service looks at its source folder every few seconds,
and a pass that found nothing leaves no trace. Nothing here imports OpenTelemetry: a program that wants spans has, and
the command line does so when the environment asks (`ordertrail.cli.traces`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SCOPE = "ordertrail"
"""Name of the tracer, and what all attributes begin with."""

PASS = "pass"
"""Name of the span around all others."""

STEPS: Mapping[str, str] = {
    "discover": "list the source folder and hash what is complete",
    "stage": "read the files into the stage",
    "load": "bring the batch into the tables",
    "weigh": "determine the outcome of every row; part of `load`",
    "apply": "commit the change set to the target; part of `load`",
    "record": "write history, rejects and deliveries; part of `load`",
    "archive": "move the files into the archive, after the done mark",
}
"""Every step of a pass, in their order, and what it does."""

Attribute = str | int | float | bool

_API = "opentelemetry.trace"


class _Noted(Struct):
    """A step, or the whole pass."""

    name: str
    began_ns: int
    ended_ns: int = 0
    error: BaseException | None = None
    attributes: dict[str, Attribute] = field(default_factory=dict)
    steps: list[_Noted] = field(default_factory=list)


_current: ContextVar[_Noted | None] = ContextVar("ordertrail_step", default=None)


@contextmanager
def traced_pass(**attributes: Attribute) -> Iterator[None]:
    """Note the steps of a pass, and make spans of them at its end if it had a batch or failed.

    Args:
        attributes: Of its span; `note` adds others.
    """
    if _API not in sys.modules:
        yield
        return
    noted = _Noted(PASS, time.time_ns(), attributes=dict(attributes))
    try:
        with _within(noted):
            yield
    finally:
        if noted.error is not None or "batch" in noted.attributes:
            _emit(noted)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Note one step of the pass that runs in this thread."""
    around = _current.get()
    if around is None:
        yield
        return
    noted = _Noted(name, time.time_ns())
    around.steps.append(noted)
    with _within(noted):
        yield


@contextmanager
def timed(seconds: MutableMapping[str, float], name: str) -> Iterator[None]:
    """Note a step of a pass, and add how long it took.

    Args:
        seconds: By step; it has this one.
        name: One of `STEPS`.
    """
    began = time.perf_counter()
    try:
        with step(name):
            yield
    finally:
        seconds[name] += time.perf_counter() - began


def note(**attributes: Attribute | None) -> None:
    """Add attributes to the step, or the pass, that runs in this thread; None adds none."""
    if (noted := _current.get()) is not None:
        noted.attributes.update({name: value for name, value in attributes.items() if value is not None})


@contextmanager
def _within(noted: _Noted) -> Iterator[None]:
    token = _current.set(noted)
    try:
        yield
    except BaseException as error:
        noted.error = error
        raise
    finally:
        noted.ended_ns = time.time_ns()
        _current.reset(token)


def _emit(noted: _Noted, parent: Span | None = None) -> None:
    from opentelemetry import trace
    from opentelemetry.trace import Status, StatusCode

    span = trace.get_tracer(SCOPE).start_span(
        f"{SCOPE}.{noted.name}",
        context=None if parent is None else trace.set_span_in_context(parent),
        start_time=noted.began_ns,
        attributes={f"{SCOPE}.{name}": value for name, value in noted.attributes.items()},
    )
    for one in noted.steps:
        _emit(one, span)
    if noted.error is not None:
        span.record_exception(noted.error, timestamp=noted.ended_ns)
        span.set_status(Status(StatusCode.ERROR, f"{type(noted.error).__name__}: {noted.error}"))
    span.end(end_time=noted.ended_ns)
