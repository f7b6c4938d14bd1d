"""Pure rules without I/O: what a row must meet, how rows are ordered, their outcomes. Time and ids are arguments."""
