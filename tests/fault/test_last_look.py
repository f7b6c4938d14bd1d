"""Kill -9 around the file of the last look: what needs a person is told all the same, and once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ordertrail import load_config
from ordertrail.look.last_look import last_look_path

pytestmark = pytest.mark.fault

CONFIG = """
[pipeline]
source = "source"
archive = "archive"
warehouse = "warehouse"
settle_s = 0

[[alerts]]
name = "hook"
url = "json://127.0.0.1:{port}/hook"
"""
HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
RUN = """
import os, signal, sys
from pathlib import Path
from ordertrail.cli import cli
from ordertrail.look import last_look
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
where = sys.argv.pop(1)
if where == "before the look":
    last_look.nothing_new = die
elif where == "before it is kept":
    import ordertrail.alerts.after as after
    after.remember = die
elif where == "before it has its name":
    Path.replace = die
elif where == "before a version is added":
    last_look._holds = die
elif where == "after it":
    import ordertrail.cli.errors as errors, ordertrail.cli as cli_module
    cli_module.leave = die
sys.argv[1:] = ["run"]
cli.main()
"""


@pytest.fixture
def told() -> Iterator[tuple[list[str], int]]:
    """The messages that a server took, and its port."""
    taken: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield taken, int(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def run(base: Path, where: str = "nowhere") -> int:
    words = [sys.executable, "-c", RUN, where]
    return subprocess.run(words, cwd=base, capture_output=True, check=False).returncode


def drop(base: Path, number: int, *, good: bool) -> None:
    row = f"1,1Z{number},2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n"
    text = HEADER + row if good else f"order_num,status\n{number},X\n"
    (base / "source" / f"order_tracking_2024_11_{20 + number}.csv").write_text(text)


@pytest.mark.parametrize(
    "where",
    [
        "before the look",
        "before it is kept",
        "before it has its name",
        "before a version is added",
        "after it",
    ],
)
@pytest.mark.parametrize("good", [True, False], ids=["ordinary", "needs a person"])
def test_killed_anywhere_a_person_is_told_once(
    tmp_path: Path, told: tuple[list[str], int], where: str, *, good: bool
) -> None:
    taken, port = told
    (tmp_path / "source").mkdir()
    (tmp_path / "ordertrail.toml").write_text(CONFIG.format(port=port))
    drop(tmp_path, 0, good=True)
    assert run(tmp_path) == 0
    drop(tmp_path, 1, good=good)
    killed = run(tmp_path, where)
    # An ordinary file is not looked at, a quarantined one is: not every pass comes to every place.
    assert killed in (-signal.SIGKILL, 0 if good else 3)
    if where in ("before the look", "after it"):
        assert killed == -signal.SIGKILL
    for number in (2, 3):
        drop(tmp_path, number, good=True)
        assert run(tmp_path) == 0
    assert len(taken) == (0 if good else 1)
    assert last_look_path(load_config(tmp_path / "ordertrail.toml", environ=os.environ)).exists()
