"""The embedded engine: DuckDB computes, plain Delta tables in local folders hold, no server."""
