"""ordertrail: files of shipment updates in, one trustworthy Delta table out.

```python
from ordertrail import Pipeline, load_config

report = Pipeline(load_config("ordertrail.toml")).run()
print(report.rows)
```

The tables are read with `.target()`, `.history()`, `.deliveries()` and `.rejects()` of a pipeline, and what batches
changed in the target with `.changes()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ordertrail.config import Config, load_config
    from ordertrail.engines.local.change_rows import Changes
    from ordertrail.engines.local.reading import TableRows
    from ordertrail.errors import (
        ConfigError,
        OrdertrailError,
        PassRunningError,
        SourceError,
        StorageError,
        TableError,
        UsageError,
    )
    from ordertrail.model import DeliveryReport, Outcome, RowCounts, RunReport, Skipped, State
    from ordertrail.pipeline import Pipeline

__version__ = "0.1.0"

__all__ = [
    "Changes",
    "Config",
    "ConfigError",
    "DeliveryReport",
    "OrdertrailError",
    "Outcome",
    "PassRunningError",
    "Pipeline",
    "RowCounts",
    "RunReport",
    "Skipped",
    "SourceError",
    "State",
    "StorageError",
    "TableError",
    "TableRows",
    "UsageError",
    "__version__",
    "load_config",
]

_HOMES = {
    "ordertrail.config": ("Config", "load_config"),
    "ordertrail.engines.local.change_rows": ("Changes",),
    "ordertrail.engines.local.reading": ("TableRows",),
    "ordertrail.errors": (
        "ConfigError",
        "OrdertrailError",
        "PassRunningError",
        "SourceError",
        "StorageError",
        "TableError",
        "UsageError",
    ),
    "ordertrail.model": ("DeliveryReport", "Outcome", "RowCounts", "RunReport", "Skipped", "State"),
    "ordertrail.pipeline": ("Pipeline",),
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562): `import ordertrail` does no work."""
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
