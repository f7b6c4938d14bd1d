"""The metrics without a service or tables: names, labels, formats, and how often the tables are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from msgspec.structs import replace
from prometheus_client import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from docs.generate import LABELS
from ordertrail.config import Config, parse_config
from ordertrail.errors import PassRunningError, SourceError
from ordertrail.look.heartbeat import SILENT_S, Heard
from ordertrail.look.metrics import FRESH_S, METRICS, PAUSE_FACTOR, PROCESS_METRICS, STALE_S, Metrics
from ordertrail.look.open_items import KINDS, OpenItem, Waiting
from ordertrail.look.readings import MOST_VENDORS, OTHERS, Readings, counted
from ordertrail.look.standing import Status, TableDebt
from ordertrail.model import ROW_OUTCOMES, DeliveryReport, RowCounts, RunReport, State
from ordertrail.rules.incidents import Incident
from ordertrail.rules.outbox import FAILED_SENDS, Post
from ordertrail.watch.counts import COMMITTED, LAG_BOUNDS_S, RESULTS, STEPS, PassCounts

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
HOSTILE = 'a"b\\c\nd{e="f"} 1\u202e<script>'
ITEM = OpenItem("disk", "disk:archive", None, "critical", "full", "ordertrail doctor")
STATUS = Status(
    pipeline="orders",
    engine="embedded",
    last_batch=7,
    last_loaded_at=NOON,
    staged_batch_unfinished=True,
    target_version=9,
    target_rows=50,
    target_files=3,
    target_bytes=4096,
    history_rows=80,
    rejects_rows=4,
    deliveries={"loaded": 6},
    quarantined_recent=(),
    waiting_files=0,
    waiting=(),
    debt=TableDebt(True, ("many",), 3, 2, 5, 0.1, 4, 40),
    open_items=(ITEM, replace(ITEM, key="disk:warehouse")),
)
INCIDENT = Incident("i1", "disk:archive", "disk", "critical", None, "full", "doctor", None, None, NOON, NOON)
WAITING = Post("desk", waiting="open")
FAILED = replace(WAITING, channel="on-call", attempts=FAILED_SENDS, error="no route")
READ = Readings(
    incidents=(
        replace(INCIDENT, posts=(WAITING, FAILED)),
        replace(INCIDENT, incident_id="i2", severity="warning", acknowledged_at=NOON, posts=(Post("desk"),)),
        replace(INCIDENT, incident_id="i3", closed_at=NOON, posts=(WAITING, replace(WAITING, channel="gone"))),
    ),
    status=STATUS,
    rows={"acme": {"inserted": 5, "rejected": 1}, HOSTILE: {"updated": 2}},
    deliveries={"acme": {"loaded": 6, "undone": 1}, HOSTILE: {}},
    waiting=(
        Waiting("a.csv", None, "no vendor takes it", NOON - timedelta(hours=3)),
        Waiting("b.csv", "acme", "not settled"),
    ),
    heartbeat=Heard(Path("beat"), NOON - timedelta(seconds=4), pid=1, failures=2),
    free_bytes={"archive": 10**9},
)


class Scene:
    """Metrics whose clocks and readings are the test's."""

    def __init__(self, config: Config, *readings: Readings) -> None:
        self.now_s = 1000.0
        self.reading_takes_s = 0.0
        self.left = list(readings)
        self.times = 0
        self.busy = False
        self.counts = PassCounts(lambda: NOON)
        self.metrics = Metrics(
            config,
            "1.2.3",
            self.counts.passes,
            busy=lambda: self.busy,
            clock=lambda: self.now_s,
            now=lambda: NOON,
            find=self.find,
        )

    def find(self, _: Config, now: datetime) -> Readings:
        assert now == NOON
        self.times += 1
        self.now_s += self.reading_takes_s
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]

    def families(self, accept: str | None = None) -> dict[str, Family]:
        body, kind = self.metrics.exposition(accept)
        parse = openmetrics_families if "openmetrics" in kind else text_families
        return {one.name: one for one in parse(body.decode())}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    text = '[pipeline]\nname = "orders"\nsource = "in"\narchive = "archive"\nwarehouse = "tables"\n'
    text += "".join(f'[[alerts]]\nname = "{name}"\nurl = "json://localhost/{name}"\n' for name in ("desk", "on-call"))
    return parse_config(text, base=tmp_path, environ={})


