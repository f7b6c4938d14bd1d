"""`verify` on sound tables, and on tables damaged in every way that it promises to see."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from msgspec.structs import replace

from ordertrail.delta.vectors import write_vectors
from ordertrail.errors import TableError
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.verify import EXAMPLES, Check, VerifyReport, verify
from ordertrail.model import Column, Vendor
from tests.harness import House, copied, open_house

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
DAY_20 = "order_tracking_2026_11_20.csv"

READABLE = "the five tables can be read"
FILES = "every data file is there, with its size"
VECTORS = "every deletion vector is there and fits its file"
READERS = "another reader reads every row"
HASHES = "the rows of the history are as they were written"
SCHEMAS = "every data file is what its table and the contract say"
BATCHES = "the batches follow each other without a gap"
BALANCE = "every parsed row has one outcome"
HISTORY = "the history has every accepted row"
REJECTS = "the rejects have every rejected row"
KEYS = "each key stands once in the target"
FOLD = "the target is the fold of the history"
ARCHIVED = "the archived files are in their place"
ALL = [
    READABLE, FILES, VECTORS, SCHEMAS, READERS, BATCHES, BALANCE, HISTORY, HASHES, REJECTS, KEYS, FOLD, ARCHIVED,
]  # fmt: skip


def line(key: str, status: str = "IN_TRANSIT", time: str = "2026-11-20 08:00:00", address: str = "X") -> str:
    return f"O{key},{key},2026-11-19,,{status},{address},{time}\n"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Three batches with every outcome, an empty, a duplicate and a quarantined delivery. Only to read and copy."""
    house = open_house(tmp_path_factory.mktemp("sound"), "max_reject_share = 0.4\n")
    house.drop(DAY_20, HEADER + line("007") + line("007") + line("B") + line("C") + line("D", time="yesterday"))
    house.drop("empty.csv", "")
    house.run()
    later = line("007", "PICKED_UP", "2026-11-21 08:00:00") + line("007", "DELIVERED", "2026-11-21 09:00:00")
    stale = line("B", time="2026-11-19 01:00:00")
    house.drop("order_tracking_2026_11_21.csv", HEADER + later + stale + line("C"))
    house.drop("bad.csv", "what,is,this\n1,2,3\n")
    house.run()
    house.drop("order_tracking_2026_11_19.csv", (house.config.archive / archived(house, DAY_20)).read_bytes())
    house.run()
    return house


@pytest.fixture
def house(sound: House, tmp_path: Path) -> House:
    """The same, to damage."""
    return copied(sound, tmp_path / "house")


def archived(house: House, name: str) -> str:
    return str(house.delivery(name)["archived_to"])


def failed(report: VerifyReport) -> dict[str, Check]:
    return {check.name: check for check in report.checks if not check.ok}


def delta(house: House, table: str) -> DeltaTable:
    return DeltaTable(house.table_path(table))


# -- sound tables -----------------------------------------------------------------------------------------------


def test_sound_tables_pass_every_check_and_nothing_is_written(sound: House) -> None:
    root = sound.config.source.parent
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    told: list[str] = []
    report = verify(sound.config, told.append)
    assert failed(report) == {}
    assert report.ok
    assert [check.name for check in report.checks] == told == ALL
    assert all(check.detail and not check.hint for check in report.checks)
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert after == {**before, sound.config.warehouse: after[sound.config.warehouse]}  # DuckDB's spill folder


