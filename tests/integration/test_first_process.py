"""As the first process of a container: the system has no default action for its signals, and nobody above it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from ordertrail.look.heartbeat import heartbeat_path
from tests.harness import open_house

DEADLINE_S = 60.0
ENDS_WITHIN_S = 5.0

pytestmark = pytest.mark.slow


def first_process(*words: str, folder: Path) -> subprocess.Popen[str]:
    """`ordertrail` with number 1 in a name space of its own, as an entrypoint in exec form is."""
    alone = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a name space for processes")
    program = "import os, sys; os.getpid() == 1 or sys.exit('not the first'); from ordertrail.cli import main; main()"
    command = [*alone, sys.executable, "-c", program, *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ORDERTRAIL_SERVE_TOKEN": "x" * 32}
    return subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    )


def child_of(process: subprocess.Popen[str]) -> int:
    """The number that the first process has outside of its name space."""
    (found,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(found)


def wait(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not reached():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def ends(process: subprocess.Popen[str]) -> None:
    began_s = time.monotonic()
    os.kill(child_of(process), signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0
    assert time.monotonic() - began_s < ENDS_WITHIN_S


def test_sigterm_ends_the_service(tmp_path: Path) -> None:
    config = open_house(tmp_path).config
    (tmp_path / "ordertrail.toml").write_text(
        '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\n'
    )
    with first_process("watch", "--metrics-port", "0", folder=tmp_path) as process:
        wait(process, lambda: heartbeat_path(config).exists() and '"idle"' in heartbeat_path(config).read_text())
        ends(process)
    assert not heartbeat_path(config).exists(), "it ended by itself"


def test_sigterm_ends_the_pages(tmp_path: Path) -> None:
    open_house(tmp_path)
    (tmp_path / "ordertrail.toml").write_text(
        '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\n'
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    with first_process("serve", "--host", "0.0.0.0", "--port", str(port), folder=tmp_path) as process:
        wait(process, answers)
        ends(process)
