"""Globs of vendors: `*`, `?` and `[...]` stop at `/`, `**` spans folders (`**/` also matches none); case-sensitive.

A glob is a small automaton that reads a path once, from left to right: its time grows with the length of the path, not
with the number of ways in which stars could divide it, as a backtracking regular expression's does. The sender chooses
the names, so the sender must not be able to choose the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

MAX_STEPS = 10_000
"""How many steps one glob caches; when there are more, the cache is cleared."""

_FOLDERS = re.compile(r"(?:\*\*/)+")
_STARS = re.compile(r"\*+")
_SET = re.compile(r"\[(!?)(\]?[^\]]+|\])\]", re.DOTALL)
_WILD = re.compile(r"[*?\[]")

Test = Callable[[str], bool]
"""Whether an arc of the automaton accepts a character."""


class Glob:
    """One glob.

    Args:
        pattern: As in a vendor's `files`.
    """

    def __init__(self, pattern: str) -> None:
        self._prefix, self._suffix = _WILD.split(pattern, maxsplit=1)[0], _WILD.split(pattern)[-1]
        self._one_star = _WILD.findall(pattern) == ["*"]
        self._arcs: list[tuple[int, Test, int]] = []
        self._free: list[tuple[int, int]] = []  # arcs that consume no character
        self._last = self._read(pattern)
        self._steps: dict[tuple[int, str], int] = {}

    def matches(self, path: str) -> bool:
        """Whether it matches a path.

        Args:
            path: Below the source folder, with `/` between folders.
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
        """The states reached by a character; a set of states is the bits of a number."""
        following = 0
        for state, test, target in self._arcs:
            if states >> state & 1 and test(character):
                following |= 1 << target
        if len(self._steps) >= MAX_STEPS:
            self._steps.clear()
        closed = self._steps[states, character] = self._closed(following)
        return closed

    def _closed(self, states: int) -> int:
        """The states and all that they reach without a character; those arcs are in the order of the glob."""
        for state, target in self._free:
            if states >> state & 1:
                states |= 1 << target
        return states

    def _read(self, pattern: str) -> int:
        """Build the arcs and return the last state."""
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
        """`**/` matches any number of whole folders; after anything but `/`, it matches any text that ends in `/`."""
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
    """The test of the element that matches one character, and where the element ends."""
    if pattern[at] == "?":
        return _inside, at + 1
    if closed := _SET.match(pattern, at):
        return _set(closed[2], negated=bool(closed[1])), closed.end()
    return pattern[at].__eq__, at + 1


def _set(members: str, *, negated: bool) -> Test:
    """The test of a set. It never accepts `/`; a range from high to low is empty."""
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
