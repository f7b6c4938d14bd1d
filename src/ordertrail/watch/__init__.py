"""The service: a pass whenever a file is complete, until it is told to stop."""
