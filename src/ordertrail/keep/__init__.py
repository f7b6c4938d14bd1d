"""The commands that keep the tables in order: maintenance, and the repair of lost or damaged tables."""
