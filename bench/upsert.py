"""100,000 rows, half of them updates of random keys, into a table that is there: `run` against delta-rs `merge`.

`python -m bench.upsert [--rows 1000000] [--batch 100000] [--rounds 3]`. In turns, each in a fresh process, timed from
outside, each on its own copy of the same table. delta-rs gets the batch typed by DuckDB and merges it; ours reads and
checks the CSV, stages, orders, merges, writes history and deliveries, and archives.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import duckdb

from bench.feed import COLUMNS, big_file
from bench.first_load import CONFIG, NAME, OURS
from bench.report import Timed, save, summary, timed
from ordertrail import Pipeline, load_config

PEER = """
import sys, duckdb
from deltalake import DeltaTable
types = {"order_num": "VARCHAR", "tracking_num": "VARCHAR", "pck_recieved_date": "DATE", "package_deliver_date": "DATE",
         "status": "VARCHAR", "address": "VARCHAR", "last_update_timestamp": "TIMESTAMP"}
connection = duckdb.connect()
rows = connection.sql(f"FROM read_csv('{sys.argv[1]}', header = true, columns = {types})").to_arrow_table()
connection.close()
merge = DeltaTable(sys.argv[2]).merge(rows, "t.tracking_num = s.tracking_num", source_alias="s", target_alias="t")
found = merge.when_matched_update_all().when_not_matched_insert_all().execute()
print(found["num_target_rows_inserted"], found["num_target_rows_updated"])
"""


def main() -> None:
    """Measure, and keep the figures in `bench/results/upsert.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as folder:
        base = Path(folder)
        _prepare(base, options.rows, options.batch)
        ours: list[Timed] = []
        peer: list[Timed] = []
        for _ in range(options.rounds):
            shutil.copytree(base / "peer", base / "peer-run")
            peer.append(timed(PEER, [str(base / "batch.csv"), str(base / "peer-run")]))
            shutil.rmtree(base / "peer-run")
            shutil.copytree(base / "ours", base / "ours-run")
            shutil.copy2(base / "batch.csv", base / "ours-run" / "in" / "order_tracking_2026_11_24.csv")
            ours.append(timed(OURS, [str(base / "ours-run" / "ordertrail.toml")]))
            shutil.rmtree(base / "ours-run")
        figures: dict[str, object] = {
            "rows_before": options.rows,
            "batch_rows": options.batch,
            "update_share": 0.5,
            "delta_rs_merge": {**summary(peer), "inserted_updated": peer[-1].output.strip()},
            "ordertrail_run": {**summary(ours), "inserted_and_steps": ours[-1].output.strip()},
        }
    save("upsert", figures)


def _prepare(base: Path, rows: int, batch: int) -> None:
    from deltalake import write_deltalake

    ours = base / "ours"
    (ours / "in").mkdir(parents=True)
    (ours / "ordertrail.toml").write_text(CONFIG.replace('name = "orders"', 'name = "orders"\nsettle_s = 0.0'))
    feed = ours / "in" / NAME
    big_file(feed, rows)
    names = ", ".join(COLUMNS)
    later = "strftime(last_update_timestamp + INTERVAL 30 HOUR, '%Y-%m-%d %H:%M:%S') AS last_update_timestamp"
    connection = duckdb.connect()
    scan = f"read_csv('{feed}', header = true, all_varchar = true)"
    typed = f"SELECT * REPLACE (CAST(last_update_timestamp AS TIMESTAMP) AS last_update_timestamp) FROM {scan}"
    connection.execute(
        f"COPY (SELECT {names} FROM (SELECT * REPLACE ({later}, CASE WHEN n % 2 = 0 THEN tracking_num ELSE "
        f"tracking_num || 'N' END AS tracking_num) FROM (SELECT *, row_number() OVER () AS n FROM ({typed}) "
        f"USING SAMPLE {batch} ROWS (reservoir, 7)))) TO '{base / 'batch.csv'}' (HEADER)"
    ).fetchall()
    dates = ", ".join(f"CAST({name} AS DATE) AS {name}" for name in ("pck_recieved_date", "package_deliver_date"))
    table = connection.sql(f"SELECT * REPLACE ({dates}) FROM ({typed})").to_arrow_table()
    write_deltalake(base / "peer", table)
    connection.close()
    Pipeline(load_config(ours / "ordertrail.toml")).run()


if __name__ == "__main__":
    main()
