"""A sender's manifest: the small file that says that another one is complete, and what it must hold. Pure, no I/O.

Three forms are read, told apart by what they hold:

- JSON: an object with `rows`, `bytes`, `sha256`, `file`, or one with a list `files` of such objects;
- lines of `key=value` or `key: value` with the same keys;
- a line of `sha256sum` (GNU coreutils): the hash, two blanks or a blank and `*`, the name.

An empty file says only that the other one is complete; an empty `.json` is one that is not written yet.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from ordertrail.model import Claims, Vendor
from ordertrail.rules.filekey import clean_name, fitted, take

MAX_BYTES = 1 << 20
"""A larger file is no manifest."""

SUFFIX = ".manifest"
"""What the name of an archived manifest ends with, behind the name of the archived file; also the id of its claim."""

_NAMES = {
    "rows": ("rows", "rowcount", "numrows", "records", "recordcount", "numrecords"),
    "size_bytes": ("bytes", "size", "sizebytes", "filesize", "bytecount", "contentlength"),
    "sha256": ("sha256", "sha256sum", "sha256hash"),
    "file_name": ("file", "filename", "name"),
}
_KEYS = {key: field for field, keys in _NAMES.items() for key in keys}
_IGNORED_IN_KEYS = re.compile(r"[\s_-]")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SUM_LINE = re.compile(r"\\?([0-9a-fA-F]{64})(?: [ *](.+))?")
_PAIR = re.compile(r"\s*([A-Za-z][\w -]*?)\s*[=:]\s*(.*?)\s*")
_PLACES = re.compile(r"\{(.*?)\}")


class Naming(Struct, frozen=True):
    """How a vendor's manifests are named: `prefix`, the data file's name without `extension`, `suffix`."""

    prefix: str
    suffix: str
    extension: str

    def manifest_of(self, path: str) -> str:
        """The path of a data file's manifest; both are in one folder."""
        folder, slash, name = path.rpartition("/")
        return f"{folder}{slash}{self.prefix}{name.removesuffix(self.extension)}{self.suffix}"

    def data_of(self, path: str) -> str | None:
        """The path of the data file whose manifest would have this path; None when no manifest is named so."""
        folder, slash, name = path.rpartition("/")
        inside = len(name) > len(self.prefix) + len(self.suffix)
        if not (inside and name.startswith(self.prefix) and name.endswith(self.suffix)):
            return None
        return f"{folder}{slash}{name[len(self.prefix) : len(name) - len(self.suffix)]}{self.extension}"


def naming(pattern: str, glob: str) -> Naming:
    """Read the setting `manifest`.

    Args:
        pattern: A name with `{name}`, the data file's name, or `{stem}`, the name without the end of the glob.
        glob: The vendor's `files`; what stands behind its last wildcard is the end that `{stem}` lacks.

    Raises:
        ValueError: The pattern names no manifest; the message says why, and what to write.
    """
    places = _PLACES.findall(pattern)
    if places not in (["name"], ["stem"]) or "/" in pattern:
        raise ValueError('has to be the name of a file with one {name} or {stem} in it, such as "{name}.manifest.json"')
    prefix, suffix = pattern.split("{" + places[0] + "}")
    if not prefix and not suffix:
        raise ValueError('is the name of the file itself: add to it, such as "{name}.manifest.json"')
    if places == ["name"]:
        return Naming(prefix, suffix, "")
    last = glob.rpartition("/")[2]
    extension = last[max(last.rfind(wild) for wild in "*?]") + 1 :]
    if not extension.startswith(".") or extension == suffix:
        raise ValueError('needs files to end with an extension of their own, such as "*.csv"; or write {name}')
    return Naming(prefix, suffix, extension)


def manifest_owner(path: str, vendors: Sequence[Vendor]) -> tuple[Vendor, str] | None:
    """Whose manifest a file is.

    Args:
        path: Below the source folder, with `/` between folders.
        vendors: In the order of the config.

    Returns:
        The vendor that takes the data file, and the path of that file; None when the file is no manifest.
    """
    for vendor in vendors:
        if vendor.manifest is None:
            continue
        data = naming(vendor.manifest, vendor.files).data_of(path)
        if data is not None and take(data, vendors) is vendor:
            return vendor, data
    return None


def manifest_path(path: str, vendor: Vendor) -> str | None:
    """The path of the manifest of a vendor's file; None when the vendor sends none."""
    return None if vendor.manifest is None else naming(vendor.manifest, vendor.files).manifest_of(path)


