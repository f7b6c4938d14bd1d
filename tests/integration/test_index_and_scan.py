"""The key index finds what a scan of the target finds: after our batches, others' writes, and damage to the index."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from msgspec.structs import replace

from ordertrail.delta.actions import AddFile
from ordertrail.delta.table import scan_sql
from ordertrail.engines.embedded import load as embedded_load
from ordertrail.engines.local import find
from ordertrail.engines.local import session as local_session
from ordertrail.engines.local.find import find_by_scan, find_rows, open_index, uncovered
from ordertrail.engines.local.relations import BATCH_DELIVERIES, REPEATED, STAGED_ROWS, StagedBatch
from ordertrail.engines.local.session import Session, tables_of
from ordertrail.keep.rebuild import rebuild
from ordertrail.keyindex.index import KeyIndex
from ordertrail.model import no_probe
from ordertrail.parse.database import connect
from ordertrail.rules.outcomes import several
from ordertrail.rules.placing import content_sql, contract_key_sql
from ordertrail.rules.tables import target_columns
from tests.feeds import cells, csv_bytes, dated
from tests.harness import House, check_books, open_house

KEYS = [f"{number:04d}" for number in range(1, 121)]
SURE = "k, pos, ev, ch, rv, ins"
TIED = "k, pos, rk, fr, delivery_id, bn"


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = open_house(tmp_path)
    for day in (20, 21, 22):
        send(house, dated(day), random.Random(day).sample(KEYS, 60), day)
    return house


def send(house: House, name: str, keys: list[str], day: int) -> None:
    rows = [cells(key, f"2026-11-{day} {int(key) % 24:02d}:00:00", address=f"{day}") for key in keys]
    house.drop(name, csv_bytes(rows))
    house.run()


@contextmanager
def session_of(house: House) -> Iterator[Session]:
    """A pass's session, before anything is staged."""
    config = house.config
    tables = tables_of(config)
    with (
        closing(connect(1, 256, config.warehouse / "spill")) as con,
        ThreadPoolExecutor(1) as pool,
        closing(open_index(config, tables.target.snapshot())) as index,
    ):
        yield Session(config, con, pool, tables, "", no_probe, index)


def stage(session: Session) -> StagedBatch:
    """A staged row for each key of the target, which ties and is equal, or ties and differs, or neither."""
    contract = session.config.contract
    scan = scan_sql(session.con, session.tables.target.snapshot(), target_columns(contract))
    session.run(
        f"CREATE OR REPLACE TEMP TABLE staged_rows AS SELECT {session.key_hash_sql('key')} AS k, key, "
        "ev + CASE n % 3 WHEN 0 THEN 7 ELSE 0 END AS ev, ch + CASE n % 3 WHEN 1 THEN 1 ELSE 0 END AS ch FROM ("
        f"SELECT {contract_key_sql(contract)} AS key, epoch_us(last_update_timestamp) AS ev, {content_sql(contract)} "
        f"AS ch, row_number() OVER () AS n FROM {scan} UNION ALL SELECT 'new ' || n, 0, 0, n FROM range(9) r(n)) "
        "WHERE key IS NOT NULL"
    )
    keys = "(SELECT k, key FROM staged_rows)"
    repeated = REPEATED.make(session.run, several("staged_rows"))
    return StagedBatch(BATCH_DELIVERIES, STAGED_ROWS, keys, repeated)


