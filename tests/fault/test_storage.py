"""P1 on storage that fails: a full disk, errors at every put of a log entry, replies that are lost."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ordertrail.delta import table
from ordertrail.delta.log import LocalLogStore
from ordertrail.errors import CommitUnknownError, OrdertrailError, StorageError
from tests.fault.world import BATCHES, State, World

pytestmark = pytest.mark.fault

MAX_PUTS = 40


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


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[World], list[State]]:
    """The worlds before the first and the second batch, and what an undisturbed run ends in."""
    folder = tmp_path_factory.mktemp("storage")
    world = World.make(folder / "undisturbed")
    worlds, states = [], []
    for number, files in enumerate(BATCHES[:2]):
        worlds.append(world.copy(folder / f"before-{number}"))
        world.put(files)
        world.run()
        states.append(world.state())
    return worlds, states


@pytest.fixture(params=[0, 1], ids=["first batch", "second batch"])
def batch(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def worlds(before: tuple[list[World], list[State]], batch: int, folder: Path) -> Iterator[World]:
    """Fresh worlds without end, the files of the batch waiting."""
    for number in range(MAX_PUTS):
        world = before[0][batch].copy(folder / str(number))
        world.put(BATCHES[batch])
        yield world


def ends_right(world: World, state: State, batch: int, where: object) -> None:
    world.run()
    assert world.state() == state, f"after a fault at {where}"
    world.check([file for files in BATCHES[: batch + 1] for file in files])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_a_put_that_fails(before: tuple[list[World], list[State]], batch: int, code: int, tmp_path: Path) -> None:
    """Nothing was written: the pass ends with StorageError and a hint, and the next one ends as if undisturbed."""

    def fail(path: Path, data: bytes) -> None:
        raise error_of(code)

    failures = 0
    for at, world in enumerate(worlds(before, batch, tmp_path)):
        store = FailingStore(at, fail)
        try:
            world.run(store=store)
        except StorageError as error:
            failures += 1
            assert error.hint
            assert error.transient
        else:
            assert store.failed is None
            break
        ends_right(world, before[1][batch], batch, store.failed)
    assert failures == (10, 5)[batch]


@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT, errno.EEXIST], ids=["EIO", "ETIMEDOUT", "EEXIST"])
def test_a_reply_that_is_lost(before: tuple[list[World], list[State]], batch: int, code: int, tmp_path: Path) -> None:
    """The entry was written, but the store says otherwise (a retried request: it exists): read back, go on as done."""

    def lose(path: Path, data: bytes) -> None:
        LocalLogStore().put_if_absent(path, data)
        raise error_of(code)

    for at, world in enumerate(worlds(before, batch, tmp_path)):
        store = FailingStore(at, lose)
        world.run(store=store)
        assert world.state() == before[1][batch], f"after a lost reply at {store.failed}"
        world.check([file for files in BATCHES[: batch + 1] for file in files])
        if store.failed is None:
            break
    assert at == (10, 5)[batch]


@pytest.mark.parametrize("written", [True, False], ids=["written", "not written"])
def test_a_reply_that_is_lost_for_good(
    before: tuple[list[World], list[State]], batch: int, written: bool, tmp_path: Path
) -> None:
    """Reading back fails as well: CommitUnknownError, nothing is cleaned up, the next pass settles it."""

    def lose(path: Path, data: bytes) -> None:
        path.mkdir()  # stands for a name that nobody can read now
        raise error_of(errno.EIO)

    def heal(path: Path) -> None:
        path.rmdir()
        if written:
            LocalLogStore().put_if_absent(path, kept[path])

    kept: dict[Path, bytes] = {}

    def keep(path: Path, data: bytes) -> None:
        kept[path] = data
        lose(path, data)

    unknown = 0
    for at, world in enumerate(worlds(before, batch, tmp_path)):
        store = FailingStore(at, keep)
        try:
            world.run(store=store)
        except CommitUnknownError as error:
            unknown += 1
            assert error.hint
        else:
            break
        assert store.failed is not None
        heal(store.failed)
        ends_right(world, before[1][batch], batch, store.failed)
    assert unknown == (10, 5)[batch]


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


@pytest.mark.parametrize(("start_kb", "checkpoints"), [(0, False), (2, True)], ids=["plain", "with checkpoints"])
def test_a_full_disk(start_kb: int, checkpoints: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills at another place in every round; with space again, a plain run ends as if undisturbed."""
    if checkpoints:
        monkeypatch.setattr(table, "CHECKPOINT_EVERY", 1)
    undisturbed = World.make(tmp_path / "undisturbed")
    for files in BATCHES[:2]:
        undisturbed.put(files)
        undisturbed.run()
    full: list[str] = []
    with small_disk(tmp_path / "disk", 2048) as disk:
        for number, free_kb in enumerate(range(start_kb, 250, 8)):
            world = World.make(disk / str(number))
            world.put(BATCHES[0])
            world.run()
            world.put(BATCHES[1])
            ballast = fill(disk, free_kb)
            try:
                world.run()
            except OrdertrailError as error:
                assert isinstance(error, StorageError), f"{free_kb} KB free: {error!r}"
                assert error.hint
                full.append(str(error))
            else:
                number = -1
            ballast.unlink()
            world.run()
            assert world.state() == undisturbed.state(), f"with {free_kb} KB free"
            world.check([file for files in BATCHES[:2] for file in files])
            subprocess.run(["rm", "-r", str(world.base)], check=True)
            if number < 0:
                break
    assert len(full) >= 5, "the disk was never full"
    assert number < 0, "the disk was always full"
