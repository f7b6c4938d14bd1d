"""Write files as a vendor's profile says, after the words of the docs. Nothing here is shared with the readers."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Sequence

from ordertrail.model import Vendor


def line_of(cells: Sequence[str], vendor: Vendor) -> str:
    """One row, without a line end."""
    if vendor.widths:
        line = "".join(cell.ljust(width) for cell, width in zip(cells, vendor.widths, strict=True))
        return line.rstrip() if vendor.short_rows == "fill" else line
    found = []
    for cell in cells:
        text = cell
        if vendor.escape:
            text = text.replace("\\", "\\\\")
        if vendor.quote:
            text = text.replace(vendor.quote, (vendor.escape or vendor.quote) + vendor.quote)
            text = f"{vendor.quote}{text}{vendor.quote}" if cell else ""
        elif vendor.escape:
            text = text.replace(vendor.delimiter, vendor.escape + vendor.delimiter)
        found.append(text)
    while vendor.short_rows == "fill" and not found[-1]:
        found.pop()
    return vendor.delimiter.join(found)


def file_of(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    vendor: Vendor,
    *,
    line_end: str = "\n",
    packed: str = "",
    between: Sequence[str] = (),
) -> bytes:
    """A file with a title line, the header if the vendor has one, the rows, and the trailer that tells their number.

    Args:
        header: The names of the cells.
        rows: The cells of each.
        vendor: How it is written.
        line_end: Of every line.
        packed: `gzip`, `zip` or nothing.
        between: Cells of a line behind each row that is no row.
    """
    lines = ["Report of the day"] + ([line_of(header, vendor)] if vendor.header else [])
    for row in rows:
        lines.append(line_of(row, vendor))
        if between:
            lines.append(line_of(between, vendor))
    if vendor.trailer:
        lines.append(f"END {len(rows)}")
    data = "".join(line + line_end for line in lines).encode(vendor.encoding or "utf-8")
    if packed == "gzip":
        return gzip.compress(data)
    if packed == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("part.csv", data)
        return out.getvalue()
    return data
