"""The read model for a process that looks again and again: what did not change since the last look is not read again.

A look costs two questions to the file system for each table while nothing is committed. After a commit its entries are
read, and what was kept of the tables before is closed once nobody uses it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, cast

from msgspec import Struct, field
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot, follow_snapshot
from ordertrail.engines.base import IncidentTable
from ordertrail.engines.choice import incident_table, located
from ordertrail.engines.local.whole import places_of, read_whole
from ordertrail.errors import PassRunningError
from ordertrail.look.arrivals import DAYS, Arrivals
from ordertrail.look.standing import Status, not_begun
from ordertrail.look.status import Reader
from ordertrail.markers import Belonging
from ordertrail.rules.incidents import Incident, listed
from ordertrail.rules.losses import ROLES

if TYPE_CHECKING:
    import pyarrow as pa

    from ordertrail.look.finder import Finder
    from ordertrail.look.quick import QuickLook, QuickTables
    from ordertrail.look.search_cache import SearchCache

QUICK_MB = 64
"""Memory of DuckDB for what a page reads, in MB."""

SLOW_MB = 256
"""Memory of DuckDB for a query of the reader's, in MB; it is given back when the query has ended."""

KEPT_S = 1.0
"""After a query that took less, in seconds, the reader is kept: it holds little memory, and to begin one takes long."""

STATUS_AGE_S = 1.0
"""How old a status may be, in seconds: it lists the source folder, which no commit tells of."""

PATIENCE_S = 0.05
"""How long who asks waits for a new state of the tables before getting the one before, in seconds."""

_THREAD = "ordertrail-renewal"

WAIT_S = 5.0
"""How long a page waits for another one that reads tables, in seconds."""


