"""Alerts in the service: a thread of its own keeps the incidents and sends, so that no pass waits for anybody.

It is woken by every list of open items that a pass brings about, and by its own clock when none does: files wait,
vendors are late and disks fill while nothing arrives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.alerts.after import look, unreadable_cause
from ordertrail.alerts.channels import Sender, installed, send
from ordertrail.alerts.evaluate import causes_of, evaluate, now_utc
from ordertrail.alerts.outbox import Outbox
from ordertrail.alerts.ping import ping
from ordertrail.config import Config
from ordertrail.config.values import Address
from ordertrail.engines.base import IncidentTable
from ordertrail.engines.choice import incident_table
from ordertrail.errors import OrdertrailError
from ordertrail.log import Log
from ordertrail.look.last_look import unchanged
from ordertrail.look.open_items import OpenItem, config_option
from ordertrail.look.status import looked_at
from ordertrail.model import RunReport
from ordertrail.rules.alert_text import Message
from ordertrail.rules.incidents import Incident, Seen
from ordertrail.rules.quiet import Quiet
from ordertrail.rules.secrets import masked

EVERY_S = 60.0
"""How often the service looks by its own clock, and how often it asks the dead man's switch at most, in seconds."""

SOONEST_S = 0.5
"""Shortest time between two turns, in seconds."""

AGAIN_S = 3600.0
"""How often it is told, without an incident, that no incidents can be kept, in seconds."""

_log = Log()


class Means(Struct, frozen=True):
    """What the thread works with; tests pass fakes.

    Attributes:
        sender: Sends one message.
        ping: Asks the dead man's switch.
        now: The clock, aware UTC.
        clock: Monotonic, in seconds.
        table: Makes the table of incidents.
    """

    sender: Sender = send
    ping: Callable[[Address, bool], str] = lambda address, failed: ping(address, failed=failed)
    now: Callable[[], datetime] = now_utc
    clock: Callable[[], float] = time.monotonic
    table: Callable[[Config], IncidentTable] = incident_table


