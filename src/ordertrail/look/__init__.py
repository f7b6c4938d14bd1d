"""The commands that look at a pipeline and change nothing."""
