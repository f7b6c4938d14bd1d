"""What goes back to a vendor is written as the vendor writes, can be read again, and no spreadsheet runs it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from ordertrail.config import parse_config
from ordertrail.errors import UsageError
from ordertrail.look.rows import Row
from ordertrail.look.vendor_file import LINE, PROBLEM, vendor_file

TOML = """
[pipeline]
source = "in"
archive = "archive"
warehouse = "tables"

[[vendors]]
name = "acme"
"""
HEADER = "Nr;TrackingNo;Ort"
DELIVERY: Row = {"delivery_id": "000001-00000-aa", "vendor": "acme", "archived_to": "a.csv", "file_name": "a.csv"}


def reject(row: int | None, raw: str | None, column: str | None = None, reason: str = "is wrong") -> Row:
    return {"file_row": row, "file_line": row and row + 1, "raw": raw, "column": column, "reason": reason}


def written(tmp_path: Path, lines: str, data: bytes, *rejects: Row) -> bytes:
    (tmp_path / "archive").mkdir(exist_ok=True)
    (tmp_path / "archive/a.csv").write_bytes(data)
    return vendor_file(parse_config(TOML + lines, base=tmp_path, environ={}), DELIVERY, rejects)


@pytest.mark.parametrize(("encoding", "mark"), [("cp1252", b""), ("utf-8", b"\xef\xbb\xbf"), ("utf-8", b"")])
def test_it_is_written_as_the_vendor_writes(tmp_path: Path, encoding: str, mark: bytes) -> None:
    lines = f"delimiter = ';'\nencoding = '{encoding}'\naliases = {{ tracking_num = ['TrackingNo'] }}\n"
    data = mark + (HEADER + ";last_update_timestamp\n1;2;Köln;x\n").encode(encoding)
    rejects = (
        reject(1, "1;=1+1;Köln;x", "tracking_num", "no number; see \u4e2d"),
        reject(1, "1;=1+1;Köln;x", "last_update_timestamp", "no time"),
        reject(3, '3;"a;b";c'),
        reject(None, None),
    )
    found = written(tmp_path, lines, data, *rejects)
    assert found.startswith(mark)
    table = list(csv.reader(io.StringIO(found.removeprefix(mark).decode(encoding), newline=""), delimiter=";"))
    strange = "\u4e2d" if encoding == "utf-8" else "\\u4e2d"
    assert table == [
        ["Nr", "TrackingNo", "Ort", "last_update_timestamp", LINE, PROBLEM],
        ["1", "'=1+1", "Köln", "x", "2", f"tracking_num: no number; see {strange}; last_update_timestamp: no time"],
        ["3", "a;b", "c", "", "4", "is wrong"],
    ]


def test_other_dialects(tmp_path: Path) -> None:
    data = b"tracking_num||last_update_timestamp\n"
    found = written(tmp_path, "delimiter = '||'\nquote = ''\n", data, reject(1, "1||2", None, "two || of\nthem"))
    assert found.decode().splitlines()[1] == "1||2||2||two   of them"
    columns = "header = false\nescape = '\\'\ncolumns = ['tracking_num', 'last_update_timestamp']\n"
    absent = "absent = ['order_num', 'pck_recieved_date', 'package_deliver_date', 'status', 'address']\n"
    found = written(tmp_path, columns + absent, b"1,2\n", reject(1, '1,"a\\"b,"'))
    assert found.decode() == '1,"a\\"b,",2,is wrong\r\n'


def test_what_cannot_be_sent_back_says_why(tmp_path: Path) -> None:
    for rejects, words in (((), "no rejected rows"), ((reject(None, None),), "no rejected rows")):
        with pytest.raises(UsageError, match=words):
            written(tmp_path, "", b"a\n", *rejects)
    config = parse_config(TOML, base=tmp_path, environ={})
    for change, words in (
        ({"archived_to": None}, "not in the archive"),
        ({"archived_to": "b.csv"}, "cannot be read"),
        ({"vendor": "blue"}, "not in the config"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            vendor_file(config, {**DELIVERY, **change}, [reject(1, "1,2")])
        assert "--csv" in caught.value.hint
