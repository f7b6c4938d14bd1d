"""What a person may decide about deliveries that are there already, and what becomes of these.

The target is the fold of the accepted rows of the deliveries that count, which are the `loaded` ones. A correction
changes which deliveries these are: some no longer count, some count again, and new ones may take a place. It is a batch
like any other, so this module only says what is allowed, and when each delivery counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches

from msgspec import Struct

from ordertrail.model import Correction, CorrectionKind, Outcome, State

AFTER: Mapping[CorrectionKind, State] = {
    CorrectionKind.UNDO: State.UNDONE,
    CorrectionKind.REDO: State.LOADED,
    CorrectionKind.REPLAY: State.REPLAYED,
    CorrectionKind.CORRECT: State.UNDONE,
    CorrectionKind.RELEASE: State.REPLAYED,
    CorrectionKind.REFUSE: State.REFUSED,
    CorrectionKind.DISMISS: State.DISMISSED,
}
"""The state of a delivery after each kind of correction."""

_ASIDE = frozenset({State.QUARANTINED, State.HELD, State.DISMISSED, State.REFUSED})

ALLOWED: Mapping[CorrectionKind, frozenset[State]] = {
    CorrectionKind.UNDO: frozenset({State.LOADED}),
    CorrectionKind.REDO: frozenset({State.UNDONE, State.REPLAYED}),
    CorrectionKind.REPLAY: _ASIDE | {State.LOADED, State.UNDONE},
    CorrectionKind.CORRECT: _ASIDE | {State.LOADED, State.UNDONE},
    CorrectionKind.RELEASE: frozenset({State.HELD}),
    CorrectionKind.REFUSE: frozenset({State.HELD}),
    CorrectionKind.DISMISS: frozenset({State.QUARANTINED, State.HELD}),
}
"""The states from which each kind of correction is allowed."""

TAKES_BACK = frozenset({CorrectionKind.UNDO, CorrectionKind.REPLAY, CorrectionKind.CORRECT, CorrectionKind.RELEASE})
"""Kinds after which the deliveries no longer count."""

LOADS_ANEW = frozenset({CorrectionKind.REPLAY, CorrectionKind.CORRECT, CorrectionKind.RELEASE})
"""Kinds by which new deliveries take the place of others."""


IN_HISTORY = frozenset({State.LOADED, State.UNDONE, State.REPLAYED})
"""The states of deliveries whose accepted rows the history has, see `accepted.RECORDED`."""


class Known(Struct, frozen=True):
    """What a correction needs to know of a delivery.

    Attributes:
        delivery_id: Its id.
        vendor: Who sent it.
        file_name: Its name, for people.
        path: Below the source, as clean text.
        sha256: Of the whole file, hexadecimal.
        size_bytes: The file's size.
        mtime_us: The file's modification time, microseconds since 1970 UTC.
        state: Its state.
        archived_to: Where the file is, below the archive; None when it is not there.
        rows_accepted: How many of its rows the history has.
        replayed_by: The delivery that took its place; None for none.
        changed_by: Who changed its state; None for nobody.
        changed_why: Why.
        correction: Of a correction, its text in the ledger.
    """

    delivery_id: str
    vendor: str
    file_name: str
    path: str
    sha256: str
    size_bytes: int
    mtime_us: int
    state: State
    archived_to: str | None = None
    rows_accepted: int = 0
    replayed_by: str | None = None
    changed_by: str | None = None
    changed_why: str | None = None
    correction: str | None = None


class Refusal(Struct, frozen=True):
    """Why a correction is not allowed, and what to do instead."""

    message: str
    hint: str


def refusal(correction: Correction, known: Mapping[str, Known]) -> Refusal | None:
    """Why a correction is not allowed; None when it is. All deliveries are judged, the first refusal counts.

    Args:
        correction: What is to be done.
        known: All deliveries of the pipeline by their ids.
    """
    for one in correction.of:
        if one not in known:
            return _unknown(one, known)
        if (found := _refused(correction.kind, known[one], known)) is not None:
            return found
    return None


def _unknown(delivery_id: str, known: Mapping[str, Known]) -> Refusal:
    near = get_close_matches(delivery_id, known, n=3, cutoff=0.5) or sorted(
        one.delivery_id for one in known.values() if delivery_id and delivery_id in one.file_name
    )
    named = ", ".join(f"{one} ({known[one].file_name})" for one in near[:3])
    hint = f"the nearest are {named}" if near else "ordertrail deliveries lists them"
    return Refusal(f"there is no delivery {delivery_id!r}", hint)


def _refused(kind: CorrectionKind, one: Known, known: Mapping[str, Known]) -> Refusal | None:
    what = f"delivery {one.delivery_id} ({one.file_name})"
    if one.state is State.CORRECTION:
        return Refusal(f"{one.delivery_id} is itself a correction", _taking_back(one))
    if one.state in ALLOWED[kind]:
        successor = known.get(one.replayed_by or "")
        if kind is CorrectionKind.REDO and not one.rows_accepted:
            hint = f"ordertrail replay {one.delivery_id} reads it again"
            return Refusal(f"{what} never had a row that counted", hint)
        if kind is not CorrectionKind.DISMISS and successor is not None and successor.state is State.LOADED:
            return Refusal(
                f"{what} was replaced by {successor.delivery_id}, which counts",
                f"ordertrail undo {successor.delivery_id} takes that one back first",
            )
        return None
    said = f" by {one.changed_by}: {one.changed_why}" if one.changed_by else ""
    return Refusal(f"{what} is {one.state}{said}; {kind} needs one that is {_listed(ALLOWED[kind])}", _instead(one))


def _taking_back(one: Known) -> str:
    """How to take a correction back."""
    made = correction_from(one.correction)
    if made is None:
        return "name the deliveries that it is about; ordertrail deliveries lists them"
    ids = " ".join(made.of)
    if made.kind is CorrectionKind.UNDO:
        return f"to take it back: ordertrail redo {ids}"
    if made.kind is CorrectionKind.REDO:
        return f"to take it back: ordertrail undo {ids}"
    return f"it is about {ids}: see ordertrail deliveries"


def _instead(one: Known) -> str:
    match one.state:
        case State.UNDONE:
            return f"ordertrail redo {one.delivery_id} makes it count again"
        case State.REPLAYED:
            return f"its place was taken by {one.replayed_by}"
        case State.DUPLICATE:
            return "nothing of it was loaded, because its bytes came with another delivery: see its reason"
        case State.QUARANTINED | State.HELD | State.DISMISSED | State.REFUSED:
            return f"nothing of it was loaded; ordertrail replay {one.delivery_id} reads it again"
        case _:
            return "ordertrail deliveries shows what became of it"


def _listed(states: Iterable[State]) -> str:
    names = sorted(map(str, states))
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# -- the outcome of a key -----------------------------------------------------------------------------------------

KEY_OUTCOMES = (Outcome.INSERTED, Outcome.UPDATED, Outcome.UNCHANGED, Outcome.REMOVED)
"""What may become of a key that a correction touches: the first two are restored, the third is kept."""

_FATES = """
SELECT t.k, w.dn, w.fr, {rv} AS rv, b.pos, b.ins, w.ch,
  CASE {cases} END AS outcome
