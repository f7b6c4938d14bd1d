"""Which tests guard which module, so that a mutant meets those that can see it and no others.

A test that starts processes of its own sees the module as it stands on the disk: it guards nothing here.
"""

from __future__ import annotations

ORDER = ("tests/unit/test_outcomes_sql.py",)


def scenarios(*names: str, of: str = "scenarios") -> tuple[str, ...]:
    """Scenarios of the contract suite; they run on the embedded engine, with deletion vectors."""
    return tuple(f"tests/contract/test_{of}.py::test_{name}" for name in names)


ROWS = scenarios(
    "two_rows_of_a_key_in_a_batch",
    "a_late_older_update_does_not_overwrite",
    "a_column_that_a_vendor_never_sends_keeps_its_value",
    "the_same_file_again_under_another_profile_corrects_itself",
    "history_decides_when_the_target_still_bears_an_older_files_name",
)
OTHERS = scenarios(
    "a_doubled_key_keeps_what_somebody_says_of_the_row_that_counts",
    "columns_of_others_beside_absent_ones",
    of="others_columns",
)
FOREIGN = scenarios(
    "a_key_that_a_foreign_append_doubled_is_there_once_after_its_next_update",
    "equal_copies_of_a_doubled_key_are_tidied_up_by_an_unchanged_row",
    "a_row_that_somebody_deleted_is_inserted_when_the_vendor_sends_it_again",
    of="foreign_writes",
)
FILES = scenarios(
    "stage_and_load_do_what_run_does",
    "a_file_that_grows_while_it_is_read_drops_out_of_the_batch",
    "a_file_that_vanishes_before_it_is_read_is_skipped",
    "an_empty_file_is_recorded_and_archived",
    "a_stage_that_was_not_loaded_is_not_overwritten",
    "a_redelivered_file_is_a_duplicate",
    "a_half_written_file_waits",
)

GUARDS: dict[str, tuple[str, ...]] = {
    "rules/outcomes.py": ORDER,
    "rules/placing.py": ("tests/unit/test_placing_sql.py", *ORDER, *ROWS),
    "rules/planning.py": ("tests/unit/test_planning.py",),
    "rules/shares.py": (
        "tests/unit/test_shares.py",
        "tests/property/test_shares.py",
        "tests/integration/test_shares.py",
    ),
    "rules/schema.py": ("tests/unit/test_schema.py", "tests/contract/test_schema_changes.py"),
    "rules/losses.py": ("tests/unit/test_losses.py",),
    "rules/cells.py": ("tests/unit/test_cells.py", "tests/unit/test_zones.py"),
    "rules/cell_sql.py": ("tests/unit/test_cells.py", "tests/unit/test_zones.py", "tests/unit/test_kernel.py"),
    "rules/headers.py": ("tests/unit/test_headers.py",),
    "rules/filekey.py": ("tests/unit/test_filekey.py", "tests/unit/test_unseen.py"),
    "rules/times.py": ("tests/unit/test_cells.py", "tests/unit/test_zones.py"),
    "rules/manifests.py": ("tests/unit/test_manifests.py",),
    "rules/globs.py": ("tests/unit/test_filekey.py",),
    "rules/accepted.py": ("tests/unit/test_placing_sql.py", *ROWS),
    "rules/agreement.py": ("tests/unit/test_schema.py",),
    "rules/belonging.py": ("tests/integration/test_belonging.py",),
    "rules/bounds.py": ("tests/unit/test_cells.py",),
    "rules/column_types.py": ("tests/unit/test_column_types.py",),
    "rules/constraints.py": ("tests/unit/test_constraints.py",),
    "rules/contract_hash.py": ("tests/unit/test_contract_hash.py",),
    "rules/named_migration.py": ("tests/unit/test_named_migration.py",),
    "rules/noticed.py": ("tests/unit/test_noticed.py",),
    "rules/others.py": ("tests/unit/test_schema.py", "tests/contract/test_others_columns.py"),
    "rules/secrets.py": ("tests/unit/test_secrets.py",),
    "rules/tables.py": ("tests/unit/test_table.py", "tests/unit/test_schema.py"),
    "rules/unseen.py": ("tests/unit/test_unseen.py",),
    "rules/waiting.py": ("tests/unit/test_settling.py", "tests/unit/test_open_items.py"),
    "delta/snapshot.py": ("tests/unit/test_snapshot.py", "tests/unit/test_checkpoint.py"),
    "delta/log.py": ("tests/unit/test_log.py", "tests/unit/test_table.py"),
    "delta/vectors.py": ("tests/unit/test_vectors.py", "tests/unit/test_golden_vectors.py"),
    "delta/table.py": ("tests/unit/test_table.py",),
    "delta/actions.py": ("tests/unit/test_actions.py", "tests/unit/test_snapshot.py"),
    "delta/checkpoint.py": ("tests/unit/test_checkpoint.py", "tests/unit/test_snapshot.py"),
    "delta/vacuum.py": ("tests/unit/test_vacuum.py",),
    "delta/log_cleanup.py": ("tests/unit/test_vacuum.py",),
    "engines/load.py": ("tests/unit/test_load_sequence.py",),
    "engines/local/weigh.py": (*ROWS, *OTHERS, *FOREIGN),
    "engines/local/accepted.py": (*ROWS, *OTHERS, *FOREIGN),
    "engines/local/fold.py": ROWS,
    "engines/local/find.py": ("tests/integration/test_index_and_scan.py",),
    "engines/embedded/apply.py": (*ROWS, *OTHERS, *FOREIGN),
    "engines/embedded/load.py": (*FILES, *ROWS),
    "look/delivered.py": ("tests/unit/test_open_items.py", "tests/unit/test_status.py"),
    "look/open_items.py": ("tests/unit/test_open_items.py",),
    "look/heartbeat.py": ("tests/unit/test_open_items.py",),
    "pipeline.py": FILES,
}
"""A module below `src/ordertrail` and the tests that guard it, quickest first; the modules that decide about rows
first."""
