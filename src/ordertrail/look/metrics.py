"""What `/metrics` answers: the state of a pipeline as numbers, for Prometheus and whoever reads its formats.

Most of them are read from the tables, the folders and the heartbeat when somebody asks, so that `watch` and `serve`
tell the same, and nothing is lost when either starts again. What only a running service knows, its passes, comes from
the service. Every name is in `METRICS`; labels have values from short lists and, for vendors, at most `MOST_VENDORS`.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.errors import UsageError
from ordertrail.log import Log
from ordertrail.look.heartbeat import Heard
from ordertrail.look.open_items import KINDS
from ordertrail.look.readings import Readings, read
from ordertrail.model import ROW_OUTCOMES, SET_ASIDE, State

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

FRESH_S = 5.0
"""Shortest time between two readings of the tables, in seconds; until then the last one is told again."""

PAUSE_FACTOR = 20.0
"""... and at least this many times the duration of the last one: bounds what being asked often can cost."""

STALE_S = 60.0
"""While a pass of this process runs, which comes first, the last reading is told for at most this long, in seconds."""

SERVED_STATES = tuple(state for state in State if state not in (State.CORRECTION, State.MIGRATION))
"""The states of a delivery with a file."""

_OPENMETRICS = "application/openmetrics-text"

_log = Log()

Kind = Literal["counter", "gauge", "histogram", "info"]
Origin = Literal["always", "tables", "service"]


class Metric(Struct, frozen=True):
    """One metric. All have the label `pipeline` beside their own.

    Attributes:
        name: As Prometheus shows it; of a histogram without `_bucket`, `_sum` and `_count`.
        kind: How its values behave.
        help: What it is.
        labels: Its own labels.
        origin: `always`; `tables`, when the tables are there and this process can read them; `service`, when the
            process that is asked is `ordertrail watch`.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    origin: Origin = "always"


METRICS: tuple[Metric, ...] = (
    Metric("ordertrail_build_info", "info", "Version and engine that answer.", ("version", "engine")),
    Metric("ordertrail_tables_readable", "gauge", "1 when the tables can be read, or none were made yet; else 0."),
    Metric("ordertrail_service_alive", "gauge", "1 when `ordertrail watch` wrote its heartbeat lately; else 0."),
    Metric(
        "ordertrail_heartbeat_age_seconds", "gauge", "Since the heartbeat was written; not told when there is none."
    ),
    Metric("ordertrail_failed_passes_in_a_row", "gauge", "Passes of the service that failed since the last good one."),
    Metric("ordertrail_waiting_files", "gauge", "Files in the source folder, those that no vendor takes included."),
    Metric(
        "ordertrail_oldest_waiting_file_age_seconds",
        "gauge",
        "How long the file waits that waits longest; 0 when none waits.",
    ),
    Metric("ordertrail_disk_free_bytes", "gauge", "Free space on the disk of a folder.", ("folder",)),
    Metric(
        "ordertrail_rows_total", "counter", "Rows of all files that came, by outcome.", ("vendor", "outcome"), "tables"
    ),
    Metric("ordertrail_deliveries", "gauge", "Files that came, by their state now.", ("vendor", "state"), "tables"),
    Metric(
        "ordertrail_open_items",
        "gauge",
        "What needs a person: `ordertrail health`.",
        ("kind", "severity"),
        "tables",
    ),
    Metric(
        "ordertrail_incidents_open",
        "gauge",
        "Open incidents, see `ordertrail alerts list`.",
        ("severity", "acknowledged"),
        "tables",
    ),
    Metric("ordertrail_alert_messages_waiting", "gauge", "Messages that are to be sent.", ("channel",), "tables"),
    Metric(
        "ordertrail_alert_channel_failing",
        "gauge",
        "1 when a channel has not taken a message several times in a row; else 0.",
        ("channel",),
        "tables",
    ),
    Metric("ordertrail_last_batch", "gauge", "Number of the last batch with the done mark.", (), "tables"),
    Metric("ordertrail_batch_unfinished", "gauge", "1 while a staged batch lacks the done mark; else 0.", (), "tables"),
    Metric(
        "ordertrail_last_load_timestamp_seconds",
        "gauge",
        "Clock of the last batch that loaded a file, seconds since 1970; not told before the first.",
        (),
        "tables",
    ),
    Metric("ordertrail_target_rows", "gauge", "Rows of the target.", (), "tables"),
    Metric("ordertrail_target_size_bytes", "gauge", "Size of the target's data files.", (), "tables"),
    Metric("ordertrail_target_files", "gauge", "Data files of the target.", (), "tables"),
    Metric("ordertrail_target_small_files", "gauge", "Of these, small ones: a part of the debt.", (), "tables"),
    Metric(
        "ordertrail_target_deleted_rows",
        "gauge",
        "Rows in the target's files that deletion vectors mark: a part of the debt.",
        (),
        "tables",
    ),
    Metric("ordertrail_history_rows", "gauge", "Rows of the history.", (), "tables"),
    Metric("ordertrail_history_files", "gauge", "Data files of the history.", (), "tables"),
    Metric("ordertrail_rejects_rows", "gauge", "Rows of the rejects.", (), "tables"),
    Metric("ordertrail_log_entries", "gauge", "Commits in the logs of the five tables.", (), "tables"),
    Metric("ordertrail_maintenance_due", "gauge", "1 when the debt is above its limits; else 0.", (), "tables"),
    Metric("ordertrail_passes_total", "counter", "Passes since the service began.", ("result",), "service"),
    Metric("ordertrail_pass_seconds", "histogram", "Time of a pass that loaded files, by step.", ("step",), "service"),
    Metric(
        "ordertrail_delivery_lag_seconds",
        "histogram",
        "From a file's last change, or its move into the source, until its rows were readable in the target.",
        (),
        "service",
    ),
    Metric(
        "ordertrail_last_success_timestamp_seconds",
        "gauge",
        "When the service last ended a pass without an error, seconds since 1970; not told before the first.",
        (),
        "service",
    ),
)
"""Every metric of ours, in the order in which they are told."""

