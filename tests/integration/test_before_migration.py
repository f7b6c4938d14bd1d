"""The config has another contract than the tables: what every command says before `ordertrail migrate --apply`.

Commands that write refuse, with one cure; commands that look show the tables as they are, and say so on stderr.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from deltalake import DeltaTable
from deltalake.schema import Field, PrimitiveType

from ordertrail.cli import cli
from ordertrail.config import load_config
from ordertrail.pipeline import Pipeline
from tests.harness import without_fsync

CONFIG = """
[pipeline]
source = "source"
archive = "archive"
warehouse = "warehouse"
settle_s = 0
max_reject_share = 0.5
[contract]
key = ["tracking_num"]
order_by = "ts"
status = "status"
status_rank = ["NEW", "DONE"]
[[contract.columns]]
name = "tracking_num"
type = "string"
required = true
[[contract.columns]]
name = "status"
type = "string"
[[contract.columns]]
name = "ts"
type = "timestamp"
required = true
[[contract.columns]]
name = "qty"
type = "string"
[[vendors]]
name = "acme"
files = "*.csv"
"""
FIRST = """tracking_num,status,ts,qty,Weight
K1,NEW,2026-11-20 08:00:00,1,1.5
K1,DONE,2026-11-21 08:00:00,10,2.5
K2,NEW,2026-11-21 08:00:00,12 pcs,heavy
"""

Call = Callable[..., Result]
STATUS = (('status = "status"', 'status = "state"'), ('name = "status"', 'name = "state"\nwas = ["status"]'))
KEY = (
    ('key = ["tracking_num"]', 'key = ["parcel"]'),
    ('name = "tracking_num"', 'name = "parcel"\nwas = ["tracking_num"]'),
)
TYPE = (('name = "qty"\ntype = "string"', 'name = "qty"\ntype = "int"'),)
DROP = (('[[contract.columns]]\nname = "qty"\ntype = "string"\n', ""),)
CHANGES = [STATUS, KEY, TYPE, DROP]
changed = pytest.mark.parametrize("change", CHANGES, ids=["status", "key", "type", "drop"])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline and its first batch, to copy."""
    folder = tmp_path_factory.mktemp("loaded")
    (folder / "source").mkdir()
    (folder / "ordertrail.toml").write_text(CONFIG)
    (folder / "source" / "a_20261120.csv").write_text(FIRST)
    with without_fsync():
        Pipeline(load_config(folder / "ordertrail.toml")).run()
    return folder