FROM touched t CROSS JOIN codes c
LEFT JOIN winners w ON t.k = w.k
LEFT JOIN (SELECT * FROM best WHERE place = 1) b ON t.k = b.k
"""

FATES = _FATES.format(
    rv="b.rv",
    cases="""
    WHEN w.k IS NULL THEN c.removed
    WHEN b.k IS NULL THEN c.inserted
    WHEN w.ch = b.ch THEN c.unchanged
    ELSE c.updated""",
)
"""`fates`: the outcome of every key in `touched`. `winners` has the newest row, `dn` and `fr`, of each key that some
delivery that counts knows, with the hash `ch` of the content that the target must have; `best` is that of
`rules.outcomes`, `rv`, `pos` and `ins` are those of the target's row before the correction."""

FATES_AGAIN = _FATES.format(
    rv="CASE WHEN b.bn = c.batch THEN b.rv - c.first_revision ELSE b.rv END",
    cases="""
    WHEN w.k IS NULL THEN c.removed
    WHEN b.bn = c.batch AND b.rv = c.first_revision THEN c.inserted
    WHEN b.bn = c.batch THEN c.updated
    ELSE c.unchanged""",
)
"""`fates` after the target's commit, as recovery sees it; compare `rules.outcomes.OUTCOMES_AGAIN`."""

