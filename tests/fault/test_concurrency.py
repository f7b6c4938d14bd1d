"""P1 with others at work: two writers, and a writer beside an optimizer, 200 rounds.

A round is two processes that begin at one moment, each with one thing to do; after it the target must be the model's.

Who loses a race may say so and do nothing: an error of ours that is safe to run again, or delta-rs' failed commit.
"""

from __future__ import annotations

import json
import multiprocessing
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
from ordertrail.errors import CommitConflictError, ForeignChangeError, PassRunningError, SourceError
from ordertrail.maintain import maintain
from ordertrail.verify import verify
from tests.feeds import HEADER
from tests.harness import House, check_readers, open_house, without_fsync

pytestmark = [pytest.mark.fault, pytest.mark.slow]

EAGER = "[maintenance]\nmax_small_files = 2\nmax_deleted_share = 0.1\nretention_h = 0\nlog_retention_h = 0\n"
SHARED = ("S0", "S1", "S2", "S3")
MADE_WAY = (CommitConflictError, ForeignChangeError, PassRunningError, SourceError)
ROUNDS = 50


# --- what a process does -------------------------------------------------------------------------------------------


def load(config: Config) -> bool:
    """A pass on this machine."""
    return Pipeline(config).run().batch is not None


def load_elsewhere(config: Config) -> bool:
    """A pass on a machine that no lock reaches."""
    with mock.patch.object(pipeline, "pipeline_lock", return_value=nullcontext()):
        return load(config)


def optimize(config: Config) -> bool:
    """Our maintenance: compaction, checkpoints, clean-up of log and files."""
    maintain(config)
    return True


def compact(config: Config) -> bool:
    """delta-rs' compaction."""
    DeltaTable(config.table_path(config.tables.target)).optimize.compact()
    return True


def append(config: Config, key: str) -> bool:
    """A row of somebody else's, under a key of its own."""
    table = DeltaTable(config.table_path(config.tables.target))
    query = QueryBuilder().register("t", table).execute("SELECT * FROM t WHERE tracking_num = 'S0'")
    row = pa.table(query).slice(0, 1)
    key_at = row.schema.get_field_index("tracking_num")
    row = row.set_column(key_at, row.schema.field(key_at), pa.array([key], row.schema.field(key_at).type))
    write_deltalake(table, row, mode="append")
    return True


def delete(config: Config, key: str) -> bool:
    """Take one of them out again."""
    return bool(DeltaTable(config.table_path(config.tables.target)).delete(f"tracking_num = '{key}'"))


DEEDS: Mapping[str, Callable[..., bool]] = {
    one.__name__: one for one in (load, load_elsewhere, optimize, compact, append, delete)
}


def work(orders: Connection, barrier: Any) -> None:
    """The process: an order, the common start, the deed, its end; until the orders end."""
    with without_fsync():
        for name, *given in iter(orders.recv, None):
            barrier.wait(60)
            try:
                orders.send(DEEDS[name](*given))
            except (*MADE_WAY, CommitFailedError) as error:
                orders.send(f"made way: {error}")
            except Exception as error:  # noqa: BLE001 - the test says which it was
                orders.send(f"{type(error).__name__}: {error}")


# --- the two of them, and what must hold ---------------------------------------------------------------------------


