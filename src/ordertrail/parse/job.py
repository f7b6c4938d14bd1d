"""Parse the files of a batch into Parquet files of rows and of rejects, and decide the state of each file.

Files of one vendor with one header go through the kernel together: a large one alone, small ones in chunks. Rows that
must not be loaded (of a file that changed while it was read, whose bytes end in garbage, or that has too many rejects)
are removed from the Parquet file of the chunk afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ordertrail.errors import FileChangedError, OrdertrailError, QuarantineError
from ordertrail.model import Contract, Limits, Reject, State
from ordertrail.parse.database import Database
from ordertrail.parse.failures import ENGINE_FAILURES, is_lasting, is_of_files, why_held
from ordertrail.parse.kernel import PARQUET, SMALL_PARQUET, Kernel, KernelCounts, KernelFile
from ordertrail.parse.reader import DeliveryReader
from ordertrail.rules.bounds import FEW_REJECTS, MAX_NOTED, MAX_REASON_CHARS, MAX_REJECTS, cut
from ordertrail.rules.cell_text import name_column
from ordertrail.rules.filekey import dated, too_far_ahead
from ordertrail.rules.headers import Layout, mapped, named
from ordertrail.rules.planning import Candidate, rounds, state_of, wrong_rows
from ordertrail.rules.sql import name_sql, quoted

HELD_RULES = frozenset({"trailer", "cut_off"})
"""The rules of files that a person may still release: they can be read, and may not be whole."""

MAX_NOTED_CHARS = 60
"""Longest name or status that a manifest keeps for people, in characters."""

CHUNK_BYTES = 256 << 20
"""Small files are parsed together up to this size; it bounds how much must be rewritten for a quarantine."""

SMALL_BYTES = 48 << 20
"""Files that are smaller than this together are written in small row groups: about 400,000 rows of the order feed."""


class ParsedFile(Struct, frozen=True):
    """The result of parsing one file.

    Attributes:
        candidate: The file.
        state: `loaded`, `empty`, `duplicate`, `quarantined` or `held`.
        reason: Why it is not `loaded`.
        absent: Contract columns that it lacks.
        parsed: Number of data rows.
        rejected: How many of these are rejected; all of them when it is quarantined or held.
        duplicate: How many of these are not staged because the same bytes are loaded with a higher order.
        first_error: Its first reject in one line.
        rescued: As in the manifest.
        unranked: As in the manifest.
        lines_skipped: As in the manifest.
        doubts: As in the manifest.
        mapped: As in the manifest.
        reject: A reject of the whole file, when it is held, or quarantined for a reason other than its rows.
    """

    candidate: Candidate
    state: State
    reason: str | None
    absent: tuple[str, ...] = ()
    parsed: int = 0
    rejected: int = 0
    duplicate: int = 0
    first_error: str | None = None
    reject: Reject | None = None
    rescued: tuple[str, ...] = ()
    unranked: tuple[str, ...] = ()
    lines_skipped: int = 0
    doubts: tuple[str, ...] = ()
    mapped: tuple[str, ...] = ()


class ParsedBatch(Struct, frozen=True):
    """All files of a batch, parsed.

    Attributes:
        files: In the order of their numbers, without those that changed.
        changed: Those that changed, vanished or became unreadable while they were read.
        rows: Parquet files of good rows, with the number of rows in each.
        rejects: Parquet files of rejected rows.
    """

    files: tuple[ParsedFile, ...]
    changed: tuple[Candidate, ...]
    rows: tuple[tuple[Path, int], ...]
    rejects: tuple[Path, ...]


def set_aside(candidate: Candidate, state: State, error: QuarantineError, rows: int = 0) -> ParsedFile:
    """The result for a file of which nothing is loaded.

    Args:
        candidate: The file.
        state: `quarantined` or `held`.
        error: Why.
        rows: How many rows it has; 0 when that is not known.
    """
    reason, first_error = cut(str(error), MAX_REASON_CHARS), cut(error.message, MAX_REASON_CHARS)
    reject = Reject(None, error.column, None, error.rule, reason, None)
    return ParsedFile(candidate, state, reason, (), rows, rows, 0, first_error, reject)


class ParseJob:
    """The parsing of one batch.

    Args:
        database: Used by this job alone; it may be replaced by a new one.
        contract: What a row must meet.
        limits: What a file may be like and still be loaded.
        open_file: Opens a candidate at its first byte.
        unchanged: Whether a candidate is still the file that was fingerprinted.
        extra: (name, SQL) of columns to add to every good row; may read `delivery_id`, `vendor` and `file_name`.
        new_path: Returns a new Parquet path for `rows` or `rejects`.
        pool: For cutting records.
    """

    def __init__(
        self,
        database: Database,
        contract: Contract,
        *,
        limits: Limits,
        open_file: Callable[[Candidate], BinaryIO],
        unchanged: Callable[[Candidate], bool],
        extra: Sequence[tuple[str, str]],
        new_path: Callable[[str], Path],
        pool: Executor | None,
    ) -> None:
        self._con = database.con
        self._contract = contract
        self._limits = limits
        self._open = open_file
        self._unchanged = unchanged
        self._extra = extra
        self._new_path = new_path
        self._pool = pool
        self._renewed = database.renewed
        self._made: list[Path] = []
        self._done: dict[int, ParsedFile] = {}
        self._changed: list[Candidate] = []
        self._rows: list[tuple[Path, int]] = []
        self._rejects: list[Path] = []

    def run(self, candidates: Sequence[Candidate]) -> ParsedBatch:
        """Parse them; equal files are parsed once (`rules.planning.rounds`)."""
        waiting = rounds(candidates)
        while waiting:
            self._parse([group[0] for group in waiting])
            following = []
            for first, *others in waiting:
                done = self._done.get(first.number)
                if others and done is not None and done.state is State.LOADED:
                    for other in others:
                        self._duplicate(other, done)
                elif others:
                    following.append(others)
            waiting = following
        files = tuple(self._done[number] for number in sorted(self._done))
        return ParsedBatch(files, tuple(self._changed), tuple(self._rows), tuple(self._rejects))

    def _duplicate(self, candidate: Candidate, of: ParsedFile) -> None:
        if self._still(candidate):
            reason = f"the same bytes as {of.candidate.clean_path} of this batch"
            self._done[candidate.number] = ParsedFile(
                candidate, State.DUPLICATE, reason, of.absent, of.parsed, 0, of.parsed
            )

    def _still(self, candidate: Candidate) -> bool:
        if self._unchanged(candidate):
            return True
        self._changed.append(candidate)
        return False

    # -- one round ------------------------------------------------------------------------------------------

    def _parse(self, candidates: Sequence[Candidate]) -> None:
        layouts: dict[tuple[str, tuple[str, ...]], tuple[Layout, list[Candidate]]] = {}
        for candidate in candidates:
            layout = self._layout(candidate)
            if layout is not None:
                group = layouts.setdefault((candidate.vendor.name, layout.header), (layout, []))
                group[1].append(candidate)
        for layout, members in layouts.values():
            for chunk in _chunks(members):
                self._parse_some(chunk, layout)

    def _layout(self, candidate: Candidate) -> Layout | None:
        """The file's layout; None when its state is already decided."""
        held = too_far_ahead(
            candidate.path, candidate.vendor, candidate.identity.mtime_ns, self._limits.max_file_ahead_d
        )
        if held is not None:
            if self._still(candidate):
                self._done[candidate.number] = ParsedFile(candidate, State.HELD, held)
            return None
        reader: DeliveryReader | None = None
        try:
            with self._open(candidate) as stream:
                reader = DeliveryReader(stream, candidate.vendor, self._contract)
                layout = reader.layout()
            if layout is not None:
                named(candidate.clean_path.rpartition("/")[2], candidate.vendor)
                return layout
        except (FileChangedError, OSError):
            self._changed.append(candidate)
        except QuarantineError as error:
            self._set_aside(candidate, error, () if reader is None else reader.found)
        else:
            if self._still(candidate):
                wrong = wrong_rows(candidate, 0)
                state, why = (State.EMPTY, "the file is empty") if wrong is None else (State.HELD, wrong.reason)
                self._done[candidate.number] = ParsedFile(candidate, state, why, reject=wrong)
        return None

    def _set_aside(
        self,
        candidate: Candidate,
        error: QuarantineError,
        header: tuple[str, ...],
        state: State = State.QUARANTINED,
    ) -> None:
        """Quarantine or hold a whole file, and count its rows if that is possible."""
        rows = 0
        try:
            with self._open(candidate) as stream:
                reader = DeliveryReader(stream, candidate.vendor, self._contract, trailers=False)
                if header and reader.header() is not None:
                    for block in reader.blocks():
                        rows += block.parsed
        except (FileChangedError, OSError):
            self._changed.append(candidate)
            return
        except (QuarantineError, MemoryError):
            rows = 0
        if self._still(candidate):
            self._done[candidate.number] = set_aside(candidate, state, error, rows)

    def _parse_some(self, files: Sequence[Candidate], layout: Layout) -> None:
        """Parse files of one layout together; when the engine fails, in halves, until the file at fault is alone."""
        rows, rejects = len(self._rows), len(self._rejects)
        self._made = []
        try:
            self._parse_chunk(files, layout)
            return
        except ENGINE_FAILURES as error:
            if not is_of_files(error):
                raise
            failure = error
        del self._rows[rows:], self._rejects[rejects:]
        for path in self._made:
            path.unlink(missing_ok=True)
        for file in files:
            self._done.pop(file.number, None)
        self._changed = [file for file in self._changed if file not in files]
        if is_lasting(failure):
            self._con = self._renewed()
        if len(files) == 1:
            self._set_aside(files[0], why_held(failure), layout.header, State.HELD)
        else:
            half = len(files) // 2
            self._parse_some(files[:half], layout)
            self._parse_some(files[half:], layout)

    def _path(self, kind: str) -> Path:
        self._made.append(self._new_path(kind))
        return self._made[-1]

    def _parse_chunk(self, chunk: Sequence[Candidate], layout: Layout) -> None:
        small = sum(candidate.identity.size_bytes for candidate in chunk) < SMALL_BYTES
        parquet = SMALL_PARQUET if small else PARQUET
        kernel = Kernel(
            self._con,
            self._contract,
            chunk[0].vendor,
            layout,
            self._pool,
            parquet,
            trailers=self._limits.trailers,
        )
        header = _header_table(chunk, self._contract)
        failed: dict[int, OrdertrailError] = {}
        files = [KernelFile(c.number, _opener(self._open, c), failed) for c in chunk]
        rows = self._path("rows")
        counts = kernel.write_rows(files, rows, self._extra, header)
        wrong = [f for f in files if counts[f.number].rejected and f.number not in failed]
        rejects = self._explain(kernel, wrong, header, counts, failed)
        first_errors = {number: error for path in rejects for number, error in self._first_errors(path).items()}
        unranked = self._unranked(rows, layout) if any(found.good for found in counts.values()) else {}
        for candidate in chunk:
            if error := failed.get(candidate.number):
                self._give_up(candidate, error, layout.header)
            elif self._still(candidate):
                first = first_errors.get(candidate.number)
                decided = self._decided(candidate, counts[candidate.number], layout, first)
                self._done[candidate.number] = replace(decided, unranked=unranked.get(candidate.number, ()))
        done = {c.number: self._done[c.number] for c in chunk if c.number in self._done}
        loaded = {number for number, file in done.items() if file.state is State.LOADED and counts[number].good}
        if loaded:
            out = {number for number, found in counts.items() if found.good and number not in loaded}
            kept = sum(counts[number].good for number in loaded)
            self._rows.append((self._without(rows, "_delivery_no", out, "rows"), kept))
        else:
            rows.unlink(missing_ok=True)
        out = {f.number for f in wrong if f.number not in done or done[f.number].reject}
        self._rejects += [self._without(path, "d", out, "rejects") for path in rejects]

    def _explain(
        self,
        kernel: Kernel,
        files: Sequence[KernelFile],
        header: pa.Table,
        counts: Mapping[int, KernelCounts],
        failed: dict[int, OrdertrailError],
    ) -> list[Path]:
        """Write the rejects of some files: all of them together, or only a few of a file that has too many."""
        many = [[file] for file in files if self._has_too_many(counts[file.number])]
        rest = [file for file in files if [file] not in many]
        paths = []
        for some in (*([rest] if rest else []), *many):
            paths.append(self._path("rejects"))
            again = kernel.write_rejects(some, paths[-1], header, FEW_REJECTS if some in many else None)
            for file in some:
                if again[file.number] != counts[file.number].parsed:
                    failed.setdefault(file.number, FileChangedError("the file changed while it was read"))
        return paths

    def _has_too_many(self, counts: KernelCounts) -> bool:
        state, _ = state_of(counts.parsed, counts.rejected, self._limits)
        return state is State.QUARANTINED and counts.rejected > MAX_REJECTS

    def _give_up(self, candidate: Candidate, error: OrdertrailError, header: tuple[str, ...]) -> None:
        if isinstance(error, QuarantineError):
            self._set_aside(candidate, error, header, State.HELD if error.rule in HELD_RULES else State.QUARANTINED)
        else:
            self._changed.append(candidate)

    def _decided(
        self, candidate: Candidate, counts: KernelCounts, layout: Layout, first_error: str | None
    ) -> ParsedFile:
        state, reason = state_of(counts.parsed, counts.rejected, self._limits)
        reject = wrong_rows(candidate, counts.parsed)
        if reject is not None:
            state, reason = State.HELD, reject.reason
        rejected = counts.rejected if state in (State.LOADED, State.EMPTY) else counts.parsed
        if state is State.QUARANTINED and self._has_too_many(counts):
            reason = f"{reason}; the rejects are the first {FEW_REJECTS:,} of them"
        rescued = tuple(cut(name, MAX_NOTED_CHARS) for name, _ in layout.unknown[:MAX_NOTED])
        return ParsedFile(
            candidate,
            state,
            reason,
            layout.absent,
            counts.parsed,
            rejected,
            0,
            first_error,
            reject,
            rescued=rescued,
            lines_skipped=counts.lines_skipped,
            doubts=counts.doubts,
            mapped=mapped(layout, self._contract, candidate.vendor),
        )

    def _unranked(self, path: Path, layout: Layout) -> dict[int, tuple[str, ...]]:
        """For each file the statuses of good rows that are not in the ranking."""
        contract = self._contract
        if contract.status is None or contract.status in layout.absent or not contract.status_rank:
            return {}
        status, ranked = name_sql(contract.status), ", ".join(map(quoted, contract.status_rank))
        rows = self._con.execute(
            f"SELECT _delivery_no, list(left(s, {MAX_NOTED_CHARS}) ORDER BY s)[:{MAX_NOTED}] FROM (SELECT DISTINCT "
            f"_delivery_no, {status} AS s FROM read_parquet({quoted(str(path))}) WHERE {status} NOT IN ({ranked})) "
            "GROUP BY _delivery_no"
        ).fetchall()
        return {number: tuple(found) for number, found in rows}

    def _first_errors(self, path: Path) -> dict[int, str]:
        rows = self._con.execute(
            "SELECT d, min(_file_row), arg_min(_errors, _file_row), arg_min(_file_line, _file_row) "
            f"FROM read_parquet({quoted(str(path))}) GROUP BY d"
        ).fetchall()
        return {number: _one_line(row, line, json.loads(errors)[0]) for number, row, errors, line in rows}

    def _without(self, path: Path, column: str, out: set[int], kind: str) -> Path:
        """The Parquet file without the rows of some files of the job; the same file when it has none of them."""
        if not out:
            return path
        kept = self._path(kind)
        numbers = ", ".join(map(str, sorted(out)))
        query = f"SELECT * FROM read_parquet({quoted(str(path))}) WHERE {column} NOT IN ({numbers})"
        self._con.execute(f"COPY ({query}) TO {quoted(str(kept))} ({PARQUET})").fetchall()
        path.unlink()
        return kept


