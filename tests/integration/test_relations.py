"""The relations of a load are what `engines.local.relations` says: their columns, their makers, and what rules read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast
from unittest import mock

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from ordertrail.delta.alter import alter
from ordertrail.engines.embedded.stage import read_staged
from ordertrail.engines.local import relations
from ordertrail.engines.local.append import AppendWeighing
from ordertrail.engines.local.append_correct import AppendCorrection
from ordertrail.engines.local.correct import CorrectionWeighing
from ordertrail.engines.local.others import carry, carry_by_key
from ordertrail.engines.local.relations import (
    BATCH_DELIVERIES,
    FILE_KEYS,
    FIRSTS,
    KNOWN_TIMES,
    LOADED,
    OUTCOMES,
    RELATIONS,
    REPEATED,
    STAGED_ROWS,
    STANDING,
    WRITTEN,
    Relation,
    RunSql,
)
from ordertrail.engines.local.session import Session, app_id_of, tables_of
from ordertrail.engines.local.weigh import LocalWeighing
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind, no_probe
from ordertrail.parse.database import connect
from ordertrail.rules import corrections, outcomes, placing, shares
from ordertrail.rules.tables import TableColumn
from tests.feeds import Layout, cells, csv_bytes, dated
from tests.harness import House, open_house

VENDORS = '[[vendors]]\nname = "blue"\nfiles = "b*.csv"\nabsent = ["address"]\n[[vendors]]\nname = "acme"\n'
NO_ADDRESS = Layout(order=(0, 1, 2, 3, 4, 6))
PACKAGE = Path(relations.__file__).parents[2]
THEIRS = TableColumn("note", "string", "somebody else's")
# What the rules' texts read beside relations: steps of their own, and what an engine puts before them.
OF_CORRECTIONS = [one for one in RELATIONS if one.maker == "local.correct"]
OF_APPENDING_CORRECTIONS = [one for one in RELATIONS if one.maker == "local.append_correct"]
OF_APPEND = (STANDING, FIRSTS, WRITTEN, *OF_APPENDING_CORRECTIONS)
OF_FILES = (FILE_KEYS, KNOWN_TIMES)
STEPS = {"known", "weighed", "folded_content", "rows"}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Of every relation of a load that makes them all: its columns with DuckDB's types, by its name."""
    house = open_house(tmp_path_factory.mktemp("relations"), VENDORS)
    house.drop(dated(20), csv_bytes([cells(f"{n:04d}", "2026-11-20 10:00:00") for n in range(9)]))
    house.run()
    house.drop(dated(21), csv_bytes([cells("0008", "2026-11-20 10:00:00", address="Elm St 2")]))
    house.stage()
    with opened(house) as session:  # only where no delivery lacks a column is asked whether rows tie
        LocalWeighing(session, read_staged(session)).weigh(session.tables.target.snapshot().version)
        made = describe(session, [LOADED])
    house.load()
    theirs = DeltaTable(house.table_path("target"))
    two = QueryBuilder().register("t", theirs).execute("SELECT * FROM t LIMIT 2")
    write_deltalake(theirs, pa.table(two), mode="append")
    tables = tables_of(house.config)
    alter(tables.target, tables.target.snapshot(), [THEIRS])
    house.drop(
        f"b{dated(21)}", csv_bytes([cells(f"{n:04d}", "2026-11-21 10:00:00") for n in (*range(12), 1)], NO_ADDRESS)
    )
    house.stage()
    with opened(house) as session:
        weighing = LocalWeighing(session, read_staged(session))
        target = session.tables.target.snapshot()
        weighing.weigh(target.version)
        assert carry(session, weighing.change.weighed, target, [THEIRS]) is not None
        carry_by_key(session, target, [THEIRS])
        made |= describe(
            session, [one for one in RELATIONS if one not in (*OF_CORRECTIONS, *OF_APPEND, *OF_FILES, LOADED)]
        )
    house.run()
    first = house.delivery(dated(20))["delivery_id"]
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.UNDO, (str(first),), "a test", "me")))
    with opened(house) as session:
        CorrectionWeighing(session, read_staged(session)).weigh(session.tables.target.snapshot().version - 1)
        again = describe(session, [BATCH_DELIVERIES, STAGED_ROWS, REPEATED, OUTCOMES])
        assert again == {name: made[name] for name in again}
        made |= describe(session, OF_CORRECTIONS)
    made |= described_of_files(tmp_path_factory.mktemp("files"))
    return made | described_of_append(tmp_path_factory.mktemp("append"))


