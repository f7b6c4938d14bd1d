"""The desk's morning, as one walk through the pages: who is late, what is set aside and why, where a parcel is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from ordertrail.config import load_config
from ordertrail.pipeline import Pipeline
from tests.browser.conftest import SCREENSHOTS
from tests.commands import serving
from tests.depth import drawn
from tests.harness import without_fsync

pytestmark = pytest.mark.slow

NUMBER = "1Z999AA10123456784"
HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
CONFIG = """
[pipeline]
name = "parcels"
source = "in"
archive = "archive"
warehouse = "tables"
settle_s = 0.0

[[vendors]]
name = "acme"
files = "acme/*.csv"
expect_every = "1d"
expect_grace = "1h"

[[vendors]]
name = "blue"
files = "blue/*.csv"

[[vendors]]
name = "zip"
files = "zip/*.csv"
aliases = { tracking_num = ["Parcel"] }
"""


class Yesterday:
    """The clock of a pass that ran thirty hours ago."""

    @staticmethod
    def now(zone: object = UTC) -> datetime:
        assert zone is UTC
        return datetime.now(UTC) - timedelta(hours=30)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Yesterday a file of acme and one of blue; today one of blue, and one of zip with a column of bad dates."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "ordertrail.toml").write_text(CONFIG)
    today, yesterday, before = (datetime.now(UTC).date() - timedelta(days=n) for n in range(3))

    def drop(name: str, rows: str) -> None:
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + rows)
        at = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
        os.utime(path, (at, at))

    others = "".join(f"ORD-{n},1Z999AA101{n:08},{before},,IN_TRANSIT,{n} Elm St,{before} 08:00:00\n" for n in range(40))
    drop(f"acme/acme_{yesterday}.csv", f"ORD-7,{NUMBER},{before},,PICKED_UP,7 Oak St,{before} 07:30:00\n{others}")
    drop(f"blue/blue_{yesterday}.csv", f"ORD-7,{NUMBER},{before},,LABEL_CREATED,7 Oak St,{before} 06:00:00\n")
    config = load_config(folder / "ordertrail.toml")
    with without_fsync(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("ordertrail.pipeline.datetime", Yesterday)
        Pipeline(config).run()
    drop(f"blue/blue_{today}.csv", f"ORD-7,{NUMBER},{before},,OUT_FOR_DELIVERY,7 Oak St,{yesterday} 18:00:00\n")
    bad = "".join(f"ORD-{n},9{n},2026-13-45,,IN_TRANSIT,{n} Ash St,{yesterday} 09:00:00\n" for n in range(9))
    drop(f"zip/zip_{today}.csv", bad)
    with without_fsync():
        Pipeline(config).run()
    return folder


@pytest.fixture(scope="module")
def address(desk: Path) -> Iterator[str]:
    with serving(folder=desk) as (_, url):
        yield url


PICTURES = (
    "vendors", "vendor", "deliveries", "delivery-quarantined", "shipment-search", "shipment", "delivery",
    "shipment-list", "rejects",
)  # fmt: skip


def picture(page: Page, name: str) -> None:
    """Leave pictures of a page, wide and narrow, light and dark; it fits and is accessible."""
    if name not in drawn(PICTURES, "pictures"):
        return
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for width, scheme in ((360, "light"), (360, "dark"), (1280, "dark"), (1280, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} scrolls sideways"
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = Axe().run(page)
        assert found.violations_count == 0, f"{name}, {scheme}: {found.generate_report()}"


def test_the_morning_of_an_operations_desk(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=address)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))

    # Who is late?
    page.goto("/")
    assert "acme is late" in page.locator("main").inner_text()
    page.get_by_role("link", name="Vendors", exact=True).click()
    late = page.get_by_role("row").filter(has_text="acme")
    expect(late).to_contain_text("since")
    picture(page, "vendors")
    late.get_by_role("link", name="acme").first.click()
    expect(page.locator("main")).to_contain_text("Expected every 1d")
    picture(page, "vendor")

    # Which file is set aside, and why?
    page.get_by_role("link", name="Deliveries", exact=True).click()
    expect(page.locator("h1")).to_have_text("Deliveries")
    picture(page, "deliveries")
    page.get_by_label("State").select_option("quarantined")
    page.get_by_role("button", name="Show", exact=True).first.click()
    expect(page.get_by_role("table").locator("tbody tr")).to_have_count(1)
    page.get_by_role("table").get_by_role("link").first.click()
    expect(page.locator(".note").first).to_contain_text("9 of 9 rows")

    # What stands in the file?
    page.locator("section", has_text="Rejected").get_by_role("link", name="2", exact=True).first.click()
    asked = page.locator("tr.asked").inner_text()
    assert asked.split("\t")[-1].startswith("ORD-0,90,2026-13-45")
    picture(page, "delivery-quarantined")

    # What is typed to heal it?
    command = page.locator("code.command").first.inner_text()
    assert command.startswith("ordertrail replay ")
    page.get_by_role("button", name=f"Copy the command {command}").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == command

    # Where is the parcel with these last digits, and who said so?
    page.get_by_role("link", name="Shipment", exact=True).click()
    expect(page.locator("h1")).to_have_text("Shipment")
    picture(page, "shipment-search")
    page.get_by_label("Number, its last digits").fill(NUMBER[-6:])
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(NUMBER)
    now = page.locator("dl.said > div").filter(has_text="status").inner_text()
    assert "OUT_FOR_DELIVERY" in now
    assert "of blue, batch 2" in now
    assert page.locator("ol.timeline > li").count() == 3
    states = page.locator("ol.timeline").inner_text()
    assert states.index("LABEL_CREATED") < states.index("PICKED_UP") < states.index("OUT_FOR_DELIVERY")
    picture(page, "shipment")
    page.locator("ol.timeline > li").nth(1).get_by_role("link").first.click()
    expect(page.locator("tr.asked")).to_contain_text(NUMBER)
    picture(page, "delivery")

    # And the others with such a number, what was rejected, what an undo would do.
    page.goto("/shipment?number=1Z999AA101")
    assert "and " in page.locator("main").inner_text()
    picture(page, "shipment-list")
    page.goto("/rejects")
    picture(page, "rejects")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    assert download.value.suggested_filename == "rejects.csv"
    assert trouble == []
    context.close()


def test_the_walk_needs_no_script(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=address)
    page = context.new_page()
    page.goto("/deliveries?state=quarantined")
    page.get_by_role("table").get_by_role("link").first.click()
    page.get_by_label("Line").fill("3")
    page.locator("form[action='/delivery#lines']").get_by_role("button").click()
    expect(page.locator("tr.asked")).to_contain_text("ORD-1,91")
    page.goto("/shipment")
    page.get_by_label("Number, its last digits").fill(NUMBER.lower())
    page.get_by_role("button", name="Find").click()
    expect(page.locator("h1")).to_have_text(NUMBER)
    context.close()
