"""`unknown_columns = "add"` for those who look, mend and keep: every command knows the columns that files brought."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType
from msgspec.structs import replace

from ordertrail.begin import doctor
from ordertrail.cli import cli
from ordertrail.engines.choice import placed
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.drift import Drifted
from ordertrail.look.export import export
from ordertrail.look.plan import plan_files
from ordertrail.look.status import Reader, status_of
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.mend.migration import migrate
from ordertrail.mend.preview import preview
from ordertrail.model import Column, Correction, CorrectionKind
from tests.feeds import HEADER, TIMES, cells, csv_bytes, dated
from tests.harness import House, check_books, check_readers, open_house, without_fsync

EARLY, LATE = TIMES[0], TIMES[3]
ADD = '[contract]\nunknown_columns = "add"\n'


def wide_csv(extra: tuple[str, ...], *rows: tuple[str, ...]) -> str:
    return "".join(",".join(line) + "\n" for line in ((*HEADER, *extra), *rows))


def weights(house: House) -> dict[str, object]:
    with Reader(house.config) as reader:
        return {
            str(row["tracking_num"]): row["weight_kg"]
            for row in reader.query("SELECT tracking_num, weight_kg FROM orders_target").dicts()
        }


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Two batches, of which the second brought `weight_kg`."""
    house = open_house(tmp_path, ADD)
    with without_fsync():
        house.drop(dated(20), csv_bytes([cells("A", EARLY), cells("B", EARLY)]))
        house.run()
        house.drop(dated(21), wide_csv(("Weight (kg)",), (*cells("A", LATE), "1.5"), (*cells("C", LATE), "heavy")))
        house.run()
    return house


def act(house: House, kind: CorrectionKind, name: str) -> None:
    wanted = Wanted(Correction(kind, (str(house.delivery(name)["delivery_id"]),), "a test", "me"))
    assert preview(house.config, wanted).report.added_columns == ()
    correct(house.pipeline(), wanted)


def proven(house: House) -> None:
    """The tables agree with each other, and every reader reads them alike."""
    proof = verify(house.config)
    assert proof.ok, [check for check in proof.checks if not check.ok]
    assert rebuild(house.config, dry_run=True).differences.total == 0  # type: ignore[union-attr]
    wide = House(placed(house.config))
    assert "weight_kg" in wide.config.contract.names
    check_readers(wide)
    check_books(wide)


def test_plan_says_what_a_run_would_add_and_writes_nothing(tmp_path: Path, house: House) -> None:
    versions = {table: house.version(table) for table in ("stage", "target", "history", "deliveries")}
    waiting = house.drop(dated(22), wide_csv(("WEIGHT KG", "Colour", "_x"), (*cells("B", LATE), "3", "red", "")))
    planned = plan_files(house.config, [waiting])
    assert planned.added_columns == ("colour",)
    assert planned.rows.updated == 1
    assert "'_x': a name that begins with _" in planned.notes[-1]
    assert {table: house.version(table) for table in versions} == versions
    fresh = open_house(tmp_path / "fresh", ADD)
    assert plan_files(fresh.config, [waiting]).added_columns == ("weight_kg", "colour")
    assert house.run().added_columns == ("colour",)
    assert weights(house) == {"A": "1.5", "B": "3", "C": "heavy"}


def test_every_command_knows_the_column(tmp_path: Path, house: House) -> None:
    proven(house)
    assert not status_of(house.config).open_items
    with Reader(house.config) as reader:
        assert reader.track("A").current["weight_kg"] == "1.5"  # type: ignore[index]
        assert reader.query("SELECT weight_kg FROM orders_history WHERE weight_kg = 'heavy'").dicts()
    out = tmp_path / "target.csv"
    export(house.config, "orders_target", out)
    assert "weight_kg" in out.read_text().partition("\n")[0]
    assert not migrate(house.config).steps
    assert "weight_kg" in house.pipeline().target().to_arrow().column_names
    file = tmp_path / "ordertrail.toml"
    head = '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\n'
    file.write_text(head + ADD, encoding="utf-8")
    assert all(one.health != "fail" for one in doctor.examine(file).findings)


