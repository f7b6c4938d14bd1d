"""The relations of a load in DuckDB: the name and content of each, the module that creates it, and its readers.

The order rules are SQL that reads relations by fixed names, and so is the code built on them. Each relation is declared
here once. Its maker creates it with `Relation.make` and returns it, and its readers take it as an argument: a relation
that has not been created cannot be read. Relations that only their maker reads are not declared.

`k` is the salted hash of a key, `pos` a row's position in the target's snapshot (`delta.table.ROW_BITS`), `ch` a
content hash; the order columns are those of `rules.placing`.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ordertrail.rules.column_types import plain_type
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.placing import KNOWN, ORDER, TOTAL_ORDER

RunSql = Callable[[str], object]
"""Runs one statement of DuckDB to its end."""


class Relation(Struct, frozen=True):
    """A temporary table or view. Its text is its name.

    Attributes:
        name: Its name in all SQL that reads it.
        columns: (name, DuckDB type) of the columns that it always has, in order.
        maker: The module below `engines.local`, or elsewhere in the package, that creates it.
        readers: The modules whose code or SQL reads it.
        help: What one row is.
        view: Whether it is a view, computed when it is read.
        more: The columns that follow, when they depend on the contract.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    maker: str
    readers: tuple[str, ...]
    help: str
    view: bool = False
    more: str = ""

    def __str__(self) -> str:
        return self.name

    def make(self, run: RunSql, sql: str) -> Relation:
        """Create it, replacing an existing one.

        Args:
            run: Runs SQL in the DuckDB that gets it.
            sql: SQL of its rows.
        """
        run(f"CREATE OR REPLACE TEMP {'VIEW' if self.view else 'TABLE'} {self.name} AS {sql}")
        return self

    def make_empty(self, run: RunSql) -> Relation:
        """Create it without rows, for a load that has none.

        Args:
            run: As of `make`.
        """
        return self.make(run, f"SELECT {', '.join(f'CAST(NULL AS {t}) AS {n}' for n, t in self.columns)} WHERE false")


_ORDER = {column.name: plain.duckdb for column in TOTAL_ORDER if (plain := plain_type(column.type)) is not None}
_ALL_ORDER = tuple((name, _ORDER[name]) for name in ORDER)
_KEY, _CONTENT, _POSITION = ("k", "UHUGEINT"), ("ch", "BIGINT"), ("pos", "BIGINT")
_NUMBER, _DELIVERY = ("dn", "INTEGER"), ("delivery_id", "VARCHAR")
_OLD = (("rv", "BIGINT"), ("bn", "BIGINT"), ("ins", "BIGINT"))
_KNOWN_TYPES = {"fk": "BIGINT", "mtime_ms": "BIGINT", "absent": "VARCHAR[]", "batch": "BIGINT"}
_KNOWN_TYPES |= {"newest_first": "BOOLEAN"}


def _order(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, _ORDER[name]) for name in names)


# -- the batch ------------------------------------------------------------------------------------------------------

BATCH_DELIVERIES = Relation(
    "batch_deliveries",
    (_NUMBER, *((name, _KNOWN_TYPES.get(name, "VARCHAR")) for name in KNOWN)),
    "local.weigh",
    ("local.weigh", "local.fold", "local.find", "rules.placing", "spark.changes"),
    "a delivery of the batch, `dn` its number",
)
STAGED_ROWS = Relation(
    "staged_rows",
    (_KEY, _NUMBER, _CONTENT, *_order("ev", "rk", "fr", "fk")),
    "local.weigh",
    ("local.weigh", "local.find", "rules.outcomes", "rules.placing"),
    "a staged row, narrow, before the places of deliveries are known",
)
REPEATED = Relation(
    "repeated",
    (_KEY,),
    "local.weigh",
    ("local.weigh", "local.find", "rules.outcomes"),
    "a key with more than one staged row",
)

# -- what is there already ------------------------------------------------------------------------------------------

TARGET_BEFORE = Relation(
    "target_before",
    (_KEY, _POSITION, *_order("ev", "rk", "fr"), _DELIVERY, _CONTENT, *_OLD),
    "local.find",
    ("local.weigh", "rules.outcomes"),
    "a row of the target with a staged key, before the places of deliveries are known; `rv` its revision, `bn` its "
    "batch, `ins` the microseconds of its first insertion",
    view=True,
)
DOUBLED = Relation(
    "doubled",
    (_KEY,),
    "local.find",
    ("local.weigh", "rules.outcomes", "spark.changes"),
    "a staged key that stands more than once in the target",
)
LOADED = Relation(
    "loaded",
    _order("fk"),
    "local.weigh",
    ("rules.outcomes",),
    "one row: the highest file key of the deliveries that were loaded before",
)
HISTORY_ROWS = Relation(
    "history_rows",
    (_KEY, *_order("ev", "rk", "fr"), _DELIVERY),
    "local.weigh",
    ("local.weigh",),
    "an accepted row of the history, of a key where only the history can tell",
)
PLACED = Relation(
    "placed",
    (_DELIVERY, *_order("fk"), ("absent", "VARCHAR[]"), ("sg", "INTEGER"), *_order("tb")),
    "local.fold",
    ("local.fold", "local.bearers", "local.changed", "local.changes", "local.weigh", "rules.placing"),
    "a delivery, with what it gives to the order of its rows",
)

