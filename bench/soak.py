"""Ten minutes of everything at once: `watch` as a process, three vendors, ten faults; then the target is the model's.

`python -m bench.soak [--seconds 600] [--seed N] [--folder DIR]`. Vendors rename files into place, write them directly,
slowly, or stall in the middle. Meanwhile one fault after the other comes and goes, each several times. In the end every
file must be in the archive once, with its bytes, the target must be what `tests.oracle` says of the files, and
`ordertrail verify` must agree. Nothing here relies on permissions, which do not bind root; where the system lets us
mount, archive and warehouse are small file systems of their own that can be filled.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ordertrail.config import Config, load_config
from ordertrail.errors import OrdertrailError, PassRunningError
from ordertrail.lock import maintenance_lock, pipeline_lock
from ordertrail.look.heartbeat import heartbeat_path
from ordertrail.look.verify import verify
from ordertrail.markers import MARKER
from ordertrail.pipeline import Pipeline
from tests.feeds import FeedFile, cells, csv_bytes
from tests.harness import House
from tests.oracle import judge

Result = TypeVar("Result")

VENDORS = ("acme", "blue", "zip")
STYLES = ("rename", "direct", "slow", "stall")
STATUSES = ("LABEL_CREATED", "PICKED_UP", "IN_TRANSIT", "OUT_FOR_DELIVERY", "DELIVERED")
PATIENCE_S = 180.0
KEYS = 400
SIZE_MB = {"archive": 64, "tables": 768}
LITTLE_BYTES = 512


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast it all goes, in seconds.

    Attributes:
        total_s: How long vendors send files.
        settle_s: As in the config.
        fault_s: How long a fault lasts.
        between_s: Between two faults.
        files_s: Between two files of a vendor, on average.
    """

    total_s: float = 600.0
    settle_s: float = 1.0
    fault_s: float = 3.0
    between_s: float = 2.0
    files_s: float = 1.0