def test_corrections_and_a_history_from_the_archive(house: House) -> None:
    act(house, CorrectionKind.UNDO, dated(21))
    assert weights(house) == {"A": None, "B": None}
    act(house, CorrectionKind.REDO, dated(21))
    assert weights(house) == {"A": "1.5", "B": None, "C": "heavy"}
    act(house, CorrectionKind.REPLAY, dated(21))
    proven(house)
    before = sorted(map(str, House(placed(house.config)).rows("target")))
    shutil.rmtree(house.table_path("history"))
    rebuild(house.config, from_archive=True)
    proven(house)
    assert sorted(map(str, House(placed(house.config)).rows("target"))) == before
    house.drop(dated(22), wide_csv(("weight kg",), (*cells("B", LATE), "3")))
    assert house.run().added_columns == ()
    assert weights(house)["B"] == "3"


def test_a_replay_brings_columns(tmp_path: Path) -> None:
    """What an archived file brought before the config said "add" lies in `_rescued`."""
    house = open_house(tmp_path, "")
    house.drop(dated(21), wide_csv(("Weight (kg)",), (*cells("A", LATE), "1.5")))
    house.run()
    house.turn(contract=replace(house.config.contract, unknown_columns="add"))
    wanted = Wanted(Correction(CorrectionKind.REPLAY, (str(house.delivery(dated(21))["delivery_id"]),), "a test", "me"))
    assert preview(house.config, wanted).report.added_columns == ("weight_kg",)
    assert correct(house.pipeline(), wanted).added_columns == ("weight_kg",)
    assert weights(house) == {"A": "1.5"}
    proven(house)


def test_corrections_name_the_columns_that_they_add(tmp_path: Path) -> None:
    house = open_house(tmp_path, "")
    house.drop(dated(21), wide_csv(("Weight (kg)", "_x"), (*cells("A", LATE), "1.5", "2")))
    house.run()
    file = tmp_path / "ordertrail.toml"
    head = '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\n'
    file.write_text(head + ADD, encoding="utf-8")
    words = ["replay", str(house.delivery(dated(21))["delivery_id"]), "--why", "a test", "--config", str(file)]
    planned = CliRunner().invoke(cli, [*words, "--plan"]).stdout
    assert "columns that would be added to the tables: weight_kg\n" in planned
    done = CliRunner().invoke(cli, [*words, "--yes"]).stdout
    assert "columns added to the tables: weight_kg\n" in done
    for said in (planned, done):
        assert "'_x': a name that begins with _" in said


def test_what_was_rescued_before_is_filled_by_migrate(tmp_path: Path) -> None:
    house = open_house(tmp_path, "")
    house.drop(
        dated(20), wide_csv(("Weight (kg)", "note"), (*cells("A", EARLY), "1", "x"), (*cells("B", EARLY), "2", ""))
    )
    house.run()
    house.turn(contract=replace(house.config.contract, unknown_columns="add"))
    house.drop(dated(21), wide_csv(("WEIGHT-KG",), (*cells("A", LATE), "1.5")))
    assert house.run().added_columns == ("weight_kg",)
    assert weights(house) == {"A": "1.5", "B": None}
    (step,) = migrate(house.config).steps
    assert (step.kind, step.column, step.rows) == ("fill", "weight_kg", 2)
    assert migrate(house.config, apply=True).batch == 3
    assert weights(house) == {"A": "1.5", "B": "2"}
    assert House(placed(house.config)).config.contract.columns[-1].added == "WEIGHT-KG", "it is still an added one"
    proven(house)


