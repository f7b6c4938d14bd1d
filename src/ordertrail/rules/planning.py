"""What one pass does with the files it found: their ids, which of them were loaded before, their states."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.model import FileIdentity, FoundFile, Limits, Reject, SenderManifest, State, Vendor
from ordertrail.rules.filekey import clean_name, file_key
from ordertrail.rules.shares import KeyCounts, Shares, held_files
from ordertrail.rules.volume import RowBounds, Volume, bounds_of


class Candidate(Struct, frozen=True):
    """A complete, fingerprinted file that waits to be staged.

    Attributes:
        number: Its place in the batch, 0 = first; unique in the batch.
        delivery_id: As it will be recorded.
        vendor: Who sent it.
        path: Below the source folder, surrogate escapes for bytes that are not UTF-8.
        clean_path: The same as clean text; what the total order compares.
        identity: Its `stat` before it was fingerprinted.
        digest: SHA-256 of the whole file, hexadecimal, or a function that waits for it: a large file is hashed while it
            is parsed.
        file_key: Milliseconds since 1970.
        contract_hash: Hash of the contract and the vendor's profile.
        older_hashes: The hashes that older releases computed of the same contract and profile.
        replaces: The delivery whose place it takes, in a correction; "" where it takes none.
        archived_to: Where in the archive the file is already; None when it still has to be archived.
        sender: Its sender's manifest, which it must agree with; None when there is none, or a person has decided.
        bounds: How many rows it may have; None when nothing is expected, or a person has decided.
        shares: How many of its keys may be new or stale; None when they are not judged, or were.
        verdict: Why it is held, as a reject of the whole file, once its shares were judged; None when they allow it.
    """

    number: int
    delivery_id: str
    vendor: Vendor
    path: str
    clean_path: str
    identity: FileIdentity
    digest: str | Future[str]
    file_key: int
    contract_hash: str
    older_hashes: tuple[str, ...] = ()
    replaces: str = ""
    archived_to: str | None = None
    sender: SenderManifest | None = None
    bounds: RowBounds | None = None
    shares: Shares | None = None
    verdict: Reject | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole file, hexadecimal; waits until it is computed. Raises what reading the file raised."""
        return self.digest if isinstance(self.digest, str) else self.digest.result()

    @property
    def order(self) -> tuple[int, bytes, int]:
        """Its place in the total order among files of one vendor with the same bytes."""
        return self.file_key, self.clean_path.encode(), self.identity.mtime_ns // 1_000_000


class LoadedFile(Struct, frozen=True):
    """What the rules for repeated files need to know of a delivery that is `loaded`, or that was and is `undone`.

    Attributes:
        undone: Why it was taken back, and by whom; None when it counts.
    """

    delivery_id: str
    vendor: str
    sha256: str
    contract_hash: str
    file_key: int
    clean_path: str
    mtime_ms: int
    rows_parsed: int
    size_bytes: int
    undone: str | None = None

    @property
    def order(self) -> tuple[int, bytes, int]:
        """As `Candidate.order`."""
        return self.file_key, self.clean_path.encode(), self.mtime_ms


def candidate_of(
    file: FoundFile, vendor: Vendor, place: tuple[int, int], digest: str | Future[str], hashes: Sequence[str]
) -> Candidate:
    """A file that waits to be staged.

    Args:
        file: As it was found.
        vendor: Who sent it.
        place: The number of the batch, and the file's place in it, 0 = first.
        digest: As `Candidate.digest`.
        hashes: Of the contract and the profile: today's, then those that older releases computed.
    """
    batch, number = place
    path = clean_name(file.path)
    return Candidate(
        number=number,
        delivery_id=delivery_id(batch, number, path, file.identity),
        vendor=vendor,
        path=file.path,
        clean_path=path,
        identity=file.identity,
        digest=digest,
        file_key=file_key(file.path.rpartition("/")[2], vendor, file.identity.mtime_ns),
        contract_hash=hashes[0],
        older_hashes=tuple(hashes[1:]),
        sender=file.manifest,
    )


def delivery_id(batch: int, number: int, clean_path: str, identity: FileIdentity) -> str:
    """The id of a delivery: unique in the pipeline, and safe in a file name.

    Its last part distinguishes files to which two machines gave the same number: it is made from path, size and time.
    """
    mark = f"{clean_path}\0{identity.size_bytes}\0{identity.mtime_ns}"
    return f"{batch:06d}-{number:05d}-{hashlib.sha256(mark.encode()).hexdigest()[:8]}"


def delivery_number(delivery_id: str) -> int:
    """The delivery's place in its batch, read from its id."""
    return int(delivery_id.split("-")[1])


