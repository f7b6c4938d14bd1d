"""What a column of a vendor's file may be: its name in the contract, and the type its values allow.

Types are chosen so that no value changes: numbers with a leading zero and dates that can be read in two ways are text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime
from functools import partial

from ordertrail.rules.headers import folded
from ordertrail.rules.sql import quoted

MAX_NAME_CHARS = 60
"""Longest name that is suggested."""

ID_WORDS = {"id", "no", "nr", "num", "number", "code", "zip", "postcode", "plz", "phone", "sku", "ean", "barcode"}
"""Words of a name that say that its values are identifiers, which stay text."""

# Other names for the columns of the order feed, folded as headers are.
_MEANS = {
    "order_num": (
        "orderno", "ordernumber", "orderid", "order", "auftrag", "auftragsnummer", "auftragsnr", "bestellnummer",
        "orderreference", "orderref", "customerorder", "salesorder", "ponumber", "numérodecommande", "commande",
    ),
    "tracking_num": (
        "trackingno", "trackingno.", "trackingnumber", "trackingid", "tracking#", "tracking", "trackingcode", "waybill",
        "waybillno", "waybillnumber", "awb", "awbnumber", "airwaybill", "consignment", "consignmentnumber",
        "consignmentno", "parcelid", "parcelnumber", "parcelno", "shipmentid", "shipmenttrackingnumber",
        "packagetrackingnumber", "sendungsnummer", "sendungsnr", "paketnummer", "paketscheinnummer", "labelnumber",
        "trackingpin", "trackingref", "trackingreference", "numérodesuivi", "mailpieceid",
    ),
    "pck_recieved_date": (
        "pckreceiveddate", "packagereceiveddate", "receiveddate", "pickupdate", "collectiondate", "abholdatum",
    ),
    "package_deliver_date": (
        "packagedelivereddate", "deliverydate", "delivereddate", "deliverdate", "actualdeliverydate", "datedelivered",
        "zustelldatum", "delivereddatum", "datedelivraison",
    ),
    "status": (
        "shipmentstatus", "trackingstatus", "orderstatus", "deliverystatus", "packagestatus", "parcelstatus",
        "currentstatus", "statusdescription", "lateststatus", "laststatus", "statut",
    ),
    "address": (
        "deliveryaddress", "shippingaddress", "shiptoaddress", "recipientaddress", "shipto", "consigneeaddress",
        "empfängeradresse",
    ),
    "last_update_timestamp": (
        "lastupdate", "lastupdated", "lastupdatetime", "lastupdatedat", "updatedat", "updated", "lastmodified",
        "updatetimestamp", "eventtime", "eventtimestamp", "eventdatetime", "eventdate/time", "statustime",
        "statusdatetime", "statustimestamp", "lasteventtime", "lasteventdatetime", "lastscan", "lastscantime",
        "scandatetime", "scantimestamp", "letzteänderung", "letztesupdate",
    ),
}  # fmt: skip
_OWNER = {folded(name): column for column, names in _MEANS.items() for name in (column, *names)}
_DATE_FORMATS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y%m%d")
_TIMES = ("%H:%M:%S", "%H:%M")
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_ISO_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)  # fmt: skip
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)
# A double holds fifteen digits exactly.
_NUMBER = re.compile(r"(?!-0(\.0*)?$)(?=(?:\D*\d){1,15}\D*$)-?(0|[1-9]\d*)(\.\d+)?", re.ASCII)
_FIRST_YEAR = 1900


def meant(header: str) -> str | None:
    """The column of the order feed that a header names, by one of its usual names; None when it names none."""
    return _OWNER.get(folded(header))


def column_name(header: str) -> str:
    """A name for a column with this header: lower snake case, as a contract allows it, never beginning with `_`."""
    marked = "".join(char if f"a{char}".isidentifier() else "_" for char in header.lower())
    name = re.sub("_+", "_", marked).strip("_")[:MAX_NAME_CHARS].rstrip("_") or "column"
    return name if name.isidentifier() else f"c_{name}"


def type_of(values: Iterable[str], share: float = 1.0) -> tuple[str, tuple[str, ...], str]:
    """(type, formats, doubt): the narrowest type that holds the values without changing them, else string.

    Args:
        values: Not blank, trimmed; equal ones count once.
        share: The type must hold at least this share of the different values.
    """
    different = set(values)

    spared = int((1 - share) * len(different) + 1e-9)

    def held(fits: Callable[[str], object]) -> int:
        """How many fit; -1 when too many do not, and then the rest is not looked at."""
        unfit = 0
        for one in different:
            unfit += not fits(one)
            if unfit > spared:
                return -1
        return len(different) - unfit

    plain = {
        "bigint": held(_WHOLE.fullmatch),
        "double": held(_NUMBER.fullmatch),
        "date": held(_is_date),
        "timestamp": held(lambda one: _is_date(one) or _is(one, _ISO_TIME, datetime.fromisoformat)),
    }
    kind = max(plain, key=lambda one: plain[one])  # of equals the first, which is the narrowest
    if plain[kind] >= 0:
        return kind, (), ""
    for kind, formats in (
        ("date", _DATE_FORMATS),
        ("timestamp", [f"{day}{gap}{time}" for day in _DATE_FORMATS for gap in (" ", "T") for time in _TIMES]),
    ):
        counts = {one: held(partial(_parses, pattern=one)) for one in formats}
        most = max(counts.values())
        found = [one for one, count in counts.items() if count == most]
        if most < 0:
            continue
        if len(found) == 1:
            return kind, (found[0],), ""
        return "string", (), f"could be read as {' and as '.join(found)}"
    return "string", (), ""


def unfit_sql(value: str, kind: str, formats: tuple[str, ...]) -> str:
    """SQL that is true of texts that a type found by `type_of` does not hold; never NULL.

    Args:
        value: SQL of a trimmed text that is not NULL.
        kind: The type.
        formats: Its formats.
    """
    match kind:
        case "string":
            return "false"
        case "bigint":
            return f"NOT regexp_full_match({value}, {quoted(_WHOLE.pattern)})"
        case "double":
            digits = f"length(regexp_replace({value}, '[^0-9]', '', 'g')) > 15"
            return f"(NOT regexp_full_match({value}, '-?(0|[1-9][0-9]*)([.][0-9]+)?') OR {digits})"
    if formats:
        return f"try_strptime({value}, {quoted(formats[0])}) IS NULL"
    shape = _ISO_DATE.pattern if kind == "date" else f"{_ISO_DATE.pattern}|{_ISO_TIME.pattern}"
    sql_type = "DATE" if kind == "date" else "TIMESTAMPTZ"
    return f"(NOT regexp_full_match({value}, {quoted(shape)}) OR TRY_CAST({value} AS {sql_type}) IS NULL)"


def _is_date(value: str) -> bool:
    return _is(value, _ISO_DATE, date.fromisoformat)


def _is(value: str, shape: re.Pattern[str], parse: Callable[[str], date]) -> bool:
    if not shape.fullmatch(value):
        return False
    try:
        return parse(value).year >= _FIRST_YEAR
    except ValueError:
        return False


def _parses(value: str, pattern: str) -> bool:
    try:
        return datetime.strptime(value, pattern).year >= _FIRST_YEAR  # noqa: DTZ007 - only whether it fits counts
    except ValueError:
        return False
