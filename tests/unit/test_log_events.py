"""Log lines as JSON: whatever an event holds, it is one line that every parser reads."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from docs.generate import log_events
from ordertrail.cli.frame import Frame
from ordertrail.cli.log_events import OWN, json_line, text_line
from ordertrail.cli.log_lines import ROOM, LogLines
from ordertrail.log import Log, configure_when_needed

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes()
    | st.characters(categories=["Cs"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner),
    max_leaves=6,
)  # fmt: skip


def refuse(constant: str) -> object:
    raise AssertionError(f"{constant} is no JSON")


@given(st.text(), st.dictionaries(st.text(min_size=1), values, max_size=5))
def test_any_event_is_one_line_of_json(event: str, fields: dict[str, object]) -> None:
    line = json_line({**fields, "level": "info", "event": event})
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line, parse_constant=refuse)
    found.encode if isinstance(found, str) else json.dumps(found, ensure_ascii=False).encode("utf-8")
    assert list(found)[:3] == ["time", "level", "event"]
    assert TIME.fullmatch(found["time"])
    assert set(found) == {"time", "level", "event"} | set(fields) - {"exception"} | (
        {"exception"} if fields.get("exception") else set()
    )


def test_fields_keep_their_types() -> None:
    moment = datetime(2026, 11, 23, 9, 30, tzinfo=timezone(timedelta(hours=-6)))
    fields = {
        "batch": 12, "seconds": 0.25, "running": False, "file": "a\nb\u202e\udc80.csv", "columns": ("a", "b"),
        "nothing": None, "at": moment, "path": Path("x"), "share": float("nan"), "of": {"a": {1}},
    }  # fmt: skip
    found = json.loads(json_line({"level": "info", "event": "delivery", **fields}))
    assert {name: found[name] for name in fields} == {
        "batch": 12, "seconds": 0.25, "running": False, "file": "a\nb\u202e\\udc80.csv", "columns": ["a", "b"],
        "nothing": None, "at": "2026-11-23T15:30:00.000000Z", "path": "x", "share": "nan", "of": {"a": [1]},
    }  # fmt: skip


def test_no_event_has_a_field_with_the_name_of_a_member() -> None:
    found = list(log_events())
    assert len(found) > 30
    assert [event for event, _, fields in found if {*fields} & {*OWN} - {"exception"}] == []


def test_the_environment_decides_about_the_form(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = Frame(Path("ordertrail.toml"), as_json=False, debug=True)
    try:
        for form, starts in (("json", "{"), ("text", "20")):
            monkeypatch.setenv("ORDERTRAIL_LOG_FORMAT", form)
            frame.logs()
            Log().warning("left alone", file="a b\n.csv")
            try:
                raise ValueError("two\nlines")
            except ValueError as error:
                Log().debug("traceback", exc_info=error)
            err = capsys.readouterr().err
            assert err.startswith(starts)
            structlog.reset_defaults()
        monkeypatch.setenv("ORDERTRAIL_LOG_FORMAT", "json")
        frame.logs()
        try:
            raise ValueError("two\nlines")
        except ValueError as error:
            Log().error("traceback", exc_info=error)
        (line,) = capsys.readouterr().err.splitlines()
        assert json.loads(line)["exception"].endswith("ValueError: two\nlines")
    finally:
        structlog.reset_defaults()
        configure_when_needed("critical", lambda: None)


@pytest.mark.parametrize("line_of", [json_line, text_line])
def test_lines_that_were_lost_are_told_in_the_same_form(
    line_of: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = LogLines(line_of=line_of)  # type: ignore[arg-type]
    monkeypatch.setattr("threading.Thread.start", lambda _: None)
    for number in range(ROOM + 5):
        lines.put(json_line({"event": str(number), "at": datetime.now(UTC)}))
    monkeypatch.undo()
    lines._thread = None
    lines._lines.get_nowait()
    lines._lines.task_done()
    lines.put(json_line({"event": "after"}))
    lines.drain(30)
    told = [line for line in capsys.readouterr().err.splitlines() if "lines were lost" in line]
    assert len(told) == 1
    if line_of is json_line:
        assert json.loads(told[0])["lines"] == 5
