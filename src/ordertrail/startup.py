"""Keep pandas out of a process that does not use it.

Arrow imports pandas wherever it is installed, 0.3 s, to ask whether a plain list is a frame of it.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder


class _Refusing(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002 - Python's own names
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is kept out of this process", name=fullname)


def keep_pandas_out() -> None:
    """From now on pandas cannot be imported, as if it were not installed."""
    sys.meta_path.insert(0, _Refusing())


def let_pandas_in() -> None:
    """Pandas can be imported again, by those who need it. Idempotent."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Refusing)]
