"""Our Delta tables: create, commit, and read what is live, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
import msgspec
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder

from ordertrail.delta.actions import AddFile, Json, ProtocolVersions, Txn
from ordertrail.delta.log import DeltaLog, LocalLogStore
from ordertrail.delta.table import CHECKPOINT_EVERY, Change, Table, duckdb_errors, scan_sql
from ordertrail.engines.local.schema import alter_table
from ordertrail.errors import CommitConflictError, QueryError, StorageError, TableError, UnsupportedTableError
from ordertrail.rules.tables import TableColumn
from tests.vectors import file_vector, inline_vector

COLUMNS = (
    TableColumn("n", "bigint", "", required=True),
    TableColumn("t", "string", ""),
    TableColumn("m", "decimal(5,2)", ""),
)
SCHEMA = pa.schema([("n", pa.int64()), ("t", pa.string()), ("m", pa.decimal128(5, 2))])


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'").fetchall()
    yield con
    con.close()


@pytest.fixture
def table(tmp_path: Path) -> Table:
    table = Table(tmp_path / "t", COLUMNS)
    table.create({"ordertrail.appId": "app"})
    return table


def data_file(table: Table, numbers: Sequence[int], schema: pa.Schema = SCHEMA) -> AddFile:
    path = table.new_path("b000001-rows")
    rows = [{"n": n, "t": f"it's {n}"} for n in numbers]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return table.added(path, len(numbers))


def commit(table: Table, add: Sequence[AddFile] = (), remove: Sequence[AddFile] = (), batch: int = 1) -> int:
    return table.commit(table.snapshot(), Change(Txn("app", batch, 1), "LOAD", add, remove))


def mark(table: Table, file: AddFile, vector: Mapping[str, Json]) -> None:
    """Give a live file a deletion vector, as another writer would."""
    base = table.snapshot()
    marked = msgspec.structs.replace(file, deletion_vector=json.dumps(vector))
    add = marked.add()
    assert isinstance(add["add"], dict)
    add["add"]["deletionVector"] = dict(vector)
    actions: list[dict[str, Json]] = [{"commitInfo": {"operation": "DELETE"}}]
    if not base.has_deletion_vectors:
        features: Json = ["deletionVectors"]
        actions.append(
            {
                "protocol": {
                    "minReaderVersion": 3,
                    "minWriterVersion": 7,
                    "readerFeatures": features,
                    "writerFeatures": features,
                }
            }
        )
    table.log.commit(base.version + 1, [*actions, base.files[file.path].remove(1), add])


def ours(con: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[TableColumn] = COLUMNS) -> list[int]:
    scan = scan_sql(con, table.snapshot(), columns)
    rows = con.execute(f"SELECT n, _pos FROM {scan}").fetchall()
    assert len({pos for _, pos in rows}) == len(rows)
    return sorted(n for n, _ in rows)


def by_delta_rs(table: Table) -> list[int]:
    result = QueryBuilder().register("t", DeltaTable(table.root)).execute("SELECT n FROM t")
    return sorted(pa.table(result).column("n").to_pylist())


def by_polars(table: Table) -> list[int]:
    return sorted(polars.scan_delta(str(table.root)).select("n").collect()["n"].to_list())


def all_readers(con: duckdb.DuckDBPyConnection, table: Table) -> list[int]:
    found = ours(con, table)
    assert by_delta_rs(table) == found
    assert by_polars(table) == found
    return found


# -- create and commit ----------------------------------------------------------------------------------------------


def test_create_is_a_plain_table_and_idempotent(table: Table) -> None:
    table.create({"other": "x"})
    snapshot = table.snapshot()
    assert snapshot.version == 0
    assert snapshot.protocol == ProtocolVersions(1, 2)
    assert snapshot.metadata.properties == {"ordertrail.appId": "app"}
    fields = json.loads(snapshot.metadata.schema_string)["fields"]
    assert [(f["name"], f["type"], f["nullable"]) for f in fields] == [
        ("n", "long", False),
        ("t", "string", True),
        ("m", "decimal(5,2)", True),
    ]
    assert DeltaTable(table.root).version() == 0


def test_somebody_else_creates_the_table_meanwhile(tmp_path: Path) -> None:
    class Late(LocalLogStore):
        def put_if_absent(self, path: Path, data: bytes) -> None:
            Table(tmp_path / "t", COLUMNS).create({"who": "theirs"})
            super().put_if_absent(path, data)

    table = Table(tmp_path / "t", COLUMNS, Late())
    table.create({"who": "ours"})
    assert table.snapshot().metadata.properties == {"who": "theirs"}


def test_a_change_is_one_commit_with_its_txn(table: Table, con: duckdb.DuckDBPyConnection) -> None:
    first = data_file(table, [1, 2])
    assert commit(table, [first]) == 1
    assert commit(table, [data_file(table, [2, 3])], [table.snapshot().files[first.path]], batch=2) == 2
    assert all_readers(con, table) == [2, 3]
    assert table.snapshot().txns == {"app": 2}
    assert DeltaTable(table.root).transaction_version("app") == 2
    assert ours_at(con, table, 1) == [1, 2]
    actions = table.log.read(2)
    assert "commitInfo" in actions[0]
    assert [next(iter(action)) for action in actions] == ["commitInfo", "txn", "remove", "add"]
    info = actions[0]["commitInfo"]
    assert isinstance(info, dict)
    said = {"files": 1, "rows": 2, "app": "app", "batch": 2, "actions": 4}
    assert json.loads(str(info["userMetadata"])) == {"ordertrail": said}


def ours_at(con: duckdb.DuckDBPyConnection, table: Table, version: int) -> list[int]:
    return sorted(
        n for (n,) in con.execute(f"SELECT n FROM {scan_sql(con, table.snapshot(version), COLUMNS)}").fetchall()
    )


def test_a_txn_only_commit(table: Table) -> None:
    assert commit(table, batch=5) == 1
    assert (table.version_of("app", 5), table.version_of("app", 4), table.version_of("other", 5)) == (1, None, None)


def test_a_commit_on_an_old_snapshot_is_a_conflict(table: Table) -> None:
    old = table.snapshot()
    commit(table)
    with pytest.raises(CommitConflictError):
        table.commit(old, Change(Txn("app", 2, 1), "LOAD"))
    assert table.snapshot().version == 1


def test_checkpoints_come_when_due_and_change_nothing(table: Table, con: duckdb.DuckDBPyConnection) -> None:
    for n in range(1, CHECKPOINT_EVERY + 2):
        table.checkpoint_if_due(commit(table, [data_file(table, [n])], batch=n))
    assert list(table.log.entries()[1]) == [CHECKPOINT_EVERY]
    before = table.snapshot()
    for version in range(CHECKPOINT_EVERY):
        (table.log.folder / f"{version:020d}.json").unlink()
    after = table.snapshot()
    assert (after.files, after.txns, after.metadata, after.protocol) == (
        before.files, before.txns, before.metadata, before.protocol,
    )  # fmt: skip
    assert all_readers(con, table) == list(range(1, CHECKPOINT_EVERY + 2))


@pytest.mark.parametrize(
    "column",
    [
        TableColumn("more", "string", "", required=True),
        TableColumn("_row_hash", "bigint", ""),  # every release made it: the table was replaced
        TableColumn("T", "string", ""),  # Delta tells columns apart without regard to case: it would be there twice
    ],
)
def test_a_table_without_a_column_that_cannot_be_added_is_refused(table: Table, column: TableColumn) -> None:
    wider = Table(table.root, (*COLUMNS, column))
    with pytest.raises(TableError, match=f"has no column {column.name}"):
        wider.snapshot()
    with pytest.raises(TableError, match=f"has no column {column.name}"):
        alter_table(wider, {})
    assert table.newest().version == 0


def test_a_column_that_a_table_lacks_is_null_before_it_is_added_and_after(
    table: Table, con: duckdb.DuckDBPyConnection
) -> None:
    commit(table, [data_file(table, [1, 2])])
    columns = (*COLUMNS, TableColumn("more", "decimal(7,3)", ""), TableColumn("line", "bigint", ""))
    wider = Table(table.root, columns)
    read = "SELECT n, more, line FROM {} ORDER BY n"
    assert con.execute(read.format(scan_sql(con, wider.snapshot(), columns))).fetchall() == [
        (1, None, None),
        (2, None, None),
    ]
    metadata = {"name": "orders", "description": "what the desk reads"}
    foreign = msgspec.structs.replace(table.snapshot().metadata, properties={"theirs": "1"}, **metadata)
    table.log.commit(2, [{"commitInfo": {"operation": "SET"}}, foreign.action()])
    alter_table(wider, {})
    alter_table(wider, {})
    after = wider.snapshot()
    assert (after.version, after.metadata.properties, after.metadata.columns) == (
        3, {"theirs": "1"}, ("n", "t", "m", "more", "line"),
    )  # fmt: skip
    assert {name: getattr(after.metadata, name) for name in metadata} == metadata
    schema = SCHEMA.append(pa.field("more", pa.decimal128(7, 3))).append(pa.field("line", pa.int64()))
    commit(wider, [data_file(wider, [3], schema)], batch=2)
    assert all_readers(con, wider) == [1, 2, 3]
    assert con.execute(read.format(scan_sql(con, wider.snapshot(), columns))).fetchall()[0] == (1, None, None)
    by_polars_more = polars.scan_delta(str(table.root)).select("more", "line").collect()
    assert by_polars_more.null_count().row(0) == (3, 3)


def test_columns_are_added_on_top_of_what_somebody_else_commits_meanwhile(table: Table) -> None:
    class Late(LocalLogStore):
        def put_if_absent(self, path: Path, data: bytes) -> None:
            if b"more" in data and path.name == f"{1:020d}.json":
                commit(table, [data_file(table, [1])])
            super().put_if_absent(path, data)

    wider = Table(table.root, (*COLUMNS, TableColumn("more", "string", "")), Late())
    alter_table(wider, {})
    assert wider.snapshot().metadata.columns[-1] == "more"
    assert (wider.snapshot().version, len(wider.snapshot().files)) == (2, 1)


def test_what_somebody_else_makes_of_a_property_meanwhile_is_not_written_over(table: Table) -> None:
    """Two passes, where no lock reaches: each would take the column of the other out of the contract."""

    class Late(LocalLogStore):
        def put_if_absent(self, path: Path, data: bytes) -> None:
            if b"more" in data and path.name == f"{1:020d}.json":
                alter_table(table, {"contract": "theirs"})
            super().put_if_absent(path, data)

    wider = Table(table.root, (*COLUMNS, TableColumn("more", "string", "")), Late())
    with pytest.raises(CommitConflictError, match="another contract meanwhile"):
        alter_table(wider, {"contract": "ours"})
    assert wider.newest().metadata.properties["contract"] == "theirs"
    assert "more" not in wider.newest().metadata.columns
    alter_table(wider, {"contract": "ours"})
    assert wider.newest().metadata.properties["contract"] == "ours"


def test_a_file_that_is_gone_cannot_be_added(table: Table) -> None:
    with pytest.raises(StorageError):
        table.added(table.root / "gone.parquet", 1)


# -- reading --------------------------------------------------------------------------------------------------------


def test_no_files_at_all(table: Table, con: duckdb.DuckDBPyConnection) -> None:
    assert all_readers(con, table) == []
    described = con.execute(f"DESCRIBE SELECT * FROM {scan_sql(con, table.snapshot(), COLUMNS)}").fetchall()
    assert [(name, kind) for name, kind, *_ in described] == [
        ("n", "BIGINT"),
        ("t", "VARCHAR"),
        ("m", "DECIMAL(5,2)"),
        ("_pos", "BIGINT"),
    ]


@pytest.mark.parametrize(
    "folder",
    [
        "it's",
        "two words",
        "100%",
        "%20",
        "a#b?c",
        'say "x"',
        "[a-z]",
        "star*",
        "{a,b}",
        "semi;colon",
        "é📦",
        "back\\slash",
    ],
)
def test_folders_with_odd_names(tmp_path: Path, con: duckdb.DuckDBPyConnection, folder: str) -> None:
    table = Table(tmp_path / folder / "t", COLUMNS)
    table.create({})
    commit(table, [data_file(table, [1]), data_file(table, [2])])
    assert ours(con, table) == [1, 2]


def test_file_names_in_the_log_are_url_encoded(table: Table, con: duckdb.DuckDBPyConnection) -> None:
    file = data_file(table, [7])
    (table.root / file.path).rename(table.root / "a b%c.parquet")
    commit(table, [msgspec.structs.replace(file, path="a%20b%25c.parquet")])
    assert all_readers(con, table) == [7]


def test_columns_are_found_by_name_and_missing_ones_are_null(table: Table, con: duckdb.DuckDBPyConnection) -> None:
    turned = pa.schema([("t", pa.string()), ("n", pa.int64())])
    only = pa.schema([("n", pa.int32())])
    commit(table, [data_file(table, [1], turned), data_file(table, [2], only), data_file(table, [3])])
    scan = scan_sql(con, table.snapshot(), COLUMNS)
    assert con.execute(f"SELECT n, t, m FROM {scan} ORDER BY n").fetchall() == [
        (1, "it's 1", None),
        (2, None, None),
        (3, "it's 3", None),
    ]
    new = (*COLUMNS, TableColumn('odd "name"', "timestamp", ""))
    rows = con.execute(f"SELECT * FROM {scan_sql(con, table.snapshot(), new)} ORDER BY n").fetchall()
    assert [row[3] for row in rows] == [None] * 3


def test_many_files(table: Table, con: duckdb.DuckDBPyConnection) -> None:
    commit(table, [data_file(table, [n, -n]) for n in range(1, 301)])
    assert len(ours(con, table)) == 600


@pytest.mark.parametrize("way", ["inline", "file", "file below a prefix"])
@pytest.mark.parametrize("gone", [[0], [4], [0, 2, 3], [0, 1, 2, 3, 4]], ids=str)
def test_rows_that_a_deletion_vector_marks_are_left_out(
    table: Table, con: duckdb.DuckDBPyConnection, way: str, gone: list[int]
) -> None:
    files = [data_file(table, range(start, start + 5)) for start in (0, 10, 20)]
    commit(table, files)
    vector = inline_vector(gone) if way == "inline" else file_vector(table.root, gone, "_dv" if "prefix" in way else "")
    mark(table, files[1], vector)
    expected = sorted({*range(5), *range(20, 25), *(10 + n for n in range(5) if n not in gone)})
    assert all_readers(con, table) == expected
    [marked] = [f for f in table.snapshot().files.values() if f.deletion_vector]
    assert (marked.path, json.loads(marked.deletion_vector or "")) == (files[1].path, vector)


def test_a_large_sparse_vector(table: Table, con: duckdb.DuckDBPyConnection) -> None:
    gone = [0, 65_535, 65_536, 131_071, 199_999, *range(70_000, 72_000)]
    file = data_file(table, range(200_000))
    commit(table, [file])
    mark(table, file, file_vector(table.root, gone))
    assert ours(con, table) == sorted(set(range(200_000)) - set(gone))


def test_two_vectors_one_after_the_other_and_then_the_file_goes(table: Table, con: duckdb.DuckDBPyConnection) -> None:
    file = data_file(table, range(6))
    commit(table, [file])
    mark(table, file, inline_vector([1]))
    mark(table, file, file_vector(table.root, [1, 4]))
    assert all_readers(con, table) == [0, 2, 3, 5]
    live = table.snapshot().files[file.path]
    commit(table, [data_file(table, [100])], [live], batch=2)
    assert all_readers(con, table) == [100]
    [removed] = [a["remove"] for a in table.log.read(table.snapshot().version) if "remove" in a]
    assert isinstance(removed, dict)
    assert removed["deletionVector"] == json.loads(live.deletion_vector or "")


def test_vectors_survive_a_checkpoint(table: Table, con: duckdb.DuckDBPyConnection) -> None:
    files = [data_file(table, range(5)), data_file(table, range(10, 15))]
    commit(table, files)
    mark(table, files[0], file_vector(table.root, [2]))
    mark(table, files[1], inline_vector([0, 1]))
    before = table.snapshot()
    DeltaTable(table.root).create_checkpoint()
    for path in table.log.folder.glob("*.json"):
        path.unlink()
    after = table.snapshot()
    assert {p: json.loads(f.deletion_vector or "") for p, f in after.files.items()} == {
        p: json.loads(f.deletion_vector or "") for p, f in before.files.items()
    }
    assert ours(con, table) == [0, 1, 3, 4, 12, 13, 14]


def test_two_snapshots_with_vectors_can_be_read_in_one_query(table: Table, con: duckdb.DuckDBPyConnection) -> None:
    file = data_file(table, range(4))
    commit(table, [file])
    mark(table, file, inline_vector([0]))
    mark(table, file, inline_vector([0, 3]))
    old, new = (scan_sql(con, table.snapshot(v), COLUMNS) for v in (2, 3))
    assert con.execute(f"SELECT n FROM {old} EXCEPT SELECT n FROM {new}").fetchall() == [(3,)]


# -- errors ---------------------------------------------------------------------------------------------------------


def test_a_data_file_that_could_not_be_written_is_a_matter_of_the_disk(tmp_path: Path) -> None:
    what = f'Could not write file "{tmp_path}/orders_target/b000006-a.parquet": No space left on device'
    with pytest.raises(StorageError, match="No space left") as caught, duckdb_errors("cannot load batch 6"):
        raise duckdb.IOException(what)
    assert "disk" in caught.value.hint


def test_errors_of_duckdb_become_ours(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot look"), duckdb_errors("cannot look"):
        con.execute(f"COPY (SELECT 1) TO '{tmp_path}/no/folder/new.csv'").fetchall()
    with pytest.raises(TableError, match=r"cannot look: the data file gone\.parquet"), duckdb_errors("cannot look"):
        con.execute(f"SELECT * FROM read_parquet('{tmp_path}/gone.parquet')").fetchall()
    with pytest.raises(TableError, match="cannot look"), duckdb_errors("cannot look"):
        con.execute("SELECT * FROM nothing").fetchall()
    with pytest.raises(QueryError), duckdb_errors("cannot look"):
        raise QueryError("as it is")


def test_a_table_that_we_must_not_write_to_is_not_touched(table: Table) -> None:
    base = table.snapshot()
    refused = msgspec.structs.replace(base, protocol=ProtocolVersions(1, 7, (), ("rowTracking",)))
    with pytest.raises(UnsupportedTableError, match="rowTracking"):
        table.commit(refused, Change(Txn("app", 1, 1), "LOAD"))
    assert DeltaLog(table.root).entries()[0] == [0]


def test_only_an_error_about_a_data_file_sends_to_verify() -> None:
    """A binder error of one vendor's SQL sent people to look for damage in the tables."""
    own = duckdb.BinderException("no function matches strptime(VARCHAR, INTEGER)")
    with pytest.raises(TableError, match="report it") as caught, duckdb_errors("cannot look"):
        raise own
    assert "verify" not in caught.value.hint
    damaged = duckdb.InvalidInputException('Failed to read file "/t/b1.parquet": Snappy decompression failure')
    with pytest.raises(TableError) as caught, duckdb_errors("cannot look"):
        raise damaged
    assert caught.value.hint.startswith("ordertrail verify ")
