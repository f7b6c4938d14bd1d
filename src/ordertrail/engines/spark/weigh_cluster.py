"""Weighs a batch of any size on Spark: the SQL of the order rules runs there, and no row passes through the driver.

The rules are the SQL of `rules.outcomes`; the hashes and order columns come from DuckDB in the executors
(`workers.run_sql`). This module fills the relations from the stage, the target and the history, each read at a pinned
version, so that rows computed again after the loss of an executor are the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ordertrail.engines.batch_rows import batch_deliveries, counted, rejects_sql
from ordertrail.engines.spark.measured import key_column, measured
from ordertrail.engines.spark.merge import Changes
from ordertrail.engines.spark.pruning import Pruning, pruned_by, slots_for
from ordertrail.engines.spark.session import kept
from ordertrail.engines.spark.tables import ticked
from ordertrail.engines.spark.work import SparkPass, spark_schema
from ordertrail.engines.spark.workers import RELATION, run_sql
from ordertrail.model import Batch, Outcome, RowCounts
from ordertrail.rules import outcomes as rules
from ordertrail.rules.accepted import LOADED, TAKEN_BACK, recorded_sql
from ordertrail.rules.audit import CHANGED, FROM, SPARK_TIME, clock_sql, history_sql, judged_sql
from ordertrail.rules.placing import (
    KNOWN,
    OF_ROW,
    PLACED,
    STAGED,
    placed_or_lowest_sql,
    placed_sql,
)
from ordertrail.rules.planning import delivery_number
from ordertrail.rules.tables import target_columns

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

BROADCAST_ROWS = 2_000_000
"""The keys of a batch with up to this many rows are broadcast to the executors to find the target's rows."""


