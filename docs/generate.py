"""Write docs/reference from the code: `python -m docs.generate`. tests/docs fails when a page is out of date.

Nothing here says what a setting, column, error or option means: the code does, and this prints it.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, cast

import click
from msgspec.structs import replace

import ordertrail
from ordertrail.alerts.after import Checked
from ordertrail.alerts.outbox import Sent
from ordertrail.begin.demo import Demo
from ordertrail.begin.doctor import DoctorReport, Finding
from ordertrail.begin.init import Started
from ordertrail.begin.vendor_add import AddedVendor
from ordertrail.cli import COMMANDS, PROGRAM, alerts_view, changes_view, cli, deploy_view, drift_view, vendor_view
from ordertrail.cli import document as command_document
from ordertrail.cli.errors import BUG, EXIT_FAILED
from ordertrail.cli.log_events import OWN, json_line
from ordertrail.config import DEFAULT_CONTRACT, LOG_FORMATS, LOG_LEVELS, SETTINGS, parse_config, template
from ordertrail.config.settings import SECTIONS
from ordertrail.config.template import toml_value
from ordertrail.config.values import Address, Alert, Config
from ordertrail.databricks.bundle import Bundle
from ordertrail.delta.vacuum import Sweep
from ordertrail.deploy.files import Deployed, WrittenFile
from ordertrail.errors import OrdertrailError
from ordertrail.keep.backup import BackupReport
from ordertrail.keep.maintain import MaintenanceReport, StepDone
from ordertrail.keep.restore import RestoreReport, Unknown
from ordertrail.look import document as look_document
from ordertrail.look.as_of import AsOf
from ordertrail.look.changes import Written
from ordertrail.look.consume import Standing as Consuming
from ordertrail.look.delivered import SetAside
from ordertrail.look.drift import Drift, Drifted, Misfit, Paste
from ordertrail.look.dry_run import Changed
from ordertrail.look.export import Exported
from ordertrail.look.metrics import METRICS, PROCESS_METRICS
from ordertrail.look.open_items import KINDS, Facts, OpenItem, open_items
from ordertrail.look.plan import PlannedFile, PlanReport
from ordertrail.look.readings import MOST_VENDORS, OTHERS
from ordertrail.look.rows import Rows
from ordertrail.look.status import Status, TableDebt, Waiting
from ordertrail.look.track import Match, Track
from ordertrail.look.verify import Check, VerifyReport
from ordertrail.mend import document as mend_document
from ordertrail.mend.healing import Heal
from ordertrail.mend.migration import MigrationReport
from ordertrail.mend.preview import Preview
from ordertrail.model import (
    ROW_OUTCOMES,
    Column,
    Contract,
    Correction,
    CorrectionKind,
    CorrectionReport,
    DeliveryReport,
    Outcome,
    Reject,
    RowCounts,
    RunReport,
    Skipped,
    State,
    Vendor,
)
from ordertrail.rules.bounds import MAX_RAW_CHARS, MAX_REASON_CHARS, MAX_VALUE_CHARS
from ordertrail.rules.cells import row_sql
from ordertrail.rules.headers import map_header
from ordertrail.rules.incidents import Incident
from ordertrail.rules.migration import Step, Unfit
from ordertrail.rules.outbox import Channel, Post
from ordertrail.rules.secrets import SecretUrl
from ordertrail.rules.tables import (
    AUDIT,
    DELIVERIES,
    INCIDENTS,
    REJECTS,
    TableColumn,
    contract_columns,
    history_columns,
    stage_columns,
    target_columns,
)

DOCS = Path(__file__).resolve().parent
FEEDS = Path(__file__).parents[1] / "tests" / "feeds"
REFERENCE = DOCS / "reference"
PACKAGE = Path(ordertrail.__file__).parent
NOTICE = "<!-- Written by `python -m docs.generate` from the code. Do not edit. -->"

EXIT_CODES = (
    (0, "done; nothing to do is done too"),
    (1, "failed; it is safe to run again"),
    (2, "wrong usage or config"),
    (3, "done, but something needs a person: a quarantined delivery, a warning, a check that failed"),
    (4, "another pass of this pipeline is running; nothing was done"),
    (130, "interrupted by Ctrl-C"),
)

OUTCOMES = {
    Outcome.INSERTED: "the key was not in the target: the row is its first",
    Outcome.UPDATED: "it comes after the target's row in the total order and differs: it is the target's row now",
    Outcome.UNCHANGED: "its content is what the target has: nothing is written",
    Outcome.STALE: "it comes before the target's row in the total order: it is kept in the history only",
    Outcome.SUPERSEDED: "it lost to a newer row of the same key in its own batch",
    Outcome.DUPLICATE: "the same row again in its batch, or a row of a file whose bytes were loaded before",
    Outcome.REJECTED: "it breaks a rule: it is in the rejects, and nowhere else",
    Outcome.REMOVED: "of a correction, not of a row: a key that left the target, for no delivery that counts knows it",
}

STATES = {
    State.LOADED: "its good rows have been weighed against the target",
    State.EMPTY: "it has no data rows",
    State.DUPLICATE: "the same vendor, bytes and contract are loaded already, with an order not lower",
    State.QUARANTINED: "nothing of it landed; the file is below `quarantine/` in the archive",
    State.HELD: "its name says a day far ahead, its bytes were taken back before, or the engine fails on it alone; "
    "it is below `quarantine/` too",
    State.UNDONE: "`undo` or `correct` took it back: its rows no longer count",
    State.REPLAYED: "its file was read again, and the delivery in `replayed_by` has its place",
    State.REFUSED: "it was held, and a person decided that it is not loaded",
    State.DISMISSED: "it was quarantined or held, and a person said that it needs nobody",
    State.CORRECTION: "no file but the correction itself: it touched `rows_parsed` keys; `rows_inserted` and "
    "`rows_updated` were restored, `rows_unchanged` were kept, `rows_removed` left the target",
    State.MIGRATION: "no file but a batch that brought the tables to another contract; `reason` says what it did",
}

FILE_RULES = {
    "header": "the header cannot be read, two of its columns mean the same contract column, or its names are too long",
    "missing_column": "the file lacks a column of the contract that the vendor does not list as `absent`",
    "from_name": "the file's name does not match the vendor's `from_name`",
    "unknown_column": 'a column nobody knows, with `unknown_columns = "strict"`; or more of them than are sensible',
    "encoding": "the bytes are not of the declared encoding, or not UTF-8 where none is declared",
    "archive": "a gzip file or zip archive that is damaged, cut off, encrypted, packed twice or made to fill the disk",
    "binary": "the file is no text: it holds NUL bytes, or begins as a workbook, a picture or another such file does",
    "engine": "the memory does not suffice for the file even alone, or the engine fails on it: the delivery is `held`",
    "cut_off": "the last line has no line end, and `final_newline` says that it has one: the delivery is `held`",
    "expect_rows": "the file has more or fewer rows than `expect_rows` says: the delivery is `held`",
    "max_new_share": "more keys of the file are new to the target than `max_new_share` allows: the delivery is `held`",
    "max_stale_share": "more keys of the file are older than what the target holds than `max_stale_share` allows: the "
    "delivery is `held`",
    "manifest": "the sender's manifest says another number of rows than the file has: the delivery is `held`",
    "trailer": "the trailer is missing, or tells another number of rows than the file has: the delivery is `held`",
    "line_length": "a record is longer than a record of a text file can be, 4 MiB",
}
"""Rules that quarantine a whole file."""

ROW_RULES = {
    "ragged": "the row has more or fewer cells than the header",
    "quote": "a quote is opened and never closed, or text follows a closing quote",
    "constraint": "a CHECK constraint of the target's owner refuses the row; found where Spark alone "
    "writes to the target, and then without the raw record",
}
"""Rules that reject a row as a whole."""


def pages() -> dict[str, str]:
    """The text of every reference page, by its file name."""
    bodies = {
        "settings.md": _settings(),
        "commands.md": _commands(),
        "tables.md": _tables(),
        "rejects.md": _rejects(),
        "errors.md": _errors(),
        "json.md": _json(),
        "metrics.md": _metrics(),
        "logs.md": _logs(),
        "api.md": _api(),
        "feeds.md": _feeds(),
    }
    return {name: "\n".join([NOTICE, "", *lines]).rstrip() + "\n" for name, lines in bodies.items()}


def main() -> None:
    """Write the pages."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(f"docs/reference/{name}")


