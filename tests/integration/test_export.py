"""`export`: every format against `query`, a kill at any time, what is refused, and how it says so."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from openpyxl.utils.escape import unescape

from ordertrail.cli import cli
from ordertrail.errors import QueryError, StorageError, UsageError
from ordertrail.look import spreadsheet
from ordertrail.look.export import FORMATS, export
from ordertrail.look.status import Reader
from tests.harness import House, open_house

TABLES = ("target", "history", "deliveries", "rejects", "stage")
CONTRACT = """[contract]
key = ["num", "account"]
order_by = "at"
columns = [
  { name = "num", type = "string" },
  { name = "at", type = "timestamp" },
  { name = "account", type = "bigint" },
  { name = "price", type = "decimal(20,2)" },
  { name = "weight", type = "double" },
  { name = "pieces", type = "int" },
  { name = "day", type = "date" },
  { name = "fragile", type = "boolean" },
  { name = "note", type = "string", trim = false },
]
"""
HEADER = "num,at,account,price,weight,pieces,day,fragile,note\n"
FIRST = (
    HEADER
    + '00123,2026-11-20 08:00:00,9007199254740993,5.10,0.1,3,2026-11-21,true,"a ""quoted"" note, with a\nline break"\n'
    + "1=1+1,2026-11-20 08:00:00.5,7,123456789012345678.25,-1e300,-4,1900-01-15,false,'=cmd|x\n"
    + "@at,2026-11-20 08:00:00+01:00,0,,,,,,\n"
    + "-5,2026-11-20 09:00:00,1,0.00,12345.678,2147483647,2026-02-28,true,+49 30 1\n"
    + "bad,no time,1,0.00,1,1,2026-02-28,true,=1+1\n"
    + "Zoë,2026-11-20 09:00:00,1,0.00,1,1,2026-02-28,true,é\u2028 _x0041_ \t\n"
)
SECOND = (
    HEADER
    + "00123,2026-11-22 08:00:00,9007199254740993,6.00,0.1,3,2026-11-21,true,newer\n"
    + "new,2026-11-22,-1,,,,,,\n"
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Two batches; the second one marks a row of the target in a deletion vector."""
    house = open_house(tmp_path_factory.mktemp("exported"), f"max_reject_share = 0.9\n{CONTRACT}")
    house.drop("a_2026_11_20.csv", FIRST)
    assert house.run().rows.inserted == 5
    house.drop("b_2026_11_22.csv", SECOND)
    assert house.run().rows.updated == 1
    assert any("deletionVector" in json.dumps(action) for action in house.actions("target", house.version()))
    return house


def asked(house: House, sql: str, as_of: int | datetime | None = None) -> list[dict[str, Any]]:
    with Reader(house.config) as reader:
        return sorted(map(dict, reader.query(sql, as_of=as_of).dicts()), key=str)


def of_table(house: House, table: str, as_of: int | datetime | None = None) -> list[dict[str, Any]]:
    return asked(house, f"FROM {getattr(house.config.tables, table)}", as_of)


# --- reading back ----------------------------------------------------------------------------------------------------


