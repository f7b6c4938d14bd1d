"""Finished deliveries as the ledger has them, from which a past batch can be replayed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.local.session import Session
from ordertrail.model import Batch, CorrectionKind, FileIdentity, Manifest, RowCounts, State
from ordertrail.rules.corrections import correction_from
from ordertrail.rules.sql import quoted
from ordertrail.rules.tables import DELIVERIES

_COLUMNS = (
    "delivery_id", "vendor", "path", "file_name", "size_bytes", "epoch_us(modified_at)", "sha256", "file_key",
    "contract_hash", "state", "reason", "archived_to", "absent", "rows_parsed", "rows_rejected", "first_error",
    "epoch_us(discovered_at)", "batch", "epoch_us(staged_at)", "rows_inserted", "rows_updated", "rows_unchanged",
    "rows_stale", "rows_superseded", "rows_duplicate", "rows_removed", "lines_skipped", "newest_first", "changed_by",
    "changed_why", "correction",
)  # fmt: skip


class Past(Struct, frozen=True):
    """A finished delivery.

    Attributes:
        manifest: Its manifest, as far as the ledger keeps it; of the file's `stat` only size and time.
        batch: Its number.
        clock: Of the batch.
        archived_to: Below the archive folder; None when the file vanished before.
        counts: Its rows by outcome.
    """

    manifest: Manifest
    batch: int
    clock: datetime
    archived_to: str | None
    counts: RowCounts

    @property
    def accepted(self) -> int:
        """The number of its rows in the history."""
        return self.counts.parsed - self.counts.rejected if self.manifest.state is State.LOADED else 0


def read_past(session: Session, deliveries: Snapshot) -> list[Past]:
    """The deliveries that were loaded or quarantined, and the corrections, in the order of their batches.

    Args:
        session: DuckDB.
        deliveries: The table.
    """
    wanted = (State.LOADED, State.QUARANTINED, State.UNDONE, State.REPLAYED, State.CORRECTION)
    states = ", ".join(map(quoted, wanted))
    rows = session.run(
        f"SELECT {', '.join(_COLUMNS)} FROM {scan_sql(session.con, deliveries, DELIVERIES)} "
        f"WHERE state IN ({states}) ORDER BY batch, delivery_id"
    )
    past = [_past(row) for row in rows]
    corrections = (one.manifest.correction for one in past)
    held = {of for one in corrections if one is not None and one.kind is CorrectionKind.RELEASE for of in one.of}
    return [
        replace(one, manifest=replace(one.manifest, state=State.HELD)) if one.manifest.delivery_id in held else one
        for one in past
    ]


def batches_of(past: Sequence[Past]) -> list[tuple[Batch, list[Past]]]:
    """The deliveries batch by batch, each batch with its manifests."""
    found = []
    for number, members in groupby(past, key=lambda one: one.batch):
        these = list(members)
        found.append((Batch(number, "rebuild", these[0].clock, tuple(one.manifest for one in these)), these))
    return found


def _past(row: tuple[object, ...]) -> Past:
    texts = [None if value is None else str(value) for value in row]
    numbers = dict(zip(_COLUMNS, row, strict=True))

    def number(name: str) -> int:
        return int(str(numbers[name] or 0))

    counts = RowCounts(**{name[5:]: number(name) for name in _COLUMNS if name.startswith("rows_")})
    delivery_id, vendor, path, file_name = (text or "" for text in texts[:4])
    manifest = Manifest(
        delivery_id=delivery_id,
        vendor=vendor,
        path=path,
        file_name=file_name,
        identity=FileIdentity(0, 0, number("size_bytes"), number("epoch_us(modified_at)") * 1000, 0),
        sha256=texts[6] or "",
        file_key=number("file_key"),
        contract_hash=texts[8] or "",
        state=_state_then(State(texts[9] or ""), counts),
        reason=texts[10],
        archive_path=texts[11] or "",
        absent=tuple(json.loads(texts[12] or "[]")),
        rows_parsed=number("rows_parsed"),
        rows_rejected=number("rows_rejected"),
        rows_duplicate=0,
        first_error=texts[15],
        discovered_at=_time(number("epoch_us(discovered_at)")),
        lines_skipped=number("lines_skipped"),
        newest_first=bool(numbers["newest_first"]),
        correction=correction_from(texts[-1], texts[-2] or "", texts[-3] or ""),
    )
    clock = _time(number("epoch_us(staged_at)"))
    return Past(manifest, number("batch"), clock, texts[11], counts)


def _state_then(now: State, counts: RowCounts) -> State:
    """The state of a delivery when its batch was done, whatever corrections made of it since."""
    if now in (State.LOADED, State.QUARANTINED, State.CORRECTION):
        return now
    return State.LOADED if counts.parsed > counts.rejected else State.QUARANTINED


def _time(micros: int) -> datetime:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
