"""`rejects --csv`: what a vendor needs to correct its file, in a form that spreadsheets open but never execute."""

from __future__ import annotations

import csv
import io

from ordertrail.cli.screen import shown
from ordertrail.look.csv_text import MARK, harmless
from ordertrail.look.rows import Rows, cell

_COLUMNS = ("vendor", "file_name", "file_row", "file_line", "column", "value", "rule", "reason", "raw")


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
    return out.getvalue() if terminal else MARK + out.getvalue()
