"""Writes rows as an Excel workbook, one sheet, row by row: memory does not grow with the rows.

Nothing in a cell is ever run or rounded. Text stays text, also `=1+1`, `@x` and `00123`; keys, hashes and numbers of
more digits than Excel keeps are text too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from ordertrail.delta.log import storage_error
from ordertrail.errors import UsageError
from ordertrail.model import Contract
from ordertrail.rules.column_types import decimal_of
from ordertrail.rules.tables import TableColumn

if TYPE_CHECKING:
    from xlsxwriter.format import Format
    from xlsxwriter.workbook import Workbook
    from xlsxwriter.worksheet import Worksheet

MAX_ROWS = 1_048_575
"""Rows of a sheet beside its header.

Source of the limits: https://support.microsoft.com/office/excel-specifications-and-limits
"""

MAX_CELL_CHARS = 32_767
"""Characters (UTF-16 units) of a cell."""

_DIGITS = 15
_FIRST_DAY = date(1900, 3, 1)  # Excel counts a day in February 1900 that there was not
_BATCH_ROWS = 2_048
_WIDTHS = {"timestamp": 22, "date": 11, "bigint": 12, "int": 10, "boolean": 8}
_OTHER = "use a name that ends with .csv or .parquet"

_Put = Callable[[int, Any], int]


def require_library() -> None:
    """Raise an error when the extra `excel` is not installed.

    Raises:
        UsageError: It is not.
    """
    try:
        import xlsxwriter  # noqa: F401 - an extra
    except ImportError as error:
        raise UsageError(
            "XlsxWriter, which writes .xlsx, is not installed", hint=f"pip install 'ordertrail[excel]', or {_OTHER}"
        ) from error


def write_spreadsheet(
    con: duckdb.DuckDBPyConnection, sql: str, columns: Sequence[TableColumn], contract: Contract, out: Path
) -> int:
    """Write the rows of a query as a workbook.

    Args:
        con: Runs the query.
        sql: Of the rows, with times as text.
        columns: Of the rows.
        contract: Tells which columns are keys.
        out: The new file. What is written meanwhile is in its folder.

    Returns:
        The number of rows.

    Raises:
        UsageError: There are too many rows, or a cell is too long.
        StorageError: The file cannot be written.
        duckdb.Error: The query does not run.
    """
    from xlsxwriter.workbook import Workbook

    ((rows,),) = con.execute(f"SELECT count(*) FROM (SELECT 1 FROM ({sql}) LIMIT {MAX_ROWS + 1})").fetchall()
    if rows > MAX_ROWS:
        raise UsageError(f"there are more than the {MAX_ROWS:,} rows that fit into a sheet of Excel", hint=_OTHER)
    with _written(out):
        book = Workbook(str(out), {"constant_memory": True, "tmpdir": str(out.parent)})
        book.use_zip64()
        sheet = _Sheet(book, columns, contract)
    try:
        with con.sql(sql).to_arrow_reader(_BATCH_ROWS) as found:
            for batch in found:
                with _written(out):
                    sheet.add([column.to_pylist() for column in batch.columns])
        with _written(out):
            sheet.end()
            book.close()
    except BaseException:
        sheet.drop()
        raise
    return sheet.rows


@contextmanager
def _written(out: Path) -> Iterator[None]:
    from xlsxwriter.exceptions import FileCreateError

    try:
        yield
    except FileCreateError as error:
        raise storage_error(error.args[0], out) from error
    except OSError as error:
        raise storage_error(error, out) from error


class _Sheet:
    """The sheet of a workbook, which is filled from top to bottom."""

    def __init__(self, book: Workbook, columns: Sequence[TableColumn], contract: Contract) -> None:
        self.rows = 0
        self._sheet: Worksheet = book.add_worksheet("rows")
        self._text: Format = book.add_format({"num_format": "@"})
        self._columns = columns
        as_text = {*contract.key, "_row_hash"}
        head = book.add_format({"bold": True, "num_format": "@"})
        self._sheet.freeze_panes(1, 0)
        self._puts: list[_Put] = []
        for place, column in enumerate(columns):
            self._sheet.set_column(place, place, _WIDTHS.get(column.type, 18))
            self._sheet.write_string(0, place, column.name, head)
            self._puts.append(self._put_of(book, place, "string" if column.name in as_text else column.type))

    def add(self, cells: Sequence[Sequence[Any]]) -> None:
        """Add rows, given column by column."""
        for row in zip(*cells, strict=True):
            self.rows += 1
            for put, value in zip(self._puts, row, strict=True):
                if value is not None:
                    put(self.rows, value)

    def end(self) -> None:
        """Add what only the whole has."""
        last = len(self._columns) - 1
        self._sheet.autofilter(0, 0, self.rows, last)
        # No green corners at numbers that are text.
        self._sheet.ignore_errors({"number_stored_as_text": f"A1:{_letters(last)}{self.rows + 1}"})

    def drop(self) -> None:
        """Close the file of the rows so far, without making a workbook of it."""
        with suppress(OSError):  # a full disk
            self._sheet.row_data_fh.close()

    def _put_of(self, book: Workbook, place: int, kind: str) -> _Put:
        """What writes a value that is not NULL into a row."""
        sheet = self._sheet

        def text(row: int, value: object) -> int:
            return self._put_text(row, place, str(value))

        if kind == "boolean":
            return lambda row, value: int(sheet.write_boolean(row, place, value))
        if kind == "date":
            day = book.add_format({"num_format": "yyyy-mm-dd"})
            return lambda row, value: (
                int(sheet.write_datetime(row, place, value, day)) if value >= _FIRST_DAY else text(row, value)
            )
        scale = decimal_of(kind)
        if scale is None and kind not in ("int", "bigint", "double"):
            return text
        places = scale[1] if scale else 0
        number = book.add_format({"num_format": f"0.{'0' * places}"} if places else {})
        return lambda row, value: (
            int(sheet.write_number(row, place, value, number)) if _is_kept(value) else text(row, value)
        )

    def _put_text(self, row: int, place: int, value: str) -> int:
        if len(value) > MAX_CELL_CHARS // 2 and (chars := len(value.encode("utf-16-le")) // 2) > MAX_CELL_CHARS:
            raise UsageError(
                f"{self._columns[place].name} has {chars:,} characters in row {row}; a cell of Excel holds "
                f"{MAX_CELL_CHARS:,}",
                hint=f"{_OTHER}, or leave the row out with --where",
            )
        return int(self._sheet.write_string(row, place, value, self._text))


def _is_kept(value: int | float | Decimal) -> bool:
    """Whether Excel keeps all digits of a number."""
    if isinstance(value, Decimal):
        return len(value.as_tuple().digits) <= _DIGITS
    return abs(value) < 10**_DIGITS if isinstance(value, int) else isfinite(value)


def _letters(place: int) -> str:
    """The letters of a column, 0 = A."""
    letters = ""
    while place >= 0:
        place, letter = divmod(place, 26)
        letters, place = chr(ord("A") + letter) + letters, place - 1
    return letters