def test_a_history_from_the_archive_has_the_cells_where_they_were(tmp_path: Path) -> None:
    """A file that came before the column keeps it in `_rescued`, also when the config reads as it did then."""
    house = open_house(tmp_path, "")
    house.drop(dated(20), wide_csv(("Weight (kg)",), (*cells("A", EARLY), "1"), (*cells("B", EARLY), "2")))
    house.run()
    contract = house.config.contract
    house.turn(contract=replace(contract, unknown_columns="add"))
    house.drop(dated(21), wide_csv(("Weight (kg)",), (*cells("A", LATE), "1.5")))
    house.run()
    house.turn(contract=contract)
    before = sorted(map(str, House(placed(house.config)).rows("target")))
    (damaged,) = (path for path in house.table_path("history").glob("*.parquet") if "000001" in path.name)
    damaged.write_bytes(damaged.read_bytes()[:100])
    rebuild(house.config, from_archive=True)
    assert sorted(map(str, House(placed(house.config)).rows("target"))) == before
    assert weights(house) == {"A": "1.5", "B": None}
    proven(house)


def drifted(house: House) -> dict[str, Drifted]:
    with Reader(house.config) as reader:
        return {one.column: one for one in reader.drift().columns}


def test_drift_says_how_to_take_it_over_and_migrate_does_it(house: House) -> None:
    house.drop(dated(22), wide_csv(("Weight (kg)",), *((*cells(f"N{i}", LATE), f"{i}.5") for i in range(20))))
    house.run()
    found = drifted(house)["weight_kg"]
    assert (found.state, found.vendors, found.first_file) == ("added", ("default",), dated(21))
    assert (found.guess, found.unfit) == ("double", 1)
    assert found.example is not None
    assert found.example.value == "heavy"
    assert found.share == pytest.approx(22 / 24)
    assert [(one.vendor, one.toml) for one in found.paste] == [
        (None, '[[contract.columns]]\nname = "weight_kg"\ntype = "double"'),
        ("default", 'absent = ["weight_kg"]\naliases = { weight_kg = ["Weight (kg)"] }'),
    ]
    contract = house.config.contract
    vendors = tuple(
        replace(one, absent=("weight_kg",), aliases=(("weight_kg", ("Weight (kg)",)),)) for one in house.config.vendors
    )
    house.turn(contract=replace(contract, columns=(*contract.columns, Column("weight_kg", "double"))), vendors=vendors)
    report = migrate(house.config)
    assert [(one.kind, one.column, one.rows, one.unfit) for one in report.steps] == [("type", "weight_kg", 22, 1)]
    assert [(one.file_name, one.value) for one in report.unfit] == [(dated(21), "heavy")]
    assert migrate(house.config, apply=True).applied
    assert weights(house)["A"] == 1.5
    assert {row["_rescued"] for row in house.rows("target")} == {None, '{"weight_kg":"heavy"}'}
    assert drifted(house)["weight_kg"].state == "rescued", "only what does not fit is left"
    proven(house)
    house.drop(dated(23), wide_csv(("Weight (kg)",), (*cells("B", LATE), "7")))
    house.run()
    assert weights(house)["B"] == 7


def test_it_is_renamed_as_any_column(house: House) -> None:
    contract = house.config.contract
    mass = Column("mass", "string", was=("weight_kg",))
    vendors = tuple(replace(one, absent=("mass",)) for one in house.config.vendors)
    house.turn(contract=replace(contract, columns=(*contract.columns, mass)), vendors=vendors)
    assert [(one.kind, one.before) for one in migrate(house.config, apply=True).steps] == [("rename", "weight_kg")]
    rows = {row["tracking_num"]: row["mass"] for row in house.rows("target")}
    assert rows == {"A": "1.5", "B": None, "C": "heavy"}
    assert verify(house.config).ok


