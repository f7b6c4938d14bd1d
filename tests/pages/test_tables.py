"""The page of the tables, and the page of the incidents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.engines.local.incidents import FolderIncidents
from ordertrail.keep.maintain import maintain
from ordertrail.rules.incidents import Incident
from tests.harness import House, open_house, without_fsync
from tests.pages.conftest import HEADER, HOSTILE, Open, Site
from tests.pages.test_today import assert_harmless

pytestmark = pytest.mark.browserless

AT = datetime(2026, 11, 20, 8, tzinfo=UTC)


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = open_house(tmp_path)
    for n in range(3):
        made.drop(f"{n}.csv", f"{HEADER}0001,1Z{n % 2},2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:0{n}\n")
        with without_fsync():
            made.run()
    return made


def test_sizes_are_those_of_the_logs(site: Site) -> None:
    found = {one["role"]: one for one in site.json("/tables.json")["tables"]}
    assert list(found) == ["target", "history", "rejects", "deliveries", "stage"]
    counted = site.json("/query.json?sql=SELECT+count(*)+AS+n+FROM+orders_history")["rows"][0]["n"]
    assert found["history"]["rows"] == counted
    assert found["target"]["commits"][0]["operation"] == "MERGE"
    assert [column["name"] for column in found["deliveries"]["columns"]][:2] == ["delivery_id", "vendor"]
    html = site.get("/tables?table=rejects").text
    assert "stable name of the rule that was broken" in html
    assert site.get("/tables.csv").text.count("\r\n") == 6
    site.get("/tables?table=nothing", 400)


def test_says_when_files_were_compacted(house: House, open_site: Open) -> None:
    site = open_site(house.config)
    assert {one["maintained_at"] for one in site.json("/tables.json")["tables"]} == {None}
    config = replace(house.config, maintenance=replace(house.config.maintenance, max_small_files=1))
    maintain(config)
    found = {one["role"]: one["maintained_at"] for one in site.json("/tables.json")["tables"]}
    assert found["history"] is not None


def incident(n: int, **changes: object) -> Incident:
    told = Incident(
        f"i{n:04}", f"delivery:{n}", "quarantined", "warning", "acme", f"file {n} is quarantined",
        f"ordertrail rejects --delivery {n}", 3, AT, AT + timedelta(minutes=n), AT + timedelta(minutes=n),
    )  # fmt: skip
    return replace(told, **changes)  # type: ignore[arg-type]


def keep(house: House, *found: Incident) -> None:
    table = FolderIncidents(house.config)
    table.write(table.read(), found)


def test_incidents_are_listed_open_ones_first(house: House, open_site: Open) -> None:
    site = open_site(house.config)
    assert "No incident so far" in site.get("/incidents").text
    closed = incident(2, closed_at=AT + timedelta(hours=3), acknowledged_at=AT, acknowledged_by="ada", count=4)
    keep(house, incident(1), closed)
    found = site.json("/incidents.json")
    assert [one["incident_id"] for one in found["incidents"]] == ["i0001", "i0002"]
    assert found["open"] == 1
    assert "posts" not in found["incidents"][0]
    html = site.get("/incidents").text
    assert "alerts ack delivery:1 --why" in html
    assert "ada" in html
    assert [one["incident_id"] for one in site.json("/incidents.json?show=closed")["incidents"]] == ["i0002"]
    assert site.get("/incidents.csv").text.splitlines()[1].startswith("i0001,delivery:1,quarantined")


def test_the_list_goes_on_by_the_last_incident(house: House, open_site: Open) -> None:
    keep(house, *(incident(n, closed_at=AT + timedelta(days=1)) for n in range(120)))
    site, seen, after = open_site(house.config), [], ""
    while after is not None:
        found = site.json(f"/incidents.json?after={after}")
        seen += [one["incident_id"] for one in found["incidents"]]
        after = found["after"]
    assert seen == [f"i{n:04}" for n in reversed(range(120))]
    assert site.get("/incidents.csv").text.count("\r\n") == 121
    assert "Further on" in site.get("/incidents").text
    site.get("/incidents?after=nothing", 400)


def test_incidents_of_an_enemy_are_text(house: House, open_site: Open) -> None:
    keep(
        house,
        *(
            incident(n, text=cell, vendor=cell, acknowledged_at=AT, acknowledged_by=cell)
            for n, cell in enumerate(HOSTILE)
        ),
    )
    assert_harmless(open_site(house.config).get("/incidents").text)
