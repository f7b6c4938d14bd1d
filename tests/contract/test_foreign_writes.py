"""P9: others may write to the target. What they wrote counts like any row; what we must not touch is refused."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from ordertrail.errors import BalanceError, ForeignChangeError, TableError, UnsupportedTableError
from ordertrail.model import Outcome
from tests.change_feed import check_feed
from tests.contract.spared import CONSTRAINTS, RULES, RULES_BY_NAME
from tests.feeds import TIMES, cells, csv_bytes, dated
from tests.harness import House, bag, check_readers, columns_of, open_house

EARLY, LATE = TIMES[0], TIMES[3]
LATE_AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


@pytest.fixture
def loaded(begin_with: Callable[[Callable[[House], None]], House]) -> House:
    """A and B, of the 20th, in the target; from here on somebody else writes to it."""
    house = begin_with(load_two)
    house.foreign = True
    return house


def load_two(house: House) -> None:
    house.drop(dated(20), csv_bytes([cells("A", EARLY, address="vendor"), cells("B", EARLY, address="vendor")]))
    house.run()


def target_of(house: House) -> DeltaTable:
    """The target as delta-rs sees it."""
    return DeltaTable(house.table_path("target"))


def rows_as_arrow(house: House, where: str) -> pa.Table:
    """Some rows of the target, with its own types."""
    query = QueryBuilder().register("t", target_of(house))
    return pa.table(query.execute(f"SELECT * FROM t WHERE {where}"))


def with_values(rows: pa.Table, **values: object) -> pa.Table:
    """The rows with some columns set to one value."""
    for name, value in values.items():
        field = rows.schema.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, pa.array([value] * len(rows), field.type))
    return rows


def addresses(house: House) -> dict[str, object]:
    """Address by tracking number; fails when a key is there twice."""
    return {str(key): row["address"] for (key,), row in house.target().items()}


def send(house: House, name: str, address: str, time: str = EARLY, key: str = "A") -> dict[Outcome, int]:
    """A vendor's file of one row; the outcomes of the pass."""
    house.drop(name, csv_bytes([cells(key, time, address=address)]))
    rows = house.run().rows
    return {outcome: count for outcome in Outcome if (count := getattr(rows, outcome))}


# --- rows of others ------------------------------------------------------------------------------------------------


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_key_that_a_foreign_append_doubled_is_there_once_after_its_next_update(loaded: House) -> None:
    """All rows of the key go, the newer one stays: here the vendor's."""
    write_deltalake(target_of(loaded), with_values(rows_as_arrow(loaded, "true"), address="foreign"), mode="append")
    assert len(loaded.rows("target")) == 4
    assert send(loaded, dated(21), "news", LATE) == {Outcome.UPDATED: 1}
    found = [row["address"] for row in loaded.rows("target") if row["tracking_num"] == "A"]
    assert found == ["news"]


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_newer_foreign_row_of_a_doubled_key_stays(loaded: House) -> None:
    """A late vendor's row is stale beside it, and still tidies the key up."""
    newer = with_values(rows_as_arrow(loaded, "tracking_num = 'A'"), address="foreign", last_update_timestamp=LATE_AT)
    write_deltalake(target_of(loaded), newer, mode="append")
    assert send(loaded, dated(21), "late", TIMES[1]) == {Outcome.STALE: 1}
    assert addresses(loaded) == {"A": "foreign", "B": "vendor"}


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_equal_copies_of_a_doubled_key_are_tidied_up_by_an_unchanged_row(loaded: House) -> None:
    """Even a row that says nothing new leaves one row of its key."""
    write_deltalake(target_of(loaded), rows_as_arrow(loaded, "true"), mode="append")
    loaded.drop(dated(21), csv_bytes([cells(key, EARLY, address="vendor") for key in "AB"]))
    assert loaded.run().rows.unchanged == 2
    assert addresses(loaded) == {"A": "vendor", "B": "vendor"}


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_vendors_row_sent_again_wins_over_a_foreign_update(loaded: House) -> None:
    """The stored `_row_hash` is not trusted: content is compared as it is, and the later file wins by the order."""
    target_of(loaded).update(updates={"address": "'foreign'"}, predicate="tracking_num = 'A'")
    assert addresses(loaded)["A"] == "foreign"
    assert send(loaded, dated(21), "vendor") == {Outcome.UPDATED: 1}
    assert addresses(loaded) == {"A": "vendor", "B": "vendor"}


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_foreign_update_is_not_undone_by_an_older_row(loaded: House) -> None:
    """A correction by hand that also moved the event time holds against what is older."""
    target_of(loaded).update(
        new_values={"address": "foreign", "last_update_timestamp": LATE_AT}, predicate="tracking_num = 'A'"
    )
    assert send(loaded, dated(21), "older", TIMES[1]) == {Outcome.STALE: 1}
    assert send(loaded, dated(22), "newer", "2026-11-21 08:00:01") == {Outcome.UPDATED: 1}
    assert addresses(loaded) == {"A": "newer", "B": "vendor"}


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_row_that_somebody_deleted_is_inserted_when_the_vendor_sends_it_again(loaded: House) -> None:
    """A foreign DELETE takes the row out; a later delivery brings the shipment back."""
    target_of(loaded).delete("tracking_num = 'A'")
    assert send(loaded, dated(21), "again", LATE) == {Outcome.INSERTED: 1}
    assert addresses(loaded) == {"A": "again", "B": "vendor"}


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_rows_that_a_foreign_merge_brought_follow_the_order(loaded: House) -> None:
    """Rows of no delivery of ours: newer they stay, at an equal time any vendor's row wins."""
    source = with_values(
        rows_as_arrow(loaded, "tracking_num = 'A'"),
        tracking_num="C", address="foreign", _delivery_id=None, _file_row=None, _vendor=None,
    )  # fmt: skip
    merge = target_of(loaded).merge(source, "t.tracking_num = s.tracking_num", source_alias="s", target_alias="t")
    merge.when_matched_update_all().when_not_matched_insert_all().execute()
    assert addresses(loaded)["C"] == "foreign"
    assert send(loaded, dated(21), "early", "2026-11-20 07:00:00", "C") == {Outcome.STALE: 1}
    assert send(loaded, dated(22), "tie", EARLY, "C") == {Outcome.UPDATED: 1}
    assert addresses(loaded) == {"A": "vendor", "B": "vendor", "C": "tie"}


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_a_compacted_and_vacuumed_target_goes_on(loaded: House) -> None:
    """OPTIMIZE and VACUUM by others change no row and stop no pass."""
    for day, key in ((21, "C"), (22, "D")):
        send(loaded, dated(day), "vendor", LATE, key)
    before = bag(loaded.rows("target"))
    target_of(loaded).optimize.compact()
    target_of(loaded).vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
    assert bag(loaded.rows("target")) == before
    assert send(loaded, dated(22, "_b"), "news", LATE) == {Outcome.UPDATED: 1}
    assert addresses(loaded) == {"A": "news", "B": "vendor", "C": "vendor", "D": "vendor"}