class Teller:
    """Keeps incidents and sends alerts, in a thread of its own.

    Args:
        config: Of the pipeline.
        means: What it works with.
    """

    def __init__(self, config: Config, means: Means | None = None) -> None:
        self._config = config
        self._means = means or Means()
        self._channels = [alert.channel for alert in config.alerts]
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._working = False
        self._seen: tuple[float, Seen] | None = None
        self._passed: bool | None = None
        self._pinged: tuple[float, bool] | None = None
        self._table: IncidentTable | None = None
        self._trouble = ""
        self._cried_s: float | None = None
        self._quiet: Quiet | None = None

    @property
    def running(self) -> bool:
        """Whether the thread is at work."""
        return self._working

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="ordertrail-alerts", daemon=True).start()

    def stop(self) -> None:
        """End the thread after its turn; what waits is sent by whoever looks next."""
        self._ended.set()
        self._wake.set()

    def passed(self, *, ok: bool) -> None:
        """Note how a pass ended; returns at once.

        Args:
            ok: Whether it succeeded.
        """
        self._passed = ok
        if self._config.ping is not None:
            self._wake.set()

    def concerned(self, report: RunReport) -> bool:
        """Whether the open items may be others than those that were listed last.

        Args:
            report: Of a pass that succeeded.
        """
        quiet = self._quiet
        newest = None if quiet is None else unchanged(self._config, quiet, report, self._means.now())
        if quiet is None or newest is None:
            return True
        self._quiet = replace(quiet, deliveries=newest)
        return False

    def listed(self) -> tuple[OpenItem, ...]:
        """List the open items, and have them judged; for `OpenList`.

        Raises:
            OrdertrailError: They cannot be listed, which is judged, too.
        """
        self._quiet = None  # until the list is made, every pass concerns it
        try:
            items, self._quiet = looked_at(self._config)
        except OrdertrailError as error:
            self._saw(Seen((unreadable_cause(self._config, error),), whole=False))
            raise
        self._saw(Seen(causes_of(items)))
        return items

    def turn(self) -> float:
        """Do once what the thread does again and again.

        Returns:
            After how many seconds the next turn is due.
        """
        waits_s = EVERY_S
        try:
            table = self._table = self._table or self._means.table(self._config)
            if table.possible():
                kept = evaluate(table, self._look(), self._channels, self._means.now)
                waits_s = self._wait_s(self._send(table, kept.incidents))
            self._trouble = ""
        except OrdertrailError as error:
            self._cry(error)
        except Exception as error:  # noqa: BLE001 - the service goes on loading files without alerts
            self._cry(OrdertrailError(f"{type(error).__name__}: {error}"))
            _log.debug("traceback", exc_info=error)
        self._ping()
        return waits_s

    def _run(self) -> None:
        waits_s = SOONEST_S
        while not self._ended.is_set():
            self._wake.wait(waits_s)
            self._wake.clear()
            if self._ended.is_set():
                return
            self._working = True
            try:
                waits_s = self.turn()
            finally:
                self._working = False

    def _saw(self, seen: Seen) -> None:
        with self._lock:
            self._seen = self._means.clock(), seen
        self._wake.set()

    def _look(self) -> Seen:
        """The newest list; one that is older than `EVERY_S` is made again."""
        with self._lock:
            made = self._seen
        passed = bool(self._passed)
        if made is None or self._means.clock() - made[0] > EVERY_S:
            return look(self._config, passed=passed)
        return Seen(made[1].causes, made[1].whole, passed)

    def _send(self, table: IncidentTable, incidents: tuple[Incident, ...]) -> tuple[Incident, ...]:
        if not self._config.alerts or not installed():
            return ()
        now = self._means.now()
        if any(post.due(now) for one in incidents for post in one.posts):
            outbox = Outbox(
                self._config.name,
                table,
                self._config.alerts,
                self._means.sender,
                self._means.now,
                option=config_option(self._config),
            )
            outbox.send(lambda: not self._ended.is_set())
            return table.read().incidents
        return incidents

    def _wait_s(self, incidents: Iterable[Incident]) -> float:
        """Time to the next message that is due, at most `EVERY_S`."""
        times = [post.next_at for one in incidents for post in one.posts if post.waiting and post.next_at]
        times += [one.remind_at for one in incidents if one.open and one.remind_at]
        if not times:
            return EVERY_S
        left_s = (min(times) - self._means.now()) / timedelta(seconds=1)
        return min(EVERY_S, max(SOONEST_S, left_s))

    def _cry(self, error: OrdertrailError) -> None:
        """Tell that incidents cannot be kept: on the log, and without an incident on every channel, at most hourly."""
        if error.message != self._trouble:
            _log.warning("incidents cannot be kept", code=error.code, reason=masked(str(error)))
        self._trouble = error.message
        now_s = self._means.clock()
        if error.transient and self._cried_s is None:
            self._cried_s = now_s - AGAIN_S + 2 * EVERY_S  # it may be over soon
        if self._cried_s is not None and now_s - self._cried_s < AGAIN_S:
            return
        self._cried_s = now_s
        title = masked(f"{self._config.name} CRITICAL: incidents cannot be kept: {error.message}")[:160]
        message = Message(title, f"{masked(str(error))}\n\ntype next  ordertrail doctor", "critical")
        for alert in self._config.alerts if installed() else ():
            self._means.sender(alert, message)

    def _ping(self) -> None:
        address, ok = self._config.ping, self._passed
        if address is None or ok is None:
            return
        now_s = self._means.clock()
        if self._pinged is not None and self._pinged[1] == ok and now_s - self._pinged[0] < EVERY_S:
            return
        self._pinged = now_s, ok
        if problem := self._means.ping(address, not ok):
            _log.warning("the dead man's switch does not answer", reason=problem)
