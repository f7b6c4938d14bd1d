"""Globs of vendors: `*`, `?` and `[...]` stop at `/`, `**` spans folders (`**/` also none); case counts.

A glob is a small automaton that reads a path once, from left to right: its time grows with the path's length and never
with the number of ways in which stars could share the path out, as that of a regular expression does. A sender chooses
the names, so it must not choose the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

MAX_STEPS = 10_000
"""Steps that one glob remembers; beyond them it begins to remember anew."""

_FOLDERS = re.compile(r"(?:\*\*/)+")
_STARS = re.compile(r"\*+")
_SET = re.compile(r"\[(!?)(\]?[^\]]+|\])\]", re.DOTALL)
_WILD = re.compile(r"[*?\[]")

Test = Callable[[str], bool]
"""Whether an arc of the automaton takes a character."""


class Glob:
    """One glob.

    Args:
        pattern: As in a vendor's `files`.
    """

    def __init__(self, pattern: str) -> None:
        self._prefix, self._suffix = _WILD.split(pattern, maxsplit=1)[0], _WILD.split(pattern)[-1]
        self._one_star = _WILD.findall(pattern) == ["*"]
        self._arcs: list[tuple[int, Test, int]] = []
        self._free: list[tuple[int, int]] = []  # arcs that take no character
        self._last = self._read(pattern)
        self._steps: dict[tuple[int, str], int] = {}

    def matches(self, path: str) -> bool:
        """Whether it takes a path.

        Args:
            path: Below the source folder, `/` between folders.
        """
        if self._one_star:  # nearly all globs
            middle = path[len(self._prefix) : len(path) - len(self._suffix)]
            ends = path.startswith(self._prefix) and path.endswith(self._suffix)
            return ends and len(path) >= len(self._prefix) + len(self._suffix) and "/" not in middle
        if not path.startswith(self._prefix):
            return False
        steps, states = self._steps, self._closed(1)
        for character in path:
            following = steps.get((states, character))
            if following is None:
                following = self._step(states, character)
            states = following
            if not states:
                return False
        return bool(states >> self._last & 1)

    def _step(self, states: int, character: str) -> int:
        """The states that are left after a character; a set of states is the bits of a number."""
        following = 0
        for state, test, target in self._arcs:
            if states >> state & 1 and test(character):
                following |= 1 << target
        if len(self._steps) >= MAX_STEPS:
            self._steps.clear()
        closed = self._steps[states, character] = self._closed(following)
        return closed

    def _closed(self, states: int) -> int:
        """With all states that are reached without a character; those arcs are in the order of the glob."""
        for state, target in self._free:
            if states >> state & 1:
                states |= 1 << target
        return states

    def _read(self, pattern: str) -> int:
        """Make the arcs; gives the last state."""
        state = at = 0
        while at < len(pattern):
            if folders := _FOLDERS.match(pattern, at):
                state = self._folders(state, whole=at == 0 or pattern[at - 1] == "/")
                at = folders.end()
            elif stars := _STARS.match(pattern, at):
                self._arcs.append((state, _inside if len(stars[0]) == 1 else _anything, state))
                at = stars.end()
            else:
                test, at = _one(pattern, at)
                self._arcs.append((state, test, state + 1))
                state += 1
        return state

    def _folders(self, state: int, *, whole: bool) -> int:
        """`**/`: any number of whole folders; behind something else than `/`, anything that ends in `/`."""
        if whole:
            self._arcs += [(state, _inside, state + 1), (state + 1, _inside, state + 1), (state + 1, _slash, state)]
        else:
            self._arcs += [(state, _anything, state + 1), (state, _slash, state + 2), (state + 1, _anything, state + 1)]
            self._arcs += [(state + 1, _slash, state + 2)]
            return state + 2
        self._free.append((state, state + 2))
        return state + 2


@lru_cache(maxsize=256)
def glob_of(pattern: str) -> Glob:
    """The glob of a pattern; built once."""
    return Glob(pattern)


def _one(pattern: str, at: int) -> tuple[Test, int]:
    """What stands for one character, and where it ends."""
    if pattern[at] == "?":
        return _inside, at + 1
    if closed := _SET.match(pattern, at):
        return _set(closed[2], negated=bool(closed[1])), closed.end()
    return pattern[at].__eq__, at + 1


def _set(members: str, *, negated: bool) -> Test:
    """A set never takes `/`; a range from high to low is empty."""
    ranges: list[tuple[str, str]] = []
    at = 0
    while at < len(members):
        low = high = members[at]
        if members[at + 1 : at + 2] == "-" and at + 2 < len(members):
            high, at = members[at + 2], at + 2
        ranges.append((low, high))
        at += 1
    return lambda character: character != "/" and any(low <= character <= high for low, high in ranges) is not negated


def _inside(character: str) -> bool:
    return character != "/"


def _slash(character: str) -> bool:
    return character == "/"


def _anything(_: str) -> bool:
    return True
