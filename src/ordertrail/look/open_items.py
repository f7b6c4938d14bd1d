"""The open items of a pipeline: everything that needs a person, in one list.

`health`, `status`, the heartbeat of the service and the attention task on Databricks all show this list. It is computed
from the tables, the source folder, the heartbeat and the disks as they are now, never from a log line: what was healed
is no longer on it.
"""

from __future__ import annotations

import shlex
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from ordertrail.config import Config
from ordertrail.engines.local.consumers import Lag
from ordertrail.look.arrivals import Late, late_text
from ordertrail.look.delivered import SetAside
from ordertrail.look.heartbeat import Heard
from ordertrail.look.rejecting import Rejecting
from ordertrail.look.space import NO_SPACE_BYTES, Space
from ordertrail.look.usual import Asked, Usual
from ordertrail.model import State
from ordertrail.rules.rejecting import rejecting_text
from ordertrail.rules.waiting import waiting_text, waits_long
from ordertrail.sources.directory import NO_VENDOR, UNARCHIVED

Kind = Literal[
    "quarantined",
    "held",
    "waiting",
    "late",
    "rejects",
    "failing",
    "stalled",
    "contract",
    "debt",
    "consumer",
    "disk",
    "not_fold",
]

Severity = Literal["warning", "critical"]
"""`critical`: nothing loads, or the target cannot be trusted; `warning`: everything else goes on."""

KINDS: Mapping[Kind, str] = {
    "quarantined": "a delivery is quarantined, and its bytes were not loaded since",
    "held": "a delivery is held, and its bytes were not loaded since",
    "waiting": "a file waits for longer than `waiting_warn_h`, or for something that does not happen by itself",
    "late": "no file of a vendor came by the time at which one is expected, and the grace after it is over",
    "rejects": "the newest file of a vendor has many more rejected rows than its files usually have",
    "failing": "the passes of the service fail one after the other, or the source folder cannot be read",
    "stalled": "the service has no heartbeat any more and did not end normally",
    "contract": "the tables carry another contract than the config, and no pass loads until that is settled",
    "debt": "the debt of the tables is above the limits of `[maintenance]`, and no service reduces it",
    "consumer": "a consumer of the changes is so far behind that maintenance no longer waits for it",
    # `drifted`, columns that the contract does not know, belongs here.
    "disk": "the disk of the warehouse or the archive is nearly full",
    "not_fold": "the target may no longer be the fold of the history, or rows or files of a table were lost",
}
"""Every kind of open item, in the order of the list."""

NEXT: Mapping[Kind, str] = {
    "quarantined": "rejects --delivery {id}",
    "held": "release {id} --plan",
    "late": "deliveries --vendor {vendor}",
    "rejects": "rejects --vendor {vendor}",
    "failing": "doctor",
    "stalled": "watch",
    "contract": "migrate",
    "debt": "maintain",
    "consumer": "changes --consumers",
    "disk": "doctor",
    "not_fold": "verify",
}
"""The command to type next, after `ordertrail`; what helps a file that waits depends on why it does."""

FAILED_PASSES = 3
"""After this many failed passes in a row a person should look."""

REJECTS_D = 7
"""So many days after it was loaded a file with unusually many rejected rows is no item any more."""

NEXT_PASS = "waits for the next pass"
"""`Waiting.reason` of a complete file that a vendor takes."""

_DEFAULT_CONFIG = "ordertrail.toml"


class OpenItem(Struct, frozen=True):
    """Something that needs a person.

    Attributes:
        kind: What it is, see `KINDS`.
        key: What tells it from all other items, and stays the same while it is open: `delivery:ID`, `waiting:PATH`,
            `vendor:NAME:late`, `rejects:NAME`, `pipeline:failing`, `pipeline:source`, `pipeline:stalled`,
            `tables:contract`, `tables:debt`, `consumer:NAME`, `disk:warehouse`, `disk:archive`, `tables:not_fold:…`.
        since: Since when; aware UTC, None when nothing tells.
        severity: `critical` when nothing loads or the target cannot be trusted, else `warning`.
        text: What is wrong, on one line.
        next: The command to type next.
        vendor: The vendor concerned; None when it is none, or all.
        rows: Rows that are not in the target because of it; None when that is not known, or does not apply.
        shipments: About how many shipments these rows are of, by the vendor's earlier files; None when nobody can say.
    """

    kind: Kind
    key: str
    since: datetime | None
    severity: Severity
    text: str
    next: str
    vendor: str | None = None
    rows: int | None = None
    shipments: int | None = None


class Waiting(Struct, frozen=True):
    """A file in the source folder.

    Attributes:
        file_name: Its path below the source, as clean text.
        vendor: The vendor that takes it; None when there is none.
        reason: `waits for the next pass`, or why a pass would leave it alone now.
        since: When a pass first saw that it waits, or when a complete file was last changed or moved; aware UTC, None
            when that is not known.
        needs_person: Whether it waits for something that does not happen by itself.
    """

    file_name: str
    vendor: str | None
    reason: str
    since: datetime | None = None
    needs_person: bool = False


