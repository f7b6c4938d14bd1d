"""Is a bundle what Databricks takes? Its resources, resolved for a target, against the classes of databricks-sdk.

The SDK's own `from_dict` drops what it does not know; here every unknown field, wrong type, bad value of an enum and
missing field is found, and said with its path. What a bundle has beside the API's fields is listed in `_BUNDLE_ONLY`.
The SDK's classes take a second to import: only a check that needs them pays for it, and not who reads a bundle.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, Union

import yaml

_REFERENCE = re.compile(r"\$\{([\w.\-]+)\}")
_JOINED_BY = {
    "tasks": "task_key",
    "parameters": "name",
    "environments": "environment_key",
    "job_clusters": "job_cluster_key",
}
_BUNDLE_ONLY = {"grants", "lifecycle"}
_KNOWN: Mapping[str, object] = {
    "workspace.current_user.userName": "deployer",
}
"""What Databricks' CLI knows of workspace and repository."""


def read(text: str) -> Any:
    """YAML, read quickly where libyaml is there."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


# --- resolving ---------------------------------------------------------------------------------------------------


def resolved(text: str, target: str, variables: Mapping[str, object] | None = None) -> dict[str, Any]:
    """The bundle as it is for one target: its overrides merged in, every `${...}` replaced.

    Args:
        text: `databricks.yml`.
        target: Name of the target.
        variables: As given with `--var`.

    Raises:
        LookupError: A reference leads nowhere.
    """
    bundle = read(text)
    chosen = bundle["targets"][target]
    merged = {name: _merged(bundle.get(name, {}), chosen.get(name, {})) for name in ("resources", "variables")}
    # A target gives a variable its value, or changes what is said of it.
    merged["variables"] = {
        name: one if isinstance(one, dict) else {**bundle["variables"][name], "default": one}
        for name, one in merged["variables"].items()
    }
    found = {name: one["default"] for name, one in merged["variables"].items() if "default" in one}
    known = {
        **_KNOWN,
        **{f"var.{name}": value for name, value in {**found, **(variables or {})}.items()},
        **{f"resources.jobs.{name}.id": 42 for name in merged["resources"]["jobs"]},
        "bundle.name": bundle["bundle"]["name"],
        "bundle.target": target,
    }
    for kind in ("schemas", "volumes"):
        for name, one in merged["resources"].get(kind, {}).items():
            known[f"resources.{kind}.{name}.name"] = _replaced(one["name"], known)
    result: dict[str, Any] = _replaced({**merged, "target": chosen, "bundle": bundle["bundle"]}, known)
    return result


def _merged(base: Any, over: Any, name: str = "") -> Any:
    """As Databricks' CLI merges a target into the bundle: maps by key, tasks and their kin by their own key."""
    if isinstance(base, dict) and isinstance(over, dict):
        both = base.keys() & over.keys()
        return {**base, **over, **{key: _merged(base[key], over[key], key) for key in both}}
    if isinstance(base, list) and isinstance(over, list):
        if (by := _JOINED_BY.get(name)) is None:
            return [*base, *over]
        joined = {one[by]: one for one in base}
        for one in over:
            joined[one[by]] = _merged(joined.get(one[by], {}), one)
        return list(joined.values())
    return over


def _replaced(value: Any, known: Mapping[str, object]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(one, known) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, known) for one in value]
    if not isinstance(value, str):
        return value
    if whole := _REFERENCE.fullmatch(value):
        return _replaced(known[whole[1]], known)
    return _REFERENCE.sub(lambda one: str(_replaced(known[one[1]], known)), value)


# --- checking ----------------------------------------------------------------------------------------------------


def problems(resources: Mapping[str, Any]) -> list[str]:
    """All that Databricks would not take in the resources of a resolved bundle; one line each, with its path."""
    found: list[str] = []
    for kind, named in resources.items():
        if kind not in _KINDS:
            found.append(f"{kind}: no kind of resource that this check knows")
            continue
        for name, one in named.items():
            found += _KINDS[kind](one, f"{kind}.{name}")
    return found


