"""Dashboard and alert rules: every metric and label that they ask for is there; Grafana and Prometheus take them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ordertrail.deploy.monitoring import METRICS_PORT, monitoring_files
from ordertrail.look.metrics import METRICS, PROCESS_METRICS

FILES = monitoring_files(METRICS_PORT)
DASHBOARD: dict[str, Any] = json.loads(FILES["monitoring/grafana-dashboard.json"])
RULES: list[dict[str, Any]] = yaml.safe_load(FILES["monitoring/alerts.yml"])["groups"][0]["rules"]
SCRAPE: dict[str, Any] = yaml.safe_load(FILES["monitoring/prometheus.yml"])
UNITS = {"short", "s", "bytes", "percentunit"}
GRID_WIDTH = 24

# What an expression may be made of.
FUNCTIONS = {"sum", "max", "min", "increase", "rate", "time", "histogram_quantile", "predict_linear"}
WORDS = {"by"}
DURATION = r"\d+[smhdwy]"
TOKEN = re.compile(
    r'\s*(?:(?P<text>"[^"\\]*")|(?P<range>\[(?:' + DURATION + r"|\$__rate_interval)\])"
    r"|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<sign>=~|!~|!=|==|>=|<=|[-+*/<>=(){},]))"
)


def panels() -> Iterator[dict[str, Any]]:
    for one in DASHBOARD["panels"]:
        yield one
        yield from one.get("panels", ())


def expressions() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


def tokens(expression: str) -> list[tuple[str, str]]:
    found, place = [], 0
    while place < len(expression.rstrip()):
        match = TOKEN.match(expression, place)
        assert match is not None, f"{expression!r} at {expression[place:]!r}"
        assert match.lastgroup is not None
        found.append((match.lastgroup, match[match.lastgroup]))
        place = match.end()
    return found


def labels_of(metric: str) -> set[str]:
    """The labels that a series of this name has."""
    if metric == "up" or metric in PROCESS_METRICS:
        return {"job", "instance"}
    plain = {one.name: one for one in METRICS if one.kind != "histogram"}
    parts = {
        f"{one.name}_{end}": one for one in METRICS if one.kind == "histogram" for end in ("bucket", "sum", "count")
    }
    found = (plain | parts)[metric]
    return {"pipeline", "job", "instance", *found.labels} | ({"le"} if metric.endswith("_bucket") else set())


def uses(expression: str) -> tuple[set[str], set[str], set[str]]:
    """Metrics, labels and functions of an expression."""
    metrics, labels, functions = set(), set(), set()
    found = tokens(expression)
    depth: list[str] = []
    for place, (kind, text) in enumerate(found):
        following = found[place + 1][1] if place + 1 < len(found) else ""
        if text in ("(", "{"):
            depth.append("by" if place and found[place - 1][1] == "by" else text)
        elif text in (")", "}"):
            assert {"by": ")", "(": ")", "{": "}"}[depth.pop()] == text, expression
        elif kind == "name" and depth and depth[-1] in ("{", "by"):
            labels.add(text)
        elif kind == "name" and text not in WORDS:
            called = following in ("(", "by")
            (functions if called else metrics).add(text)
    assert depth == [], expression
    return metrics, labels, functions


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_an_expression_asks_for_what_there_is(where: str, expression: str) -> None:
    metrics, labels, functions = uses(expression)
    assert metrics or "vector(" in expression, where
    known = [labels_of(metric) for metric in metrics]
    assert labels <= set().union(*known), where
    assert functions <= FUNCTIONS, where
    # A range belongs to what makes a rate of it, and a rate of a counter only.
    for metric in re.findall(r"(?:rate|increase)\((\w+)", expression):
        assert metric.endswith(("_total", "_bucket")), where
    for metric in metrics:
        if metric.endswith(("_total", "_bucket")) and metric not in PROCESS_METRICS:
            assert re.search(rf"(?:rate|increase)\({metric}(?:\{{[^}}]*\}})?\[", expression), where
    for quantile in re.findall(r"histogram_quantile\(([^,]+)", expression):
        assert 0 < float(quantile) < 1
        assert "le" in labels, where


@pytest.mark.parametrize("broken", ["sum(up", "sum(up))", "up{job=~}x]", "rate(up[5q])", 'up{job="a}'])
def test_the_check_of_expressions_finds_mistakes(broken: str) -> None:
    with pytest.raises((AssertionError, KeyError, IndexError)):
        uses(broken)


def test_every_metric_that_says_something_is_wrong_is_alerted_on() -> None:
    asked = {metric for rule in RULES for metric in uses(rule["expr"])[0]}
    assert asked >= {
        "ordertrail_open_items",
        "ordertrail_service_alive",
        "ordertrail_failed_passes_in_a_row",
        "ordertrail_tables_readable",
        "ordertrail_delivery_lag_seconds_bucket",
        "ordertrail_disk_free_bytes",
        "up",
    }


# --- Grafana -----------------------------------------------------------------------------------------------------


def test_grafana_takes_the_dashboard() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    # An id of a database, not of a file: Grafana gives it.
    assert "id" not in DASHBOARD
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", DASHBOARD["uid"])
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "pipeline"]
    ids = [one["id"] for one in panels()]
    assert len(ids) == len(set(ids)) > 15
    titles = [one["title"] for one in panels()]
    assert len(titles) == len(set(titles))


def test_panels_ask_the_data_source_that_was_chosen_and_have_a_unit_and_a_word() -> None:
    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"], panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert '"$pipeline"' in target["expr"] or "process_" in target["expr"], panel["title"]


def test_no_two_panels_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= GRID_WIDTH
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


# --- Prometheus --------------------------------------------------------------------------------------------------


def test_prometheus_takes_the_rules() -> None:
    document = yaml.safe_load(FILES["monitoring/alerts.yml"])
    assert set(document) == {"groups"}
    assert {key for group in document["groups"] for key in group} == {"name", "rules"}
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
    for rule in RULES:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert re.fullmatch(DURATION, rule["for"])
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}
        kept = uses(rule["expr"])[1] or {"pipeline", "instance"}
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            aggregated = " by (" in rule["expr"]
            assert not aggregated or label in kept, rule["alert"]


def test_the_scrape_config_is_that_of_the_rules_and_the_dashboard() -> None:
    (job,) = SCRAPE["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{METRICS_PORT}"]}]
    assert SCRAPE["rule_files"] == ["alerts.yml"]
    asked = {name for _, expression in expressions() for name in re.findall(r'job="(\w+)"', expression)}
    assert asked == {job["job_name"]}
