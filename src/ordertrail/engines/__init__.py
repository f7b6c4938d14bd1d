"""Where and how the five tables are kept: one Protocol, one implementation an engine."""
