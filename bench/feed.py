"""Big feeds, made by DuckDB in seconds, and a fast independent answer to what the target must hold after them.

Everything is a function of the arguments: the same call writes the same bytes (with one version of DuckDB, whose
`hash` is the source of variety). The files are for one vendor, `default`, and the default contract.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

FIRST_DAY = date(2024, 1, 1)
UPDATES_PER_SHIPMENT = 5
COLUMNS = (
    "order_num",
    "tracking_num",
    "pck_recieved_date",
    "package_deliver_date",
    "status",
    "address",
    "last_update_timestamp",
)
STATUS_RANK = (
    "ORDER_PLACED",
    "LABEL_CREATED",
    "PICKED_UP",
    "IN_TRANSIT",
    "OUT_FOR_DELIVERY",
    "EXCEPTION",
    "DELIVERED",
    "RETURNED",
)
STREETS = ("Main Street", "Elm Street", "Lindenstraße", "Rue d'Été", "2nd Avenue", "Station Road")
CITIES = (
    "Springfield, IL 62704, US",
    "Köln, NW 50667, DE",
    "Lyon, RA 69001, FR",
    "Austin, TX 73301, US",
    "Leeds, LS1 4DY, GB",
)

# A product with a number coprime to 10^10 sends different shipments to different ten-digit numbers, spread at random.
_TRACKING = "lpad((shipment * 7368787 % 10000000000)::varchar, 10, '0')"
_ASCENDING = "lpad(shipment::varchar, 10, '0')"
_ADDRESS = """(1 + dice(shipment, 20, 9999))::varchar || ' ' || $streets[1 + dice(shipment, 21, len($streets))]
    || ', ' || $cities[1 + dice(shipment, 22, len($cities))]"""

_BIG = f"""
SELECT 'ORD-' || lpad(shipment::varchar, 10, '0') AS order_num,
    '1Z999AA1' || {{tracking}} AS tracking_num,
    $day - (3 + age)::integer AS pck_recieved_date,
    CASE WHEN step = 7 THEN $day - age END AS package_deliver_date,
    $ranks[step] AS status,
    {_ADDRESS} AS address,
    $day - age + to_seconds(dice(shipment, 3, 86400)) AS last_update_timestamp
FROM (
    SELECT range AS shipment, dice(range, 1, 30)::integer AS age, 1 + dice(range, 2, 8) AS step
    FROM range($first, $first + $rows)
)
"""

_BATCH = f"""
SELECT 'ORD-' || lpad(shipment::varchar, 10, '0') AS order_num,
    '1Z999AA1' || {{tracking}} AS tracking_num,
    $day - 3 AS pck_recieved_date,
    CASE WHEN step = 7 THEN $day END AS package_deliver_date,
    $ranks[step] AS status,
    {_ADDRESS} AS address,
    $day + to_seconds(dice(shipment, 3, 86400)) AS last_update_timestamp
FROM (SELECT shipment, 1 + dice(shipment, 2, 8) AS step FROM picked)
"""

# Each shipment has a row of its own; the other rows tell of shipments picked at random. All of a shipment's rows have
# different times, whatever the window: a pick whose time would be that of the shipment's own row is the next shipment.
_REPEATED = f"""
SELECT 'ORD-' || lpad(shipment::varchar, 10, '0') AS order_num,
    '1Z999AA1' || {_TRACKING} AS tracking_num,
    $day - (3 + dice(shipment, 1, 30))::integer AS pck_recieved_date,
    CASE WHEN step = 7 THEN $day - dice(shipment, 1, 30)::integer END AS package_deliver_date,
    $ranks[step] AS status,
    {_ADDRESS} AS address,
    $day - to_seconds(i % $window_s) AS last_update_timestamp
