"""Typed values, and the values of a config, as a vendor's file would say them: a migration reads them again.

The row rules read the notation of the vendor (`decimal`, words for true and false); the tables and the config have the
usual one.
"""

from __future__ import annotations

from ordertrail.model import Vendor
from ordertrail.rules.sql import quoted


def text_of(value: str, kind: str, wanted: str, vendor: Vendor) -> str:
    """SQL of a value as a file would say it.

    Args:
        value: SQL of the value.
        kind: Its contract type.
        wanted: The type that the text is to be read as.
        vendor: Whose rules read it; its clock tells the day of a time.
    """
    text = f"CAST({value} AS VARCHAR)"
    if kind == "timestamp" and wanted == "date":
        return f"CAST(CAST({value} AT TIME ZONE {quoted(vendor.timezone)} AS DATE) AS VARCHAR)"
    if kind == "timestamp":
        return f"replace(CAST({value} AT TIME ZONE 'UTC' AS VARCHAR), ' ', 'T') || 'Z'"
    if kind == "boolean" and wanted == "boolean":
        true, false = (quoted(_word(word, vendor)) for word in (True, False))
        return f"CASE WHEN {value} THEN {true} WHEN NOT {value} THEN {false} END"
    if kind == "boolean" and wanted != "string":
        return f"CAST(CAST({value} AS INTEGER) AS VARCHAR)"
    if wanted in ("int", "bigint"):
        return f"regexp_replace({text}, '\\.0+$', '')"  # 7.00 is the whole number 7
    if vendor.decimal != "." and _has_decimals(kind) and _has_decimals(wanted):
        return f"replace({text}, '.', {quoted(vendor.decimal)})"
    return text


def constant_text(text: str, kind: str, vendor: Vendor) -> str:
    """A value of the config as a file of the vendor would say it.

    Args:
        text: As the config has it.
        kind: Its contract type.
        vendor: Whose rules read it.
    """
    if kind == "boolean":
        return _word(text.lower() == "true", vendor)
    return text.replace(".", vendor.decimal) if _has_decimals(kind) else text


def _has_decimals(kind: str) -> bool:
    return kind.partition("(")[0] in ("double", "decimal")


def _word(value: bool, vendor: Vendor) -> str:
    return (vendor.true_words or ("true",))[0] if value else (vendor.false_words or ("false",))[0]