def value(families: dict[str, Family], name: str, **labels: str) -> float:
    (found,) = [
        one.value
        for family in families.values()
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    ]
    return float(found)


def ours(families: Iterable[Family]) -> Iterator[Family]:
    return (one for one in families if one.name.startswith("ordertrail_"))


# --- names -------------------------------------------------------------------------------------------------------


def test_names_follow_the_rules_of_prometheus() -> None:
    """As `promtool check metrics` has them."""
    names = [one.name for one in METRICS]
    assert len(names) == len(set(names))
    for one in METRICS:
        assert re.fullmatch(r"ordertrail(_[a-z]+)+", one.name), one.name
        assert one.name.endswith("_total") == (one.kind == "counter"), one.name
        assert one.name.endswith("_info") == (one.kind == "info"), one.name
        assert not re.search(r"_(count|sum|bucket)$", one.name), one.name
        # Base units, and no type in the name.
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|kilobytes|gauge|counter|histogram)(_|$)", one.name)
        assert one.help.endswith("."), one.name
        assert not {"le", "quantile", "pipeline"} & set(one.labels), one.name


@pytest.mark.parametrize("accept", [None, "text/plain", OPENMETRICS, "*/*, application/openmetrics-text; version=zz"])
def test_what_is_told_is_in_the_list_and_has_help(config: Config, accept: str | None) -> None:
    families = Scene(config, READ).families(accept)
    known = {one.name: one for one in METRICS}
    told = set()
    for family in ours(families.values()):
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        metric = known[family.name if family.name in known else family.name + suffix]
        told.add(metric.name)
        assert family.documentation == metric.help
        plain = "gauge" if metric.kind == "info" and accept in (None, "text/plain") else metric.kind
        assert family.type == plain
        for one in family.samples:
            assert set(one.labels) - {"le"} == {"pipeline", *metric.labels}, one
            assert one.labels["pipeline"] == "orders"
    assert told == known.keys() - {"ordertrail_last_success_timestamp_seconds"}
    others = {one.name for family in families.values() for one in family.samples} - {
        one.name for family in ours(families.values()) for one in family.samples
    }
    assert others <= PROCESS_METRICS.keys()


def test_every_label_is_explained() -> None:
    assert {name for one in METRICS for name in one.labels} | {"pipeline"} == LABELS.keys()
    assert all(f"`{one}`" in LABELS["result"] for one in RESULTS)
    assert all(f"`{one}`" in LABELS["step"] for one in STEPS)


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", [None, OPENMETRICS])
def test_the_values_are_those_that_were_read(config: Config, accept: str | None) -> None:
    found = Scene(config, READ).families(accept)
    assert value(found, "ordertrail_build_info", version="1.2.3", engine="embedded") == 1
    assert value(found, "ordertrail_tables_readable") == 1
    assert value(found, "ordertrail_service_alive") == 1
    assert value(found, "ordertrail_heartbeat_age_seconds") == 4
    assert value(found, "ordertrail_failed_passes_in_a_row") == 2
    assert value(found, "ordertrail_waiting_files") == 2
    assert value(found, "ordertrail_oldest_waiting_file_age_seconds") == 3 * 3600
    assert value(found, "ordertrail_disk_free_bytes", folder="archive") == 10**9
    assert value(found, "ordertrail_rows_total", vendor="acme", outcome="inserted") == 5
    assert value(found, "ordertrail_rows_total", vendor="acme", outcome="stale") == 0
    assert value(found, "ordertrail_rows_total", vendor=HOSTILE, outcome="updated") == 2
    assert value(found, "ordertrail_deliveries", vendor="acme", state="undone") == 1
    assert value(found, "ordertrail_deliveries", vendor=HOSTILE, state="quarantined") == 0
    assert value(found, "ordertrail_open_items", kind="disk", severity="critical") == 2
    assert value(found, "ordertrail_open_items", kind="disk", severity="warning") == 0
    assert value(found, "ordertrail_incidents_open", severity="critical", acknowledged="no") == 1
    assert value(found, "ordertrail_incidents_open", severity="warning", acknowledged="yes") == 1
    assert value(found, "ordertrail_incidents_open", severity="warning", acknowledged="no") == 0
    # What is to be told of a closed incident counts, and a channel that was taken out does not.
    assert value(found, "ordertrail_alert_messages_waiting", channel="desk") == 2
    assert value(found, "ordertrail_alert_channel_failing", channel="desk") == 0
    assert value(found, "ordertrail_alert_channel_failing", channel="on-call") == 1
    assert value(found, "ordertrail_last_batch") == 7
    assert value(found, "ordertrail_batch_unfinished") == 1
    assert value(found, "ordertrail_last_load_timestamp_seconds") == NOON.timestamp()
    assert value(found, "ordertrail_target_rows") == 50
    assert value(found, "ordertrail_target_size_bytes") == 4096
    assert value(found, "ordertrail_target_small_files") == 2
    assert value(found, "ordertrail_target_deleted_rows") == 5
    assert value(found, "ordertrail_log_entries") == 40
    assert value(found, "ordertrail_maintenance_due") == 1


