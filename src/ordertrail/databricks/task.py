"""What the notebooks of the Databricks job do, so that they are a few lines each.

```
order_stage_load ──► orders_target_load ──► order_attention
steps 1-3 of a pass   steps 4-6              fails when a person must look
```

How a task ends decides who is told. An error ends `order_stage_load` or `orders_target_load`: Databricks runs the task
again, which is always safe, and the job's failure notifications go out when the last attempt has failed. A delivery
that is quarantined, or a warning, is no failure: everything is committed, and a second attempt would find nothing to do
and end well, so that nobody would be told. That is why a third task tells it. It runs after all else, is never run
again by itself, and fails when the task values of the other two name something to look at that is still open. What has
been open since earlier runs is listed, and fails no run again. The incidents are kept by `orders_target_load`; what
they tell is at the end of the message, as a channel of alerts would have it, so that the job's notifications carry it.

All parameters are the job's. Those that are settings too (`catalog`, `schema`, `source`, `archive`) override the config
file where they are not empty; environment variables play no part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec.structs import asdict, replace

from ordertrail.alerts.channels import installed
from ordertrail.alerts.evaluate import causes_of, evaluate, now_utc
from ordertrail.alerts.outbox import Outbox
from ordertrail.config import Config, load_config
from ordertrail.config.settings import ENVIRONMENT_PREFIX
from ordertrail.engines.choice import engine_of, incident_table
from ordertrail.engines.spark.session import spark_errors
from ordertrail.errors import AttentionError, ConfigError, OrdertrailError
from ordertrail.look.document import run_report
from ordertrail.look.open_items import OpenItem
from ordertrail.look.rows import Json
from ordertrail.look.status import open_items_of
from ordertrail.model import RunReport, State
from ordertrail.pipeline import Pipeline
from ordertrail.rules.alert_text import message
from ordertrail.rules.incidents import Incident, Seen
from ordertrail.rules.outbox import Event

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STAGE_TASK = "order_stage_load"
LOAD_TASK = "orders_target_load"
ATTENTION_TASK = "order_attention"

PARAMETERS: dict[str, str] = {
    "config": "../ordertrail.toml",
    "catalog": "",
    "schema": "",
    "source": "",
    "archive": "",
    "readers": "",
    "fail_on_attention": "true",
}
"""The parameters of the job, with what holds where it gives none; `config` is relative to the notebook's folder."""

MAX_VALUE_BYTES = 40_000
"""How large a list may be as a task value, as JSON; Databricks takes 48 KiB."""

_SETTINGS = ("catalog", "schema", "source", "archive")
_MAX_REASON = 300
_MAX_LINES = 20
_MAX_MESSAGE = 8_000

Item = TypeVar("Item", str, dict[str, str])

TaskValue = str | int | bool | list[str] | list[dict[str, str]]
"""What the tasks hand on."""


class Widgets(Protocol):
    """`dbutils.widgets`: the parameters of the job."""

    def text(self, name: str, defaultValue: str) -> None:  # noqa: N803 - Databricks' name
        """Declare a parameter; a value that the job gives stays."""

    def get(self, name: str) -> str:
        """The value of a parameter."""


class TaskValues(Protocol):
    """`dbutils.jobs.taskValues`: what the tasks of one run of the job tell each other."""

    def set(self, key: str, value: TaskValue) -> None:
        """Hand a value on, of at most 48 KiB as JSON."""

    def get(self, taskKey: str, key: str, default: TaskValue, debugValue: TaskValue) -> object:  # noqa: N803 - Databricks' names
        """What a task has set; `default` when it has not, `debugValue` outside of a job."""


class Jobs(Protocol):
    """`dbutils.jobs`."""

    @property
    def taskValues(self) -> TaskValues:  # noqa: N802 - Databricks' name
        """The task values."""