def test_without_tables_it_says_to_run_a_pass(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        verify(open_house(tmp_path).config)
    assert "run a pass first" in caught.value.hint


def test_tables_without_a_batch_are_sound(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.run()
    assert failed(verify(house.config)) == {}


def test_vendors_that_lack_a_column_fold_right(tmp_path: Path) -> None:
    vendors = (Vendor("acme", "a*.csv"), Vendor("blue", "b*.csv", absent=("address",)))
    house = open_house(tmp_path, vendors=vendors)
    house.drop("a.csv", HEADER + line("007", address="Elm"))
    house.run()
    newer = "O1,007,2026-11-19,,DELIVERED,2026-11-20 09:00:00\n"
    house.drop("b.csv", HEADER.replace("address,", "") + newer)
    house.run()
    assert [(row["status"], row["address"]) for row in house.rows("target")] == [("DELIVERED", "Elm")]
    assert failed(verify(house.config)) == {}


@pytest.mark.series
@pytest.mark.parametrize("point", ["stage.committed", "load.committed", "history.committed", "rejects.committed"])
def test_a_batch_under_way_is_a_note_and_no_fault(house: House, point: str) -> None:
    class Cut(Exception):
        pass

    def cut(at: str) -> None:
        if at == point:
            raise Cut

    house.drop("more.csv", HEADER + line("007", "RETURNED", "2026-11-20 09:30:00") + line("E"))
    with pytest.raises(Cut):
        house.run(cut)
    report = verify(house.config)
    assert failed(report) == {}
    details = {check.name: check.detail for check in report.checks}
    assert "batch 4 is staged and not finished" in details[BATCHES]
    assert ("batch 4 is under way" in details[READABLE]) == (point != "stage.committed")
    house.run()
    assert "batch 4" not in {check.name: check.detail for check in verify(house.config).checks}[BATCHES]


def test_a_foreign_change_that_leaves_the_rows_alone_is_fine(house: House) -> None:
    delta(house, "target").optimize.compact()
    assert failed(verify(house.config)) == {}


# -- damaged ones -----------------------------------------------------------------------------------------------


def only_file(house: House, table: str) -> Path:
    return next(path for path in house.table_path(table).glob("*.parquet") if path.name in names_of(house, table))


def names_of(house: House, table: str) -> set[str]:
    return {Path(uri).name for uri in delta(house, table).file_uris()}


def lose_a_file(house: House) -> None:
    only_file(house, "rejects").unlink()


def lose_a_target_file(house: House) -> None:
    house.table_path("target").joinpath(Path(delta(house, "target").file_uris()[0]).name).unlink()


def cut_a_file(house: House) -> None:
    newest = max(names_of(house, "target"))  # of the last batch: no vector marks its rows
    path = house.table_path("target") / newest
    path.write_bytes(path.read_bytes()[:-1])


def target_rows(house: House, where: str = "true") -> pa.Table:
    found = QueryBuilder().register("t", delta(house, "target")).execute(f"SELECT * FROM t WHERE {where}")
    return pa.table(found)


def vector(house: House) -> Path:
    """The file of the one deletion vector that the sound target has."""
    (path,) = house.table_path("target").rglob("deletion_vector_*.bin")
    return path


def lose_a_vector(house: House) -> None:
    vector(house).unlink()


def spoil_a_vector(house: House) -> None:
    path = vector(house)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)


def amend_the_log(house: House, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the `add` that carries the vector as it stands in the target's log."""
    entry = house.table_path("target") / "_delta_log" / f"{2:020d}.json"
    actions = [json.loads(text) for text in entry.read_text().splitlines()]
    (found,) = [action["add"] for action in actions if "deletionVector" in action.get("add", {})]
    change(found)
    entry.write_text("".join(json.dumps(action) + "\n" for action in actions))


def miscount_a_vector(house: House) -> None:
    amend_the_log(house, lambda add: add["deletionVector"].update(cardinality=2))


def miscount_the_rows(house: House) -> None:
    amend_the_log(house, lambda add: add.update(stats=json.dumps({"numRecords": 4})))


def mark_a_row_that_is_not_there(house: House) -> None:
    other = write_vectors(house.table_path("target"), [np.array([0, 3])])[0]
    amend_the_log(house, lambda add: add.update(deletionVector=other))


def double_a_key(house: House) -> None:
    found = target_rows(house, "tracking_num = '007'")
    write_deltalake(house.table_path("target"), found, mode="append")


def change_a_cell(house: House) -> None:
    delta(house, "target").update(updates={"status": "'LOST'"}, predicate="tracking_num = '007'")


def null_a_cell(house: House) -> None:
    delta(house, "target").update(updates={"address": "NULL"}, predicate="tracking_num = 'C'")


def rescue_a_cell(house: House) -> None:
    delta(house, "target").update(updates={"_rescued": "'{}'"}, predicate="tracking_num = 'C'")


def lose_a_key(house: House) -> None:
    delta(house, "target").delete("tracking_num = 'B'")


def invent_a_key(house: House) -> None:
    found = target_rows(house, "tracking_num = '007'")
    place = found.schema.get_field_index("tracking_num")
    other = found.set_column(place, found.schema.field(place), pa.array(["Z"], found.schema.field(place).type))
    write_deltalake(house.table_path("target"), other, mode="append")


def lose_history(house: House) -> None:
    delta(house, "history").delete("_outcome = 'stale'")


def change_history(house: House) -> None:
    delta(house, "history").update(updates={"_outcome": "'updated'"}, predicate="_outcome = 'stale'")


def lose_the_winner(house: House) -> None:
    delta(house, "history").delete("_outcome = 'updated'")


def lose_rejects(house: House) -> None:
    delta(house, "rejects").delete("value = 'yesterday'")


def unbalance(house: House) -> None:
    delta(house, "deliveries").update(updates={"rows_parsed": "rows_parsed + 1"}, predicate="batch = 2")


def lose_a_delivery(house: House) -> None:
    delta(house, "deliveries").delete("batch = 3")


def lose_a_loaded_delivery(house: House) -> None:
    delta(house, "deliveries").delete(f"file_name = '{DAY_20}'")


def replace_the_target(house: House) -> None:
    found = target_rows(house)
    shutil.rmtree(house.table_path("target"))
    write_deltalake(house.table_path("target"), found)


def damage_the_log(house: House) -> None:
    (house.table_path("history") / "_delta_log" / f"{1:020d}.json").unlink()


def edit_history(house: House) -> None:
    """A cell of a row that was accepted; all counts stay what they were."""
    delta(house, "history").update(updates={"address": "'forged'"}, predicate="tracking_num = 'C'")


def lose_a_table(house: House) -> None:
    shutil.rmtree(house.table_path("rejects"))


@pytest.mark.series
@pytest.mark.parametrize(
    ("damage", "names", "says"),
    [
        (lose_a_file, {FILES, READERS, REJECTS}, "orders_rejects lacks its data file"),
        (cut_a_file, {FILES, READERS, KEYS, FOLD}, "bytes, not"),
        (lose_a_vector, {VECTORS, READERS, KEYS, FOLD}, "deletion_vector_"),
        (spoil_a_vector, {VECTORS, READERS, KEYS, FOLD}, "deletion_vector_"),
        (miscount_a_vector, {VECTORS, READERS, KEYS, FOLD}, "it marks 1 rows, not 2"),
        (miscount_the_rows, {VECTORS, READERS}, "has 3 rows, by the log 4"),
        (mark_a_row_that_is_not_there, {VECTORS, READERS, KEYS, FOLD}, "marks row 3 of"),
        (double_a_key, {KEYS}, "key 007 stands 2 times"),
        (change_a_cell, {FOLD}, 'key 007: status is "LOST", by the history "DELIVERED"'),
        (null_a_cell, {FOLD}, 'key C: address is NULL, by the history "X"'),
        (rescue_a_cell, {FOLD}, 'key C: _rescued is "{}", by the history NULL'),
        (lose_a_key, {FOLD}, "key B: it is missing from the target"),
        (invent_a_key, {FOLD}, "key Z: the history does not know it"),
        (lose_history, {HISTORY}, "0 stale rows in orders_history, 1 by orders_deliveries"),
        (change_history, {HISTORY}, "2 updated rows in orders_history, 1 by orders_deliveries"),
        (edit_history, {HASHES, FOLD}, "is not as it was written"),
        (lose_the_winner, {HISTORY, FOLD}, "0 updated rows in orders_history, 1 by orders_deliveries"),
        (lose_rejects, {REJECTS}, "0 rows in orders_rejects, 1 rejected by orders_deliveries"),
        (unbalance, {BALANCE}, "5 rows parsed, 4 rows with an outcome"),
        (lose_a_delivery, {BATCHES}, "no delivery of batch 3"),
        (lose_a_loaded_delivery, {HISTORY, REJECTS, FOLD}, "0 by orders_deliveries"),
        (replace_the_target, {BATCHES}, "belongs to another pipeline"),
        (damage_the_log, {READABLE}, "lacks version 1"),
        (lose_a_table, {READABLE}, "orders_rejects is not there"),
    ],
)
def test_damage_is_seen_named_and_comes_with_a_hint(
    house: House, damage: Callable[[House], None], names: set[str], says: str
) -> None:
    damage(house)
    report = verify(house.config)
    wrong = failed(report)
    assert not report.ok
    assert wrong.keys() == names
    assert any(says in check.detail for check in wrong.values()), [check.detail for check in wrong.values()]
    assert all(check.hint for check in wrong.values())


@pytest.mark.series
@pytest.mark.parametrize(
    "damage",
    [
        lose_a_target_file,
        cut_a_file,
        lose_a_vector,
        spoil_a_vector,
        miscount_a_vector,
        miscount_the_rows,
        mark_a_row_that_is_not_there,
        double_a_key,
        change_a_cell,
        lose_a_key,
        invent_a_key,
    ],
)
def test_a_damaged_target_is_cured_by_what_the_hint_says(house: House, damage: Callable[[House], None]) -> None:
    damage(house)
    wrong = failed(verify(house.config))
    assert any("ordertrail rebuild" in check.hint for check in wrong.values())
    rebuild(house.config)
    assert failed(verify(house.config)) == {}


def test_a_foreign_file_with_null_where_none_may_be_is_seen_as_its_readers_see_it(house: House) -> None:
    """Our own reader takes columns by name and type, and would not stumble."""
    path = only_file(house, "rejects")
    rows = pq.read_table(path)
    place = rows.schema.get_field_index("batch")
    pq.write_table(rows.set_column(place, "batch", pa.nulls(rows.num_rows, pa.int64())), path)
    entry = house.table_path("rejects") / "_delta_log" / f"{1:020d}.json"
    actions = [json.loads(text) for text in entry.read_text().splitlines()]
    for action in actions:
        if action.get("add", {}).get("path") == path.name:
            action["add"]["size"] = path.stat().st_size
    entry.write_text("".join(json.dumps(action) + "\n" for action in actions))
    assert "orders_rejects cannot be read by delta-rs" in failed(verify(house.config))[READERS].detail


def test_the_archived_bytes_are_compared_when_asked_for(house: House) -> None:
    path = house.config.archive / archived(house, "order_tracking_2026_11_21.csv")
    path.write_bytes(path.read_bytes().replace(b"DELIVERED", b"IN_TRANSI"))
    assert failed(verify(house.config)) == {}
    (check,) = failed(verify(house.config, archive=True)).values()
    assert check.name == ARCHIVED
    assert "has SHA-256" in check.detail
    assert path.name in check.detail


def test_every_type_keeps_its_hash(tmp_path: Path) -> None:
    """The hash that the row kernel gives is that of the stored cells, read again."""
    kinds = ("bigint", "int", "double", "decimal(12,3)", "boolean", "date", "timestamp", "string")
    house = open_house(tmp_path)
    columns = (*house.config.contract.columns, *(Column(f"c{i}", kind) for i, kind in enumerate(kinds)))
    house.config = replace(house.config, contract=replace(house.config.contract, columns=columns))
    header = HEADER.rstrip() + "," + ",".join(f"c{i}" for i in range(len(kinds))) + ",extra\n"
    row = line("A").rstrip() + ",-7,12,-0.0,12.340,yes,2026-01-02,2026-01-02T03:04:05.123456+01:00,\u00e4 ,x\n"
    house.drop(DAY_20, header + row + line("B").rstrip() + ",,,1e300,,,,,,\n")
    house.run()
    assert len(house.rows("history")) == 2
    assert failed(verify(house.config)) == {}


def test_a_target_with_a_damaged_log_is_moved_away_and_rebuilt(house: House) -> None:
    target = house.table_path("target")
    (target / "_delta_log" / f"{1:020d}.json").unlink()
    (check,) = failed(verify(house.config)).values()
    assert check.name == READABLE
    assert check.hint.startswith(f"move the folder {target} away, then run ordertrail rebuild")
    shutil.rmtree(target)
    (check,) = failed(verify(house.config)).values()
    assert check.hint.startswith("ordertrail rebuild")
    rebuild(house.config)
    assert failed(verify(house.config)) == {}


def test_a_log_that_rebuild_cannot_cure_is_not_said_to_be(house: House) -> None:
    """The history's comes out of the archive again, and nothing stands in for the deliveries."""
    damage_the_log(house)
    (check,) = failed(verify(house.config)).values()
    assert "ordertrail rebuild --history-from-archive" in check.hint
    (house.table_path("deliveries") / "_delta_log" / f"{1:020d}.json").unlink()
    (check,) = failed(verify(house.config)).values()
    assert "rebuild" not in check.hint


def test_examples_are_few_and_the_rest_is_counted(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.drop("a.csv", HEADER + "".join(line(f"K{i:02}") for i in range(EXAMPLES + 5)))
    house.run()
    delta(house, "target").delete()
    check = failed(verify(house.config))[FOLD]
    assert check.detail.count("missing") == EXAMPLES
    assert check.detail.endswith("; and 5 more")


def test_the_hint_names_the_last_good_version_of_the_target(house: House) -> None:
    good = house.version("target")
    change_a_cell(house)
    hint = failed(verify(house.config))[FOLD].hint
    assert hint.endswith(f"the last is {good}")
    delta(house, "target").restore(good)
    assert failed(verify(house.config)) == {}


def test_a_changed_contract_is_named_as_a_cause(house: House) -> None:
    contract = replace(house.config.contract, status_rank=("DELIVERED", "IN_TRANSIT"))
    house.config = replace(house.config, contract=contract)
    change_a_cell(house)
    assert "profile of default was changed" in failed(verify(house.config))[FOLD].hint


def test_archived_files_that_are_gone_are_told_and_no_fault(house: House) -> None:
    (house.config.archive / archived(house, DAY_20)).unlink()
    report = verify(house.config)
    assert report.ok
    assert f"1 are not there (any more): {archived(house, DAY_20)}" in report.checks[-1].detail


def test_an_archived_file_that_changed_is_wrong_and_told_from_one_that_is_gone(house: House) -> None:
    changed = house.config.archive / archived(house, DAY_20)
    with changed.open("ab") as file:
        file.write(b"more\n")
    found = failed(verify(house.config))
    assert set(found) == {ARCHIVED}
    size = changed.stat().st_size
    assert f"{archived(house, DAY_20)} has {size} bytes, {size - 5} were loaded" in found[ARCHIVED].detail


def test_archived_files_that_no_delivery_knows_are_listed(house: House) -> None:
    stranger = Path(archived(house, DAY_20)).with_name("000001-00009-0123abcd-order_tracking_2026_11_20.csv")
    (house.config.archive / stranger).write_bytes(b"x")
    later = stranger.with_name("000099-00000-0123abcd-under_way.csv")
    (house.config.archive / later).write_bytes(b"x")
    report = verify(house.config)
    assert report.ok
    assert f"1 that no delivery knows: {stranger}" in report.checks[-1].detail


def test_an_archived_file_with_an_odd_name_is_found(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.drop("odd\\ na\nme.csv", HEADER + line("007"))
    house.drop("back\\slash.csv", HEADER + line("B"))
    house.run()
    assert {row["archived_to"] for row in house.rows("deliveries")} == set(house.archived())
    assert verify(house.config).checks[-1].detail == "2 files"
    assert house.version("deliveries") == 2  # the done mark, and the mark that the file is archived