# -- what the rules read and give -----------------------------------------------------------------------------------

STAGED = Relation(
    "staged",
    (_KEY, _NUMBER, _CONTENT, *_order("ev", "rk", "fr", "fk", "tb", "fp")),
    "local.weigh",
    ("rules.outcomes",),
    "a staged row in the total order",
    view=True,
)
CURRENT = Relation(
    "current",
    (*TARGET_BEFORE.columns, *_order("fk", "tb", "fp")),
    "local.weigh",
    ("rules.outcomes",),
    "a row of `target_before` in the total order",
    view=True,
)
RECALLED = Relation(
    "recalled",
    (*HISTORY_ROWS.columns, *_order("fk", "tb", "fp")),
    "local.weigh",
    ("rules.outcomes",),
    "a row of `history_rows` in the total order",
    view=True,
)
CODES_ROW = Relation(
    "codes",
    (*((str(outcome), "INTEGER") for outcome in CODES), ("batch", "INTEGER"), ("first_revision", "INTEGER")),
    "local.weigh",
    ("rules.outcomes", "rules.corrections"),
    "one row: the numbers of the outcomes, and of the batch",
)
RANKED = Relation(
    "ranked",
    (_KEY, _NUMBER, _CONTENT, *_ALL_ORDER, ("place", "BIGINT"), ("repeat", "BIGINT")),
    "local.weigh",
    ("rules.outcomes", "rules.corrections"),
    "a staged row with its place among its key's, and among the equal ones; 1 is the newest; an INTEGER where no key "
    "is repeated",
    view=True,
)
BEST = Relation(
    "best",
    (_KEY, _POSITION, _CONTENT, *_OLD, *_ALL_ORDER, ("place", "BIGINT"), ("copies", "BIGINT")),
    "local.weigh",
    ("rules.outcomes", "rules.corrections", "embedded.apply", "local.others", "spark.changes"),
    "a row of the target with its place in its key, 1 counts, and how often the key stands; an INTEGER where no key "
    "is doubled",
    view=True,
)
OUTCOMES = Relation(
    "outcomes",
    (_KEY, _NUMBER, *_order("fr"), ("rv", "BIGINT"), _POSITION, ("ins", "BIGINT"), ("outcome", "INTEGER")),
    "local.weigh",
    ("local.weigh", "local.accepted", "local.others", "embedded.apply", "embedded.record", "spark.changes"),
    "a staged row with its outcome; `rv`, `pos` and `ins` are those of the target's row before",
)
ACCEPTED = Relation(
    "accepted",
    (),
    "local.fold",
    ("rules.outcomes",),
    "an accepted row in the total order, with what its delivery lacks",
    view=True,
    more="`k`, the order columns, `c<i>` for each column folded and `lacks_<i>` for each that some delivery lacks",
)
FOLDED = Relation(
    "folded",
    (),
    "local.fold",
    ("local.weigh", "local.accepted", "look.verify"),
    "a key, with the fold of its accepted rows",
    more="`_k`, the contract's columns and `_rescued`",
)

# -- in mode append ---------------------------------------------------------------------------------------------------

STANDING = Relation(
    "standing",
    (_KEY, _CONTENT),
    "local.find",
    ("rules.outcomes", "rules.corrections"),
    "a row of the target that counts, with a staged key; of a correction, with a touched one",
)
FIRSTS = Relation(
    "firsts",
    (_KEY, _NUMBER, _CONTENT, *_order("fr"), ("repeat", "BIGINT")),
    "local.append",
    ("rules.outcomes",),
    "a staged row with its place among the equal ones, in the order of arrival; an INTEGER where no key is repeated",
    view=True,
)
WRITTEN = Relation(
    "written",
    (_NUMBER, *_order("fr")),
    "local.append",
    ("rules.outcomes",),
    "a row that the batch's commit put into the target",
)

# -- the keys of files, before they are staged ----------------------------------------------------------------------

FILE_KEYS = Relation(
    "file_keys",
    (_KEY, ("place", "INTEGER"), *_order("ev")),
    "local.shares",
    ("rules.shares",),
    "a key of a file that would be loaded: the file's place in the order of files, the event time of the newest row",
)
KNOWN_TIMES = Relation(
    "known_times",
    (_KEY, *_order("ev")),
    "local.shares",
    ("rules.shares",),
    "such a key that the target has, with the event time of its newest row there",
)

# -- a correction ---------------------------------------------------------------------------------------------------

