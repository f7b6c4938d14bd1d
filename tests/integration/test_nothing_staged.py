"""A stage without rows: every file changed while executors read it. Any engine finishes it as a batch of nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable

from ordertrail.delta.actions import Txn
from ordertrail.delta.table import Change
from ordertrail.engines.local.session import tables_of
from ordertrail.errors import TableError
from ordertrail.look.verify import verify
from ordertrail.model import Probe
from ordertrail.rules.tables import APP_ID
from tests.feeds import TIMES, cells, csv_bytes, dated
from tests.harness import House, check_books, check_readers, open_house


class Killed(BaseException):
    """Ends a pass where it stands."""


def kill_at(effect: str) -> Probe:
    def probe(name: str) -> None:
        if name == effect:
            raise Killed

    return probe


def test_a_stage_that_executors_left_without_rows_is_a_batch_of_nothing(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.drop(dated(20), csv_bytes([cells("A", TIMES[0])]))
    house.run()
    stage = tables_of(house.config).stage
    base = stage.snapshot()
    app_id = base.metadata.properties[APP_ID]
    stage.commit(base, Change(Txn(app_id, 2, 1), "STAGE", (), list(base.files.values()), {"deliveries": 0}, anew=True))
    house.drop(dated(21), csv_bytes([cells("A", TIMES[3])]))
    report = house.run()
    assert (report.recovered, report.batch, report.rows.updated) == (True, 3, 1)
    assert {row["batch"] for row in house.rows("deliveries")} == {1, 3}
    check_readers(house)
    check_books(house)
    assert [check for check in verify(house.config).checks if not check.ok] == []


def test_a_stage_whose_rows_somebody_took_out_is_no_batch_of_nothing(house_staged: House) -> None:
    DeltaTable(house_staged.table_path("stage")).delete()
    with pytest.raises(TableError, match="the stage holds no delivery") as caught:
        house_staged.run()
    version = int(caught.value.hint.rpartition(" ")[2])
    DeltaTable(house_staged.table_path("stage")).restore(version)
    assert house_staged.run().rows.inserted == 1


@pytest.fixture
def house_staged(tmp_path: Path) -> House:
    """A pass was killed right after it had staged a row."""
    house = open_house(tmp_path)
    house.drop(dated(20), csv_bytes([cells("A", TIMES[0])]))
    with pytest.raises(Killed):
        house.run(kill_at("stage.committed"))
    return house
