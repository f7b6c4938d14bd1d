"""What the report of a pass says of one delivery, and of a correction."""

from __future__ import annotations

from datetime import UTC, datetime

from ordertrail.model import CorrectionReport, DeliveryReport, FileIdentity, Manifest, RowCounts


def correction_report(manifest: Manifest, keys: RowCounts, *, appends: bool) -> CorrectionReport:
    """A correction in the report of a pass.

    Args:
        manifest: Of the correction itself.
        keys: Keys by outcome.
        appends: Whether the target keeps all rows.
    """
    assert manifest.correction is not None
    return CorrectionReport(
        manifest.correction, keys.parsed, keys.inserted + keys.updated, keys.unchanged, keys.removed, appends
    )


def delivery_report(manifest: Manifest, rows: RowCounts, archived_to: str | None) -> DeliveryReport:
    """A delivery in the report of a pass.

    Args:
        manifest: The delivery's.
        rows: Its rows by outcome.
        archived_to: Where its file is now, below the archive; None when it is not there.
    """
    return DeliveryReport(
        delivery_id=manifest.delivery_id,
        vendor=manifest.vendor,
        file_name=manifest.file_name,
        sha256=manifest.sha256,
        size_bytes=manifest.identity.size_bytes,
        state=manifest.state,
        reason=manifest.reason,
        archived_to=archived_to,
        rows=rows,
        lines_skipped=manifest.lines_skipped,
        doubts=manifest.doubts,
        closed_at=_closed_at(manifest.identity),
    )


def _closed_at(identity: FileIdentity) -> datetime | None:
    """When the file was last changed, renamed or moved; None when it is none.

    The time of its content may be the sender's, and older than the file is here.
    """
    closed_ns = identity.ctime_ns or identity.mtime_ns  # 0 on a mount that makes it up
    return datetime.fromtimestamp(closed_ns / 10**9, UTC) if closed_ns else None
