"""A target that keeps every row, as a user meets it: what the commands say, refuse and repair."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from msgspec.structs import replace

from ordertrail.cli import cli
from ordertrail.config import Config
from ordertrail.engines.spark.adopt import adopt
from ordertrail.errors import ConfigError, OrdertrailError, UsageError
from ordertrail.keep.maintain import maintain
from ordertrail.keep.rebuild import Differences, rebuild
from ordertrail.look.export import export
from ordertrail.look.status import Reader
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.mend.migration import migrate
from ordertrail.mend.preview import preview
from ordertrail.model import Column, Correction, CorrectionKind
from tests.feeds import cells, csv_bytes, dated
from tests.harness import House, check_books, check_readers, open_house

APPEND = 'mode = "append"\n'
NOON, LATE = "2026-11-20 12:00:00", "2026-11-20 13:00:00"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files: A with two rows, B with one; and A again, once as it was and once later."""
    folder = tmp_path_factory.mktemp("filled") / "house"
    made = open_house(folder, APPEND)
    made.drop(dated(20), csv_bytes([cells("A", NOON), cells("A", LATE, "DELIVERED"), cells("B", NOON)]))
    made.run()
    made.drop(dated(21), csv_bytes([cells("A", NOON), cells("A", "2026-11-20 14:00:00", "RETURNED")]))
    made.run()
    return folder


