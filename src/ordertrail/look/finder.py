"""Finds rows of the target and the history by their terms, through the search cache as far as it reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import Struct

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.vectors import deleted_rows
from ordertrail.engines.local.find import physical_rows
from ordertrail.errors import OrdertrailError
from ordertrail.look.places import Place, rows_sql
from ordertrail.look.quick import Look
from ordertrail.look.search_cache import Run, SearchCache, terms_sql, uncovered
from ordertrail.look.terms import Kind, Sought, kinds_of
from ordertrail.rules.sql import quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_HITS = 1_000
"""A search by a part looks at no more rows than these; how many there are beside them nobody needs to know."""


class Hits(Struct, frozen=True):
    """Live rows of one table.

    Attributes:
        role: The table.
        rows: Where they are, in the order of their terms.
        cut: Whether there may be more.
        terms: The term of each.
    """

    role: str
    rows: tuple[Place, ...]
    cut: bool = False
    terms: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


class Finder:
    """Finds rows by their terms.

    Args:
        look: The tables; its `read` may read the files of the cache, too.
        cache: The search cache; None opens it.
    """

    def __init__(self, look: Look, cache: SearchCache | None = None) -> None:
        self._look, self._config, self._snapshots = look, look.config, look.snapshots
        self._cache = cache or SearchCache(look.config)
        self._gone: dict[tuple[str, str], NDArray[np.int64]] = {}
        self._kinds = {kind.name: kind for kind in kinds_of(look.config.contract)}

    def find(self, kind: str, sought: Sought, limit: int | None = None, *, where: str = "true") -> Hits:
        """The live rows with a term.

        Args:
            kind: The name of the kind.
            sought: Which terms.
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
                return self._found(one, runs, sought, limit, where)
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

    def is_scanned(self, kind: str) -> bool:
        """Whether the cache has no terms of a kind, so that every search of it reads the whole table."""
        one = self._kinds[kind]
        return not self._cache.runs(one, self._snapshots[one.role], self._config.contract)

    def rows_behind(self) -> int:
        """How many rows of data files searches have to read, because the cache does not have their terms."""
        total = 0
        for kind in self._kinds.values():
            snapshot = self._snapshots[kind.role]
            left = uncovered(self._cache.runs(kind, snapshot, self._config.contract), snapshot)
            total += sum(physical_rows(snapshot, file) for file in left)
        return total

    def rows_sql(self, hits: Hits) -> str:
        """SQL of a relation with the columns of the hits' table, and `_pos` as `delta.table.scan_sql` has it."""
        return rows_sql(self._look, hits.role, None, hits.rows)

    def _found(self, kind: Kind, runs: Sequence[Run], sought: Sought, limit: int | None, where: str) -> Hits:
        snapshot = self._snapshots[kind.role]
        missing = uncovered(runs, snapshot)
        owner: dict[str, int] = {}
        for place, run in enumerate(runs):
            for path, _, _ in run.files:
                owner.setdefault(path, place)
        parts, rows = [], list[tuple[str, int, int, int]]()
        most = None if limit is None else limit + 1
        for place, run in enumerate(runs):
            dead = {
                number
                for number, (path, size, _) in enumerate(run.files)
                if owner[path] != place or path not in snapshot.files or snapshot.files[path].size_bytes != size
            }
            if sought.spans:
                rows += [(term, place, file, row) for term, file, row in islice(_alive(run, sought, dead), most)]
            else:
                alive = f" AND file NOT IN ({', '.join(map(str, dead))})" if dead else ""
                scan = f"SELECT term, {place} AS run, file, row FROM read_parquet({quoted(str(run.path))})"
                parts.append(f"SELECT * FROM ({scan}) WHERE {sought.sql}{alive}")
        if missing:
            scan = terms_sql(snapshot, kind, self._config.contract, missing, where)
            parts.append(f"SELECT term, -1 AS run, file, row FROM {scan} WHERE {sought.sql}")
        if parts:
            cut = "" if most is None else f" LIMIT {most}"
            found = self._look.read(f"FROM ({' UNION ALL '.join(parts)}) ORDER BY term, run, file, row{cut}")
            columns = (found[name].to_pylist() for name in ("term", "run", "file", "row"))
            rows += zip(*columns, strict=True)
        rows.sort()
        there = [
            ((missing[file].path if run < 0 else runs[run].files[file][0], row), term)
            for term, run, file, row in rows[:most]
        ]
        live = [(place, term) for place, term in there if not self._is_deleted(snapshot, *place)][:limit]
        places, terms = tuple(place for place, _ in live), tuple(term for _, term in live)
        return Hits(kind.role, places, cut=limit is not None and len(there) > limit, terms=terms)

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


def _alive(run: Run, sought: Sought, dead: set[int]) -> Iterator[tuple[str, int, int]]:
    """The terms of a run that are sought, but for those of some of its data files."""
    return (one for span in sought.spans for one in run.terms.between(span) if one[1] not in dead)
