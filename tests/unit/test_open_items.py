"""What needs a person, judged from facts; and which deliveries are open."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace

from ordertrail.config import Config, parse_config, template
from ordertrail.delta import vectors
from ordertrail.delta.columns import _live
from ordertrail.engines.local.consumers import Consumer, Lag
from ordertrail.errors import StorageError
from ordertrail.look import document
from ordertrail.look.arrivals import Late
from ordertrail.look.delivered import SetAside, delivered, open_places
from ordertrail.look.heartbeat import SILENT_S, Heard, heard, heartbeat_path
from ordertrail.look.open_items import FAILED_PASSES, KINDS, NEXT_PASS, Facts, OpenItem, Waiting, open_items
from ordertrail.look.rejecting import Rejecting
from ordertrail.look.space import LOW_SPACE_BYTES, NO_SPACE_BYTES, Space
from ordertrail.look.usual import Usual
from ordertrail.sources.directory import NO_VENDOR
from ordertrail.sources.settling import STILL_OPEN

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BEAT = Heard(Path("/srv/orders/.ordertrail-orders.heartbeat"), NOW, 12)
BAD = SetAside("000002-00000-aa", "acme", "bad.csv", 2, "quarantined", "no column x", "q/bad.csv", NOW)


@pytest.fixture
def config() -> Config:
    return parse_config(template(), base=Path("/srv/orders"), environ={})


def only(config: Config, **facts: object) -> OpenItem:
    (item,) = open_items(config, Facts(**facts), NOW)  # type: ignore[arg-type]
    return item


# --- which deliveries are open -----------------------------------------------------------------------------------

Row = tuple[int, str, str, str]
"""Batch, state, vendor, content."""


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], []),
        ([(1, "loaded", "v", "a"), (1, "empty", "v", "b"), (2, "duplicate", "v", "a")], []),
        ([(1, "quarantined", "v", "a"), (2, "held", "v", "b")], [0, 1]),
        ([(1, "quarantined", "v", "a"), (2, "loaded", "v", "a")], []),
        ([(2, "loaded", "v", "a"), (1, "quarantined", "v", "a")], []),
        ([(3, "quarantined", "v", "a"), (3, "loaded", "v", "a")], []),
        ([(1, "loaded", "v", "a"), (2, "quarantined", "v", "a")], [1]),
        ([(1, "loaded", "v", "a"), (2, "quarantined", "v", "a"), (3, "loaded", "v", "a")], []),
        ([(3, "loaded", "v", "a"), (2, "held", "v", "a"), (1, "loaded", "v", "a")], []),
        ([(1, "quarantined", "v", "a"), (2, "loaded", "w", "a")], [0]),
        ([(1, "quarantined", "v", "a"), (2, "loaded", "v", "b")], [0]),
        ([(1, "quarantined", "v", "a"), (2, "duplicate", "v", "a"), (3, "undone", "v", "a")], [0]),
        ([(1, "quarantined", "v", "a"), (2, "quarantined", "v", "a")], [0, 1]),
        ([(1, "dismissed", "v", "a"), (2, "refused", "v", "b"), (3, "replayed", "v", "c")], []),
    ],
)
def test_a_delivery_is_open_until_its_bytes_are_loaded(rows: Sequence[Row], expected: list[int]) -> None:
    batches, states, vendors, hashes = zip(*rows, strict=True) if rows else ((), (), (), ())
    contents = dict(enumerate(zip(vendors, hashes, strict=True)))
    assert open_places(states, batches, lambda places: contents if places else {}) == expected


def test_vendors_and_hashes_are_read_only_when_a_delivery_is_set_aside() -> None:
    def unwanted(_: Sequence[int]) -> dict[int, tuple[str, str]]:
        raise AssertionError

    assert open_places(["loaded", "empty"], [1, 2], unwanted) == []


def test_what_the_deliveries_say_is_the_same_in_however_many_pieces_they_are_read() -> None:
    states = ["loaded", "quarantined", "held", "quarantined", "loaded", "quarantined", "empty"]
    rows = [
        {
            "delivery_id": f"00000{batch}-00000-aa", "vendor": "acme", "file_name": f"{batch}.csv", "batch": batch,
            "state": state, "reason": "why", "archived_to": None, "discovered_at": NOW + timedelta(hours=batch),
            "sha256": "same" if batch in (2, 5) else str(batch), "loaded_at": NOW if state == "loaded" else None,
            "rows_parsed": 3,
        }
        for batch, state in enumerate(states, 1)
    ]  # fmt: skip
    whole = pa.Table.from_pylist(rows)
    pieces = pa.concat_tables([whole.slice(0, 2), whole.slice(2, 1), whole.slice(3, 3), whole.slice(6)])
    for table in (whole, pieces):
        found = delivered(lambda names, table=table: table.select(list(names)))  # type: ignore[misc]
        assert found.states == {"loaded": 2, "empty": 1, "quarantined": 3, "held": 1}
        assert found.last_loaded_at == NOW
        newest_first = [(one.batch, one.state, one.file_name, one.since) for one in found.open]
        assert newest_first == [
            (6, "quarantined", "6.csv", NOW + timedelta(hours=6)),
            (4, "quarantined", "4.csv", NOW + timedelta(hours=4)),
            (3, "held", "3.csv", NOW + timedelta(hours=3)),
        ]


@pytest.mark.parametrize("marked", [[], [0], [3], [4], [1, 5, 6], [0, 1, 2, 3, 4, 5, 6]])
def test_rows_that_a_deletion_vector_marks_are_no_deliveries(
    marked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data file is read in several batches; the vector counts its rows through."""
    monkeypatch.setattr(vectors, "deleted_rows", lambda root, file: np.array(marked, dtype=np.int64))
    batches = [pa.record_batch({"row": rows}) for rows in ([0, 1, 2], [3], [4, 5, 6])]
    snapshot = SimpleNamespace(root=Path(), path_of=lambda file: Path(__file__))
    rows = pa.Table.from_batches(_live(snapshot, None, batches))["row"].to_pylist()  # type: ignore[arg-type]
    assert rows == [row for row in range(7) if row not in marked]


