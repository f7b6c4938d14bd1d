"""The promise of the key index under anything that may happen to its folder: for the files it covers after a look-up,
no entry is missing and none is made up."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from itertools import count
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ordertrail.keyindex import index as key_index
from ordertrail.keyindex import runs as key_runs
from ordertrail.keyindex import writer as key_writer
from ordertrail.keyindex.index import ENTRY, Covered, KeyIndex

KEYS = st.integers(0, 12)
SPREAD = (1, 2**61, 2**64 - 1)  # all keys in one bucket, some in each, both ends


class Model(RuleBasedStateMachine):
    """A folder, an index open on it, and what each file really holds."""

    def __init__(self):
        super().__init__()
        self.names = count()
        self.patches = [
            patch.object(key_index, "TIER_RUNS", 3),
            patch.object(key_index, "TIER_FIRST_ENTRIES", 8),
            patch.object(key_writer, "STEP_ENTRIES", 5),
            patch.object(key_writer, "BUCKET_ENTRIES", 2),
            patch.object(uuid, "uuid4", lambda: uuid.UUID(int=next(self.names))),  # repeatable
        ]
        for each in self.patches:
            each.start()
        self.base = Path(tempfile.mkdtemp(prefix="key-index-"))
        self.folder = self.base / "index"
        self.held: dict[str, list[tuple[int, int]]] = {}
        self.live: set[str] = set()
        self.index = KeyIndex(self.folder, "f")

    def teardown(self):
        self.index.close()
        for each in self.patches:
            each.stop()
        shutil.rmtree(self.base)

    @staticmethod
    def hashed(key: int, spread: int) -> tuple[int, int]:
        return key * spread % 2**64, key % 3

    @rule(
        files=st.lists(st.lists(KEYS, max_size=9), min_size=1, max_size=3),
        spread=st.sampled_from(SPREAD),
        live=st.booleans(),
    )
    def add(self, files, spread, live):
        covered, parts = [], []
        for number, keys in enumerate(files):
            path = f"f{len(self.held)}"
            self.held[path] = [self.hashed(key, spread) for key in keys]
            covered.append(Covered(path, 100 + len(keys), len(keys)))
            entries = np.zeros(len(keys), ENTRY)
            entries["upper"] = np.array([upper for upper, _ in self.held[path]], np.uint64)
            entries["lower"] = np.array([lower for _, lower in self.held[path]], np.uint64)
            entries["row"], entries["file"] = np.arange(len(keys)), number
            entries["content"] = int(path[1:])
            parts.append(entries)
            if live:
                self.live.add(path)
        self.index.write(covered, np.concatenate(parts))
        assert self.index.covered.keys() >= {file.path for file in covered}

    @rule(share=st.integers(1, 3))
    def rewrite_files(self, share):
        self.live = {path for path in self.live if int(path[1:]) % 4 >= share}

    @rule(everything=st.booleans(), old=st.booleans())
    def tidy(self, everything, old):
        if old:
            for path in self.folder.iterdir():
                os.utime(path, (time.time() - 5000,) * 2)
        self.reopen()
        self.ask(None)  # meets what is damaged
        sound = self.index.covered.keys() & self.live
        self.index.tidy(self.live, everything=everything)
        assert self.index.covered.keys() >= sound, "coverage of a live file was lost"

    @rule()
    def reopen(self):
        self.index.close()
        self.index = KeyIndex(self.folder, "f")

    @rule()
    def check(self):
        self.index.check()

    def pick(self, number: int) -> Path | None:
        names = sorted(self.folder.iterdir())
        return names[number % len(names)] if names else None

    @rule(number=st.integers(0, 50))
    def delete(self, number):
        if path := self.pick(number):
            path.unlink()

    @rule(number=st.integers(0, 50), share=st.floats(0, 1))
    def truncate(self, number, share):
        if path := self.pick(number):
            os.truncate(path, int(path.stat().st_size * share))
            self.touched(path)

    @rule(number=st.integers(0, 50), share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def flip(self, number, share, bit):
        if (path := self.pick(number)) and (data := bytearray(path.read_bytes())):
            data[int(len(data) * share)] ^= 1 << bit
            with path.open("r+b") as file:  # in place: the index may have it mapped
                file.write(data)
            self.touched(path)

    @staticmethod
    def touched(path: Path) -> None:
        """A change shows in the time of the file, however coarse the clock of the file system is."""
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))

    @rule(number=st.integers(0, 50))
    def copy_back(self, number):
        """What a crash between the steps of a merge leaves: a run that says what another one says."""
        path = self.pick(number)
        if path and path.suffix == ".run":
            shutil.copy2(path, self.folder / f"{uuid.uuid4().hex}.run")

    @rule(files=st.sets(st.integers(0, 20)))
    def find_some(self, files):
        self.ask({f"f{number}" for number in files})

    @invariant()
    def find_all(self):
        self.ask(None)

    def ask(self, files):
        asked = [self.hashed(key, spread) for key in range(14) for spread in SPREAD] + [(5, 9), (2**64 - 1, 9)]
        found = self.index.find(*(np.array(half, np.uint64) for half in zip(*asked, strict=True)), files)
        covered = self.index.covered
        relevant = covered.keys() if files is None else covered.keys() & files
        got = sorted(
            (query, found.files[file], row, content)
            for query, file, row, content in zip(found.query, found.file, found.row, found.content, strict=True)
        )
        want = sorted(
            (query, path, row, int(path[1:]))
            for query, hashed in enumerate(asked)
            for path in relevant
            for row, stored in enumerate(self.held[path])
            if stored == hashed
        )
        assert got == want
        assert all(size_bytes == 100 + len(self.held[path]) for path, size_bytes in covered.items())


class BigRuns(Model):
    """The same with runs that are read bucket by bucket, in parts side by side.

    That sees zeroed pages, not single bits: none are flipped.
    """

    flip = None

    def __init__(self):
        super().__init__()
        patches = [
            patch.object(key_runs, "SMALL_BYTES", 0),
            patch.object(key_runs, "WINDOW_BYTES", 64),
            patch.object(key_index, "SPLIT_ENTRIES", 0),
        ]
        self.patches += patches
        for each in patches:
            each.start()


SETTINGS = settings(max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
TestSmallRuns = pytest.mark.property(Model.TestCase)
TestSmallRuns.settings = SETTINGS
TestBigRuns = pytest.mark.property(BigRuns.TestCase)
TestBigRuns.settings = SETTINGS
