"""The row kernel: takes the bytes of one file and yields typed rows and rejects. The same code on every engine."""
