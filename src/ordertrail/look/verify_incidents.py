"""What `ordertrail verify` says about the table of incidents, where there is one."""

from __future__ import annotations

from collections import Counter

from ordertrail.config import Config
from ordertrail.engines.local.incidents import incident_snapshot, incidents_in
from ordertrail.engines.local.whole import INCIDENTS_ROLE, cure_of_files, cure_of_log
from ordertrail.errors import OrdertrailError
from ordertrail.look.proof import Finding, Proof
from ordertrail.look.verify_files import file_faults, reader_faults
from ordertrail.rules.tables import APP_ID

NAME = "the incidents are whole, and each open one is there once"


def has_incidents(config: Config) -> bool:
    """Whether there is a table to check, be it a damaged one."""
    try:
        return incident_snapshot(config) is not None
    except OrdertrailError:
        return True


def prove_incidents(proof: Proof) -> Finding:
    """Check the table: its files, other readers, whose it is, and that no cause is open twice."""
    try:
        snapshot = incident_snapshot(proof.config)
    except OrdertrailError as error:
        return Finding(
            "", [error.message], cure_of_log(INCIDENTS_ROLE, proof.config.table_path(proof.config.incidents))
        )
    if snapshot is None:
        return Finding("none yet")
    wrong = file_faults([snapshot])[1]
    wrong += [] if wrong else reader_faults([snapshot])[1]
    if snapshot.metadata.properties.get(APP_ID) != proof.session.app_id:
        wrong.append(f"{snapshot.root.name} belongs to another pipeline")
    if wrong:
        return Finding("", wrong, cure_of_files(INCIDENTS_ROLE))
    found = incidents_in(snapshot)
    opened = Counter(one.key for one in found if one.open)
    twice = [f"{key} is open {count} times" for key, count in opened.items() if count > 1]
    return Finding(f"{len(found)} incidents, {len(opened)} open", twice, cure_of_files(INCIDENTS_ROLE))