def _chunks(candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    chunk: list[Candidate] = []
    size_bytes = 0
    for candidate in candidates:
        if chunk and size_bytes + candidate.identity.size_bytes > CHUNK_BYTES:
            yield chunk
            chunk, size_bytes = [], 0
        chunk.append(candidate)
        size_bytes += candidate.identity.size_bytes
    if chunk:
        yield chunk


def _opener(open_file: Callable[[Candidate], BinaryIO], candidate: Candidate) -> Callable[[], BinaryIO]:
    return lambda: open_file(candidate)


def _header_table(chunk: Sequence[Candidate], contract: Contract) -> pa.Table:
    names = [named(c.clean_path.rpartition("/")[2], c.vendor) for c in chunk]
    told = {
        name_column(i): pa.array([one[name] for one in names], pa.string())
        for i, name in enumerate(contract.names)
        if name in names[0]
    }
    limits = [(c.file_key + contract.max_future_s * 1000) * 1000 for c in chunk]
    return pa.table(
        {
            "d": pa.array([c.number for c in chunk], pa.int32()),
            "limit_us": pa.array(limits, pa.int64()),
            "dated": pa.array([dated(c.path, c.vendor, c.identity.mtime_ns) for c in chunk], pa.string()),
            "delivery_id": pa.array([c.delivery_id for c in chunk], pa.string()),
            "vendor": pa.array([c.vendor.name for c in chunk], pa.string()),
            "file_name": pa.array([c.clean_path.rpartition("/")[2] for c in chunk], pa.string()),
            **told,
        }
    )


def _one_line(row: int, line: int, error: dict[str, str | None]) -> str:
    where = f"row {row} (line {line})" + (f", {error['column']} = {error['value']!r}" if error["column"] else "")
    return cut(f"{where}: {error['reason']}", MAX_REASON_CHARS)
