"""The page of queries: reads and nothing else, within its limits, without holding up other pages."""

from __future__ import annotations

import threading
import time
from urllib.parse import quote

import pytest

from ordertrail.config import Config
from ordertrail.web import query as page
from tests.pages.conftest import Open, Site

pytestmark = pytest.mark.browserless


def asked(site: Site, sql: str, twin: str = ".json", status: int = 200, **headers: str) -> object:
    answer = site.get(f"/query{twin}?sql={quote(sql)}", status, **headers)
    return answer.json() if twin == ".json" else answer.text


def test_answers_in_three_forms(site: Site) -> None:
    sql = "SELECT vendor, count(*) AS n FROM orders_deliveries GROUP BY ALL ORDER BY vendor"
    assert asked(site, sql)["rows"][0] == {"vendor": "acme", "n": 7}  # type: ignore[index]
    assert asked(site, sql, ".csv") == "\ufeffvendor,n\r\nacme,7\r\nblue-freight,3\r\nzip,3\r\n"
    html = asked(site, sql, "")
    assert '<td class="n"><bdi>7</bdi></td>' in html  # type: ignore[operator]
    assert "SELECT vendor, count(*)" in html  # type: ignore[operator]


def test_examples_run(site: Site) -> None:
    links = [part.partition('"')[0] for part in site.get("/query").text.split('href="/query?sql=')[1:]]
    assert len(links) == 5
    for link in links:
        site.get(f"/query.json?sql={link}")


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE orders_target",
        "CREATE TABLE t AS SELECT 1",
        "COPY orders_target TO '/tmp/stolen.csv'",
        "FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "ATTACH '/tmp/x.db'",
        "SET memory_limit = '10GB'",
        "SELECT 1; SELECT 2",
        "INSTALL httpfs",
        "not SQL",
        "SELECT * FROM nowhere",
    ],
)
def test_what_does_more_than_read_is_refused_with_a_hint(site: Site, sql: str) -> None:
    found = asked(site, sql, status=400)
    assert found["error"]  # type: ignore[index]
    assert found["hint"]  # type: ignore[index]
    html = asked(site, sql, "", 400)
    assert "did not run" in html  # type: ignore[operator]
    assert "root:" not in html  # type: ignore[operator]


def test_an_older_batch_can_be_asked(site: Site) -> None:
    now, then = (site.json(f"/query.json?sql=FROM+orders_target{more}")["rows"] for more in ("", "&as_of=2"))
    assert 0 < len(then) < len(now)
    assert "no time" in site.get("/query?sql=SELECT+1&as_of=yesterday", 400).text
    assert site.get("/query?sql=SELECT+1&as_of=99", 400).text.count("batch")


def test_rows_are_limited(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "ROWS", 10)
    found = asked(site, "FROM range(100)")
    assert (len(found["rows"]), found["cut"]) == (10, True)  # type: ignore[index]
    assert str(asked(site, "FROM range(20000)", ".csv")).count("\r\n") == 10_001


def test_time_is_limited(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "TIMEOUT_S", 0.2)
    found = asked(site, "SELECT count(*) FROM range(1000000000000) a, range(1000000) b", status=400)
    assert "took longer than 0.2 s" in found["error"]  # type: ignore[index]
    assert "WHERE" in found["hint"]  # type: ignore[index]
    assert asked(site, "SELECT 1 AS one")["rows"] == [{"one": 1}]  # type: ignore[index]


def test_memory_is_limited(site: Site) -> None:
    found = asked(site, "SELECT list(repeat('x', 1000)) FROM range(3000000)", status=400)
    assert "emory" in found["error"]  # type: ignore[index]


def test_a_link_of_another_site_computes_nothing(site: Site) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    html = asked(site, "SELECT 40 + 2 AS answer", "", **headers)
    assert "press Run" in html  # type: ignore[operator]
    assert "42" not in html  # type: ignore[operator]


def test_a_long_query_holds_no_other_page_and_no_other_query_for_ever(
    demo: Config, open_site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "TIMEOUT_S", 4.0)
    site = open_site(demo)
    site.get("/")
    slow = "SELECT count(*) FROM range(1000000000000) a, range(1000000) b"
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(site.client.get("/query.json", params={"sql": slow}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    while not statuses:  # those that find too many waiting are told at once
        threads[-1].join(0.01)
    begin = time.monotonic()
    for path in ("/", "/tables", "/incidents"):
        site.get(path)
    assert time.monotonic() - begin < 2.9, "the pages waited for a query"
    monkeypatch.setattr(page, "TIMEOUT_S", 0.01)
    for thread in threads:
        thread.join()
    assert set(statuses) == {400, 503}
