"""Which folders of a catalog are taken for a table's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordertrail.delta.table import Table
from ordertrail.engines.spark.locations import folder_at
from ordertrail.rules.tables import REJECTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of ours."""
    table = Table(tmp_path / "a table", REJECTS)
    table.create({})
    return table.root


def test_a_folder_of_this_machine_written_in_every_way(folder: Path) -> None:
    assert folder_at(folder.as_uri()) == folder
    assert folder_at(f"file:{folder}") == folder
    assert folder_at(f"file://{folder}") == folder


@pytest.mark.parametrize("scheme", ["s3://bucket", "abfss://lake@account.dfs.core.windows.net", "dbfs:", "hdfs://name"])
def test_other_storage(folder: Path, scheme: str) -> None:
    assert folder_at(f"{scheme}{folder}") is None


def test_no_table(folder: Path, tmp_path: Path) -> None:
    assert folder_at("") is None
    assert folder_at(str(folder)) is None
    assert folder_at(f"file:{tmp_path / 'none'}") is None
    assert folder_at(f"file:{tmp_path}") is None


def test_a_table_that_is_not_ours_to_write(folder: Path) -> None:
    entry = folder / "_delta_log" / f"{0:020d}.json"
    entry.write_text(entry.read_text().replace('"configuration":{', '"configuration":{"delta.constraints.a":"1",', 1))
    assert folder_at(f"file:{folder}") is None
