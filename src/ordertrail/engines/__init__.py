"""Where and how the five tables are kept: one protocol, and one implementation for each engine."""