@dataclass(slots=True)
class Soak:
    """The pipeline, its vendors and its service.

    Args:
        base: An empty folder.
        pace: How fast.
        seed: Of what vendors send and when.
    """

    base: Path
    pace: Pace
    seed: int
    config: Config = field(init=False)
    sent: list[FeedFile] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    trouble: list[BaseException] = field(default_factory=list)
    service: subprocess.Popen[bytes] | None = None
    chance: random.Random = field(init=False)
    mounted: list[Path] = field(default_factory=list)
    logs: int = 0
    unread: list[int] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        vendors = "".join(f'[[vendors]]\nname = "{name}"\nfiles = "{name}/*.csv"\n' for name in VENDORS)
        text = '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "tables"\n'
        text += f"settle_s = {self.pace.settle_s}\nthreads = 2\nmemory_limit_mb = 256\n"
        text += "[maintenance]\nretention_h = 0.02\nlog_retention_h = 0.02\n"
        (self.base / "ordertrail.toml").write_text(text + vendors)
        for name in ("archive", "tables", "source"):
            (self.base / name).mkdir()
        self.config = load_config(self.base / "ordertrail.toml", environ={})

    # -- the service --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the service, its log now on a file, now on a pipe that nobody reads, now on one that was closed."""
        words = [sys.executable, "-m", "ordertrail", "watch", "--interval", "0.3"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        kind = ("file", "unread pipe", "closed pipe")[self.logs % 3]
        self.logs += 1
        reader = None
        if kind == "file":
            log = os.open(self.base / f"log{self.logs}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        else:
            reader, log = os.pipe()
            if kind == "unread pipe":
                os.set_blocking(log, False)
                with suppress(BlockingIOError):
                    while True:
                        os.write(log, b"." * 4096)
                os.set_blocking(log, True)
        self.service = subprocess.Popen(words, cwd=self.base, env=environment, stdout=log, stderr=log)
        os.close(log)
        if reader is not None:
            if kind == "closed pipe":
                os.close(reader)
            else:
                self.unread.append(reader)

    def alive(self) -> subprocess.Popen[bytes]:
        """The service, which must be running."""
        assert self.service is not None
        assert self.service.poll() is None, f"the service ended by itself with {self.service.returncode}"
        return self.service

    def restart(self, end: Callable[[subprocess.Popen[bytes]], None], code: int) -> None:
        """End the service in some way, and start it again."""
        service = self.alive()
        end(service)
        assert service.wait(timeout=5.5) == code, f"exit code {service.returncode}"
        self.start()

    def beat(self) -> dict[str, object]:
        """The heartbeat; empty when there is none."""
        with suppress(OSError, ValueError):
            found: dict[str, object] = json.loads(heartbeat_path(self.config).read_text())
            return found
        return {}

    # -- vendors ------------------------------------------------------------------------------------------------

    def vendor(self, name: str) -> None:
        """Send files until it is over; what goes wrong is kept for the main thread."""
        chance = random.Random(f"{self.seed} {name}")
        number = 0
        try:
            while not self.over.wait(chance.expovariate(1.0 / self.pace.files_s)):
                number += 1
                day = chance.randrange(18, 24)
                path = f"{name}/up_2026_11_{day:02d}_x{number:05d}.csv"
                lines = csv_bytes([self.row(chance, day) for _ in range(chance.randrange(3, 40))]).splitlines(True)
                if chance.random() < 0.1:
                    lines.append(b"O9,bad,2026-02-30,,IN_TRANSIT,X,yesterday\n")
                self.send(path, lines, chance)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.trouble.append(error)

    def row(self, chance: random.Random, day: int) -> tuple[str, ...]:
        """One update; times repeat, so that ties are common."""
        at = f"2026-11-{chance.randrange(17, day + 1):02d} {chance.randrange(24):02d}:00:00"
        key = f"{chance.randrange(1, KEYS):05d}"
        return cells(key, at, chance.choice(STATUSES), f"{chance.randrange(50)} Street")

    def send(self, path: str, lines: list[bytes], chance: random.Random) -> None:
        """Write one file in one of the styles. A folder that is away is waited for, as an upload is tried again."""
        style = chance.choice(STYLES)
        final = self.config.source / path
        first = final.with_name(final.name + ".part") if style == "rename" else final
        with self.patiently(lambda: first.open("xb")) as file:
            cut = chance.randrange(1, len(lines))
            for place, line in enumerate(lines):
                file.write(line)
                if style == "slow" or (style == "stall" and place == cut):
                    file.flush()
                    pause_s = self.pace.settle_s * 2.5 if style == "stall" else self.pace.settle_s / 10
                    self.over.wait(pause_s)
            file.flush()
            if chance.random() < 0.2:
                # A clock that jumps: the vendor's, by which the file's time is set.
                jumped_ns = time.time_ns() + chance.choice((-3600, 3600, 86400)) * 10**9
                os.utime(file.fileno(), ns=(jumped_ns, jumped_ns))
            mtime_ns = os.fstat(file.fileno()).st_mtime_ns
            self.sent.append(FeedFile(path, b"".join(lines), mtime_ns))
        if style == "rename":
            self.patiently(lambda: first.rename(final))
        self.told[style] += 1

    def patiently(self, call: Callable[[], Result]) -> Result:
        """Try again until a folder is back."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    # -- faults -------------------------------------------------------------------------------------------------

    @contextmanager
    def folder_gone(self) -> Iterator[None]:
        """A vendor's folder is somewhere else for a while."""
        folder = self.config.source / "acme"
        aside = self.config.source / ".away"
        folder.rename(aside)
        yield
        aside.rename(folder)

    @contextmanager
    def unreadable(self) -> Iterator[None]:
        """Names of files that nobody can read, not even root."""
        folder = self.config.source / "blue"
        os.mkfifo(folder / "pipe_2026_11_20.csv")
        (folder / "loop_2026_11_20.csv").symlink_to("loop_2026_11_20.csv")
        (folder / "folder_2026_11_20.csv").mkdir()
        yield
        for name in ("pipe", "loop"):
            (folder / f"{name}_2026_11_20.csv").unlink()
        (folder / "folder_2026_11_20.csv").rmdir()

    @contextmanager
    def archive_full(self) -> Iterator[None]:
        """The archive's disk is full; where we may not mount, a file is in the way of the archive's folders."""
        if self.mounted:
            with self.ballast("archive"):
                yield
            return
        (year,) = [one for one in self.config.archive.iterdir() if one.is_dir()] or [self.config.archive / "2026"]
        aside = self.base / "aside-year"
        with self.at_rest():
            if year.exists():
                year.rename(aside)
            year.touch()
        yield
        with self.at_rest():
            year.unlink()
            if aside.exists():
                aside.rename(year)

    @contextmanager
    def warehouse_full(self) -> Iterator[None]:
        """The warehouse's disk is full; where we may not mount, the service may write no file of more than a little."""
        if self.mounted:
            with self.ballast("tables"):
                yield
            return
        process = self.alive().pid
        before = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (LITTLE_BYTES, before[1]))
        yield
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)

    @contextmanager
    def ballast(self, name: str) -> Iterator[None]:
        """Fill a file system to its last byte."""
        file = self.base / "disks" / name / "ballast"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
        with suppress(OSError):
            while os.write(descriptor, bytes(1 << 20)):
                pass
        with suppress(OSError):
            while os.write(descriptor, bytes(512)):
                pass
        os.close(descriptor)
        yield
        file.unlink()

    @contextmanager
    def terminated(self) -> Iterator[None]:
        """SIGTERM: the service ends in order, within 5 s."""
        service = self.alive()
        self.wait(lambda: self.beat().get("pid") == service.pid, "the service has begun")
        self.restart(lambda service: service.terminate(), 0)
        yield

    @contextmanager
    def killed(self) -> Iterator[None]:
        """SIGKILL, at whatever instant."""
        self.restart(lambda service: service.kill(), -9)
        yield

    @contextmanager
    def unmounted(self, name: str) -> Iterator[None]:
        """A folder's disk is not mounted: an empty folder has its name. Nothing may be put there meanwhile.

        A disk that somebody works on cannot be unmounted; so neither a pass nor maintenance runs at that instant.
        """
        folder, aside = self.base / name, self.base / f"away-{name}"
        with self.at_rest() if name != "source" else ExitStack():
            if folder in self.mounted:
                self.call("umount", "-l", folder)
            else:
                folder.rename(aside)
                folder.mkdir()
        yield
        with self.at_rest() if name == "archive" else ExitStack():
            found = [path for path in folder.rglob("*") if not path.name.startswith(".ordertrail")]
            assert found == [], f"put under the mount point of {name}: {found}"
            if folder in self.mounted:
                self.call("mount", "--bind", self.base / "disks" / name, folder)
            else:
                shutil.rmtree(folder)
                aside.rename(folder)

    @contextmanager
    def unwritable(self) -> Iterator[None]:
        """A vendor's folder is read only, for root too where we may mount."""
        folder = self.config.source / "zip"
        if self.mounted:
            self.call("mount", "--bind", folder, folder)
            self.call("mount", "-o", "remount,bind,ro", folder)
        else:
            folder.chmod(0o555)
        yield
        if self.mounted:
            self.call("umount", "-l", folder)
        else:
            folder.chmod(0o755)

    def faults(self) -> dict[str, Callable[[], AbstractContextManager[None]]]:
        """All of them, by name. Clocks that jump and logs that cannot be written are with the vendors and `start`."""
        return {
            "folder gone": self.folder_gone,
            "unreadable file": self.unreadable,
            "full archive": self.archive_full,
            "full warehouse": self.warehouse_full,
            "SIGTERM": self.terminated,
            "SIGKILL": self.killed,
            "warehouse not mounted": lambda: self.unmounted("tables"),
            "archive not mounted": lambda: self.unmounted("archive"),
            "source not mounted": lambda: self.unmounted("source"),
            "unwritable folder": self.unwritable,
        }

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Within: neither a pass nor maintenance runs."""
        deadline = time.monotonic() + PATIENCE_S
        with ExitStack() as held:
            # In the order in which maintenance takes them: it waits for the pipeline's lock while it holds its own.
            for lock in (maintenance_lock, pipeline_lock):
                while True:
                    try:
                        held.enter_context(lock(self.config))
                        break
                    except PassRunningError:
                        assert time.monotonic() < deadline
                        time.sleep(0.02)
            yield

    # -- disks --------------------------------------------------------------------------------------------------

    def mount(self) -> None:
        """Give source, archive and warehouse file systems of their own, where the system lets us."""
        try:
            for name in ("archive", "tables", "source"):
                disk = self.base / "disks" / name
                disk.mkdir(parents=True)
                if name != "source":
                    self.call("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB[name]}m", "tmpfs", disk)
                self.call("mount", "--bind", disk, self.base / name)
                self.mounted.append(self.base / name)
        except (OSError, subprocess.CalledProcessError):
            self.unmount()

    def unmount(self) -> None:
        """Undo `mount`."""
        places = [*reversed(self.mounted), self.base / "disks" / "archive", self.base / "disks" / "tables"]
        for place in places:
            with suppress(OSError, subprocess.CalledProcessError):
                self.call("umount", "-l", place)
        self.mounted.clear()

    def call(self, *words: object) -> None:
        """Run a command of the system."""
        subprocess.run([str(word) for word in words], check=True, capture_output=True)

    # -- the whole ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All of it.

        Raises:
            AssertionError: Something was lost, doubled or put where it does not belong.
        """
        vendors = [threading.Thread(target=self.vendor, args=(name,)) for name in VENDORS]
        try:
            for name in VENDORS:
                (self.config.source / name).mkdir()
            self.start()
            self.wait(lambda: self.beat().get("last_pass_at") is not None, "the service begins")
            for vendor in vendors:
                vendor.start()
            self.disturb()
            self.over.set()
            for vendor in vendors:
                vendor.join()
            assert not self.trouble, self.trouble
            self.wait(lambda: not self.waiting(), "all files are taken")
            service = self.alive()
            service.terminate()
            assert service.wait(timeout=5.5) == 0
            self.check()
        finally:
            self.over.set()
            if self.service is not None and self.service.poll() is None:
                self.service.kill()
                self.service.wait()
            for reader in self.unread:
                os.close(reader)

    def disturb(self) -> None:
        """One fault after the other, in an order of chance, each as often as the others, until the time is over."""
        until = time.monotonic() + self.pace.total_s
        left: list[str] = []
        faults = self.faults()
        first = True
        while first or time.monotonic() < until:
            if not left:
                left = self.chance.sample(sorted(faults), len(faults))
            name = left.pop()
            first = first and bool(left)
            time.sleep(self.pace.between_s)
            self.alive()
            print(f"{self.pace.total_s - (until - time.monotonic()):6.1f} s  {name}", flush=True)
            with faults[name]():
                time.sleep(self.pace.fault_s)
            self.told[name] += 1

    def waiting(self) -> list[str]:
        """Files and claims in the source."""
        source = self.config.source
        return sorted(str(p.relative_to(source)) for p in source.rglob("*") if p.is_file() and p.name != MARKER)

    def wait(self, reached: Callable[[], bool], what: str) -> None:
        """Wait for something, `PATIENCE_S` at most."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < deadline, f"{what}: {self.waiting()[:5]}, {self.beat()}"
            self.alive()
            time.sleep(0.05)

    def check(self) -> None:
        """Nothing is lost, nothing is twice, and the target is the model's."""
        last = Pipeline(self.config).run()
        assert last.batch is None, f"there was something left: {last}"
        house = House(self.config)
        deliveries = house.rows("deliveries")
        names = {hashlib.sha256(file.content).hexdigest(): file.path for file in self.sent}
        # A file that waited to be archived when the note of it was lost is found to be a duplicate of itself.
        again = [row for row in deliveries if row["state"] == "duplicate"]
        self.told["duplicate of itself"] += len(again)
        loaded = Counter(str(row["sha256"]) for row in deliveries if row["state"] == "loaded")
        strange = [
            row for row in deliveries if row["sha256"] not in names or row["state"] not in ("loaded", "duplicate")
        ]
        lost = [path for sha256, path in names.items() if loaded[sha256] == 0]
        twice = [path for sha256, path in names.items() if loaded[sha256] > 1]
        assert (lost, twice, strange) == ([], [], []), "each file is one delivery"
        archived = {path: hashlib.sha256(data).hexdigest() for path, data in house.archived().items()}
        assert {row["archived_to"]: row["sha256"] for row in deliveries if row["archived_to"]} == archived
        assert Counter(archived.values()) == Counter(names.keys()), "each file is in the archive once"
        assert house.target() == judge(self.sent, None, self.config.vendors).target
        history = Counter((row["_delivery_id"], row["_file_row"]) for row in house.rows("history"))
        assert max(history.values()) == 1
        wrong = [check for check in verify(self.config).checks if not check.ok]
        assert wrong == []


def soak(base: Path, pace: Pace, seed: int) -> Soak:
    """Run it in an empty folder.

    Raises:
        AssertionError: A promise did not hold.
    """
    it = Soak(base, pace, seed)
    it.mount()
    try:
        it.run()
    except BaseException:
        for name in ("archive", "tables", "source"):
            shutil.copytree(base / name, base / "failed" / name, symlinks=True)  # it may be gone with its mount
        raise
    finally:
        it.unmount()
    return it


def main() -> None:
    """Parse the command line, soak, and say what was done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder", type=Path, help="empty or not there; it stays")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        folder = given.folder or Path(held.enter_context(tempfile.TemporaryDirectory(prefix="ordertrail-soak-")))
        done = soak(folder.resolve(), Pace(given.seconds), given.seed)
        rows = sum(file.content.count(b"\n") - 1 for file in done.sent)
        print(f"{len(done.sent)} files, {rows} rows: the target is the model's, nothing is lost or twice")
        print(", ".join(f"{name} {count}" for name, count in sorted(done.told.items())))


if __name__ == "__main__":
    try:
        main()
    except OrdertrailError as error:
        sys.exit(f"error {error.code}: {error}")