def job_problems(job: Mapping[str, Any], path: str = "job") -> list[str]:
    """What is wrong with a job; beyond the types, that its tasks and environments are there and named once."""
    from databricks.sdk.service import jobs

    found = list(_against(job, jobs.JobSettings, path))
    tasks = [task for task in job.get("tasks", []) if isinstance(task, dict)]
    keys = [task.get("task_key") for task in tasks]
    environments = [one.get("environment_key") for one in job.get("environments", [])]
    found += [f"{path}.tasks: {key} is there more than once" for key in {k for k in keys if keys.count(k) > 1}]
    for number, task in enumerate(tasks):
        at = f"{path}.tasks[{number}]"
        kinds = [name for name in task if name.endswith("_task")]
        if len(kinds) != 1:
            found.append(f"{at}: a task does one thing, not {kinds}")
        for one in task.get("depends_on", []):
            if one.get("task_key") not in keys[:number]:
                found.append(f"{at}.depends_on: there is no task {one.get('task_key')} before it")
        if "environment_key" in task and task["environment_key"] not in environments:
            found.append(f"{at}.environment_key: there is no environment {task['environment_key']}")
    if len({"trigger", "schedule", "continuous", "triggers"} & set(job)) > 1:
        found.append(f"{path}: only one of trigger, schedule and continuous")
    return found


def _schema_problems(schema: Mapping[str, Any], path: str) -> list[str]:
    from databricks.sdk.service import catalog

    return [*_against_call(schema, catalog.SchemasAPI.create, path), *_bundle_problems(schema, path)]


def _volume_problems(volume: Mapping[str, Any], path: str) -> list[str]:
    from databricks.sdk.service import catalog

    return [*_against_call(volume, catalog.VolumesAPI.create, path), *_bundle_problems(volume, path)]


_KINDS: Mapping[str, Callable[[Any, str], list[str]]] = {
    "jobs": job_problems,
    "schemas": _schema_problems,
    "volumes": _volume_problems,
}


def _bundle_problems(resource: Mapping[str, Any], path: str) -> Iterator[str]:
    from databricks.sdk.service import catalog

    for number, grant in enumerate(resource.get("grants", [])):
        at = f"{path}.grants[{number}]"
        yield from _against(grant, catalog.PrivilegeAssignment, at)
        yield from (f"{at}.{name}: is missing" for name in ("principal", "privileges") if not grant.get(name))
    lifecycle = resource.get("lifecycle", {})
    yield from (f"{path}.lifecycle.{name}: there is no such field" for name in set(lifecycle) - {"prevent_destroy"})


def _against_call(values: Mapping[str, Any], call: Callable[..., object], path: str) -> Iterator[str]:
    """Against the parameters of a method that creates the resource."""
    hints = typing.get_type_hints(call)
    parameters = {name: one for name, one in inspect.signature(call).parameters.items() if name != "self"}
    for name in set(values) - set(parameters) - _BUNDLE_ONLY:
        yield f"{path}.{name}: there is no such field"
    for name, one in parameters.items():
        if name in values:
            yield from _against(values[name], hints[name], f"{path}.{name}")
        elif one.default is inspect.Parameter.empty:
            yield f"{path}.{name}: is missing"


def _against(value: Any, kind: Any, path: str) -> Iterator[str]:
    """Against a type as the SDK writes it: classes, enums, lists, maps, optional ones and plain values."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        # The SDK has no other unions than optional ones; null itself stands for nothing in a bundle.
        yield from _against(value, next(one for one in inner if one is not type(None)), path)
    elif origin is list:
        if not isinstance(value, list):
            yield f"{path}: must be a list, not {value!r}"
            return
        for number, one in enumerate(value):
            yield from _against(one, inner[0], f"{path}[{number}]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{path}: must be a map, not {value!r}"
            return
        for key, one in value.items():
            yield from _against(key, inner[0], f"{path}.{key}")
            yield from _against(one, inner[1], f"{path}.{key}")
    elif is_dataclass(kind):
        yield from _against_class(value, kind, path)
    elif issubclass(kind, Enum):
        if value not in [member.value for member in kind]:
            yield f"{path}: {value!r} is none of {', '.join(str(member.value) for member in kind)}"
    elif type(value) is not kind:
        # Not isinstance: true is no whole number.
        yield f"{path}: must be {kind.__name__}, not {value!r}"


def _against_class(value: Any, kind: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: must be a map, not {value!r}"
        return
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    for name in value.keys() - known.keys():
        yield f"{path}.{name}: there is no such field"
    for name, field in known.items():
        if name in value:
            yield from _against(value[name], hints[name], f"{path}.{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            yield f"{path}.{name}: is missing"