def read_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def text_of(value: object) -> str:
    """A cell as CSV has it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            text = value.astimezone(UTC).isoformat().replace("+00:00", "")
            return f"{text.rstrip('0') if '.' in text else text}Z"
        case _:
            return str(value)


def same_number(text: str, value: object) -> bool:
    return isinstance(value, float) and float(text) == value


def sheet_of(path: Path) -> list[list[Any]]:
    book = openpyxl.load_workbook(path)
    assert len(book.sheetnames) == 1
    rows = [list(row) for row in book.worksheets[0].iter_rows()]
    for cell in (cell for row in rows for cell in row if cell.data_type in ("s", "inlineStr")):
        cell._value = unescape(cell.value)  # which openpyxl does not do for text in the sheet itself
    return rows


@pytest.mark.parametrize("table", TABLES)
def test_parquet_is_what_query_gives(house: House, table: str, tmp_path: Path) -> None:
    done = export(house.config, table, tmp_path / "x.parquet")
    found = pq.read_table(done.path)
    rows = [{k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in r.items()} for r in found.to_pylist()]
    assert sorted(rows, key=str) == of_table(house, table)
    assert done.rows == found.num_rows
    assert done.size_bytes == done.path.stat().st_size
    assert done.table == getattr(house.config.tables, table)


@pytest.mark.parametrize("table", TABLES)
def test_csv_is_what_query_gives(house: House, table: str, tmp_path: Path) -> None:
    header, *rows = read_csv(export(house.config, table, tmp_path / "x.CSV").path)
    wanted = of_table(house, table)
    assert header == list(wanted[0])
    keyed = sorted(dict(zip(header, row, strict=True)).items().__repr__() for row in rows)
    assert len(keyed) == len(wanted)
    left = [dict(zip(header, row, strict=True)) for row in rows]
    for one in wanted:
        same = [
            row for row in left if all(text == text_of(one[n]) or same_number(text, one[n]) for n, text in row.items())
        ]
        assert same, one
        left.remove(same[0])


def test_csv_is_utf8_with_a_header_quotes_and_iso_times(house: House, tmp_path: Path) -> None:
    text = export(house.config, "target", tmp_path / "x.csv", where="num = 'Zoë'").path.read_bytes().decode("utf-8")
    head, line, end = text.split("\n")
    assert head.startswith("num,at,account,price,weight,pieces,day,fragile,note,_vendor,")
    assert line.startswith("Zoë,2026-11-20T09:00:00Z,1,0.00,1.0,1,2026-02-28,true,")
    assert end == ""


@pytest.mark.parametrize("table", TABLES)
def test_a_sheet_is_what_query_gives(house: House, table: str, tmp_path: Path) -> None:
    header, *rows = sheet_of(export(house.config, table, tmp_path / "x.xlsx").path)
    names = [cell.value for cell in header]
    wanted = of_table(house, table)
    assert names == list(wanted[0])
    assert [cell.coordinate for row in rows for cell in row if cell.data_type == "f"] == []
    found = [{name: cell.value for name, cell in zip(names, row, strict=True)} for row in rows]
    for one in wanted:
        same = [row for row in found if all(in_sheet(one[name], row[name]) for name in names)]
        assert same, one
        found.remove(same[0])
    assert found == []


def in_sheet(value: object, cell: object) -> bool:
    if isinstance(cell, datetime):
        return cell.date() == value
    if isinstance(value, float) and isinstance(cell, int | float):
        return abs(cell - value) <= abs(value) * 1e-15
    if isinstance(cell, str) or cell is None:
        return (cell or "") == text_of(value)
    return (Decimal(str(cell)) if isinstance(value, Decimal) else cell) == value


def test_a_sheet_keeps_keys_and_runs_nothing(house: House, tmp_path: Path) -> None:
    header, *rows = sheet_of(export(house.config, "target", tmp_path / "x.xlsx").path)
    names = [cell.value for cell in header]
    cells = {row[0].value: dict(zip(names, row, strict=True)) for row in rows}
    assert {*cells} == {"00123", "1=1+1", "@at", "-5", "Zoë", "new"}
    assert {row[0].data_type for row in rows} <= {"s", "inlineStr"}
    assert cells["00123"]["account"].value == "9007199254740993", "a key is text, whatever its type"
    assert cells["00123"]["price"].value == 6
    assert cells["1=1+1"]["price"].value == "123456789012345678.25", "more digits than Excel keeps"
    assert cells["1=1+1"]["note"].value == "'=cmd|x"
    assert cells["-5"]["note"].value == "+49 30 1"
    assert cells["-5"]["pieces"].value == 2147483647
    assert cells["-5"]["day"].value.date() == date(2026, 2, 28)
    assert cells["1=1+1"]["day"].value == "1900-01-15", "before Excel's calendar"
    assert cells["1=1+1"]["at"].value == "2026-11-20T08:00:00.5Z"
    assert cells["@at"]["at"].value == "2026-11-20T07:00:00Z"
    assert cells["@at"]["note"].value is None
    assert cells["Zoë"]["note"].value == "é\u2028 _x0041_ \t"


# --- earlier, some, none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [table for table in TABLES if table != "stage"])
def test_an_earlier_batch(house: House, table: str, tmp_path: Path) -> None:
    done = export(house.config, table, tmp_path / "x.parquet", as_of=1)
    rows = [
        {k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in r.items()}
        for r in pq.read_table(done.path).to_pylist()
    ]
    assert sorted(rows, key=str) == of_table(house, table, as_of=1)
    assert done.batch == 1


def test_the_target_as_it_was_is_what_was_exported_then(tmp_path: Path) -> None:
    house = open_house(tmp_path, f"max_reject_share = 0.9\n{CONTRACT}")
    house.drop("a_2026_11_20.csv", FIRST)
    house.run()
    then = pq.read_table(export(house.config, "target", tmp_path / "then.parquet").path).sort_by("num").to_pylist()
    house.drop("b_2026_11_22.csv", SECOND)
    house.run()
    [old, new] = [row["staged_at"] for row in of_table(house, "deliveries")]
    for number, moment in enumerate((1, old, max(old, new) - timedelta(microseconds=1))):
        later = export(house.config, "target", tmp_path / f"{number}.parquet", as_of=moment, where="true")
        assert pq.read_table(later.path).sort_by("num").to_pylist() == then
        assert later.batch == 1


def test_before_the_first_batch_there_is_nothing_to_write(house: House, tmp_path: Path) -> None:
    for moment in (0, datetime(2020, 1, 1, tzinfo=UTC)):
        with pytest.raises(UsageError, match="is before the first batch: batch 1"):
            export(house.config, "target", tmp_path / "x.csv", as_of=moment)
    with pytest.raises(UsageError, match="there is no batch 9"):
        export(house.config, "target", tmp_path / "x.csv", as_of=9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", FORMATS)
def test_tables_without_rows(ending: str, tmp_path: Path) -> None:
    house = open_house(tmp_path / "house")
    house.drop("a.csv", "not,what,it,should,be\n1,2,3,4,5\n")
    house.run()
    for table in ("target", "history", "rejects"):
        done = export(house.config, table, tmp_path / f"{table}{ending}", where="true")
        wanted = asked(house, f"DESCRIBE {getattr(house.config.tables, table)}")
        match ending:
            case ".csv":
                header, *rows = read_csv(done.path)
            case ".parquet":
                found = pq.read_table(done.path)
                header, rows = found.column_names, found.to_pylist()
            case _:
                head, *rows = sheet_of(done.path)
                header = [cell.value for cell in head]
        assert len(rows) == done.rows == (1 if table == "rejects" else 0)
        assert sorted(header) == sorted(str(row["column_name"]) for row in wanted)


def test_a_condition_sees_types_and_other_tables(house: House, tmp_path: Path) -> None:
    where = "\"at\" >= '2026-11-20 08:30:00+00' AND price >= 0 AND num IN (SELECT num FROM orders_history) -- so"
    assert export(house.config, "target", tmp_path / "x.csv", where=where).rows == 3
    assert export(house.config, "orders_target", tmp_path / "y.csv", where="num = 'new' OR fragile").rows == 4


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("numb = '1'", "numb = '1': Binder Error: Referenced column \"numb\" not found"),
        ("num =", "syntax error"),
        ("CAST(num AS INTEGER) = 1", "Could not convert string"),
        ("  ", "there is no SQL"),
        ("count(*) > 1", "aggregates"),
        ("true); DROP TABLE orders_target; --", "true"),
        ("true); DROP TABLE orders_target; SELECT (1", "more than one statement"),
        ("true) ORDER BY (num", "more than one expression"),
        ("true) LIMIT (1", "more than one expression"),
        ("true) UNION ALL SELECT * FROM orders_target WHERE (true", "more than one expression"),
        ("true) GROUP BY ALL HAVING (true", "more than one expression"),
        ("num = $1", "more than one expression"),
        ("EXISTS (FROM read_csv('/etc/passwd'))", r"read_csv\(\) cannot be read"),
        ("EXISTS (WITH x AS (DELETE FROM orders_target RETURNING *) FROM x)", "read"),
        ("num = '\udcff'", "not UTF-8"),
    ],
)
def test_a_condition_is_one_expression_that_reads(house: House, where: str, problem: str, tmp_path: Path) -> None:
    before = of_table(house, "target")
    with pytest.raises(QueryError, match=r"--where(?s:.*)" + problem) as caught:
        export(house.config, "target", tmp_path / "x.csv", where=where)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []
    assert of_table(house, "target") == before


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_stays(house: House, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        export(house.config, "target", path)
    assert path.read_text() == "mine"
    link = tmp_path / "link.csv"
    link.symlink_to("nowhere")
    with pytest.raises(UsageError, match="there already"):
        export(house.config, "target", link)
    assert export(house.config, "target", path, force=True).rows == 6
    assert len(read_csv(path)) == 7


def test_who_may_read_a_file_that_is_replaced_stays_so(house: House, tmp_path: Path) -> None:
    path = export(house.config, "target", tmp_path / "x.csv").path
    path.chmod(0o600)
    export(house.config, "target", path, force=True)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("ending", FORMATS)
def test_names_that_sql_and_globs_take_amiss(house: House, ending: str, tmp_path: Path) -> None:
    folder = tmp_path / "it's *[a] ;--"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    for name in (
        folder / f"a'b*{ending}",
        tmp_path / "link" / f"..{ending}",
        folder / ".." / f"{os.fsdecode(bytes([255]))}{ending}",
    ):
        assert export(house.config, "target", name).rows == 6
        assert name.stat().st_size > 0


def test_a_file_that_comes_meanwhile_stays(house: House, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with pytest.raises(UsageError, match="there already"):
        export(house.config, "target", path, probe=lambda _: path.exists() or path.write_text("mine"))
    assert [file.name for file in tmp_path.iterdir()] == ["x.csv"]
    assert path.read_text() == "mine"


def test_where_nothing_can_be_written(house: House, tmp_path: Path) -> None:
    config = house.config
    for path, problem in (
        (tmp_path / "x.txt", "has no format"),
        (tmp_path / "x", "has no format"),
        (tmp_path / "none" / "x.csv", "there is no folder"),
        (config.source / "x.csv", "is in the source folder"),
        (config.archive / "x.csv", "is in the archive"),
        (house.table_path("target") / "x.parquet", "is in the (?:warehouse|table)"),
    ):
        with pytest.raises(UsageError, match=problem):
            export(config, "target", path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        export(config, "target", tmp_path / "folder.csv", force=True)
    unnamed = tmp_path / os.fsdecode(b"x\xff")
    unnamed.mkdir()
    with pytest.raises(UsageError, match="is not UTF-8"):
        export(config, "target", unnamed / "x.csv")
    with pytest.raises(UsageError, match="there is no table 'orders'"):
        export(config, "orders", tmp_path / "x.csv")


@pytest.mark.parametrize("ending", FORMATS)
def test_a_disk_that_is_full(house: House, ending: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    code = (
        "import resource, signal, sys; from pathlib import Path; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from ordertrail.config import parse_config; from ordertrail.look.export import export\n"
        "from ordertrail.errors import StorageError\n"
        "config = parse_config(Path(sys.argv[1]).read_text(), base=Path(sys.argv[2]), environ={})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "try: export(config, 'history', Path(sys.argv[3]))\n"
        "except StorageError as error: print(error)\n"
    )
    assert resource
    done = python(code, house, tmp_path, f"x{ending}")
    assert done.stdout.startswith(("cannot write", "the query ended: ")), done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["config.toml"]


def python(code: str, house: House, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words(code, house, folder, name), capture_output=True, text=True, check=False)


def words(code: str, house: House, folder: Path, name: str) -> list[str]:
    root = house.config.source.parent
    config = folder / "config.toml"
    head = '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\n'
    config.write_text(f"{head}max_reject_share = 0.9\n{CONTRACT}")
    return [sys.executable, "-c", code, str(config), str(root), str(folder / name)]


KILLED = """
import os, signal, sys
from pathlib import Path
from ordertrail.config import parse_config
from ordertrail.look.export import export
config = parse_config(Path(sys.argv[1]).read_text(), base=Path(sys.argv[2]), environ={})
def probe(effect):
    if effect == "export.written":
        os.kill(os.getpid(), signal.SIGKILL)
