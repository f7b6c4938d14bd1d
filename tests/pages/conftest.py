"""Pages without a browser: a pipeline of three vendors, made once, and clients that ask for its pages."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from starlette.exceptions import StarletteDeprecationWarning

from ordertrail.begin.demo import run_demo
from ordertrail.config import Config
from ordertrail.web.access import Access, access
from ordertrail.web.application import application
from tests.harness import House, open_house, without_fsync

with warnings.catch_warnings():
    # Its successor httpx2 is not in the lock; the client does with httpx, and says so.
    warnings.simplefilter("ignore", StarletteDeprecationWarning)
    from starlette.testclient import TestClient

LOCAL = access("127.0.0.1")
HOST = "127.0.0.1:8765"

HOSTILE = (
    "<script>alert(1)</script>",
    "'; DROP TABLE orders_target; --",
    "{{ 7 * 7 }} {% raw %}",
    "\u202eevitan\u202c and \u2066isolated\u2069",
    "\x1b[31mred\x1b[0m",
    '=HYPERLINK("http://example.com")',
    '&lt;b&gt; &amp;amp; " onmouseover="alert(2)',
    "x" * 10_000,
)
"""Cells as an enemy would send them."""

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The demo's pipeline after its passes: three vendors, rejects, a quarantined file. Nobody may change it."""
    with without_fsync():
        return run_demo(
            tmp_path_factory.mktemp("demo"), date(2026, 11, 24), force=False, progress=lambda _: None
        ).config


@dataclass(slots=True)
class Site:
    """The pages of a pipeline."""

    client: TestClient

    def get(self, path: str, status: int = 200, **headers: str) -> Any:
        """A page; fails when its status is another one."""
        answer = self.client.get(path, headers=headers, follow_redirects=False)
        assert answer.status_code == status, answer.text
        return answer

    def json(self, path: str, **headers: str) -> Any:
        """The document of a JSON twin."""
        return self.get(path, **headers).json()


Open = Callable[..., Site]


@pytest.fixture
def open_site() -> Iterator[Open]:
    """Opens the pages of a pipeline; they are closed when the test is over."""
    opened: list[TestClient] = []

    def make(config: Config, who: Access = LOCAL, **extra: Any) -> Site:
        client = TestClient(
            application(config, who, patience_s=60, **extra), base_url=f"http://{HOST}", raise_server_exceptions=False
        )
        opened.append(client.__enter__())
        return Site(client)

    yield make
    for client in opened:
        client.__exit__()


@pytest.fixture
def site(demo: Config, open_site: Open) -> Site:
    """The demo's pages."""
    return open_site(demo)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A pipeline whose file names and cells are an enemy's, loaded and rejected ones. Nobody may change it."""
    toml = 'max_reject_share = 1.0\n[[vendors]]\nname = "evil"\nfiles = "**/*.csv"\n'
    house = open_house(tmp_path_factory.mktemp("hostile"), toml)
    quoted = [cell.replace('"', '""') for cell in HOSTILE]
    good = "".join(
        f'"{cell}",1Z{n},2024-11-20,,PICKED_UP,"{cell}",2024-11-20 10:00:00\n' for n, cell in enumerate(quoted)
    )
    bad = "".join(f'7,1Y{n},"{cell}",,PICKED_UP,"{cell}",2024-11-20 10:00:00\n' for n, cell in enumerate(quoted))
    with without_fsync():
        for name in ("<img src=x onerror=alert(3)>.csv", "\u202egpj.csv", "a'b\"c&d.csv"):
            house.drop(name, HEADER + good + bad)
            house.run()
    return house
