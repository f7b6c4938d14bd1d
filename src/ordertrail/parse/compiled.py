"""Try in DuckDB what a config says before any file is read: time patterns, regular expressions, bounds, whole rules.

The config's own check is pure and cannot know all that DuckDB refuses. A pattern that slipped through would fail while
files are staged, pass after pass; tried here, it is reported as a mistake in the config, with its key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import duckdb
from msgspec import Struct

from ordertrail.config import Config
from ordertrail.errors import ConfigError
from ordertrail.model import Column
from ordertrail.parse.kernel import Kernel
from ordertrail.rules.cell_sql import sql_type
from ordertrail.rules.headers import map_header
from ordertrail.rules.sql import quoted
from ordertrail.rules.times import time_pattern

_TEXT = "CAST(NULL AS VARCHAR)"
_FORMAT_HINT = "write another strptime pattern, such as %d/%m/%Y %H:%M:%S"
_PATTERN_HINT = "write it as RE2 has it: https://github.com/google/re2/wiki/Syntax"
_VALUE_HINT = "write it as it would stand in a file"


class _Said(Struct, frozen=True):
    """One setting that ends up in SQL: its key, its value, and SQL that contains it."""

    key: str
    value: str
    sql: str
    hint: str


def refuse_unreadable(config: Config, con: duckdb.DuckDBPyConnection | None = None) -> None:
    """Try every pattern and bound of a config on an empty input; costs nothing when there are none.

    Args:
        config: Checked.
        con: DuckDB connection to try them in; None opens one if there is something to try.

    Raises:
        ConfigError: DuckDB refuses one of them; the message names the key and the value.
    """
    said = list(_said(config))
    if not said:
        return
    if con is None:
        with closing(duckdb.connect()) as opened:
            _try(config, said, opened)
    else:
        _try(config, said, con)


def refuse_rules(config: Config, con: duckdb.DuckDBPyConnection) -> None:
    """Compile the complete row rules of every vendor on an empty input: tens of milliseconds each, so for `doctor`.

    Args:
        config: One that has passed `refuse_unreadable`.
        con: From `kernel.connect`.

    Raises:
        ConfigError: DuckDB refuses the rules of a vendor.
    """
    for vendor in config.vendors:
        header = tuple(name for name in config.contract.names if name not in vendor.absent)
        kernel = Kernel(con, config.contract, vendor, map_header(header, config.contract, vendor))
        try:
            kernel.compile()
        except duckdb.Error as error:
            place = f"{config.file or 'config'}: vendors[{vendor.name}]"
            hint = "remove settings of the vendor and of the contract's columns one by one until it passes"
            raise ConfigError(f"{place}: its row rules do not compile: {_first_line(error)}", hint=hint) from error


def _try(config: Config, said: list[_Said], con: duckdb.DuckDBPyConnection) -> None:
    try:
        con.execute(f"SELECT {', '.join(one.sql for one in said)}").fetchall()
    except duckdb.Error:
        for one in said:
            _try_one(config, one, con)
        raise


def _try_one(config: Config, said: _Said, con: duckdb.DuckDBPyConnection) -> None:
    try:
        con.execute(f"SELECT {said.sql}").fetchall()
    except duckdb.Error as error:
        place = f"{config.file or 'config'}: {said.key} = {said.value!r}"
        raise ConfigError(f"{place}: DuckDB cannot read it: {_first_line(error)}", hint=said.hint) from error


def _said(config: Config) -> Iterator[_Said]:
    for column in config.contract.columns:
        where = f"contract.columns[{column.name}]"
        yield from _formats(f"{where}.formats", column.formats, ())
        yield from _rules(where, column)
    for vendor in config.vendors:
        for name, patterns in vendor.formats:
            yield from _formats(f"vendors[{vendor.name}].formats.{name}", patterns, vendor.zones)


def _formats(key: str, patterns: tuple[str, ...], zones: tuple[tuple[str, str], ...]) -> Iterator[_Said]:
    for text in patterns:
        pattern = time_pattern(text, zones)
        yield _Said(key, text, f"({pattern.wall(_TEXT)}, {pattern.offset_us(_TEXT)})", _FORMAT_HINT)


def _rules(where: str, column: Column) -> Iterator[_Said]:
    if column.pattern is not None:
        sql = f"regexp_full_match({_TEXT}, {quoted(column.pattern)})"
        yield _Said(f"{where}.pattern", column.pattern, sql, _PATTERN_HINT)
    bounds = (("min", column.min), ("max", column.max), *(("allowed", value) for value in column.allowed))
    for name, value in bounds:
        if value is not None:
            yield _Said(f"{where}.{name}", value, f"CAST({quoted(value)} AS {sql_type(column.type)})", _VALUE_HINT)


def _first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0]