class Facts(Struct, frozen=True):
    """What the open items follow from.

    Attributes:
        deliveries: Those that need a person.
        waiting: The files in the source folder.
        late: The vendors of which a file is missing.
        rejecting: The vendors whose newest file has unusually many rejected rows.
        usual: What the files of these vendors usually bring.
        source_trouble: Why the source folder cannot be read; None when it can.
        heartbeat: Of the service; None when there is none.
        service_expected: Whether a missing heartbeat is an item.
        contract: What differs between the contract of the config and that of the tables, where no pass settles it;
            else empty.
        debt: Why maintenance is due, one line each.
        damage: What is wrong with the tables, one line each.
        consumers: Those that are behind.
        spaces: The disks that are nearly full.
    """

    deliveries: Sequence[SetAside] = ()
    waiting: Sequence[Waiting] = ()
    late: Sequence[Late] = ()
    rejecting: Sequence[Rejecting] = ()
    usual: Mapping[Asked, Usual] = field(default_factory=dict)
    source_trouble: str | None = None
    heartbeat: Heard | None = None
    service_expected: bool = False
    contract: str = ""
    debt: Sequence[str] = ()
    damage: Sequence[str] = ()
    consumers: Sequence[Lag] = ()
    spaces: Sequence[Space] = ()


def open_items(config: Config, facts: Facts, now: datetime) -> tuple[OpenItem, ...]:
    """Judge what needs a person.

    Args:
        config: Of the pipeline.
        facts: As they are now.
        now: Aware UTC.

    Returns:
        Critical items first, then in the order of `KINDS`; deliveries newest first.
    """
    found = [
        *(_delivery(config, one, facts.usual.get((one.vendor, one.batch))) for one in facts.deliveries),
        *_waiting(config, facts.waiting, now),
        *(_late(config, one, facts.usual.get((one.vendor, None))) for one in facts.late),
        *_rejecting(config, facts, now),
        *_service(config, facts, now),
        *_contract(config, facts),
        *_debt(config, facts, now),
        *_consumers(config, facts, now),
        *(_space(config, one) for one in facts.spaces),
        *_damage(config, facts.damage),
    ]
    places = {kind: place for place, kind in enumerate(KINDS)}
    return tuple(sorted(found, key=lambda one: (one.severity != "critical", places[one.kind])))


def asked_of(deliveries: Sequence[SetAside], rejecting: Sequence[Rejecting], late: Sequence[Late]) -> set[Asked]:
    """What `Facts.usual` has to tell of some facts."""
    vendors = {*(one.vendor for one in rejecting), *(one.vendor for one in late)}
    return {*((one.vendor, one.batch) for one in deliveries), *((vendor, None) for vendor in vendors)}


def _delivery(config: Config, one: SetAside, usual: Usual | None) -> OpenItem:
    kind: Kind = "held" if one.state == State.HELD else "quarantined"
    text = f"{one.file_name} of {one.vendor} is {one.state}: {one.reason or 'nobody said why'}"
    command = _command(config, NEXT[kind], id=one.delivery_id)
    key, rows = f"delivery:{one.delivery_id}", one.rows_parsed or None  # a held file was not read: nobody counted
    shipments = None if rows is None or usual is None else usual.shipments_in(rows)
    return OpenItem(kind, key, one.since, "warning", text, command, one.vendor, rows, shipments)


def _waiting(config: Config, files: Sequence[Waiting], now: datetime) -> Iterator[OpenItem]:
    for one in files:
        if not one.needs_person and not waits_long(one.since, now, config.waiting_warn_h):
            continue
        text = waiting_text(one.file_name, one.reason, one.since, needs_person=one.needs_person)
        command = _command(config, _next_of_waiting(one), path=str(config.source / one.file_name))
        yield OpenItem("waiting", f"waiting:{one.file_name}", one.since, "warning", text, command, one.vendor)


def _next_of_waiting(one: Waiting) -> str:
    if one.needs_person:
        return "doctor"
    if one.reason == NO_VENDOR:
        return "plan {path}"
    return "run" if one.reason in (NEXT_PASS, UNARCHIVED) else "status"