def test_every_kind_of_open_item_is_told_at_zero(config: Config) -> None:
    found = Scene(config, replace(READ, status=replace(STATUS, open_items=()))).families()["ordertrail_open_items"]
    assert {one.labels["kind"] for one in found.samples} == set(KINDS)
    assert {one.value for one in found.samples} == {0}


def test_a_service_that_is_silent_or_missing_is_not_alive(config: Config) -> None:
    silent = replace(READ, heartbeat=Heard(Path("beat"), NOON - timedelta(seconds=SILENT_S + 1)))
    found = Scene(config, silent).families()
    assert value(found, "ordertrail_service_alive") == 0
    found = Scene(config, replace(READ, heartbeat=None)).families()
    assert value(found, "ordertrail_service_alive") == 0
    assert "ordertrail_heartbeat_age_seconds" not in found


def test_tables_that_cannot_be_read_cost_only_what_they_tell(config: Config) -> None:
    found = Scene(config, Readings(trouble="gone", waiting=READ.waiting)).families()
    assert value(found, "ordertrail_tables_readable") == 0
    assert value(found, "ordertrail_waiting_files") == 2
    of_tables = {one.name.removesuffix("_total") for one in METRICS if one.origin == "tables"}
    assert not of_tables & found.keys()


def test_vendors_beyond_the_limit_are_summed() -> None:
    names = [f"v{number:03}" for number in range(MOST_VENDORS + 5)]
    rows = [{"vendor": name, "state": "loaded", "rows_inserted": 2} for name in names]
    rows += [{"vendor": "v003", "state": "held", "rows_inserted": 0}, {"vendor": "", "state": "correction"}]
    table = pa.Table.from_pylist(
        [{"rows_inserted": 9, **{f"rows_{one}": None for one in ROW_OUTCOMES[1:]}, **one} for one in rows],
        pa.schema(
            [("vendor", pa.string()), ("state", pa.string()), *((f"rows_{one}", pa.int64()) for one in ROW_OUTCOMES)]
        ),
    )
    counts, states = counted(lambda wanted: table.select(list(wanted)), ["nothing-came", "v104"])
    assert list(counts)[:2] == ["nothing-came", "v104"]
    assert (len(counts), len(states)) == (MOST_VENDORS + 1, MOST_VENDORS + 1)
    assert counts[OTHERS]["inserted"] == 2 * 6
    assert (counts["v104"]["inserted"], counts["v000"]["rejected"], counts["nothing-came"]) == (2, 0, {})
    assert states["v003"] == {"loaded": 1, "held": 1}
    assert states[OTHERS] == {"loaded": 6}


# --- how often ---------------------------------------------------------------------------------------------------


def test_the_tables_are_not_read_for_each_that_asks(config: Config) -> None:
    scene = Scene(config, READ)
    scene.families()
    scene.now_s += FRESH_S - 0.1
    scene.families()
    assert scene.times == 1
    scene.now_s += 0.2
    scene.reading_takes_s = 2.0
    scene.families()
    assert scene.times == 2
    scene.now_s += PAUSE_FACTOR * 2.0 - 0.1
    scene.families()
    assert scene.times == 2
    scene.now_s += 0.2
    scene.families()
    assert scene.times == 3


