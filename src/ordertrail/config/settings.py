"""Every setting of `ordertrail.toml` in one table.

The sections are structs of msgspec: the name of a key, its type, its default and its help are written once, here; the
defaults of `[spark]` and `[maintenance]` are those of the frozen values in `values`.
`SETTINGS` is derived from them for the commented file (`template`), the documentation and the tests;
`document` reads a file with the same structs, and reports what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated, get_args

from msgspec import NODEFAULT, Struct, field
from msgspec.structs import FieldInfo, fields

from ordertrail.config.alert_section import AlertSection
from ordertrail.config.section import Section, said
from ordertrail.config.values import Maintenance, SparkSettings
from ordertrail.config.vendor_section import VendorSection
from ordertrail.model import Column, Contract

ENVIRONMENT_PREFIX = "ORDERTRAIL_PIPELINE_"
"""Prefix of an environment variable that overrides a setting of `[pipeline]`."""

DEFAULT_CONTRACT = Contract(
    columns=(
        Column("order_num", "string", identifier=True),
        Column("tracking_num", "string", required=True, identifier=True),
        Column("pck_recieved_date", "date"),
        Column("package_deliver_date", "date"),
        Column("status", "string"),
        Column("address", "string"),
        Column("last_update_timestamp", "timestamp", required=True),
    ),
    key=("tracking_num",),
    order_by="last_update_timestamp",
    status="status",
    status_rank=(
        "ORDER_PLACED",
        "LABEL_CREATED",
        "PICKED_UP",
        "IN_TRANSIT",
        "OUT_FOR_DELIVERY",
        "EXCEPTION",
        "DELIVERED",
        "RETURNED",
    ),
)
"""The contract of the order feed, used where `[contract]` names no columns."""

_HOUR_S = 3600

Bound = str | int | float | date | datetime
"""How `min`, `max` and the values of `allowed` may stand in the file. msgspec has no union of text and dates, so these
settings are objects, which `document` checks."""


class PipelineSection(Section, frozen=True, kw_only=True):
    """`[pipeline]`: where things are and how a pass behaves."""

    name: Annotated[str, said("What the pipeline is called in reports and logs.")] = "orders"
    engine: Annotated[
        str, said('Where the work is done: "embedded" (this process; no server, no JVM) or "spark" (see [spark]).')
    ] = "embedded"
    source: Annotated[str, said("Folder the vendors' files land in.", "data/source")]
    archive: Annotated[str, said("Folder that files go to once they are loaded.", "data/archive")]
    warehouse: Annotated[str, said("Folder of the tables: warehouse/catalog/schema/table.", "data/warehouse")]
    catalog: Annotated[str, said("First part of the tables' three-level names.")] = "incremental_load"
    schema_: Annotated[str, said("Second part of the tables' three-level names.")] = field(
        default="default", name="schema"
    )
    stage: Annotated[str, said("Table of the batch being loaded.")] = "orders_stage"
    target: Annotated[str, said("Table of every shipment's latest state.")] = "orders_target"
    history: Annotated[str, said("Table of all accepted rows.")] = "orders_history"
    rejects: Annotated[str, said("Table of rejected cells and rows.")] = "orders_rejects"
    deliveries: Annotated[str, said("Table of the files that came.")] = "orders_deliveries"
    incidents: Annotated[str, said("Table of what needed a person; made when the first incident opens.")] = (
        "orders_incidents"
    )
    mode: Annotated[
        str,
        said(
            'How rows reach the target: "upsert" (one row a key, the latest) or "append" (every accepted row that is '
            "no duplicate, and none is ever rewritten)."
        ),
    ] = "upsert"
    current: Annotated[str, said('In mode "append", the view of every shipment\'s latest state.')] = "orders_current"
    settle_s: Annotated[
        float,
        said(
            "A file is complete when nobody has it open for writing and it is unchanged for this long, in "
            "seconds; 0 waits for no rest. Use 10 or more on a network share."
        ),
    ] = 1.0
    waiting_warn_h: Annotated[
        float,
        said("A file that waits in the source folder for longer is a warning and exit code 3, in hours; 0 for none."),
    ] = 2.0
    source_marker: Annotated[
        str,
        said(
            'The marker .ordertrail in the source folder: "write" (where that can be done), "require" (a source '
            'without it is not mounted) or "off".'
        ),
    ] = "write"
    umask: Annotated[
        str,
        said(
            'Rights that files of tables and archive do not get, octal, such as "0027"; "" leaves the umask of '
            "the process, and to archived files the rights they came with."
        ),
    ] = ""
    max_reject_share: Annotated[
        float, said("Share of rejected rows, 0 to 1, above which a delivery is quarantined: nothing of it lands.")
    ] = 0.2
    min_rejects: Annotated[
        int, said("Rejected rows from which max_reject_share applies, unless all rows are rejected or it is 0.")
    ] = 5
    max_file_ahead_d: Annotated[
        float, said("A file whose name says a day more than this beyond its modification time is held, in days.")
    ] = 366.0
    deletion_vectors: Annotated[
        bool,
        said(
            "A new target marks rows that are updated in deletion vectors; false rewrites their files, which "
            "every reader understands."
        ),
    ] = True
    change_feed: Annotated[
        str,
        said(
            'The change data feed of the target: "off", "pairs" (readers find a delete and an insert for an updated '
            'row; delta-rs 1.6 cannot read it) or "images" (old rows are written too, so that readers find an update '
            "with both)."
        ),
    ] = "off"
    ping_url: Annotated[
        str,
        said(
            "A dead man's switch: this address is asked after every successful pass, and with /fail after a failed "
            'one; ${NAME} stands for an environment variable, "" for none.'
        ),
    ] = ""
    threads: Annotated[int, said("Threads that read and compare rows; 0 means one a core.")] = 0
    memory_limit_mb: Annotated[
        int, said("Memory for reading and comparing rows, in MB; beyond it work spills to disk.")
    ] = 1024


# The values have these defaults too, for whoever makes one without a file.
_SPARK, _MAINTENANCE = SparkSettings(), Maintenance()


class SparkSection(Section, frozen=True, kw_only=True):
    """`[spark]`: how the engine "spark" finds its session and its tables."""

    tables: Annotated[
        str,
        said(
            'Where the tables are: "path" (below the warehouse folder, as the embedded engine has them), '
            '"two-level" (schema.table) or "three-level" (catalog.schema.table).'
        ),
    ] = _SPARK.tables
    master: Annotated[str, said("Master of a session that ordertrail starts; an existing one is used as it is.")] = (
        _SPARK.master
    )
    remote: Annotated[str, said('Address of a Spark Connect server, such as "sc://server:15002"; "" for none.')] = (
        _SPARK.remote
    )
    driver_max_mb: Annotated[
        int, said("Up to this size a batch is parsed by the driver, above it by the executors, in MB.")
    ] = _SPARK.driver_max_bytes >> 20
    conf: Annotated[
        dict[str, str],
        said(
            "Settings of a session that ordertrail starts; without spark.jars and spark.jars.packages Spark "
            "fetches Delta Lake itself.",
            {"spark.driver.memory": "4g"},
        ),
    ] = {}


class MaintenanceSection(Section, frozen=True, kw_only=True):
    """`[maintenance]`: how large the debt of the tables may grow, and how long old versions stay readable."""

    auto: Annotated[bool, said("`ordertrail watch` maintains the tables by itself, beside its passes.")] = (
        _MAINTENANCE.auto
    )
    max_small_files: Annotated[
        int, said("When a table has more small data files than this, they are merged into fewer.")
    ] = _MAINTENANCE.max_small_files
    max_deleted_share: Annotated[
        float, said("Share of deleted rows, 0 to 1, above which a data file is rewritten without them.")
    ] = _MAINTENANCE.max_deleted_share
    file_size_mb: Annotated[
        int, said("Target size of data files, in MB; a file below a quarter of it counts as small.")
    ] = _MAINTENANCE.file_size_bytes >> 20
    retention_h: Annotated[
        float,
        said(
            "Data files that no reader of the newest version needs stay this long for those that began before, "
            "in hours."
        ),
    ] = _MAINTENANCE.retention_h
    log_retention_h: Annotated[
        float, said("Log entries stay at least this long, in hours, so that older versions can be read.")
    ] = _MAINTENANCE.log_retention_h
    consumer_keep_d: Annotated[
        float,
        said(
            "Versions of the target that a consumer of `changes --consumer` has not read stay at most this long, in "
            "days; after that the consumer is an open item."
        ),
    ] = _MAINTENANCE.consumer_keep_d


class ColumnSection(Section, frozen=True, kw_only=True):
    """`[[contract.columns]]`: one column of the tables."""

    name: Annotated[str, said("The column's name in the tables.", "tracking_num")]
    type: Annotated[str, said("string, bigint, int, double, decimal(p,s), boolean, date or timestamp.", "string")]
    required: Annotated[bool | None, said("A row whose cell is empty is rejected; always on for key and order_by.")] = (
        None
    )
    identifier: Annotated[
        bool | None,
        said("A number: freed of what nobody sees; rejected when a spreadsheet damaged it. Always on for the key."),
    ] = None
    nulls: Annotated[list[str], said("Texts that mean no value, beside the empty cell.", ["N/A", "-"])] = []
    trim: Annotated[bool, said("For string: blanks around the text are no part of it; false keeps them.")] = True
    formats: Annotated[
        list[str], said("For date and timestamp: strptime patterns beside ISO 8601, which always works.", ["%d/%m/%Y"])
    ] = []
    pattern: Annotated[
        str | None, said("For string: a regular expression (RE2) that the whole text must match.", "[A-Z0-9]{8,20}")
    ] = None
    min: Annotated[object, said("Smallest value allowed, inclusive; not for boolean.", "0")] = None
    max: Annotated[object, said("Largest value allowed, inclusive; not for boolean.", "9")] = None
    allowed: Annotated[list[object], said("The only values allowed.", ["SMALL", "LARGE"])] = []
    was: Annotated[
        list[str],
        said("Earlier names: `migrate` renames the column in the tables, and headers may still use them.", ["state"]),
    ] = []


class ContractSection(Section, frozen=True, kw_only=True):
    """`[contract]`: the columns, types, key and ordering that a row must meet."""

    key: Annotated[str | list[str], said("Key column of the target, or a list of columns.")] = "tracking_num"
    order_by: Annotated[str, said("Timestamp column: the row with the latest one wins.")] = "last_update_timestamp"
    status: Annotated[str, said('Status column; "" for a contract without one.')] = "status"
    status_rank: Annotated[
        list[str], said("Statuses from first to last: of rows with the same time, the one with the later status wins.")
    ] = field(default_factory=lambda: list(DEFAULT_CONTRACT.status_rank))
    unknown_columns: Annotated[
        str,
        said(
            'Unknown columns: "rescue" keeps them in _rescued (JSON), "strict" quarantines the file, "add" '
            "makes them text columns of the tables."
        ),
    ] = "rescue"
    max_added_columns: Annotated[
        int, said('Columns that unknown_columns = "add" may add in all, 1 to 1000; the others go to _rescued.')
    ] = 100
    max_future_h: Annotated[
        float, said("A row whose time is more than this beyond its file's date is rejected, in hours.")
    ] = 48.0
    columns: Annotated[list[ColumnSection], said("The columns, in table order; without any, the order feed's.")] = []


class Document(Section, frozen=True, kw_only=True):
    """The whole of `ordertrail.toml`."""

    pipeline: Annotated[PipelineSection, said("Where things are and how a pass behaves.")]
    maintenance: Annotated[MaintenanceSection, said("How large the debt of the tables may grow.")] = field(
        default_factory=MaintenanceSection
    )
    spark: Annotated[SparkSection, said("Session and tables of the engine spark.")] = field(
        default_factory=SparkSection
    )
    contract: Annotated[ContractSection, said("What a row must meet.")] = field(default_factory=ContractSection)
    vendors: Annotated[list[VendorSection], said('Who sends files; without any, one "default" takes *.csv.')] = []
    alerts: Annotated[list[AlertSection], said("Channels on which somebody is told; without any, nobody is.")] = []


class Setting(Struct, frozen=True):
    """One setting of `ordertrail.toml`.

    Attributes:
        key: Dotted name, such as `pipeline.settle_s`, `contract.columns.type`, `vendors.files`.
        type: The values that it takes, in plain words.
        default: Its default as it would stand in the file; None when there is none.
        help: What it does, with its unit.
        required: Whether it must be given.
        example: A value to show.
    """

    key: str
    type: str
    default: object
    help: str
    required: bool = False
    example: object = None

    @property
    def section(self) -> str:
        """`pipeline`, `maintenance`, `spark`, `contract`, `contract.columns`, `vendors` or `alerts`."""
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The key as it stands inside its section."""
        return self.key.rpartition(".")[2]

    @property
    def environment(self) -> str | None:
        """The environment variable that overrides it; None when there is none."""
        return ENVIRONMENT_PREFIX + self.name.upper() if self.section == "pipeline" else None