@pytest.fixture
def house(filled: Path, tmp_path: Path) -> House:
    """A copy of that pipeline."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    return open_house(tmp_path, APPEND)


def wrong(config: Config) -> list[str]:
    return [check.name for check in verify(config).checks if not check.ok]


def told(house: House, *words: str) -> Any:
    """What a command prints as JSON."""
    root = house.config.warehouse.parent
    (root / "ordertrail.toml").write_text(
        f'[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\n{APPEND}'
    )
    result = CliRunner().invoke(cli, [*words, "--config", str(root / "ordertrail.toml"), "--json"])
    assert result.exit_code in (0, 3), result.output
    return json.loads(result.stdout)


def lines_of(house: House) -> list[str]:
    """What `ordertrail changes` prints."""
    told(house, "status")  # writes the config
    config = house.config.warehouse.parent / "ordertrail.toml"
    result = CliRunner().invoke(cli, ["changes", "--from-batch", "1", "--config", str(config)])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def standing(house: House) -> pa.Table:
    found = QueryBuilder().register("t", DeltaTable(house.table_path("target"))).execute("SELECT * FROM t")
    return pa.table(found)


def test_nobody_can_change_the_target_and_every_reader_reads_it(house: House) -> None:
    table = DeltaTable(house.table_path("target"))
    assert table.metadata().configuration["delta.appendOnly"] == "true"
    assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)
    with pytest.raises(Exception, match=r"(?i)append"):
        table.delete("tracking_num = 'A'")
    for version in range(1, house.version() + 1):
        assert not any("remove" in action or "cdc" in action for action in house.actions("target", version))
    check_readers(house)
    check_books(house)


def test_the_latest_state_is_a_view_of_every_command(house: House, tmp_path: Path) -> None:
    with Reader(house.config) as reader:
        sql = "SELECT tracking_num, status, _revision FROM orders_current ORDER BY ALL"
        assert reader.query(sql).rows == (("A", "RETURNED", 3), ("B", "IN_TRANSIT", 1))
        at = "SELECT status FROM orders_current AT (BATCH => 1) WHERE tracking_num = 'A'"
        assert reader.query(at).rows == (("DELIVERED",),)
        assert reader.query("SELECT count(*) FROM orders_target AT (BATCH => 1)").rows == ((3,),)
        assert reader.query("SELECT count(*) FROM orders_target", as_of=1).rows == ((3,),)
        found = reader.track("A")
        assert found.current is not None
        assert (found.current["status"], len(found.history)) == ("RETURNED", 4)
        assert [match.key for match in reader.track("a").matches] == ["A"]
        past = reader.track("A", as_of=1).current
        assert past is not None
        assert past["status"] == "DELIVERED"
    for table, rows in (("current", 2), ("orders_current", 2), ("target", 4)):
        done = export(house.config, table, tmp_path / f"{table}.csv")
        assert (done.rows, done.table) == (rows, "orders_current" if rows == 2 else "orders_target")
        with done.path.open() as lines:
            assert len([*csv.reader(lines)]) == 1 + rows
    assert export(house.config, "current", tmp_path / "then.csv", as_of=1).rows == 2
    assert export(house.config, "target", tmp_path / "events.csv", as_of=1).rows == 3
    assert told(house, "query", "SELECT count(*) AS n FROM orders_current")["rows"] == [{"n": 2}]
    assert told(house, "status") is not None
    assert told(house, "health")["items"] == []
    assert told(house, "doctor") is not None


def test_a_plan_says_what_would_be_appended(house: House, tmp_path: Path) -> None:
    house.drop(dated(22), csv_bytes([cells("A", NOON), cells("C", NOON)]))
    file = tmp_path / "source" / dated(22)
    rows = told(house, "plan", str(file))["rows"]
    assert (rows["inserted"], rows["duplicate"], rows["updated"]) == (1, 1, 0)
    assert house.version() == 2


def test_what_a_correction_says(house: House) -> None:
    one = str(house.delivery(dated(20))["delivery_id"])
    wanted = Wanted(Correction(CorrectionKind.UNDO, (one,), "a test", "ops"))
    planned = preview(house.config, wanted)
    assert [(change.key, change.change) for change in planned.changes] == [({"tracking_num": "A"}, "appended")]
    root = house.config.warehouse.parent
    told(house, "status")  # writes the config
    ran = CliRunner().invoke(
        cli, ["undo", one, "--why", "wrong file", "--yes", "--config", str(root / "ordertrail.toml")]
    )
    assert "2 shipments touched: rows of 1 appended, no row taken out of the target" in " ".join(ran.output.split())
    assert {key: row["status"] for key, row in house.target().items()} == {("A",): "RETURNED"}
    assert wrong(house.config) == []
    with Reader(house.config) as reader:
        taken_back = [row["_taken_back"] is not None for row in reader.track("B").history]
        assert taken_back == [True]


def test_the_mode_of_a_pipeline_is_changed_by_a_rebuild_alone(house: House) -> None:
    house.turn(mode="upsert")
    for refused in (house.run, lambda: rebuild(house.config), lambda: migrate(house.config, apply=True)):
        with pytest.raises(OrdertrailError, match='made for mode = "append"') as caught:
            refused()
        assert isinstance(caught.value, ConfigError)
        assert "rebuild" in caught.value.hint
    assert wrong(house.config) == ["every data file is what its table and the contract say"]
    shutil.move(house.table_path("target"), house.config.warehouse.parent / "aside")
    assert rebuild(house.config).rows == 2
    assert wrong(house.config) == []
    house.drop(dated(22), csv_bytes([cells("A", "2026-11-22 12:00:00")]))
    assert house.run().rows.updated == 1
    house.turn(mode="append")
    with pytest.raises(ConfigError, match='made for mode = "upsert"'):
        house.run()
    shutil.rmtree(house.table_path("target"))
    assert rebuild(house.config).rows == 5
    assert wrong(house.config) == []
    check_readers(house)


def test_a_rebuild_appends_what_is_missing_and_tells_what_stands_too_much(house: House) -> None:
    theirs = standing(house).slice(0, 1)
    foreign = theirs.set_column(theirs.schema.get_field_index("status"), "status", pa.array(["STOLEN"], pa.string()))
    DeltaTable(house.table_path("target")).restore(1)
    write_deltalake(DeltaTable(house.table_path("target")), foreign, mode="append")
    assert "the target has every accepted row" in wrong(house.config)
    assert rebuild(house.config, dry_run=True).differences == Differences(1, 1, 0, 0)
    report = rebuild(house.config)
    assert (report.written, report.files) == (1, 1)
    assert "1 rows of the target are not in the history, and stay" in report.warnings[0]
    assert house.rows("target") != []
    assert sum(row["status"] == "RETURNED" for row in house.rows("target")) == 1
    assert rebuild(house.config).written == 0
    assert rebuild(house.config, from_archive=True).written == 0
    assert {row["_outcome"] for row in house.rows("history")} == {"inserted", "duplicate"}


def test_a_damaged_target_is_made_anew(house: House) -> None:
    next(house.table_path("target").glob("b*.parquet")).unlink()
    with pytest.raises(OrdertrailError, match="none can be taken out") as caught:
        rebuild(house.config)
    assert "move the folder" in caught.value.hint
    shutil.rmtree(house.table_path("target"))
    assert rebuild(house.config).rows == 4
    assert wrong(house.config) == []


def test_verify_finds_a_row_that_stands_twice(house: House) -> None:
    write_deltalake(DeltaTable(house.table_path("target")), standing(house).slice(0, 1), mode="append")
    assert wrong(house.config) == ["each row stands once in the target"]
    rows = standing(house).slice(0, 1)
    other = rows.set_column(rows.schema.get_field_index("_file_row"), "_file_row", pa.array([77], pa.int64()))
    write_deltalake(DeltaTable(house.table_path("target")), other, mode="append")
    assert wrong(house.config) == ["each row stands once in the target", "the target has every accepted row"]


def test_small_files_are_merged_without_a_change_of_rows(house: House) -> None:
    for day in (23, 24):
        house.drop(dated(day), csv_bytes([cells("D", f"2026-11-{day} 12:00:00")]))
        house.run()
    before = standing(house).num_rows
    house.turn(maintenance=replace(house.config.maintenance, max_small_files=1))
    assert maintain(house.config) is not None
    assert len(DeltaTable(house.table_path("target")).file_uris()) < 4
    (optimize,) = [a for a in house.actions("target", house.version()) if "commitInfo" in a]
    assert optimize["commitInfo"]["operation"] == "OPTIMIZE"
    assert all(
        not body.get("dataChange", False) for a in house.actions("target", house.version()) for body in a.values()
    )
    assert standing(house).num_rows == before
    house.drop(dated(22), csv_bytes([cells("A", NOON), cells("C", NOON)]))
    assert (house.run().rows.inserted, wrong(house.config)) == (1, [])


def test_a_column_is_added_and_no_row_is_rewritten(house: House) -> None:
    contract = house.config.contract
    house.turn(contract=replace(contract, columns=(*contract.columns, Column("depot", "string"))))
    lines = csv_bytes([cells("A", NOON)]).splitlines()
    house.drop(dated(22), b"\n".join([lines[0] + b",depot", lines[1] + b",D1"]))
    assert house.run().rows.inserted == 1
    assert wrong(house.config) == []
    retyped = tuple(replace(one, type="string") if one.type == "date" else one for one in house.config.contract.columns)
    house.turn(contract=replace(house.config.contract, columns=retyped))
    with pytest.raises(UsageError, match="append only"):
        migrate(house.config, apply=True)
    assert migrate(house.config).problems != ()
    house.turn(contract=replace(contract, columns=(*contract.columns, Column("depot", "string"))))
    assert house.run().batch is None


def test_other_ranks_change_the_latest_state_and_no_row(house: House) -> None:
    ranks = ("RETURNED", "DELIVERED")
    house.turn(contract=replace(house.config.contract, status_rank=ranks))
    version, rows = house.version("history"), house.rows("target")
    assert migrate(house.config, apply=True).applied
    assert house.rows("target") == rows
    assert not any("remove" in action for action in house.actions("history", version + 1))
    house.drop(
        dated(22),
        csv_bytes(
            [cells("A", "2026-11-20 14:00:00", "DELIVERED")],
        ),
    )
    house.run()
    assert house.target()["A",]["status"] == "DELIVERED"
    assert wrong(house.config) == []


def test_what_has_one_row_a_key_is_not_taken_over(house: House) -> None:
    with pytest.raises(UsageError, match="keeps all rows") as caught:
        adopt(replace(house.config, engine="spark"))
    assert 'mode = "upsert"' in caught.value.hint


def test_changes_are_those_of_the_latest_state(house: House) -> None:
    one = str(house.delivery(dated(21))["delivery_id"])
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.UNDO, (one,), "a test", "ops")))
    said = [json.loads(line) for line in lines_of(house)]
    found = [
        (line["batch"], line["change"], line["key"], line["after"] and line["after"]["status"]) for line in said[:-1]
    ]
    a, b = {"tracking_num": "A"}, {"tracking_num": "B"}
    assert found == [
        (1, "insert", a, "DELIVERED"),
        (1, "insert", b, "IN_TRANSIT"),
        (2, "update", a, "RETURNED"),
        (3, "update", a, "DELIVERED"),
    ]
    assert said[-1]["next_batch"] == 4


@pytest.mark.parametrize("again", [False, True])
def test_a_large_first_load_shares_its_files_while_no_row_comes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Whether a key comes twice does not matter here."""
    monkeypatch.setattr("ordertrail.engines.embedded.load.SHARE_ROWS", 1)
    house = open_house(tmp_path, APPEND)
    house.drop(dated(20), csv_bytes([cells("A", NOON), cells("A", NOON if again else LATE), cells("B", NOON)]))
    rows = house.run().rows
    assert (rows.inserted, rows.duplicate) == ((2, 1) if again else (3, 0))
    assert bool([*house.table_path("target").glob("*-rows-*.parquet")]) is not again
    house.drop(dated(21), csv_bytes([cells("A", NOON), cells("C", NOON)]))
    assert (house.run().rows.inserted, wrong(house.config)) == (1, [])
    check_books(house)


def test_another_key_or_order_changes_the_latest_state_and_no_row(house: House) -> None:
    contract = house.config.contract
    columns = tuple(replace(one, required=True) if one.name == "order_num" else one for one in contract.columns)
    house.turn(contract=replace(contract, key=("order_num", "tracking_num"), columns=columns))
    version, rows = house.version(), house.rows("target")
    assert [step.kind for step in migrate(house.config, apply=True).steps if step.kind == "key"] == ["key"]
    assert house.rows("target") == rows
    assert not any({"add", "remove"} & action.keys() for action in house.actions("target", version + 1))
    house.drop(dated(22), csv_bytes([cells("A", NOON), cells("A", LATE, "LOST")]))
    assert (house.run().rows.inserted, house.run().batch) == (1, None)
    assert [key[1] for key in sorted(house.target())] == ["A", "B"]
    assert wrong(house.config) == []
