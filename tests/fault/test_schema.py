"""P1 with tables that get a column: killed anywhere among the metadata commits, it ends as if undisturbed."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable

from ordertrail.look.verify import verify
from tests.depth import drawn
from tests.fault.world import BATCHES, PLAIN_CONFIG, TABLES, Driver, World, distinct
from tests.feeds import FeedFile
from tests.oracle import default_contract

pytestmark = pytest.mark.fault

_COLUMNS = "".join(
    f'[[contract.columns]]\nname = "{column.name}"\ntype = "{column.type}"\n' for column in default_contract().columns
)
WIDER_CONFIG = (
    PLAIN_CONFIG.replace('.csv"\n', '.csv"\nabsent = ["weight"]\n')
    + _COLUMNS
    + '[[contract.columns]]\nname = "weight"\ntype = "decimal(9,3)"\n'
)


def test_a_pass_is_killed_among_the_metadata_commits(driver: Driver, tmp_path: Path) -> None:
    """Also with a batch under way that was staged before the column came."""
    world = World.make(tmp_path / "world")
    world.put(BATCHES[0])
    effects = driver.effects(world.copy(tmp_path / "first"))
    driver.run(world, kill_at=effects.index("load.committed"))
    (world.base / "ordertrail.toml").write_text(WIDER_CONFIG)
    world.put(BATCHES[1])
    whole = world.copy(tmp_path / "whole")
    effects = driver.effects(whole)
    assert effects.count("schema.committed") == 3
    end = whole.state()
    assert all("'weight': None" in row for row in end.target)
    last = max(place for place, name in enumerate(effects) if name == "schema.committed")
    for place in drawn([place for place in distinct(effects) if place < last + 2], "wider"):
        each = world.copy(tmp_path / str(place))
        assert driver.run(each, kill_at=place).get("signal") == 9
        driver.effects(each)
        assert each.state() == end, effects[: place + 1]
        for name in TABLES[:3]:
            log = sorted((each.table(name) / "_delta_log").glob("*.json"))
            assert sum('"metaData"' in entry.read_text() for entry in log) == 2, name


ADD_CONFIG = PLAIN_CONFIG + '[contract]\nunknown_columns = "add"\n'


def with_lane(file: FeedFile) -> FeedFile:
    """The file with one more column, of which every row has a value."""
    head, *rows = file.content.decode().splitlines()
    text = "\n".join((f"{head},Lane 1", *(f"{row},L{place}" for place, row in enumerate(rows)))) + "\n"
    return FeedFile(file.path, text.encode(), file.mtime_ns)


def test_a_pass_is_killed_while_it_adds_what_a_file_brings(driver: Driver, tmp_path: Path) -> None:
    """The deliveries come first, then the history, which decides; whoever opens the tables next brings them in line."""
    world = World.make(tmp_path / "world", ADD_CONFIG)
    world.put(BATCHES[0])
    driver.effects(world)
    file = with_lane(BATCHES[1][0])
    world.put((file,))
    whole = world.copy(tmp_path / "whole")
    effects = driver.effects(whole)
    assert effects.count("schema.committed") == 3
    end = whole.state()
    assert any("'lane_1': 'L0'" in row for row in end.target)
    last = effects.index("stage.committed")
    first = effects.index("absent.committed")
    for place in drawn([place for place in distinct(effects) if first - 4 <= place <= last], "added"):
        each = world.copy(tmp_path / str(place))
        assert driver.run(each, kill_at=place).get("signal") == 9
        withdrawn = each.copy(tmp_path / f"withdrawn-{place}")
        driver.effects(each)
        assert each.state() == end, effects[: place + 1]
        assert verify(each.config).ok
        # The vendor takes the file back: the column stays once the history has it, in all three tables or in none.
        (withdrawn.base / "source" / file.path).unlink()
        driver.effects(withdrawn)
        have = {name for name in TABLES[:3] if "lane_1" in DeltaTable(withdrawn.table(name)).schema().to_arrow().names}
        assert have in (set(), set(TABLES[:3])), effects[: place + 1]
        assert verify(withdrawn.config).ok
