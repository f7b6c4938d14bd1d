"""A run of the key index is held while it is read: who would cut it waits, and no look-up reads beyond its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ordertrail.keyindex.held import held
from ordertrail.keyindex.index import ENTRY, Covered, KeyIndex
from ordertrail.keyindex.runs import Run

ROWS = 500
_CUT = "import os, sys; os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK)"


def cut_by_another(path: Path) -> bool:
    """Whether another process can cut a file at once."""
    return subprocess.run([sys.executable, "-c", _CUT, path], capture_output=True, check=False).returncode == 0


@pytest.fixture
def index(tmp_path: Path) -> KeyIndex:
    index = KeyIndex(tmp_path, "f")
    entries = np.zeros(ROWS, ENTRY)
    entries["upper"] = entries["lower"] = entries["row"] = np.arange(ROWS)
    index.write([Covered("a", 1, ROWS)], entries)
    return index


def run_file(folder: Path) -> Path:
    return next(folder.glob("*.run"))


@pytest.fixture
def leases(tmp_path: Path) -> None:
    """Skips where the file system of the tests gives no leases."""
    path = tmp_path / "probe"
    path.write_bytes(b"x")
    file = os.open(path, os.O_RDONLY)
    with held([file]):
        given = not cut_by_another(path)
    os.close(file)
    path.unlink()
    if not given:
        pytest.skip("no leases here")


@pytest.mark.usefixtures("leases")
@pytest.mark.parametrize("reading", ["lookup", "check"])
def test_nobody_cuts_a_run_while_it_is_read(
    index: KeyIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: str
) -> None:
    cut: list[bool] = []
    before = getattr(Run, reading)

    def read(run: Run, *arguments: object) -> object:
        cut.append(cut_by_another(run.path))
        return before(run, *arguments)

    monkeypatch.setattr(Run, reading, read)
    hashes = np.arange(ROWS, dtype=np.uint64)
    if reading == "lookup":
        assert len(index.find(hashes, hashes).query) == ROWS
    else:
        assert index.check() == []
    assert cut == [False]

    monkeypatch.undo()
    assert cut_by_another(run_file(tmp_path))  # once it is given back
    assert len(index.find(hashes, hashes).query) == 0
    assert not index.covered


def test_a_file_that_somebody_writes_to_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    with path.open("ab"):
        file = os.open(path, os.O_RDONLY)
        with held([file]):
            assert os.read(file, 3) == b"abc"
        os.close(file)


def test_what_is_held_is_given_back_when_reading_fails(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    file = os.open(path, os.O_RDONLY)
    with pytest.raises(ValueError, match="stop"), held([file]):
        raise ValueError("stop")
    assert cut_by_another(path)
    os.close(file)
