"""The rejected rows of a delivery as a file that its vendor can read, correct and send again.

It has the vendor's own header, delimiter, quoting and encoding, and two columns more: the line of the file, and what is
wrong with it. A cell that a spreadsheet would run begins with an apostrophe (`look.csv_text`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from ordertrail.config import Config
from ordertrail.errors import OrdertrailError, UsageError
from ordertrail.look.archived_header import archived_header
from ordertrail.look.csv_text import harmless
from ordertrail.look.rows import Row
from ordertrail.model import Vendor
from ordertrail.parse.encoding import codec_of
from ordertrail.parse.unpacking import members
from ordertrail.rules.dialects import dialect_of

if TYPE_CHECKING:
    from ordertrail.look.status import Reader

LINE, PROBLEM = "ordertrail_line", "ordertrail_problem"
"""The columns behind those of the vendor."""

_FIRST_BYTES = 4


class _Rejected(Struct):
    """A rejected row: its record, its line, and all that is wrong with it."""

    raw: str
    line: str
    problems: list[str] = field(default_factory=list)


def write_vendor_file(reader: Reader, delivery_id: str, path: Path) -> str:
    """Write `vendor_file` of a delivery.

    Args:
        reader: The tables.
        delivery_id: Its id.
        path: A new file.

    Returns:
        What was written, in one line.

    Raises:
        UsageError: There is no such delivery, or as `vendor_file`; or the file is there, or cannot be written.
    """
    known = [one for one in reader.deliveries().dicts() if one["delivery_id"] == delivery_id]
    if not known:
        raise UsageError(f"there is no delivery {delivery_id!r}", hint="ordertrail deliveries lists them")
    rejects = reader.rejects(delivery=delivery_id).dicts()
    data = vendor_file(reader.config, known[0], rejects)
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}", hint="name a new file") from error
    count = len(_rows(rejects))
    return f"{count:,} rejected row{'' if count == 1 else 's'} of {known[0]['file_name']}: {path}"


def vendor_file(config: Config, delivery: Row, rejects: Iterable[Row]) -> bytes:
    r"""Write the rejected rows of a delivery as its vendor writes rows.

    Args:
        config: Of the pipeline.
        delivery: The delivery's row in the ledger.
        rejects: Its rejects, in file order.

    Returns:
        The bytes of the file, its lines ended by CR LF. What the encoding lacks is escaped, as `\u2019`.

    Raises:
        UsageError: It has no rejected rows, its archived file cannot be read, or its lines are of fixed width.
    """
    name = str(delivery["delivery_id"])
    otherwise = f"ordertrail rejects --delivery {name} --csv lists what is wrong"
    rows = _rows(rejects)
    if not rows:
        raise UsageError(f"delivery {name} has no rejected rows to send back", hint=otherwise)
    vendor = next((one for one in config.vendors if one.name == delivery["vendor"]), None)
    if vendor is None:
        raise UsageError(f"the vendor {delivery['vendor']!r} of {name} is not in the config", hint=otherwise)
    if vendor.widths:
        raise UsageError(f"the lines of {vendor.name} have a fixed width: there is no room in them", hint=otherwise)
    header, mark, codec = _written(config, vendor, delivery, otherwise)
    dialect = dialect_of(vendor.delimiter, vendor.quote, vendor.escape, vendor.widths)
    lines = [[*header, LINE, PROBLEM]] if vendor.header else []
    for row in rows:
        cells = dialect.cells(row.raw) or [row.raw]
        cells += [""] * (len(header) - len(cells))
        lines.append([*map(harmless, cells), row.line, harmless("; ".join(row.problems))])
    text = "".join(vendor.delimiter.join(_quoted(cell, vendor) for cell in line) + "\r\n" for line in lines)
    return mark + text.encode(codec, "backslashreplace")


def _rows(rejects: Iterable[Row]) -> Sequence[_Rejected]:
    found: dict[object, _Rejected] = {}
    for one in rejects:
        if one["file_row"] is None or one["raw"] is None:
            continue
        line = "" if one["file_line"] is None else str(one["file_line"])
        row = found.setdefault(one["file_row"], _Rejected(str(one["raw"]), line))
        where = f"{one['column']}: " if one["column"] else ""
        row.problems.append(f"{where}{one['reason']}")
    return tuple(found.values())


def _written(config: Config, vendor: Vendor, delivery: Row, otherwise: str) -> tuple[tuple[str, ...], bytes, str]:
    """The header of the archived file, its byte order mark and its codec."""
    if delivery["archived_to"] is None:
        raise UsageError(f"the file of {delivery['delivery_id']} is not in the archive", hint=otherwise)
    try:
        with (config.archive / str(delivery["archived_to"])).open("rb") as stream:
            texts = members(stream, vendor)  # as long as it is there, the archive is open
            first = next(texts).stream.read(_FIRST_BYTES)
        header = archived_header(config, vendor, str(delivery["archived_to"]))
    except (OSError, OrdertrailError, StopIteration) as error:
        raise UsageError(
            f"the archived file {delivery['archived_to']} cannot be read: {error}", hint=otherwise
        ) from error
    codec, mark_bytes = codec_of(first, vendor.encoding)
    return header, first[:mark_bytes], codec


def _quoted(cell: str, vendor: Vendor) -> str:
    """A cell as the vendor writes it, in quotes where it must be; without quoting, what would part it is a blank."""
    special = any(one and one in cell for one in (vendor.delimiter, "\r", "\n", vendor.quote, vendor.escape))
    if not vendor.quote:
        for one in (vendor.delimiter, "\r\n", "\r", "\n"):
            cell = cell.replace(one, " ")
        return cell
    if not special:
        return cell
    if vendor.escape:
        cell = cell.replace(vendor.escape, 2 * vendor.escape).replace(vendor.quote, vendor.escape + vendor.quote)
    else:
        cell = cell.replace(vendor.quote, 2 * vendor.quote)
    return f"{vendor.quote}{cell}{vendor.quote}"
