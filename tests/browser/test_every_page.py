"""What holds on every page: accessible in both schemes, fit for a phone, usable by keyboard and without a script."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from ordertrail.web.pages import NAVIGATION
from tests.browser.conftest import SCREENSHOTS, OpenPage

pytestmark = pytest.mark.slow

STATES = {
    "today": "/",
    "today-14d": "/?period=14d&tz=Europe/Berlin",
    "deliveries": "/deliveries",
    "shipment": "/shipment",
    "rejects": "/rejects",
    "vendors": "/vendors",
    "tables": "/tables",
    "query": "/query",
    "incidents": "/incidents",
    "shipment-found": "/shipment?number=1Z999AA10123456784",
    "vendor": "/vendor?name=acme",
    "query-answer": "/query?sql=FROM+orders_target+LIMIT+20",
    "query-error": "/query?sql=SELEC",
    "no-page": "/nothing",
}
"""Every page in the states that look different, by the name of its picture."""

every_state = pytest.mark.parametrize("name", STATES)


@pytest.mark.series
@every_state
def test_is_accessible_and_fits(open_page: OpenPage, name: str) -> None:
    page = open_page(STATES[name])
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for width, scheme in ((1280, "light"), (1280, "dark"), (360, "dark"), (360, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = Axe().run(page)
        assert found.violations_count == 0, f"{scheme}: {found.generate_report()}"


def test_everything_can_be_reached_without_a_script(open_page: OpenPage) -> None:
    page = open_page("/", script=False)
    for name, path, word in NAVIGATION:
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=word).click()
        assert page.url.split("?")[0].endswith(path), name
        assert page.locator("main").inner_text().strip()
    page.goto("/?period=14d")
    page.get_by_label("Times in").fill("Asia/Kolkata")
    page.get_by_role("button", name="Show").click()
    assert "period=14d" in page.url
    assert page.get_by_label("Times in").input_value() == "Asia/Kolkata"


def test_everything_can_be_reached_by_keyboard(open_page: OpenPage) -> None:
    page = open_page("/")
    page.keyboard.press("Tab")
    assert focused(page) == "To the content"
    assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.goto("/")
    page.keyboard.press("Tab")
    words = []
    for _ in range(len(NAVIGATION) + 1):
        page.keyboard.press("Tab")
        words.append(focused(page))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", words
    assert [word.split()[0] for word in words[1:]] == [word for _, _, word in NAVIGATION]
    page.keyboard.press("Enter")
    page.wait_for_url("**/incidents")


def focused(page: Page) -> str:
    """The text of what has the focus."""
    return str(page.evaluate("document.activeElement.textContent")).strip()


def test_a_command_can_be_copied(open_page: OpenPage) -> None:
    page = open_page("/")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    command = page.locator("code.command").first.inner_text()
    page.get_by_role("button", name=f"Copy the command {command}").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == command
