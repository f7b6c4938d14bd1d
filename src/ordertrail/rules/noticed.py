"""What a person should know about a vendor's files although nothing is wrong with them: one line a vendor and kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ordertrail.model import Manifest, State, Vendor
from ordertrail.rules.filekey import file_date, take

NAMED = 5
"""How many names a line shows; it counts the rest."""

_WILD = str.maketrans({"*": "x", "?": "x"})


def noticed(manifests: Sequence[Manifest], vendors: Sequence[Vendor], *, undated: bool = False) -> tuple[str, ...]:
    """Lines about the deliveries of a batch that were loaded.

    Args:
        manifests: The manifests of the batch.
        vendors: The vendors of the config as it is now.
        undated: Whether to name also the vendors whose files are ordered by modification time because the names have no
            date.
    """
    profiles = {vendor.name: vendor for vendor in vendors}
    lines: list[str] = []
    for name in dict.fromkeys(one.vendor for one in manifests):
        loaded = [one for one in manifests if one.vendor == name and one.state is State.LOADED]
        if mapped := list(dict.fromkeys(text for one in loaded for text in one.mapped)):
            lines.append(f"{name}: {', '.join(mapped)}")
        if rescued := _all(one.rescued for one in loaded):
            kept = f"{name}: columns that the contract does not know are kept in _rescued: {_listed(rescued)}"
            lines.append(f"{kept}; once they are loaded, ordertrail drift says how to take them in")
        if unranked := _all(one.unranked for one in loaded):
            lines.append(
                f"{name}: statuses neither mapped (status_map) nor ranked (status_rank), which rank below all others: "
                f"{_listed(unranked)}"
            )
        if skipped := sum(one.lines_skipped for one in loaded):
            are = "line is no row" if skipped == 1 else "lines are no rows"
            kinds = "titles, the header again, a trailer, continuation lines, or delimiters alone"
            lines.append(f"{name}: {skipped} {are}: {kinds}")
        vendor = profiles.get(name)
        if vendor is not None and loaded and (vendor.file_date or undated):
            lines += misdated(vendor, [one.file_name for one in loaded])
    return tuple(lines)


def misdated(vendor: Vendor, names: Sequence[str]) -> tuple[str, ...]:
    """A line that a vendor's `file_date` fits none of some names, or that they have no date; empty when one has a date.

    Args:
        vendor: Who sent the files.
        names: At least one file's name.
    """
    if any(file_date(name, vendor.file_date) for name in names):
        return ()
    found = f"no date in names such as {names[0]!r}"
    if vendor.file_date is not None:
        found = f"file_date = {vendor.file_date!r} fits no name that came, such as {names[0]!r}"
    return (f"{vendor.name}: {found}: the modification time orders the files",)


def shared_globs(vendors: Sequence[Vendor], paths: Iterable[str]) -> tuple[str, ...]:
    """Lines about files that one vendor takes although the glob of a later vendor matches them as well.

    Args:
        vendors: In the order of the config; the first whose glob matches takes a file.
        paths: Paths of existing files, below the source.
    """
    return tuple(dict.fromkeys((*_by_globs(vendors), *_by_paths(vendors, paths))))


def _by_globs(vendors: Sequence[Vendor]) -> Iterator[str]:
    for place, later in enumerate(vendors):
        example = later.files.replace("**/", "").translate(_WILD)
        for earlier in vendors[:place]:
            if earlier.files == later.files:
                yield f"{earlier.name} and {later.name} have the same glob, {later.files!r}: {_wins(earlier, later)}"
            elif take(example, [later]) and take(example, [earlier]):
                both = f"{earlier.name}'s glob {earlier.files!r} takes files of {later.name}'s {later.files!r}"
                yield f"{both}, such as {example!r}: {_wins(earlier, later)}"


def _by_paths(vendors: Sequence[Vendor], paths: Iterable[str]) -> Iterator[str]:
    told: set[tuple[str, str]] = set()
    for path in paths:
        fits = [vendor for vendor in vendors if take(path, [vendor])]
        for other in fits[1:]:
            if (fits[0].name, other.name) not in told:
                told.add((fits[0].name, other.name))
                yield f"{path!r} fits the globs of {fits[0].name} and {other.name}: {_wins(fits[0], other)}"


def _wins(earlier: Vendor, later: Vendor) -> str:
    return f"{earlier.name} comes first and takes them, {later.name} does not"


def _all(found: Iterable[Sequence[str]]) -> list[str]:
    return sorted({name for names in found for name in names})


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:NAMED]))
    return shown + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
