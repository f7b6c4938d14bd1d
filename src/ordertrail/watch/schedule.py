"""Decides when the service runs its next pass: a state machine without a clock, testable without waiting."""

from __future__ import annotations

from collections.abc import Callable

DEBOUNCE_S = 0.05
"""A pass waits until no file was completed for this long: files that come together make one batch. In seconds."""

DEBOUNCE_MAX_S = 0.25
"""... but never longer than this after the first of them; at least `DEBOUNCE_S`, in seconds."""

LOOK_SLACK_S = 0.02
"""Added to `settle_s` before the next look, in seconds, so that rounding of clocks does not cost a second look."""

TRANSIENT_BASE_S, TRANSIENT_CAP_S = 1.0, 60.0
"""Back-off after a transient error, in seconds: up to the base, doubled each time up to the cap."""

TERMINAL_BASE_S, TERMINAL_CAP_S = 10.0, 300.0
"""The same after an error that needs a person: slower, and reported every time."""

BLOCKED_S = 1.0
"""Longest wait before the next try while somebody else runs a pass, in seconds."""


class Schedule:
    """When the next pass is due. All times are seconds on the caller's own monotonic clock.

    Args:
        interval_s: Time between looks when nothing happens.
        settle_s: A file that was not settled is looked at again after this long.
        random: Returns numbers in [0, 1).
        now_s: The time now; the first pass is due at once.
    """

    def __init__(self, *, interval_s: float, settle_s: float, random: Callable[[], float], now_s: float) -> None:
        self._interval_s = interval_s
        self._settle_s = settle_s
        self._random = random
        self._poll_s = now_s
        self._look_s: float | None = None
        self._first_s: float | None = None
        self._last_s = now_s
        self._failures = 0
        self._looks = 0
        self._waiting = False

    @property
    def due_s(self) -> float:
        """When the next pass starts. Events do not shorten a back-off."""
        if self._waiting:
            return self._poll_s
        due = [self._poll_s]
        if self._look_s is not None:
            due.append(self._look_s)
        if self._first_s is not None:
            due.append(min(self._last_s + DEBOUNCE_S, self._first_s + DEBOUNCE_MAX_S))
        return min(due)

    @property
    def backing_off(self) -> bool:
        """Whether the last pass failed."""
        return self._failures > 0

    def closed(self, now_s: float) -> None:
        """Note that a file is complete: a pass is due as soon as no other file follows."""
        self._first_s = now_s if self._first_s is None else self._first_s
        self._last_s = now_s

    def touched(self, now_s: float) -> None:
        """Note that there is a file that may be complete once it has settled."""
        look = now_s + self._settle_s + LOOK_SLACK_S
        self._look_s = look if self._look_s is None else min(self._look_s, look)

    def started(self) -> None:
        """Note that a pass starts: it sees everything announced so far."""
        self._first_s = self._look_s = None
        self._waiting = False

    def done(self, now_s: float, *, unsettled: bool) -> None:
        """Note a successful pass.

        Args:
            now_s: When it ended.
            unsettled: Whether it left files alone that are still changing. Looks at them get rarer, up to the interval.
        """
        self._failures = 0
        self._poll_s = now_s + self._interval_s
        if unsettled:
            look_s = self._settle_s * 2.0 ** min(self._looks, 16) + LOOK_SLACK_S
            self._poll_s = now_s + min(look_s, max(self._interval_s, self._settle_s + LOOK_SLACK_S))
            self._looks += 1
        else:
            self._looks = 0

    def failed(self, now_s: float, *, transient: bool) -> None:
        """Note a failed pass: back off exponentially with full jitter, so that many services do not retry in step."""
        base_s, cap_s = (TRANSIENT_BASE_S, TRANSIENT_CAP_S) if transient else (TERMINAL_BASE_S, TERMINAL_CAP_S)
        ceiling_s = min(cap_s, base_s * 2.0 ** min(self._failures, 16))
        self._poll_s = now_s + max(DEBOUNCE_S, self._random() * ceiling_s)
        self._failures += 1
        self._waiting = True

    def blocked(self, now_s: float) -> None:
        """Note that somebody else runs a pass: look again soon."""
        self._poll_s = now_s + BLOCKED_S * (1 + self._random()) / 2
        self._waiting = True
