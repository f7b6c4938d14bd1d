"""What engines share that work in DuckDB on tables in folders: one session a pass, finding, weighing, folding."""
