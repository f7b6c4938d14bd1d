"""What a command does about alerts once its pass is over, or without any pass: look, keep incidents, send.

The pass has released its lock and its report is out, so it cannot be delayed. Nothing here raises: what fails is told
in one line, and is tried again by whoever looks next.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from ordertrail.alerts.channels import Sender, installed, send
from ordertrail.alerts.evaluate import causes_of, evaluate, now_utc
from ordertrail.alerts.outbox import Outbox, Sent
from ordertrail.alerts.ping import ping
from ordertrail.config import Config
from ordertrail.engines.base import IncidentTable
from ordertrail.engines.choice import incident_table
from ordertrail.errors import OrdertrailError, PassRunningError
from ordertrail.look.heartbeat import heard
from ordertrail.look.last_look import remember
from ordertrail.look.open_items import config_option
from ordertrail.look.status import looked_at
from ordertrail.model import RunReport
from ordertrail.rules.incidents import FAILING, Cause, Incident, Seen
from ordertrail.rules.quiet import Quiet
from ordertrail.rules.secrets import masked

if TYPE_CHECKING:
    from ordertrail.engines.spark.session import SparkSession

BUDGET_S = 30.0
"""No further channel is tried when sending has taken this long, in seconds; the next look goes on."""


class Checked(Struct, frozen=True):
    """What a look at the incidents found and told.

    Attributes:
        incidents: All incidents, open and closed.
        sent: The messages that were sent, or could not be.
        problems: What went wrong, one line each.
        quiet: What would change the open items; None where that is not known.
    """

    incidents: tuple[Incident, ...] = ()
    sent: tuple[Sent, ...] = ()
    problems: tuple[str, ...] = ()
    quiet: Quiet | None = None


def failing_cause(config: Config, error: Exception) -> Cause:
    """The cause that a pass failed."""
    words = (
        f"{error.code}: {error.message}" if isinstance(error, OrdertrailError) else f"{type(error).__name__}: {error}"
    )
    text = masked(f"the pass failed with {words}")
    return Cause("failing", FAILING, "critical", text, f"ordertrail doctor{config_option(config)}", now_utc())


def unreadable_cause(config: Config, error: OrdertrailError) -> Cause:
    """The cause that what needs a person cannot be listed."""
    return Cause(
        "failing", "pipeline:tables", "critical", masked(error.message), f"ordertrail verify{config_option(config)}"
    )


def after_pass(
    config: Config,
    error: Exception | None,
    report: RunReport | None,
    *,
    whole_pass: bool = True,
    known: bool = False,
) -> tuple[str, ...]:
    """Keep incidents and send, after a pass of a command.

    Args:
        config: Of the pipeline.
        error: What ended the pass; None when it succeeded.
        report: Of the pass; None when it failed.
        whole_pass: Whether it was one to the end, and not a first half.
        known: Whether nothing is new since the last look, so that there is nothing to keep or send.

    Returns:
        What went wrong, one line each.
    """
    if isinstance(error, PassRunningError):
        return ()  # the other pass tells
    problems = () if known else _looked(config, error, report, whole_pass=whole_pass)
    if not config.alerts:
        problems = ()  # nobody asked to be told
    if config.ping is not None and (whole_pass or error is not None):
        trouble_of_ping = ping(config.ping, failed=error is not None)
        problems += (f"ping_url: {trouble_of_ping}",) if trouble_of_ping else ()
    return problems


def _looked(config: Config, error: Exception | None, report: RunReport | None, *, whole_pass: bool) -> tuple[str, ...]:
    """Look, keep incidents and send; what went wrong, one line each."""
    try:
        table = incident_table(config)  # one for all: what it has read it does not read again
        if not (config.alerts or report is None or report.needs_person or table.read().version is not None):
            return ()
        extra = () if error is None else (failing_cause(config, error),)
        found = check(config, extra=extra, passed=error is None and whole_pass, table=table)
        if report is not None and whole_pass:
            remember(config, found.quiet, report, table.read().version, found.incidents)
        return found.problems
    except OrdertrailError as trouble:
        return (f"alerts: {trouble}",)


def check(
    config: Config,
    *,
    extra: Sequence[Cause] = (),
    passed: bool | None = None,
    service_expected: bool = False,
    sender: Sender = send,
    session: SparkSession | None = None,
    table: IncidentTable | None = None,
) -> Checked:
    """Look for what needs a person, keep incidents, and send what is due.

    Args:
        config: Of the pipeline.
        extra: Causes beside the open items.
        passed: Whether a pass has just succeeded; None asks the heartbeat of the service.
        service_expected: Whether it needs a person when no service runs.
        sender: Sends one message.
        session: For tables by name; None uses the active one, or starts one.
        table: Of the incidents, for who has it already.
    """
    table = table or incident_table(config, session)
    try:
        if not table.possible():
            return Checked(problems=_apart_from_tables(config))
        seen, quiet = _seen(config, extra, passed, service_expected, session)
        kept = evaluate(table, seen, [one.channel for one in config.alerts])
    except OrdertrailError as error:
        return Checked(problems=(f"incidents cannot be kept: {error}",))
    if not config.alerts:
        return Checked(kept.incidents, quiet=quiet)
    if not installed():
        hint = "alerts are not sent without apprise: pip install 'ordertrail[alerts]'; they wait"
        return Checked(kept.incidents, problems=(hint,))
    began_s = time.monotonic()
    outbox = Outbox(config.name, table, config.alerts, sender, option=config_option(config))
    try:
        sent = outbox.send(lambda: time.monotonic() - began_s < BUDGET_S)
        problems = tuple(f"alerts on {one.channel}: {one.error}" for one in sent if one.error)
        return Checked(table.read().incidents, sent, problems, quiet)
    except OrdertrailError as error:
        return Checked(kept.incidents, problems=(f"alerts: {error}",))


def look(
    config: Config,
    *,
    extra: Sequence[Cause] = (),
    passed: bool | None = None,
    service_expected: bool = False,
    session: SparkSession | None = None,
) -> Seen:
    """What needs a person now, also when that cannot be listed; arguments as of `check`."""
    return _seen(config, extra, passed, service_expected, session)[0]


def _seen(
    config: Config,
    extra: Sequence[Cause],
    passed: bool | None,
    service_expected: bool,
    session: SparkSession | None,
) -> tuple[Seen, Quiet | None]:
    if passed is None:
        beat = heard(config)
        passed = beat is not None and not beat.silent(now_utc()) and not beat.failures
    try:
        items, quiet = looked_at(config, session=session, service_expected=service_expected)
    except OrdertrailError as error:
        return Seen((unreadable_cause(config, error), *extra), whole=False, passed=passed), None
    return Seen((*causes_of(items), *extra), passed=passed), quiet


def _apart_from_tables(config: Config) -> tuple[str, ...]:
    return (
        (f"pipeline {config.name} has no tables yet, so no incidents are kept: run a pass first",)
        if config.alerts
        else ()
    )
