"""Delta Lake on local folders: the log, snapshots, and commits that are honest about their outcome."""
