"""What the notebook `orders_migrate` does: it brings the tables to the contract of the config, a dry run first.

It is no task of the job that loads files: somebody runs it by hand or as the job `orders_migrate`, reads what a dry run
says, and runs it again with `apply = true`. Its parameters are those of the job's tasks, and `apply`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordertrail.databricks.task import Dbutils, config_of, flag, shown
from ordertrail.mend.document import migration
from ordertrail.mend.migration import migrate as bring

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PARAMETERS = {"apply": "false"}
"""The parameter beside those of the tasks, with what holds where the job gives none."""


def migrate(spark: SparkSession, dbutils: Dbutils) -> str:
    """Bring the tables to the contract of the config, or say what that takes.

    Args:
        spark: The notebook's session.
        dbutils: The notebook's utilities.

    Returns:
        The document of `ordertrail migrate --json`, for `dbutils.notebook.exit`.

    Raises:
        OrdertrailError: Why it cannot be done; a dry run lists that as `problems`.
    """
    apply = flag(dbutils, "apply", PARAMETERS)
    return shown(migration(bring(config_of(dbutils), apply=apply, session=spark)))