PROCESS_METRICS: Mapping[str, str] = {
    "process_cpu_seconds_total": "Time on the processors.",
    "process_resident_memory_bytes": "Memory in use.",
    "process_virtual_memory_bytes": "Memory mapped.",
    "process_start_time_seconds": "When the process began, seconds since 1970.",
    "process_open_fds": "Open file descriptors.",
    "process_max_fds": "How many it may have open.",
}
"""What prometheus-client tells of the process that is asked, on Linux."""


class Distribution(Struct, frozen=True):
    """What a histogram counted.

    Attributes:
        bounds: Upper bounds of its buckets, inclusive, ascending; without the last one, which has none.
        counts: Values in each bucket, one more than bounds.
        total: Sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    def buckets(self) -> list[tuple[str, int]]:
        """(upper bound, values up to it) for every bucket, as Prometheus wants them."""
        found, below = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), below))
        return found


class Passes(Struct, frozen=True):
    """What a running service counted since it began.

    Attributes:
        results: Passes by result: `loaded`, `idle`, `failed` or `blocked`.
        steps: Seconds of the passes that loaded files, by step.
        lag: Seconds from a file's last change until its rows were readable.
        succeeded_at: When the last pass without an error ended; aware UTC.
    """

    results: Mapping[str, int]
    steps: Mapping[str, Distribution]
    lag: Distribution
    succeeded_at: datetime | None


class Sample(Struct, frozen=True):
    """One value of a metric: a number, or what a histogram counted; labels are in the order of the metric's own."""

    name: str
    value: float | Distribution
    labels: tuple[str, ...] = ()


