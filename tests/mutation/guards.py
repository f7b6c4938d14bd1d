"""Which tests guard which module, so that a mutant meets those that can see it and no others.

A test that starts processes of its own sees the module as it stands on the disk: it guards nothing here.
"""

from __future__ import annotations

SCENARIOS = (
    "tests/contract/test_scenarios.py",
    "tests/contract/test_row_scenarios.py",
    "tests/contract/test_others_columns.py",
)

ORDER = ("tests/unit/test_outcomes_sql.py", "tests/property/test_order.py")

GUARDS: dict[str, tuple[str, ...]] = {
    "rules/outcomes.py": ORDER,
    "rules/placing.py": (*ORDER, "tests/contract/test_scenarios.py"),
    "rules/planning.py": ("tests/unit/test_planning.py", "tests/unit/test_job.py"),
    "rules/schema.py": ("tests/unit/test_schema.py", "tests/contract/test_schema_changes.py"),
    "rules/losses.py": ("tests/unit/test_losses.py",),
    "rules/cells.py": (
        "tests/unit/test_cells.py",
        "tests/unit/test_kernel.py",
        "tests/unit/test_records.py",
        "tests/unit/test_zones.py",
        "tests/unit/test_golden_vectors.py",
    ),
    "rules/headers.py": ("tests/unit/test_headers.py", "tests/unit/test_kernel.py"),
    "rules/filekey.py": ("tests/unit/test_filekey.py", "tests/unit/test_unseen.py", "tests/property/test_times.py"),
    "rules/times.py": ("tests/unit/test_cells.py", "tests/unit/test_zones.py", "tests/property/test_times.py"),
    "rules/manifests.py": ("tests/unit/test_manifests.py",),
    "rules/globs.py": ("tests/contract/test_source.py", "tests/unit/test_config.py", "tests/unit/test_unseen.py"),
    "rules/agreement.py": ("tests/unit/test_schema.py",),
    "rules/belonging.py": ("tests/integration/test_belonging.py",),
    "rules/bounds.py": ("tests/unit/test_cells.py",),
    "rules/contract_hash.py": ("tests/unit/test_contract_hash.py",),
    "rules/noticed.py": ("tests/unit/test_noticed.py",),
    "rules/others.py": ("tests/unit/test_schema.py", "tests/contract/test_others_columns.py"),
    "rules/secrets.py": ("tests/unit/test_secrets.py",),
    "rules/tables.py": ("tests/unit/test_table.py", "tests/unit/test_schema.py"),
    "rules/unseen.py": ("tests/unit/test_unseen.py",),
    "rules/waiting.py": ("tests/unit/test_settling.py",),
}
"""A module below `src/ordertrail` and the tests that guard it, quickest first; the modules that decide about rows
first."""
