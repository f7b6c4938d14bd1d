"""P1 on storage that fails: a full disk, errors at every put of a log entry, replies that are lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from ordertrail.delta import table
from ordertrail.delta.log import LocalLogStore
from ordertrail.errors import CommitUnknownError, OrdertrailError, StorageError
from tests.depth import DEPTH, drawn
from tests.fault.world import BATCHES, State, World

pytestmark = pytest.mark.fault

PUTS = (11, 6)
"""Log entries that the first pass, which makes the tables, and a later one put."""


slow = partial(pytest.param, marks=pytest.mark.slow)


def error_of(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class FailingStore:
    """A local store whose n-th put (from 0) goes wrong in some way."""

    def __init__(self, at: int, fail: Callable[[Path, bytes], None]) -> None:
        self.at = at
        self.fail = fail
        self.puts = 0
        self.failed: Path | None = None

    def put_if_absent(self, path: Path, data: bytes) -> None:
        self.puts += 1
        if self.puts - 1 == self.at:
            self.failed = path
            self.fail(path, data)
        else:
            LocalLogStore().put_if_absent(path, data)


@dataclass(frozen=True, slots=True)
class Before:
    """The worlds before the first and the second batch, and what an undisturbed run ends in."""

    worlds: list[World]
    states: list[State]

    def world(self, batch: int, base: Path) -> World:
        """A new one, the files of the batch waiting."""
        world = self.worlds[batch].copy(base)
        world.put(BATCHES[batch])
        return world

    def is_right(self, world: World, batch: int, where: object) -> None:
        assert world.state() == self.states[batch], f"after a fault at {where}"
        world.check([file for files in BATCHES[: batch + 1] for file in files])

    def ends_right(self, world: World, batch: int, where: object) -> None:
        world.run()
        self.is_right(world, batch, where)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Before:
    folder = tmp_path_factory.mktemp("storage")
    world = World.make(folder / "undisturbed")
    found = Before([], [])
    for number, files in enumerate(BATCHES[:2]):
        found.worlds.append(world.copy(folder / f"before-{number}"))
        world.put(files)
        world.run()
        found.states.append(world.state())
    return found


@pytest.fixture(params=[pytest.param(0, marks=pytest.mark.slow), 1], ids=["first batch", "second batch"])
def batch(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def attempt(world: World, store: FailingStore | None = None) -> OrdertrailError | None:
    """Run a pass; the error it ends with. One that is none of ours fails the test."""
    try:
        world.run(store=store)
    except OrdertrailError as error:
        return error
    return None


@pytest.mark.parametrize("code", [errno.ENOSPC, slow(errno.EIO)], ids=errno.errorcode.get)
def test_a_put_that_fails(before: Before, batch: int, code: int, tmp_path: Path) -> None:
    """Nothing was written: the pass ends with StorageError and a hint, and the next one ends as if undisturbed."""

    def fail(path: Path, data: bytes) -> None:
        raise error_of(code)

    for at in drawn(range(PUTS[batch]), (batch, code)):
        world = before.world(batch, tmp_path / str(at))
        store = FailingStore(at, fail)
        error = attempt(world, store)
        assert isinstance(error, StorageError), store.failed
        assert error.hint
        assert error.transient
        before.ends_right(world, batch, store.failed)


@pytest.mark.parametrize("code", [errno.EIO, slow(errno.ETIMEDOUT), slow(errno.EEXIST)], ids=errno.errorcode.get)
def test_a_reply_that_is_lost(before: Before, batch: int, code: int, tmp_path: Path) -> None:
    """The entry was written, but the store says otherwise (a retried request: it exists): read back, go on as done."""

    def lose(path: Path, data: bytes) -> None:
        LocalLogStore().put_if_absent(path, data)
        raise error_of(code)

    for at in drawn(range(PUTS[batch]), (batch, code, "reply")):
        world = before.world(batch, tmp_path / str(at))
        store = FailingStore(at, lose)
        assert attempt(world, store) is None, store.failed
        assert store.puts == PUTS[batch]
        before.is_right(world, batch, store.failed)


@pytest.mark.parametrize("written", [True, False], ids=["written", "not written"])
def test_a_reply_that_is_lost_for_good(before: Before, batch: int, written: bool, tmp_path: Path) -> None:
    """Reading back fails as well: CommitUnknownError, nothing is cleaned up, the next pass settles it."""
    for at in drawn(range(PUTS[batch]), (batch, written)):
        kept: list[bytes] = []

        def lose(path: Path, data: bytes, kept: list[bytes] = kept) -> None:
            kept.append(data)
            path.mkdir()  # stands for a name that nobody can read now
            raise error_of(errno.EIO)

        world = before.world(batch, tmp_path / str(at))
        store = FailingStore(at, lose)
        error = attempt(world, store)
        assert isinstance(error, CommitUnknownError), store.failed
        assert error.hint
        assert store.failed is not None
        store.failed.rmdir()
        if written:
            LocalLogStore().put_if_absent(store.failed, kept[0])
        before.ends_right(world, batch, store.failed)


@contextmanager
def small_disk(folder: Path, size_kb: int) -> Iterator[Path]:
    """A file system of a few pages, where this user may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k,nr_inodes=4096", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def fill(disk: Path, free_kb: int) -> Path:
    """Leave only so much space."""
    ballast = disk / "ballast"
    status = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - free_kb * 1024)
    return ballast


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [False, True], ids=["plain", "with checkpoints"])
def test_a_full_disk(checkpoints: bool, before: Before, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills at another place in every round; with space again, a plain run ends as if undisturbed."""
    if checkpoints:
        monkeypatch.setattr(table, "CHECKPOINT_EVERY", 1)
    errors: list[OrdertrailError | None] = []
    with small_disk(tmp_path / "disk", 4096) as disk:
        for free_kb in range(4 * checkpoints, 400, 12 if DEPTH == 1 else 36):
            world = before.world(1, disk / str(free_kb))
            ballast = fill(disk, free_kb)
            errors.append(attempt(world))
            ballast.unlink()
            before.ends_right(world, 1, f"{free_kb} KB free: {errors[-1]}")
            shutil.rmtree(world.base)
            if errors[-1] is None:
                break
    *failed, last = errors
    assert last is None, "the disk was always full"
    assert len(failed) >= (4 if DEPTH == 1 else 2), "the disk was hardly ever full"
    for error in failed:
        assert isinstance(error, StorageError), repr(error)
        assert error.hint
