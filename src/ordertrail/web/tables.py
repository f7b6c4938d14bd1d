"""The page of the tables: how large they are, what slows their readers down, and what their columns hold."""

from __future__ import annotations

from typing import cast

from msgspec.structs import asdict

from ordertrail.look.follow import Moment
from ordertrail.look.rows import Json, Rows, json_value
from ordertrail.look.table_facts import WHAT_FOR, TableFacts, table_facts
from ordertrail.web.page import Answer, Ask

_LISTED = ("role", "name", "rows", "files", "small_files", "size_bytes", "deleted_rows", "version", "log_entries")


def tables(moment: Moment, ask: Ask) -> Answer:
    """See `web.page.Page.make`."""

    def read() -> object:
        return table_facts(moment.config, moment.snapshots)

    found = cast(tuple[TableFacts, ...], moment.kept(table_facts, read))
    roles = [one.role for one in found]
    shown = ask.choice("table", roles, "target")
    rows = Rows(_LISTED, tuple(tuple(getattr(one, name) for name in _LISTED) for one in found))
    chosen = next(one for one in found if one.role == shown)
    more = {"found": found, "chosen": chosen, "what_for": WHAT_FOR, "debt": moment.status().debt}
    return Answer({"pipeline": moment.config.name, "tables": [_told(one) for one in found]}, rows, more)


def _told(one: TableFacts) -> Json:
    return {
        **asdict(one),
        "due": list(one.due),
        "commits": [{"version": c.version, "at": json_value(c.at), "operation": c.operation} for c in one.commits],
        "maintained_at": json_value(one.maintained_at),
        "columns": [asdict(column) for column in one.columns],
        "others": list(one.others),
    }
