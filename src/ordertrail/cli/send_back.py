"""`rejects --csv`: what a vendor needs to correct its file, in a form that spreadsheets open but never execute."""

from __future__ import annotations

import csv
import io
import re

from ordertrail.cli.render import cell
from ordertrail.cli.screen import shown
from ordertrail.look.rows import Rows

_COLUMNS = ("vendor", "file_name", "file_row", "file_line", "column", "value", "rule", "reason", "raw")
_MARK = "\ufeff"  # without it Excel reads UTF-8 as the system's code page
_NUMBER = r"[0-9.,]+(?:$|[;\t\r\n])"
_RUN = re.compile(rf"(?:^|(?<=[;\t\r\n]))(?=[=@\uff1d\uff20]|[+\-\uff0b\uff0d](?!{_NUMBER}))")
"""Where a spreadsheet would begin a formula: at the start of a cell or line, and after a semicolon or tab; an
apostrophe is inserted there. Signed numbers are not formulas."""


def rejects_csv(found: Rows, *, terminal: bool) -> str:
    """Rejects as RFC 4180 CSV with a header and a byte order mark.

    Args:
        found: The rejects.
        terminal: Whether a terminal shows it: then control characters are escaped, and no byte order mark is written.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n" if terminal else "\r\n")
    writer.writerow(_COLUMNS)
    for row in found.dicts():
        cells = [harmless(cell(row[name])) for name in _COLUMNS]
        writer.writerow(map(shown, cells) if terminal else cells)
    return out.getvalue() if terminal else _MARK + out.getvalue()


def harmless(text: str) -> str:
    """The cell, made safe from being read as a formula."""
    return _RUN.sub("'", text)