def test_a_deletion_vector_of_another_file_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "deleted_rows", lambda root, file: np.array([3], dtype=np.int64))
    snapshot = SimpleNamespace(root=Path(), path_of=lambda file: Path(__file__))
    with pytest.raises(StorageError, match="cannot read"):
        _live(snapshot, None, [pa.record_batch({"row": [0, 1, 2]})])  # type: ignore[arg-type]


# --- the list ----------------------------------------------------------------------------------------------------


def test_nothing_needs_a_person(config: Config) -> None:
    waiting = (Waiting("a.csv", "acme", NEXT_PASS, NOW - timedelta(hours=1)), Waiting("b.csv", "acme", NEXT_PASS))
    facts = Facts(waiting=waiting, heartbeat=BEAT, service_expected=True)
    assert open_items(config, facts, NOW) == ()
    assert document.health(()) == {"healthy": True, "items": []}


@pytest.mark.parametrize(
    ("state", "command"), [("quarantined", "rejects --delivery {}"), ("held", "release {} --plan")]
)
def test_a_delivery_names_its_file_vendor_reason_and_command(config: Config, state: str, command: str) -> None:
    item = only(config, deliveries=(replace(BAD, state=state),))
    assert (item.kind, item.key, item.since, item.severity) == (state, "delivery:000002-00000-aa", NOW, "warning")
    assert item.text == f"bad.csv of acme is {state}: no column x"
    assert item.next.startswith(f"ordertrail {command.format('000002-00000-aa')}")


@pytest.mark.parametrize(
    ("reason", "command"),
    [
        (NEXT_PASS, "ordertrail run"),
        (NO_VENDOR, "ordertrail plan '"),
        (STILL_OPEN, "ordertrail status"),
    ],
)
def test_a_file_that_waits_for_long(config: Config, reason: str, command: str) -> None:
    since = NOW - timedelta(hours=2)
    item = only(config, waiting=(Waiting("a b.csv", None, reason, since),))
    assert (item.kind, item.key, item.since, item.severity) == ("waiting", "waiting:a b.csv", since, "warning")
    assert item.next.startswith(command)
    later = Waiting("a b.csv", None, reason, since + timedelta(seconds=1))
    assert open_items(config, Facts(waiting=(later,)), NOW) == ()
    assert open_items(replace(config, waiting_warn_h=0.0), Facts(waiting=(replace(later, since=since),)), NOW) == ()