class Moment:
    """A pipeline as it was at one moment. Made by `Followed.now`; several threads may use it.

    Attributes:
        config: With the contract that the tables carry, and little memory.
        begun: Whether there are tables: a pass has run.
        snapshots: Of the five tables, by role; empty before the first pass.
        versions: Of the logs of the five tables, by role; empty before the first pass.
    """

    def __init__(
        self,
        asked: Config,
        found: Mapping[str, Snapshot],
        incidents: IncidentTable | None,
        shared: _Shared,
        before: Moment | None = None,
    ) -> None:
        self._asked = asked
        self._incidents = incidents
        self._shared = shared
        self.snapshots = found
        self.versions = {role: snapshot.version for role, snapshot in found.items()}
        small = replace(asked, memory_limit_mb=min(QUICK_MB, asked.memory_limit_mb), threads=1)
        # Each batch makes several states of the tables, and most have the deliveries of the one before.
        like = before if before is not None and _same_deliveries(found, before.snapshots) else None
        self._of_deliveries: dict[object, object] = {} if like is None else {**like._of_deliveries}
        read = None if like is None else like._reader
        self._reader: Reader | None = Reader(small, found=found, like=read) if found else None
        self.config = self._reader.config if self._reader is not None else asked
        self.begun = self._reader is not None
        self.differs = self._reader.differs if self._reader is not None else ""
        self._larger: Reader | None = None
        self._reading = threading.Lock()
        self._querying = threading.Lock()
        self._looking = threading.Lock()
        self._status: tuple[float, Status] | None = None
        self._arrivals: dict[int, tuple[float, tuple[Arrivals, ...]]] = {}
        self._kept: dict[object, object] = {}

    def status(self, age_s: float = STATUS_AGE_S) -> Status:
        """The state of the pipeline.

        Args:
            age_s: How old it may be, in seconds.
        """
        with self._looking:
            if self._status is None or time.monotonic() - self._status[0] >= age_s:
                found = not_begun(self._asked) if self._reader is None else self._reader.status()
                self._status = time.monotonic(), found
            return self._status[1]

    def deliveries(self, names: Sequence[str], *, keep: bool = True) -> pa.Table:
        """Columns of `orders_deliveries`, in the same order of rows at each call.

        Args:
            names: Of the columns.
            keep: Whether they stay in memory: not where only what is made of them is kept.
        """
        assert self._reader is not None, "there are no tables yet"
        with self._looking:
            return self._reader.delivery_columns(names, keep=keep)

    def arrivals(self, now: datetime, days: int = DAYS) -> tuple[Arrivals, ...]:
        """What came of each vendor of the config, and what is expected of it.

        Args:
            now: Aware UTC.
            days: How many days of each vendor are told, today included.
        """
        assert self._reader is not None, "there are no tables yet"
        with self._looking:
            known = self._arrivals.get(days)
            if known is None or time.monotonic() - known[0] >= STATUS_AGE_S:
                known = self._arrivals[days] = time.monotonic(), self._reader.arrivals(days=days, now=now)
            return known[1]

    def kept(self, key: object, make: Callable[[], object], *, of_deliveries: bool = False) -> object:
        """What `make` returns, made once for this state of the tables. Of two threads one may make it in vain.

        Args:
            key: What it is kept by, such as a function.
            make: Makes it.
            of_deliveries: Whether it depends on the deliveries alone: then it is made once for each state of them.
        """
        kept = self._of_deliveries if of_deliveries else self._kept
        if key not in kept:
            kept[key] = make()
        return kept[key]

    @property
    def look(self) -> QuickLook:
        """A look at the tables that costs no opening of them: for the SQL of read models. Threads may share it."""
        assert self._reader is not None, "there are no tables yet"
        return cast("QuickLook", self.kept("look", lambda: self._shared.tables().look(self.config, self.snapshots)))

    @property
    def finder(self) -> Finder:
        """Finds shipments in this state of the tables."""
        return cast("Finder", self.kept("finder", lambda: self._shared.finder(self.look)))

    @contextmanager
    def reading(self, wait_s: float = WAIT_S) -> Iterator[Reader]:
        """The reader of the tables, for one thread at a time: for calls that take milliseconds.

        Args:
            wait_s: How long to wait for other threads, in seconds.

        Raises:
            PassRunningError: They took longer.
        """
        assert self._reader is not None, "there are no tables yet"
        with _turn(self._reading, wait_s):
            yield self._reader

    @contextmanager
    def querying(self, wait_s: float = WAIT_S) -> Iterator[Reader]:
        """A reader with more memory, for one thread at a time: for calls that may take seconds. One core is its own.

        Args:
            wait_s: How long to wait for another thread, in seconds.

        Raises:
            PassRunningError: It took longer.
        """
        assert self._reader is not None, "there are no tables yet"
        with _turn(self._querying, wait_s):
            if self._larger is None:
                larger = replace(self._asked, memory_limit_mb=min(SLOW_MB, self._asked.memory_limit_mb), threads=1)
                self._larger = Reader(larger, found=self.snapshots)
            begin, small = time.monotonic(), False
            try:
                yield self._larger
                small = time.monotonic() - begin < KEPT_S
            finally:
                if not small:
                    self._larger.close()
                    self._larger = None

    def incidents(self) -> tuple[Incident, ...]:
        """The incidents: open ones first, newest first. They are those of now, not of the moment."""
        with self._looking:
            return () if self._incidents is None else listed(self._incidents.read().incidents)

    def close(self) -> None:
        """Release all resources, and all that is kept, whoever still holds the moment. Idempotent."""
        for reader in (self._reader, self._larger):
            if reader is not None:
                reader.close()
        self._reader = self._larger = self._status = None
        self._arrivals.clear()
        self._kept.clear()
        self._of_deliveries.clear()


