"""The tutorial runs as it stands: its files are put down, its commands typed, and what it shows is what they print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from ordertrail.cli import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"(?ms)^```(?P<language>\w+)\n(?P<text>.*?)^```")
ID = re.compile(r"\b(\d{6}-\d{5})-[0-9a-f]{8}\b")
CODES = {"run": {0, 3}, "health": {0, 3}}


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORDERTRAIL_PIPELINE_SETTLE_S", "0")  # a reader takes longer than a second
    ids: dict[str, str] = {}
    commands = 0
    for before, language, text in blocks(PAGE.read_text(encoding="utf-8")):
        match language:
            case "text":
                (name,) = re.findall(r"`(data/source/[^`]+)`", before)
                Path(name).write_text(text)
            case "toml":
                with Path("ordertrail.toml").open("a") as config:
                    config.write(f"\n{text}")
            case "console":
                for command, shown in calls(text):
                    commands += 1
                    printed = call(command, ids)
                    expected = plain(shown) if shown else []
                    assert plain(printed)[: len(expected)] == expected, (command, printed)
    assert commands >= 20


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Each block of a page, with the paragraph before it."""
    for found in BLOCK.finditer(page):
        yield page[: found.start()].strip().rpartition("\n\n")[2], found["language"], found["text"]


def calls(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a block, with what the page shows below it."""
    for part in re.split(r"(?m)^\$ ", text)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def call(command: str, ids: dict[str, str]) -> str:
    """Type a command; ids of the page stand for those that this run made."""
    words = [ID.sub(lambda found: ids[found[1]], word) for word in shlex.split(command)[1:]]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code in CODES.get(words[0], {0}), (command, result.output)
    ids.update({found[1]: found[0] for found in ID.finditer(result.stdout)})
    return result.stdout


def plain(text: str) -> list[str]:
    """Lines without what differs from run to run: ids and seconds, and trailing blanks."""
    seconds = re.sub(r"\d+\.\d\d s", "N s", ID.sub(r"\1-ID", text))
    return [line.rstrip() for line in seconds.strip().splitlines()]
