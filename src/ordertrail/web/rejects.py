"""What was rejected and why, and the file to send back."""

from __future__ import annotations

from datetime import timedelta
from shlex import quote

from ordertrail.errors import UsageError
from ordertrail.look import document
from ordertrail.look import rejects as listing
from ordertrail.look.deliveries import delivery_row
from ordertrail.look.follow import Moment
from ordertrail.look.open_items import command_of
from ordertrail.look.rows import Json, Rows, json_value
from ordertrail.look.vendor_file import vendor_file
from ordertrail.web.page import Answer, Ask

PERIODS = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30), "all": None}
"""How far back rejects may be looked for."""


def rejects(moment: Moment, ask: Ask) -> Answer:
    """See `web.page.Page.make`."""
    period = ask.choice("period", tuple(PERIODS), "30d" if not ask.text("delivery") else "all")
    back = PERIODS[period]
    wanted = listing.Wanted(
        vendor=ask.text("vendor"),
        rule=ask.text("rule"),
        column=ask.text("column"),
        delivery=ask.text("delivery"),
        since=None if back is None else ask.now - back,
        after=ask.text("after"),
    )
    listed = listing.rejects(moment.look, wanted, ask.rows_most)
    kinds = listing.reject_kinds(moment.look, wanted) if ask.twin != "csv" else ()
    told: dict[str, Json] = {
        "pipeline": moment.config.name,
        "period": period,
        "kinds": [
            {
                "vendor": one.vendor,
                "rule": one.rule,
                "column": one.column,
                "rejects": one.rejects,
                "files": one.files,
                "last_at": json_value(one.last_at),
                "reason": one.reason,
                "example": one.example,
            }
            for one in kinds
        ],
        "rows": [document.row(one) for one in listed.rows.dicts()],
        "after": listed.after,
    }
    chosen = [(name, ask.text(name)) for name in ("vendor", "rule", "column", "delivery") if ask.text(name)]
    words = "rejects --csv"
    words += f" --vendor {quote(wanted.vendor)}" if wanted.vendor else ""
    words += f" --delivery {quote(wanted.delivery)}" if wanted.delivery else ""
    for_vendor = f"rejects --delivery {quote(wanted.delivery)} --for-vendor -o rejects.csv"
    file = _for_vendor(moment, ask, wanted, listed.rows) if ask.choice("form", ("vendor",)) else None
    more = {
        "kinds": kinds,
        "rows": listed.rows.dicts(),
        "most": max((one.rejects for one in kinds), default=1),
        "chosen": chosen,
        "periods": tuple(PERIODS),
        "command": f"{command_of(moment.config, words)} > rejects.csv",
        "for_vendor": command_of(moment.config, for_vendor) if wanted.delivery else "",
    }
    return Answer(told, rows=listing.send_back(listed.rows), more=more, file=file)


def _for_vendor(moment: Moment, ask: Ask, wanted: listing.Wanted, found: Rows) -> bytes:
    """The rejected rows of a delivery as `rejects --for-vendor` writes them, to correct and to send again."""
    row = delivery_row(moment.look, wanted.delivery) if wanted.delivery else None
    if row is None:
        raise UsageError("the rows of one delivery are sent back", hint="choose a delivery, and its rejects")
    if found.cut:
        hint = "ordertrail rejects --delivery ID --for-vendor -o FILE writes all of them"
        raise UsageError(f"the delivery has more than {ask.rows_most:,} rejects", hint=hint)
    return vendor_file(moment.config, row, found.dicts())
