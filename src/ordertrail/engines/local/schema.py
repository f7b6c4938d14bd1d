"""Brings tables in folders up to date with this release and the contract, before a pass writes rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import duckdb

from ordertrail.config import Config
from ordertrail.delta.alter import alter
from ordertrail.delta.alter import switch_feed as delta_switch_feed
from ordertrail.delta.table import Table, scan_sql
from ordertrail.engines.batch_rows import staged_batch
from ordertrail.engines.local.followed import followed
from ordertrail.engines.local.session import Session, app_id_of, tables_of
from ordertrail.errors import CommitConflictError, ConfigError, TableError
from ordertrail.model import Batch, no_probe
from ordertrail.rules.agreement import Agreement, HasNulls, agree
from ordertrail.rules.schema import CONTRACT, DeclaredTable, Difference, declared_columns, lacking
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import TableColumn, mode_of

if TYPE_CHECKING:
    from ordertrail.rules.migration import Migration

_MANIFESTS = (TableColumn("_kind", "string", ""), TableColumn("_manifest", "string", ""))

ATTEMPTS = 5
"""How often a table is altered when another writer takes its next version."""


def bring_up_to_date(session: Session, tables: Sequence[Table] | None = None) -> None:
    """Add missing columns and note the contract that the tables carry, in one commit a table. Idempotent.

    All tables are checked before the first one is written to. The history is the first: it says which contract holds.

    Args:
        session: Its tables, and DuckDB to look into them.
        tables: The tables to bring up to date; None means all. Missing ones are skipped: they will be created as they
            should be.

    Raises:
        ConfigError: The contract was changed in a way that the tables cannot follow; nothing was written.
        TableError: Somebody changed a table; nothing was written.
        UnsupportedTableError: A table that is to be altered has a feature that we do not write to; nothing was written.
    """
    agreement = require_agreement(session, tables)
    history = session.tables.history
    properties = {} if agreement.text is None else {CONTRACT: agreement.text}
    behind = {one.table for one in agreement.added} | ({history.root.name} if properties else set())
    altered = [t for t in dict.fromkeys((history, *session.tables.all)) if t.root.name in behind and t.log.exists()]
    for table in altered:
        table.newest().require_writable()
    for table in altered:
        alter_table(table, properties if table is history else {})
        session.probe("schema.committed")


def require_agreement(session: Session, tables: Sequence[Table] | None = None) -> Agreement:
    """Compare tables with the contract. Reads only.

    Args:
        session: Its tables, and DuckDB to look into them.
        tables: The tables to compare; None means all existing ones.

    Raises:
        ConfigError: As `bring_up_to_date`.
        TableError: Likewise.
    """
    history = session.tables.history
    there = [table for table in (session.tables.all if tables is None else tables) if table.log.exists()]
    for table in there:
        if table is session.tables.target:
            away = f"move the folder {table.root} away and run ordertrail rebuild: it makes"
            require_mode(session.config, table.newest().metadata.properties, away)
    text = history.newest().metadata.properties.get(CONTRACT) if history.log.exists() else None
    try:
        return agree([declared(table) for table in there], text, session.config.contract, _looking_into(session))
    except (ConfigError, TableError) as error:
        if unfinished_migration(session) is None:
            raise
        raise TableError(
            "a migration to another contract is not finished", hint="ordertrail run finishes it"
        ) from error


def require_mode(config: Config, properties: Mapping[str, str], away: str) -> None:
    """Refuse a target that was made for the other mode: what it keeps cannot be changed by a setting.

    Args:
        config: Of the pipeline.
        properties: Of the target.
        away: How to have it made anew, up to "it makes".

    Raises:
        ConfigError: It was.
    """
    made_for = mode_of(properties)
    if made_for != config.mode:
        raise ConfigError(
            f'pipeline.mode = "{config.mode}": the target {config.tables.target} was made for mode = "{made_for}"',
            hint=f'set mode = "{made_for}" again; or, to change the mode for good, {away} the target anew from the '
            "history",
        )


def unfinished_migration(session: Session) -> tuple[Batch, Migration] | None:
    """The migration in the stage that lacks its done mark; None when there is none. Reads only.

    Args:
        session: Its tables, and DuckDB to look into them.
    """
    stage, deliveries = session.tables.stage, session.tables.deliveries
    if not (stage.log.exists() and deliveries.log.exists()):
        return None
    staged = stage.newest()
    app_id = session.app_id or app_id_of(staged)
    number = staged.last_txn(app_id)
    if number <= deliveries.newest().last_txn(app_id):
        return None
    rows = session.run(f"SELECT _manifest FROM {scan_sql(session.con, staged, _MANIFESTS)} WHERE _kind = 'delivery'")
    if len(rows) != 1:
        return None
    batch = staged_batch(number, [str(rows[0][0])])
    text = batch.manifests[0].migration
    if not text:
        return None
    from ordertrail.rules.migration import migration_from

    return batch, migration_from(text)


def agreement_of(config: Config) -> tuple[Difference, ...] | None:
    """What a pass would add to the tables of a config. Reads only.

    Returns:
        None where there are no tables.

    Raises:
        ConfigError: As `bring_up_to_date`.
        TableError: Likewise, or a table is damaged.
    """
    config = followed(config)
    tables = tables_of(config)
    if not any(table.log.exists() for table in tables.all):
        return None
    with duckdb.connect() as con, ThreadPoolExecutor(max_workers=1) as pool:
        return require_agreement(Session(config, con, pool, tables, "", no_probe)).added


def declared(table: Table) -> DeclaredTable:
    """A table as its schema declares it."""
    columns = declared_columns(table.newest().metadata.schema_string)
    return DeclaredTable(table.root.name, columns, table.columns)


def alter_table(table: Table, properties: Mapping[str, str]) -> None:
    """Add missing columns and set properties, in one commit; nothing is written when nothing is missing.

    Raises:
        TableError: It lacks a column that cannot be added.
        CommitConflictError: Another writer was faster again and again, or set one of the properties; nothing was
            written.
    """
    held: dict[str, str | None] | None = None
    for attempt in range(ATTEMPTS):
        base = table.snapshot()
        missing = lacking(table.columns, base.metadata.columns)
        if not missing and properties.items() <= base.metadata.properties.items():
            return
        before = {name: base.metadata.properties.get(name) for name in properties}
        if held not in (None, before):
            raise CommitConflictError(
                f"another pass gave {table.root.name} another contract meanwhile", hint="nothing was written; run again"
            )
        held = before
        try:
            alter(table, base, missing, properties)
        except CommitConflictError:
            if attempt + 1 < ATTEMPTS:
                continue
            raise
        return


def switch_feed(session: Session, *, on: bool) -> None:
    """Switch the target's change data feed on or off, in one commit that touches no row. Idempotent.

    Args:
        session: Its tables.
        on: Whether readers may ask for the changes of all later versions.

    Raises:
        CommitConflictError: Another writer was faster again and again; nothing was written.
    """
    table = session.tables.target
    for attempt in range(ATTEMPTS):
        base = table.newest()
        if base.feeds_changes == on:
            return
        try:
            delta_switch_feed(table, base, on=on)
        except CommitConflictError:
            if attempt + 1 < ATTEMPTS:
                continue
            raise
        session.probe("schema.feed")


def _looking_into(session: Session) -> HasNulls:
    def has_nulls(name: str) -> bool:
        tables = (session.tables.target, session.tables.history)
        return any(_has_nulls(session.con, table, name) for table in tables if table.log.exists())

    return has_nulls


def _has_nulls(con: duckdb.DuckDBPyConnection, table: Table, name: str) -> bool:
    column = [one for one in table.columns if one.name == name]
    rows = scan_sql(con, table.newest(), column)
    return bool(con.execute(f"SELECT 1 FROM {rows} WHERE {name_sql(name)} IS NULL LIMIT 1").fetchall())