class Dbutils(Protocol):
    """As much of a notebook's `dbutils` as the tasks use."""

    @property
    def widgets(self) -> Widgets:
        """The parameters."""

    @property
    def jobs(self) -> Jobs:
        """The job."""


def stage(spark: SparkSession, dbutils: Dbutils) -> str:
    """Steps 1 to 3 of a pass: the task `order_stage_load`.

    Args:
        spark: The notebook's session.
        dbutils: The notebook's utilities.

    Returns:
        The document of `ordertrail stage --json`, for `dbutils.notebook.exit`.

    Raises:
        OrdertrailError: What went wrong. The task may be run again at once.
    """
    report = _pipeline(spark, dbutils).stage()
    _hand_on(dbutils, report)
    return _document(report)


def load(spark: SparkSession, dbutils: Dbutils) -> str:
    """Steps 4 to 6 of a pass: the task `orders_target_load`.

    Args:
        spark: The notebook's session.
        dbutils: The notebook's utilities.

    Returns:
        The document of `ordertrail load --json`, for `dbutils.notebook.exit`.

    Raises:
        OrdertrailError: What went wrong. The task may be run again at once.
    """
    pipeline = _pipeline(spark, dbutils)
    report = pipeline.load()
    problems = [] if report.batch is None else [_grant(spark, dbutils)]
    items, problem = _open_items(spark, pipeline.config)
    if items is not None:
        _hand_on_open(dbutils, items)
        problems.append(_hand_on_message(spark, dbutils, pipeline.config, items))
    problems.append(problem)
    report = replace(report, warnings=(*report.warnings, *filter(None, problems)))
    _hand_on(dbutils, report)
    dbutils.jobs.taskValues.set(key="finished", value=True)
    return _document(report)


def attention(dbutils: Dbutils) -> str:
    """Fail when the pass needs a person: the task `order_attention`.

    It runs whatever became of the other two, as the last one of the job: Databricks judges a run by its last task.

    Args:
        dbutils: The notebook's utilities.

    Returns:
        `{"attention": [line, ...], "open": [line, ...]}`, for `dbutils.notebook.exit`: what this run found, when
        `fail_on_attention` is off, and what has been open since earlier runs.

    Raises:
        AttentionError: A delivery of this run is quarantined or held and was not healed since, there is a warning, or
            a task before this one failed.
    """
    fail = flag(dbutils, "fail_on_attention")
    values = dbutils.jobs.taskValues
    if values.get(taskKey=LOAD_TASK, key="finished", default=False, debugValue=True) is not True:
        lines = [f"{LOAD_TASK} has not finished, see its message and that of {STAGE_TASK}", *_to_look_at(values)[0]]
        raise AttentionError(
            _message("the batch is not loaded yet", lines),
            hint="no row is lost: repair the run, or let the next one finish what this one began",
        )
    lines, earlier = _to_look_at(values)
    if lines and fail:
        told = _message("the batch is loaded and nothing is lost, but somebody must look", lines)
        if earlier:
            told = f"{told}\n{_message('open since earlier runs', earlier)}"
        if message := values.get(taskKey=LOAD_TASK, key="message", default="", debugValue=""):
            told = f"{told}\n\n{message}"
        raise AttentionError(
            told,
            hint="quarantined files are below quarantine/ in the archive, their rejects in the rejects table; once the "
            "vendor has sent a corrected file there is nothing else to do. Do not repair this run: it has nothing left "
            "to do",
        )
    return json.dumps({"attention": lines, "open": earlier}, ensure_ascii=False)


def _grant(spark: SparkSession, dbutils: Dbutils) -> str | None:
    """Let the group of the parameter `readers` read the target, and no other table; why it could not be done.

    Beside a target that keeps all rows they may read the view of the latest state, which shows nothing else.

    A bundle grants on schemas and Volumes, not on tables; and the target is there only once a batch was loaded.
    """
    readers = parameter(dbutils, "readers")
    if not readers:
        return None
    config = config_of(dbutils)
    for name in (config.tables.target, *((config.current,) if config.appends else ())):
        table = ".".join(_ticked(part) for part in (config.catalog, config.schema, name))
        statement = f"GRANT SELECT ON TABLE {table} TO {_ticked(readers)}"
        try:
            with spark_errors(f"{readers} cannot be let read {name}"):
                spark.sql(statement)
        except OrdertrailError as error:
            return f"{error.message}; all else is done: {statement}"
    return None