def described_of_files(folder: Path) -> dict[str, dict[str, str]]:
    """The relations by which the keys of files are compared with the target; they are emptied afterwards."""
    house = open_house(folder, '[[vendors]]\nname = "acme"\nmax_new_share = 0.5\n')
    made: dict[str, dict[str, str]] = {}

    def described(relation: Relation, run: RunSql) -> Relation:
        rows = cast(Session, getattr(run, "__self__")).run(f"DESCRIBE {relation}")  # noqa: B009 - a bound method
        made[relation.name] = {str(name): str(kind) for name, kind, *_ in rows}
        return relation

    with mock.patch.object(Relation, "make_empty", described):
        for day in (20, 21):
            house.drop(dated(day), csv_bytes([cells("1", "2026-11-20 10:00:00")]))
            house.run()
    return made


def described_of_append(folder: Path) -> dict[str, dict[str, str]]:
    """The relations of a target that keeps all rows; those that are empty there have the same columns as elsewhere."""
    house = open_house(folder, 'mode = "append"\n')
    for day in (20, 21):
        house.drop(dated(day), csv_bytes([cells(f"{n:04d}", "2026-11-20 10:00:00") for n in (day, 1, 1)]))
        house.run()
    with opened(house) as session:
        AppendWeighing(session, read_staged(session)).weigh_again(session.tables.target.snapshot().version)
        made = describe(session, [WRITTEN])
        AppendWeighing(session, read_staged(session)).weigh(session.tables.target.snapshot().version - 1)
        made |= describe(session, [STANDING, FIRSTS])
    first = house.delivery(dated(20))["delivery_id"]
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.UNDO, (str(first),), "a test", "me")))
    with opened(house) as session:
        AppendCorrection(session, read_staged(session)).weigh(session.tables.target.snapshot().version - 1)
        return made | describe(session, OF_APPENDING_CORRECTIONS)


@contextmanager
def opened(house: House) -> Iterator[Session]:
    """A session on the tables."""
    tables = tables_of(house.config)
    with closing(connect(1, 256, house.config.warehouse / "spill")) as con, ThreadPoolExecutor(1) as pool:
        yield Session(house.config, con, pool, tables, app_id_of(tables.stage.snapshot()), no_probe)


def describe(session: Session, some: Sequence[Relation]) -> dict[str, dict[str, str]]:
    """The columns of relations with DuckDB's types, by the names of the relations."""
    return {one.name: {str(name): str(kind) for name, kind, *_ in session.run(f"DESCRIBE {one}")} for one in some}


@pytest.mark.parametrize("relation", RELATIONS, ids=str)
def test_the_columns_are_those_that_duckdb_has(described: dict[str, dict[str, str]], relation: Relation) -> None:
    found, declared = described[relation.name], dict(relation.columns)
    if relation.more:
        assert len(found) > len(declared)
        found = dict(list(found.items())[: len(declared)])
    assert list(found.items()) == list(declared.items())


def test_every_relation_is_in_the_list_once() -> None:
    declared = [one for one in vars(relations).values() if isinstance(one, Relation)]
    assert sorted(map(str, declared)) == sorted(map(str, RELATIONS))
    assert len({one.name for one in RELATIONS}) == len(RELATIONS)


def test_each_is_made_by_its_maker_alone_and_named_nowhere_else_in_sql() -> None:
    """A name in a string would be read whether or not the relation was made."""
    names = "|".join(one.name for one in RELATIONS)
    named = re.compile(rf"(?:FROM|JOIN|VIEW|TABLE) ({names})\b")
    for path in PACKAGE.glob("**/*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if module.startswith("engines.spark.weigh") or module in {
            "rules.outcomes",
            "rules.placing",
            "rules.corrections",
            "rules.shares",
        }:
            continue  # Spark's own relations of these names, and the rules' texts
        assert not named.findall(path.read_text()), module
    for constant, relation in vars(relations).items():
        if isinstance(relation, Relation):
            maker = (PACKAGE / "engines" / Path(*relation.maker.split("."))).with_suffix(".py").read_text()
            assert constant in maker
            assert ".make(" in maker


@pytest.mark.parametrize("module", [outcomes, placing, corrections, shares], ids=lambda one: one.__name__)
def test_what_the_rules_read_is_declared_with_them_as_readers(module: object) -> None:
    texts = [value for value in vars(module).values() if isinstance(value, str)]
    read = {name for text in texts for name in re.findall(r"(?:FROM|JOIN) ([a-z_]+)\b", text)} - STEPS
    name = str(getattr(module, "__name__", "")).removeprefix("ordertrail.")
    assert read <= {one.name for one in RELATIONS if name in one.readers} | {"t"}
