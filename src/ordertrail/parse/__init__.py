"""The row kernel: the bytes of one file in, typed rows and rejects out. The same code on every engine."""
