"""Spans of passes: one a step, with the times of the report, batch and errors; none for a pass without files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ordertrail import trace
from ordertrail.config import trace_exporters
from ordertrail.errors import StorageError
from ordertrail.trace import PASS, SCOPE, STEPS, note, step, traced_pass
from tests.feeds import TIMES, cells, csv_bytes
from tests.harness import open_house, without_fsync

ROOT = Path(__file__).resolve().parents[2]
FILE = csv_bytes([cells("1", TIMES[0]), cells("2", TIMES[0])])


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    made = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(made))
    monkeypatch.setattr(api, "get_tracer", provider.get_tracer)
    yield made
    provider.shutdown()


def told(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """The spans since the last call, by name without the scope; each name stands once but for `archive`."""
    found = {span.name.removeprefix(f"{SCOPE}."): span for span in exporter.get_finished_spans()}
    exporter.clear()
    return found


def test_a_pass_is_a_span_and_every_step_one_inside_it(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    house = open_house(tmp_path)
    with without_fsync():
        house.drop("a.csv", FILE)
        report = house.run()
    spans = told(exporter)
    assert spans.keys() == {PASS, *STEPS}
    whole = spans[PASS]
    assert whole.parent is None
    assert {name: (whole.attributes or {})[f"ordertrail.{name}"] for name in (
        "pipeline", "engine", "batch", "deliveries", "vendors", "recovered", "rows.parsed", "rows.inserted")} == {
        "pipeline": report.pipeline, "engine": "embedded", "batch": 1, "deliveries": 1, "vendors": 1,
        "recovered": False, "rows.parsed": 2, "rows.inserted": 2}  # fmt: skip
    inside = {"weigh": "load", "apply": "load", "record": "load"}
    for name in STEPS:
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == spans[inside.get(name, PASS)].context.span_id
        assert parent.trace_id == whole.context.trace_id
        began, ended = spans[name].start_time or 0, spans[name].end_time or 0
        assert (whole.start_time or 0) <= began <= ended <= (whole.end_time or 0)
    for name in ("stage", "load"):
        took_s = ((spans[name].end_time or 0) - (spans[name].start_time or 0)) / 1e9
        assert took_s == pytest.approx(report.seconds[name], abs=0.05)


def test_a_pass_without_files_leaves_no_trace(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    house = open_house(tmp_path)
    with without_fsync():
        house.run()
        assert told(exporter) == {}
        house.drop("a.csv", FILE)
        house.run()
        assert told(exporter)
        house.run()
        assert told(exporter) == {}


def test_an_error_is_recorded_where_it_was_and_on_the_pass(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.drop("a.csv", FILE)

    def full(name: str) -> None:
        if name == "plan.decided":
            raise StorageError("no space is left", hint="free some")

    with without_fsync(), pytest.raises(StorageError):
        house.run(probe=full)
    spans = told(exporter)
    assert spans.keys() == {PASS, "discover", "stage", "archive"}
    for name in (PASS, "stage"):
        assert not spans[name].status.is_ok
        assert spans[name].status.description == "StorageError: no space is left (free some)"
        assert [event.name for event in spans[name].events] == ["exception"]
    assert "ordertrail.batch" not in (spans[PASS].attributes or {})
    assert spans["discover"].status.is_unset


def test_where_nobody_asks_nothing_is_noted(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_API", "no.such.module")
    with traced_pass(pipeline="orders"), step("load"):
        note(batch=1)
    assert told(exporter) == {}
    note(batch=1)
    with step("load"):
        pass


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ()),
        ({"OTEL_TRACES_EXPORTER": "none"}, ()),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, ("otlp", "console")),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, ()),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, ()),
        ({"OTEL_SERVICE_NAME": "orders"}, ()),
    ],
)
def test_opentelemetrys_own_variables_decide(environment: dict[str, str], expected: tuple[str, ...]) -> None:
    assert trace_exporters(environment) == expected


def test_the_command_line_sends_spans_where_the_environment_says(tmp_path: Path) -> None:
    """As a process of its own, which ends without waiting for anything else; and an exporter that is not installed."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("ORDERTRAIL_", "OTEL_"))}
    plain |= {"PYTHONPATH": str(ROOT / "src"), "ORDERTRAIL_PIPELINE_SETTLE_S": "0"}

    def ordertrail(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "importtime", "-m", "ordertrail", *words]
        return subprocess.run(
            command, cwd=tmp_path, env=plain | more, capture_output=True, text=True, check=True, timeout=120
        )

    ordertrail("init")
    (tmp_path / "data/source/a.csv").write_bytes(FILE)
    done = ordertrail("run", OTEL_TRACES_EXPORTER="console", OTEL_SERVICE_NAME="orders")
    decoder, text, names = json.JSONDecoder(), done.stdout, []
    while (place := text.find("{\n")) >= 0:
        span, length = decoder.raw_decode(text[place:])
        names.append(span["name"])
        assert span["resource"]["attributes"]["service.name"] == "orders"
        text = text[place + length :]
    assert f"{SCOPE}.{PASS}" in names
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "ORDERTRAIL_LOG": "info"}
    assert "no traces are sent" in ordertrail("run", **asked).stderr
    assert "opentelemetry" not in ordertrail("run").stderr


def test_every_span_is_documented() -> None:
    page = (ROOT / "docs/how-to/traces.md").read_text(encoding="utf-8")
    assert [name for name in (PASS, *STEPS) if f"| `{SCOPE}.{name}` |" not in page] == []