@dataclass(slots=True)
class Arena:
    """A pipeline, two processes, and the model: `address` by key.

    Attributes:
        house: The pipeline.
        model: What the target must hold.
        done: How often each deed was done, and how often it made way.
    """

    house: House
    orders: tuple[Connection, Connection]
    model: dict[str, str] = field(default_factory=dict)
    done: dict[tuple[str, bool], int] = field(default_factory=dict)

    def drop(self, name: str, rows: Mapping[str, str], minute: int) -> None:
        """A vendor's file; the rows of a later minute win."""
        at = f"2026-11-{1 + minute // 1440:02d} {minute // 60 % 24:02d}:{minute % 60:02d}:00"
        lines = [f"O,{key},2026-11-19,,IN_TRANSIT,{address},{at}" for key, address in rows.items()]
        self.house.drop(f"{name}_2026_11_20.csv", "\n".join([",".join(HEADER), *lines]) + "\n")
        self.model |= rows

    def round(self, *deeds: tuple[Any, ...]) -> list[bool]:
        """Both at once; which of them did what it was to do."""
        for orders, deed in zip(self.orders, deeds, strict=True):
            orders.send((deed[0], self.house.config, *deed[1:]))
        ended = [orders.recv() for orders in self.orders]
        for deed, end in zip(deeds, ended, strict=True):
            assert isinstance(end, bool) or end.startswith("made way"), f"{deed[0]}: {end}"
            self.done[deed[0], end is True] = self.done.get((deed[0], end is True), 0) + 1
        return [end is True for end in ended]

    def check(self) -> None:
        """What made way is done now; then the target is the model, each key once."""
        self.house.run()
        rows = self.house.rows("target")
        assert sorted((str(row["tracking_num"]), row["address"]) for row in rows) == sorted(self.model.items())

    def check_all(self) -> None:
        """The whole warehouse: the promises, with every file and vector that a log names; all readers; the logs."""
        report = verify(self.house.config)
        assert report.ok or {check.name for check in report.checks if not check.ok} <= {
            "the target is the fold of the history"  # of which foreign rows are no part
        }
        check_readers(self.house)
        for table in ("target", "history", "rejects", "deliveries"):
            log = self.house.table_path(table) / "_delta_log"
            versions = sorted(int(path.stem) for path in log.glob("*.json") if path.stem.isdigit())
            assert versions == list(range(versions[0], versions[-1] + 1))
            for path in log.glob("*.json"):
                assert [json.loads(line) for line in path.read_text().splitlines()]


@contextmanager
def arena_in(root: Path, toml: str = "") -> Iterator[Arena]:
    """An arena with the shared keys loaded."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    pipes = [spawn.Pipe() for _ in range(2)]
    processes = [spawn.Process(target=work, args=(theirs, barrier), daemon=True) for _, theirs in pipes]
    for process in processes:
        process.start()
    arena = Arena(open_house(root, toml), (pipes[0][0], pipes[1][0]))
    try:
        with without_fsync():
            arena.drop("first", dict.fromkeys(SHARED, "first"), 0)
            arena.check()
            yield arena
            arena.check_all()
    finally:
        for ours, _ in pipes:
            ours.send(None)
        for process in processes:
            process.join(30)
            process.kill()


def test_two_passes_on_one_machine(tmp_path: Path) -> None:
    with arena_in(tmp_path) as arena:
        for number in range(ROUNDS):
            arena.drop(f"a{number:03d}", {f"A{number}": "new", SHARED[number % 4]: f"at {number}"}, 1 + number)
            done = arena.round(("load",), ("load",))
            assert any(done)
            arena.check()


def test_two_passes_on_two_machines(tmp_path: Path) -> None:
    with arena_in(tmp_path) as arena:
        for number in range(ROUNDS):
            arena.drop(f"a{number:03d}", {f"A{number}": "new", SHARED[number % 4]: f"at {number}"}, 1 + number)
            arena.round(("load_elsewhere",), ("load_elsewhere",))
            arena.check()


def test_a_pass_and_a_foreign_writer(tmp_path: Path) -> None:
    with arena_in(tmp_path) as arena:
        for number in range(ROUNDS):
            arena.drop(f"a{number:03d}", {f"A{number}": "new", SHARED[1 + number % 3]: f"at {number}"}, 1 + number)
            key = f"F{number - number % 2}"
            foreign = "delete" if number % 2 and key in arena.model else "append"
            _, done = arena.round(("load",), (foreign, key))
            if done and foreign == "append":
                arena.model[key] = "first"
            elif done:
                del arena.model[key]
            arena.check()
        assert all(arena.done.get((deed, True)) for deed in ("load", "append", "delete")), arena.done


@pytest.mark.parametrize("optimizer", ["optimize", "compact"])
def test_a_pass_and_an_optimizer(tmp_path: Path, optimizer: str) -> None:
    with arena_in(tmp_path, EAGER) as arena:
        for number in range(ROUNDS // 2):
            arena.drop(f"a{number:03d}", {f"A{number}": "new", SHARED[number % 4]: f"at {number}"}, 1 + number)
            arena.round(("load",), (optimizer,))
            arena.check()
        assert arena.done["load", True], arena.done
        assert arena.done[optimizer, True], arena.done
