"""The commands to begin with: write a config, draft one from a file, the demo, and the checks of `doctor`."""
