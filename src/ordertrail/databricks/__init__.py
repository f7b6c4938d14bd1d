"""What runs on Databricks: the tasks behind the notebooks, and the bundle that brings them there.

`ordertrail.databricks.task` is what the notebooks call; `ordertrail.databricks.bundle` writes the notebooks, the job
and all else that a workspace needs. Neither imports anything of Spark or Databricks before a notebook hands it over.
"""