# --- markdown ----------------------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in row) + " |"
    yield ""


def _code(text: str, language: str = "") -> Iterator[str]:
    yield f"```{language}"
    yield from text.rstrip().splitlines()
    yield "```"
    yield ""


def _first(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())


def _attributes(kind: type) -> dict[str, str]:
    """Name and meaning of what a docstring lists under `Attributes:`."""
    section = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.split(r"(?m)^    (\w+): ", section)[1:]
    return {name: " ".join(text.split()) for name, text in zip(found[::2], found[1::2], strict=True)}


# --- settings ----------------------------------------------------------------------------------------------------


def _settings() -> list[str]:
    lines = ["# Settings", ""]
    lines += [
        "All settings of `ordertrail.toml`. An unknown key is an error that names the nearest right one. Folders are",
        "relative to the folder of the file. `ordertrail init` writes a file with all of them and their defaults.",
        "",
    ]
    for section, model in SECTIONS.items():
        header = f"[[{section}]]" if section in ("contract.columns", "vendors", "alerts") else f"[{section}]"
        lines += [f"## `{header}`", "", _first(model.__doc__).partition(": ")[2].capitalize(), ""]
        rows = []
        for one in SETTINGS:
            if one.section == section:
                default = "must be given" if one.required else "–" if one.default is None else toml_value(one.default)
                shown = default if one.required or one.default is None else f"`{default}`"
                rows.append((f"`{one.name}`", one.type, shown, one.help))
        lines += _table(("setting", "takes", "default", "what it does"), rows)
    lines += ["## Environment", ""]
    overrides = [(f"`{one.environment}`", f"`{one.key}`") for one in SETTINGS if one.environment]
    lines += _table(("variable", "overrides"), overrides)
    levels = ", ".join(f"`{level}`" for level in LOG_LEVELS)
    forms = ", ".join(f"`{form}`" for form in LOG_FORMATS)
    lines += [
        f"`ORDERTRAIL_LOG` sets the level of the log on stderr: {levels}. `ORDERTRAIL_LOG_FORMAT` sets",
        f"its form: {forms}, see [logs](logs.md).",
        "",
    ]
    lines += ["## The default contract", "", "Without `[[contract.columns]]` the columns are:", ""]
    columns = [(f"`{c.name}`", c.type, "required" if c.required else "") for c in DEFAULT_CONTRACT.columns]
    return lines + list(_table(("column", "type", ""), columns))


