"""The table of incidents: made when the first one opens, written only on a change, read by every reader."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from msgspec.structs import replace

from ordertrail.alerts.evaluate import causes_of, evaluate
from ordertrail.config import Config
from ordertrail.engines.choice import incident_table
from ordertrail.engines.local.incidents import FolderIncidents
from ordertrail.errors import CommitConflictError, ForeignChangeError, UsageError
from ordertrail.look.incidents import incidents_of
from ordertrail.look.status import open_items_of
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind
from ordertrail.rules.incidents import Incident, Seen
from ordertrail.rules.outbox import Channel
from tests.harness import House, open_house, without_fsync

BAD = "order_num,status\n1,X\n"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def pipeline(tmp_path: Path) -> House:
    found = open_house(tmp_path)
    with without_fsync():
        found.run()
    return found


def look(config: Config, now: datetime = NOON) -> tuple[Incident, ...]:
    """One evaluation; the incidents afterwards."""
    table = incident_table(config)
    with without_fsync():
        seen = Seen(causes_of(open_items_of(config)))
        return evaluate(table, seen, (Channel("mail"),), lambda: now).incidents


def folder(config: Config) -> Path:
    return config.table_path(config.incidents)


def test_nothing_is_made_before_the_first_incident(pipeline: House) -> None:
    assert look(pipeline.config) == ()
    assert incidents_of(pipeline.config) == ()
    assert not folder(pipeline.config).exists()


def test_an_incident_is_opened_kept_and_closed_each_in_one_commit(pipeline: House) -> None:
    pipeline.drop("order_tracking_2026_11_23.csv", BAD)
    with without_fsync():
        pipeline.run()
    (one,) = look(pipeline.config)
    assert (one.kind, one.vendor, one.rows, one.open) == ("quarantined", "default", 1, True)
    assert look(pipeline.config) == look(pipeline.config) == (one,)
    assert DeltaTable(folder(pipeline.config)).version() == 1  # made, and opened

    delivery = one.key.removeprefix("delivery:")
    with without_fsync():
        correct(pipeline.pipeline(), Wanted(Correction(CorrectionKind.DISMISS, (delivery,), "known", "ops"), None))
    (closed,) = look(pipeline.config)
    assert closed.closed_at == NOON
    assert DeltaTable(folder(pipeline.config)).version() == 2
    rows = DeltaTable(folder(pipeline.config)).to_pyarrow_table().to_pylist()
    assert [(row["key"], row["closed_at"]) for row in rows] == [(one.key, NOON)]


def test_of_two_writers_one_comes_first_and_the_other_sees_it(pipeline: House) -> None:
    pipeline.drop("order_tracking_2026_11_23.csv", BAD)
    with without_fsync():
        pipeline.run()
        ours, theirs = FolderIncidents(pipeline.config), FolderIncidents(pipeline.config)
        seen = Seen(causes_of(open_items_of(pipeline.config)))
        before = ours.read()
        (one,) = evaluate(theirs, seen, (), lambda: NOON).incidents
        with pytest.raises(CommitConflictError):
            ours.write(before, ())
        assert evaluate(ours, seen, (), lambda: NOON).incidents == (one,)


def test_pages_of_incidents_follow_each_other(pipeline: House) -> None:
    table = incident_table(pipeline.config)
    all_of_them = [
        Incident(f"i{n}", f"k{n}", "held", "warning", None, "t", "n", None, None, NOON.replace(hour=n), NOON)
        for n in range(5)
    ]
    all_of_them[4] = replace(all_of_them[4], closed_at=NOON)
    with without_fsync():
        table.write(table.read(), all_of_them)
    found = incidents_of(pipeline.config)
    assert [one.incident_id for one in found] == ["i3", "i2", "i1", "i0", "i4"]
    first = incidents_of(pipeline.config, limit=2)
    assert first + incidents_of(pipeline.config, before=first[-1].incident_id) == found
    with pytest.raises(UsageError, match="no incident nowhere"):
        incidents_of(pipeline.config, before="nowhere")


def test_the_incidents_of_another_pipeline_are_not_touched(pipeline: House, tmp_path: Path) -> None:
    other = open_house(tmp_path / "other")
    with without_fsync():
        other.run()
        table = incident_table(other.config)
        table.write(table.read(), ())
    folder(other.config).rename(folder(pipeline.config))
    ours = incident_table(pipeline.config)
    with pytest.raises(ForeignChangeError, match="another pipeline"):
        ours.write(ours.read(), ())
