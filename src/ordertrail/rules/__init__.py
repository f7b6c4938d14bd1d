"""Pure rules, no I/O: what a row must meet, how rows are ordered, what becomes of them. Time and ids are arguments."""