# --- logs --------------------------------------------------------------------------------------------------------


def _logs() -> list[str]:
    lines = ["# Logs", ""]
    lines += [
        "Logs go to stderr, one line an event. With `ORDERTRAIL_LOG_FORMAT=json` each line is one JSON object in",
        "ASCII, of every command and of `watch`; errors of a command and tracebacks are lines of the same form. What a",
        "command prints on stdout stays as it is. Members are a contract; new ones may be added.",
        "",
    ]
    example = json_line({"level": "info", "event": "delivery", "file": "order_tracking_2026_11_24.csv", "batch": 3})
    lines += ["```json", re.sub(r'"time": "[^"]*"', '"time": "2026-11-24T06:31:07.104211Z"', example), "```", ""]
    own = {
        "time": "when; ISO 8601 in UTC with microseconds",
        "level": ", ".join(f"`{level}`" for level in LOG_LEVELS),
        "event": "what happened: one of the texts below, or a warning in plain words",
        "exception": "a traceback as text, where there is one",
    }
    lines += _table(("member", "what it is"), [(f"`{name}`", own[name]) for name in OWN])
    lines += [
        "The other members are the fields of the event. Lists stay lists, times are texts like `time`, and bytes of a",
        "file name that are no UTF-8 stand as `\\udc80` and so on. A program that uses ordertrail as a library gets",
        "the same events through its own structlog, or else through the standard logger `ordertrail`.",
        "",
    ]
    rows = sorted(
        {(f"`{event}`", level, ", ".join(f"`{one}`" for one in fields)) for event, level, fields in log_events()}
    )
    return lines + list(_table(("event", "level", "fields"), rows))


def log_events() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Every event that the code logs: its text, its level, and its fields. Warnings in plain words are not here."""
    yield "the command failed", "error", ("code", "reason", "hint")
    yield "traceback", "debug", ("exception",)
    yield "lines were lost: nobody read them", "warning", ("lines",)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="_log"), attr=level), args=[ast.Constant(value=str(event)), *_]
                ):
                    names = (one.arg for one in node.keywords if one.arg is not None)
                    yield event, level, tuple("exception" if name == "exc_info" else name for name in names)


# --- commands ----------------------------------------------------------------------------------------------------


def _commands() -> list[str]:
    lines = ["# Commands", "", "Every command takes the options of the first table beside its own.", ""]
    root = click.Context(cli, info_name=PROGRAM)
    found = list(commands().items())
    common = found[0][1].params[-3:]
    lines += _option_table(common)
    lines += ["`-h`, `--help` shows a command's help; `ordertrail --version` the version.", ""]
    for name, command in found:
        lines += [f"## `{PROGRAM} {name}`", ""]
        pieces = [p.make_metavar(root) for p in command.params if isinstance(p, click.Argument)]
        lines += _code(" ".join([PROGRAM, name, "[OPTIONS]", *pieces]), "text")
        lines += _prose(command.help or "")
        own = [p for p in command.params if isinstance(p, click.Option) and p.name not in {c.name for c in common}]
        if own:
            lines += _option_table(own)
    lines += ["## Exit codes", ""]
    return lines + list(_table(("code", "meaning"), [(str(code), text) for code, text in EXIT_CODES]))


def commands() -> dict[str, click.Command]:
    """Every command by the words that call it; of a group those inside it."""
    root = click.Context(cli, info_name=PROGRAM)
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = cli.get_command(root, name)
        if command is None:
            raise LookupError(name)
        inside = command.commands if isinstance(command, click.Group) else None
        found |= {name: command} if inside is None else {f"{name} {word}": one for word, one in inside.items()}
    return found


def _prose(text: str) -> Iterator[str]:
    """A command's help; what click is told to leave as it is becomes code."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from _code(paragraph[2:], "text")
        else:
            yield from (paragraph, "")


