"""The twins of a page: JSON for programs, CSV for spreadsheets."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ordertrail.look.csv_text import csv_text
from ordertrail.look.rows import Json, Rows
from ordertrail.rules.unseen import shown_json


def json_bytes(document: Mapping[str, Json]) -> bytes:
    """A document as UTF-8; invisible characters are escapes, which is the same content."""
    return (shown_json(json.dumps(document, ensure_ascii=False)) + "\n").encode("utf-8", "backslashreplace")


def csv_bytes(rows: Rows) -> bytes:
    """Rows as UTF-8 with a byte order mark; cells that a spreadsheet would run begin with an apostrophe."""
    return csv_text(rows).encode("utf-8", "backslashreplace")
