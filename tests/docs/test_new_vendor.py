"""The story of docs/how-to/new-vendor.md runs as it stands: a file, a drafted profile, three lines taken, rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.test_tutorial import blocks, call, calls, plain

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "new-vendor.md"


def take(line: str) -> None:
    """Take a line of the drafted profile: the one that is off and sets the same."""
    file = Path("ordertrail.toml")
    head, mark, drafted = file.read_text().rpartition("[[vendors]]")
    name = line.partition(" = ")[0]
    (off,) = (one for one in drafted.splitlines() if one.startswith(f"#{name} = "))
    file.write_text(head + mark + drafted.replace(off, line))


def test_a_file_becomes_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORDERTRAIL_PIPELINE_SETTLE_S", "0")
    ids: dict[str, str] = {}
    call("ordertrail init", ids)
    commands = 0
    story = PAGE.read_text(encoding="utf-8").partition("## From a file to rows")[2].partition("\n## ")[0]
    for _, language, block in blocks(story):
        match language:
            case "text":
                Path("parcels.csv").write_text(block)
            case "toml":
                for line in block.splitlines():
                    take(line)
            case "console":
                for command, shown in calls(block):
                    commands += 1
                    if command == "ordertrail run":
                        Path("data/source/green").mkdir()
                        shutil.copy("parcels.csv", "data/source/green")
                    printed = call(command, ids)
                    expected = plain(shown) if shown else []
                    assert plain(printed)[: len(expected)] == expected, (command, printed)
    assert commands == 4
