"""What a process switches before its first import: the garbage collector, and pandas.

Python's own collector would run hundreds of times during the imports, which leave 200,000 objects and no garbage. Arrow
imports pandas, where it is installed, to ask whether a plain list is a data frame; that takes 0.3 s.
"""

from __future__ import annotations

import gc
import sys

SHORT_LIFE = 300_000
"""Net new objects before the garbage collector looks at the youngest, in a process that ends soon: a small pass has
fewer. Four collections after 50,000 each would take 10 ms."""

LONG_LIFE = 50_000
"""The same in a process that goes on, whose garbage would add up; Python's own are 700."""


def collect_rarely() -> None:
    """Have the garbage collector leave a process alone that ends soon."""
    gc.set_threshold(SHORT_LIFE, 20, 20)


def stay() -> None:
    """Begin a long life after `collect_rarely`: what is there now stays, and no collection needs to look at it."""
    gc.freeze()
    gc.set_threshold(LONG_LIFE, 20, 20)


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
