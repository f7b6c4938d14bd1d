"""Parsing a batch: each file's fate, and that nothing of a file that must not land stays in the Parquet files."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ordertrail.errors import FileChangedError
from ordertrail.model import FileIdentity, Limits, State, Vendor
from ordertrail.parse import job as job_module
from ordertrail.parse import records
from ordertrail.parse.cutter import Cutter
from ordertrail.parse.database import Database, connect
from ordertrail.parse.job import ParsedBatch, ParsedFile, ParseJob
from ordertrail.rules.planning import Candidate
from tests.kernels import csv_of
from tests.oracle import default_contract

HEADER = default_contract().names
GOOD = ("1", "007", "2026-11-20", "", "IN_TRANSIT", "Main St 1", "2026-11-20 08:00:00")
BAD = (*GOOD[:6], "never")
FILE_KEY = 1_795_132_800_000  # 2026-11-20


@dataclass
class Files:
    """A source of files in memory that can play tricks."""

    contents: dict[int, list[bytes]] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    opened: list[int] = field(default_factory=list)

    def open(self, candidate: Candidate) -> BinaryIO:
        """The next version of the file, the last one for ever."""
        if candidate.number in self.gone:
            raise FileChangedError("gone")
        self.opened.append(candidate.number)
        versions = self.contents[candidate.number]
        return io.BytesIO(versions.pop(0) if len(versions) > 1 else versions[0])

    def unchanged(self, candidate: Candidate) -> bool:
        return candidate.number not in self.changed


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    con = connect(2, 512, tmp_path_factory.mktemp("spill"))
    yield con
    con.close()


@dataclass
class Result:
    batch: ParsedBatch
    folder: Path

    def file(self, number: int) -> ParsedFile:
        return next(f for f in self.batch.files if f.candidate.number == number)

    @property
    def rows(self) -> list[int]:
        """The file number of every good row written."""
        found: list[int] = []
        for path, rows in self.batch.rows:
            numbers = pq.read_table(path).column("_delivery_no").to_pylist()
            assert len(numbers) == rows
            found += numbers
        return sorted(found)

    @property
    def rejects(self) -> list[int]:
        return sorted(d for path in self.batch.rejects for d in pq.read_table(path).column("d").to_pylist())


Run = Callable[..., Result]
STRICT = Limits(max_reject_share=0.5, min_rejects=1)


@pytest.fixture
def run(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> Run:
    def job(
        files: Files,
        *,
        vendors: dict[int, Vendor] | None = None,
        limits: Limits = STRICT,
        connection: Any = con,
        renewed: Callable[[], Any] = lambda: con,
    ) -> Result:
        folder = tmp_path / "it's here"
        folder.mkdir()
        count = itertools.count()
        candidates = []
        for number, versions in files.contents.items():
            sha256 = hashlib.sha256(versions[0]).hexdigest()
            vendor = (vendors or {}).get(number, Vendor("acme"))
            identity = FileIdentity(1, number, len(versions[0]), number, 1)
            path = f"f{number}.csv"
            candidates.append(Candidate(number, f"d{number}", vendor, path, path, identity, sha256, FILE_KEY, "h"))
        parse = ParseJob(
            Database(connection, renewed),
            default_contract(),
            limits=limits,
            open_file=files.open,
            unchanged=files.unchanged,
            extra=[("_delivery_id", "delivery_id"), ("_file_name", "file_name"), ("_vendor", "vendor")],
            new_path=lambda kind: folder / f"{kind}-{next(count)}.parquet",
            pool=None,
        )
        result = Result(parse.run(candidates), folder)
        kept = {path for path, _ in result.batch.rows} | set(result.batch.rejects)
        assert set(folder.iterdir()) == kept, "a file that nobody needs is left"
        for file in result.batch.files:
            assert file.parsed >= file.rejected + file.duplicate
            assert (file.reason is None) == (file.state is State.LOADED)
        return result

    return job


def one(data: bytes) -> Files:
    return Files({0: [data]})


def test_a_good_file(run: Run) -> None:
    result = run(one(csv_of(HEADER, GOOD, GOOD)))
    file = result.file(0)
    assert (file.state, file.parsed, file.rejected, file.first_error) == (State.LOADED, 2, 0, None)
    [(path, _)] = result.batch.rows
    row: dict[str, Any] = pq.read_table(path).to_pylist()[0]
    assert (row["_delivery_id"], row["_file_name"], row["_vendor"]) == ("d0", "f0.csv", "acme")
    assert result.batch.rejects == ()


def test_a_good_file_is_read_once_for_its_rows(run: Run) -> None:
    files = one(csv_of(HEADER, GOOD))
    run(files)
    assert len(files.opened) == 2  # its header, its rows


def test_some_bad_rows(run: Run) -> None:
    result = run(one(csv_of(HEADER, GOOD, BAD, GOOD, ("x",))))
    file = result.file(0)
    assert (file.state, file.parsed, file.rejected) == (State.LOADED, 4, 2)
    assert str(file.first_error).startswith("row 2 (line 3), last_update_timestamp = 'never': not a time")
    assert (result.rows, result.rejects) == ([0, 0], [0, 0])


def test_too_many_bad_rows_quarantine_the_file_and_keep_its_rejects(run: Run) -> None:
    files = Files({0: [csv_of(HEADER, GOOD, BAD, BAD)], 1: [csv_of(HEADER, GOOD)]})
    result = run(files)
    file = result.file(0)
    assert (file.state, file.parsed, file.rejected) == (State.QUARANTINED, 3, 3)
    assert "2 of 3 rows are rejected" in str(file.reason)
    assert file.reject is None
    assert (result.rows, result.rejects) == ([1], [0, 0])


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_nothing_at_all_is_empty(run: Run, data: bytes) -> None:
    file = run(one(data)).file(0)
    assert (file.state, file.parsed, file.reason) == (State.EMPTY, 0, "the file is empty")


def test_a_header_only_is_empty(run: Run) -> None:
    file = run(one(csv_of(HEADER))).file(0)
    assert (file.state, file.parsed, file.reason) == (State.EMPTY, 0, "the file has no data rows")


@pytest.mark.parametrize(
    ("data", "rule", "column", "rows"),
    [
        (csv_of(HEADER[1:], GOOD[1:], GOOD[1:]), "missing_column", "order_num", 2),
        (csv_of((*HEADER, "status"), (*GOOD, "x")), "header", "status", 1),
        (b'"' + csv_of(HEADER, GOOD), "header", None, 0),
        (csv_of(HEADER, GOOD) + b"\xff\n", "encoding", None, 0),
        (csv_of(HEADER, GOOD) + b"\0\n", "binary", None, 0),
        (b"\xff\n", "encoding", None, 0),
        (b"\0", "binary", None, 0),
    ],
)
def test_a_file_that_cannot_be_read_is_a_reject_as_a_whole(
    run: Run, data: bytes, rule: str, column: str | None, rows: int
) -> None:
    files = Files({0: [data], 1: [csv_of(HEADER, GOOD, BAD)]})
    result = run(files)
    file = result.file(0)
    assert (file.state, file.parsed, file.rejected) == (State.QUARANTINED, rows, rows)
    assert file.reject is not None
    assert (file.reject.rule, file.reject.column, file.reject.file_row, file.reject.raw) == (rule, column, None, None)
    assert file.reject.reason == file.reason
    assert (result.rows, result.rejects) == ([1], [1])


def test_garbage_behind_bad_rows_leaves_neither_rows_nor_rejects(run: Run) -> None:
    files = Files({0: [csv_of(HEADER, GOOD, BAD) + b"\xff"], 1: [csv_of(HEADER, GOOD, BAD)]})
    result = run(files)
    assert result.file(0).state is State.QUARANTINED
    assert (result.rows, result.rejects) == ([1], [1])


def test_garbage_that_only_the_second_reading_meets_takes_the_rejects_out_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "CHUNK_BYTES", 16)  # so that the bad row stands in a block before the garbage
    content = csv_of(HEADER, GOOD, BAD)
    files = Files({0: [content, content, content + b"\n\xff"], 1: [content + b"\n"]})
    result = run(files)
    assert result.file(0).state is State.QUARANTINED
    assert (result.rows, result.rejects) == ([1], [1])


def test_files_that_changed_or_vanished_drop_out_whole(run: Run) -> None:
    content = csv_of(HEADER, GOOD, BAD)
    files = Files({n: [content + b"\n" * n] for n in range(6)})
    files.contents[1] = [content + b" ", csv_of(("other", *HEADER), ("x", *GOOD))]
    files.contents[2] = [csv_of(HEADER, GOOD, GOOD, BAD), csv_of(HEADER, GOOD, GOOD, BAD), csv_of(HEADER, GOOD, BAD)]
    files.gone, files.changed = {3}, {4}
    result = run(files)
    assert {c.number for c in result.batch.changed} == {1, 2, 3, 4}
    assert [f.candidate.number for f in result.batch.files] == [0, 5]
    assert (result.rows, result.rejects) == ([0, 5], [0, 5])


@pytest.mark.parametrize("data", [b"", csv_of(HEADER), csv_of(HEADER[1:], GOOD[1:]), csv_of(HEADER, BAD), b"\xff"])
def test_a_file_that_changed_is_never_judged(run: Run, data: bytes) -> None:
    files = Files({0: [data]}, changed={0})
    result = run(files)
    assert result.batch.files == ()
    assert [c.number for c in result.batch.changed] == [0]
    assert (result.rows, result.rejects) == ([], [])


# -- the same bytes several times -----------------------------------------------------------------------------------


def test_equal_files_are_parsed_once_and_the_highest_lands(run: Run) -> None:
    content = csv_of(HEADER, GOOD, BAD)
    result = run(Files({0: [content], 1: [content], 2: [content]}))
    assert [result.file(n).state for n in range(3)] == [State.DUPLICATE, State.DUPLICATE, State.LOADED]
    duplicate = result.file(0)
    assert (duplicate.parsed, duplicate.duplicate, duplicate.rejected) == (2, 2, 0)
    assert "f2.csv" in str(duplicate.reason)
    assert (result.rows, result.rejects) == ([2], [2])


def test_the_next_one_takes_the_place_of_one_that_changed(run: Run) -> None:
    content = csv_of(HEADER, GOOD)
    result = run(Files({0: [content], 1: [content], 2: [content]}, changed={2}))
    assert [(f.candidate.number, f.state) for f in result.batch.files] == [(0, State.DUPLICATE), (1, State.LOADED)]
    assert result.rows == [1]


@pytest.mark.parametrize("content", [csv_of(HEADER), csv_of(HEADER, BAD), b"\xff", b""])
def test_equal_files_that_do_not_land_are_no_duplicates(run: Run, content: bytes) -> None:
    result = run(Files({0: [content], 1: [content]}))
    first, second = (result.file(n).state for n in range(2))
    assert first is second
    assert first in (State.EMPTY, State.QUARANTINED)


def test_equal_bytes_of_two_vendors_both_land(run: Run) -> None:
    content = csv_of(HEADER, GOOD)
    result = run(Files({0: [content], 1: [content]}), vendors={1: Vendor("blue")})
    assert [result.file(n).state for n in range(2)] == [State.LOADED] * 2
    assert result.rows == [0, 1]


# -- chunks and layouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_bytes", [1, 300, 1 << 20])
def test_chunks_do_not_matter(run: Run, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    monkeypatch.setattr(job_module, "CHUNK_BYTES", chunk_bytes)
    turned = tuple(reversed(HEADER))
    contents = {n: [csv_of(HEADER, *[GOOD] * (n + 1), *[BAD] * (n % 2)) + b"\n" * n] for n in range(6)}
    contents |= {n: [csv_of(turned, *[tuple(reversed(GOOD))] * n)] for n in (6, 7)}
    contents[8] = [csv_of(HEADER, BAD, BAD, BAD)]
    result = run(Files(contents))
    assert [f.state for f in result.batch.files] == [State.LOADED] * 8 + [State.QUARANTINED]
    assert result.rows == sorted([n for n in range(6) for _ in range(n + 1)] + [6] * 6 + [7] * 7)
    assert result.rejects == [1, 3, 5, 8, 8, 8]


def test_the_limit_of_the_future_is_each_files_own(run: Run) -> None:
    late = (*GOOD[:6], "2026-11-22 00:00:00.000001")
    edge = (*GOOD[:6], "2026-11-22 00:00:00")
    result = run(one(csv_of(HEADER, late, edge)))
    assert (result.file(0).parsed, result.file(0).rejected) == (2, 1)
    [path] = result.batch.rejects
    [row] = pq.read_table(path).to_pylist()
    assert json.loads(row["_errors"])[0]["rule"] == "future"
    assert row["_file_row"] == 1


def test_of_too_many_rejects_of_a_quarantined_file_the_first_are_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 MB of lines of one letter were 4 GB of rejects, on Spark in the memory of the driver."""
    monkeypatch.setattr(job_module, "MAX_REJECTS", 10)
    monkeypatch.setattr(job_module, "FEW_REJECTS", 3)
    mixed = [row for _ in range(11) for row in (GOOD, BAD, BAD)]
    files = Files(
        {
            0: [csv_of(HEADER, *mixed) + b"x\n" * 5],
            1: [csv_of(HEADER, *[BAD] * 10)],
            2: [csv_of(HEADER, *[GOOD] * 20, *[BAD] * 11)],
        }
    )
    result = run(files)
    states = [(f.state, f.parsed, f.rejected) for f in result.batch.files]
    assert states == [(State.QUARANTINED, 38, 38), (State.QUARANTINED, 10, 10), (State.LOADED, 31, 11)]
    assert result.rejects == [0] * 3 + [1] * 10 + [2] * 11
    rows = [row for path in result.batch.rejects for row in pq.read_table(path).to_pylist() if row["d"] == 0]
    assert sorted(row["_file_row"] for row in rows) == [2, 3, 5]
    assert str(result.file(0).reason).endswith("; the rejects are the first 3 of them")
    assert "first" not in str(result.file(1).reason)
    assert str(result.file(0).first_error).startswith("row 2")


