"""`/metrics` of a real service: what it answers, whom it does not, and that nothing of it holds up or ends a pass."""

from __future__ import annotations

import http.client
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from ordertrail.cli import cli
from ordertrail.errors import UsageError
from ordertrail.look import metrics as look_metrics
from ordertrail.look.metrics import METRICS, Metrics
from ordertrail.look.readings import read
from ordertrail.model import RunReport
from ordertrail.watch import service
from ordertrail.watch.counts import PassCounts
from ordertrail.watch.metrics_server import LOOPBACK, MOST_AT_ONCE, Listening, answering, listening
from tests.feeds import cells, csv_bytes
from tests.harness import House, open_house, without_fsync

PATIENCE_S = 60.0
VENDORS = (
    '[[vendors]]\nname = "acme"\nfiles = "acme/*.csv"\n[[vendors]]\nname = \'we "ship" \\ {x="y"}\'\nfiles = "*.csv"\n'
)
HOSTILE = 'we "ship" \\ {x="y"}'


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with without_fsync():
        yield open_house(tmp_path, VENDORS)


def ask(port: int, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PATIENCE_S)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.getheader("Content-Type") or "", answer.read().decode()
    connection.close()
    return found


def values(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    status, _, text = ask(port)
    assert status == 200
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {(one.name, frozenset(set(one.labels.items()) - {("pipeline", "orders")})): one.value for one in samples}


def loaded(reports: queue.SimpleQueue[RunReport]) -> RunReport:
    """The next report of a pass that took a file: others only tell that one is still being written."""
    while not (report := reports.get(timeout=PATIENCE_S)).deliveries:
        pass
    return report


def of(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


@contextmanager
def watching(house: House) -> Iterator[tuple[int, queue.SimpleQueue[RunReport]]]:
    """A service with metrics in a thread of this process; its port, and its reports."""
    ports: queue.SimpleQueue[int] = queue.SimpleQueue()
    reports: queue.SimpleQueue[RunReport] = queue.SimpleQueue()
    stop = threading.Event()

    @contextmanager
    def noting(answer: Callable[[str | None], tuple[bytes, str]], place: Listening) -> Iterator[int]:
        with answering(answer, place) as port:
            ports.put(port)
            yield port

    given = {"interval_s": 0.05, "stop": stop, "metrics": Listening(0), "on_report": reports.put}
    read_always = dict.fromkeys(("FRESH_S", "PAUSE_FACTOR", "STALE_S"), 0.0)
    with mock.patch.object(service, "answering", noting), mock.patch.multiple(look_metrics, **read_always):
        thread = threading.Thread(target=service.watch, args=(house.config,), kwargs=given)
        thread.start()
        try:
            yield ports.get(timeout=PATIENCE_S), reports
        finally:
            stop.set()
            thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_a_service_tells_what_it_did_and_ends_with_it(house: House) -> None:
    with watching(house) as (port, reports):
        assert of(values(port), "ordertrail_tables_readable") == 1
        house.drop("acme/a.csv", csv_bytes([cells("1", "2026-11-20 08:00:00"), cells("2", "2026-11-20 08:00:00")]))
        loaded(reports)
        house.drop("b.csv", csv_bytes([cells("1", "2026-11-20 09:00:00")]))
        loaded(reports)
        house.drop("acme/bad.csv", b"order_num,tracking_num\n1,008\n")
        loaded(reports)
        found = values(port)
    assert of(found, "ordertrail_rows_total", vendor="acme", outcome="inserted") == 2
    assert of(found, "ordertrail_rows_total", vendor=HOSTILE, outcome="updated") == 1
    assert of(found, "ordertrail_deliveries", vendor="acme", state="quarantined") == 1
    assert of(found, "ordertrail_open_items", kind="quarantined", severity="warning") == 1
    assert of(found, "ordertrail_last_batch") == 3
    assert of(found, "ordertrail_target_rows") == 2
    assert of(found, "ordertrail_service_alive") == 1
    assert of(found, "ordertrail_heartbeat_age_seconds") < 10
    assert of(found, "ordertrail_passes_total", result="loaded") == 3
    assert of(found, "ordertrail_passes_total", result="failed") == 0
    # Measured from when the file came, not from its own old time.
    assert of(found, "ordertrail_delivery_lag_seconds_count") == 2
    assert 0 < of(found, "ordertrail_delivery_lag_seconds_sum") < PATIENCE_S
    assert of(found, "ordertrail_pass_seconds_count", step="total") == 3
    # It has no channel of alerts.
    told = {name.removesuffix(end) for name, _ in found for end in ("_sum", "_count", "_bucket", "")}
    assert told >= {one.name for one in METRICS if "channel" not in one.labels}
    with pytest.raises(ConnectionError):
        ask(port)


def test_passes_go_on_while_somebody_asks_and_does_not_read(house: House) -> None:
    with watching(house) as (port, reports):
        silent = [socket.create_connection((LOOPBACK, port)) for _ in range(MOST_AT_ONCE + 3)]
        silent[0].sendall(b"GET /metrics HTTP/1.0\r\n")
        house.drop("acme/a.csv", csv_bytes([cells("1", "2026-11-20 08:00:00")]))
        assert loaded(reports).batch == 1
        # Who comes beyond the room there is, is sent away at once.
        assert silent[-1].recv(1) == b""
        for one in silent:
            one.close()


def test_the_tables_that_are_damaged_do_not_take_the_rest_along(house: House) -> None:
    house.drop("acme/a.csv", csv_bytes([cells("1", "2026-11-20 08:00:00")]))
    house.run()
    for entry in (house.table_path("deliveries") / "_delta_log").glob("*.json"):
        entry.write_text("{}")
    metrics = Metrics(house.config, "1", PassCounts().passes)
    body = metrics.exposition()[0].decode()
    assert 'ordertrail_tables_readable{pipeline="orders"} 0.0' in body
    assert "ordertrail_target_rows" not in body
    assert "ordertrail_disk_free_bytes" in body
    assert 'ordertrail_passes_total{pipeline="orders",result="loaded"} 0.0' in body


def test_tables_that_only_spark_reaches_are_not_asked_for(house: House) -> None:
    house.turn(engine="spark", spark=replace(house.config.spark, tables="three-level"))
    house.drop("acme/a.csv", b"x")
    with mock.patch.dict(sys.modules, {"pyspark": None}):
        found = read(house.config, datetime.now(UTC))
    assert (found.status, found.trouble, len(found.waiting)) == (None, None, 1)


# --- who is answered ---------------------------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[int]:
    def answer(accept: str | None) -> tuple[bytes, str]:
        if accept == "crash":
            raise RuntimeError("a bug")
        return f"for {accept}\n".encode(), "text/plain"

    with answering(answer, Listening(0)) as found:
        yield found


def test_only_metrics_are_answered(port: int) -> None:
    assert ask(port, Accept="x") == (200, "text/plain", "for x\n")
    assert ask(port, "/metrics?x=1", Accept="x")[0] == 200
    assert ask(port, method="HEAD") == (200, "text/plain", "")
    for path in ("/", "/metricsx", "/../metrics", "/%6detrics"):
        assert ask(port, path)[0] == 404, path
    assert ask(port, method="POST")[0] == 501


def test_an_answer_that_fails_ends_nothing(port: int) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        ask(port, Accept="crash")
    assert ask(port)[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9464", 200),
        ("LOCALHOST", 200),
        ("127.0.0.9:1", 200),
        ("[::1]:9464", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("10.0.0.1", 421),
        ("", 421),
    ],
)
def test_a_name_that_points_here_is_not_answered_on_loopback(port: int, host: str, status: int) -> None:
    assert ask(port, Host=host)[0] == status


def test_other_addresses_answer_to_any_name() -> None:
    with answering(lambda _: (b"", "text/plain"), Listening(0, "0.0.0.0")) as port:
        assert ask(port, Host="orders.example:9464")[0] == 200


# --- what does not begin -----------------------------------------------------------------------------------------


def config_file(house: House) -> str:
    file = house.config.source.parent / "ordertrail.toml"
    file.write_text('[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\n')
    return str(file)


def refused(house: House, *words: str) -> str:
    found = CliRunner().invoke(cli, ["watch", "--config", config_file(house), *words])
    assert found.exit_code == 2, found.output
    return found.output


def test_a_port_that_is_taken_is_said(house: House) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        text = refused(house, "--metrics-port", str(port))
    assert f"port {port} of 127.0.0.1" in text
    assert "--metrics-port" in text


def test_an_address_that_is_none_is_said(house: House) -> None:
    assert "'here' is no IP address" in refused(house, "--metrics-port", "0", "--metrics-address", "here")
    # 192.0.2.0/24 is nobody's: RFC 5737.
    assert "cannot answer at port 0 of 192.0.2.1" in refused(
        house, "--metrics-port", "0", "--metrics-address", "192.0.2.1"
    )
    with pytest.raises(UsageError):
        listening(0, "127.0.0.1:80")


def test_without_the_library_it_says_what_to_install(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert "pip install 'ordertrail[web]'" in refused(house, "--metrics-port", "0")
