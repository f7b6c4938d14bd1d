"""Numbers in a vendor's own notation: the sign of decimals, of thousands, a minus at the end."""

from __future__ import annotations

import re

from ordertrail.rules.sql import quoted

_BLANK_SIGNS = " \u00a0\u202f\u2009"


def usual_number_sql(text: str, decimal: str, thousands: str) -> str:
    """SQL of a number in the usual notation (`-1234.5`); NULL when the text is none in the vendor's.

    Thousands are separated everywhere or nowhere, by threes: `1.23` is no number of a vendor with `thousands = "."`.

    Args:
        text: SQL of the text, trimmed.
        decimal: What stands before decimals, `.` or `,`.
        thousands: What stands between thousands; "" for nothing. A blank stands for the usual kinds of blanks.
    """
    between = f"[{_BLANK_SIGNS}]" if thousands == " " else re.escape(thousands)
    whole = rf"\d{{1,3}}(?:{between}\d{{3}})+|\d*" if thousands else r"\d*"
    point = re.escape(decimal)
    shape = rf"[+-]?(?:{whole})(?:{point}\d*)?(?:[eE][+-]?\d+)?-?"
    plain = f"translate({text}, {quoted(_BLANK_SIGNS if thousands == ' ' else thousands)}, '')" if thousands else text
    if decimal != ".":
        plain = f"replace({plain}, {quoted(decimal)}, '.')"
    return f"CASE WHEN regexp_full_match({text}, {quoted(shape)}) THEN {plain} END"


def ending_minus_sql(text: str) -> str:
    """SQL of a number whose minus stands at its end, with the minus in front; NULL for all others."""
    return f"CASE WHEN {text} LIKE '%-' AND {text} NOT LIKE '-%' THEN '-' || left({text}, -1) END"