class BadBlock(io.BytesIO):
    """A file whose bytes behind the first few cannot be read."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= 256:
            raise OSError(5, "Input/output error")
        return super().read(256)


@pytest.mark.parametrize("rows", [1, 20])
def test_a_file_that_cannot_be_read_to_its_end_drops_out_and_all_others_load(run: Run, rows: int) -> None:
    content = csv_of(HEADER, *[GOOD] * rows) + b"\n" * 200
    files = Files({0: [content], 1: [content + b"\n"], 2: [csv_of(HEADER[1:], GOOD[1:]) + b"\n" * 200]})
    whole = files.open
    files.open = lambda c: whole(c) if c.number == 1 else BadBlock(whole(c).read())  # type: ignore[method-assign]
    result = run(files)
    assert {c.number for c in result.batch.changed} == {0, 2}
    assert [f.candidate.number for f in result.batch.files] == [1]
    assert result.rows == [1] * rows


# -- when the engine fails ------------------------------------------------------------------------------------------


class Failing:
    """A DuckDB that fails on what a file with the text `poison` is made into."""

    def __init__(self, con: duckdb.DuckDBPyConnection, error: Exception, *, lasting: bool = False) -> None:
        self._con, self._error, self._lasting = con, error, lasting
        self.copies = 0
        self.broken = False

    def execute(self, sql: str) -> Any:
        if self.broken:
            raise duckdb.FatalException("database has been invalidated because of a previous fatal error")
        found = self._con.execute(sql)
        if sql.startswith("COPY") and "read_parquet" not in sql:
            self.copies += 1
            path = sql.split(" TO '")[1].split("' (FORMAT")[0].replace("''", "'")
            found.fetchall()
            if "poison" in str(pq.read_table(path).column("address").to_pylist()):
                self.broken = self._lasting
                raise self._error
            return duckdb.connect().execute(f"SELECT {pq.read_metadata(path).num_rows}")
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._con, name)


def poisoned(*numbers: int, count: int = 8) -> Files:
    """Files of which some have the text `poison`."""
    texts = ("poison" if n in numbers else "Main St 1" for n in range(count))
    return Files({n: [csv_of(HEADER, (*GOOD[:5], text, GOOD[6]), GOOD) + b"\n" * n] for n, text in enumerate(texts)})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (duckdb.OutOfMemoryException("failed to allocate data"), "there is not enough memory for this file"),
        (MemoryError(), "there is not enough memory for this file"),
        (
            duckdb.BinderException("no such format\nLINE 1: SELECT"),
            "the engine fails on this file, even alone: no such",
        ),
        (duckdb.ConversionException("cannot convert"), "the engine fails on this file"),
        (duckdb.InternalException("attempted to access index 3"), "the engine fails on this file"),
        (pa.ArrowInvalid("offset overflow"), "the engine fails on this file"),
    ],
)
def test_the_file_on_which_the_engine_fails_is_held_and_all_others_load(
    run: Run, con: duckdb.DuckDBPyConnection, error: Exception, reason: str
) -> None:
    """Staging ran out of memory in every pass, for every vendor, for ever."""
    failing = Failing(con, error)
    result = run(poisoned(3), connection=failing, renewed=lambda: failing)
    assert [f.state for f in result.batch.files] == [State.HELD if n == 3 else State.LOADED for n in range(8)]
    assert result.rows == sorted([n for n in range(8) if n != 3] * 2)
    held = result.file(3)
    assert str(held.reason).startswith(reason)
    assert "\n" not in str(held.reason)
    assert "ordertrail replay --all-quarantined" in str(held.reason)
    assert (held.parsed, held.rejected) == (2, 2)
    assert held.reject is not None
    assert (held.reject.rule, held.reject.reason) == ("engine", held.reason)
    assert failing.copies == 1 + 2 * 3  # in halves: no file is parsed more often than that
    assert sorted(p.name for p in result.folder.iterdir()) == sorted(p.name for p, _ in result.batch.rows)


def test_several_files_may_be_at_fault(run: Run, con: duckdb.DuckDBPyConnection) -> None:
    failing = Failing(con, duckdb.OutOfMemoryException("failed to allocate data"))
    result = run(poisoned(0, 5, 6), connection=failing)
    assert [f.candidate.number for f in result.batch.files if f.state is State.HELD] == [0, 5, 6]
    assert result.rows == sorted([1, 2, 3, 4, 7] * 2)


def test_a_duckdb_that_refuses_everything_is_begun_anew(run: Run, con: duckdb.DuckDBPyConnection) -> None:
    made: list[Failing] = []

    def renewed() -> Failing:
        made.append(Failing(con, duckdb.InternalException("it was not meant to"), lasting=True))
        return made[-1]

    result = run(poisoned(2, count=4), connection=renewed(), renewed=renewed)
    assert [f.state for f in result.batch.files].count(State.HELD) == 1
    assert result.rows == [0, 0, 1, 1, 3, 3]
    assert len(made) == 4


@pytest.mark.parametrize(
    "error",
    [
        duckdb.IOException("No space left on device"),
        duckdb.InterruptException("Interrupted!"),
        duckdb.InvalidInputException("Python exception occurred while executing the UDF: KeyboardInterrupt: "),
        pa.ArrowCancelled("Operation cancelled"),
        duckdb.OutOfMemoryException("failed to offload data block. This limit was set by 'max_temp_directory_size'"),
        OSError(5, "Input/output error"),
        KeyboardInterrupt(),
    ],
)
def test_a_failing_disk_or_an_interrupt_is_no_files_fault(
    run: Run, con: duckdb.DuckDBPyConnection, error: Exception
) -> None:
    with pytest.raises(type(error)):
        run(poisoned(1, count=2), connection=Failing(con, error))


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_an_error_while_records_are_cut_stays_what_it_is(
    run: Run, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """DuckDB makes a text of it: a Ctrl-C would hold a file."""

    def cut(*_: object) -> None:
        raise error

    monkeypatch.setattr(Cutter, "cut", cut)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            run(one(csv_of(HEADER, GOOD)))
    else:
        file = run(one(csv_of(HEADER, GOOD))).file(0)
        assert (file.state, file.parsed, file.rejected) == (State.HELD, 0, 0)
