"""What the service counts of its passes, for the metrics: results, seconds by step, and how late rows were readable."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime

from ordertrail.errors import PassRunningError
from ordertrail.look.metrics import Distribution, Passes
from ordertrail.model import DeliveryReport, RunReport, State

STEPS = ("discover", "stage", "load", "archive", "total")
"""The steps of a pass, as its report times them."""

RESULTS = ("loaded", "idle", "failed", "blocked")
"""`idle`: nothing was waiting; `blocked`: somebody else ran a pass."""

STEP_BOUNDS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bounds of the buckets for the time of a step, in seconds."""

LAG_BOUNDS_S = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
"""Bounds of the buckets for the lag of a file, in seconds."""

COMMITTED = "load.committed"
"""The probe right after the commit of the target."""

Run = Callable[[frozenset[str], Callable[[], frozenset[str]]], RunReport]


class Histogram:
    """Counts values in buckets.

    Args:
        bounds: Upper bounds of the buckets, inclusive, ascending.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def count(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def distribution(self) -> Distribution:
        """What was counted so far."""
        return Distribution(self._bounds, tuple(self._counts), self._total)


class PassCounts:
    """Counts the passes of a service. Passes come from one thread at a time; any thread may ask.

    Args:
        now: The wall clock, aware UTC: a file's times come from it, too.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._results = dict.fromkeys(RESULTS, 0)
        self._steps = {step: Histogram(STEP_BOUNDS_S) for step in STEPS}
        self._lag = Histogram(LAG_BOUNDS_S)
        self._succeeded_at: datetime | None = None
        self._readable_at: datetime | None = None
        self._running = False

    def probe(self, effect: str) -> None:
        """Note when the rows of a batch became readable; the probe of the service's passes."""
        if effect == COMMITTED:
            self._readable_at = self._now()

    @property
    def running(self) -> bool:
        """Whether a pass runs."""
        return self._running

    def counting(self, run: Run) -> Run:
        """A function that runs a pass as `run` does, and counts it."""

        def counted(complete: frozenset[str], still_open: Callable[[], frozenset[str]]) -> RunReport:
            self._readable_at = None
            ended = "failed"
            self._running = True
            try:
                report = run(complete, still_open)
                ended = "idle" if report.batch is None else "loaded"
            except PassRunningError:
                ended = "blocked"
                raise
            finally:
                self._running = False
                with self._lock:
                    self._results[ended] += 1
            self._succeeded(report)
            return report

        return counted

    def _succeeded(self, report: RunReport) -> None:
        with self._lock:
            self._succeeded_at = self._now()
            if report.batch is None:
                return
            for step, seconds in report.seconds.items():
                if step in self._steps:
                    self._steps[step].count(seconds)
            for delivery in report.deliveries:
                if (lag_s := self._lag_s(delivery)) is not None:
                    self._lag.count(lag_s)

    def _lag_s(self, delivery: DeliveryReport) -> float | None:
        """None when no row of it became readable in this pass: what an earlier one committed has no time here."""
        if delivery.state is not State.LOADED or delivery.closed_at is None or self._readable_at is None:
            return None
        return max(0.0, (self._readable_at - delivery.closed_at).total_seconds())

    def passes(self) -> Passes:
        """What was counted so far."""
        with self._lock:
            steps = {step: one.distribution() for step, one in self._steps.items()}
            return Passes(dict(self._results), steps, self._lag.distribution(), self._succeeded_at)
