"""What runs on Databricks: the tasks behind the notebooks, and the bundle that deploys them.

The notebooks call `ordertrail.databricks.task`; `ordertrail.databricks.bundle` writes the notebooks, the job and
everything else that a workspace needs. Neither imports anything of Spark or Databricks before a notebook passes it in.
"""