def _late(config: Config, one: Late, usual: Usual | None) -> OpenItem:
    command, text = _command(config, NEXT["late"], vendor=one.vendor), late_text(one)
    if usual is not None:
        text += f"; a file of it usually has {_number(usual.rows, 'row')} of {_number(usual.shipments, 'shipment')}"
    return OpenItem("late", f"vendor:{one.vendor}:late", one.since, "warning", text, command, one.vendor)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _rejecting(config: Config, facts: Facts, now: datetime) -> Iterator[OpenItem]:
    for one in facts.rejecting:
        if one.loaded_at is not None and now - one.loaded_at > timedelta(days=REJECTS_D):
            continue
        text = rejecting_text(one.vendor, one.file_name, one.rejected, one.parsed, one.usual)
        command = _command(config, NEXT["rejects"], vendor=one.vendor)
        key = f"rejects:{one.vendor}"
        usual = facts.usual.get((one.vendor, None))
        shipments = None if usual is None else usual.shipments_in(one.rejected)
        yield OpenItem("rejects", key, one.loaded_at, "warning", text, command, one.vendor, one.rejected, shipments)


def _service(config: Config, facts: Facts, now: datetime) -> Iterator[OpenItem]:
    beat = facts.heartbeat
    if facts.source_trouble is not None:
        command = _command(config, NEXT["failing"])
        yield OpenItem("failing", "pipeline:source", None, "critical", facts.source_trouble, command)
    if beat is None and facts.service_expected:
        text = "no service runs: there is no heartbeat"
    elif beat is not None and beat.silent(now):
        process = "" if beat.pid is None else f" (process {beat.pid})"
        text = (
            f"the service{process} has not written its heartbeat since {beat.beat_at:%Y-%m-%d %H:%M:%S} UTC: start it "
            f"again, or delete {beat.path} if none is wanted"
        )
    elif beat is not None and beat.failures >= FAILED_PASSES:
        text = f"{beat.failures} passes failed in a row, the last one with {beat.last_error or 'an error'}"
        command = _command(config, NEXT["failing"])
        yield OpenItem("failing", "pipeline:failing", beat.failing_since, "critical", text, command)
        return
    else:
        return
    since = None if beat is None else beat.beat_at
    yield OpenItem("stalled", "pipeline:stalled", since, "critical", text, _command(config, NEXT["stalled"]))


def _contract(config: Config, facts: Facts) -> Iterator[OpenItem]:
    if facts.contract:
        yield OpenItem(
            "contract", "tables:contract", None, "critical", facts.contract, _command(config, NEXT["contract"])
        )


def _debt(config: Config, facts: Facts, now: datetime) -> Iterator[OpenItem]:
    beat = facts.heartbeat
    maintained = beat is not None and not beat.silent(now) and config.maintenance.auto
    trouble = None if beat is None else beat.maintenance_error
    if not facts.debt or (maintained and trouble is None):
        return
    text = f"maintenance is due: {'; '.join(facts.debt)}"
    text += "" if trouble is None else f"; the service cannot do it: {trouble}"
    yield OpenItem("debt", "tables:debt", None, "warning", text, _command(config, NEXT["debt"]))


def _consumers(config: Config, facts: Facts, now: datetime) -> Iterator[OpenItem]:
    keep_d = config.maintenance.consumer_keep_d
    for one in facts.consumers:
        if now - one.since < timedelta(days=keep_d):
            continue
        name = one.consumer.name
        text = (
            f"the consumer {name} has not read batch {one.consumer.next_batch}, which is there since "
            f"{one.since:%Y-%m-%d %H:%M:%S} UTC; after {keep_d:g} days (consumer_keep_d) maintenance keeps no versions "
            f"of the target for it; ordertrail changes --drop {name} forgets it"
        )
        yield OpenItem("consumer", f"consumer:{name}", one.since, "warning", text, _command(config, NEXT["consumer"]))


def _space(config: Config, one: Space) -> OpenItem:
    severity: Severity = "critical" if one.free_bytes < NO_SPACE_BYTES else "warning"
    text = f"the disk of the {one.name} {one.folder} has {one.free_bytes / 1e9:,.2f} GB left"
    return OpenItem("disk", f"disk:{one.name}", None, severity, text, _command(config, NEXT["disk"]))


def _damage(config: Config, lines: Sequence[str]) -> Iterator[OpenItem]:
    for line in lines:
        key = f"tables:not_fold:{zlib.crc32(line.encode()):08x}"
        yield OpenItem("not_fold", key, None, "critical", line, _command(config, NEXT["not_fold"]))


def _command(config: Config, words: str, **values: str) -> str:
    return command_of(config, words.format(**{name: shlex.quote(value) for name, value in values.items()}))


def command_of(config: Config, words: str) -> str:
    """A command that works when typed in the folder in which this one was.

    Args:
        config: Of the pipeline.
        words: The command without the program, quoted for a shell.
    """
    return f"ordertrail {words}{config_option(config)}"


def config_option(config: Config) -> str:
    """What a command needs besides its words to find this config from the folder in which this command was typed."""
    if config.file is None or config.file == Path(_DEFAULT_CONFIG).absolute():
        return ""
    return f" --config {shlex.quote(str(config.file))}"