class _Renewal(Struct):
    """A moment that is being made of tables that changed."""

    began_s: float
    ended: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class _Shared:
    """What all moments of a process share. Its libraries are imported by the first page that needs them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: QuickTables | None = None
        self._cache: SearchCache | None = None

    def tables(self) -> QuickTables:
        from ordertrail.look.quick import QuickTables

        with self._lock:
            self._tables = self._tables or QuickTables(QUICK_MB)
            return self._tables

    def finder(self, look: QuickLook) -> Finder:
        from ordertrail.look.finder import Finder
        from ordertrail.look.search_cache import SearchCache

        with self._lock:
            self._cache = self._cache or SearchCache(look.config)
        return Finder(look, self._cache)

    def close(self) -> None:
        with self._lock:
            if self._tables is not None:
                self._tables.close()


class Followed:
    """The tables of a pipeline, each time as they are. Safe to use by several threads; call `close` at the end.

    Where there are many deliveries, to sum up a new state of the tables takes longer than a reader should wait: who
    asks meanwhile gets the state before, which is a moment old; at once, where the last one took too long as well.

    Args:
        config: Of the pipeline.
        prepare: Called with each new moment before anybody gets it, to make what it keeps.
        patience_s: How long to wait for a new state where there is one before, in seconds.

    Raises:
        UsageError: Only Spark reaches the tables, and it cannot start.
    """

    def __init__(
        self, config: Config, *, prepare: Callable[[Moment], object] | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self.config = located(config)
        self._logs = {role: DeltaLog(root) for role, root in places_of(self.config).items()}
        # Those that only a catalog knows would be a job of Spark's for each look.
        self._incidents = None if config.by_name else incident_table(self.config)
        self._shared = _Shared()
        self._prepare = prepare
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._latest: Moment | None = None
        self._renewal: _Renewal | None = None
        self._closed = False
        self._users: Counter[Moment] = Counter()
        self._took_s = 0.0
        self._written_s: dict[str, float] = {}

    @contextmanager
    def now(self) -> Iterator[Moment]:
        """The pipeline as it is, for the block.

        Raises:
            TableError: A table is damaged, or missing though it was made.
            SourceError: There are no tables, and a pass would not make any.
        """
        moment = self._taken()
        try:
            yield moment
        finally:
            with self._lock:
                self._users[moment] -= 1
                self._close_unused(moment)

    def close(self) -> None:
        """Release all resources; those of moments in use once they are left. Idempotent."""
        with self._lock:
            self._closed = True
            latest, self._latest = self._latest, None
            if latest is not None:
                self._close_unused(latest)
        self._shared.close()

    def _close_unused(self, moment: Moment) -> None:
        if moment is not self._latest and not self._users[moment]:
            del self._users[moment]
            moment.close()

    def _taken(self) -> Moment:
        """The latest moment, counted as in use."""
        with self._lock:
            if self._closed:
                raise PassRunningError("the tables are no longer followed", hint="start again")
            before, renewal = self._latest, self._renewal
            if renewal is None:
                found = self._found({} if before is None else before.snapshots)
                if before is not None and _same(found, before.snapshots):
                    self._users[before] += 1
                    return before
                renewal = self._renewal = _Renewal(time.monotonic())
                threading.Thread(target=self._renew, args=(renewal, found), name=_THREAD, daemon=True).start()
            wait_s = self._patience_s if self._took_s <= self._patience_s else 0.0
        renewal.ended.wait(None if before is None else wait_s)
        with self._lock:
            if renewal.error is not None:
                raise renewal.error
            if self._latest is None:
                raise PassRunningError("the tables are no longer followed", hint="start again")
            self._users[self._latest] += 1
            return self._latest

    def _renew(self, renewal: _Renewal, found: Mapping[str, Snapshot]) -> None:
        moment: Moment | None = None
        try:
            moment = Moment(self.config, found, self._incidents, self._shared, self._latest)
            moment.status()
            if self._prepare is not None and moment.begun:
                self._prepare(moment)
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits for it
            renewal.error = error
        finally:
            with self._lock:
                self._renewal, before = None, self._latest
                if before is not None:  # the first one imports libraries, too
                    self._took_s = time.monotonic() - renewal.began_s
                if moment is not None and renewal.error is None and not self._closed:
                    self._latest = moment
                    if before is not None:
                        self._close_unused(before)
                elif moment is not None:
                    moment.close()
            renewal.ended.set()
            give_back()

    def _found(self, known: Mapping[str, Snapshot]) -> dict[str, Snapshot]:
        """The tables by role, read from the last one that a batch writes to the first; empty before the first pass."""
        if not known and not any(log.exists() for log in self._logs.values()):
            Belonging(self.config).refuse_beginning()
            return {}
        # Tables that were made anew in the same folders may have got as far as the old ones.
        same = known and all(self._logs[role].written_s(known[role].version) == self._written_s[role] for role in known)
        if same:
            found = {role: follow_snapshot(self._logs[role], known[role]) for role in reversed(ROLES)}
        else:
            found = read_whole(self.config)
        self._written_s = {role: self._logs[role].written_s(snapshot.version) for role, snapshot in found.items()}
        return found


def give_back() -> None:
    """Give memory that columns took for a moment back to the system, where its allocator would keep it (glibc)."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _same(found: Mapping[str, Snapshot], known: Mapping[str, Snapshot]) -> bool:
    return found.keys() == known.keys() and all(one is known[role] for role, one in found.items())


def _same_deliveries(found: Mapping[str, Snapshot], known: Mapping[str, Snapshot]) -> bool:
    return "deliveries" in known and found.get("deliveries") is known["deliveries"]


@contextmanager
def _turn(lock: threading.Lock, wait_s: float) -> Iterator[None]:
    if not lock.acquire(timeout=wait_s):
        raise PassRunningError("others are reading the tables", hint="try again in a moment")
    try:
        yield
    finally:
        lock.release()
