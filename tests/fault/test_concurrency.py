"""P1 with others at work: two writers, and a writer beside an optimizer, a hundred rounds; `ROUNDS=50` for 200.

A round is two processes, each with one thing to do; after it the target must be the model's. In some rounds both begin
at one moment, in some the second begins when the first is at a given step, and in some the first waits at that step
until the second is done: then what it worked out is of a version that is no longer the newest, and the commit must be
worked out again. What the second does concerns files that the first marks or takes out.

Who loses a race may say so and do nothing: an error of ours that is safe to run again, or delta-rs' failed commit.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import CommitFailedError

from ordertrail import Pipeline, pipeline
from ordertrail.config import Config
from ordertrail.engines.embedded.engine import EmbeddedEngine
from ordertrail.errors import CommitConflictError, ForeignChangeError, PassRunningError, SourceError
from ordertrail.keep.maintain import maintain
from ordertrail.look.verify import verify
from ordertrail.model import Batch, Probe, RowCounts, no_probe
from tests.depth import DEPTH
from tests.feeds import HEADER
from tests.harness import House, check_readers, open_house, without_fsync

pytestmark = [pytest.mark.fault, pytest.mark.slow]

EAGER = "[maintenance]\nmax_small_files = 2\nmax_deleted_share = 0.1\nretention_h = 0\nlog_retention_h = 0\n"
SHARED = ("S0", "S1", "S2", "S3")
MADE_WAY = (CommitConflictError, ForeignChangeError, PassRunningError, SourceError)
ROUNDS = int(os.environ.get("ROUNDS", "24" if DEPTH == 1 else "12"))


@dataclass(frozen=True, slots=True)
class Meeting:
    """How the two of a round meet.

    Attributes:
        at: The step of the first one's pass at which the second begins, as its probe names it; None: both at once.
        wait: Whether the first one waits there until the second is done.
    """

    at: str | None = None
    wait: bool = False


AT_ONCE = Meeting()
BESIDE_THE_COMMIT = Meeting("load.files")
BEFORE_THE_COMMIT = Meeting("load.files", wait=True)


# --- what a process does -------------------------------------------------------------------------------------------


class Counting(EmbeddedEngine):
    """The engine, and how often a load had to be worked out again."""

    conflicts = 0

    def load(self, batch: Batch) -> Mapping[str, RowCounts]:
        """See `Engine.load`."""
        try:
            return super().load(batch)
        except CommitConflictError:
            type(self).conflicts += 1
            raise


def load(config: Config, probe: Probe) -> bool:
    """A pass on this machine."""
    return Pipeline(config, probe=probe, engine=Counting).run().batch is not None


def load_elsewhere(config: Config, probe: Probe) -> bool:
    """A pass on a machine that no lock reaches."""
    with mock.patch.object(pipeline, "pipeline_lock", return_value=nullcontext()):
        return load(config, probe)


def optimize(config: Config, _: Probe) -> bool:
    """Our maintenance: compaction, checkpoints, clean-up of log and files."""
    maintain(config)
    return True


def compact(config: Config, _: Probe) -> bool:
    """delta-rs' compaction."""
    DeltaTable(config.table_path(config.tables.target)).optimize.compact()
    return True


def append(config: Config, _: Probe, key: str) -> bool:
    """A row of somebody else's, under a key of its own."""
    table = DeltaTable(config.table_path(config.tables.target))
    query = QueryBuilder().register("t", table).execute("SELECT * FROM t WHERE tracking_num = 'F0'")
    row = pa.table(query).slice(0, 1)
    key_at = row.schema.get_field_index("tracking_num")
    row = row.set_column(key_at, row.schema.field(key_at), pa.array([key], row.schema.field(key_at).type))
    write_deltalake(table, row, mode="append")
    return True


def delete(config: Config, _: Probe, key: str) -> bool:
    """Take a row out; delta-rs writes the rest of its file anew."""
    return bool(DeltaTable(config.table_path(config.tables.target)).delete(f"tracking_num = '{key}'"))


