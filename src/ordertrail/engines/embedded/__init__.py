"""The embedded engine: DuckDB computes, and plain Delta tables in local folders store; no server."""