export(config, "target", Path(sys.argv[3]), probe=probe, where=WHERE, force=True)
"""


@pytest.mark.parametrize("ending", FORMATS)
def test_a_kill_before_the_name_is_given(house: House, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{ending}"
    path.write_text("old")
    done = python(KILLED.replace("WHERE", "None"), house, tmp_path, path.name)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert path.read_text() == "old"
    [left] = tmp_path.glob(".ordertrail-export-*")
    os.utime(left, (0, 0))
    export(house.config, "target", path, force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.toml", path.name], "the next export clears up"


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_kill_while_rows_are_written(house: House, ending: str, tmp_path: Path) -> None:
    # The file is open, and a row takes for ever.
    code = KILLED.replace("WHERE", repr("sleep_ms(1000000) IS NULL"))
    path = tmp_path / f"x{ending}"
    with subprocess.Popen(words(code, house, tmp_path, path.name)) as process:
        reached(lambda: process.poll() is not None or bool(list(tmp_path.glob(f".ordertrail-export-*/part{ending}"))))
        assert process.poll() is None
        process.kill()
    assert not path.exists()


def reached(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


# --- limits of a sheet -----------------------------------------------------------------------------------------------


def test_more_rows_than_a_sheet_holds(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spreadsheet.MAX_ROWS == 2**20 - 1
    monkeypatch.setattr(spreadsheet, "MAX_ROWS", 6)
    assert export(house.config, "target", tmp_path / "x.xlsx").rows == 6
    monkeypatch.setattr(spreadsheet, "MAX_ROWS", 5)
    with pytest.raises(UsageError, match="more than the 5 rows") as caught:
        export(house.config, "target", tmp_path / "y.xlsx")
    assert ".csv or .parquet" in caught.value.hint
    assert export(house.config, "target", tmp_path / "y.xlsx", where="num <> 'new'").rows == 5


def test_a_text_that_no_cell_holds(tmp_path: Path) -> None:
    house = open_house(tmp_path / "house", CONTRACT)
    fits, too_long = "x" * 32_767, "😀" * 16_384
    house.drop("a.csv", f"{HEADER}a,2026-11-20,1,,,,,,{fits}\nb,2026-11-20,1,,,,,,{too_long}\n")
    house.run()
    done = export(house.config, "target", tmp_path / "x.xlsx", where="num = 'a'")
    assert [row[8].value for row in sheet_of(done.path)][1] == fits
    with pytest.raises(UsageError, match=r"note has 32,768 characters in row \d; a cell of Excel holds 32,767"):
        export(house.config, "target", tmp_path / "y.xlsx")
    assert not (tmp_path / "y.xlsx").exists()


def test_a_sheet_needs_its_library(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        export(house.config, "target", tmp_path / "x.xlsx")
    assert "pip install 'ordertrail[excel]'" in caught.value.hint
    assert export(house.config, "target", tmp_path / "x.csv").rows == 6


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def call(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    words("", house, house.config.source.parent, "")
    monkeypatch.chdir(tmp_path)
    config = house.config.source.parent / "config.toml"
    return lambda *given: CliRunner().invoke(cli, ["export", *given, "--config", str(config)])


def test_the_command(call: Callable[..., Result]) -> None:
    result = call("target", "-o", "x.csv", "--where", "num = 'new'", "--json")
    size = Path("x.csv").stat().st_size
    assert json.loads(result.stdout) == {
        "table": "orders_target", "rows": 1, "batch": None, "path": "x.csv", "bytes": size
    }  # fmt: skip
    result = call("target", "-o", "x.csv", "--as-of", "batch 1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "x.csv is there already" in result.stderr
    result = call("target", "-o", "x.csv", "--as-of", "batch 1", "--force")
    assert result.stdout.startswith("5 rows of orders_target, as it was after batch 1, in x.csv, ")
    for wrong in (["--where", "nope"], ["--as-of", "batch 0"], ["--as-of", "soon"]):
        result = call("target", "-o", "y.csv", *wrong)
        assert result.exit_code == 2
        assert "what to do" in result.stderr
        assert "Traceback" not in result.stderr


def test_decimals_and_dates_stay_what_they_are_in_parquet(house: House, tmp_path: Path) -> None:
    [row] = pq.read_table(
        export(house.config, "target", tmp_path / "x.parquet", where="num = '1=1+1'").path
    ).to_pylist()
    assert row["price"] == Decimal("123456789012345678.25")
    assert row["day"] == date(1900, 1, 15)
    assert row["at"] == datetime(2026, 11, 20, 8, 0, 0, 500_000, UTC)
    assert row["weight"] == -1e300


@pytest.mark.parametrize("ending", FORMATS)
def test_a_table_that_is_damaged(ending: str, tmp_path: Path) -> None:
    house = open_house(tmp_path / "house", CONTRACT)
    house.drop("a.csv", f"{HEADER}a,2026-11-20,1,,,,,,\n")
    house.run()
    out = tmp_path / f"x{ending}"
    for file in house.table_path("target").glob("*.parquet"):
        file.unlink()
    with pytest.raises(StorageError, match=r"cannot read orders_target: its data file .* is gone") as caught:
        export(house.config, "target", out)
    assert "ordertrail rebuild" in caught.value.hint
    assert not out.exists()
    assert export(house.config, "history", out).rows == 1, "the others can be read"
