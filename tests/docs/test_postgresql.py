"""What docs/how-to/postgresql.md shows, on a real server: the table equals the target, whatever is killed and when."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind
from tests.depth import share
from tests.harness import House, open_house, without_fsync

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "postgresql.md"
HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
ROWS = 400
STATUSES = ("PICKED_UP", "IN_TRANSIT", "DELIVERED", "")
ADDRESSES = ('"Main ""St"", 1\nMünchen"', "2 Elm St", '""', "\\N", "é")

pytestmark = pytest.mark.slow


def binaries() -> Path | None:
    """The folder of the server's programs; None when there is no server here."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else None if on_path is None else Path(on_path).resolve().parent


@dataclass(slots=True)
class Server:
    """A server on a Unix socket in a folder of its own.

    Attributes:
        programs: The folder of its programs.
        folder: Holds data and socket.
        user: Who runs it: it refuses root.
    """

    programs: Path
    folder: Path
    user: str | None

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        self.ctl("-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def ctl(self, *words: str) -> None:
        self.program("pg_ctl", "-D", str(self.folder / "data"), *words)

    def program(self, name: str, *words: str) -> None:
        subprocess.run(
            [self.programs / name, *words], user=self.user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL
        )

    @property
    def environ(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{self.programs}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PGHOST": str(self.folder), "PGUSER": "feeder", "PGDATABASE": "postgres"}

    def ask(self, sql: str) -> list[list[str | None]]:
        """The rows of a query, as text."""
        words = ["psql", "-X", "-A", "-t", "-q", "--csv", "-P", "null=NULL", "-c", sql]
        out = subprocess.run(words, env=self.environ, check=True, stdout=subprocess.PIPE).stdout.decode()
        import csv
        import io

        return [[None if cell == "NULL" else cell for cell in row] for row in csv.reader(io.StringIO(out, newline=""))]


@contextmanager
def running() -> Iterator[Server]:
    programs = binaries()
    if programs is None:
        why = "there is no PostgreSQL server here; to have one: apt-get install postgresql"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"CI must run the tests with PostgreSQL. {why}", pytrace=False)
        pytest.skip(why)
    # Not pytest's folder: another user cannot enter it.
    folder = Path(tempfile.mkdtemp(prefix="ordertrail-pg-", dir="/tmp"))
    user = "postgres" if os.getuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    folder.chmod(0o755)
    server = Server(programs, folder, user)
    try:
        server.program("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "feeder", "-E", "UTF8", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.ctl("-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as found:
        yield found


@dataclass(slots=True)
class Feed:
    """The scripts of the page, in the folder of a pipeline."""

    house: House
    server: Server
    folder: Path

    def __post_init__(self) -> None:
        text = PAGE.read_text(encoding="utf-8")
        for name, block in re.findall(r"(?ms)^`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)^```", text):
            (self.folder / name).write_text(block)
        self.psql("orders.sql").check_returncode()

    def psql(self, file: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["psql", "-X", "-q", "-f", file], env=self.server.environ, cwd=self.folder, check=False)

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sh", "feed.sh"],
            env=self.server.environ,
            cwd=self.folder,
            start_new_session=True,
            stderr=subprocess.PIPE,
        )

    def run(self) -> None:
        process = self.start()
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()

    def check(self, batch: int, wanted: dict[str, tuple[str | None, ...]]) -> None:
        assert self.server.ask("SELECT next_batch FROM orders_feed") == [[str(batch + 1)]]
        assert self.table() == wanted

    def table(self) -> dict[str, tuple[str | None, ...]]:
        rows = self.server.ask(
            "SELECT tracking_num, order_num, pck_recieved_date, package_deliver_date, status, address, "
            "extract(epoch FROM last_update_timestamp)::bigint FROM orders"
        )
        return {str(key): tuple(rest) for key, *rest in rows}


def target(house: House) -> dict[str, tuple[str | None, ...]]:
    found = {}
    for row in house.rows("target"):
        at = row["last_update_timestamp"].timestamp()  # type: ignore[union-attr]
        cells = (row[name] for name in ("order_num", "pck_recieved_date", "package_deliver_date", "status", "address"))
        found[str(row["tracking_num"])] = (*(None if one is None else str(one) for one in cells), str(int(at)))
    return found


def load(house: House, chance: random.Random, number: int) -> int:
    """A batch with new shipments and newer rows, or one that takes a file back."""
    if number and number % 3 == 0:
        loaded = sorted(str(row["delivery_id"]) for row in house.rows("deliveries") if row["state"] == "loaded")
        of = (chance.choice(loaded),)
        return correct(house.pipeline(), Wanted(Correction(CorrectionKind.UNDO, of, "a test", "me"))).batch or 0
    lines = [
        f"O{key},{key:05d},2026-11-19,,{chance.choice(STATUSES)},{chance.choice(ADDRESSES)},"
        f"2026-11-{10 + number} {chance.randrange(24):02d}:00:00\n"
        for key in chance.sample(range(2 * ROWS), ROWS)
    ]
    house.drop(f"{number}_2026_11_{10 + number}.csv", HEADER + "".join(lines))
    return house.run().batch or 0


def test_killed_at_any_time_the_table_is_the_target(tmp_path: Path, server: Server) -> None:
    chance = random.Random(7)
    (tmp_path / "ordertrail.toml").write_text(
        '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\nthreads = 1\n'
    )
    house = open_house(tmp_path)
    feed = Feed(house, server, tmp_path)
    states = {}
    with without_fsync():
        for number in range(2 + share(6)):
            batch = load(house, chance, number)
            states[batch] = target(house)
            process = feed.start()
            time.sleep(chance.uniform(0.0, 1.2))  # anywhere: before, in, or after the transaction
            if number % 2:
                server.ctl("-m", "immediate", "stop")  # every process of the server is killed
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if number % 2:
                server.start()
            ((at,),) = server.ask("SELECT next_batch - 1 FROM orders_feed")
            assert feed.table() == (states[int(str(at))] if at != "-1" else {}), f"batch {at}"
            if number % 2:
                feed.run()
                feed.check(batch, states[batch])
        feed.run()
        feed.check(batch, states[batch])
        feed.run()  # nothing new
        feed.check(batch, states[batch])


def test_killed_just_before_the_commit_nothing_has_happened(tmp_path: Path, server: Server) -> None:
    (tmp_path / "ordertrail.toml").write_text(
        '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\nthreads = 1\n'
    )
    house, chance = open_house(tmp_path), random.Random(1)
    feed = Feed(house, server, tmp_path)
    first = load(house, chance, 0)
    feed.run()
    before = target(house)
    second = load(house, chance, 1)
    script = tmp_path / "feed.sql"
    whole = script.read_text()
    script.write_text(whole + "SELECT pg_terminate_backend(pg_backend_pid());\n")
    process = feed.start()
    process.communicate()
    assert process.returncode != 0
    feed.check(first, before)
    script.write_text(whole)
    feed.run()
    feed.check(second, target(house))
    # Somebody else has fed it since the script asked where it stands.
    script.write_text(whole.replace(":from", "0"))
    process = feed.start()
    _, err = process.communicate()
    assert b"division by zero" in err
    feed.check(second, target(house))