def test_a_batch_that_is_staged_is_finished_with_its_columns(house: House) -> None:
    """Also when the config has gone back to "rescue", or has taken the column over, meanwhile."""
    house.drop(dated(22), wide_csv(("Colour",), (*cells("B", LATE), "red")))
    assert house.stage().added_columns == ("colour",)
    contract = house.config.contract
    house.turn(contract=replace(contract, unknown_columns="rescue"))
    house.load()
    with Reader(house.config) as reader:
        assert reader.query("SELECT colour FROM orders_target WHERE tracking_num = 'B'").dicts() == [{"colour": "red"}]
    house.turn(contract=contract)
    house.drop(dated(23), wide_csv(("Colour", "Size"), (*cells("B", "2026-11-23 08:00:00"), "blue", "4")))
    house.stage()
    taken = replace(contract, columns=(*contract.columns, Column("size", "int")))
    vendors = tuple(replace(one, absent=("size",)) for one in house.config.vendors)
    house.turn(contract=taken, vendors=vendors)
    assert migrate(house.config, apply=True).applied
    with Reader(house.config) as reader:
        assert reader.query("SELECT size, colour FROM orders_target WHERE size = 4").dicts() == [
            {"size": 4, "colour": "blue"}
        ]
    proven(house)


def test_three_hundred_columns_with_bad_names(tmp_path: Path) -> None:
    """A file full of columns loads: a hundred are added, the rest lies in `_rescued`; names like ours stay there."""
    house = open_house(tmp_path, ADD)
    bad = ("_row_hash", "_Batch", "状態", "Status!", "Twice!", "twice?", "file_index", "", "COLOUR", "colour")
    many = tuple(f"Column {i}" for i in range(300))
    house.drop(dated(20), wide_csv((*bad, *many), (*cells("A", EARLY), *map(str, range(310)))))
    report = house.run()
    assert len(report.added_columns) == 100
    assert report.rows.inserted == 1
    assert not report.needs_person
    wide = House(placed(house.config))
    (row,) = wide.rows("target")
    assert row["column_99"] == "109"
    rescued = str(row["_rescued"])
    assert all(f'"{name}"' in rescued for name in (*bad[:7], "COLOUR", "colour", "Column 100", "Column 299"))
    assert verify(house.config).ok
    again = house.drop(dated(21), wide_csv(("Twice",), (*cells("A", LATE), "x")))
    assert "max_added_columns = 100 is reached" in plan_files(house.config, [again]).notes[-1]


def test_only_files_that_are_read_bring_columns(tmp_path: Path) -> None:
    """Not one whose header is refused, one that is held for its date, or one that is a duplicate."""
    house = open_house(tmp_path, ADD.replace('"add"', '"rescue"'))
    same = wide_csv(("Once",), (*cells("A", EARLY), "1"))
    house.drop(dated(20), same)
    house.run()
    contract = house.config.contract
    house.drop(dated(21), "tracking_num,Wrong\nA,1\n")
    house.drop("order_tracking_2056_11_22.csv", wide_csv(("Far",), (*cells("B", EARLY), "1")))
    house.drop("garbage_2026_11_20.csv", b"\xff\xfe\x00\x01" * 50)
    house.turn(contract=replace(contract, unknown_columns="add"))
    report = house.run()
    assert report.added_columns == ()
    assert sorted(str(one.state) for one in report.deliveries) == ["held", "quarantined", "quarantined"]
    house.turn(contract=contract)
    house.drop(dated(20), same)
    assert [str(one.state) for one in house.run().deliveries] == ["duplicate"]


def test_somebody_elses_column_is_not_taken(house: House) -> None:
    DeltaTable(house.table_path("target")).alter.add_columns([Field("colour", PrimitiveType("integer"))])
    house.drop(dated(22), wide_csv(("Colour",), (*cells("B", LATE), "red")))
    report = house.run()
    assert report.added_columns == ()
    assert "the tables have a column of that name" in report.notes[0]
    assert [row["_rescued"] for row in house.rows("target") if row["tracking_num"] == "B"] == ['{"Colour":"red"}']


def test_an_old_file_that_comes_again_is_still_a_duplicate(house: House) -> None:
    house.drop(dated(20), csv_bytes([cells("A", EARLY), cells("B", EARLY)]))
    assert [str(one.state) for one in house.run().deliveries] == ["duplicate"]