def _ticked(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


# --- the config --------------------------------------------------------------------------------------------------


def _pipeline(spark: SparkSession, dbutils: Dbutils) -> Pipeline:
    return Pipeline(config_of(dbutils), engine=partial(engine_of, session=spark))


def config_of(dbutils: Dbutils) -> Config:
    """The config that the notebook's parameters name, on Spark, with the settings among them.

    Raises:
        ConfigError: It is wrong.
    """
    given = {name: parameter(dbutils, name) for name in _SETTINGS}
    overrides = {f"{ENVIRONMENT_PREFIX}{name.upper()}": value for name, value in given.items() if value}
    return load_config(parameter(dbutils, "config"), environ={f"{ENVIRONMENT_PREFIX}ENGINE": "spark", **overrides})


def parameter(dbutils: Dbutils, name: str, defaults: Mapping[str, str] = PARAMETERS) -> str:
    """A parameter of the job, or what holds where it gives none.

    Args:
        dbutils: The notebook's utilities.
        name: The parameter.
        defaults: Of the notebook's parameters.
    """
    dbutils.widgets.text(name, defaults[name])
    return dbutils.widgets.get(name).strip()


def flag(dbutils: Dbutils, name: str, defaults: Mapping[str, str] = PARAMETERS) -> bool:
    """A parameter that is `true` or `false`; arguments as for `parameter`.

    Raises:
        ConfigError: It is neither.
    """
    value = parameter(dbutils, name, defaults)
    if value.lower() not in ("true", "false"):
        raise ConfigError(f"job parameter {name} = {value!r}: must be true or false", hint=f"set {name} to true")
    return value.lower() == "true"


# --- what a task tells -------------------------------------------------------------------------------------------


def shown(document: Json) -> str:
    """Print a document for who reads the notebook; returns it on one line, for `dbutils.notebook.exit`."""
    print(json.dumps(document, indent=2, ensure_ascii=False))  # noqa: T201 - a notebook's output
    return json.dumps(document, ensure_ascii=False)


def _document(report: RunReport) -> str:
    """What `--json` prints, on one line."""
    return json.dumps(run_report(report), ensure_ascii=False)


def _hand_on(dbutils: Dbutils, report: RunReport) -> None:
    """Set the task values. A batch number of 0 says that nothing was waiting: a task value cannot be null."""
    bad = [
        {
            "delivery_id": one.delivery_id,
            "file_name": one.file_name,
            "state": str(one.state),
            "reason": (one.reason or "")[:_MAX_REASON],
        }
        for one in report.deliveries
        if one.state in (State.QUARANTINED, State.HELD)
    ]
    warnings = [one[:_MAX_REASON] for one in report.warnings]
    values: dict[str, TaskValue] = {
        "batch": report.batch or 0,
        "recovered": report.recovered,
        **{f"rows_{name}": count for name, count in asdict(report.rows).items() if name != "removed"},
        "quarantined": _fitting(bad),
        "quarantined_count": len(bad),
        "warnings": _fitting(warnings),
        "warnings_count": len(warnings),
    }
    for key, value in values.items():
        dbutils.jobs.taskValues.set(key=key, value=value)


def _open_items(spark: SparkSession, config: Config) -> tuple[Sequence[OpenItem] | None, str | None]:
    """What needs a person; or None, and why it could not be listed."""
    try:
        return open_items_of(config, session=spark), None
    except OrdertrailError as error:
        return None, f"what needs a person cannot be listed: {error.message}"


def _hand_on_message(spark: SparkSession, dbutils: Dbutils, config: Config, items: Sequence[OpenItem]) -> str | None:
    """Keep the incidents, and set the task value with what they tell now; why that could not be done.

    Where apprise is installed and the config has `[[alerts]]`, they are told there, too.
    """
    channels = config.alerts if installed() else ()
    try:
        table = incident_table(config, spark)
        before = {(one.incident_id, one.count, one.open) for one in table.read().incidents}
        kept = evaluate(table, Seen(causes_of(items)), [one.channel for one in channels])
        for sent in Outbox(config.name, table, channels).send():
            print(f"alerts on {sent.channel}: {sent.error or 'sent'}")  # noqa: T201 - a notebook's output
    except OrdertrailError as error:
        return f"incidents cannot be kept: {error.message}"
    told: list[tuple[Incident, Event]] = [
        (one, "open" if one.open else "close")
        for one in kept.incidents
        if (one.incident_id, one.count, one.open) not in before
    ]
    if told:
        text = message(config.name, told, now_utc()).text
        print(text)  # noqa: T201
        dbutils.jobs.taskValues.set(key="message", value=text[:_MAX_MESSAGE])
    return None


def _hand_on_open(dbutils: Dbutils, items: Sequence[OpenItem]) -> None:
    """Set the task values of the open items."""
    listed = [{"key": one.key, "kind": one.kind, "text": one.text[:_MAX_REASON]} for one in items]
    dbutils.jobs.taskValues.set(key="open_items", value=_fitting(listed))
    dbutils.jobs.taskValues.set(key="open_items_count", value=len(listed))


def _fitting(items: list[Item]) -> list[Item]:
    """As many of the first ones as a task value can hold."""
    size, kept = 2, 0
    for one in items:
        size += len(json.dumps(one)) + 2
        if size > MAX_VALUE_BYTES:
            break
        kept += 1
    return items[:kept]


def _to_look_at(values: TaskValues) -> tuple[list[str], list[str]]:
    """What this run found, and what has been open since earlier ones, one line each.

    A staged delivery is told of by both tasks, and listed once. One that is not open any more is left out: its bytes
    were loaded meanwhile.
    """
    found: dict[str, str] = {}
    left_out = 0
    for task in (STAGE_TASK, LOAD_TASK):
        for kind in ("quarantined", "warnings"):
            listed = values.get(taskKey=task, key=kind, default=[], debugValue=[])
            count = values.get(taskKey=task, key=f"{kind}_count", default=0, debugValue=0)
            items = listed if isinstance(listed, list) else []
            found |= dict(map(_line, items))
            left_out = max(left_out, int(str(count)) - len(items))
    more = [f"and {left_out} more, see the deliveries table"] if left_out else []
    opened = values.get(taskKey=LOAD_TASK, key="open_items", default=[], debugValue=[])
    count = values.get(taskKey=LOAD_TASK, key="open_items_count", default=-1, debugValue=-1)
    still = {str(one["key"]): str(one["text"]) for one in opened} if isinstance(opened, list) else {}
    if count == len(still):
        # a warning is its own name; a delivery has the key of its item
        found = {name: line for name, line in found.items() if name == line or name in still}
    earlier = [text for key, text in still.items() if key not in found and text not in found]
    return [*found.values(), *more], earlier


def _line(item: object) -> tuple[str, str]:
    """What tells an item from others, and the item in words."""
    if isinstance(item, dict):
        told = f"{item['file_name']} (delivery {item['delivery_id']}) is {item['state']}: {item['reason']}"
        return f"delivery:{item['delivery_id']}", told
    return str(item), str(item)


def _message(what: str, lines: list[str]) -> str:
    more = [f"and {len(lines) - _MAX_LINES} more"] if len(lines) > _MAX_LINES else []
    return "\n- ".join([f"{what}:", *lines[:_MAX_LINES], *more])
