"""What a config says is tried in DuckDB before a file is read: a mistake is told with its key, by no failing pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ordertrail.begin import doctor
from ordertrail.config import Config, parse_config
from ordertrail.errors import ConfigError
from ordertrail.look.plan import plan_files
from ordertrail.model import Column, Vendor
from ordertrail.parse.compiled import refuse_rules, refuse_unreadable
from ordertrail.parse.database import connect
from ordertrail.pipeline import Pipeline

PIPELINE = '[pipeline]\nsource = "in"\narchive = "done"\nwarehouse = "tables"\nsettle_s = 0\n'
NO_CLASS = """
[[contract.columns]]
name = "tracking_num"
type = "string"
pattern = "[[:nothing:]]+"
[[contract.columns]]
name = "last_update_timestamp"
type = "timestamp"
"""


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    con = connect(1, 512, tmp_path_factory.mktemp("spill"))
    yield con
    con.close()


def config_of(folder: Path, more: str = "") -> Config:
    (folder / "in").mkdir(exist_ok=True)
    return parse_config(PIPELINE + more, base=folder, environ={}, file=folder / "ordertrail.toml")


def test_a_pattern_that_only_duckdb_refuses_is_a_mistake_in_the_config(tmp_path: Path) -> None:
    config = config_of(tmp_path, NO_CLASS)
    sample = tmp_path / "in" / "a_2026_11_23.csv"
    sample.write_text("tracking_num,last_update_timestamp\nK1,2026-11-23 08:00:00\n", encoding="utf-8")
    for refused in (lambda: Pipeline(config).run(), lambda: plan_files(config, [sample])):
        with pytest.raises(ConfigError) as caught:
            refused()
        assert "ordertrail.toml: contract.columns[tracking_num].pattern = '[[:nothing:]]+'" in caught.value.message
        assert "RE2" in str(caught.value.hint)
    assert not (tmp_path / "tables").exists() or not list((tmp_path / "tables").rglob("*.json"))
    assert sample.exists()


def test_doctor_says_the_same(tmp_path: Path) -> None:
    config_of(tmp_path)
    file = tmp_path / "ordertrail.toml"
    file.write_text(PIPELINE + NO_CLASS, encoding="utf-8")
    [found] = [one for one in doctor.examine(file).findings if one.name == "config"]
    assert (found.health, "contract.columns[tracking_num].pattern" in found.detail) == ("fail", True)


def test_a_vendors_pattern_is_named_with_the_vendor(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    config = config_of(tmp_path)
    acme = Vendor("acme", formats=(("last_update_timestamp", ("%Y-%m-%d", "%Q")),))
    broken = replace(config, vendors=(acme,))
    with pytest.raises(ConfigError, match=r"vendors\[acme\]\.formats\.last_update_timestamp = '%Q': DuckDB"):
        refuse_unreadable(broken, con)


@pytest.mark.parametrize("kind", ["date", "timestamp"])
def test_fractions_and_offsets_in_one_pattern_are_no_mistake(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, kind: str
) -> None:
    config = config_of(tmp_path)
    column = Column("x", kind, formats=("%d.%m.%Y %H:%M:%S.%n %z", "%Y-%m-%d %H:%M:%S.%f %Z"), min="2020-01-01")
    wider = replace(config, contract=replace(config.contract, columns=(*config.contract.columns, column)))
    refuse_unreadable(wider, con)
    refuse_rules(wider, con)


def test_nothing_to_try_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb, "connect", lambda *_: pytest.fail("DuckDB was opened"))
    refuse_unreadable(config_of(tmp_path))


TOKENS = (
    "a", "[A-Z0-9]", r"\d", r"\w+", "(", ")", "(?:", "(?P<n>", "|", "*", "+", "?", "{2}", "{1,3}", "{2,}", ".", r"\.",
    "^", "$", r"\b", "[^,]", r"[\d-]", "(?i:", "(?=", "(?<!", "(?>", r"\1", "++", "{,2}", "(?#x)", r"\Z", "(?a:", "}",
    r"\x41", r"[\u0041]", "é", " ", "-", "'", "{1001}",
)  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=8).map("".join))
def test_a_pattern_that_the_config_takes_is_one_that_re2_reads(con: duckdb.DuckDBPyConnection, pattern: str) -> None:
    try:
        config = parse_config(
            PIPELINE + NO_CLASS.replace('"[[:nothing:]]+"', toml(pattern)), base=Path("/x"), environ={}
        )
    except ConfigError:
        return
    refuse_unreadable(config, con)


def toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
