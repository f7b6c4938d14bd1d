"""Sends the spans of this process where the environment says, when it does and the SDK is installed."""

from __future__ import annotations

import threading
from importlib.metadata import entry_points

from ordertrail.config import trace_exporters
from ordertrail.log import Log, before_end

EXPORTERS = "opentelemetry_traces_exporter"
"""The group of entry points in which OpenTelemetry's packages list their exporters."""

FLUSH_S = 2.0
"""How long the end of the process waits for spans that are not sent yet, in seconds."""

_log = Log()


def start_traces() -> bool:
    """Set up OpenTelemetry's SDK if the environment asks for traces; it reads all else from there by itself.

    A program that has set it up already, such as `opentelemetry-instrument`, is left alone.

    Returns:
        Whether this call set it up.
    """
    wanted = trace_exporters()
    if not wanted:
        return False
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _log.info("no traces are sent", reason="opentelemetry-sdk is not installed")
        return False
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return False
    provider = TracerProvider(shutdown_on_exit=False)
    for name in wanted:
        found = next(iter(entry_points(group=EXPORTERS, name=name)), None)
        if found is None:
            _log.info("no traces are sent", reason=f"no package brings the exporter {name}")
            continue
        provider.add_span_processor(BatchSpanProcessor(found.load()()))
    trace.set_tracer_provider(provider)
    before_end(lambda: _flush(provider))
    return True


def _flush(provider: object) -> None:
    """Send what is left. A collector that does not answer holds no process."""
    flush = threading.Thread(target=provider.force_flush, daemon=True)  # type: ignore[attr-defined]
    flush.start()
    flush.join(FLUSH_S)
