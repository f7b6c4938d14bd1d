"""`drift` as text for people and as a JSON document."""

from __future__ import annotations

from ordertrail.cli.screen import Column, Screen, shown
from ordertrail.look.drift import Drift, Drifted
from ordertrail.look.rows import Json, cell, json_value

_WIDE = 0x10000
_COLUMNS = (
    Column("column"),
    Column("vendors"),
    Column("first seen (UTC)"),
    Column("filled", right=True),
    Column("guess"),
    Column("unfit", right=True),
    Column("first file", detail=True),
)


def document(found: Drift) -> Json:
    """`drift`; `first_seen` is the time of the first delivery, `more` counts the columns beyond the limit."""
    return {"columns": [_column(one) for one in found.columns], "more": found.more}


def _column(one: Drifted) -> Json:
    example = one.example
    return {
        "column": one.column,
        "vendors": list(one.vendors),
        "first_seen": json_value(one.first_seen),
        "first_file": one.first_file,
        "share": round(one.share, 6),
        "guess": one.guess,
        "unfit": one.unfit,
        "example": None
        if example is None
        else {"value": example.value, "file_name": example.file_name, "file_row": example.file_row},
        "like": one.like,
        "paste": [{"vendor": part.vendor, "toml": part.toml} for part in one.paste],
        "note": one.note,
        "state": one.state,
    }


def drift(screen: Screen, found: Drift) -> None:
    """`drift`: the columns, then what to put into the config for each."""
    if not found.columns:
        screen.line("No vendor sends anything beyond the contract.")
        return
    screen.table(_COLUMNS, [_row(one) for one in found.columns])
    if found.more:
        screen.line(f"and {found.more} more with --limit", "dim")
    for one in found.columns:
        screen.heading(_title(one))
        if one.example is not None:
            where = f"{one.example.file_name}, row {one.example.file_row}"
            screen.line(f"# does not fit {one.guess}: {one.example.value!r} in {where}", "yellow")
        if one.note:
            screen.line(f"# {one.note}", "yellow")
        for part in one.paste:
            if part.vendor is not None:
                screen.line(f"# in [[vendors]] of {part.vendor}, instead of such a line:", "dim")
            for line in part.toml.split("\n"):
                screen.verbatim(toml_shown(line) + "\n")


def toml_shown(line: str) -> str:
    """A line of TOML that means the same, with the characters that nobody sees escaped."""
    return "".join(
        char if shown(char) == char else f"\\u{ord(char):04X}" if ord(char) < _WIDE else f"\\U{ord(char):08X}"
        for char in line
    )


def _title(one: Drifted) -> str:
    return f"# {one.column!r}" + (f" looks like {one.like}: an alias takes it in" if one.like else "")


def _row(one: Drifted) -> tuple[str, ...]:
    return (
        one.column,
        ", ".join(one.vendors),
        cell(one.first_seen),
        f"{one.share:.1%}",
        one.guess,
        str(one.unfit),
        one.first_file,
    )
