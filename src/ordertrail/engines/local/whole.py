"""Checks that the five tables exist and are complete before anything is done to them, and says how to repair them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import astuple

from ordertrail.config import Config
from ordertrail.config.unfinished import refuse_cut_restore
from ordertrail.delta.actions import Json
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.said import number
from ordertrail.delta.snapshot import MOST_FILES, Snapshot, read_snapshot
from ordertrail.engines.ledger import ADOPTED, adopt_id, archive_id, reset_warnings, resets_in
from ordertrail.errors import ForeignChangeError, TableError, UnsupportedTableError
from ordertrail.markers import no_tables_yet
from ordertrail.rules.losses import ROLES, Loss, Progress, Standing, loss
from ordertrail.rules.tables import APP_ID

INCIDENTS_ROLE = "incidents"
"""The role of the table of incidents, which is no part of any batch, and need not be there."""

_NEW_INCIDENTS = "or move the folder {root} away: the next incident makes the table anew"

REBUILD = "ordertrail rebuild"
FROM_ARCHIVE = "ordertrail rebuild --history-from-archive"


ACCEPTED = "accepted"
"""Member of the note of a deliveries' commit: the number of rows that the history must have."""


def places_of(config: Config) -> dict[str, Path]:
    """The folder of each table, by its role."""
    return {role: config.table_path(name) for role, name in zip(ROLES, astuple(config.tables), strict=True)}


def cure(role: str, *, ahead: bool = False) -> str:
    """How to repair a table whose folder, or whose last batches, are lost; as an instruction."""
    restore = "restore its folder from a backup, or, where its disk is not mounted, mount it"
    match role:
        case "target":
            return f"{REBUILD} writes it anew from the history"
        case "stage" if not ahead:
            return f"{restore}; without a backup {REBUILD} makes it again, for no batch needs it any more"
        case "stage" | "history" | "rejects":
            return f"{restore}; without a backup {FROM_ARCHIVE} writes it anew from the archived files"
        case _:
            return f"{restore}; the deliveries are the ledger, and nothing can take their place"


def cure_of_log(role: str, root: Path) -> str:
    """How to repair a table whose log is damaged; as an instruction."""
    restore = "restore that file from a backup"
    match role:
        case "target" | "stage":
            return f"move the folder {root} away, then run {REBUILD}: it makes the table anew"
        case "history" | "rejects":
            return f"{restore}; or move the folder {root} away, then run {FROM_ARCHIVE}: it makes the table anew"
        case "incidents":
            return f"{restore}, {_NEW_INCIDENTS.format(root=root)}"
        case _:
            return f"{restore}; the deliveries are the ledger, and nothing can take their place"


def cure_of_files(role: str) -> str:
    """How to repair a table whose data files or deletion vectors are damaged or gone; as an instruction."""
    match role:
        case "target":
            return f"{REBUILD} writes it anew from the history"
        case "history" | "rejects":
            return f"restore the file from a backup, or run {FROM_ARCHIVE}"
        case "stage":
            return (
                "restore the file from a backup; or move the table's folder away, then run "
                f"{REBUILD}: the next pass takes the batch from the source again"
            )
        case "incidents":
            return f"restore the file from a backup, {_NEW_INCIDENTS.format(root='of the table')}"
        case _:
            return "restore the file from a backup"


@contextmanager
def cured(config: Config) -> Iterator[None]:
    """Add to an error about a table's file within the block how to repair that table."""
    try:
        yield
    except TableError as error:
        role = None if error.path is None else role_of(config, error.path)
        if role is None:
            raise
        raise type(error)(error.message, hint=cure_of_files(role), path=error.path) from error


def role_of(config: Config, path: Path) -> str | None:
    """The table that a file belongs to; None when it belongs to none."""
    return next((role for role, root in places_of(config).items() if path.is_relative_to(root)), None)


@contextmanager
def log_errors(role: str, root: Path) -> Iterator[None]:
    """Add to an error about a damaged log within the block how to repair the table of this role."""
    try:
        yield
    except (UnsupportedTableError, ForeignChangeError):
        raise
    except TableError as error:
        raise TableError(error.message, hint=cure_of_log(role, root)) from error


def require_whole(standings: Sequence[Standing]) -> None:
    """Refuse tables when one is lost, or has lost its last batches; nothing may be created in its place.

    Args:
        standings: All five, in the order of `ROLES`.

    Raises:
        TableError: Saying which table, and what to do.
    """
    if (lost := loss(standings)) is not None:
        raise error_of(lost)


def error_of(lost: Loss) -> TableError:
    """The error for a table that was lost."""
    return TableError(f"{lost.what}; nothing was made or written", hint=cure(lost.role, ahead=lost.ahead))


def standings_of(found: Sequence[tuple[str, Snapshot | None]], app_id: str, names: Sequence[str]) -> list[Standing]:
    """The last batch of each table.

    Args:
        found: Each role with its table; None for a missing one.
        app_id: The pipeline's application id.
        names: The names of the tables.
    """
    return [
        Standing(role, name, None if snapshot is None else snapshot.last_txn(app_id))
        for (role, snapshot), name in zip(found, names, strict=True)
    ]


