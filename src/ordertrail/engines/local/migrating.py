"""The seam between a migration and the place where the tables are.

`mend.migration` decides whether the tables may be brought to another contract, and in which order; what is behind these
protocols reads them under that contract and writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from ordertrail.config import Config
from ordertrail.model import Batch
from ordertrail.rules.migration import Step, Tally, Unfit
from ordertrail.rules.schema import Terms


class Converted(Protocol):
    """The history under another contract. All methods only read."""

    def tallies(self) -> Mapping[str, Tally]:
        """For each column of the contract that is read again or must have a value, what its values come to."""
        ...

    def unfit(self) -> Sequence[Unfit]:
        """The first values that do not fit, at most `UNFIT_SHOWN`, in the order of their files and rows."""
        ...

    def sent(self) -> Mapping[str, set[str]]:
        """For each column that is read from `_rescued`, the deliveries that sent it."""
        ...

    def without_zone(self) -> Sequence[tuple[str, str, int]]:
        """Vendor, column and number of the times that a clock must explain which the config does not tell."""
        ...


class Migrating(Protocol):
    """The tables of a pipeline, which are to be brought to the contract of its config.

    All methods raise `StorageError` when the disk fails, and `TableError` and its kind when a table is not what it
    should be.
    """

    @property
    def config(self) -> Config:
        """With the new contract, and the columns that the tables got from files."""
        ...

    @property
    def terms(self) -> Terms:
        """The contract that the tables carry."""
        ...

    @property
    def highest(self) -> int:
        """The highest number of a batch that a table has; the next one is one more."""
        ...

    @property
    def under_way(self) -> bool:
        """Whether a batch is staged and not done that is no migration."""
        ...

    @property
    def target_columns(self) -> tuple[str, ...]:
        """The names of the target's columns as they are, those of others among them."""
        ...

    @property
    def feeds_changes(self) -> bool:
        """Whether the target's change data feed is on."""
        ...

    def finish(self) -> None:
        """Finish a migration that is staged and not done. Idempotent; called before anything else looks at the tables.

        Raises:
            ConfigError: The config has another contract than the migration leads to.
            ForeignChangeError: Somebody else wrote to the history meanwhile.
        """
        ...

    def convert(self) -> Converted:
        """The history under the new contract.

        Raises:
            TableError: The tables are damaged, or do not carry the contract that they say.
            ConfigError: The new contract gives a column a name that is taken.
        """
        ...

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Run SQL that DuckDB and Spark read alike. Reads only.

        Args:
            sql: Reads the relation `{deliveries}`.
        """
        ...

    def refusals(self, steps: Sequence[Step]) -> Iterator[str]:
        """What stands in the way of steps that rewrite rows and that only these tables tell, one line each."""
        ...

    def foreign_write(self) -> tuple[int, str] | None:
        """The newest commit of others that changed rows of the target since it was last folded: version, operation."""
        ...

    def add_columns(self) -> None:
        """Do what a pass does by itself: add columns, one metadata commit a table. Idempotent."""
        ...

    def switch_feed(self, *, on: bool) -> None:
        """Switch the target's change data feed, in one commit that touches no row. Idempotent."""
        ...

    def carry_out(self, batch: Batch, steps: Sequence[Step], absent: Mapping[str, tuple[str, ...]]) -> None:
        """Stage a migration, and commit it to all tables.

        Args:
            batch: With its manifest, whose `migration` is still empty.
            steps: All that rewrite rows or change what the tables carry.
            absent: By delivery id, the columns that a delivery lacks under the new contract, where they change.

        Raises:
            CommitConflictError: Another pass has staged meanwhile; nothing was written.
        """
        ...
