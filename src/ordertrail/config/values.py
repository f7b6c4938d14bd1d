"""A pipeline's settings as frozen values, and what follows from them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.errors import UsageError
from ordertrail.model import Contract, Limits, Vendor
from ordertrail.rules.expectation import Expectation
from ordertrail.rules.outbox import Channel
from ordertrail.rules.secrets import SecretUrl, masked, masked_value
from ordertrail.rules.shares import Shares
from ordertrail.rules.volume import Volume

EngineName = Literal["embedded", "spark"]
TablesBy = Literal["path", "two-level", "three-level"]
SourceMarker = Literal["write", "require", "off"]
ChangeFeed = Literal["off", "pairs", "images"]
Mode = Literal["upsert", "append"]


class Tables(Struct, frozen=True):
    """The plain names of the five tables."""

    stage: str
    target: str
    history: str
    rejects: str
    deliveries: str


class Maintenance(Struct, frozen=True):
    """How large the debt of the tables may grow, and how long old versions stay readable.

    Attributes:
        auto: Whether the service maintains the tables by itself.
        max_small_files: When a table has more small files than this, they are merged into fewer; 1 or more.
        max_deleted_share: Share of deleted rows above which a file is rewritten, 0 to 1 inclusive.
        file_size_bytes: Target size of data files; a file below a quarter of it is small.
        retention_h: Files that the newest version does not need stay this long, in hours; 0 or more.
        log_retention_h: Entries of the log stay at least this long, in hours; 0 or more.
        consumer_keep_d: What a known consumer has not read of the target stays at most this long, in days; 0 or more.
    """

    auto: bool = True
    max_small_files: int = 8
    max_deleted_share: float = 0.1
    file_size_bytes: int = 256 << 20
    retention_h: float = 168.0
    log_retention_h: float = 720.0
    consumer_keep_d: float = 30.0


class SparkSettings(Struct, frozen=True):
    """How the engine `spark` finds its session and its tables.

    Attributes:
        tables: By folder below the warehouse, or by name.
        master: Master of a session that ordertrail starts.
        remote: Address of a Spark Connect server, "" for none.
        driver_max_bytes: Up to this size a batch is parsed by the driver, above it by the executors; 0 or more.
        conf: Settings of a session that ordertrail starts, by name.
    """

    tables: TablesBy = "path"
    master: str = "local[*]"
    remote: str = ""
    driver_max_bytes: int = 64 << 20
    conf: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        """Passwords are masked."""
        conf = {name: masked_value(name, value) for name, value in self.conf}
        return (
            f"SparkSettings(tables={self.tables!r}, master={masked(self.master)!r}, remote={masked(self.remote)!r}, "
            f"driver_max_bytes={self.driver_max_bytes!r}, conf={conf!r})"
        )


class Address(Struct, frozen=True):
    """A secret address from the config.

    Attributes:
        url: The address; None when it cannot be known here.
        problem: Why it cannot, with what to do; "" when it can.
    """

    url: SecretUrl | None
    problem: str = ""


class Alert(Struct, frozen=True):
    """A channel of alerts, and how it is reached.

    Attributes:
        channel: What it takes, and when.
        address: As apprise takes it.
    """

    channel: Channel
    address: Address

    @property
    def name(self) -> str:
        """The channel's name."""
        return self.channel.name