def _option_table(options: Iterable[click.Parameter]) -> Iterator[str]:
    rows = []
    for one in options:
        if isinstance(one, click.Option):
            name = f"{one.opts[0]} {one.metavar}" if one.metavar else one.opts[0]
            default = f"`{one.default}`" if one.show_default else "–"
            rows.append((f"`{name}`", default, " ".join((one.help or "").split())))
    return _table(("option", "default", "what it does"), rows)


# --- metrics -----------------------------------------------------------------------------------------------------

ORIGINS = {
    "always": ("Always", "Of `ordertrail watch --metrics-port PORT` and of the pages, before the first pass, too."),
    "tables": (
        "From the tables",
        "Of both, read at most every 5 seconds; not where only Spark reaches the tables.",
    ),
    "service": ("From the service", "Only of `ordertrail watch`; counted since it began."),
}

LABELS = {
    "acknowledged": "`yes` once somebody said that they know of it, else `no`",
    "channel": "a channel of `[[alerts]]`, by its name",
    "folder": "`source`, `archive` or `warehouse`",
    "kind": f"one of {', '.join(f'`{kind}`' for kind in KINDS)}",
    "outcome": f"one of {', '.join(f'`{one}`' for one in ROW_OUTCOMES)}",
    "result": "`loaded`, `idle` (nothing was waiting), `failed`, or `blocked` (somebody else ran a pass)",
    "severity": "`warning` or `critical`",
    "state": "a state of a delivery: `loaded`, `quarantined` and `held` always, others when there is one",
    "step": "`discover`, `stage`, `load`, `archive` or `total`",
    "vendor": f"a vendor; from the {MOST_VENDORS + 1}st on they are summed as `{OTHERS}`",
    "version": "of ordertrail",
    "engine": "`embedded` or `spark`",
    "pipeline": "the pipeline's name; all metrics but those of the process have it",
}


def _metrics() -> list[str]:
    lines = ["# Metrics", ""]
    lines += [
        "What `/metrics` answers, in Prometheus' text format or, when `Accept` asks for it, OpenMetrics. How to switch",
        "it on, with a dashboard and alert rules: [operate it](../how-to/operate.md#metrics).",
        "",
    ]
    for origin, (title, text) in ORIGINS.items():
        lines += [f"## {title}", "", text, ""]
        rows = [
            (f"`{one.name}`", one.kind, ", ".join(f"`{name}`" for name in one.labels), one.help)
            for one in METRICS
            if one.origin == origin
        ]
        lines += _table(("metric", "kind", "labels", "what it is"), rows)
    lines += ["## Of the process", "", "Of the process that is asked, on Linux; without labels.", ""]
    lines += _table(("metric", "what it is"), [(f"`{name}`", text) for name, text in PROCESS_METRICS.items()])
    lines += ["## Labels", ""]
    return lines + list(_table(("label", "values"), [(f"`{name}`", text) for name, text in LABELS.items()]))


# --- tables ------------------------------------------------------------------------------------------------------


def _tables() -> list[str]:
    lines = ["# Tables", ""]
    lines += [
        "Five Delta tables in `<warehouse>/<catalog>/<schema>/<table>`. Times are UTC. Contract columns have the types",
        "that the contract gives them; the default contract is shown. All five carry the batch number as a `txn`. A",
        "sixth, `orders_incidents`, is no part of any batch, and is made when the first incident opens.",
        "",
    ]
    contract = contract_columns(DEFAULT_CONTRACT)
    audit, target = {c.name for c in AUDIT}, {c.name for c in contract}
    texts: tuple[tuple[str, str, Sequence[TableColumn], set[str]], ...] = (
        ("orders_target", "A row is a shipment's latest state.", target_columns(DEFAULT_CONTRACT), set()),
        (
            "orders_history",
            "An accepted row of a delivery, whatever became of it. Append only. It has the target's columns, and:",
            history_columns(DEFAULT_CONTRACT),
            audit | target,
        ),
        ("orders_rejects", "A row is a rejected cell, row or file. Append only.", REJECTS, set()),
        ("orders_deliveries", "A row is a file that came. Its commit is the batch's done mark.", DELIVERIES, set()),
        (
            "orders_stage",
            "A row is a row, a reject or a delivery of the current batch. It has the contract's columns, and:",
            stage_columns(DEFAULT_CONTRACT),
            target,
        ),
        (
            "orders_incidents",
            """A row is an incident: the life of one cause for which somebody was needed. The table is written whole,
and only when one of them changes; what was closed more than 400 days ago is then left out.""",
            INCIDENTS,
            set(),
        ),
    )
    for name, text, columns, left_out in texts:
        lines += [f"## `{name}`", "", text, ""]
        shown = [c for c in columns if c.name not in left_out]
        rows = [(f"`{c.name}`", c.type, "no" if c.required else "", c.help) for c in shown]
        lines += _table(("column", "type", "NULL", "what it holds"), rows)
        if name == "orders_history":
            lines += [
                "`_inserted_at`, `_updated_at` and `_revision` are NULL where the row did not go into the target.",
                "",
            ]
    lines += ["## Outcomes", "", f"{_first(Outcome.__doc__)} For every delivery", ""]
    lines += _code("parsed = " + " + ".join(ROW_OUTCOMES), "text")
    lines += [
        "and for every correction touched = restored (`inserted`, `updated`) + kept (`unchanged`) + `removed`.",
        "",
    ]
    lines += _table(("outcome", "meaning"), [(f"`{one}`", OUTCOMES[one]) for one in Outcome])
    lines += ["## States", "", _first(State.__doc__), ""]
    return lines + list(_table(("state", "meaning"), [(f"`{one}`", STATES[one]) for one in State]))


