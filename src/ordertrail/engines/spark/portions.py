"""What a migration does in Spark's Python workers: the code for tables in folders, on a portion of the history.

A portion is the rows of one partition. The worker writes them to a Parquet file in a folder of its own, beside the
whole ledger, and asks what a migration of folders asks. For rows that are read under another contract any portion will
do; the fold needs all rows of a key in one. These are functions for `mapInArrow`, as in `workers`; nothing here imports
Spark.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct
from msgspec.structs import asdict, replace

from ordertrail.arrow import arrow_schema, conformed
from ordertrail.config import Config
from ordertrail.delta.actions import AddFile
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Table
from ordertrail.engines.local.bearers import find_bearers
from ordertrail.engines.local.convert import Conversion
from ordertrail.engines.local.session import Session, tables_of
from ordertrail.model import no_probe
from ordertrail.parse.database import connected
from ordertrail.rules.migration import UNFIT_SHOWN, Tally, Unfit
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.schema import Terms, declared_columns

KEY = "_ordertrail_key"
"""Column of a folded row with its key as text."""

TALLY, UNFIT, SENT, NO_ZONE = "tally", "unfit", "sent", "no zone"
"""Kinds of answers of `Survey`."""

ANSWER = pa.schema([("kind", pa.string()), ("said", pa.string())])
"""What `Survey` gives: a kind of answer, and the answer as JSON."""

_OUT_ROWS = 1 << 16

Ask = Callable[[Session, Snapshot, Snapshot], Iterator[pa.RecordBatch]]
"""Gets a session, a portion of the history, and the whole ledger."""


class Portion(Struct, frozen=True):
    """Asks something of each partition of the history.

    Attributes:
        config: With the new contract.
        schema: The schema of the history's rows as JSON text, as Delta and Spark write it.
        deliveries: The whole ledger.
        ask: What is asked.
        answer: The columns of the answer.
    """

    config: Config
    schema: str
    deliveries: pa.Table
    ask: Ask
    answer: pa.Schema

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The answer for the rows of one partition; nothing for an empty one."""
        first = next(batches, None)
        if first is None:
            return
        with tempfile.TemporaryDirectory(prefix="ordertrail-") as scratch, self._opened(Path(scratch)) as session:
            history = _written(session.tables.history, chain((first,), batches), self._history_schema())
            metadata = replace(history.metadata, schema_string=self.schema)
            ledger = _written(session.tables.deliveries, self.deliveries.to_batches(), self.deliveries.schema)
            session.read_deliveries(ledger)
            for rows in self.ask(session, replace(history, metadata=metadata), ledger):
                yield conformed(rows, self.answer)

    def _history_schema(self) -> pa.Schema:
        return arrow_schema((column.name, column.type) for column in declared_columns(self.schema))

    @contextmanager
    def _opened(self, scratch: Path) -> Iterator[Session]:
        config = self.config.embedded_in(scratch / "tables")
        with (
            connected(1, config.memory_limit_mb, scratch / "spill") as con,
            ThreadPoolExecutor(max_workers=1) as pool,
        ):
            yield Session(config, con, pool, tables_of(config), "", no_probe)


