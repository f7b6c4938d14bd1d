"""`rejects --csv`: what a vendor needs to mend its file, in a form that a spreadsheet opens and never runs."""

from __future__ import annotations

import csv
import io
import re

from ordertrail.cli.render import cell
from ordertrail.cli.screen import shown
from ordertrail.look.rows import Rows

_COLUMNS = ("vendor", "file_name", "file_row", "file_line", "column", "value", "rule", "reason", "raw")
_MARK = "\ufeff"  # without it Excel takes UTF-8 for the system's code page
_NUMBER = r"[0-9.,]+(?:$|[;\t\r\n])"
_RUN = re.compile(rf"(?:^|(?<=[;\t\r\n]))(?=[=@\uff1d\uff20]|[+\-\uff0b\uff0d](?!{_NUMBER}))")
"""Where a spreadsheet would begin a formula: at the start of a cell, of a line, and where a semicolon or a tab parts
cells; there an apostrophe is put. Numbers with a sign are none."""


def rejects_csv(found: Rows, *, terminal: bool) -> str:
    """Rejects as RFC 4180 CSV with a header and a byte order mark.

    Args:
        found: The rejects.
        terminal: A person's terminal shows it: control characters are escaped, and no mark is written.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n" if terminal else "\r\n")
    writer.writerow(_COLUMNS)
    for row in found.dicts():
        cells = [harmless(cell(row[name])) for name in _COLUMNS]
        writer.writerow(map(shown, cells) if terminal else cells)
    return out.getvalue() if terminal else _MARK + out.getvalue()


def harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return _RUN.sub("'", text)