def test_a_file_that_waits_for_a_person_is_told_at_once(config: Config) -> None:
    item = only(config, waiting=(Waiting("a.csv", "acme", "it cannot be read: Permission denied", NOW, True),))
    assert item.next.startswith("ordertrail doctor")


def test_a_vendor_that_is_late(config: Config) -> None:
    expected, last = datetime(2026, 11, 23, 7, 30, tzinfo=ZoneInfo("America/Chicago")), NOW - timedelta(days=1)
    item = only(config, late=(Late("ac me", expected, NOW, last, "orders_1.csv"),))
    assert (item.kind, item.key, item.severity, item.since) == ("late", "vendor:ac me:late", "warning", NOW)
    assert item.text == (
        "ac me is late: a file was expected by Mon 2026-11-23 07:30 America/Chicago (2026-11-23 13:30 UTC); the last "
        "one, orders_1.csv, came 2026-11-22 12:00 UTC"
    )
    assert item.next == "ordertrail deliveries --vendor 'ac me'"
    item = only(config, late=(Late("acme", NOW, NOW),))
    assert item.text == "acme is late: a file was expected by Mon 2026-11-23 12:00 UTC; none has ever come"


def test_how_many_shipments_it_is_about_by_what_the_vendor_usually_sends(config: Config) -> None:
    usual = {("acme", 2): Usual(200, 100, 0.5), ("acme", None): Usual(4100, 3900, 0.95)}
    aside = only(config, deliveries=(replace(BAD, vendor="acme", rows_parsed=240),), usual=usual)
    assert (aside.rows, aside.shipments) == (240, 120)
    unread = only(config, deliveries=(replace(BAD, vendor="acme", rows_parsed=None),), usual=usual)
    assert (unread.rows, unread.shipments) == (None, None)
    stranger = only(config, deliveries=(replace(BAD, vendor="new", rows_parsed=240),), usual=usual)
    assert (stranger.rows, stranger.shipments) == (240, None)
    late = only(config, late=(Late("acme", NOW, NOW),), usual=usual)
    assert late.text.endswith("; a file of it usually has 4,100 rows of 3,900 shipments")
    assert (late.rows, late.shipments) == (None, None)
    many = only(config, rejecting=(Rejecting("acme", "a.csv", 100, 200, 0.0, NOW),), usual=usual)
    assert (many.rows, many.shipments) == (100, 95)


def test_passes_that_fail_one_after_the_other(config: Config) -> None:
    failing = replace(BEAT, failures=FAILED_PASSES, failing_since=NOW, last_error="E_SOURCE: away")
    item = only(config, heartbeat=failing)
    assert (item.kind, item.key, item.severity, item.since) == ("failing", "pipeline:failing", "critical", NOW)
    assert "3 passes failed in a row, the last one with E_SOURCE: away" in item.text
    assert open_items(config, Facts(heartbeat=replace(failing, failures=FAILED_PASSES - 1)), NOW) == ()


def test_a_service_without_heartbeat(config: Config) -> None:
    silent = replace(BEAT, beat_at=NOW - timedelta(seconds=SILENT_S + 1), failures=9)
    item = only(config, heartbeat=silent)
    assert (item.kind, item.key, item.since) == ("stalled", "pipeline:stalled", silent.beat_at)
    assert "process 12" in item.text
    assert str(BEAT.path) in item.text
    assert open_items(config, Facts(heartbeat=replace(BEAT, beat_at=NOW - timedelta(seconds=SILENT_S))), NOW) == ()
    none = only(config, service_expected=True)
    assert (none.kind, none.since, none.next.split(" --")[0]) == ("stalled", None, "ordertrail watch")