OUTCOMES_IN_CORRECTION = """
SELECT r.k, r.dn, r.fr, f.rv, f.pos, f.ins,
  CASE
    WHEN r.place > 1 AND r.repeat > 1 THEN c.duplicate
    WHEN r.place > 1 THEN c.superseded
    WHEN f.dn = r.dn AND f.fr = r.fr THEN f.outcome
    WHEN r.ch = f.ch THEN c.unchanged
    ELSE c.stale
  END AS outcome
FROM ranked r CROSS JOIN codes c
JOIN fates f ON r.k = f.k
"""
"""`outcomes` of the rows that are staged with a correction: what they did to the target, which may have had a row of a
delivery that no longer counts."""


# -- in mode append -------------------------------------------------------------------------------------------------

ADDED = """
SELECT r.k, r.hpos, r.dn, r.fr, c.inserted AS outcome
FROM eligible r CROSS JOIN codes c
LEFT JOIN (SELECT DISTINCT k, ch FROM standing) t ON r.k = t.k AND r.ch = t.ch
WHERE r.repeat = 1 AND t.k IS NULL
"""
"""`added`: the rows that a correction appends to a target that keeps every row, which are the accepted rows of
deliveries that count of which the target has no equal one that counts. `eligible` has these rows of every key in
`touched`, with their place `repeat` among the equal ones in the order in which they came, and `standing` is that of
`rules.outcomes`. So an `undo` appends only rows that another delivery said as well."""

KEYS_ADDED = """
SELECT t.k, CASE WHEN a.k IS NULL THEN c.unchanged ELSE c.inserted END AS outcome
FROM touched t CROSS JOIN codes c
LEFT JOIN (SELECT DISTINCT k FROM added) a ON t.k = a.k
"""
"""The outcome of every key in `touched`: restored when a row of it is appended, else kept; nothing is removed."""

NEW_ROWS_APPENDED = """
SELECT n.k, n.dn, n.fr, CASE WHEN a.fr IS NULL THEN c.duplicate ELSE c.inserted END AS outcome
FROM new_rows n CROSS JOIN codes c
LEFT JOIN (SELECT DISTINCT dn, fr FROM added) a ON n.dn = a.dn AND n.fr = a.fr
"""
"""`outcomes` of the rows that are staged with a correction, before the target's commit and after it."""


# -- in the ledger ------------------------------------------------------------------------------------------------


def undone(by: str | None, why: str | None) -> str:
    """How a delivery was taken back, for people: `undone by ops: wrong file`."""
    return f"undone{f' by {by}' if by else ''}{f': {why}' if why else ''}"


def taken_back_words(state: str, when: datetime | None, by: str | None, why: str | None) -> str:
    """How a delivery was taken back, with the day: `undone 2026-12-01 by ops: wrong file`."""
    day = f" {when:%Y-%m-%d}" if when is not None else ""
    return f"{state}{day}{f' by {by}' if by else ''}{f': {why}' if why else ''}"


def correction_text(correction: Correction) -> str:
    """A correction as `orders_deliveries.correction` has it."""
    return json.dumps({"kind": correction.kind, "of": list(correction.of)}, ensure_ascii=True)


def correction_from(text: str | None, why: str = "", by: str = "") -> Correction | None:
    """The correction of a row of `orders_deliveries`; None when the row is not one.

    Args:
        text: Its `correction`.
        why: Its `changed_why`.
        by: Its `changed_by`.
    """
    if not text:
        return None
    body = json.loads(text)
    return Correction(CorrectionKind(body["kind"]), tuple(map(str, body["of"])), why, by)


class Span(Struct, frozen=True):
    """The batches through which the rows of a delivery counted.

    Attributes:
        delivery_id: Which one.
        first: The first of them, inclusive.
        end: The one after the last of them, exclusive; None when it still counts.
    """

    delivery_id: str
    first: int
    end: int | None


def spans(loaded: Mapping[str, int], corrections: Sequence[tuple[int, Correction]]) -> list[Span]:
    """When each delivery that was ever loaded counted.

    Args:
        loaded: The batch of every delivery that is, or was, loaded, by its id.
        corrections: All corrections, each with its batch, in the order of their batches.
    """
    opened = dict(loaded)
    found = []
    for batch, correction in corrections:
        for one in correction.of:
            if one not in loaded:
                continue
            if correction.kind in TAKES_BACK and one in opened:
                found.append(Span(one, opened.pop(one), batch))
            elif correction.kind is CorrectionKind.REDO:
                opened.setdefault(one, batch)
    return [*found, *(Span(one, first, None) for one, first in opened.items())]