def progress_of(tables: Mapping[str, Snapshot], app_id: str) -> Progress:
    """How far the batches of a pipeline are.

    Args:
        tables: All five by their role.
        app_id: Of the pipeline.
    """
    staged, loaded, recorded, rejected, done = (tables[role].last_txn(app_id) for role in ROLES)
    return Progress(staged, loaded, recorded, rejected, done, tables["deliveries"].last_txn(archive_id(app_id)))


def look(config: Config) -> dict[str, Snapshot]:
    """The newest version of each existing table, by role; read from the last one that a batch writes to the first.

    Raises:
        TableError: A table is damaged, or missing although it was created; with how to repair it.
    """
    logs = {role: DeltaLog(root) for role, root in places_of(config).items()}
    found = {role: _read(role, logs[role]) for role in reversed(ROLES) if logs[role].exists()}
    if 0 < len(found) < len(ROLES):
        refuse_cut_restore(config)
        app_id = next(iter(found.values())).metadata.properties.get(APP_ID, "")
        require_whole(standings_of([(role, found.get(role)) for role in ROLES], app_id, astuple(config.tables)))
    return found


def read_whole(config: Config) -> dict[str, Snapshot]:
    """Like `look`, for all five tables.

    Raises:
        TableError: As `look`; or no pass has run yet.
        StorageError: There are no tables although there should be: the disk is not mounted.
    """
    found = look(config)
    if len(found) < len(places_of(config)):
        raise no_tables_yet(config)
    return found


def _read(role: str, log: DeltaLog) -> Snapshot:
    with log_errors(role, log.root):
        return read_snapshot(log)


def log_warnings(tables: Mapping[str, Snapshot], app_id: str) -> tuple[str, ...]:
    """Damage that the logs alone reveal, each with how to repair it; no data file is opened.

    Args:
        tables: All five by their role. They may be a moment apart, when the deliveries were read first.
        app_id: The pipeline's application id.
    """
    found = [
        f"{what}: some were lost; {cure(role)}"
        for role, snapshot in tables.items()
        if (what := snapshot.mismatch()) is not None
    ]
    for snapshot in tables.values():
        found += [
            f"the checkpoint {path} is damaged and was passed over; delete it, and _last_checkpoint beside it: the log "
            f"of {snapshot.root.name} is whole without them"
            for path in snapshot.passed_over
        ]
    history, deliveries = tables["history"], tables["deliveries"]
    progress = progress_of(tables, app_id)
    for role, snapshot in tables.items():
        if (last := snapshot.last_txn(app_id)) < progress.done:
            stands = f"{snapshot.root.name} stands at batch {last}, but batch {progress.done} is done"
            found.append(f"{stands}; {cure(role)}")
    accepted = number(deliveries.said, ACCEPTED)
    if history.mismatch() is None and accepted is not None and progress.recorded == progress.done:
        rows = history.live_rows if len(history.files) <= MOST_FILES else None
        if rows is not None and rows != accepted:
            what = f"{history.root.name} has {rows} rows, but by {deliveries.root.name} {accepted} were accepted"
            found.append(f"{what}; {cure('history')}")
    return tuple(found)


def resets_of(target: Snapshot, log: DeltaLog, app_id: str, batch: int) -> tuple[str, ...]:
    """Warnings about commits of others that removed rows of the target wholesale, until it is rebuilt.

    Args:
        target: The target.
        log: Its log.
        app_id: The pipeline's application id.
        batch: The last batch of the target, 0 for none.
    """
    # What happened to a target before it was adopted does not count, nor that adopting wrote it anew.
    ours = (app_id, batch) if batch else (adopt_id(app_id), ADOPTED)
    since: list[tuple[int, str, str]] = []
    for version, actions in log.backwards():
        if not version or any((txn.get("appId"), txn.get("version")) == ours for txn in _bodies(actions, "txn")):
            break
        for info in _bodies(actions, "commitInfo"):
            parameters = info.get("operationParameters")
            mode = parameters.get("mode") if isinstance(parameters, dict) else None
            since.append((version, str(info.get("operation")), str(mode)))
    return tuple(dict.fromkeys((*reset_warnings(target.root.name, since), *resets_in(target.said))))


def _bodies(actions: Sequence[Mapping[str, Json]], kind: str) -> list[dict[str, Json]]:
    return [body for action in actions if isinstance(body := action.get(kind), dict)]


def whole_again(look: Callable[[], Sequence[Standing]]) -> Sequence[Standing]:
    """Read the tables, twice if one seems to be lost: another machine may just be creating them.

    Raises:
        TableError: As `require_whole`.
    """
    standings = look()
    if loss(standings) is not None:
        standings = look()
        require_whole(standings)
    return standings