def _written(table: Table, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Snapshot:
    """A table with these rows and no others. No commit has them: nobody else ever reads it."""
    table.create({})
    path = table.new_path("rows")
    with pq.ParquetWriter(path, schema) as file:
        for batch in batches:
            file.write_batch(conformed(batch, schema))
    return replace(table.newest(), files={path.name: AddFile(path.name, path.stat().st_size, 0, None)})


# -- what is asked ----------------------------------------------------------------------------------------------------


class Survey(Struct, frozen=True):
    """What the rows come to under the new contract: tallies, values that do not fit, who sent what.

    Attributes:
        terms: The contract that the history carries.
    """

    terms: Terms

    def __call__(self, session: Session, history: Snapshot, _: Snapshot) -> Iterator[pa.RecordBatch]:
        """Rows of `ANSWER`; `Surveyed` adds up those of all portions."""
        conversion = Conversion(session, history, self.terms)
        tallies = conversion.tallies()
        said: list[tuple[str, object]] = [(TALLY, [name, asdict(tally)]) for name, tally in tallies.items()]
        if any(tally.unfit_retyped or tally.unfit_filled for tally in tallies.values()):
            said += [(UNFIT, [delivery, asdict(one)]) for delivery, one in conversion.unfit_by_delivery()]
        said += [(SENT, [name, sorted(ids)]) for name, ids in conversion.sent().items()]
        said += [(NO_ZONE, list(one)) for one in conversion.without_zone()]
        rows = [{"kind": kind, "said": json.dumps(body)} for kind, body in said]
        yield from pa.Table.from_pylist(rows, schema=ANSWER).to_batches()


class Convert(Struct, frozen=True):
    """The rows under the new contract.

    Attributes:
        terms: The contract that the history carries.
    """

    terms: Terms

    def __call__(self, session: Session, history: Snapshot, _: Snapshot) -> Iterator[pa.RecordBatch]:
        """Rows with the columns of `converted_columns`."""
        yield from session.con.sql(Conversion(session, history, self.terms).rows_sql()).to_arrow_reader(_OUT_ROWS)


class Fold(Struct, frozen=True):
    """The target's rows of the keys of a portion, which has all their rows.

    Attributes:
        done: The last batch that counts.
    """

    done: int

    def __call__(self, session: Session, history: Snapshot, ledger: Snapshot) -> Iterator[pa.RecordBatch]:
        """Rows with the columns of the target, and `KEY`."""
        rows = find_bearers(session, history, ledger, self.done).rows_sql()
        key = contract_key_sql(session.config.contract)
        yield from session.con.sql(f"SELECT *, {key} AS {KEY} FROM ({rows})").to_arrow_reader(_OUT_ROWS)


class Surveyed:
    """`Converted`, from the answers of `Survey` for all portions.

    Args:
        answers: Rows of `ANSWER`.
    """

    def __init__(self, answers: Iterable[tuple[str, str]]) -> None:
        self._tallies: dict[str, Tally] = {}
        self._unfit: list[tuple[str | None, Unfit]] = []
        self._sent: dict[str, set[str]] = {}
        self._without_zone: Counter[tuple[str, str]] = Counter()
        for kind, said in answers:
            self._take(kind, json.loads(said))

    def _take(self, kind: str, body: Any) -> None:  # noqa: ANN401 - JSON
        if kind == TALLY:
            name, numbers = body
            before = asdict(self._tallies.get(name, Tally()))
            self._tallies[name] = Tally(**{of: before[of] + number for of, number in numbers.items()})
        elif kind == UNFIT:
            delivery, one = body
            self._unfit.append((delivery, Unfit(**one)))
        elif kind == SENT:
            name, ids = body
            self._sent.setdefault(name, set()).update(ids)
        else:
            vendor, name, number = body
            self._without_zone[vendor, name] += number

    def tallies(self) -> Mapping[str, Tally]:
        """See `Converted.tallies`."""
        return self._tallies

    def unfit(self) -> Sequence[Unfit]:
        """See `Converted.unfit`."""
        found = sorted(self._unfit, key=_place)
        return [one for _, one in found[:UNFIT_SHOWN]]

    def sent(self) -> Mapping[str, set[str]]:
        """See `Converted.sent`."""
        return self._sent

    def without_zone(self) -> Sequence[tuple[str, str, int]]:
        """See `Converted.without_zone`."""
        return [(*of, number) for of, number in sorted(self._without_zone.items())]


def _place(found: tuple[str | None, Unfit]) -> tuple[bool, str, bool, int, str]:
    """The order of deliveries, rows and columns; what has no place comes last."""
    delivery, one = found
    return delivery is None, delivery or "", one.file_row is None, one.file_row or 0, one.column
