"""What a migration says to those who read the changes of the target: which values it changes.

The target is written in another shape, so all its files are replaced. Its old rows are read under the new contract,
each value in its new type and under its new name, and compared with the new ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
from msgspec import Struct
from msgspec.structs import replace

from ordertrail.delta.actions import AddFile
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.embedded.feed import feed_of, images_sql, write_changes
from ordertrail.engines.local.convert import Conversion
from ordertrail.engines.local.net import CHANGED_KEYS, find_changed_keys, key_sql, same_rows
from ordertrail.engines.local.session import Session, others_on
from ordertrail.errors import OrdertrailError
from ordertrail.rules.migration import carried_contract
from ordertrail.rules.schema import Terms
from ordertrail.rules.tables import target_columns


class Told(Struct, frozen=True):
    """What the target's commit says of changes.

    Attributes:
        moves: Whether no value changes.
        feed: Files with the changes, for the change data feed.
    """

    moves: bool = False
    feed: Sequence[AddFile] = ()


def tell(session: Session, terms: Terms, target: Snapshot, files: Sequence[AddFile]) -> Told:
    """Compare the target before and after a migration, and write its changes where it has a change data feed.

    Args:
        session: Its config has the new contract.
        terms: The contract that the tables carry.
        target: As it is.
        files: Its new data files.

    Raises:
        StorageError: The disk is full or fails.
    """
    config = session.config
    others = others_on(target, carried_contract(terms, config.contract))
    new = replace(target, files={file.path: file for file in files})
    after = scan_sql(session.con, new, (*target_columns(config.contract), *others))
    before = f"({Conversion(session, target, terms).same_values_sql()})"
    changed, was_there = f"{key_sql(config.contract)} IN (SELECT k FROM {CHANGED_KEYS})", "false"
    try:
        if same_rows(session, before, after):
            return Told(moves=True)
        if feed_of(config, target) != "off":
            find_changed_keys(session, before, after)
    except (duckdb.Error, OrdertrailError, OSError):
        # The target is damaged, which writing it anew mends: what its rows were, nobody knows.
        before, changed, was_there = f"(FROM {after} WHERE false)", "true", "true"
    if feed_of(config, target) == "off":
        return Told()
    rows = [f"SELECT * FROM {relation} WHERE {changed}" for relation in (before, after)]
    sql = images_sql(session, rows[0], rows[1], others, was_there=was_there)
    written = write_changes(session, sql, session.tables.deliveries.newest().last_txn(session.app_id))
    session.probe("migrate.feed")
    return Told(feed=() if written is None else (written,))
