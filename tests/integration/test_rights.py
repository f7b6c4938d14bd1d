"""Tables and archive follow the setting `umask`, whoever writes the files: our code, DuckDB, Arrow, or a vendor."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordertrail.config import parse_config
from ordertrail.config.rights import restrict, umask_of
from ordertrail.keep.maintain import maintain
from ordertrail.keep.rebuild import rebuild
from tests.feeds import cells, csv_bytes
from tests.harness import House, open_house, without_fsync


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """The umask of most machines: others may read."""
    before = os.umask(0o022)
    with without_fsync():
        yield
    os.umask(before)


def rights(house: House) -> dict[str, int]:
    """Rights of everything below the warehouse and the archive, by path."""
    found = {}
    for root in (house.config.warehouse, house.config.archive):
        for path in (root, *root.rglob("*")):
            found[str(path.relative_to(root.parent))] = stat.S_IMODE(path.stat().st_mode)
    return found


def fill(house: House) -> None:
    for day in (20, 21):
        rows = [cells(key, f"2026-11-{day} 10:00:00") for key in ("1", "2", str(day))]
        house.drop(f"order_tracking_2026_11_{day}.csv", csv_bytes(rows)).chmod(0o664)
        house.run()
    house.drop("bad.csv", "what,is\n1,2\n").chmod(0o666)
    house.run()
    maintain(house.config)
    rebuild(house.config)


@pytest.mark.parametrize(("umask", "forbidden"), [("0027", 0o027), ("0077", 0o077)])
def test_nothing_gets_rights_that_the_umask_forbids(tmp_path: Path, umask: str, forbidden: int) -> None:
    house = open_house(tmp_path, f'umask = "{umask}"\n')
    fill(house)
    found = rights(house)
    assert any(path.endswith(".parquet") for path in found)
    assert {path for path, mode in found.items() if mode & forbidden} == set()
    assert os.umask(0o022) == 0o022, "the process has its own umask again"


def test_the_group_may_write_where_the_umask_lets_it(tmp_path: Path) -> None:
    house = open_house(tmp_path, 'umask = "0007"\n')
    fill(house)
    data = {path: mode for path, mode in rights(house).items() if path.endswith((".parquet", ".json"))}
    assert {path for path, mode in data.items() if mode & 0o060 != 0o060} == set()


def test_without_the_setting_files_have_the_rights_of_the_process_and_of_the_vendor(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    fill(house)
    found = rights(house)
    assert {mode for path, mode in found.items() if path.endswith(".parquet")} == {0o644}
    assert {mode for path, mode in found.items() if path.endswith("_21.csv")} == {0o664}


def test_the_last_one_out_puts_the_umask_back(tmp_path: Path) -> None:
    text = '[pipeline]\nsource = "in"\narchive = "done"\nwarehouse = "tables"\numask = "0027"\n'
    config = parse_config(text, base=tmp_path, environ={})
    first, second = umask_of(config), umask_of(config)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert os.umask(0o027) == 0o027
    second.__exit__(None, None, None)
    assert os.umask(0o022) == 0o022


def test_rights_of_a_link_and_of_a_missing_file_stay(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("x")
    other.chmod(0o644)
    (tmp_path / "link").symlink_to(other)
    restrict(tmp_path / "link", 0o077)
    restrict(tmp_path / "gone", 0o077)
    assert stat.S_IMODE(other.stat().st_mode) == 0o644
