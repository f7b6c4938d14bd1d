"""The pages in Debian's Chromium: a pipeline of three vendors, `ordertrail serve` beside it, and a browser.

Without Chromium these tests are skipped, and a run with `CI=true` fails. Pictures of every page are left in
`build/screenshots`, to be looked at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ordertrail.begin.demo import run_demo
from ordertrail.pipeline import Pipeline
from tests.commands import serving
from tests.harness import without_fsync

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"

MISSING = "There is no Chromium; on Debian and Ubuntu: apt-get install chromium"

HOSTILE_NAME = "acme/<img src=x onerror=alert(1)> 2026-11-20.csv"

OpenPage = Callable[..., Page]


def chromium() -> str | None:
    """Where the browser is."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for all tests of a worker."""
    path = chromium()
    if path is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"CI must run the tests with a browser. {MISSING}")
        pytest.skip(MISSING)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo of today, and a file of an enemy's."""
    made = tmp_path_factory.mktemp("browser")
    with without_fsync():
        config = run_demo(made, datetime.now(UTC).date(), force=True, progress=lambda _: None).config
        file = config.source / HOSTILE_NAME.replace("/", os.sep, 1)
        cells = '"<script>alert(1)</script>",1ZEVIL1,2026-11-20,,PICKED_UP,"\u202e{name}",2026-11-20 10:00:00\n'
        bad = '"=1+1",1ZEVIL2,"<b>no date</b>",,PICKED_UP,' + "x" * 10_000 + ",2026-11-20 10:00:00\n"
        header = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
        file.write_text(header + cells + bad * 4)
        os.utime(file, (0, datetime.now(UTC).timestamp() - 3600))
        Pipeline(config).run()
    return made


@pytest.fixture(scope="session")
def served(folder: Path) -> Iterator[str]:
    """The address of the pages, without a slash at the end."""
    with serving(folder=folder) as (_, url):
        yield url


@pytest.fixture
def open_page(browser: Browser, served: str) -> Iterator[OpenPage]:
    """Opens a page; fails at the end when a page has logged an error, or broken its policy."""
    contexts, trouble = [], []

    def make(path: str, *, scheme: str = "light", width: int = 1280, script: bool = True) -> Page:
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": width, "height": 900},
            java_script_enabled=script,
            base_url=served,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: trouble.append(dialog.message))
        page.goto(path)
        return page

    yield make
    for context in contexts:
        context.close()
    # The browser tells of pages that were asked for wrongly on purpose.
    assert [one for one in trouble if "the server responded with a status of 40" not in one] == []