class Config(Struct, frozen=True):
    """One pipeline, fully checked. All paths are absolute.

    Attributes:
        name: The pipeline's name.
        engine: Where the work is done.
        source: Folder the vendors' files land in; not inside archive or warehouse, nor are these inside it.
        archive: Folder that loaded files go to.
        warehouse: Folder of the tables.
        catalog: First part of the tables' three-level names.
        schema: Second part of the tables' three-level names.
        tables: The names of the five tables.
        settle_s: A file is complete when nobody writes to it and it is unchanged for this long, in seconds; 0 or more.
        max_reject_share: Share of rejected rows above which a delivery is quarantined, 0 to 1 inclusive.
        deletion_vectors: Whether a new target uses deletion vectors, where rows of it may be changed; see `vectors`.
        threads: Threads that read and compare rows; 0 means one a core.
        memory_limit_mb: Memory for reading and comparing rows, in MB.
        contract: What a row must meet.
        vendors: At least one, in the order of the file: the first whose glob matches takes a file.
        file: The file that the config was read from; None when it was text.
        maintenance: When the tables are maintained, and how long old versions stay.
        spark: How the engine `spark` finds its session and its tables.
        umask: Permissions that new files do not get; None leaves the process's umask.
        source_marker: Whether the source bears a marker of the pipeline; see `ordertrail.markers`.
        waiting_warn_h: A file that waits for longer is a warning, in hours; 0 for none.
        min_rejects: With fewer rejected rows `max_reject_share` does not apply.
        max_file_ahead_d: A file whose name says a day more than this beyond its modification time is held, in days.
        change_feed: Whether the target has a change data feed, and whether its commits name the images of updated rows.
        mode: How rows reach the target: `upsert` keeps one row a key, `append` every accepted row that is no duplicate.
        current: Name of the view with the latest state of every key, in mode `append`.
        incidents: Name of the table of incidents, which is made when the first one opens.
        alerts: The channels on which somebody is told, in the order of the file.
        ping: The address that is asked after each pass; None for none.
        folders: The folder in which a catalog keeps each table, by plain name. Empty until the catalog was asked
            (`engines.choice.located`), and where they are in none.
        expectations: By a vendor's name, when its files are expected; nothing of it decides how a file is read.
        volumes: By a vendor's name, how many rows its files have as a rule; nothing of it decides how a file is read.
        shares: By a vendor's name, how many keys of a file may be new or stale; nothing of it decides how one is read.
    """

    name: str
    engine: EngineName
    source: Path
    archive: Path
    warehouse: Path
    catalog: str
    schema: str
    tables: Tables
    settle_s: float
    max_reject_share: float
    deletion_vectors: bool
    threads: int
    memory_limit_mb: int
    contract: Contract
    vendors: tuple[Vendor, ...]
    file: Path | None
    maintenance: Maintenance = Maintenance()
    spark: SparkSettings = SparkSettings()
    source_marker: SourceMarker = "write"
    umask: int | None = None
    waiting_warn_h: float = 2.0
    min_rejects: int = 5
    max_file_ahead_d: float = 366.0
    change_feed: ChangeFeed = "off"
    mode: Mode = "upsert"
    current: str = "orders_current"
    incidents: str = "orders_incidents"
    alerts: tuple[Alert, ...] = ()
    ping: Address | None = None
    folders: tuple[tuple[str, Path], ...] = ()
    expectations: tuple[tuple[str, Expectation], ...] = ()
    volumes: tuple[tuple[str, Volume], ...] = ()
    shares: tuple[tuple[str, Shares], ...] = ()

    @property
    def limits(self) -> Limits:
        """The limits within which a file is still loaded."""
        return Limits(self.max_reject_share, self.min_rejects, self.max_file_ahead_d)

    @property
    def appends(self) -> bool:
        """Whether the target keeps every accepted row that is no duplicate, and no row of it is ever rewritten."""
        return self.mode == "append"

    @property
    def vectors(self) -> bool:
        """Whether rows of a new target are marked in deletion vectors: never where no row is ever rewritten."""
        return self.deletion_vectors and not self.appends

    @property
    def by_name(self) -> bool:
        """Whether the tables are found by name in a Spark catalog."""
        return self.engine == "spark" and self.spark.tables != "path"

    @property
    def in_folders(self) -> bool:
        """Whether the folders of the tables are known, so that this process can read them as files."""
        return not self.by_name or bool(self.folders)

    def table_path(self, name: str) -> Path:
        """The folder of the table with this plain name, such as `tables.target`.

        Raises:
            UsageError: The tables are found by name, and the catalog has them in no folder that this process reads.
        """
        if not self.by_name:
            return self.warehouse / self.catalog / self.schema / name
        for known, folder in self.folders:
            if known == name:
                return folder
        raise UsageError(
            f"the tables of pipeline {self.name} are not there yet, or in no folders that this machine may read and "
            f'write, or have features that only Spark writes to (spark.tables = "{self.spark.tables}")',
            hint="load a batch with ordertrail run, then try again; else ask for their rows with SQL on Spark",
        )

    def embedded_in(self, warehouse: Path) -> Config:
        """The same pipeline for the embedded engine, all tables in folders below another warehouse."""
        return replace(self, engine="embedded", warehouse=warehouse, folders=())
