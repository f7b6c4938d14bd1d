"""The Spark engine: tables that only Spark reads, and large batches of all others."""