NEW_ROWS = Relation(
    "new_rows",
    (_KEY, _NUMBER, _CONTENT, *_order("ev", "rk", "fr"), _DELIVERY, ("key", "VARCHAR")),
    "local.correct",
    ("local.correct", "local.append_correct", "rules.corrections"),
    "a row that is staged with the correction, narrow",
    more="`kc<i>`, the key columns",
)
TOUCHED = Relation(
    "touched",
    (_KEY, ("key", "VARCHAR")),
    "local.correct",
    ("local.correct", "rules.corrections", "spark.changes"),
    "a key that the deliveries concerned know",
    more="`kc<i>`, the key columns",
)
WINNERS = Relation(
    "winners",
    (_KEY, _CONTENT, ("hpos", "BIGINT"), _NUMBER, *_order("fr")),
    "local.correct",
    ("local.correct", "rules.corrections"),
    "a touched key that some delivery that counts knows, with its newest row: `hpos` is that row's position in the "
    "history, NULL when it is staged; `ch` is the content that the target must have",
)
FATES = Relation(
    "fates",
    (_KEY, _NUMBER, *_order("fr"), ("rv", "BIGINT"), _POSITION, ("ins", "BIGINT"), _CONTENT, ("outcome", "INTEGER")),
    "local.correct",
    ("local.correct", "local.accepted", "local.others", "embedded.apply", "spark.changes", "rules.corrections"),
    "a touched key with its outcome, and the row that it gets, if any; otherwise as `outcomes`",
)
ELIGIBLE = Relation(
    "eligible",
    (_KEY, _CONTENT, ("hpos", "BIGINT"), _NUMBER, *_order("fr"), ("repeat", "BIGINT")),
    "local.append_correct",
    ("rules.corrections",),
    "in mode `append`, an accepted row of a touched key whose delivery counts once the correction is made, with its "
    "place among the equal ones in the order in which they came; `hpos` as in `winners`",
)
ADDED = Relation(
    "added",
    (
        _KEY,
        ("hpos", "BIGINT"),
        _NUMBER,
        *_order("fr"),
        ("rv", "BIGINT"),
        _POSITION,
        ("ins", "BIGINT"),
        ("outcome", "INTEGER"),
    ),
    "local.append_correct",
    ("local.accepted", "embedded.apply", "rules.corrections"),
    "in mode `append`, a row that the correction appends; otherwise as `outcomes`",
)
WINNING_DELIVERIES = Relation(
    "winning_deliveries",
    (_DELIVERY, _NUMBER),
    "local.correct",
    ("spark.changes",),
    "a delivery that may have said a row of `winners`: one of the batch, or an earlier one with a number below 0",
)

# -- columns of others ----------------------------------------------------------------------------------------------

CARRIED = Relation(
    "carried",
    (("_at", "BIGINT"),),
    "local.others",
    ("local.accepted",),
    "a row that goes and is replaced: its position, and what others have in it",
    more="the columns of others",
)
CARRIED_KEYS = Relation(
    "carried_keys",
    (("_k", "VARCHAR"),),
    "local.others",
    ("local.bearers",),
    "a key of the target, as text, and what others have in its row",
    more="the columns of others",
)

RELATIONS = (
    FILE_KEYS,
    KNOWN_TIMES,
    BATCH_DELIVERIES,
    STAGED_ROWS,
    REPEATED,
    TARGET_BEFORE,
    DOUBLED,
    LOADED,
    HISTORY_ROWS,
    PLACED,
    STAGED,
    CURRENT,
    RECALLED,
    CODES_ROW,
    RANKED,
    BEST,
    OUTCOMES,
    ACCEPTED,
    FOLDED,
    STANDING,
    FIRSTS,
    WRITTEN,
    NEW_ROWS,
    TOUCHED,
    WINNERS,
    FATES,
    ELIGIBLE,
    ADDED,
    WINNING_DELIVERIES,
    CARRIED,
    CARRIED_KEYS,
)
"""All relations, in the order in which a load creates them."""


class StagedBatch(Struct, frozen=True):
    """The staged batch as relations, by which the target's rows are found.

    Attributes:
        deliveries: `BATCH_DELIVERIES`.
        rows: `STAGED_ROWS`.
        keys: SQL of the keys of its rows, `k`, with their texts, `key`; it reads the stage.
        repeated: `REPEATED`.
    """

    deliveries: Relation
    rows: Relation
    keys: str
    repeated: Relation


class FoundRows(Struct, frozen=True):
    """The rows that were found in the target.

    Attributes:
        before: `TARGET_BEFORE`.
        doubled: `DOUBLED`.
        tied: Whether one of them may tie with a staged row on event time and differ from it.
    """

    before: Relation
    doubled: Relation
    tied: bool


class WeighedBatch(Struct, frozen=True):
    """A weighed batch: everything needed to apply and record it.

    Attributes:
        staged: The staged batch.
        found: The rows that it was weighed against.
        placed: `PLACED`.
        best: `BEST`.
        outcomes: `OUTCOMES`.
        folded: `FOLDED`; None when no delivery lacks a column.
    """

    staged: StagedBatch
    found: FoundRows
    placed: Relation
    best: Relation
    outcomes: Relation
    folded: Relation | None = None
