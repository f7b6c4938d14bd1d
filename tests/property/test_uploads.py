"""Uploads of every speed, and passes that meet locked folders, full archives and shares: no row is lost or doubled."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedRandom, BufferedWriter
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.pipeline import Pipeline
from ordertrail.sources.directory import DirectorySource
from ordertrail.sources.names import Entry, FileOps
from ordertrail.sources.notes import Notes, notes_path
from tests.feeds import TIMES, cells, csv_bytes
from tests.harness import House, check_books, open_house, without_fsync

VENDORS = '[[vendors]]\nname = "acme"\nfiles = "acme/*.csv"\n[[vendors]]\nname = "blue"\nfiles = "blue/*.csv"\n'
ROUNDS = 14


@dataclass
class Weather(FileOps):
    """A disk that is what the day is like.

    Attributes:
        chance: Decides.
        share: Nobody can tell who writes, and the clock is not ours.
        other_user: It is a local disk, but nobody can tell who writes.
        two_disks: The archive is on another disk.
        faults: How often an operation fails, 0 to 1.
    """

    chance: random.Random
    share: bool = False
    other_user: bool = False
    two_disks: bool = False
    faults: float = 0.0

    def is_local(self, descriptor: int) -> bool:
        return not self.share and super().is_local(descriptor)

    def is_written(self, descriptor: int) -> bool | None:
        return None if self.other_user else super().is_written(descriptor)

    def link(self, entry: Entry, target: Entry) -> None:
        self.storm(errno.EACCES)
        if self.two_disks and entry.folder != target.folder:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        super().link(entry, target)

    def rename_new(self, entry: Entry, target: Entry) -> None:
        self.storm(errno.EACCES)
        super().rename_new(entry, target)

    def write(self, descriptor: int, data: bytes) -> None:
        self.storm(errno.ENOSPC)
        super().write(descriptor, data)

    def storm(self, code: int) -> None:
        if self.chance.random() < self.faults:
            raise OSError(code, os.strerror(code))


@dataclass
class Upload:
    """One file on its way: what is still to be written, and by whom."""

    name: str
    writer: BufferedWriter | BufferedRandom
    rest: list[bytes]

    def go_on(self, lines: int) -> None:
        """Write some lines more, and close the file after the last."""
        for line in self.rest[:lines]:
            self.writer.write(line)
        self.writer.flush()
        self.rest = self.rest[lines:]
        if not self.rest:
            self.writer.close()


@dataclass
class Feed:
    """Vendors at work, and passes beside them."""

    house: House
    chance: random.Random
    weather: Weather
    now_s: float = 1000.0
    uploads: list[Upload] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    names: int = 0

    def begin(self) -> None:
        """A vendor begins a file, in place or under a temporary name."""
        self.names += 1
        again = self.chance.randrange(1, self.names + 1)  # now and then under a name that was there before
        path = self.house.config.source / self.chance.choice(["acme", "blue"]) / f"up_{again}.csv"
        if path.exists():
            return
        fresh = [f"{self.names:03d}-{row}" for row in range(self.chance.randrange(1, 6))]
        self.keys.update(fresh)
        content = csv_bytes([cells(key, TIMES[0]) for key in fresh]).splitlines(keepends=True)
        upload = Upload(path.name, path.open("wb"), content)
        if self.chance.random() < 0.3:
            part = path.with_name(path.name + ".part")
            path.rename(part)
            upload.go_on(len(content))
            part.rename(path)
            return
        upload.go_on(1 + self.chance.randrange(len(content)))
        self.uploads += [upload] if upload.rest else []

    def work(self) -> None:
        """Each writer goes on, or stalls."""
        for upload in self.uploads:
            if self.chance.random() < 0.5:
                upload.go_on(1)
        self.uploads = [upload for upload in self.uploads if upload.rest]

    def a_pass(self) -> bool:
        """Whether it had anything to do or to tell."""
        config = self.house.config
        notes = Notes(notes_path(config), lambda: self.now_s)
        source = DirectorySource(config.source, config.archive, config.vendors, config.settle_s, self.weather, notes)
        report = Pipeline(config, source=source, notes=notes, patience_s=0).run()
        self.now_s += self.chance.choice([0.5, 3.0])
        return report.batch is not None or bool(report.skipped or report.warnings)

    def end(self) -> None:
        """All writers finish, the weather clears, and passes run until nothing moves."""
        for upload in self.uploads:
            upload.go_on(len(upload.rest))
        self.weather = Weather(self.chance)
        self.house = House(replace(self.house.config, settle_s=0.0))
        for _ in range(8):
            if not self.a_pass():
                return
        raise AssertionError(f"it does not come to rest: {self.house.left()}")


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with without_fsync():
        yield


def uploads(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    weather = Weather(
        chance,
        share=chance.random() < 0.4,
        other_user=chance.random() < 0.4,
        two_disks=chance.random() < 0.4,
        faults=chance.choice([0.0, 0.0, 0.2]),
    )
    house = open_house(folder, VENDORS)
    feed = Feed(House(replace(house.config, settle_s=0.000001)), chance, weather)
    for name in ("acme", "blue"):
        (house.config.source / name).mkdir()
    for _ in range(ROUNDS):
        if chance.random() < 0.7:
            feed.begin()
        feed.work()
        if chance.random() < 0.8:
            feed.a_pass()
    feed.end()
    assert {str(key) for (key,) in feed.house.target()} == feed.keys
    assert set(feed.house.left()) <= {".ordertrail"}
    archived = {str(d["archived_to"]): d["sha256"] for d in feed.house.rows("deliveries") if d["archived_to"]}
    assert set(archived) == set(feed.house.archived()) - {".ordertrail"}
    check_books(feed.house)


@pytest.mark.property
@pytest.mark.series
@pytest.mark.parametrize("seed", [100, 101])
def test_no_row_of_an_upload_is_lost(tmp_path: Path, seed: int) -> None:
    uploads(tmp_path, seed)


@pytest.mark.property
@pytest.mark.slow
@pytest.mark.series
@pytest.mark.parametrize("seed", range(102, 110))
def test_no_row_of_many_uploads_is_lost(tmp_path: Path, seed: int) -> None:
    uploads(tmp_path, seed)
