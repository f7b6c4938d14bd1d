"""DuckDB on tables in folders, shared by the engines: one session a pass, finding, weighing and folding rows."""