DEEDS: Mapping[str, Callable[..., bool]] = {
    one.__name__: one for one in (load, load_elsewhere, optimize, compact, append, delete)
}


def work(orders: Connection, barrier: Any, first: bool) -> None:
    """The process: an order, the meeting, the deed, its end and its conflicts; until the orders end."""
    with without_fsync():
        for meeting, name, *given in iter(orders.recv, None):
            reached: list[str] = []

            def probe(step: str, meeting: Meeting = meeting, reached: list[str] = reached) -> None:
                if step == meeting.at and not reached:
                    reached.append(step)
                    barrier.wait(60)
                    if meeting.wait:
                        barrier.wait(60)

            Counting.conflicts = 0
            if not (first and meeting.at):
                barrier.wait(60)
            end: bool | str
            try:
                end = DEEDS[name](given[0], probe if first else no_probe, *given[1:])
            except (*MADE_WAY, CommitFailedError) as error:
                end = f"made way: {error}"
            except Exception as error:  # noqa: BLE001 - the test says which it was
                end = f"{type(error).__name__}: {error}"
            if meeting.wait and not first:
                barrier.wait(60)
            orders.send((end, Counting.conflicts))


# --- the two of them, and what must hold ---------------------------------------------------------------------------


@dataclass(slots=True)
class Arena:
    """A pipeline, two processes, and the model: `address` by key.

    Attributes:
        house: The pipeline.
        orders: To the two processes.
        model: What the target must hold.
        done: How often each deed was done (True), and how often it made way (False).
        conflicts: How often a load was worked out again.
    """

    house: House
    orders: tuple[Connection, Connection]
    model: dict[str, str] = field(default_factory=dict)
    done: Counter[tuple[str, bool]] = field(default_factory=Counter)
    conflicts: int = 0

    def drop(self, name: str, rows: Mapping[str, str], minute: int) -> None:
        """A vendor's file; the rows of a later minute win."""
        at = f"2026-11-{1 + minute // 1440:02d} {minute // 60 % 24:02d}:{minute % 60:02d}:00"
        lines = [f"O,{key},2026-11-19,,IN_TRANSIT,{address},{at}" for key, address in rows.items()]
        self.house.drop(f"{name}_2026_11_20.csv", "\n".join([",".join(HEADER), *lines]) + "\n")
        self.model |= rows

    def drop_round(self, number: int) -> None:
        """A round's file: a new key, one that every file of before has, and one that only the first file has."""
        rows = {f"A{number}": "new", SHARED[number % 4]: f"at {number}", f"B{number}": f"again {number}"}
        self.drop(f"a{number:03d}", rows, 1 + number)

    def round(self, meeting: Meeting, *deeds: tuple[str, *tuple[str, ...]]) -> list[bool]:
        """One round; which of the two did what it was to do."""
        for orders, (name, *given) in zip(self.orders, deeds, strict=True):
            orders.send((meeting, name, self.house.config, *given))
        ended = [orders.recv() for orders in self.orders]
        for (name, *_), (end, conflicts) in zip(deeds, ended, strict=True):
            assert isinstance(end, bool) or end.startswith("made way"), f"{name}: {end}"
            self.done[name, end is True] += 1
            self.conflicts += conflicts
        return [end is True for end, _ in ended]

    def check(self) -> None:
        """What made way is done now; then the target is the model, each key once."""
        self.house.run()
        rows = self.house.rows("target")
        assert sorted((str(row["tracking_num"]), row["address"]) for row in rows) == sorted(self.model.items())

    def check_all(self, *, foreign: bool) -> None:
        """The whole warehouse: the promises, with every file and vector that a log names; all readers; the logs."""
        report = verify(self.house.config)
        failed = {check.name for check in report.checks if not check.ok}
        # Foreign rows are no part of the fold.
        assert failed <= ({"the target is the fold of the history"} if foreign else set()), report
        check_readers(self.house)
        for table in ("target", "history", "rejects", "deliveries"):
            log = self.house.table_path(table) / "_delta_log"
            versions = sorted(int(path.stem) for path in log.glob("*.json") if path.stem.isdigit())
            assert versions == list(range(versions[0], versions[-1] + 1))
            for path in log.glob("*.json"):
                assert [json.loads(line) for line in path.read_text().splitlines()]