def delivery_place(delivery_id: str) -> tuple[int, int]:
    """The delivery's batch and its place in that batch, read from its id."""
    batch, number, _ = delivery_id.split("-")
    return int(batch), int(number)


def loaded_before(candidate: Candidate, loaded: Iterable[LoadedFile]) -> LoadedFile | None:
    """The delivery that makes this file a duplicate: same vendor, bytes and contract, loaded with an order not lower.

    The same bytes in a later file are not a duplicate: they may be the vendor's correction of what came in between. Nor
    are they when the file has since been loaded under another contract: what it says under this one must count again.
    """
    copies = [
        file
        for file in loaded
        if file.undone is None
        and (file.vendor, file.size_bytes) == (candidate.vendor.name, candidate.identity.size_bytes)
        and file.order >= candidate.order
        and file.sha256 == candidate.sha256
    ]
    # Of deliveries with the same place in the order, that of the latest batch counts, as it does in the order of rows.
    last = {file.order: file for file in sorted(copies, key=lambda file: delivery_place(file.delivery_id))}
    hashes = (candidate.contract_hash, *candidate.older_hashes)
    same = [file for file in last.values() if file.contract_hash in hashes]
    return max(same, key=lambda file: file.order, default=None)


def undone_before(candidate: Candidate, known: Iterable[LoadedFile]) -> str | None:
    """Why a file must not be loaded without a person: its vendor's same bytes were taken back, and none of them count.

    Args:
        candidate: The file.
        known: The deliveries of its size.

    Returns:
        The reason in plain words; None when it may be loaded.
    """
    same = [
        file
        for file in known
        if (file.vendor, file.size_bytes) == (candidate.vendor.name, candidate.identity.size_bytes)
        and file.sha256 == candidate.sha256
    ]
    undone = [file for file in same if file.undone is not None]
    if not undone or len(undone) < len(same):
        return None
    last = max(undone, key=lambda file: delivery_place(file.delivery_id))
    return f"the same bytes were loaded as {last.delivery_id}, which was {last.undone}"


def wrong_file(candidate: Candidate) -> str | None:
    """Why a file is not the one that its sender's manifest is about; None when it is, or has no manifest.

    Only names, bytes and hash are compared, which needs no parsing; a hash waits until the file is hashed.
    """
    sender = candidate.sender
    if sender is None:
        return None
    claims, name = sender.claims, candidate.clean_path.rpartition("/")[2]
    size_bytes = candidate.identity.size_bytes
    if claims.file_name is not None and clean_name(claims.file_name) != name:
        return _held(candidate, f"is about {clean_name(claims.file_name)!r}, not about this file")
    if claims.size_bytes is not None and claims.size_bytes != size_bytes:
        return _held(candidate, f"says {claims.size_bytes:,} bytes, the file has {size_bytes:,}")
    if claims.sha256 is not None and candidate.sha256 and claims.sha256 != candidate.sha256:
        return _held(candidate, f"says SHA-256 {claims.sha256}, the file has {candidate.sha256}")
    return None


def wrong_rows(candidate: Candidate, rows: int) -> Reject | None:
    """Why a file is held because of its rows, as a reject of the whole file; None when it is not.

    Args:
        candidate: The file.
        rows: Its data rows, rejected ones included.
    """
    if candidate.verdict is not None:
        return candidate.verdict
    said = None if candidate.sender is None else candidate.sender.claims.rows
    if said not in (None, rows):
        reason = _held(candidate, f"says {said:,} rows, the file has {rows:,}")
        return Reject(None, None, None, rule="manifest", reason=reason, raw=None)
    why = None if candidate.bounds is None else candidate.bounds.outside(rows)
    if why is None:
        return None
    reason = f"{why}; {to_decide(candidate.delivery_id)}"
    return Reject(None, None, None, rule="expect_rows", reason=reason, raw=None)


def _held(candidate: Candidate, what: str) -> str:
    assert candidate.sender is not None
    manifest = clean_name(candidate.sender.path.rpartition("/")[2])
    return f"its manifest {manifest} {what}; {to_decide(candidate.delivery_id)}"


def bounded(
    candidates: Sequence[Candidate],
    volumes: Sequence[tuple[str, Volume]],
    shares: Sequence[tuple[str, Shares]],
    recent: Callable[[Collection[str]], Mapping[str, Sequence[int]]],
) -> list[Candidate]:
    """The files with the bounds of their rows and the shares of their keys.

    Files of one batch teach each other nothing. The shares of a vendor's first files are not judged: all that they
    bring may be new.

    Args:
        candidates: The files.
        volumes: By a vendor's name, what is expected of the rows of its files.
        shares: By a vendor's name, what is expected of their keys.
        recent: See `Books.recent_rows`; asked only when it matters what a vendor has sent before.
    """
    names = {one.vendor.name for one in candidates}
    expected = {name: volume for name, volume in volumes if name in names}
    limits = {name: limit for name, limit in shares if name in names}
    asked = [*(name for name, volume in expected.items() if volume.learn), *limits]
    before = recent(list(dict.fromkeys(asked))) if asked else {}
    bounds = {name: bounds_of(volume, before.get(name, ())) for name, volume in expected.items()}
    limits = {name: limit for name, limit in limits.items() if before.get(name)}
    return [replace(one, bounds=bounds.get(one.vendor.name), shares=limits.get(one.vendor.name)) for one in candidates]


