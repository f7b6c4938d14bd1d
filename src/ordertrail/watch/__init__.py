"""The service: runs a pass whenever a file is complete, until it is told to stop."""