def test_while_a_pass_runs_the_last_reading_is_told(config: Config) -> None:
    scene = Scene(config, READ)
    scene.busy = True
    scene.families()
    assert scene.times == 1, "there is nothing to tell without a first reading"
    scene.now_s += STALE_S - 0.1
    scene.families()
    assert scene.times == 1
    scene.now_s += 0.2
    scene.families()
    assert scene.times == 2, "a pass that takes long hides nothing"
    scene.busy = False
    scene.now_s += FRESH_S + 0.1
    scene.families()
    assert scene.times == 3


# --- what the service counts -------------------------------------------------------------------------------------


def loaded(closed_at: datetime | None, state: State = State.LOADED) -> DeliveryReport:
    return DeliveryReport("id", "acme", "a.csv", "00", 1, state, None, None, RowCounts(), closed_at)


def a_pass(*deliveries: DeliveryReport, batch: int | None = 1) -> RunReport:
    seconds = {"discover": 0.01, "stage": 0.2, "load": 0.4, "archive": 0.0, "total": 0.61, "unheard": 9.0}
    return RunReport("orders", "embedded", batch, False, RowCounts(), deliveries, (), (), seconds)


def run_of(counts: PassCounts, result: RunReport | Exception, *, commits: bool = True) -> None:
    def run(_: object, __: object) -> RunReport:
        assert counts.running
        if commits:
            counts.probe(COMMITTED)
        if isinstance(result, Exception):
            raise result
        return result

    try:
        counts.counting(run)(frozenset(), frozenset)
    finally:
        assert not counts.running


def test_passes_are_counted_by_result(config: Config) -> None:
    scene = Scene(config, READ)
    run_of(scene.counts, a_pass(loaded(NOON - timedelta(seconds=0.4)), loaded(NOON - timedelta(days=2))))
    run_of(scene.counts, a_pass(batch=None), commits=False)
    for error in (PassRunningError("busy"), SourceError("gone"), ValueError("a bug")):
        with pytest.raises(type(error)):
            run_of(scene.counts, error)
    for accept in (None, OPENMETRICS):
        found = scene.families(accept)
        results = {one: value(found, "ordertrail_passes_total", result=one) for one in RESULTS}
        assert results == {"loaded": 1, "idle": 1, "failed": 2, "blocked": 1}
        assert value(found, "ordertrail_last_success_timestamp_seconds") == NOON.timestamp()
        assert value(found, "ordertrail_pass_seconds_count", step="load") == 1
        assert value(found, "ordertrail_pass_seconds_sum", step="total") == 0.61
        # A bound belongs to its bucket.
        assert value(found, "ordertrail_pass_seconds_bucket", step="discover", le="0.01") == 1
        assert value(found, "ordertrail_pass_seconds_bucket", step="stage", le="0.1") == 0
        assert value(found, "ordertrail_delivery_lag_seconds_count") == 2
        assert value(found, "ordertrail_delivery_lag_seconds_sum") == pytest.approx(0.4 + 2 * 86_400)
        assert value(found, "ordertrail_delivery_lag_seconds_bucket", le="0.25") == 0
        assert value(found, "ordertrail_delivery_lag_seconds_bucket", le="0.5") == 1
        assert value(found, "ordertrail_delivery_lag_seconds_bucket", le=repr(LAG_BOUNDS_S[-1])) == 1
        assert value(found, "ordertrail_delivery_lag_seconds_bucket", le="+Inf") == 2


def test_a_lag_is_only_told_of_rows_that_became_readable_in_this_pass(config: Config) -> None:
    counts = PassCounts(lambda: NOON)
    run_of(counts, a_pass(loaded(NOON)))
    run_of(counts, a_pass(loaded(NOON)), commits=False)
    run_of(counts, a_pass(loaded(None), loaded(NOON, State.QUARANTINED)))
    # A file's clock may be ahead of ours.
    run_of(counts, a_pass(loaded(NOON + timedelta(seconds=5))))
    assert (sum(counts.passes().lag.counts), counts.passes().lag.total) == (2, 0.0)
