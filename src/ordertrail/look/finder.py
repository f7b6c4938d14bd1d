"""Finds rows of the target and the history by their terms, through the search cache as far as it reaches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import ROW_BITS
from ordertrail.delta.vectors import deleted_rows
from ordertrail.errors import OrdertrailError
from ordertrail.look.quick import Look
from ordertrail.look.search_cache import Run, SearchCache, terms_sql, uncovered
from ordertrail.look.terms import Kind, kinds_of
from ordertrail.rules.cell_sql import sql_type
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import TableColumn, columns_by_role

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_HITS = 1_000
"""A search by a part looks at no more rows than these; how many there are beside them nobody needs to know."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Live rows of one table.

    Attributes:
        role: The table.
        rows: The data file's path in the log and the row in it, 0 = first; in the order of their terms.
        cut: Whether there may be more.
    """

    role: str
    rows: tuple[tuple[str, int], ...]
    cut: bool = False

    def __len__(self) -> int:
        return len(self.rows)


class Finder:
    """Finds rows by their terms.

    Args:
        look: The tables; its `read` may read the files of the cache, too.
        cache: The search cache; None opens it.
    """

    def __init__(self, look: Look, cache: SearchCache | None = None) -> None:
        self._config, self._snapshots, self._read = look.config, look.snapshots, look.read
        self._cache = cache or SearchCache(look.config)
        self._gone: dict[tuple[str, str], NDArray[np.int64]] = {}
        self._kinds = {kind.name: kind for kind in kinds_of(look.config.contract)}

    def find(self, kind: str, condition: str, limit: int | None = None, *, where: str = "true") -> Hits:
        """The live rows with a term.

        Args:
            kind: The name of the kind.
            condition: SQL over `term`.
            limit: At most about so many; None means all.
            where: SQL over the columns of the kind that is true of the rows that matter, which files that are not in
                the cache are read by; others may be among the hits.
        """
        one = self._kinds[kind]
        snapshot = self._snapshots[one.role]
        if not snapshot.files:
            return Hits(one.role, ())
        snapshot.require_readable()
        while True:
            runs = self._cache.runs(one, snapshot, self._config.contract)
            try:
                return self._found(one, runs, condition, limit, where)
            except OrdertrailError:
                if not runs:
                    raise
                for run in runs:  # whichever it was: a scan answers now, and they are written anew
                    self._cache.forget(run)

    def is_sorted(self, kind: str) -> bool:
        """Whether the cache has all terms of a kind: then what `find` finds does not depend on its `where`."""
        one = self._kinds[kind]
        snapshot = self._snapshots[one.role]
        return not uncovered(self._cache.runs(one, snapshot, self._config.contract), snapshot)

    def rows_sql(self, hits: Hits) -> str:
        """SQL of a relation with the columns of the hits' table, and `_pos` as `delta.table.scan_sql` has it."""
        columns = columns_by_role(self._config.contract)[hits.role]
        return rows_sql(self._snapshots[hits.role], columns, hits.rows)

    def _found(self, kind: Kind, runs: Sequence[Run], condition: str, limit: int | None, where: str) -> Hits:
        snapshot = self._snapshots[kind.role]
        missing = uncovered(runs, snapshot)
        owner: dict[str, int] = {}
        for place, run in enumerate(runs):
            for path, _, _ in run.files:
                owner.setdefault(path, place)
        parts = []
        if runs:
            listed = ", ".join(quoted(str(run.path)) for run in runs)
            dead = [
                f"{place << 32 | number}"
                for place, run in enumerate(runs)
                for number, (path, size, _) in enumerate(run.files)
                if owner[path] != place or path not in snapshot.files or snapshot.files[path].size_bytes != size
            ]
            alive = f" AND ((CAST(run AS BIGINT) << 32) | file) NOT IN ({', '.join(dead)})" if dead else ""
            parts.append(
                f"SELECT term, run, file, row FROM (SELECT term, CAST(file_index AS INTEGER) AS run, file, row "
                f"FROM read_parquet([{listed}])) WHERE {condition}{alive}"
            )
        if missing:
            scan = terms_sql(snapshot, kind, self._config.contract, missing, where)
            parts.append(f"SELECT term, -1 AS run, file, row FROM {scan} WHERE {condition}")
        cut = "" if limit is None else f" LIMIT {limit + 1}"
        found = self._read(
            f"SELECT run, file, row FROM ({' UNION ALL '.join(parts)}) ORDER BY term, run, file, row{cut}"
        )
        rows = [
            (missing[file].path if run < 0 else runs[run].files[file][0], row)
            for run, file, row in zip(*(found[name].to_pylist() for name in ("run", "file", "row")), strict=True)
        ]
        live = tuple(one for one in rows if not self._is_deleted(snapshot, *one))
        return Hits(kind.role, live[:limit], cut=limit is not None and len(rows) > limit)

    def _is_deleted(self, snapshot: Snapshot, path: str, row: int) -> bool:
        file = snapshot.files[path]
        if file.deletion_vector is None:
            return False
        import numpy as np

        key = (path, file.deletion_vector)
        if key not in self._gone:
            self._gone[key] = deleted_rows(snapshot.root, file)
        gone = self._gone[key]
        at = int(np.searchsorted(gone, row))
        return at < len(gone) and int(gone[at]) == row


def rows_sql(snapshot: Snapshot, columns: Iterable[TableColumn], rows: Iterable[tuple[str, int]]) -> str:
    """SQL of a relation with some rows of data files: the columns, and `_pos` as `delta.table.scan_sql` has it.

    Args:
        snapshot: Locates the files.
        columns: Which columns, in order.
        rows: The path of the file in the log, and the row in it.
    """
    wanted = list(columns)
    places = {path: place for place, path in enumerate(snapshot.files)}
    by_file: defaultdict[str, set[int]] = defaultdict(set)
    for path, row in rows:
        by_file[path].add(row)
    scans = [
        "SELECT "
        + ", ".join(f"CAST(NULL AS {sql_type(c.type)}) AS {name_sql(c.name)}" for c in wanted)
        + ", CAST(NULL AS BIGINT) AS _pos WHERE false"
    ]
    for path, numbers in by_file.items():
        listed = ", ".join(map(str, sorted(numbers)))
        scans.append(
            f"SELECT *, CAST({places[path] << ROW_BITS} AS BIGINT) | file_row_number AS _pos FROM "
            f"read_parquet({quoted(str(snapshot.path_of(snapshot.files[path])))}) WHERE file_row_number IN ({listed})"
        )
    names = ", ".join(f"CAST({name_sql(c.name)} AS {sql_type(c.type)}) AS {name_sql(c.name)}" for c in wanted)
    return f"(SELECT {names}, _pos FROM ({' UNION ALL BY NAME '.join(scans)}))"
