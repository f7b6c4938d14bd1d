"""Every setting of `ordertrail.toml` in one table.

The sections are pydantic models: the name of a key, its type, its default and its help are written once, here; the
defaults of `[spark]` and `[maintenance]` are those of the frozen values in `values`.
`SETTINGS` is derived from them for the commented file (`template`), the documentation and the tests;
`ordertrail.config` parses with the same models and checks what a type alone cannot express.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ordertrail.config.values import Maintenance, SparkSettings
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
"""How `min`, `max` and the values of `allowed` may stand in the file."""


class Section(BaseModel):
    """A table of `ordertrail.toml`: no conversions between types, no unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class PipelineSection(Section):
    """`[pipeline]`: where things are and how a pass behaves."""

    name: str = Field("orders", description="What the pipeline is called in reports and logs.")
    engine: str = Field(
        "embedded",
        description='Where the work is done: "embedded" (this process; no server, no JVM) or "spark" (see [spark]).',
    )
    source: str = Field(description="Folder the vendors' files land in.", examples=["data/source"])
    archive: str = Field(description="Folder that files go to once they are loaded.", examples=["data/archive"])
    warehouse: str = Field(
        description="Folder of the tables: warehouse/catalog/schema/table.", examples=["data/warehouse"]
    )
    catalog: str = Field("incremental_load", description="First part of the tables' three-level names.")
    schema_: str = Field("default", alias="schema", description="Second part of the tables' three-level names.")
    stage: str = Field("orders_stage", description="Table of the batch being loaded.")
    target: str = Field("orders_target", description="Table of every shipment's latest state.")
    history: str = Field("orders_history", description="Table of all accepted rows.")
    rejects: str = Field("orders_rejects", description="Table of rejected cells and rows.")
    deliveries: str = Field("orders_deliveries", description="Table of the files that came.")
    mode: str = Field("upsert", description='How rows reach the target: "upsert" (one row a key, the latest).')
    settle_s: float = Field(
        1.0,
        description="A file is complete when nobody has it open for writing and it is unchanged for this long, in "
        "seconds; 0 waits for no rest. Use 10 or more on a network share.",
    )
    waiting_warn_h: float = Field(
        2.0,
        description="A file that waits in the source folder for longer is a warning and exit code 3, in hours; 0 for "
        "none.",
    )
    source_marker: str = Field(
        "write",
        description='The marker .ordertrail in the source folder: "write" (where that can be done), "require" (a '
        'source without it is not mounted) or "off".',
    )
    umask: str = Field(
        "",
        description='Rights that files of tables and archive do not get, octal, such as "0027"; "" leaves the umask of '
        "the process, and to archived files the rights they came with.",
    )
    max_reject_share: float = Field(
        0.2, description="Share of rejected rows, 0 to 1, above which a delivery is quarantined: nothing of it lands."
    )
    min_rejects: int = Field(
        5,
        description="Rejected rows from which max_reject_share applies, unless all rows are rejected or it is 0.",
    )
    max_file_ahead_d: float = Field(
        366.0,
        description="A file whose name says a day more than this beyond its modification time is held, in days.",
    )
    deletion_vectors: bool = Field(
        True,
        description="A new target marks rows that are updated in deletion vectors; false rewrites their files, which "
        "every reader understands.",
    )
    change_feed: str = Field(
        "off",
        description='The change data feed of the target: "off", "pairs" (readers find a delete and an insert for an '
        'updated row) or "images" (old rows are written too, so that readers find an update with both).',
    )
    threads: int = Field(0, description="Threads that read and compare rows; 0 means one a core.")
    memory_limit_mb: int = Field(
        1024, description="Memory for reading and comparing rows, in MB; beyond it work spills to disk."
    )


# The values have these defaults too, for whoever makes one without a file.
_SPARK, _MAINTENANCE = SparkSettings(), Maintenance()


