"""The commands that keep the tables in order: maintenance, and mending what was lost or damaged."""
