"""How many keys of a vendor's file are new, or older than what is there: with many it is not the file that it seems.

A file of another system, or with keys in another spelling, brings keys that the target does not know. A file that was
sent again, or an export that stood still, brings rows that are older than those that the target holds.

What is counted are keys, each by the newest of its accepted rows, as if the files of a batch had come one by one in the
order of files: of files that are held nothing is there. So a file in a batch is judged as it would be alone, and a
file with the whole past of each key is not stale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec import Struct

LEAST_KEYS = 20
"""With fewer keys in a file there is no verdict."""


class KeyCounts(Struct, frozen=True):
    """The keys of one file.

    Attributes:
        place: Of the file among those of its batch.
        keys: How many it has.
        new: How many of these neither the target has nor a file before it.
        stale: For how many the target or a file before it has a later event time.
        surely_stale: For how many the target itself has a later event time.
    """

    place: int
    keys: int
    new: int
    stale: int
    surely_stale: int


class Broken(Struct, frozen=True):
    """A limit that a file breaks.

    Attributes:
        rule: The setting.
        how: In words: the counts, the share and the limit.
    """

    rule: str
    how: str


class Shares(Struct, frozen=True):
    """Which shares of the keys of a vendor's files may be new or stale, 0 to 1; 1 holds no file.

    Attributes:
        new: Above it a file is held.
        stale: Above it a file is held.
    """

    new: float = 1.0
    stale: float = 1.0

    def broken(self, counts: KeyCounts) -> Broken | None:
        """The limit that a file breaks; None when it breaks none."""
        if counts.keys < LEAST_KEYS:
            return None
        if counts.new > self.new * counts.keys:
            how = _words(counts.new, counts.keys, "new to the target")
            return Broken(rule="max_new_share", how=f"{how}; max_new_share allows {self.new:g}")
        if counts.stale > self.stale * counts.keys:
            how = _words(counts.stale, counts.keys, "older than what the target holds")
            return Broken(rule="max_stale_share", how=f"{how}; max_stale_share allows {self.stale:g}")
        return None

    def surely_broken(self, counts: KeyCounts) -> bool:
        """Whether a limit is broken whichever files before it are held."""
        if counts.keys < LEAST_KEYS:
            return False
        return counts.new > self.new * counts.keys or counts.surely_stale > self.stale * counts.keys


def _words(some: int, keys: int, what: str) -> str:
    return f"{some:,} of its {keys:,} keys are {what}, a share of {some / keys:.3g}"


def held_files(
    limits: Mapping[int, Shares], count: Callable[[Collection[int]], Iterable[KeyCounts]]
) -> dict[int, Broken]:
    """The files of a batch that break a limit, by place.

    Args:
        limits: By the place of each file to judge.
        count: The keys of all files but those with some places, as if these had not come.
    """
    held: dict[int, Broken] = {}
    while True:
        broken: dict[int, Broken] = {}
        sure: set[int] = set()
        for counts in count(held):
            limit = limits.get(counts.place, Shares())
            if (how := limit.broken(counts)) is not None:
                broken[counts.place] = how
                if limit.surely_broken(counts):
                    sure.add(counts.place)
        if not broken:
            return held
        # Of the first one nothing changes any more. Without it those behind have more new keys, and fewer stale ones.
        held |= {place: how for place, how in broken.items() if place in sure or place == min(broken)}


COUNTS = """
SELECT f.place, count(*) AS keys,
  count(CASE WHEN t.k IS NULL AND f.earlier IS NULL THEN 1 END) AS fresh,
  count(CASE WHEN f.ev < t.ev OR f.ev < f.earlier THEN 1 END) AS stale,
  count(CASE WHEN f.ev < t.ev THEN 1 END) AS surely_stale
FROM (
  SELECT k, place, ev, max(ev) OVER (
    PARTITION BY k ORDER BY place NULLS FIRST ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
  ) AS earlier
  FROM file_keys
) f
LEFT JOIN known_times t ON f.k = t.k
GROUP BY f.place
"""
"""`KeyCounts` of the files of a batch, one text for every engine. `file_keys` has a key `k` of the file with the place
`place`, and the event time `ev` of its newest row; `known_times` a key of the target, and its newest event time."""


def counts_sql(without: Collection[int]) -> str:
    """`COUNTS`, as if some files had not come.

    Args:
        without: Their places.
    """
    left_out = f"FROM file_keys WHERE place NOT IN ({', '.join(map(str, sorted(without)))})"
    return COUNTS.replace("FROM file_keys", left_out) if without else COUNTS