class SparkSection(Section):
    """`[spark]`: how the engine "spark" finds its session and its tables."""

    tables: str = Field(
        _SPARK.tables,
        description='Where the tables are: "path" (below the warehouse folder, as the embedded engine has them), '
        '"two-level" (schema.table) or "three-level" (catalog.schema.table).',
    )
    master: str = Field(
        _SPARK.master, description="Master of a session that ordertrail starts; an existing one is used as it is."
    )
    remote: str = Field(
        _SPARK.remote, description='Address of a Spark Connect server, such as "sc://server:15002"; "" for none.'
    )
    driver_max_mb: int = Field(
        _SPARK.driver_max_bytes >> 20,
        description="Up to this size a batch is parsed by the driver, above it by the executors, in MB.",
    )
    conf: dict[str, str] = Field(
        {},
        description="Settings of a session that ordertrail starts; without spark.jars and spark.jars.packages Spark "
        "fetches Delta Lake itself.",
        examples=[{"spark.driver.memory": "4g"}],
    )


class MaintenanceSection(Section):
    """`[maintenance]`: how large the debt of the tables may grow, and how long old versions stay readable."""

    auto: bool = Field(
        _MAINTENANCE.auto, description="`ordertrail watch` maintains the tables by itself, beside its passes."
    )
    max_small_files: int = Field(
        _MAINTENANCE.max_small_files,
        description="When a table has more small data files than this, they are merged into fewer.",
    )
    max_deleted_share: float = Field(
        _MAINTENANCE.max_deleted_share,
        description="Share of deleted rows, 0 to 1, above which a data file is rewritten without them.",
    )
    file_size_mb: int = Field(
        _MAINTENANCE.file_size_bytes >> 20,
        description="Target size of data files, in MB; a file below a quarter of it counts as small.",
    )
    retention_h: float = Field(
        _MAINTENANCE.retention_h,
        description="Data files that no reader of the newest version needs stay this long for those that began before, "
        "in hours.",
    )
    log_retention_h: float = Field(
        _MAINTENANCE.log_retention_h,
        description="Log entries stay at least this long, in hours, so that older versions can be read.",
    )


class ColumnSection(Section):
    """`[[contract.columns]]`: one column of the tables."""

    name: str = Field(description="The column's name in the tables.", examples=["tracking_num"])
    type: str = Field(
        description="string, bigint, int, double, decimal(p,s), boolean, date or timestamp.", examples=["string"]
    )
    required: bool | None = Field(
        None, description="A row whose cell is empty is rejected; always on for key and order_by."
    )
    identifier: bool | None = Field(
        None, description="Text that a spreadsheet has damaged (1.23E+11) is rejected; always on for the key."
    )
    formats: list[str] = Field(
        [],
        description="For date and timestamp: strptime patterns beside ISO 8601, which always works.",
        examples=[["%d/%m/%Y"]],
    )
    pattern: str | None = Field(
        None,
        description="For string: a regular expression (RE2) that the whole text must match.",
        examples=["[A-Z0-9]{8,20}"],
    )
    min: Bound | None = Field(None, description="Smallest value allowed, inclusive; not for boolean.", examples=["0"])
    max: Bound | None = Field(None, description="Largest value allowed, inclusive; not for boolean.", examples=["9"])
    allowed: list[Bound] = Field([], description="The only values allowed.", examples=[["SMALL", "LARGE"]])
    was: list[str] = Field(
        [],
        description="Earlier names: `migrate` renames the column in the tables, and headers may still use them.",
        examples=[["state"]],
    )


class ContractSection(Section):
    """`[contract]`: the columns, types, key and ordering that a row must meet."""

    key: str | list[str] = Field("tracking_num", description="Key column of the target, or a list of columns.")
    order_by: str = Field("last_update_timestamp", description="Timestamp column: the row with the latest one wins.")
    status: str = Field("status", description='Status column; "" for a contract without one.')
    status_rank: list[str] = Field(
        list(DEFAULT_CONTRACT.status_rank),
        description="Statuses from first to last: of rows with the same time, the one with the later status wins.",
    )
    unknown_columns: str = Field(
        "rescue",
        description='Unknown columns: "rescue" keeps them in _rescued (JSON), "strict" quarantines the file, "add" '
        "makes them text columns of the tables.",
    )
    max_added_columns: int = Field(
        100, description='Columns that unknown_columns = "add" may add in all, 1 to 1000; the others go to _rescued.'
    )
    max_future_h: float = Field(
        48.0, description="A row whose time is more than this beyond its file's date is rejected, in hours."
    )
    columns: list[ColumnSection] = Field([], description="The columns, in table order; without any, the order feed's.")


