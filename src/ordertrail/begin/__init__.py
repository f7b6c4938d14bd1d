"""The commands to begin with: a config, a draft of it, the demo, and whether a machine can run it."""