@contextmanager
def arena_in(root: Path, toml: str = "", *, foreign: bool = False) -> Iterator[Arena]:
    """An arena, the first file loaded; at the end the whole warehouse is looked at."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    pipes = [spawn.Pipe() for _ in range(2)]
    processes = [
        spawn.Process(target=work, args=(theirs, barrier, place == 0), daemon=True)
        for place, (_, theirs) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    arena = Arena(open_house(root, toml), (pipes[0][0], pipes[1][0]))
    try:
        with without_fsync():
            own = [f"{letter}{number}" for letter in "BF" for number in range(ROUNDS)]
            arena.drop("first", dict.fromkeys([*SHARED, *own], "first"), 0)
            arena.check()
            yield arena
            arena.check_all(foreign=foreign)
    finally:
        for ours, _ in pipes:
            ours.send(None)
        for process in processes:
            process.join(30)
            process.kill()


def test_two_passes_on_one_machine(tmp_path: Path) -> None:
    meetings = (AT_ONCE, Meeting("plan.decided"), BESIDE_THE_COMMIT, Meeting("load.committed", wait=True))
    with arena_in(tmp_path) as arena:
        for number in range(ROUNDS):
            arena.drop_round(number)
            assert any(arena.round(meetings[number % len(meetings)], ("load",), ("load",)))
            arena.check()
        assert arena.conflicts == 0  # the lock lets one of them in


def test_two_passes_on_two_machines(tmp_path: Path) -> None:
    steps = ("plan.decided", "stage.files", "load.vectors", "load.files", "load.committed")
    meetings = (AT_ONCE, *(Meeting(step, wait) for step in steps for wait in (False, True)))
    with arena_in(tmp_path) as arena:
        for number in range(ROUNDS):
            arena.drop_round(number)
            arena.round(meetings[number % len(meetings)], ("load_elsewhere",), ("load_elsewhere",))
            arena.check()
        assert arena.conflicts >= ROUNDS // len(meetings), arena


def test_a_pass_and_a_foreign_writer(tmp_path: Path) -> None:
    meetings = (AT_ONCE, BESIDE_THE_COMMIT, BEFORE_THE_COMMIT)
    with arena_in(tmp_path, foreign=True) as arena:
        for number in range(ROUNDS):
            arena.drop_round(number)
            foreign, key = ("delete", f"F{number}") if number % 2 else ("append", f"G{number}")
            loaded, done = arena.round(meetings[number % len(meetings)], ("load",), (foreign, key))
            assert loaded
            if done and foreign == "append":
                arena.model[key] = "first"
            elif done:
                del arena.model[key]
            arena.check()
        assert arena.conflicts >= ROUNDS // len(meetings), arena
        assert arena.done["append", True], arena
        assert arena.done["delete", True], arena


@pytest.mark.series
@pytest.mark.parametrize(("writer", "optimizer"), [("load_elsewhere", "optimize"), ("load", "compact")])
def test_a_pass_and_an_optimizer(tmp_path: Path, writer: str, optimizer: str) -> None:
    # There is something to compact in every third round: each kind of meeting has its turn.
    meetings = (AT_ONCE, BEFORE_THE_COMMIT, BESIDE_THE_COMMIT, BEFORE_THE_COMMIT)
    with arena_in(tmp_path, EAGER) as arena:
        for number in range(ROUNDS):
            arena.drop_round(number)
            loaded, _ = arena.round(meetings[number % len(meetings)], (writer,), (optimizer,))
            assert loaded
            arena.check()
            if number >= ROUNDS // 2 and arena.conflicts:
                break  # on a busy machine they miss each other more often
        assert arena.conflicts, arena
        assert arena.done[optimizer, True], arena