def places_of(candidates: Sequence[Candidate]) -> dict[int, int]:
    """By number, the place of each file in the order of files, 0 = first."""
    ordered = sorted(candidates, key=lambda c: (c.file_key, c.vendor.name.encode(), *c.order[1:], c.number))
    return {candidate.number: place for place, candidate in enumerate(ordered)}


def wrong_shares(
    candidates: Sequence[Candidate], count: Callable[[Collection[int]], Iterable[KeyCounts]]
) -> dict[int, Reject]:
    """Why files are held because of the shares of their keys, by number, as rejects of whole files.

    Equal files are judged by the one of them that was parsed, and held alike.

    Args:
        candidates: The files of a batch, also those that are not judged.
        count: See `held_files`; places are those of `places_of`.
    """
    places = places_of(candidates)
    held = held_files({places[c.number]: c.shares for c in candidates if c.shares is not None}, count)
    found: dict[int, Reject] = {}
    for group in rounds(candidates) if held else ():
        broken = next((held[places[one.number]] for one in group if places[one.number] in held), None)
        if broken is None:
            continue
        for one in group:
            reason = f"{broken.how}; {to_decide(one.delivery_id)}"
            found[one.number] = Reject(None, None, None, rule=broken.rule, reason=reason, raw=None)
    return found


def to_decide(delivery_id: str) -> str:
    """What a person types about a held delivery, at the end of the reason."""
    return (
        f"ask the vendor for the right file, or type ordertrail release {delivery_id} to load this one, "
        f"ordertrail refuse {delivery_id} to leave it out"
    )


def repeats(
    candidates: Sequence[Candidate], known: Sequence[LoadedFile]
) -> tuple[dict[int, LoadedFile], dict[int, str]]:
    """Which files are not parsed: duplicates, and those for a person to decide about, by their numbers.

    Args:
        candidates: The files.
        known: The deliveries of their sizes.

    Returns:
        For a duplicate the delivery that makes it one, see `loaded_before`; for one of the others why it must be held,
        see `wrong_file` and `undone_before`. A file that is not what its sender says is held even if its bytes were
        loaded before: another one was meant.
    """
    held = {c.number: why for c in candidates if (why := wrong_file(c)) is not None}
    others = [c for c in candidates if c.number not in held]
    duplicates = {c.number: of for c in others if (of := loaded_before(c, known)) is not None}
    fresh = [c for c in others if c.number not in duplicates]
    return duplicates, held | {c.number: why for c in fresh if (why := undone_before(c, known)) is not None}


def rounds(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Group a batch's files by equal (vendor, bytes, contract), each group from the highest order to the lowest.

    The first of a group is parsed. The others are its duplicates only once it is `loaded`; when it is quarantined, or
    changes while it is read, the next one takes its place.
    """
    sizes = Counter(candidate.identity.size_bytes for candidate in candidates)
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for candidate in candidates:
        alone = sizes[candidate.identity.size_bytes] == 1  # no need to wait for its hash
        content = f"file {candidate.number}" if alone else candidate.sha256
        groups.setdefault((candidate.vendor.name, content, candidate.contract_hash), []).append(candidate)
    return [sorted(group, key=lambda c: c.order, reverse=True) for group in groups.values()]


def state_of(parsed_rows: int, rejected_rows: int, limits: Limits) -> tuple[State, str | None]:
    """The state of a file that was read to its end, and the reason when it is not `loaded`.

    Args:
        parsed_rows: Number of its data rows.
        rejected_rows: How many of these are rejected.
        limits: How many rejected rows a delivery may have.
    """
    if parsed_rows == 0:
        return State.EMPTY, "the file has no data rows"
    share = limits.max_reject_share
    # One typo in a file of four rows is one bad row, not a bad file. A file without a good row, or with a bad one where
    # none is allowed, is bad.
    enough = rejected_rows >= limits.min_rejects or rejected_rows == parsed_rows or share == 0
    if rejected_rows > share * parsed_rows and enough:
        found = f"{rejected_rows} of {parsed_rows} rows are rejected"
        return State.QUARANTINED, f"{found}, more than the {share:.0%} that max_reject_share allows"
    return State.LOADED, None
