"""The page today, and what all pages have in common."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ordertrail.config import Config
from ordertrail.web import application
from ordertrail.web.pages import NAVIGATION, PAGES
from tests.harness import House, open_house, without_fsync
from tests.pages.conftest import HEADER, HOSTILE, Open, Site

pytestmark = pytest.mark.browserless


def test_says_what_came_by_vendor_and_hour(site: Site) -> None:
    found = site.json("/today.json")
    assert [one["vendor"] for one in found["vendors"]] == ["acme", "blue-freight", "zip"]
    spans = [sum(span["rows"].values()) for span in found["spans"]]
    assert len(spans) == 24
    assert sum(spans) == sum(one["rows"] for one in found["vendors"]) == 425
    assert found["open_items"][0]["kind"] == "quarantined"
    assert found["service"] == {"state": "none", "beat_at": None}
    page = site.get("/").text
    assert "export_new_system.txt" in page
    assert found["open_items"][0]["next"] in page


def test_14_days_end_with_today(site: Site) -> None:
    found = site.json("/today.json?period=14d&tz=America/Chicago")
    assert len(found["spans"]) == 14
    assert sum(sum(span["rows"].values()) for span in found["spans"]) == 425
    starts = [datetime.fromisoformat(span["start"]) for span in found["spans"]]
    assert {start.hour for start in starts} <= {5, 6}  # midnight of Chicago


def test_times_are_shown_in_the_zone_of_the_reader(demo: Config, open_site: Open) -> None:
    at = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    site = open_site(demo, clock=lambda: at)
    assert ">2026-11-24 09:30:00</time>" in site.get("/").text
    there = site.get("/?tz=Asia/Kolkata").text
    assert 'title="2026-11-24 09:30:00 UTC">2026-11-24 15:00:00</time>' in there
    assert ">2026-11-24 15:00:00</time>" in site.get("/").text  # remembered in a cookie
    assert "there is no time zone" in site.get("/?tz=../../etc/passwd", 400).text


@pytest.mark.parametrize("query", ["period=1y", "tz=Mars"])
def test_what_does_not_fit_is_refused_with_what_does(site: Site, query: str) -> None:
    assert site.get(f"/today.json?{query}", 400).json()["hint"]


def test_before_the_first_pass_every_page_says_what_to_do(tmp_path: Path, open_site: Open) -> None:
    site = open_site(open_house(tmp_path).config)
    for _, path, _ in NAVIGATION:
        assert "ordertrail run" in site.get(path).text


def test_each_time_when_nobody_asks_any_more_memory_goes_back(
    demo: Config, open_site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back = threading.Event()
    monkeypatch.setattr(application, "IDLE_S", 0.02)
    monkeypatch.setattr(application, "_give_back", given_back.set)
    site = open_site(demo)
    for _ in range(2):
        given_back.clear()
        site.get("/")
        assert given_back.wait(30)


def test_code_goes_back_after_each_page_that_leaves_the_process_large(
    demo: Config, open_site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back = threading.Event()
    monkeypatch.setattr(application, "IDLE_S", 600.0)
    site = open_site(demo)
    monkeypatch.setattr(application, "give_back_code", given_back.set)
    monkeypatch.setattr(application, "MOST_BYTES", 0)
    for _ in range(2):
        given_back.clear()
        site.get("/")
        assert given_back.wait(30)


def test_shows_each_pass_and_what_waits(tmp_path: Path, open_site: Open) -> None:
    house = open_house(tmp_path)
    site = open_site(house.config)
    assert site.json("/today.json")["last_batch"] is None
    for batch in (1, 2):
        house.drop(f"{batch}.csv", f"{HEADER}0001,1Z{batch},2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n")
        with without_fsync():
            house.run()
        found = site.json("/today.json")
        assert found["last_batch"] == batch
        assert sum(one["rows"] for one in found["vendors"]) == batch


def test_tables_made_anew_in_their_place_are_seen(tmp_path: Path, open_site: Open) -> None:
    site, counts = None, []
    for rows in (1, 3):
        house = open_house(tmp_path)
        site = site or open_site(house.config)
        lines = (f"000{n},1Z{n},2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n" for n in range(rows))
        house.drop("a.csv", HEADER + "".join(lines))
        with without_fsync():
            house.run()
        counts.append(sum(one["rows"] for one in site.json("/today.json")["vendors"]))
        for folder in ("source", "archive", "warehouse"):
            (tmp_path / folder).rename(tmp_path / f"{folder}-{rows}")
    assert counts == [1, 3]


def test_every_entry_of_the_navigation_is_a_page() -> None:
    assert {path for _, path, _ in NAVIGATION} <= {page.path for page in PAGES}
    assert len({page.path for page in PAGES}) == len(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_nothing_of_a_file_is_markup(hostile: House, open_site: Open, page: object) -> None:
    site = open_site(hostile.config)
    text = site.client.get(page.path).text  # type: ignore[attr-defined]
    assert_harmless(text)


def assert_harmless(text: str) -> None:
    """Fails where a page has anything of `HOSTILE` as more than text."""
    assert "<script>" not in text
    assert "<img" not in text
    assert not re.search(r"<[^>]*\son\w+=", text)
    assert "49 {%" not in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b]", text)
    assert HOSTILE[-1] not in text
    assert " style=" not in text


def test_errors_show_neither_tracebacks_nor_folders(
    demo: Config, open_site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(demo)

    def broken(*_: object) -> None:
        raise RuntimeError(f"secret of {demo.warehouse}")

    monkeypatch.setattr("ordertrail.web.application.ago", broken)
    text = site.get("/", 500).text
    assert "Traceback" not in text
    assert "secret" not in text
    assert str(demo.warehouse) not in text


def test_damaged_tables_are_said_without_folders(tmp_path: Path, open_site: Open) -> None:
    house = open_house(tmp_path)
    house.drop("a.csv", f"{HEADER}0001,1Z1,2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n")
    with without_fsync():
        house.run()
    next((house.table_path("history") / "_delta_log").glob("*0.json")).write_text("damaged")
    site = open_site(house.config)
    text = site.get("/", 503).text
    assert "damaged" in text
    assert str(tmp_path) not in text
    assert site.get("/healthz", 503).json()["ok"] is False
