"""Keep pandas out of a process that does not use it.

Arrow imports pandas, where it is installed, to ask whether a plain list is a data frame; that takes 0.3 s.
"""

from __future__ import annotations

import sys


class _Refusing:
    """A finder of modules, without importing its base in `importlib.abc`, which takes 10 ms."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002 - Python's own names
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is kept out of this process", name=fullname)


def keep_pandas_out() -> None:
    """Block the import of pandas from now on, as if it were not installed."""
    sys.meta_path.insert(0, _Refusing())


def let_pandas_in() -> None:
    """Allow pandas to be imported again, for code that needs it. Idempotent."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Refusing)]