def test_debt_is_of_nobody_while_a_service_reduces_it(config: Config) -> None:
    debt = ("orders_target: 9 small files", "orders_history: 9 small files")
    item = only(config, debt=debt)
    assert (item.kind, item.text) == ("debt", f"maintenance is due: {'; '.join(debt)}")
    assert open_items(config, Facts(debt=debt, heartbeat=BEAT), NOW) == ()
    unable = only(config, debt=debt, heartbeat=replace(BEAT, maintenance_error="no room"))
    assert unable.text.endswith("; the service cannot do it: no room")
    by_hand = replace(config, maintenance=replace(config.maintenance, auto=False))
    assert only(by_hand, debt=debt, heartbeat=BEAT).kind == "debt"
    dead = replace(BEAT, beat_at=NOW - timedelta(days=1))
    assert [one.kind for one in open_items(config, Facts(debt=debt, heartbeat=dead), NOW)] == ["stalled", "debt"]


@pytest.mark.parametrize(
    ("free_bytes", "severity"),
    [(NO_SPACE_BYTES - 1, "critical"), (NO_SPACE_BYTES, "warning"), (LOW_SPACE_BYTES - 1, "warning")],
)
def test_a_disk_that_is_nearly_full(config: Config, free_bytes: int, severity: str) -> None:
    item = only(config, spaces=(Space("archive", Path("/srv/archive"), free_bytes),))
    assert (item.kind, item.key, item.severity) == ("disk", "disk:archive", severity)
    assert item.text == f"the disk of the archive /srv/archive has {free_bytes / 1e9:.2f} GB left"


def test_critical_items_come_first_then_the_kinds_in_their_order(config: Config) -> None:
    facts = Facts(
        deliveries=(BAD, replace(BAD, delivery_id="000001-00000-bb", state="held")),
        waiting=(Waiting("a.csv", None, NO_VENDOR, NOW - timedelta(days=1)),),
        late=(Late("acme", NOW, NOW),),
        rejecting=(Rejecting("acme", "a.csv", 30, 100, 0.0, NOW),),
        source_trouble="cannot read the source folder",
        debt=("orders_target: 9 small files",),
        contract="the tables carry another contract",
        damage=("version 7 is a foreign RESTORE", "rows were lost"),
        spaces=(Space("warehouse", Path("/"), 0),),
        consumers=(Lag(Consumer("index", "app", 7, NOW), 3, NOW - timedelta(days=30)),),
        service_expected=True,
    )
    found = open_items(config, facts, NOW)
    kinds = ["failing", "stalled", "contract", "disk", "not_fold", "not_fold", "quarantined", "held", "waiting", "late"]
    kinds += ["rejects", "debt", "consumer"]
    assert [one.kind for one in found] == kinds
    assert set(kinds) == set(KINDS)
    assert len({one.key for one in found}) == len(found)
    members = {"kind", "key", "since", "severity", "text", "next", "vendor", "rows", "shipments"}
    assert all(set(one) == members for one in document.health(found)["items"])  # type: ignore[index,call-overload]


def test_a_command_names_the_config_unless_it_is_the_one_of_this_folder(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ours, theirs = tmp_path / "ordertrail.toml", tmp_path / "o t.toml"
    commands = [only(replace(config, file=file), debt=("x",)).next for file in (ours, theirs, None)]
    assert commands == ["ordertrail maintain", f"ordertrail maintain --config '{theirs}'", "ordertrail maintain"]


# --- the heartbeat -----------------------------------------------------------------------------------------------


def test_a_heartbeat_of_an_older_release_is_understood(tmp_path: Path, config: Config) -> None:
    config = replace(config, warehouse=tmp_path)
    assert heard(config) is None
    body = {"pid": 7, "beat_at": NOW.isoformat(), "last_error": {"code": "E_SOURCE", "message": "away"}}
    heartbeat_path(config).write_text(json.dumps(body))
    assert heard(config) == Heard(heartbeat_path(config), NOW, 7, last_error="E_SOURCE: away")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 1, "beat_at": "yesterday", "last_error": null}', "\x00"])
def test_a_heartbeat_that_nobody_understands_is_as_old_as_its_file(tmp_path: Path, config: Config, text: str) -> None:
    config = replace(config, warehouse=tmp_path)
    heartbeat_path(config).write_text(text)
    os.utime(heartbeat_path(config), (NOW.timestamp(), NOW.timestamp()))
    assert heard(config) == Heard(heartbeat_path(config), NOW)