class Metrics:
    """Answers `/metrics`. Any thread may ask; the tables are read by one at a time, and not for each that asks.

    Args:
        config: Of the pipeline.
        version: Of ordertrail.
        passes: What the service of this process counted; None when it is no service.
        busy: Whether a pass of this process runs.
        clock: Monotonic, in seconds.
        now: The wall clock, aware UTC.
        find: Reads the tables and folders.

    Raises:
        UsageError: prometheus-client is not installed.
    """

    def __init__(
        self,
        config: Config,
        version: str,
        passes: Callable[[], Passes] | None = None,
        *,
        busy: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        find: Callable[[Config, datetime], Readings] = read,
    ) -> None:
        try:
            import prometheus_client  # noqa: F401 - the error must come when the service begins, not when it is asked
        except ImportError as error:
            raise UsageError(
                "prometheus-client, which formats metrics, is not installed", hint="pip install 'ordertrail[web]'"
            ) from error
        self._config = config
        self._version = version
        self._passes = passes
        self._busy = busy
        self._clock = clock
        self._now = now
        self._find = find
        self._lock = threading.Lock()
        self._next_s = self._stale_s = clock()
        self._last: Readings | None = None
        self._trouble: str | None = None

    def exposition(self, accept: str | None = None) -> tuple[bytes, str]:
        """The answer.

        Args:
            accept: The header `Accept` of who asks: OpenMetrics when it names that, else Prometheus' text format.

        Returns:
            Body and content type.
        """
        from prometheus_client import CollectorRegistry, ProcessCollector
        from prometheus_client import exposition as text
        from prometheus_client.openmetrics import exposition as openmetrics

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(self._config, list(self.samples())))
        ProcessCollector(registry=registry)
        if _OPENMETRICS in (accept or ""):
            body: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
            return body, openmetrics.CONTENT_TYPE_LATEST
        return text.generate_latest(registry), text.CONTENT_TYPE_PLAIN_0_0_4

    def samples(self) -> Iterator[Sample]:
        """All values, grouped by metric."""
        found, now = self._readings(), self._now()
        yield Sample("ordertrail_build_info", 1, (self._version, self._config.engine))
        yield Sample("ordertrail_tables_readable", found.readable)
        yield from _service(found.heartbeat, now)
        yield Sample("ordertrail_waiting_files", len(found.waiting))
        ages = [(now - one.since).total_seconds() for one in found.waiting if one.since is not None]
        yield Sample("ordertrail_oldest_waiting_file_age_seconds", max(0.0, *ages, 0.0))
        for folder, free in found.free_bytes.items():
            yield Sample("ordertrail_disk_free_bytes", free, (folder,))
        yield from _tables(found)
        yield from _told(found, [one.name for one in self._config.alerts])
        if self._passes is not None:
            yield from _of_service(self._passes())

    def _readings(self) -> Readings:
        with self._lock:
            began_s = self._clock()
            if self._last is not None and (began_s < self._next_s or (self._busy() and began_s < self._stale_s)):
                return self._last
            found = self._find(self._config, self._now())
            if found.trouble is not None and found.trouble != self._trouble:
                _log.warning("the metrics lack the tables", reason=found.trouble)
            self._trouble = found.trouble
            ended_s = self._clock()
            self._next_s = ended_s + max(FRESH_S, PAUSE_FACTOR * (ended_s - began_s))
            self._stale_s = ended_s + STALE_S
            self._last = found
            return found


def _service(heartbeat: Heard | None, now: datetime) -> Iterator[Sample]:
    alive = heartbeat is not None and not heartbeat.silent(now)
    yield Sample("ordertrail_service_alive", alive)
    if heartbeat is not None:
        yield Sample("ordertrail_heartbeat_age_seconds", max(0.0, (now - heartbeat.beat_at).total_seconds()))
    yield Sample("ordertrail_failed_passes_in_a_row", 0 if heartbeat is None else heartbeat.failures)


