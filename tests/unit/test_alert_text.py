"""The messages about incidents: what they say, and that their first line fits a text message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from ordertrail.rules.alert_text import FIRST_LINE, MOST_TOLD, message, trial
from ordertrail.rules.incidents import CHANNEL, Incident
from ordertrail.rules.outbox import Event

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
BAD = Incident(
    "i1", "delivery:1", "quarantined", "warning", "acme", "a.csv of acme is quarantined: no column x",
    "ordertrail rejects --delivery 1", 240, NOON - timedelta(minutes=65), NOON, NOON, shipments=1231,
)  # fmt: skip
FAILS = replace(
    BAD, incident_id="i2", key="pipeline:failing", severity="critical", text="3 passes failed", rows=None, vendor=None
)


def test_a_message_says_what_since_when_how_much_and_what_to_type() -> None:
    found = message("orders", [(BAD, "open")], NOON)
    assert found.text == (
        "orders: a.csv of acme is quarantined: no column x (240 rows of about 1,231 shipments)\n"
        "\n"
        "since      2026-11-23 10:55 UTC, for 1 h 5 min\n"
        "concerns   240 rows of about 1,231 shipments: none of them is in the target\n"
        "type next  ordertrail rejects --delivery 1\n"
        'known?     ordertrail alerts ack delivery:1 --why "..."'
    )
    assert (found.severity, found.over) == ("warning", False)


@pytest.mark.parametrize(
    ("event", "first"),
    [
        ("open", "orders CRITICAL: 3 passes failed"),
        ("remind", "orders CRITICAL: still: 3 passes failed"),
        ("close", "orders: over: 3 passes failed"),
    ],
)
def test_the_first_line_says_which_event_it_is(event: Event, first: str) -> None:
    found = message("orders", [(replace(FAILS, closed_at=NOON), event)], NOON)
    assert found.title == first
    assert ("type next" in found.body) is (event != "close")
    assert found.over is (event == "close")


def test_the_end_says_how_long_it_took() -> None:
    ended = replace(BAD, closed_at=NOON + timedelta(days=2), count=3)
    body = message("orders", [(ended, "close")], NOON + timedelta(days=9)).body
    assert "since      2026-11-23 10:55 UTC to 2026-11-25 12:00 UTC, after 2 d 1 h" in body
    assert "came       3 times since 2026-11-23 12:00 UTC" in body


@pytest.mark.parametrize("length", [1, 99, 100, 101, 140, 160, 1_000])
def test_a_long_text_is_cut_in_the_first_line_and_whole_below(length: int) -> None:
    text = "x" * length
    found = message("orders", [(replace(FAILS, text=text), "remind")], NOON)
    assert len(found.title) <= FIRST_LINE
    assert "\n" not in found.title
    assert text in found.text


def test_a_text_of_several_lines_has_one_first_line() -> None:
    found = message("orders", [(replace(BAD, text="a\nb\r\nc"), "open")], NOON)
    assert found.title == "orders: a b c (240 rows of about 1,231 shipments)"


def test_rows_are_told_in_the_first_line_where_they_fit() -> None:
    told = " (240 rows, at most as many shipments)"
    for length in (1, FIRST_LINE - len("orders: ") - len(told)):
        found = message("orders", [(replace(BAD, text="x" * length, shipments=None), "open")], NOON)
        assert found.title == f"orders: {'x' * length}{told}"
        assert found.body.startswith("since")
    longer = message("orders", [(replace(BAD, text="x" * (length + 1), shipments=None), "open")], NOON)
    assert longer.title == f"orders: {'x' * (length + 1)}"
    assert "concerns   240 rows, at most as many shipments: none of them is" in longer.body
    assert "rows" not in message("orders", [(replace(BAD, closed_at=NOON), "close")], NOON).title


def test_one_row_is_one_shipment_at_most() -> None:
    body = message("orders", [(replace(BAD, rows=1), "open")], NOON).body
    assert "concerns   1 row, at most one shipment: it is not in the target" in body
    assert "concerns" not in message("orders", [(FAILS, "open")], NOON).body


def test_many_incidents_are_one_message_with_the_worst_first() -> None:
    many = [(replace(BAD, incident_id=f"i{n}", key=f"delivery:{n}"), "open") for n in range(MOST_TOLD + 10)]
    found = message("orders", [*many, (replace(BAD, closed_at=NOON), "close"), (FAILS, "open")], NOON)  # type: ignore[list-item]
    assert found.title == f"orders CRITICAL: {MOST_TOLD + 11} open, 1 over; 3 passes failed"
    assert found.body.startswith("CRITICAL: 3 passes failed\n")
    assert found.body.endswith("and 12 more: ordertrail alerts list")
    assert found.severity == "critical"


def test_commands_find_the_config() -> None:
    body = message("orders", [(BAD, "open")], NOON, " --config /etc/o.toml").body
    assert 'alerts ack delivery:1 --why "..." --config /etc/o.toml' in body


def test_a_channel_that_does_not_work_is_not_acknowledged() -> None:
    assert "ack" not in message("orders", [(replace(FAILS, kind=CHANNEL), "open")], NOON).body


def test_a_test_says_that_it_is_one() -> None:
    assert trial("orders", "mail", NOON).title == "orders: this is a test of the channel mail"
