"""The process of the command `ordertrail`, also as `python -m ordertrail`: how it starts and how it ends.

A pass over a small batch takes less than a second, so the interpreter's own habits show. The cyclic garbage collector
would run hundreds of times during the imports; OpenBLAS, which numpy brings and nothing here uses, would spin one
thread a core; Arrow would spend 0.3 s importing pandas, where it is installed, to ask whether our lists are data
frames; and at the end the interpreter would destroy every object one by one, although the system takes the memory back
anyway. As a library, ordertrail changes none of this.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from ordertrail import startup


def start() -> NoReturn:
    """Run the command line of this process and end it with its exit code."""
    _open_descriptors()
    startup.collect_rarely()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    startup.keep_pandas_out()
    from ordertrail.cli import main

    try:
        main()
    except SystemExit as end:
        if "ordertrail.log" in sys.modules:
            sys.modules["ordertrail.log"].drain()
        # Nothing is left to write: `guarded` has flushed all output, and whoever opened a file or table has closed it.
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    raise AssertionError("main leaves with SystemExit")


def _open_descriptors() -> None:
    """Open those of stdin, stdout and stderr that are closed (`2>&-`) on the null device.

    Otherwise the next files to be opened, such as a table's, would get their descriptors, and messages would be written
    into them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


if __name__ == "__main__":
    start()
