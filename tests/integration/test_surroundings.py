"""What is around a command: streams that are closed, full or unread, signals, Ctrl-C, a second service."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from ordertrail.cli import errors
from ordertrail.cli.log_lines import LogLines
from ordertrail.config import Config, load_config, template
from ordertrail.errors import TableError
from ordertrail.look.heartbeat import heartbeat_path
from ordertrail.rules.tables import APP_ID
from tests.feeds import cells, csv_bytes

DEADLINE_S = 60.0
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ORDERTRAIL_PIPELINE_SETTLE_S": "0"}
COMMAND = [sys.executable, "-m", "ordertrail"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A pipeline with one file that waits."""
    file = tmp_path / "ordertrail.toml"
    file.write_text(template())
    config = load_config(file, environ={})
    for folder in (config.source, config.warehouse):
        folder.mkdir(parents=True)
    put(config, 20)
    return config


@pytest.fixture
def services() -> Iterator[list[subprocess.Popen[bytes]]]:
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for service in found:
        if service.poll() is None:
            service.kill()
        service.wait()


def put(config: Config, day: int) -> None:
    text = csv_bytes([cells(str(day), f"2026-11-{day} 10:00:00")])
    (config.source / f"order_tracking_2026_11_{day}.csv").write_bytes(text)


def archived(config: Config) -> int:
    return len(list(config.archive.rglob("*.csv")))


def wait(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def beat(config: Config) -> dict[str, object]:
    try:
        found = json.loads(heartbeat_path(config).read_text())
    except FileNotFoundError:
        return {}
    assert isinstance(found, dict)
    return found


# -- streams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)], ids=["stderr", "all"])
def test_a_pass_with_closed_streams_loads_and_writes_into_no_table(config: Config, closed: tuple[int, ...]) -> None:
    shell = " ".join(f"{descriptor}>&-" for descriptor in closed)
    environment = {**ENVIRONMENT, "ORDERTRAIL_LOG": "debug"}
    words = ["sh", "-c", f'exec "$@" {shell}', "sh", *COMMAND, "run"]
    done = subprocess.run(words, cwd=config.source.parents[1], env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert ("1 inserted" in done.stdout.decode()) == (1 not in closed)
    assert archived(config) == 1
    for entry in config.warehouse.rglob("_delta_log/*.json"):
        assert all(json.loads(line) for line in entry.read_text().splitlines())
    assert b"delivery" not in b"".join(lock.read_bytes() for lock in config.warehouse.glob("*.lock"))


@pytest.mark.slow
def test_a_service_outlives_the_reader_of_its_log(config: Config, services: list[subprocess.Popen[bytes]]) -> None:
    words = [*COMMAND, "watch", "--json", "--interval", "0.2"]
    service = subprocess.Popen(
        words, cwd=config.source.parents[1], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    services.append(service)
    assert service.stdout is not None
    assert b"watching" in service.stdout.readline()
    service.stdout.close()
    wait(lambda: archived(config) == 1)
    put(config, 21)
    wait(lambda: archived(config) == 2 and beat(config).get("last_batch") == 2)
    service.send_signal(signal.SIGTERM)
    assert service.wait(timeout=5.0) == 0


@pytest.mark.slow
def test_a_log_pipe_that_nobody_reads_holds_neither_files_nor_the_end(
    config: Config, services: list[subprocess.Popen[bytes]]
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 1024)
    os.set_blocking(writer, True)
    words = [*COMMAND, "watch", "--debug", "--interval", "0.05"]
    service = subprocess.Popen(words, cwd=config.source.parents[1], env=ENVIRONMENT, stderr=writer)
    services.append(service)
    os.close(writer)
    wait(lambda: archived(config) == 1)
    put(config, 21)
    wait(lambda: archived(config) == 2)
    service.send_signal(signal.SIGTERM)
    assert service.wait(timeout=5.0) == 0
    os.close(reader)


def test_log_lines_that_nobody_takes_are_lost_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    gate, lines = threading.Event(), LogLines()

    class Gated:
        encoding = "utf-8"

        def write(self, text: str) -> None:
            gate.wait()
            written.append(text)

        def flush(self) -> None: ...

    written: list[str] = []
    before, sys.stderr = sys.stderr, Gated()  # type: ignore[assignment]
    try:
        for number in range(3000):
            lines.put(f"line {number}")
        assert written == []
        gate.set()
        lines.put("after")
        lines.drain(DEADLINE_S)
    finally:
        sys.stderr = before
    assert written[0].startswith("line 0\n")
    text = "".join(written)
    assert 1000 <= text.count("line ") <= 1002
    assert "lines were lost" in text


def test_a_log_line_on_a_full_disk_is_lost_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    lines = LogLines()
    before, sys.stderr = sys.stderr, Full()  # type: ignore[assignment]
    try:
        lines.put("lost")
        lines.drain(DEADLINE_S)
    finally:
        sys.stderr = before
    lines.put("there")
    lines.drain(DEADLINE_S)
    assert capsys.readouterr().err == "there\n"


# -- signals --------------------------------------------------------------------------------------------------------

BLOCKED = """
import threading
from ordertrail.watch.signals import stopping_by_signal
told = threading.Event()
with stopping_by_signal(told.set, 0.2):
    print("ready", flush=True)
    held = threading.Lock()
    held.acquire()
    held.acquire()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_in_time_whatever_blocks_its_main_thread(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(timeout=5.0) == 0


@pytest.mark.slow
def test_a_second_service_is_refused(config: Config, services: list[subprocess.Popen[bytes]]) -> None:
    words = [*COMMAND, "watch", "--interval", "0.2"]
    first = subprocess.Popen(words, cwd=config.source.parents[1], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    services.append(first)
    wait(lambda: beat(config).get("pid") == first.pid and archived(config) == 1)
    second = subprocess.run(words, cwd=config.source.parents[1], env=ENVIRONMENT, capture_output=True, timeout=60)
    assert second.returncode == 4
    assert b"another `ordertrail watch` of a pipeline orders runs in" in second.stderr
    assert beat(config)["pid"] == first.pid
    first.kill()
    first.wait()
    put(config, 21)
    third = subprocess.Popen(words, cwd=config.source.parents[1], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    services.append(third)
    wait(lambda: beat(config).get("pid") == third.pid and archived(config) == 2)


# -- Ctrl-C ---------------------------------------------------------------------------------------------------------


def pressed_in_duckdb() -> None:
    """Ctrl-C while DuckDB works: it makes an error of its own of it."""
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with duckdb.connect(config={"threads": 1}) as con:
            con.execute("SELECT sum(a.range * b.range) FROM range(10000000) a, range(100000) b").fetchall()
    finally:
        timer.join()


def pressed_and_translated() -> None:
    """Ctrl-C in a call whose errors are translated."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(DEADLINE_S)
    except KeyboardInterrupt:
        raise TableError("cannot load batch 1: INTERRUPT Error", hint="run ordertrail verify") from None


@pytest.mark.parametrize("call", [pressed_in_duckdb, pressed_and_translated])
@pytest.mark.parametrize("words", [["run"], ["run", "--json"]], ids=" ".join)
def test_ctrl_c_is_ctrl_c_whatever_a_library_makes_of_it(
    call: Callable[[], None], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.guarded(call, words) == 130
    found = capsys.readouterr()
    assert found.out + found.err == ""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_without_ctrl_c_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def call() -> None:
        raise TableError(f"no {APP_ID}", hint="look")

    assert errors.guarded(call, ["run"]) == 1
    assert "error E_TABLE: no ordertrail.appId" in capsys.readouterr().err
