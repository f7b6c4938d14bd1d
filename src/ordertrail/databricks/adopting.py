"""What the notebook `orders_adopt` does: it takes over a target that was there before ordertrail, a dry run first.

It is no task of the job that loads files: somebody runs it once, by hand or as the job `orders_adopt`, reads what a dry
run says, and runs it again with `apply = true`. Its parameters are those of the job's tasks, and `apply` and `doubled`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordertrail.databricks.task import Dbutils, config_of, flag, parameter, shown
from ordertrail.engines.spark import adopt as adopting
from ordertrail.look.document import adopted

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PARAMETERS = {"apply": "false", "doubled": adopting.REFUSE}
"""The parameters beside those of the tasks, with what holds where the job gives none."""


def adopt(spark: SparkSession, dbutils: Dbutils) -> str:
    """Take the target over, or say what that would do.

    Args:
        spark: The notebook's session.
        dbutils: The notebook's utilities.

    Returns:
        The document of `ordertrail adopt --json`, for `dbutils.notebook.exit`.

    Raises:
        OrdertrailError: Why it cannot be adopted; a dry run lists that instead.
    """
    apply, doubled = flag(dbutils, "apply", PARAMETERS), parameter(dbutils, "doubled", PARAMETERS)
    bring = adopting.adopt if apply else adopting.survey
    return shown(adopted(bring(config_of(dbutils), spark, doubled=doubled)))
