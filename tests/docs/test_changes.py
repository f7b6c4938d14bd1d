"""What docs/how-to/changes.md shows in Python runs, and its table of options has all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ordertrail.cli.commands_changes import changes
from tests.feeds import cells, csv_bytes, dated
from tests.harness import open_house

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "changes.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\n'
    (tmp_path / "ordertrail.toml").write_text(toml)
    house = open_house(tmp_path)
    for day in (20, 21):
        house.drop(
            dated(day), csv_bytes([cells("A", f"2026-11-{day} 08:00:00"), cells(f"B{day}", "2026-11-20 08:00:00")])
        )
        house.run()
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"(?ms)^```python\n(.*?)^```", PAGE)
    exec(compile(block, "changes.md", "exec"), {})
    assert capsys.readouterr().out == "1 2 ['insert', 'insert']\n2 2 ['update', 'insert']\n3\n"


def test_every_option_of_its_own_is_on_the_page() -> None:
    own = {option for one in changes.params for option in one.opts if option.startswith("--")}
    assert own - {"--config", "--json", "--debug", "--help"} <= set(re.findall(r"--[a-z-]+", PAGE)) | {"--output"}