@pytest.mark.spared("executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_foreign_write_in_the_middle_of_a_load_is_not_lost(loaded: House) -> None:
    """The version is taken: the load is computed again from the new snapshot, and both writes stand."""
    done: list[str] = []

    def probe(name: str) -> None:
        if name == "load.files" and not done:
            done.append(name)
            target_of(loaded).update(updates={"address": "'foreign'"}, predicate="tracking_num = 'B'")

    loaded.drop(dated(21), csv_bytes([cells("A", LATE, address="news")]))
    report = loaded.run(probe)
    assert (done, report.rows.updated, report.warnings) == (["load.files"], 1, ())
    assert addresses(loaded) == {"A": "news", "B": "foreign"}


# --- what a person must hear of ------------------------------------------------------------------------------------


def restore(house: House) -> None:
    target_of(house).restore(1)


def overwrite(house: House) -> None:
    write_deltalake(target_of(house), rows_as_arrow(house, "tracking_num = 'B'"), mode="overwrite")


@pytest.mark.spared("executors", "named", covered_by="spark")
@pytest.mark.parametrize("reset", [restore, overwrite])
def test_a_foreign_reset_of_the_target_is_noticed(loaded: House, reset: Callable[[House], None]) -> None:
    """RESTORE and INSERT OVERWRITE take rows away that the history has: exit code 3, and the pass goes on."""
    send(loaded, dated(21), "news", LATE)
    reset(loaded)
    report = loaded.run()
    assert report.needs_person
    operation = "RESTORE" if reset is restore else "WRITE"
    assert any(f"version 3 of orders_target is a foreign {operation}" in warning for warning in report.warnings)
    outcome = Outcome.UPDATED if reset is restore else Outcome.INSERTED
    assert send(loaded, dated(22), "newest", "2026-11-22 08:00:00") == {outcome: 1}
    assert addresses(loaded) == {"A": "newest", "B": "vendor"}
    again = loaded.run().warnings
    assert any(f"version 3 of orders_target is a foreign {operation}" in warning for warning in again)


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_ordinary_foreign_writes_need_nobody(loaded: House) -> None:
    """UPDATE, DELETE, append and OPTIMIZE are everyday work."""
    target_of(loaded).update(updates={"address": "'x'"}, predicate="tracking_num = 'B'")
    target_of(loaded).delete("tracking_num = 'B'")
    target_of(loaded).optimize.compact()
    report = loaded.run()
    assert (report.warnings, report.needs_person) == ((), False)


@pytest.mark.spared("executors", "named", covered_by="spark")
@pytest.mark.parametrize("name", ["tracking_num", "every column"])
def test_another_table_under_the_targets_name_is_refused(tmp_path: Path, engine: str, name: str) -> None:
    """A table that is not ours is neither adopted nor changed, also when its columns fit."""
    house = open_house(tmp_path, engine=engine)
    columns = [name] if name == "tracking_num" else [c.name for c in columns_of(house, "target")]
    write_deltalake(house.table_path("target"), pa.table({column: ["A"] for column in columns}))
    house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    with pytest.raises(TableError, match="orders_target") as error:
        house.run()
    assert isinstance(error.value, ForeignChangeError)
    assert (DeltaTable(house.table_path("target")).version(), house.left()) == (0, [dated(20)])


# --- features that we do not write to ------------------------------------------------------------------------------


def rewrite_metadata(house: House, change: Callable[[dict[str, Any]], None], **protocol: Any) -> None:
    """Commit the target's metadata with a change, as an engine of others would."""
    log = house.table_path("target") / "_delta_log"
    actions = [json.loads(line) for line in (log / f"{0:020d}.json").read_text().splitlines()]
    metadata = next(action["metaData"] for action in actions if "metaData" in action)
    change(metadata)
    commit: list[dict[str, Any]] = [{"commitInfo": {"operation": "SET"}}, {"metaData": metadata}]
    if protocol:
        commit.append({"protocol": protocol})
    entry = log / f"{house.version() + 1:020d}.json"
    entry.write_text("".join(json.dumps(action) + "\n" for action in commit))


def change_feed(house: House) -> None:
    target_of(house).alter.set_table_properties({"delta.enableChangeDataFeed": "true"})


def append_only(house: House) -> None:
    target_of(house).alter.set_table_properties({"delta.appendOnly": "true"})


def constraint(house: House) -> None:
    target_of(house).alter.add_constraint({"positive": "_revision > 0"})


def partitions(house: House) -> None:
    rewrite_metadata(house, lambda metadata: metadata.update(partitionColumns=["status"]))


def column_mapping(house: House) -> None:
    rewrite_metadata(
        house,
        lambda metadata: metadata["configuration"].update({"delta.columnMapping.mode": "name"}),
        minReaderVersion=2,
        minWriterVersion=5,
    )


def txn_retention(house: House) -> None:
    rewrite_metadata(
        house,
        lambda metadata: metadata["configuration"].update({"delta.setTransactionRetentionDuration": "interval 1 days"}),
    )


def unheard_of(house: House) -> None:
    rewrite_metadata(
        house,
        lambda metadata: None,
        minReaderVersion=3,
        minWriterVersion=7,
        readerFeatures=["unheardOf"],
        writerFeatures=["unheardOf"],
    )


BOOKS_ALONE = pytest.mark.spared("spark", covered_by="vectors")
"""Of further features: the same code opens the tables of a folder for every engine. Spark gets one of them."""

FEATURES: dict[Callable[[House], None], str] = {
    append_only: "appendOnly",
    constraint: "onstraint",
    partitions: "partitions by status",
    column_mapping: "column mapping",
    txn_retention: "delta.setTransactionRetentionDuration",
    unheard_of: "unheardOf",
}


@pytest.mark.spared("executors", "named", covered_by="vectors")
def test_a_change_data_feed_that_somebody_switched_on_is_kept_right(loaded: House) -> None:
    """Whatever the config says; a note says that they differ, and it is not for a person."""
    change_feed(loaded)
    since = loaded.version()
    loaded.drop(dated(21), csv_bytes([cells("A", LATE), cells("N", LATE)]))
    report = loaded.run()
    assert [note for note in report.notes if "change_feed" in note]
    assert not report.needs_person
    found = check_feed(loaded, since=since)
    kinds = sorted(kind for kind, _ in found[loaded.version()])
    assert kinds in (["delete", "insert", "insert"], ["insert", "update_postimage", "update_preimage"])


@pytest.mark.spared("executors", covered_by="vectors")
@pytest.mark.spared("named", covered_by=CONSTRAINTS)
@pytest.mark.parametrize(
    "add",
    [constraint, *(pytest.param(add, marks=BOOKS_ALONE) for add in FEATURES if add is not constraint)],
    ids=lambda add: add.__name__,
)
def test_a_table_with_a_feature_we_do_not_write_to_is_refused(loaded: House, add: Callable[[House], None]) -> None:
    """The error names table and feature; not one byte of the table changes and the file waits."""
    add(loaded)
    before = files_of(loaded.table_path("target"))
    loaded.drop(dated(21), csv_bytes([cells("A", LATE)]))
    with pytest.raises(UnsupportedTableError, match=FEATURES[add]) as error:
        loaded.run()
    assert "orders_target" in str(error.value)
    assert (files_of(loaded.table_path("target")), loaded.left()) == (before, [dated(21)])
    (loaded.table_path("target") / "_delta_log" / f"{loaded_version(loaded):020d}.json").unlink()
    loaded.run()
    assert (loaded.left(), len(loaded.target())) == ([], 2)


def loaded_version(house: House) -> int:
    """The newest version in the target's log, readable or not."""
    log = house.table_path("target") / "_delta_log"
    return max(int(path.stem) for path in log.glob("*.json"))


def files_of(root: Path) -> dict[str, bytes]:
    """Everything in a table's folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --- deletion vectors of others ------------------------------------------------------------------------------------


def inline_vector(rows: list[int]) -> dict[str, Any]:
    """A deletion vector as PROTOCOL.md, "Deletion Vector Format", stores it inside the log.

    One portable 32-bit Roaring bitmap with one array container, in Z85.
    """
    container = struct.pack(f"<IIHHI{len(rows)}H", 12346, 1, 0, len(rows) - 1, 16, *rows)
    data = struct.pack("<IQI", 1681511377, 1, 0) + container
    padded = data + b"\0" * (-len(data) % 4)
    return {
        "storageType": "i",
        "pathOrInlineDv": z85(padded),
        "sizeInBytes": len(data),
        "cardinality": len(rows),
    }


def z85(data: bytes) -> str:
    """ZeroMQ's base 85 (RFC 32/Z85); Python's own alphabet is another one."""
    python = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    zeromq = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    return base64.b85encode(data).translate(bytes.maketrans(python, zeromq)).decode()


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_rows_behind_a_foreign_deletion_vector_stay_deleted(loaded: House) -> None:
    """A DELETE by Spark marks rows instead of rewriting files: they are not read, and a rewrite repeats the vector."""
    for key in "CD":
        send(loaded, dated(20, key), "vendor", EARLY, key)
    target_of(loaded).optimize.compact()
    version = loaded.version()
    add = next(action["add"] for action in loaded.actions("target", version) if "add" in action)
    order = [row["tracking_num"] for row in rows_as_arrow(loaded, "true").to_pylist()]
    assert len(order) == 4
    vector = inline_vector(sorted(order.index(key) for key in "BD"))
    remove = {name: add[name] for name in ("path", "partitionValues", "size", "dataChange")}
    marked = {**add, "dataChange": True, "deletionVector": vector}
    rewrite_metadata(
        loaded,
        lambda metadata: metadata["configuration"].update({"delta.enableDeletionVectors": "true"}),
        minReaderVersion=3,
        minWriterVersion=7,
        readerFeatures=["deletionVectors"],
        writerFeatures=["deletionVectors", "invariants"],
    )
    entry = loaded.table_path("target") / "_delta_log" / f"{version + 2:020d}.json"
    entry.write_text(json.dumps({"remove": {**remove, "deletionTimestamp": 1}}) + "\n" + json.dumps({"add": marked}))
    assert set(addresses(loaded)) == {"A", "C"}
    check_readers(loaded)
    assert send(loaded, dated(21), "news", LATE) == {Outcome.UPDATED: 1}
    assert addresses(loaded) == {"A": "news", "C": "vendor"}
    (removed,) = (a["remove"] for a in loaded.actions("target", loaded.version()) if "remove" in a)
    assert (removed["path"], removed["deletionVector"]) == (add["path"], vector)
    assert send(loaded, dated(22), "back", LATE, "B") == {Outcome.INSERTED: 1}
    assert set(addresses(loaded)) == {"A", "B", "C"}


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_a_batch_that_does_not_balance_is_not_committed(house: House) -> None:
    """P3: somebody took a row out of the stage; the load says so before it writes anything, however often it is run."""
    house.drop(dated(20), csv_bytes([cells("A", EARLY), cells("B", EARLY)]))
    house.stage()
    DeltaTable(house.table_path("stage")).delete("tracking_num = 'B'")
    for _ in range(2):
        with pytest.raises(BalanceError, match="does not add up"):
            house.load()
        assert [house.version(table) for table in ("target", "history", "deliveries")] == [0, 0, 0]
    DeltaTable(house.table_path("stage")).restore(1)
    house.load()
    assert set(house.target()) == {("A",), ("B",)}
