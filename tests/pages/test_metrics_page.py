"""`/metrics` of the pages: what the tables tell, to whom may read the pages."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from ordertrail.config import Config
from ordertrail.look.metrics import METRICS
from ordertrail.web.access import access
from tests.pages.conftest import Open, Site

TOKEN = "a-token-that-is-long-enough"


@pytest.mark.parametrize("accept", ["*/*", "application/openmetrics-text; version=1.0.0"])
def test_the_pages_tell_what_the_tables_tell(site: Site, accept: str) -> None:
    answer = site.get("/metrics", Accept=accept)
    parse = text_families if accept == "*/*" else openmetrics_families
    kind = "text/plain" if accept == "*/*" else "application/openmetrics-text"
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["cache-control"] == "no-store"
    families = {one.name: one for one in parse(answer.text)}
    vendors = {one.labels["vendor"] for one in families["ordertrail_rows"].samples}
    assert vendors == {"acme", "blue-freight", "zip"}
    (rows,) = families["ordertrail_target_rows"].samples
    assert rows.value > 0
    of_service = {one.name.removesuffix("_total") for one in METRICS if one.origin == "service"}
    assert not of_service & families.keys()


def test_without_the_token_no_number_is_told(demo: Config, open_site: Open) -> None:
    site = open_site(demo, access("0.0.0.0", token=TOKEN))
    answer = site.client.get("/metrics", follow_redirects=False)
    assert answer.status_code in (303, 401)
    assert "acme" not in answer.text
    assert "acme" in site.get("/metrics", Authorization=f"Bearer {TOKEN}").text