@pytest.fixture
def call(loaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    shutil.copytree(loaded, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, list(words))
        assert result.exit_code == code, result.output
        return result

    with without_fsync():
        yield invoke


def turn(*pairs: tuple[str, str]) -> None:
    """Change lines of the config."""
    text = Path("ordertrail.toml").read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    Path("ordertrail.toml").write_text(text)


def target() -> DeltaTable:
    return DeltaTable("warehouse/incremental_load/default/orders_target")


# -- before a migration -----------------------------------------------------------------------------------------------


@pytest.mark.series
@changed
def test_who_looks_sees_the_tables_as_they_are_and_is_told(call: Call, change: tuple[tuple[str, str], ...]) -> None:
    queries = ("FROM orders_target ORDER BY ALL", "FROM orders_history ORDER BY ALL")
    before = [json.loads(call("query", "--json", sql).stdout) for sql in queries]
    exported = call("export", "target", "-o", "before.csv")
    tracked = json.loads(call("track", "K1", "--json").stdout)
    assert "Note" not in exported.stderr
    turn(*change)
    for sql, expected in zip(queries, before, strict=True):
        found = call("query", "--json", sql)
        assert json.loads(found.stdout) == expected
        (line,) = found.stderr.splitlines()
        assert line.startswith("Note: the tables carry another contract than the config: ")
        assert line.endswith("; ordertrail migrate says what it takes")
    found = call("track", "K1", "--json")
    assert json.loads(found.stdout) == tracked
    assert found.stderr.startswith("Note: the tables carry another contract")
    assert "DONE" in call("track", "K1").stdout
    assert "ordertrail migrate" in call("export", "target", "-o", "after.csv").stderr
    assert Path("after.csv").read_text() == Path("before.csv").read_text()
    rows = Pipeline(load_config(Path("ordertrail.toml"))).target().to_arrow()
    assert {"tracking_num", "status", "qty"} <= set(rows.column_names)
    assert "K1" in call("query", "--as-of", "batch 1", "SELECT tracking_num FROM orders_target").stdout


@pytest.mark.parametrize("change", [STATUS, DROP], ids=["status", "drop"])
def test_health_and_status_say_it_in_one_line(call: Call, change: tuple[tuple[str, str], ...]) -> None:
    assert json.loads(call("health", "--json").stdout)["healthy"]
    turn(*change)
    (item,) = json.loads(call("health", "--json", code=3).stdout)["items"]
    assert (item["kind"], item["key"], item["severity"]) == ("contract", "tables:contract", "critical")
    assert item["text"].startswith("the tables carry another contract than the config: ")
    assert item["next"] == "ordertrail migrate"
    assert json.loads(call("status", "--json").stdout)["open_items"] == [item]
    call("migrate", "--apply")
    assert json.loads(call("health", "--json").stdout)["healthy"]


@pytest.mark.parametrize("change", [KEY, TYPE], ids=["key", "type"])
def test_verify_names_migrate_and_proves_the_rest(call: Call, change: tuple[tuple[str, str], ...]) -> None:
    turn(*change)
    (wrong,) = [one for one in json.loads(call("verify", "--json", code=3).stdout)["checks"] if not one["ok"]]
    assert wrong["name"] == "every data file is what its table and the contract say"
    assert wrong["hint"].startswith("ordertrail migrate says what it takes")
    call("maintain")
    call("migrate", "--apply")
    call("verify")


def test_columns_that_the_next_pass_adds_need_nobody(call: Call) -> None:
    """They are read as NULL before it, as ever."""
    turn(("[[vendors]]", '[[contract.columns]]\nname = "depot"\ntype = "string"\n[[vendors]]'))
    found = call("query", "SELECT depot FROM orders_target")
    assert ("NULL" in found.stdout, found.stderr) == (True, "")
    assert json.loads(call("health", "--json").stdout)["healthy"]


def test_a_required_column_is_one_difference_of_three_tables(call: Call) -> None:
    column = '[[contract.columns]]\nname = "depot"\ntype = "string"\nrequired = true\n'
    turn(("[[vendors]]", f"{column}[[vendors]]"))
    (item,) = json.loads(call("health", "--json", code=3).stdout)["items"]
    assert "new column depot (string) that is required" in item["text"]
    assert " more" not in item["text"]


def test_a_required_column_where_no_row_lacks_it(call: Call) -> None:
    """A pass does not add it, so nothing says that it does; `migrate --apply` does."""
    shutil.rmtree("warehouse")
    shutil.rmtree("archive")
    Path("source/.ordertrail").unlink(missing_ok=True)
    Path("source/b_20261120.csv").write_text("a,b\n1,2\n")
    call("run", code=3)
    column = '[[contract.columns]]\nname = "depot"\ntype = "string"\nrequired = true\n'
    turn(("[[vendors]]", f"{column}[[vendors]]"))
    call("run", code=2)
    said = call("migrate").stdout
    assert "depot is required from now on" in said
    assert "by itself" not in said
    call("migrate", "--apply")
    Path("source/c_20261122.csv").write_text("tracking_num,status,ts,qty,depot\nK3,NEW,2026-11-22 08:00:00,7,N\n")
    call("run")
    call("verify")


# -- names that are in use --------------------------------------------------------------------------------------------


def hinted(text: str, name: str) -> None:
    """Do as the hint says: another name, and an alias for who sends it."""
    assert f'give it another name in [contract], such as name = "{name}_2"' in text
    alias = f'aliases = {{ {name}_2 = ["{name}"] }}'
    assert f"vendors that send it {alias}" in text
    turn((f'name = "{name}"', f'name = "{name}_2"'), ('files = "*.csv"', f'files = "*.csv"\n{alias}'))


def test_a_name_that_the_history_keeps(call: Call) -> None:
    turn(*DROP)
    call("migrate", "--apply")
    turn(("[[vendors]]", f"{DROP[0][0]}[[vendors]]"))
    for command in ("run", "migrate"):
        found = call(command, code=2)
        assert "orders_history still has one of that name (string), which was taken out of the contract" in found.stderr
    hinted(found.stderr, "qty")
    Path("source/a_20261122.csv").write_text("tracking_num,status,ts,qty\nK3,NEW,2026-11-22 08:00:00,77\n")
    call("run")
    assert "77" in call("query", "SELECT qty_2 FROM orders_target WHERE tracking_num = 'K3'").stdout
    call("verify")


@pytest.mark.parametrize("theirs", ["weight", "Weight"])
def test_a_name_of_somebody_elses_column(call: Call, theirs: str) -> None:
    target().alter.add_columns([Field(theirs, PrimitiveType("string"), nullable=True)])
    turn(("[[vendors]]", '[[contract.columns]]\nname = "weight"\ntype = "decimal(8,2)"\n[[vendors]]'))
    for command in ("run", "migrate"):
        found = call(command, code=2)
        assert "somebody else added one of that name" in found.stderr
    hinted(found.stderr, "weight")
    call("run")
    call("migrate", "--apply")
    assert "2.50" in call("query", "SELECT weight_2 FROM orders_target").stdout
    call("verify")


def test_a_name_that_differs_in_capital_letters(call: Call) -> None:
    turn(('name = "qty"', 'name = "Qty"'))
    for command in ("run", "migrate"):
        found = call(command, code=2)
        assert "the contract says Qty, but in the tables the column is qty" in found.stderr
        assert 'write name = "qty" in [contract]' in found.stderr
    assert "12 pcs" in call("track", "K2").stdout
    turn(('name = "Qty"', 'name = "qty"'))
    call("run")