def archived_place(archived_to: str) -> str:
    """Where the manifest of an archived file is: beside it, whatever the vendor called it."""
    folder, slash, name = archived_to.rpartition("/")
    return f"{folder}{slash}{fitted(name, SUFFIX)}"


# --- what it says --------------------------------------------------------------------------------------------------


def read_claims(data: bytes, name: str, file_name: str) -> Claims:
    """What a manifest says of a file.

    Args:
        data: All its bytes.
        name: Its own name; only for an empty one it matters.
        file_name: The name of the file that it is about.

    Raises:
        ValueError: It cannot be read, as one that is half written cannot; the message says why in plain words.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has {len(data):,} bytes, and a manifest has {MAX_BYTES:,} at most")
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    if not text:
        if name.lower().endswith(".json"):
            raise ValueError("it is empty")
        return Claims()
    if text[0] in "{[":
        return _claims(_pairs_of_json(text, file_name))
    return _claims(_pairs_of_lines(text))


def _pairs_of_json(text: str, file_name: str) -> Iterator[tuple[str, object]]:
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is no whole JSON document: {error}") from None
    entries = body if isinstance(body, list) else body.get("files")
    if entries is None:
        yield from body.items()
        return
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise ValueError("its files are no list of objects")
    for entry in entries:
        named = dict(_known(entry.items())).get("file_name")
        if _last(str(named)) == file_name:
            yield from entry.items()
            return
    names = [str(name) for entry in entries if (name := dict(_known(entry.items())).get("file_name"))]
    yield "file", ", ".join(names) or "no file"


def _pairs_of_lines(text: str) -> Iterator[tuple[str, object]]:
    for line in text.splitlines():
        if found := _SUM_LINE.fullmatch(line.strip()):
            yield "sha256", found[1]
            if found[2]:
                yield "file", found[2]
        elif found := _PAIR.fullmatch(line):
            yield found[1], found[2].strip("\"'")
        elif line.strip() and not line.lstrip().startswith("#"):
            raise ValueError(f"its line {line.strip()[:60]!r} is neither key=value nor a line of sha256sum")


def _known(pairs: Iterable[tuple[str, object]]) -> Iterator[tuple[str, object]]:
    for key, value in pairs:
        field = _KEYS.get(_IGNORED_IN_KEYS.sub("", str(key)).lower())
        if field is not None:
            yield field, value


def _claims(pairs: Iterable[tuple[str, object]]) -> Claims:
    found: dict[str, object] = {}
    for field, value in _known(pairs):
        if found.setdefault(field, value) != value:
            raise ValueError(f"it says two things of {field}: {found[field]} and {value}")
    if not found:
        raise ValueError("it says none of rows, bytes, sha256, file")
    sha256 = found.get("sha256")
    if sha256 is not None and not _SHA256.fullmatch(str(sha256)):
        raise ValueError(f"its sha256 {str(sha256)[:70]!r} is not 64 hexadecimal digits")
    name = found.get("file_name")
    return Claims(
        rows=_number(found, "rows"),
        size_bytes=_number(found, "size_bytes"),
        sha256=None if sha256 is None else str(sha256).lower(),
        file_name=None if name is None else _last(str(name)),
    )


def _number(found: Mapping[str, object], field: str) -> int | None:
    value = found.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,18}", str(value)):
        raise ValueError(f"its {_NAMES[field][0]} {str(value)[:40]!r} is no whole number")
    return int(str(value))


def _last(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def unpaired(vendors: Sequence[Vendor], paths: Iterable[str]) -> tuple[str, ...]:
    """Lines about vendors whose files wait for manifests; one line a vendor.

    Args:
        vendors: In the order of the config.
        paths: Of the files in the source, below it.
    """
    there = set(paths)
    lacking: Counter[str] = Counter()
    example: dict[str, str] = {}
    for path in sorted(there):
        vendor = take(path, vendors)
        if vendor is None or manifest_owner(path, vendors) is not None:
            continue
        manifest = manifest_path(path, vendor)
        if manifest is not None and manifest not in there:
            lacking[vendor.name] += 1
            example.setdefault(vendor.name, f"{clean_name(path)} waits for {clean_name(manifest.rpartition('/')[2])}")
    return tuple(
        f"{name}: {number} {'file has' if number == 1 else 'files have'} no manifest: {example[name]}"
        for name, number in lacking.items()
    )