# --- reject rules ------------------------------------------------------------------------------------------------


def rules_in_code() -> set[str]:
    """The rules of whole files and rows, as the package's source names them."""
    found: set[str] = set()
    for path in Path(ordertrail.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            named = [k.value for k in node.keywords if k.arg == "rule"]
            found |= {str(one.value) for one in named if isinstance(one, ast.Constant)}
    return found


def cell_rules() -> dict[str, list[str]]:
    """The rules of cells, with the reasons that the row kernel gives, from a contract that has all of them."""
    columns = (
        Column("key", "string", required=True, identifier=True),
        Column("at", "timestamp", required=True, formats=("%d.%m.%Y %H:%M %Z",)),
        *(Column(f"a_{kind}", kind) for kind in ("date", "int", "bigint", "double", "boolean")),
        Column("a_decimal", "decimal(10,2)", min="0", max="99"),
        Column("code", "string", required=True, pattern="[A-Z]{2}", allowed=("AB", "CD")),
    )
    contract = Contract(columns, ("key",), "at", None, ())
    vendor = Vendor("acme", timezone="America/Chicago", combine=(("a_date", ("day", "year")),))
    header = (*(name for name in contract.names if name != "a_date"), "day", "year")
    found: dict[str, list[str]] = {}
    for check in row_sql(contract, vendor, map_header(header, contract, vendor)).checks:
        found.setdefault(check.rule, []).append(check.reason)
    return found


def _rejects() -> list[str]:
    if rules_in_code() != {*FILE_RULES, *ROW_RULES}:
        raise LookupError(f"describe these rules in docs/generate.py: {rules_in_code() ^ {*FILE_RULES, *ROW_RULES}}")
    lines = ["# Reject rules", ""]
    lines += [
        "`orders_rejects.rule` has one of these names. They are stable. A row with several bad cells has a reject for",
        "each. A delivery with more rejected rows than `max_reject_share` allows is quarantined as a whole; its",
        "rejects keep the rules of their cells.",
        "",
        "Of a long text the tables keep the beginning, with a mark that says how long it was:",
        f"`value` {MAX_VALUE_CHARS:,} characters, `raw` {MAX_RAW_CHARS:,}, `reason` {MAX_REASON_CHARS:,}. The archived",
        "file has the whole.",
        "",
        "## A cell",
        "",
    ]
    rows = [(f"`{rule}`", "<br>".join(dict.fromkeys(reasons))) for rule, reasons in cell_rules().items()]
    lines += _table(("rule", "reason, for example"), rows)
    lines += ["## A row", "", *_table(("rule", "meaning"), [(f"`{r}`", t) for r, t in ROW_RULES.items()])]
    lines += ["## A whole file, which is quarantined or held", ""]
    return lines + list(_table(("rule", "meaning"), [(f"`{r}`", t) for r, t in FILE_RULES.items()]))


# --- kinds of files ----------------------------------------------------------------------------------------------


def _feeds() -> list[str]:
    lines = ["# Kinds of files", ""]
    lines += [
        "What vendors send, and the lines of their `[[vendors]]` that read it. Each kind is a folder of `tests/feeds`,",
        "a small file with what comes out of it, which the tests plan and run.",
        "",
    ]
    for folder in sorted(path for path in FEEDS.iterdir() if path.is_dir()):
        case = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        lines += [f"## {case['kind'][:1].upper()}{case['kind'][1:]}", ""]
        rejected = len({one["file_row"] for one in case["rejects"] if one["file_row"]})
        fate = f"`{case['state']}`" + (f", {rejected} rejected" if rejected else "")
        lines += [f"{case['about']} (`{folder.name}`: {fate})", ""]
        if toml := (folder / "vendor.toml").read_text(encoding="utf-8").strip():
            lines += _code(toml, "toml")
    return lines


# --- errors ------------------------------------------------------------------------------------------------------


def errors() -> Iterator[type[OrdertrailError]]:
    """Every error class, the base first."""
    waiting: list[type[OrdertrailError]] = [OrdertrailError]
    while waiting:
        one = waiting.pop(0)
        yield one
        waiting = [*one.__subclasses__(), *waiting]


def _errors() -> list[str]:
    lines = ["# Error codes", ""]
    lines += [
        "A failed command prints `error CODE: what happened` and what to do on stderr; with `--json` one document",
        '`{"error": {"code", "message", "hint"}}` on stdout. A transient error may go away by itself: `watch` retries',
        "it soon, any other more slowly.",
        "",
    ]
    rows = [
        (f"`{e.code}`", f"`{e.__name__}`", "yes" if e.transient else "no", str(e.exit_code), _first(e.__doc__))
        for e in errors()
    ]
    rows.append((f"`{BUG}`", "–", "no", str(EXIT_FAILED), "A mistake in ordertrail; please report it."))
    return lines + list(_table(("code", "class", "transient", "exit code", "meaning"), rows))


# --- JSON --------------------------------------------------------------------------------------------------------

Document: TypeAlias = Mapping[str, Any]

_CLOCK = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
_COUNTS = RowCounts(parsed=5, inserted=1, updated=1, unchanged=1, stale=1, superseded=1)
_DELIVERY = DeliveryReport(
    "000012-00000-13de8d60",
    "acme",
    "order_tracking_2026_11_23.csv",
    "13de8d60" + "0" * 56,
    436,
    State.LOADED,
    None,
    "2026/11/23/000012-00000-13de8d60-order_tracking_2026_11_23.csv",
    _COUNTS,
)
_REPORT = RunReport(
    "orders",
    "embedded",
    12,
    False,
    _COUNTS,
    (_DELIVERY,),
    (Skipped("acme/new.csv", "not settled"),),
    (),
    {"discover": 0.01, "stage": 0.1, "load": 0.1, "archive": 0.0, "total": 0.21},
)
_MIGRATED = MigrationReport(
    pipeline="orders",
    steps=(Step("type", "weight", "string", "decimal(8,2)", 1_204, 1),),
    unfit=(Unfit("weight", "acme", "order_tracking_2026_11_23.csv", 17, "12 kg", "not a number that fits …"),),
    problems=(),
    notes=(),
    applied=False,
    batch=None,
    seconds=0.41,
    heals=(Heal("000001-00000-9f57aa5b", "acme", "order_tracking_2026_11_21.csv", "loaded", 12),),
)

_CORRECTED = replace(
    _REPORT,
    batch=None,
    rows=RowCounts(),
    deliveries=(),
    skipped=(),
    correction=CorrectionReport(
        Correction(CorrectionKind.UNDO, ("000011-00000-51c7a1e0",), "sent by mistake", "ops"), 3, 1, 1, 1
    ),
)
_CHANGED = Changed({"tracking_num": "0045001"}, "restored", {"status": "RETURNED"}, {"status": "DELIVERED"})
_ROW: dict[str, object] = {"tracking_num": "0045001", "status": "DELIVERED", "_file_row": 1, "_batch": 12}


def _told(config: Config) -> alerts_view.Listed:
    """A channel, and an incident of which it was told."""
    incident = Incident(
        "20261123T083000-5d1f0c2a", "delivery:000012-00001-51c7a1e0", "quarantined", "warning", "acme", "…",
        "ordertrail rejects --delivery 000012-00001-51c7a1e0", 240, _CLOCK, _CLOCK, _CLOCK,
        posts=(Post("desk", "open", _CLOCK),),
    )  # fmt: skip
    desk = Alert(Channel("desk", quiet=(22 * 60, 6 * 60), timezone="Europe/Berlin"), Address(SecretUrl("mailtos://…")))
    return alerts_view.Listed(config.name, (desk,), (incident,))


def _json() -> list[str]:
    lines = ["# JSON documents", ""]
    lines += [
        "With `--json` a command prints one document on stdout and nothing else; logs go to stderr. Names and types",
        "are a contract; new members may be added. Times are ISO 8601 in UTC, decimals are text. The examples are made",
        "by the code.",
        "",
    ]
    delivery = SetAside("000012-00001-51c7a1e0", "acme", "late.csv", 12, "quarantined", "…", None, _CLOCK)
    items = open_items(parse_config(template(), base=Path("/srv/orders"), environ={}), Facts((delivery,)), _CLOCK)
    status = Status(
        "orders", "embedded", 12, _CLOCK, False, 12, 5, 1, 3192, 9, 1, {"loaded": 2}, (), 1,
        (Waiting("acme/new.csv", "acme", "not settled"),),
        TableDebt(True, ("orders_history: 21 small files",), 3, 3, 40, 0.012, 21, 64), (), items,
    )  # fmt: skip
    sweep = StepDone(Sweep("orders_target", ("b000007-….parquet",), 3192), True, "", 0.01)
    maintained = MaintenanceReport("orders", False, (sweep,), (), 0.05)
    row = dict(_ROW)
    kept = BackupReport("orders", Path("/backups/orders"), 12, 34, 28, 99_944, False, (), 0.2)
    later = Unknown("2026/11/24/000013-00000-905e17ca-new.csv", "acme/new.csv")
    back = RestoreReport("orders", kept.folder, "2026-11-23T09:00:00+00:00", 12, False, None, 0, (later,), (), 0.3)
    track = Track(
        "0045001",
        row,  # type: ignore[arg-type]
        ({**row, "_outcome": "updated"},),  # type: ignore[dict-item]
        matches=(Match("0045001", "end", "acme", "DELIVERED", _CLOCK),),
        as_of=AsOf(12, _CLOCK),
    )
    reject = Reject(5, "pck_recieved_date", "2026-02-30", "date", "not a date: …", "1005,0045005,2026-02-30,…")
    plan = PlanReport(13, (PlannedFile("new.csv", "acme", State.LOADED, None, _COUNTS, (reject,)),), _COUNTS)
    checks = VerifyReport((Check("each key stands once in the target", True, "5 rows"),))
    findings = DoctorReport((Finding("python", "ok", "3.11.7 on Linux x86_64"),))
    config = parse_config(template(), base=Path("/srv/orders"), environ={})
    config = replace(config, contract=replace(config.contract, columns=config.contract.columns[:2]))
    started = Started(config, Path("/srv/orders/ordertrail.toml"), None, ())
    lines_of = '[[vendors]]\nname = "blue"\nfiles = "blue/*.csv"\n'
    blue = Vendor("blue", files="blue/*.csv")
    places = (("order_num", ()), ("tracking_num", ("Tracking No",)))
    appended = AddedVendor(Path("/srv/orders/ordertrail.toml"), Path("blue.csv"), blue, lines_of, places, ())
    nothing = Rows((), ())
    files = (WrittenFile("databricks.yml", "written"),)
    bundle = Bundle(Path("deploy"), "incremental_load", "default", Path("ordertrail.toml"), files, ())
    units = (WrittenFile("ordertrail-watch.service", "written"),)
    deployed = Deployed(Path("units"), Path("ordertrail.toml"), units, ())
    demo = Demo(Path("ordertrail-demo"), config, (), nothing, nothing, Track("0045001", None, ()))
    written = Written(11, 13, 204, (), Path("changes.parquet"), 20_480)
    consuming = (Consuming("warehouse", 12, 1, _CLOCK),)
    exported = Exported("orders_target", 5, None, Path("orders.parquet"), 3192)
    unfit = Misfit("heavy", "order_tracking_2026_11_23.csv", 7)
    block = Paste(None, '[[contract.columns]]\nname = "weight"\ntype = "double"')
    drifted = Drift((Drifted("Weight", ("acme",), _CLOCK, unfit.file_name, 0.75, "double", 1, unfit, None, (block,)),))
    table = Rows(tuple(row), (tuple(row.values()),))  # type: ignore[arg-type]
    sections: tuple[tuple[str, str, type | None, Callable[[], object]], ...] = (
        ("run`, `stage`, `load", "`watch --json` prints one a pass, each on one line.", RunReport,
         lambda: look_document.run_report(_REPORT)),
        ("status", "`open_items` are those of `health`.", Status, lambda: look_document.status(status)),
        ("health", "`healthy` is whether `items` is empty; the exit code is 3 when it is not.", OpenItem,
         lambda: look_document.health(items)),
        ("alerts list", "`address` has the scheme alone; closed incidents are there with `--all`.", Incident,
         lambda: alerts_view.listed_document(_told(config))),
        ("alerts check", "`open` holds incidents as `alerts list` has them, `error` is null when it was sent.", None,
         lambda: alerts_view.checked_document(Checked((), (Sent("desk", "orders: …", 1),)))),
        ("alerts test", "", None, lambda: alerts_view.tried_document([alerts_view.Tried("desk")])),
        ("alerts ack", "The incident, as `alerts list` has it.", None,
         lambda: {"incident_id": "20261123T083000-5d1f0c2a", "key": "delivery:000012-00001-51c7a1e0", "…": "…"}),
        ("deliveries`, `rejects`, `query",
         "`rows` holds the table's columns, or those of the query; `cut` says that there are more.", None,
         lambda: look_document.rows(table)),
        ("track",
         ("`history` is oldest first by the total order, `rejected` by batch; rows have their table's columns. Of "
          "several matches `current` is null, `history` empty; `as_of` is null without `--as-of`."), Track,
         lambda: look_document.track(track)),
        ("drift",
         ("`first_seen` and `first_file` are of the first delivery with a value; `paste` holds lines for the config, "
          "`vendor` null for the contract's; `more` counts the columns beyond `--limit`."), Drifted,
         lambda: drift_view.document(drifted)),
        ("export", "", Exported, lambda: look_document.exported(exported)),
        ("changes --output FILE", "The changes themselves are one document a line, see the how-to.", Written,
         lambda: changes_view.document(written)),
        ("changes --consumers", "`behind_by` is null when a consumer has read other tables than these.", Consuming,
         lambda: changes_view.consumers_document(consuming)),
        ("plan", "", PlanReport, lambda: look_document.plan(plan)),
        ("undo`, `redo`, `replay`, `correct`, `release`, `refuse`, `dismiss",
         ("The document of `run`, and `correction`; also of a `run` that finishes a correction. With `--plan` `batch` "
          "is null and `changes` has the first shipments that would change."), CorrectionReport,
         lambda: command_document.preview(Preview(_CORRECTED, (_CHANGED,)))),
        ("migrate", "`step`: `add`, `fill`, `type`, `rename`, `drop`, `require`, `order` or `key`.", MigrationReport,
         lambda: mend_document.migration(_MIGRATED)),
        ("verify", "", Check, lambda: look_document.verify(checks)),
        ("maintain", "`step`: `compact`, `checkpoint`, `clean_up`, `vacuum`, `tidy_index`, or `sweep_scratch` of none.",
         MaintenanceReport,
         lambda: command_document.maintain(maintained)),
        ("backup", "", BackupReport, lambda: command_document.backup(kept)),
        ("restore", "`path` of an unknown file is null where no table says it.", RestoreReport,
         lambda: command_document.restore(back)),
        ("doctor", "", Finding, lambda: command_document.doctor(findings)),
        ("init", "", None, lambda: command_document.started(started)),
        ("vendor add", "`columns` says for each contract column from which headers it is read.", None,
         lambda: vendor_view.added_document(appended)),
        ("init --anew", "", None, lambda: command_document.again(config)),
        ("demo", "`passes` are documents of `run`, `track` one of `track`.", None, lambda: command_document.demo(demo)),
        ("deploy databricks", "`action` of a file is `written`, `replaced` or `unchanged`.", Bundle,
         lambda: deploy_view.document(bundle)),
        ("deploy systemd`, `deploy docker", "`config` is null where there was none.", Deployed,
         lambda: deploy_view.machine_document(deployed)),
        ("completion", "", None, lambda: {"shell": "bash", "script": "…"}),
        ("an error", "", None, lambda: {"error": {"code": "E_CONFIG", "message": "…", "hint": "…"}}),
    )  # fmt: skip
    for title, text, kind, make in sections:
        lines += [f"## `{title}`" if title != "an error" else "## An error", ""]
        lines += [text, ""] if text else []
        made = cast(Document, make())
        lines += _code(json.dumps(made, indent=2, ensure_ascii=False), "json")
        members = {
            *made,
            *(made["checks"][0] if "checks" in made else ()),
            *(made["items"][0] if "items" in made else ()),
            *(made["incidents"][0] if "incidents" in made else ()),
        }
        members |= {*made.get("correction", {}).get("keys", {}), *(("correction",) if "correction" in made else ())}
        told = {name: help_ for name, help_ in _attributes(kind).items() if name in members} if kind else {}
        if kind is Status:
            told |= {f"debt.{name}": help_ for name, help_ in _attributes(TableDebt).items()}
        if kind is OpenItem:
            lines += [*_table(("kind", "meaning"), [(f"`{name}`", text) for name, text in KINDS.items()])]
        if told:
            lines += _table(("member", "meaning"), [(f"`{name}`", help_) for name, help_ in told.items()])
    return lines


# --- the public API ----------------------------------------------------------------------------------------------


def _api() -> list[str]:
    lines = ["# Python API", ""]
    lines += _code(inspect.cleandoc(ordertrail.__doc__ or "").split("```python\n")[1].partition("```")[0], "python")
    rows = []
    for name in ordertrail.__all__:
        thing = getattr(ordertrail, name)
        text = f"`{thing}`" if isinstance(thing, str) else _first(thing.__doc__)
        rows.append((f"`{name}`", text))
    lines += _table(("name", "what it is"), rows)
    for owner in (ordertrail.Pipeline, ordertrail.TableRows, ordertrail.Changes):
        lines += [f"## `{owner.__name__}`", ""]
        methods = [(n, m) for n, m in inspect.getmembers(owner, inspect.isfunction) if not n.startswith("_")]
        lines += _table(("method", "what it does"), [(f"`{n}()`", _first(m.__doc__)) for n, m in methods])
    return lines


if __name__ == "__main__":
    main()