class ClusterWeighing:
    """`Weighing` and `Frames` of a batch of any size: no row of it passes through the driver.

    Args:
        run: The pass.
        batch: As it is staged.
        stage_version: The version of the stage that has the batch.
    """

    def __init__(self, run: SparkPass, batch: Batch, stage_version: int) -> None:
        self.pass_ = run
        self.batch = batch
        self.contract = run.config.contract
        self._stage_version = stage_version
        self._target_version = 0
        self._outcomes: DataFrame | None = None
        self._best: DataFrame | None = None
        self._folded: DataFrame | None = None

    def weigh(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh`."""
        if self.pass_.config.appends:
            return self._weigh_appending(self._standing_rows(target_version), rules.APPENDED)
        return self._weigh(target_version, rules.OUTCOMES)

    def weigh_again(self, target_version: int) -> Mapping[str, RowCounts]:
        """See `Weighing.weigh_again`."""
        if self.pass_.config.appends:
            return self._weigh_appending(self._written(target_version), rules.APPENDED_AGAIN)
        return self._weigh(target_version, rules.OUTCOMES_AGAIN)

    def changes(self) -> Changes:
        """See `Frames.changes`."""
        from pyspark.sql import functions as f

        assert self._best is not None
        doubles = self._best.where("copies > 1").count() > 0
        source = self._accepted(CHANGED, for_history=False)
        others: tuple[str, ...] = ()
        if doubles:
            source, others = self._with_doubles(source, self._best)
        rows = sum(manifest.rows_parsed for manifest in self.batch.manifests)
        column, slots = pruned_by(self.contract), slots_for(rows)
        if column is None or slots is None:
            return Changes(source, doubles, None, others)
        place = f.pmod(f.crc32(f.col(ticked(column)).cast("binary")), f.lit(slots))
        taken = self._staged().select(place.alias("slot")).distinct().collect()
        return Changes(source, doubles, Pruning(column, slots, frozenset(row["slot"] for row in taken)), others)

    def appended(self) -> DataFrame:
        """See `Frames.appended`."""
        names = [column.name for column in target_columns(self.contract)]
        return self._accepted(CHANGED, for_history=False).select(*map(ticked, names))

    def history(self) -> DataFrame:
        """See `Frames.history`."""
        return self._accepted(tuple(rules.CODES.values()), for_history=True)

    def rejects(self) -> DataFrame:
        """See `Frames.rejects`."""
        sql = rejects_sql(self.batch, RELATION, clock_sql(self.batch.clock))
        rows = self.pass_.tables.stage.rows(self._stage_version).where("_kind = 'reject'")
        return rows.mapInArrow(partial(run_sql, sql), spark_schema(self.pass_.tables.rejects.columns))

    def close(self) -> None:
        """See `Weighing.close`."""
        self._outcomes = self._best = self._folded = None

    def _staged(self) -> DataFrame:
        return self.pass_.tables.stage.rows(self._stage_version).where("_kind = 'row'")

    # -- outcomes -------------------------------------------------------------------------------------------

    def _weigh(self, target_version: int, rule: str) -> Mapping[str, RowCounts]:
        """Compute `outcomes` against the target at a version, and count them."""
        run = self.pass_
        self._target_version = target_version
        absent = self._absent_columns()
        staged = kept(measured(self._staged(), self.contract, {"dn": "_delivery_no"}))
        current = kept(self._current(target_version, staged))
        new = run.view(self._new())
        staged_rows = {"staged_rows": f"SELECT s.*, d.fk FROM {run.view(staged)} s JOIN {new} d USING (dn)"}
        before = {"target_before": f"SELECT * FROM {run.view(current)}", "loaded": self._loaded_sql()}
        recalled = self._recalled({**staged_rows, **before}, staged, absent)
        placed = self._placed(current, recalled)
        # Each step is kept: nested queries would be evaluated many times over.
        relations = {"placed": self._step("placed", {name: placed[name] for name in ("known", "placed")})}
        for name in ("staged", "current", "recalled"):
            steps = {**staged_rows, "batch_deliveries": placed["batch_deliveries"], "placed": relations["placed"]}
            relations[name] = self._step(name, {**steps, name: placed[name]})
        relations["codes"] = rules.codes_sql(self.batch.number)
        for name, rows, several, rule_of in (
            ("ranked", "staged", "repeated", rules.RANKED),
            ("best", "current", "doubled", rules.BEST),
        ):
            steps = {rows: relations[rows], several: rules.several(rows), name: rule_of}
            relations[name] = self._step(name, steps)
        outcomes = run.run_rule(rule, relations)
        if absent and rule is rules.OUTCOMES:
            outcomes = self._refolded(outcomes, relations, absent)
        self._outcomes = kept(outcomes)
        self._best = run.run_rule("SELECT * FROM best", relations)
        return self._count()

    def _step(self, name: str, relations: dict[str, str]) -> str:
        """SQL of a relation whose rows Spark keeps."""
        rows = kept(self.pass_.run_rule(f"SELECT * FROM {name}", relations))
        return f"SELECT * FROM {self.pass_.view(rows)}"

    def _count(self) -> dict[str, RowCounts]:
        assert self._outcomes is not None
        names = {number: outcome for outcome, number in rules.CODES.items()}
        ids = {delivery_number(m.delivery_id): m.delivery_id for m in self.batch.manifests}
        rows = self._outcomes.groupBy("dn", "outcome").count().collect()
        return counted(self.batch, [(ids[row["dn"]], names[row["outcome"]], row["count"]) for row in rows])

    # -- a target that keeps every row ----------------------------------------------------------------------

    def _weigh_appending(self, relation: dict[str, str], rule: str) -> Mapping[str, RowCounts]:
        """Compute `outcomes` by a rule of mode `append`, and count them.

        Args:
            relation: SQL of what the rule reads of the target, by name.
            rule: `APPENDED` or `APPENDED_AGAIN`.
        """
        from pyspark.sql import functions as f

        run = self.pass_
        staged = run.view(kept(measured(self._staged(), self.contract, {"dn": "_delivery_no"})))
        relations = {"staged_rows": f"SELECT * FROM {staged}", "repeated": rules.several("staged_rows")}
        relations |= {"firsts": rules.FIRSTS, "codes": rules.codes_sql(self.batch.number), **relation}
        nothing = [f.lit(None).cast("bigint").alias(name) for name in ("rv", "ins")]
        self._outcomes = kept(run.run_rule(rule, relations).select("k", "dn", "fr", *nothing, "outcome"))
        return self._count()

    def _standing_rows(self, version: int) -> dict[str, str]:
        """`standing` of the rules: the target's rows of the staged keys, without those of deliveries taken back."""
        found = self._of_keys(
            self.pass_.tables.target.rows(version), self._staged().select(key_column(self.contract).alias("k"))
        )
        found = self._counting(found)
        return {"standing": f"SELECT k, ch FROM {self.pass_.view(kept(measured(found, self.contract, {})))}"}

    def _written(self, version: int) -> dict[str, str]:
        """`written` of the rules: the rows that the batch's commit put into the target."""
        run = self.pass_
        rows = run.view(run.tables.target.rows(version).where(f"_batch = {self.batch.number}"))
        joined = f"{rows} t JOIN {run.view(self._new())} d ON t._delivery_id = d.delivery_id"
        return {"written": f"SELECT d.dn, t._file_row AS fr FROM {joined}"}

    # -- relations ------------------------------------------------------------------------------------------

    def _current(self, version: int, staged: DataFrame) -> DataFrame:
        """The target's rows of the staged keys: `target_before` of the rules."""
        from pyspark.sql import functions as f

        found = self._of_keys(self.pass_.tables.target.rows(version), staged.select("k"))
        carried = {"rv": "_revision", "bn": "_batch", "inserted_at": "_inserted_at"}
        rows = measured(found, self.contract, carried)
        # Rows of one key that even the order cannot tell apart are told apart by their content.
        return rows.withColumn("pos", f.col("ch")).withColumn("ins", f.unix_micros("inserted_at"))

    def _of_keys(self, rows: DataFrame, keys: DataFrame) -> DataFrame:
        """The rows of some keys."""
        from pyspark.sql import functions as f

        wanted = keys.select(f.col("k").alias("_wanted")).distinct()
        if sum(m.rows_parsed for m in self.batch.manifests) <= BROADCAST_ROWS:
            wanted = f.broadcast(wanted)
        return rows.join(wanted, key_column(self.contract) == f.col("_wanted"), "left_semi")

    def _recalled(self, relations: dict[str, str], staged: DataFrame, absent: Sequence[str]) -> DataFrame:
        """The history's rows of keys that only it can decide; of every staged key when some delivery lacks columns."""
        ties = kept(self.pass_.run_rule(rules.TIES, relations))
        keys = staged.select("k") if absent else ties
        if not absent and ties.count() == 0:
            return staged.select("k", *OF_ROW, "delivery_id").where("false")
        return measured(self._of_keys(self._past(), keys), self.contract, {}).select("k", *OF_ROW, "delivery_id")

    def _past(self) -> DataFrame:
        return self._counting(self.pass_.tables.history.rows().where(recorded_sql(self.batch.number - 1)))

    def _counting(self, rows: DataFrame) -> DataFrame:
        """Rows without those of deliveries that were taken back."""
        from pyspark.sql import functions as f

        gone = [row["delivery_id"] for row in self._known().where(TAKEN_BACK).select("delivery_id").collect()]
        return rows.where(~f.coalesce(f.col("_delivery_id").isin(gone), f.lit(False))) if gone else rows

    def _placed(self, current: DataFrame, recalled: DataFrame) -> dict[str, str]:
        """`batch_deliveries`, `known`, `placed`, and with them `staged`, `current` and `recalled`."""
        run = self.pass_
        known = run.view(self._known())
        new = run.view(self._new())
        names = ", ".join(KNOWN)
        before, past = run.view(current), run.view(recalled)
        return {
            "batch_deliveries": f"SELECT * FROM {new}",
            "known": f"SELECT {names} FROM {known} WHERE {LOADED} AND delivery_id IN (SELECT delivery_id FROM {before} "
            f"UNION SELECT delivery_id FROM {past}) UNION ALL SELECT {names} FROM {new}",
            "placed": PLACED,
            "staged": STAGED,
            "current": placed_or_lowest_sql(before),
            "recalled": placed_or_lowest_sql(past),
        }

    def _known(self) -> DataFrame:
        """The deliveries of earlier batches."""
        return self.pass_.tables.deliveries.rows().selectExpr(
            "delivery_id", "file_key AS fk", "vendor", "path", "unix_millis(modified_at) AS mtime_ms", "sha256",
            "absent", "state", "batch", "coalesce(newest_first, false) AS newest_first",
        ).where(f"batch < {self.batch.number}")  # fmt: skip

    def _new(self) -> DataFrame:
        """The deliveries of this batch."""
        from pyspark.sql import functions as f

        rows = self.pass_.spark.createDataFrame(batch_deliveries(self.batch))
        return rows.withColumn("absent", f.to_json("absent"))

    def _loaded_sql(self) -> str:
        rows = self.pass_.view(self._known())
        return f"SELECT max(fk) AS fk FROM {rows} WHERE {LOADED}"

    # -- files that lack a column ---------------------------------------------------------------------------

    def _absent_columns(self) -> tuple[str, ...]:
        """Contract columns that some delivery, of this batch or loaded before, lacks."""
        absent = {name for manifest in self.batch.manifests for name in manifest.absent}
        rows = self._known().where(f"{LOADED} AND absent <> '[]'").select("absent").distinct().collect()
        absent |= {name for row in rows for name in json.loads(row["absent"])}
        return tuple(sorted(absent & set(self.contract.names)))

    def _refolded(self, outcomes: DataFrame, relations: dict[str, str], absent: Sequence[str]) -> DataFrame:
        """Fold the keys' whole history, and replace `outcomes`; `_folded` has `k` and the contract columns to write."""
        from pyspark.sql import functions as f

        run, names = self.pass_, (*self.contract.names, "_rescued")
        columns = tuple(f"c{i}" for i in range(len(names)))
        accepted = self._accepted_columns(names, absent)
        fold = rules.fold_sql(columns, tuple(f"c{names.index(name)}" for name in absent))
        placed = {"placed": relations["placed"]}
        placed["accepted"] = placed_sql(run.view(accepted))
        folded = run.run_rule(fold, placed)
        self._folded = kept(folded.select("k", *(f.col(c).alias(n) for c, n in zip(columns, names, strict=True))))
        keyed = self._folded.select(
            *names, f.lit(None).cast("bigint").alias("_file_row"), f.lit("").alias("_delivery_id")
        )
        hashes = run.view(measured(keyed, self.contract, {}))
        steps = {"weighed": f"SELECT * FROM {run.view(outcomes)}", "folded_content": f"SELECT k, ch FROM {hashes}"}
        return run.run_rule(rules.OUTCOMES_FOLDED, {**relations, **steps})

    def _accepted_columns(self, names: Sequence[str], absent: Sequence[str]) -> DataFrame:
        """The accepted rows of the staged keys, including this batch, as `rules.fold_sql` reads them."""
        from pyspark.sql import functions as f

        staged = self._staged()
        past = self._of_keys(self._past(), staged.select(key_column(self.contract).alias("k")))
        wanted = {f"c{i}": name for i, name in enumerate(names)}
        parts = [measured(rows, self.contract, wanted) for rows in (past, staged)]
        rows = parts[0].unionByName(parts[1])
        lacking = self._known().select("delivery_id", "absent").unionByName(
            self._new().select("delivery_id", "absent")
        )  # fmt: skip
        lists = lacking.withColumn("absent", f.from_json("absent", "array<string>"))
        lacks = [f.array_contains("absent", name).alias(f"lacks_{i}") for i, name in enumerate(absent)]
        return rows.join(lists.select("delivery_id", *lacks), "delivery_id")

    # -- what goes into the tables ---------------------------------------------------------------------------

    def _accepted(self, outcomes: tuple[int, ...], *, for_history: bool) -> DataFrame:
        """The staged rows with some outcomes, with their audit columns.

        Args:
            outcomes: Their numbers. Where rows are folded the cells are the fold's, but for the history.
            for_history: With `_outcome` and `_loaded_at`, and the cells as they were sent.
        """
        from pyspark.sql import functions as f

        assert self._outcomes is not None
        contract, batch = self.contract, self.batch
        found = self._outcomes.where(f.col("outcome").isin(list(outcomes))).select(
            "dn", "fr", "k", "rv", "ins", "outcome"
        )
        same = f.expr("s._delivery_no = o.dn AND s._file_row = o.fr")
        rows = self._staged().alias("s").join(found.alias("o"), same)
        cells = {name: f.col(f"s.{ticked(name)}") for name in (*contract.names, "_rescued")}
        if self._folded is not None and not for_history:
            folded = self._folded.select(f.col("k").alias("f_k"), *(f.col(n).alias(f"f_{n}") for n in cells))
            rows = rows.join(folded, f.col("o.k") == f.col("f_k"))
            cells = {name: f.col(ticked(f"f_{name}")) for name in cells}
        words = judged_sql(batch.number, batch.clock, SPARK_TIME)
        audit = {name: f.col(f"s.{name}") for name in FROM} | {name: f.expr(sql) for name, sql in words.items()}
        audit["_row_hash"] = f.col("s._row_hash")
        if for_history:
            audit |= {name: f.expr(sql) for name, sql in history_sql(batch.clock, SPARK_TIME).items()}
            return rows.select(*(column.alias(name) for name, column in (cells | audit).items()))
        guards = {
            "_found": f.col("o.outcome") == rules.CODES[Outcome.UPDATED],
            "_old_revision": f.col("o.rv"),
            "_old_ins": f.col("o.ins"),
        }
        keys = {f"_k{i}": cells[name] for i, name in enumerate(contract.key)}
        return rows.select(*(column.alias(name) for name, column in (cells | audit | guards | keys).items()))

    def _with_doubles(self, source: DataFrame, best: DataFrame) -> tuple[DataFrame, tuple[str, ...]]:
        """The changes when some keys occur in the target more than once: all their rows go, and one is inserted again.

        It is the new row, or else the existing row that counts; it keeps the latter's values in columns of others.

        Returns:
            Also the names of the columns of others.
        """
        from pyspark.sql import functions as f

        doubled = best.where("copies > 1 AND place = 1").select(
            f.col("k").alias("d_k"), f.col("ch").alias("d_ch"), f.col("ev").alias("d_ev"), f.col("fr").alias("d_fr"),
            f.col("ins").alias("d_ins"),
        )  # fmt: skip
        names = [column.name for column in target_columns(self.contract)]
        keys = [f"_k{i}" for i in range(len(self.contract.key))]
        nothing = [f.lit(None).cast(source.schema[key].dataType).alias(key) for key in keys]
        marks = [f.lit(False).alias("_found"), f.lit(None).cast("bigint").alias("_old_revision")]
        marks.append(f.lit(None).cast("bigint").alias("_old_ins"))
        is_double = key_column(self.contract) == f.col("d_k")
        alone = source.join(doubled, is_double, "left_anti").withColumn("_gone", f.lit(False))
        target = self.pass_.tables.target.rows(self._target_version, others=True)
        others = tuple(target.columns[len(names) :])
        standing = self._standing(target, doubled)
        kept = standing.select(f.col("d_k").alias("c_k"), *(f.col(ticked(name)) for name in others))
        new = source.join(doubled, is_double, "left_semi").join(kept, key_column(self.contract) == f.col("c_k"), "left")
        ours = [f.col(ticked(name)) for name in (*names, *others)]
        new = new.select(*ours, *marks, *nothing, f.lit(False).alias("_gone"))
        taken = source.select(key_column(self.contract).alias("t_k"))
        staying = standing.join(taken, f.col("d_k") == f.col("t_k"), "left_anti")
        staying = staying.select(*ours, *marks, *nothing, f.lit(False).alias("_gone"))
        gone = doubled.select(*_key_columns(keys), f.lit(True).alias("_gone"))
        alone = alone.unionByName(new, allowMissingColumns=True)
        return alone.unionByName(staying).unionByName(gone, allowMissingColumns=True), others

    def _standing(self, target: DataFrame, doubled: DataFrame) -> DataFrame:
        """The complete row that counts of each key that the target has more than once."""
        from pyspark.sql import functions as f
        from pyspark.sql.window import Window

        found = self._of_keys(target, doubled.select(f.col("d_k").alias("k")))
        whole = {name: name for name in found.columns}
        same = f.expr("k = d_k AND ch = d_ch AND ev = d_ev AND fr = d_fr")
        rows = measured(found, self.contract, whole).join(doubled, same)
        place = f.row_number().over(Window.partitionBy("d_k").orderBy(f.col("_revision").desc_nulls_last()))
        first = rows.withColumn("_place", place).where("_place = 1")
        return first.withColumn("_inserted_at", f.timestamp_micros("d_ins"))


def _key_columns(keys: list[str]) -> list[Column]:
    from pyspark.sql import functions as f

    if len(keys) == 1:
        return [f.col("d_k").alias(keys[0])]
    return [f.col("d_k").getField(f"key{i}").alias(key) for i, key in enumerate(keys)]