FROM (
    SELECT i, 1 + dice(i, 2, 8) AS step,
        CASE WHEN i = pick OR i % $window_s <> pick % $window_s THEN pick ELSE (pick + 1) % $shipments END AS shipment
    FROM (
        SELECT range AS i, CASE WHEN range < $shipments THEN range ELSE dice(range, 40, $shipments) END AS pick
        FROM range($rows)
    )
)
ORDER BY hash(i)
"""
_REPEATED_WINDOW_S = 90 * 86_400

# Row i of the feed repeats row j: itself, the row above (an exact repeat in the file), or the row at its place in the
# file of the day before (an exact repeat in a later file). Of each j: its day, its shipment (born on one of the last
# ten days), its kind, and so its cells. A late row (kind below 5) tells of an earlier day. A correction (below 15) is
# of one shipment in ten, has any status and, with all others of the shipment in its two days, one time: 23:00 of the
# second, at most 47 h beyond the file's date. So ties with other content, within a file and across files, often decide.
_DAYS = f"""
CREATE TABLE feed AS
WITH source AS (
    SELECT range AS i, CASE
        WHEN range % $per_file > 0 AND dice(range, 1, 100) < 2 THEN range - 1
        WHEN range >= $per_file AND dice(range, 1, 100) < 7 THEN range - $per_file
        ELSE range END AS j
    FROM range($files * $per_file)
), update_of AS (
    SELECT i, j, day, kind, birth,
        $born * birth + CASE WHEN kind >= 5 AND kind < 15 THEN pick - pick % 10 ELSE pick END AS shipment
    FROM (
        SELECT i, j, j // $per_file AS day, dice(j, 4, 100) AS kind, dice(j, 3, $born) AS pick,
            greatest(0, j // $per_file - dice(j, 2, 10)) AS birth
        FROM source
    )
), cell AS (
    SELECT *,
        CASE WHEN kind >= 5 AND kind < 15 THEN dice(j, 9, 8) ELSE least(day - birth + dice(j, 5, 2), 7) END AS step,
        CASE
        WHEN kind < 5 THEN to_days((day - 1 - dice(j, 6, 5))::integer) + to_hours(dice(j, 7, 24))
        WHEN kind < 15 THEN to_days((day // 2 * 2 + 1)::integer) + to_hours(23)
        ELSE to_days(day::integer) + to_hours(dice(j, 7, 24)) END AS since
    FROM update_of
)
SELECT i,
    'ORD-' || lpad(shipment::varchar, 8, '0') AS order_num,
    CASE WHEN shipment % 10 = 0 THEN '00' ELSE '1Z999AA1' END || {_TRACKING} AS tracking_num,
    $day + birth::integer AS pck_recieved_date,
    CASE WHEN step = 6 THEN $day + day::integer END AS package_deliver_date,
    CASE WHEN kind = 99 THEN NULL WHEN kind = 98 THEN 'LOST' ELSE $ranks[1 + step] END AS status,
    {_ADDRESS} || CASE WHEN kind % 10 = 5 THEN ', Apt ' || dice(j, 8, 9)::varchar ELSE '' END AS address,
    $day + since AS last_update_timestamp
FROM cell ORDER BY i
"""

_EXPECTED = """
WITH typed AS (
    SELECT order_num, trim(tracking_num) AS tracking_num, pck_recieved_date::date AS pck_recieved_date,
        package_deliver_date::date AS package_deliver_date, status, address,
        last_update_timestamp::timestamp AS last_update_timestamp, file_day,
        coalesce(list_position($ranks, status) - 1, CASE WHEN status IS NULL THEN -2 ELSE -1 END) AS rank, path, row
    FROM arrived
), numbered AS (
    SELECT *, row_number() OVER (
        PARTITION BY tracking_num ORDER BY last_update_timestamp DESC, file_day DESC, rank DESC, path DESC, row DESC
    ) AS place
    FROM typed
)
SELECT order_num, tracking_num, pck_recieved_date, package_deliver_date, status, address, last_update_timestamp
FROM numbered WHERE place = 1 ORDER BY tracking_num
"""


def big_file(path: Path, rows: int, seed: int = 7, *, first: int = 0, ascending: bool = False) -> None:
    """Write one file of shipments that are all different, about 120 bytes a row.

    Args:
        path: Its name holds the file's date as `yyyy_mm_dd`; all events are on that day or in the 29 before.
        rows: At most 10^10.
        seed: Other seeds give other cells for the same tracking numbers.
        first: Number of the first shipment; files of other ranges have other tracking numbers.
        ascending: Tracking numbers rise with the shipments; otherwise they are spread at random.

    Raises:
        ValueError: No such date in the name.
    """
    query = _BIG.format(tracking=_ASCENDING if ascending else _TRACKING)
    with _connect(seed) as connection:
        _copy(connection, query, path, {**_pools(), "day": _day(path), "first": first, "rows": rows})


def repeated_file(path: Path, rows: int, shipments: int, seed: int = 7) -> None:
    """Write one file whose keys repeat, about 120 bytes a row, its addresses quoted because of their commas.

    The rows of a shipment have different times, so that which is the newest does not depend on their order.

    Args:
        path: Its name holds the file's date as `yyyy_mm_dd`; all events are on the 90 days before.
        rows: Of the file.
        shipments: How many different ones, at most `rows`; `rows - shipments` is below 7 million.
        seed: Other seeds give other cells.

    Raises:
        ValueError: No such date in the name, or the numbers do not fit.
    """
    if not 0 <= rows - shipments < _REPEATED_WINDOW_S:
        raise ValueError(f"{rows} rows of {shipments} shipments cannot be made")
    values = {"day": _day(path), "rows": rows, "shipments": shipments, "window_s": _REPEATED_WINDOW_S}
    with _connect(seed) as connection:
        _copy(connection, _REPEATED, path, {**_pools(), **values})


def batch_file(path: Path, shipments: np.ndarray, seed: int, *, ascending: bool = False) -> None:
    """Write one file of given shipments, in this order; all its events are on the day in its name.

    Args:
        path: Its name holds the file's date as `yyyy_mm_dd`.
        shipments: int64, unique; those of `big_file` are updates, others are new.
        seed: Other seeds give other cells.
        ascending: As in `big_file`.

    Raises:
        ValueError: No such date in the name.
    """
    query = _BATCH.format(tracking=_ASCENDING if ascending else _TRACKING)
    with _connect(seed) as connection:
        connection.register("picked", pa.table({"shipment": shipments}))
        _copy(connection, query, path, {**_pools(), "day": _day(path)})


def day_files(folder: Path, files: int = 1000, rows_per_file: int = 1000, seed: int = 7) -> tuple[Path, ...]:
    """Write a file a day: updates of about a fifth as many shipments, late rows, ties, corrections and repeats.

    No row breaks a rule. Modification times are noon of the file's day.

    Args:
        folder: Made if it is not there.
        files: Number of days from `FIRST_DAY` on.
        rows_per_file: Rows of each file; at least `UPDATES_PER_SHIPMENT`.
        seed: Other seeds give other feeds.

    Returns:
        The files, oldest first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    days = [FIRST_DAY + timedelta(days=n) for n in range(files)]
    paths = tuple(folder / f"order_tracking_{day:%Y_%m_%d}.csv" for day in days)
    sizes = {"files": files, "per_file": rows_per_file, "born": max(rows_per_file // UPDATES_PER_SHIPMENT, 1)}
    with _connect(seed) as connection:
        connection.execute(_DAYS, {**_pools(), **sizes, "day": FIRST_DAY})
        for number, (day, path) in enumerate(zip(days, paths, strict=True)):
            first = number * rows_per_file
            part = f"SELECT * EXCLUDE (i) FROM feed WHERE i >= {first} AND i < {first + rows_per_file} ORDER BY i"
            _copy(connection, part, path, {})
            noon_ns = int(datetime.combine(day, time(12), tzinfo=UTC).timestamp()) * 10**9
            os.utime(path, ns=(noon_ns, noon_ns))
    return paths


def expected_target(folder: Path) -> pa.Table:
    """What the target must hold after all files of a folder made by `day_files`: plain SQL over the files.

    Args:
        folder: Holds dated `*.csv` files with good rows only, times in UTC.

    Returns:
        The contract's columns in table order, one row a tracking number, sorted by it.
    """
    with _connect() as connection:
        # In the order of the files' names and, within one, of its rows: `rowid` keeps it.
        connection.execute(
            """CREATE TABLE read AS SELECT * FROM read_csv($files, columns = $columns, header = true, filename = true,
                auto_detect = false, delim = ',', quote = '"', escape = '"')""",
            {"columns": dict.fromkeys(COLUMNS, "varchar"), "files": sorted(str(path) for path in folder.glob("*.csv"))},
        )
        connection.execute(
            r"""CREATE VIEW arrived AS SELECT *, parse_filename(filename) AS path, rowid AS row,
                strptime(regexp_extract(filename, '(\d{4}_\d{2}_\d{2})[^/]*$', 1), '%Y_%m_%d') AS file_day FROM read"""
        )
        target = connection.sql(_EXPECTED, params={"ranks": list(STATUS_RANK)}).to_arrow_table()
    # The files' times are UTC's wall clock.
    place = target.schema.get_field_index("last_update_timestamp")
    instants = target.column(place).cast(pa.timestamp("us", "UTC"))
    return target.set_column(place, "last_update_timestamp", instants)


def _day(path: Path) -> date:
    found = re.search(r"\d{4}_\d{2}_\d{2}", path.name)
    if found is None:
        raise ValueError(f"no date yyyy_mm_dd in the name {path.name!r}")
    return date.fromisoformat(found.group().replace("_", "-"))


def _pools() -> dict[str, object]:
    return {"ranks": list(STATUS_RANK), "streets": list(STREETS), "cities": list(CITIES)}


def _connect(seed: int = 0) -> duckdb.DuckDBPyConnection:
    """A database in memory with `dice(of, salt, sides)`: a number from 0 to below `sides`, always the same."""
    connection = duckdb.connect(config={"preserve_insertion_order": True})
    connection.execute(f"CREATE MACRO dice(of_, salt, sides) AS (hash(of_, {int(seed)}, salt) % sides)::bigint")
    return connection


def _copy(connection: duckdb.DuckDBPyConnection, query: str, path: Path, values: dict[str, object]) -> None:
    target = str(path).replace("'", "''")
    connection.execute(f"COPY ({query}) TO '{target}' (FORMAT csv, HEADER, DELIMITER ',')", values)
