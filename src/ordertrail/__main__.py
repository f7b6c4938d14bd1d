"""The process of the command `ordertrail`, also as `python -m ordertrail`: how it starts and how it ends.

A pass over a small batch takes less than a second, so the interpreter's own habits show. The cyclic garbage collector
would run hundreds of times during the imports; OpenBLAS, which numpy brings and nothing here uses, would let a thread
a core spin; pydantic would search every installed package for plugins; Arrow would import pandas wherever that is
installed, 0.3 s, to ask whether our lists are frames of it; and at the end each object would be taken apart, one by
one, before the memory goes back to the system anyway. As a library ordertrail changes none of this.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

from ordertrail import startup

COLLECT_EVERY = 50_000
"""Net new objects before the garbage collector looks at the youngest; Python's own 700 are for long-lived services."""


def start() -> NoReturn:
    """Run the command line of this process and end it with its exit code."""
    _open_descriptors()
    gc.set_threshold(COLLECT_EVERY, 20, 20)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    startup.keep_pandas_out()
    from ordertrail.cli import main

    try:
        main()
    except SystemExit as end:
        # What was written is out: `guarded` has flushed it, and every file and table is closed by whoever opened it.
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    raise AssertionError("main leaves with SystemExit")


def _open_descriptors() -> None:
    """Open what was closed of stdin, stdout and stderr (`2>&-`) on the null device.

    Else the next files that are opened, such as a table's, would get their numbers, and messages would go into them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


if __name__ == "__main__":
    start()