def _tables(found: Readings) -> Iterator[Sample]:
    stands = found.status
    if stands is None:
        return
    for vendor, counts in found.rows.items():
        for outcome in ROW_OUTCOMES:
            yield Sample("ordertrail_rows_total", counts.get(outcome.value, 0), (vendor, outcome.value))
    for vendor, states in found.deliveries.items():
        # Those that need a person are told at 0, too: an alert cannot fire on what begins to be there.
        for state in (one for one in SERVED_STATES if one in SET_ASIDE or one is State.LOADED or one in states):
            yield Sample("ordertrail_deliveries", states.get(state.value, 0), (vendor, state.value))
    for kind in KINDS:
        for severity in ("warning", "critical"):
            count = sum(1 for one in stands.open_items if (one.kind, one.severity) == (kind, severity))
            yield Sample("ordertrail_open_items", count, (kind, severity))
    yield Sample("ordertrail_last_batch", stands.last_batch or 0)
    yield Sample("ordertrail_batch_unfinished", stands.staged_batch_unfinished)
    if stands.last_loaded_at is not None:
        yield Sample("ordertrail_last_load_timestamp_seconds", stands.last_loaded_at.timestamp())
    yield Sample("ordertrail_target_rows", stands.target_rows)
    yield Sample("ordertrail_target_size_bytes", stands.target_bytes)
    yield Sample("ordertrail_target_files", stands.target_files)
    yield Sample("ordertrail_target_small_files", stands.debt.target_small_files)
    yield Sample("ordertrail_target_deleted_rows", stands.debt.target_deleted_rows)
    yield Sample("ordertrail_history_rows", stands.history_rows)
    yield Sample("ordertrail_history_files", stands.debt.history_files)
    yield Sample("ordertrail_rejects_rows", stands.rejects_rows)
    yield Sample("ordertrail_log_entries", stands.debt.log_entries)
    yield Sample("ordertrail_maintenance_due", stands.debt.due)


def _told(found: Readings, channels: Sequence[str]) -> Iterator[Sample]:
    """Incidents, and what the channels of the config have not taken yet."""
    if found.incidents is None:
        return
    still_open = [one for one in found.incidents if one.open]
    for severity in ("warning", "critical"):
        for known in (False, True):
            here = [one for one in still_open if one.severity == severity]
            count = sum(1 for one in here if (one.acknowledged_at is not None) is known)
            yield Sample("ordertrail_incidents_open", count, (severity, "yes" if known else "no"))
    posts = [post for one in found.incidents for post in one.posts if post.waiting is not None]
    for name in channels:
        yield Sample("ordertrail_alert_messages_waiting", sum(1 for one in posts if one.channel == name), (name,))
    for name in channels:
        failing = any(one.failing for one in posts if one.channel == name)
        yield Sample("ordertrail_alert_channel_failing", failing, (name,))


def _of_service(passes: Passes) -> Iterator[Sample]:
    for result, count in passes.results.items():
        yield Sample("ordertrail_passes_total", count, (result,))
    for step, seconds in passes.steps.items():
        yield Sample("ordertrail_pass_seconds", seconds, (step,))
    yield Sample("ordertrail_delivery_lag_seconds", passes.lag)
    if passes.succeeded_at is not None:
        yield Sample("ordertrail_last_success_timestamp_seconds", passes.succeeded_at.timestamp())


class _Families:
    """Turns samples into what prometheus-client formats; a `Collector` of its registry."""

    def __init__(self, config: Config, samples: list[Sample]) -> None:
        self._pipeline = config.name
        self._by_name: dict[str, list[Sample]] = defaultdict(list)
        for one in samples:
            self._by_name[one.name].append(one)

    def collect(self) -> Iterator[Family]:
        """All families that have a sample, in the order of `METRICS`."""
        for metric in METRICS:
            if found := self._by_name.get(metric.name):
                yield self._family(metric, found)

    def _family(self, metric: Metric, samples: list[Sample]) -> Family:
        from prometheus_client import core

        names = ("pipeline", *metric.labels)
        match metric.kind:
            case "info":
                info = core.InfoMetricFamily(metric.name.removesuffix("_info"), metric.help)
                for one in samples:
                    values = (self._pipeline, *one.labels)
                    info.add_metric([], dict(zip(names, values, strict=True)))
                return info
            case "histogram":
                histogram = core.HistogramMetricFamily(metric.name, metric.help, labels=names)
                for one in samples:
                    assert isinstance(one.value, Distribution)
                    histogram.add_metric((self._pipeline, *one.labels), one.value.buckets(), one.value.total)
                return histogram
        plain = core.CounterMetricFamily if metric.kind == "counter" else core.GaugeMetricFamily
        family = plain(metric.name, metric.help, labels=names)
        for one in samples:
            assert not isinstance(one.value, Distribution)
            family.add_metric((self._pipeline, *one.labels), one.value)
        return family