BOUNDS = ("text, a number or a date", "a list of texts, numbers or dates")
"""The types, in plain words, of settings that take a `Bound` or a list of them."""

_TYPES: tuple[tuple[object, str], ...] = (
    (str, "text"),
    (str | None, "text"),
    (int, "a whole number"),
    (int | None, "a whole number"),
    (float, "a number"),
    (bool, "true or false"),
    (bool | None, "true or false"),
    (str | list[str], "text or a list of texts"),
    (list[str], "a list of texts"),
    (list[int], "a list of whole numbers"),
    (list[int] | str, "two whole numbers or text"),
    (object, BOUNDS[0]),
    (list[object], BOUNDS[1]),
    (list[date], "a list of dates"),
    (dict[str, str], "a table of texts"),
    (dict[str, list[str]], "a table of lists of texts"),
)


def _settings(section: str, model: type[Section]) -> Iterator[Setting]:
    for one in fields(model):
        annotation, meta = get_args(one.type)
        if annotation == list[ColumnSection]:
            continue
        default = _default(one)
        yield Setting(
            key=f"{section}.{one.encode_name}",
            type=next(words for kind, words in _TYPES if kind == annotation),
            default=default,
            help=meta.description,
            required=one.required,
            example=meta.examples[0] if meta.examples else default,
        )


def _default(one: FieldInfo) -> object:
    if one.default_factory is not NODEFAULT:
        return one.default_factory()
    return None if one.default is NODEFAULT else one.default


SECTIONS: dict[str, type[Section]] = {
    "pipeline": PipelineSection,
    "maintenance": MaintenanceSection,
    "spark": SparkSection,
    "contract": ContractSection,
    "contract.columns": ColumnSection,
    "vendors": VendorSection,
    "alerts": AlertSection,
}
"""The model of each section, by dotted name."""

SETTINGS: tuple[Setting, ...] = tuple(
    setting for section, model in SECTIONS.items() for setting in _settings(section, model)
)
"""All settings, in the order of the file."""