class VendorSection(Section):
    """`[[vendors]]`: who sends files, and how they look."""

    name: str = Field(description="The vendor's name, unique.", examples=["acme"])
    files: str = Field("*.csv", description="Glob below the source folder; ** also goes into folders.")
    delimiter: str = Field(",", description="Between cells; one ASCII character.")
    quote: str = Field('"', description="Around cells that hold delimiters or line ends; one ASCII character.")
    encoding: str | None = Field(
        None, description="Of files without a byte order mark. Without it: strict UTF-8.", examples=["cp1252"]
    )
    timezone: str = Field(
        "UTC", description="IANA time zone of timestamps without an offset.", examples=["America/Chicago"]
    )
    zones: dict[str, str] = Field(
        {},
        description="For the name of a zone that %Z in a pattern reads, its offset; only UTC, GMT and Z need none.",
        examples=[{"EST": "-05:00", "EDT": "-04:00"}],
    )
    aliases: dict[str, list[str]] = Field(
        {},
        description="For a contract column, other header names this vendor uses.",
        examples=[{"tracking_num": ["TrackingNo", "waybill"]}],
    )
    status_map: dict[str, str] = Field(
        {},
        description="For a status as sent, the status to store.",
        examples=[{"Delivered - Front Door": "DELIVERED"}],
    )
    absent: list[str] = Field(
        [], description="Contract columns this vendor never sends: the target keeps its values.", examples=[["address"]]
    )
    formats: dict[str, list[str]] = Field(
        {},
        description="For a date or timestamp column, strptime patterns in place of the contract's.",
        examples=[{"pck_recieved_date": ["%d/%m/%Y"]}],
    )
    file_date: str | None = Field(
        None,
        description="strptime pattern of the date inside the file's name; without it yyyy_mm_dd, yyyy-mm-dd, yyyymmdd.",
        examples=["%d%m%Y"],
    )


class Document(Section):
    """The whole of `ordertrail.toml`."""

    pipeline: PipelineSection = Field(description="Where things are and how a pass behaves.")
    maintenance: MaintenanceSection = Field(
        MaintenanceSection.model_validate({}), description="How large the debt of the tables may grow."
    )
    spark: SparkSection = Field(SparkSection.model_validate({}), description="Session and tables of the engine spark.")
    contract: ContractSection = Field(ContractSection.model_validate({}), description="What a row must meet.")
    vendors: list[VendorSection] = Field([], description='Who sends files; without any, one "default" takes *.csv.')


@dataclass(frozen=True, slots=True)
class Setting:
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
        """`pipeline`, `maintenance`, `spark`, `contract`, `contract.columns` or `vendors`."""
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The key as it stands inside its section."""
        return self.key.rpartition(".")[2]

    @property
    def environment(self) -> str | None:
        """The environment variable that overrides it; None when there is none."""
        return ENVIRONMENT_PREFIX + self.name.upper() if self.section == "pipeline" else None


_TYPES: tuple[tuple[object, str], ...] = (
    (str, "text"),
    (str | None, "text"),
    (int, "a whole number"),
    (float, "a number"),
    (bool, "true or false"),
    (bool | None, "true or false"),
    (str | list[str], "text or a list of texts"),
    (list[str], "a list of texts"),
    (Bound | None, "text, a number or a date"),
    (list[Bound], "a list of texts, numbers or dates"),
    (dict[str, str], "a table of texts"),
    (dict[str, list[str]], "a table of lists of texts"),
)


def _settings(section: str, model: type[Section]) -> Iterator[Setting]:
    for field_name, field in model.model_fields.items():
        if field.annotation == list[ColumnSection]:
            continue
        default = None if field.default is PydanticUndefined else field.default
        yield Setting(
            key=f"{section}.{field.alias or field_name}",
            type=next(words for annotation, words in _TYPES if annotation == field.annotation),
            default=default,
            help=field.description or "",
            required=field.is_required(),
            example=_example(field, default),
        )


def _example(field: FieldInfo, default: object) -> object:
    return field.examples[0] if field.examples else default


SECTIONS: dict[str, type[Section]] = {
    "pipeline": PipelineSection,
    "maintenance": MaintenanceSection,
    "spark": SparkSection,
    "contract": ContractSection,
    "contract.columns": ColumnSection,
    "vendors": VendorSection,
}
"""The model of each section, by dotted name."""

SETTINGS: tuple[Setting, ...] = tuple(
    setting for section, model in SECTIONS.items() for setting in _settings(section, model)
)
"""All settings, in the order of the file."""