def rows(session: Session, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
    return session.con.execute(f"SELECT {columns} FROM target_before WHERE {where} ORDER BY ALL").fetchall()


def check_both_ways(house: House) -> int:
    """Compare; gives how many rows there are."""
    with session_of(house) as session:
        staged = stage(session)
        target = session.tables.target.snapshot()
        find_rows(session, target, staged)
        assert session.index is not None
        assert uncovered(session.index, target) == []
        tied = (
            "k IN (SELECT t.k FROM target_before t JOIN staged_rows s ON t.k = s.k AND t.ev = s.ev AND t.ch <> s.ch) "
            "OR k IN (SELECT k FROM target_before GROUP BY k HAVING count(*) > 1)"
        )
        found = rows(session, SURE), rows(session, TIED, tied)
        find_by_scan(session, target, staged)
        assert found == (rows(session, SURE), rows(session, TIED, tied))
        assert len(found[1]) > 0
        return len(found[0])


def target_of(house: House) -> DeltaTable:
    return DeltaTable(house.table_path("target"))


def as_arrow(house: House, where: str) -> pa.Table:
    query = QueryBuilder().register("t", target_of(house))
    return pa.table(query.execute(f"SELECT * FROM t WHERE {where}"))


def doubled(house: House) -> None:
    write_deltalake(target_of(house), as_arrow(house, "tracking_num < '0050'"), mode="append")


def deleted(house: House) -> None:
    target_of(house).delete("tracking_num < '0050'")


def updated(house: House) -> None:
    target_of(house).update(updates={"address": "'foreign'"}, predicate="tracking_num < '0050'")


def compacted(house: House) -> None:
    target_of(house).optimize.compact()


def restored(house: House) -> None:
    target_of(house).restore(2)


def without_index(house: House) -> None:
    shutil.rmtree(house.config.warehouse / ".ordertrail-index")


def with_half_a_run(house: House) -> None:
    runs = sorted(house.config.warehouse.glob(".ordertrail-index/**/*.run"))
    assert len(runs) > 1
    for run in runs[::2]:
        run.write_bytes(run.read_bytes()[: run.stat().st_size // 2])


def test_after_our_own_batches(house: House) -> None:
    assert check_both_ways(house) == len(house.rows("target"))


@pytest.mark.series
@pytest.mark.parametrize(
    "write", [doubled, deleted, updated, compacted, restored, without_index, with_half_a_run], ids=lambda w: w.__name__
)
def test_after_what_others_do(house: House, write: Callable[[House], None]) -> None:
    house.foreign = True
    write(house)
    assert check_both_ways(house) == len(house.rows("target"))
    send(house, dated(23), KEYS[:80], 23)
    assert check_both_ways(house) == len(house.target())


def test_a_pass_indexes_its_own_file_before_it_commits(house: House) -> None:
    """So that the next pass opens no data file; and a kill in between leaves an entry that counts for nothing."""
    with session_of(house) as session:
        assert session.index is not None
        assert uncovered(session.index, session.tables.target.snapshot()) == []
    seen: list[str] = []
    for day in (23, 24):  # two deliveries of one batch: their rows have the same numbers
        house.drop(dated(day), csv_bytes([cells(f"00{day}", f"2026-11-{day} 08:00:00")]))
    house.run(seen.append)
    assert seen.index("load.indexed") < seen.index("load.committed")
    with session_of(house) as session:
        assert session.index is not None
        assert uncovered(session.index, session.tables.target.snapshot()) == []


def test_an_index_of_another_contract_is_not_believed(house: House) -> None:
    """A content hash depends on the columns: with another contract the same index covers nothing."""
    target = tables_of(house.config).target.snapshot()
    contract = replace(house.config.contract, columns=house.config.contract.columns[::-1])
    with closing(open_index(replace(house.config, contract=contract), target)) as index:
        assert uncovered(index, target) == list(target.files.values())


def test_rows_that_others_left_without_a_key_stop_nothing(house: House) -> None:
    """No vendor's row can have that key; the file that holds one is indexed like any other."""
    house.foreign = True
    schema = as_arrow(house, "false").schema
    # Delta lets nobody write NULL into our key: that the column forbids it has to go first.
    log = house.table_path("target") / "_delta_log"
    metadata = next(a["metaData"] for a in house.actions("target", 0) if "metaData" in a)
    metadata["schemaString"] = metadata["schemaString"].replace('"nullable": false', '"nullable": true')
    (log / f"{house.version() + 1:020d}.json").write_text(json.dumps({"metaData": metadata}) + "\n")
    nothing = pa.table({field.name: pa.nulls(2, field.type) for field in schema})
    write_deltalake(target_of(house), nothing, mode="append")
    rows = len(house.rows("target"))
    assert check_both_ways(house) == rows - 2
    send(house, dated(23), KEYS[:80], 23)
    assert len([row for row in house.rows("target") if row["tracking_num"] is None]) == 2


def test_without_room_for_the_index_the_scan_answers(house: House) -> None:
    """A full disk, or a folder that cannot be written to, costs time and nothing else."""
    without_index(house)
    (house.config.warehouse / ".ordertrail-index").write_text("in the way")
    send(house, dated(23), KEYS[:80], 23)
    assert {row["address"] for row in house.rows("target") if row["tracking_num"] < KEYS[80]} == {"23"}


def test_a_pass_reads_each_vector_of_the_target_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    before = local_session.marked_rows

    def counted(root: Path, file: AddFile) -> Any:
        if file.deletion_vector is not None:
            read.append(file.deletion_vector)
        return before(root, file)

    monkeypatch.setattr(local_session, "marked_rows", counted)
    send(house, dated(23), KEYS[:60], 23)
    assert len(read) > 0
    assert len(read) == len(set(read))


# -- the first load ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are shared as large ones are, and no key is in the sample of those that are compared first."""
    monkeypatch.setattr(embedded_load, "SHARE_ROWS", 1)
    monkeypatch.setattr(embedded_load, "SAMPLE", 1 << 62)


def test_a_first_load_leaves_its_rows_indexed(tmp_path: Path, shared: None) -> None:
    house = open_house(tmp_path)
    house.drop("other.csv", csv_bytes([cells(key, "2026-11-19 08:00:00", address="other") for key in KEYS[60:]]))
    send(house, dated(20), KEYS[:60], 20)
    assert len(set(house.table_path("target").glob("*.parquet"))) == 1
    with session_of(house) as session:
        assert session.index is not None
        assert uncovered(session.index, session.tables.target.snapshot()) == []
    with mock.patch.object(find, "_cover_chunk", side_effect=AssertionError("the rows were indexed already")):
        send(house, dated(21), KEYS[::2], 21)
    assert check_both_ways(house) == len(KEYS)
    check_books(house)


def test_a_first_load_with_a_key_twice_is_weighed(tmp_path: Path, shared: None) -> None:
    house = open_house(tmp_path)
    send(house, dated(20), [*KEYS, KEYS[7]], 20)
    assert len(house.target()) == len(KEYS)
    assert house.delivery(dated(20))["rows_duplicate"] == 1
    assert len(list(house.table_path("target").glob("*.parquet"))) == 1, "the shared file is left"
    check_books(house)


@pytest.mark.parametrize("repeated", [False, True])
def test_without_an_index_the_keys_are_compared(tmp_path: Path, shared: None, repeated: bool) -> None:
    house = open_house(tmp_path)
    with mock.patch.object(KeyIndex, "writer", side_effect=OSError("the disk is full")):
        send(house, dated(20), [*KEYS, *KEYS[:1]] if repeated else KEYS, 20)
    assert len(house.target()) == len(KEYS)
    assert house.delivery(dated(20))["rows_duplicate"] == repeated
    assert check_both_ways(house) == len(KEYS)


@pytest.mark.parametrize("mode", ["upsert", "append"])
def test_a_rebuild_leaves_its_rows_indexed(tmp_path: Path, mode: str) -> None:
    house = open_house(tmp_path, f'mode = "{mode}"\n')
    send(house, dated(20), KEYS, 20)
    shutil.rmtree(house.table_path("target"))
    rebuild(house.config)
    with session_of(house) as session:
        assert session.index is not None
        assert uncovered(session.index, session.tables.target.snapshot()) == []
