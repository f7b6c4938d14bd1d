"""`ordertrail serve` as a process: where it listens, what it refuses, slow readers, passes beside it, and its end."""

from __future__ import annotations

import ctypes
import json
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from ordertrail.cli import cli
from ordertrail.config import load_config
from ordertrail.pipeline import Pipeline
from tests.commands import serving
from tests.harness import without_fsync

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
FOREVER = "SELECT count(*) FROM range(1000000000000) a, range(1000000) b"
TOKEN = "a-token-that-is-long-enough"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline after one pass, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORDERTRAIL_PIPELINE_SETTLE_S", "0")
    with without_fsync():
        assert CliRunner().invoke(cli, ["init"]).exit_code == 0
        load(1)
    return tmp_path


def load(n: int) -> None:
    """One pass over one file."""
    line = f"0001,1Z{n},2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n"
    Path(f"data/source/{n}.csv").write_text(HEADER + line)
    with without_fsync():
        Pipeline(load_config()).run()


def get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        return bytes(answer.read())


def refused(*words: str) -> str:
    """What stderr says of a call with exit code 2."""
    result = CliRunner().invoke(cli, ["serve", *words])
    assert result.exit_code == 2, result.output
    return result.stderr


def test_a_slow_reader_holds_neither_a_pass_nor_a_page_nor_the_end(folder: Path) -> None:
    with serving() as (process, url):
        host, port = url.removeprefix("http://").split(":")
        slow = [socket.create_connection((host, int(port))) for _ in range(3)]
        for one in slow:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            one.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * 20)  # and never reads
        threading.Thread(target=lambda: quietly(f"{url}/query.json?sql={quote(FOREVER)}"), daemon=True).start()
        load(2)
        assert json.loads(get(f"{url}/today.json"))["pipeline"] == "orders"
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - begin < 5
        for one in slow:
            one.close()


def quietly(url: str) -> None:
    with suppress(OSError):
        get(url)


def test_pages_are_answered_while_passes_commit(folder: Path) -> None:
    statuses: set[int] = set()
    done = threading.Event()
    with serving() as (_, url):

        def read() -> None:
            while not done.is_set():
                for path in ("/", "/tables.json", "/query.json?sql=SELECT+count(*)+FROM+orders_target"):
                    try:
                        get(url + path)
                        statuses.add(200)
                    except HTTPError as error:
                        statuses.add(error.code)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for n in range(2, 6):
                load(n)
        finally:
            done.set()
            reader.join()
        assert statuses == {200}
        while json.loads(get(f"{url}/today.json"))["last_batch"] != 5:  # a moment behind at most
            pass


def test_a_signal_ends_it_whichever_thread_the_system_gives_it_to(folder: Path) -> None:
    with serving() as (process, url):
        get(url)
        # The oldest thread beside the main one stays; those of DuckDB's allocator hear no signal.
        tasks = {int(task.name): (task / "status").read_text() for task in Path(f"/proc/{process.pid}/task").iterdir()}
        other = min(one for one, told in tasks.items() if one != process.pid and "SigBlk:\t0000000000000000" in told)
        assert ctypes.CDLL(None).tgkill(process.pid, other, signal.SIGTERM) == 0
        assert process.wait(30) == 0


def test_the_token_may_come_from_the_environment(folder: Path) -> None:
    with serving("--host", "0.0.0.0", ORDERTRAIL_SERVE_TOKEN=TOKEN) as (_, url):
        at = url.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(HTTPError, match="401"):
            get(f"{at}/today.json")
        assert get(f"{at}/today.json", Authorization=f"Bearer {TOKEN}")


def test_before_the_first_pass_it_says_what_to_do(folder: Path) -> None:
    with serving() as (_, url):
        assert b"batch" in get(url)
    for name in ("warehouse", "archive", "source"):
        (folder / "data" / name).rename(folder / f"old-{name}")
    (folder / "data" / "source").mkdir()
    with serving() as (_, url):
        assert b"No pass has run yet" in get(url)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], ["everybody who reaches 0.0.0.0", "--token-file"]),
        (["--host", "0.0.0.0", "--token", "short"], ["5 characters", "at least 16"]),
        (["--token-file", "nothing.token"], ["nothing.token", "cannot be read"]),
        (["--host", "no.such.host.invalid", "--token", TOKEN], ["no.such.host.invalid", "--host 127.0.0.1"]),
    ],
)
def test_what_would_let_anybody_in_or_cannot_be_is_refused(
    folder: Path, words: Sequence[str], said: Sequence[str]
) -> None:
    text = refused(*words)
    assert all(part in text for part in said)
    assert "short" not in text


def test_a_port_that_is_taken_is_said(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = refused("--port", str(port))
    assert f"port {port}" in text
    assert "--port 0" in text


def test_without_the_extra_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert "pip install 'ordertrail[web]'" in refused()
