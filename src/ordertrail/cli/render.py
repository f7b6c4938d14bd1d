"""Results as text for people: one function a result, from the same values as the JSON documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import asdict

from ordertrail.cli.open_view import open_table
from ordertrail.cli.screen import Column, Screen, Style
from ordertrail.look.rows import Cell, Row, Rows, cell
from ordertrail.model import CorrectionReport, DeliveryReport, Outcome, RowCounts, RunReport, Skipped, State

if TYPE_CHECKING:
    from ordertrail.begin.doctor import DoctorReport
    from ordertrail.keep.maintain import MaintenanceReport
    from ordertrail.keep.rebuild import Differences, RebuildReport
    from ordertrail.look.export import Exported
    from ordertrail.look.plan import PlannedFile, PlanReport
    from ordertrail.look.status import Status, TableDebt
    from ordertrail.look.verify import VerifyReport

STATE_STYLES: Mapping[str, Style] = {
    State.LOADED: "green",
    State.EMPTY: "dim",
    State.DUPLICATE: "dim",
    State.QUARANTINED: "red",
    State.HELD: "yellow",
    State.UNDONE: "yellow",
    State.REPLAYED: "dim",
    State.REFUSED: "dim",
    State.DISMISSED: "dim",
    State.CORRECTION: "dim",
    State.MIGRATION: "dim",
}
OUTCOME_STYLES: Mapping[str, Style] = {
    Outcome.INSERTED: "green",
    Outcome.UPDATED: "green",
    Outcome.UNCHANGED: "dim",
    Outcome.STALE: "yellow",
    Outcome.SUPERSEDED: "dim",
    Outcome.DUPLICATE: "dim",
}
_HEALTH_STYLES: Mapping[str, Style] = {"ok": "green", "warn": "yellow", "fail": "red", "WRONG": "red"}


def outcomes(rows: RowCounts) -> str:
    """`12 inserted, 3 rejected`: the outcomes of rows that occur; `no rows` when there are none."""
    return ", ".join(f"{count} {one}" for one in Outcome if (count := asdict(rows)[one])) or "no rows"


def plural(count: int, word: str) -> str:
    """`1 row`, `2 rows`, `12,000 rows`, `2 deliveries`."""
    many = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{count:,} {word if count == 1 else many}"


# --- a pass ------------------------------------------------------------------------------------------------------


def run_report(screen: Screen, report: RunReport) -> None:
    """`run`."""
    _report(screen, report, "loaded", "waiting")


def load_report(screen: Screen, report: RunReport) -> None:
    """`load`."""
    _report(screen, report, "loaded", "staged")


def stage_report(screen: Screen, report: RunReport) -> None:
    """`stage`."""
    _report(screen, report, "staged", "waiting")
    if report.batch is not None:
        screen.line("`ordertrail load` loads it into the target.", "dim")


def _report(screen: Screen, report: RunReport, done: str, before: str) -> None:
    seconds = report.seconds.get("total", 0.0)
    if report.batch is None:
        screen.line(f"{report.pipeline}: nothing was {before} ({seconds:.2f} s)")
    else:
        counted = f"{plural(len(report.deliveries), 'delivery')}, {plural(report.rows.parsed, 'row')}"
        screen.line(f"{report.pipeline}: batch {report.batch} {done}: {counted} in {seconds:.2f} s", "bold")
    if report.recovered:
        screen.line("A batch that an earlier pass had begun was finished first.", "yellow")
    if report.correction is not None:
        made = report.correction
        what = f"{made.correction.kind} of {plural(len(made.correction.of), 'delivery')}"
        screen.line(f"With it a correction was finished: {what}, {keys_of(made)}.", "yellow")
    if report.deliveries:
        deliveries_of(screen, report.deliveries)
    _left_alone(screen, report.skipped)
    added_columns(screen, report.added_columns)
    for note in report.notes:
        screen.line(note, "dim")
    attention(screen, report.warnings)


def deliveries_of(screen: Screen, found: Iterable[DeliveryReport]) -> None:
    """Write the deliveries of a pass."""
    delivery_table(screen, map(_of_report, found))


def _of_report(one: DeliveryReport) -> _Came:
    return _Came(one.file_name, one.vendor, one.delivery_id, str(one.state), one.reason, one.rows)


def _left_alone(screen: Screen, skipped: Sequence[Skipped]) -> None:
    if skipped:
        screen.heading("Left alone")
        screen.table((Column("file"), Column("why")), [(one.file_name, one.reason) for one in skipped])


def added_columns(screen: Screen, names: Sequence[str], how: str = "added") -> None:
    """Write which columns the tables got, or would get, because files bring them."""
    if names:
        screen.line(f"columns {how} to the tables: {', '.join(names)}")


def attention(screen: Screen, warnings: Iterable[str]) -> None:
    """Write what a person should look at."""
    for warning in warnings:
        screen.line(f"look at this: {warning}", "yellow")


def keys_of(done: CorrectionReport) -> str:
    """`12 shipments touched: 3 restored, 8 kept, 1 removed`; of a target that keeps all rows, how many got rows."""
    if done.appends:
        got = f"rows of {done.restored:,} appended, no row taken out of the target"
        return f"{plural(done.touched, 'shipment')} touched: {got}"
    parts = f"{done.restored:,} restored, {done.kept:,} kept, {done.removed:,} removed"
    return f"{plural(done.touched, 'shipment')} touched: {parts}"


def plan(screen: Screen, report: PlanReport) -> None:
    """`plan`."""
    screen.line(f"If these files were loaded now, as batch {report.batch}: {outcomes(report.rows)}", "bold")
    delivery_table(screen, map(_of_plan, report.files))
    rejects = [(one, reject) for one in report.files for reject in one.rejects]
    if rejects:
        screen.heading("What would be rejected")
        found = [
            (
                one.path,
                cell(r.file_row),
                cell(r.file_line),
                r.column or "",
                r.rule,
                one.vendor or "",
                _quoted(r.value),
                r.reason,
            )
            for one, r in rejects
        ]
        screen.table(REJECT_COLUMNS, found)
    added_columns(screen, report.added_columns, "that would be added")
    attention(screen, report.notes)
    for one in report.files:
        for sample in one.samples[:1]:
            screen.heading(f"Row {sample.file_row} of {one.path}, as it came and as it would be loaded")
            screen.line(sample.raw)
            screen.fields((name, cell(value)) for name, value in sample.row.items() if value is not None)
    screen.line("Nothing was written.", "dim")


def _of_plan(one: PlannedFile) -> _Came:
    state = "left alone" if one.state is None else str(one.state)
    return _Came(one.path, one.vendor or "no vendor", "", state, one.reason, one.rows)


# --- deliveries and rejects --------------------------------------------------------------------------------------


class _Came(Struct, frozen=True):
    """A delivery as a line of a table."""

    file: str
    vendor: str
    delivery: str
    state: str
    reason: str | None
    rows: RowCounts
    at: str = ""


_CAME = "came (UTC)"
_DELIVERY_COLUMNS = (
    Column("file"),
    Column("state"),
    Column("rows", right=True),
    Column(_CAME),
    Column("vendor", detail=True),
    Column("delivery", detail=True),
    Column("result", detail=True),
)
REJECT_COLUMNS = (
    Column("file"),
    Column("row", right=True),
    Column("line", right=True),
    Column("column"),
    Column("rule"),
    Column("vendor", detail=True),
    Column("value", detail=True),
    Column("why", detail=True),
)


def delivery_table(screen: Screen, given: Iterable[_Came]) -> None:
    """Write the deliveries, and below them why some were not loaded."""
    found = list(given)
    dated = any(one.at for one in found)
    columns = [column for column in _DELIVERY_COLUMNS if dated or column.name != _CAME]
    rows = []
    for one in found:
        came = [one.at] if dated else []
        why = one.reason or outcomes(one.rows)
        rows.append([one.file, one.state, f"{one.rows.parsed:,}", *came, one.vendor, one.delivery, why])
    screen.table(columns, rows, STATE_STYLES)


def deliveries(screen: Screen, found: Rows) -> None:
    """`deliveries`."""
    if not found.rows:
        screen.line("No such deliveries.")
        return
    delivery_table(screen, map(_of_row, found.dicts()))
    screen.line(f"{_counted(found, 'delivery')}; all columns: --json", "dim")


def _of_row(row: Row) -> _Came:
    rows = RowCounts(int(str(row["rows_parsed"] or 0)), *(int(str(row[f"rows_{one}"] or 0)) for one in Outcome))
    reason = _why(row)
    at = cell(row["discovered_at"])[:16]
    file, delivery, state = (cell(row[name]) for name in ("file_name", "delivery_id", "state"))
    return _Came(file, cell(row["vendor"]), delivery, state, reason, rows, at)


def _why(row: Row) -> str | None:
    """Why a delivery is what it is: the last decision about it, else the reason recorded when it came."""
    if row.get("correction") is None and row.get("changed_at") is not None:
        by = f", by {row['replayed_by']}" if row.get("replayed_by") else ""
        when = cell(row["changed_at"])[:16]
        return f"{row['state']}{by} ({cell(row['changed_by'])}, {when}): {cell(row['changed_why'])}"
    return None if row["reason"] is None else str(row["reason"])


def rejects(screen: Screen, found: Rows) -> None:
    """`rejects`."""
    if not found.rows:
        screen.line("No such rejects.")
        return
    reject_table(screen, found.dicts())
    screen.line(f"{_counted(found, 'reject')}; the raw records: --json, to send back: --csv", "dim")


def _counted(found: Rows, word: str) -> str:
    return f"the first {plural(len(found), word)}, more with --limit" if found.cut else plural(len(found), word)


def reject_table(screen: Screen, found: Iterable[Row]) -> None:
    """Rejects, one a row."""
    names = ("file_name", "file_row", "file_line", "column", "rule", "vendor")
    rows = [(*(cell(row[name]) for name in names), _quoted(row["value"]), cell(row["reason"])) for row in found]
    screen.table(REJECT_COLUMNS, rows)


def _quoted(value: Cell) -> str:
    """A cell of the file, quoted so that it stands out from the text around it."""
    return "" if value is None else f"'{value}'"


# --- looking -----------------------------------------------------------------------------------------------------


def rows(screen: Screen, found: Rows) -> None:
    """`query`."""
    numbers = [all(isinstance(v, int | float) or v is None for v in values) for values in zip(*found.rows, strict=True)]
    columns = [
        Column(name, right=bool(found.rows) and numbers[place] and not isinstance(found.rows[0][place], bool))
        for place, name in enumerate(found.columns)
    ]
    screen.table(columns, [[cell(value, "NULL") for value in row] for row in found.rows])
    if screen.terminal:
        screen.line(plural(len(found), "row"), "dim")


def exported(screen: Screen, found: Exported) -> None:
    """`export`."""
    then = "" if found.batch is None else f", as it was after batch {found.batch},"
    screen.line(f"{plural(found.rows, 'row')} of {found.table}{then} in {found.path}, {_size(found.size_bytes)}")


def status(screen: Screen, found: Status) -> None:
    """`status`."""
    screen.line(f"{found.pipeline} ({found.engine})", "bold")
    if found.target_version is None:
        screen.line("Nothing was loaded yet. The first `ordertrail run` makes the tables and loads what waits.")
        screen.fields([("waiting", plural(found.waiting_files, "file"))])
    else:
        _tables(screen, found)
    if found.waiting:
        screen.heading("In the source folder")
        files = [
            (one.file_name, one.vendor or "", "" if one.since is None else f"{one.since:%Y-%m-%d %H:%M}", one.reason)
            for one in found.waiting
        ]
        screen.table((Column("file"), Column("vendor"), Column("since"), Column("why")), files)
    if found.open_items:
        screen.heading("Needs a person")
        open_table(screen, found.open_items)
    attention(screen, found.doubts)


def _tables(screen: Screen, found: Status) -> None:
    came = ", ".join(f"{count:,} {state}" for state, count in found.deliveries.items())
    last = "none yet" if found.last_batch is None else str(found.last_batch)
    if found.last_loaded_at is not None:
        last += f", rows last came {cell(found.last_loaded_at.replace(microsecond=0))} UTC"
    size = f"{plural(found.target_files, 'file')}, {_size(found.target_bytes)}, version {found.target_version}"
    screen.fields(
        [
            ("last batch", last),
            ("target", f"{plural(found.target_rows, 'row')} in {size}"),
            ("history", plural(found.history_rows, "row")),
            ("rejects", plural(found.rejects_rows, "row")),
            ("deliveries", came or "none yet"),
            ("waiting", plural(found.waiting_files, "file")),
            ("debt", _debt(found.debt)),
        ]
    )
    if found.debt.due:
        screen.line(f"`ordertrail maintain` is due: {'; '.join(found.debt.reasons)}.", "yellow")
    if found.staged_batch_unfinished:
        screen.line("A batch is staged and not finished: a pass is running, or the next one finishes it.", "yellow")


def _debt(debt: TableDebt) -> str:
    small = f"{debt.target_small_files:,} small of {plural(debt.target_files, 'file')}"
    deleted = f"{plural(debt.target_deleted_rows, 'deleted row')} ({debt.target_deleted_share:.1%})"
    return (
        f"target: {small}, {deleted}; history: {plural(debt.history_files, 'file')}; {debt.log_entries:,} log entries"
    )


def _size(size_bytes: int) -> str:
    for unit, limit in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= limit:
            return f"{size_bytes / limit:,.1f} {unit}"
    return f"{size_bytes} bytes"


def verify(screen: Screen, report: VerifyReport) -> None:
    """`verify`."""
    lines = [("ok" if c.ok else "WRONG", c.name, c.detail, c.hint) for c in report.checks]
    _checks(screen, lines)
    wrong = sum(not check.ok for check in report.checks)
    if report.ok:
        screen.line("The tables agree with each other.", "green")
    else:
        screen.line(f"{plural(wrong, 'check')} failed.", "red")


def rebuild(screen: Screen, report: RebuildReport) -> None:
    """`rebuild`."""
    folded = f"{plural(report.history_rows, 'row')} of history up to batch {report.batch}"
    if (history := report.history) is not None:
        read = f"{plural(history.deliveries_read, 'archived file')} read again"
        kept = f", {plural(history.deliveries_kept, 'delivery')} kept as it was" if history.deliveries_kept else ""
        screen.line(f"{report.pipeline}: {read}{kept}: {plural(history.history_rows, 'row')} of history", "bold")
    if report.dry_run and history is not None:
        screen.line("The target would be rebuilt from them.")
    elif report.dry_run:
        screen.line(
            f"{report.pipeline}: {folded} fold to {plural(report.rows, 'row')} ({report.seconds:.2f} s)", "bold"
        )
        if (found := report.differences) is not None:
            screen.line(_differences(found) if found.total else "The target has exactly these.")
    else:
        size = f"{plural(report.rows, 'row')}, {report.written:,} of them written"
        screen.line(
            f"{report.pipeline}: the target is rebuilt as version {report.version}: {size}, from {folded}, "
            f"in {report.seconds:.2f} s",
            "bold",
        )
    for note in report.notes:
        screen.line(f"{note}.")
    attention(screen, report.warnings)
    if report.dry_run:
        screen.line("Nothing was written.", "dim")


def _differences(found: Differences) -> str:
    parts = (
        (found.missing, "missing from the target"),
        (found.extra, "that the history does not know, or doubled"),
        (found.different, "with other values"),
        (found.audit, "with other audit columns only"),
    )
    listed = ", ".join(f"{count:,} {what}" for count, what in parts if count)
    return f"The target differs in {plural(found.total, 'row')}: {listed}."


def maintain(screen: Screen, report: MaintenanceReport) -> None:
    """`maintain`."""
    from ordertrail.keep.maintain import describe

    if not report.steps:
        screen.line(f"{report.pipeline}: nothing is to be done ({report.seconds:.2f} s)")
    elif report.dry_run:
        screen.line(f"{report.pipeline}: maintenance would do this now", "bold")
    else:
        screen.line(f"{report.pipeline}: maintained in {report.seconds:.2f} s", "bold")
    for one in report.steps:
        why = f": not done: {one.note}" if one.note else ""
        screen.line(f"  {describe(one.step)}{why}", "yellow" if one.note else "")
    attention(screen, report.warnings)
    if report.dry_run:
        screen.line("Nothing was done.", "dim")


def doctor(screen: Screen, report: DoctorReport) -> None:
    """`doctor`."""
    _checks(screen, [(one.health, one.name, one.detail, one.hint) for one in report.findings])


def _checks(screen: Screen, lines: Sequence[tuple[str, str, str, str]]) -> None:
    columns = (Column(""), Column("check"), Column("found"), Column("what to do", detail=True))
    screen.table(columns, lines, _HEALTH_STYLES)
