"""`rejects --csv`: what a vendor needs to correct its file, in a form that spreadsheets open but never execute."""

from __future__ import annotations

import csv
import io

from ordertrail.cli.screen import shown
from ordertrail.look.csv_text import csv_text, harmless
from ordertrail.look.rejects import send_back
from ordertrail.look.rows import Rows, cell


def rejects_csv(found: Rows, *, terminal: bool) -> str:
    """Rejects as RFC 4180 CSV with a header and a byte order mark.

    Args:
        found: The rejects.
        terminal: Whether a terminal shows it: then control characters are escaped, and no byte order mark is written.
    """
    sent = send_back(found)
    if not terminal:
        return csv_text(sent)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(sent.columns)
    for row in sent.rows:
        writer.writerow(shown(harmless(cell(value))) for value in row)
    return out.getvalue()
