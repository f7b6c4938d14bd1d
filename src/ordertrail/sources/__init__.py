"""Where files come from and where they go: `base` is the seam, `directory` the folder on a disk.

Imports nothing, so that each command pays only for the source it uses.
"""
