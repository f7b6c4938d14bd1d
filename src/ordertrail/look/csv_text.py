"""Rows as CSV that spreadsheets open but never execute."""

from __future__ import annotations

import csv
import io
import re

from ordertrail.look.rows import Rows, cell

MARK = "\ufeff"
"""Byte order mark: without it Excel reads UTF-8 as the system's code page."""

_END = r"[ \u00a0\u2009\u202f]*(?:$|[;\t\r\n])"
_NUMBER = rf"(?:[0-9.,][0-9.,' \u00a0\u2009\u202f]*(?:[eE][+-]?[0-9]+)?)?{_END}"
_TEXT = rf'"[^";\t\r\n]*"{_END}'
_RUN = re.compile(rf"(?:^|(?<=[;\t\r\n]))(?=[@\uff1d\uff20]|=(?!{_TEXT})|[+\-\uff0b\uff0d](?!{_NUMBER}))")
"""Where a spreadsheet would begin a formula: at the start of a cell or line, and after a semicolon or tab; an
apostrophe is inserted there. Not before what computes nothing: signed numbers, a sign alone, and `="0045001"`, which
is how spreadsheets keep a number as text."""


def harmless(text: str) -> str:
    """The cell, made safe from being read as a formula."""
    return _RUN.sub("'", text)


def csv_text(rows: Rows) -> str:
    """RFC 4180 with a header and a byte order mark.

    Args:
        rows: What is written, in this order.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(harmless(name) for name in rows.columns)
    for row in rows.rows:
        writer.writerow(harmless(cell(value)) for value in row)
    return MARK + out.getvalue()
