"""What Databricks' CLI asks of a bundle beside the fields: rules between its parts, which no class of an SDK knows.

Each function here stands for a step of `bundle validate` or `bundle deploy`; it names the file of
https://github.com/databricks/cli (release 1.13) where the rule is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from tests.bundle_check import read, resolved

_REFERENCE = "${"
# bundle/config/mutator/verify_cli_version.go: no other form is taken.
_VERSION = r"(\d+\.\d+\.\d+(-\w+)?|\d+\.\d+.\*|\d+\.\*)"
_CONSTRAINT = re.compile(rf"^(>=|<=|>|<|!=)? ?{_VERSION}(, (>=|<=|>|<|!=) {_VERSION})?$")
PRINCIPAL = {"service_principal": "11111111-2222-3333-4444-555555555555"}
"""What `prod` is given with `--var`."""

_PREVENT_DESTROY = (0, 268, 0)
"""The first release where one resource may have it and another not (CHANGELOG.md)."""

_LEVELS = ("CAN_MANAGE", "CAN_VIEW", "CAN_RUN")
_IDENTITIES = ("user_name", "group_name", "service_principal_name")
Bundle = Mapping[str, Any]


def rule_problems(text: str, target: str, files: Collection[str], variables: Mapping[str, object]) -> list[str]:
    """All that the CLI, or a reviewer of the bundle, would not take; one line each.

    Args:
        text: `databricks.yml`.
        target: Name of the target.
        files: Paths in the bundle's folder.
        variables: As given with `--var`.
    """
    raw = read(text)
    if missing := _without_value(raw, target, variables):
        return [f"variables.{name}: no value assigned" for name in missing]
    found = [*_keys(raw), *_empty(raw), *_fixed_names(raw), *_cli_version(raw, text)]
    if found:
        return found
    made = resolved(text, target, variables)
    found = [problem for rule in _RULES for problem in rule(made)]
    return [*found, *_one_copy(raw, target), *_files(made, files)]


def problems_of(made: Mapping[str, str], change: Callable[[dict[str, Any]], object] = lambda _: None) -> list[str]:
    """What the rules find in a bundle, for both targets.

    Args:
        made: Text by path; of most files the path alone counts.
        change: Spoils the bundle's YAML first.
    """
    bundle = read(made["databricks.yml"])
    change(bundle)
    text = json.dumps(bundle)  # which is YAML too
    found = [rule_problems(text, name, made, PRINCIPAL if name == "prod" else {}) for name in ("dev", "prod")]
    return list(dict.fromkeys(problem for problems in found for problem in problems))


def pause_states(made: Bundle) -> dict[str, str]:
    """Whether each job's trigger or schedule is paused once it is deployed.

    bundle/config/mutator/resourcemutator/apply_presets.go: mode `development` pauses only what says nothing itself.
    """
    default = "PAUSED" if made["target"].get("mode") == "development" else "UNPAUSED"
    starts = {
        name: next((job[kind] for kind in ("trigger", "schedule", "continuous") if kind in job), None)
        for name, job in made["resources"].get("jobs", {}).items()
    }
    return {name: start.get("pause_status", default) for name, start in starts.items() if start is not None}


# --- what is written ---------------------------------------------------------------------------------------------


def _without_value(raw: Bundle, target: str, variables: Mapping[str, object]) -> list[str]:
    """bundle/config/mutator/set_variables.go."""
    own = raw["targets"][target].get("variables", {})
    return [
        name
        for name, one in raw.get("variables", {}).items()
        if "default" not in one and "lookup" not in one and name not in {**own, **variables}
    ]


def _keys(raw: Bundle) -> Iterator[str]:
    """bundle/config/validate/unique_resource_keys.go: `bundle run KEY` does not say of which kind."""
    places: dict[str, list[str]] = {}
    for kind, named in {**raw.get("resources", {}), "scripts": raw.get("scripts", {})}.items():
        for key in named or {}:
            places.setdefault(key, []).append(f"{kind}.{key}")
    yield from (
        f"{' and '.join(sorted(found))}: one key for two resources" for found in places.values() if len(found) > 1
    )


def _empty(raw: Bundle) -> Iterator[str]:
    """bundle/config/validate/all_resources_have_values.go."""
    for place, resources in _resources(raw):
        for kind, named in resources.items():
            yield from (f"{place}.{kind}.{key}: is empty" for key, one in (named or {}).items() if one is None)


def _fixed_names(raw: Bundle) -> Iterator[str]:
    """validate/no_interpolation_in_bundle_name.go, no_variable_reference_in_resource_key.go, interpolation_in_auth."""
    if _REFERENCE in raw["bundle"]["name"]:
        yield "bundle.name: must not hold a reference"
    for place, resources in _resources(raw):
        for kind, named in resources.items():
            yield from (f"{place}.{kind}.{key}: a key must not hold a reference" for key in named if _REFERENCE in key)
    for name, one in raw["targets"].items():
        if _REFERENCE in str(one.get("workspace", {}).get("host", "")):
            yield f"targets.{name}.workspace.host: must not hold a reference"


def _resources(raw: Bundle) -> Iterator[tuple[str, Bundle]]:
    yield "resources", raw.get("resources", {})
    for name, one in raw["targets"].items():
        yield f"targets.{name}.resources", one.get("resources", {})


def _cli_version(raw: Bundle, text: str) -> Iterator[str]:
    constraint = raw["bundle"].get("databricks_cli_version", "")
    if not constraint:
        yield "bundle.databricks_cli_version: is missing"
    elif not _CONSTRAINT.match(constraint):
        yield f"bundle.databricks_cli_version: {constraint!r} is no constraint that the CLI reads"
    elif "prevent_destroy" in text:
        least = re.match(r">= ?(\d+)\.(\d+)\.(\d+)", constraint)
        if least is None or tuple(map(int, least.groups())) < _PREVENT_DESTROY:
            yield f"bundle.databricks_cli_version: prevent_destroy needs 0.268.0, not {constraint!r}"


# --- what it comes to for a target -------------------------------------------------------------------------------


def _paused_in_development(made: Bundle) -> Iterator[str]:
    if made["target"].get("mode") == "development":
        for name, state in pause_states(made).items():
            if state != "PAUSED":
                yield f"jobs.{name}: starts by itself in development: an explicit pause_status beats the mode"
        if made["target"].get("presets", {}).get("trigger_pause_status") == "UNPAUSED":
            yield "presets.trigger_pause_status: development cannot be UNPAUSED by default"


def _run_as(made: Bundle) -> Iterator[str]:
    """bundle/config/mutator/resourcemutator/run_as.go."""
    target = made["target"]
    named = [target.get("run_as", {}).get(name) for name in ("user_name", "service_principal_name")]
    if "run_as" in target and len([one for one in named if one]) != 1:
        yield "run_as: must specify exactly one identity"
    elif target.get("mode") == "production" and not named[1]:
        yield "run_as: production runs as a person, or as whoever deployed it last"


def _permissions(made: Bundle) -> Iterator[str]:
    """bundle/config/mutator/resourcemutator/apply_bundle_permissions.go, bundle/permissions/validate.go."""
    target = made["target"]
    permissions = target.get("permissions", [])
    for number, one in enumerate(permissions):
        if one.get("level") not in _LEVELS:
            yield f"permissions[{number}].level: {one.get('level')!r} is none of {', '.join(_LEVELS)}"
        if len([name for name in _IDENTITIES if one.get(name)]) != 1:
            yield f"permissions[{number}]: must specify exactly one identity"
    if target.get("mode") == "production":
        if not any(one.get("group_name") for one in permissions):
            yield "permissions: no group may see or repair the runs of production"
        deployer = target.get("run_as", {}).get("service_principal_name")
        managers = [one for one in permissions if one.get("level") == "CAN_MANAGE"]
        if not any(one.get("service_principal_name") == deployer for one in managers):
            yield "permissions: does not include who deploys with CAN_MANAGE"
    if str(target.get("workspace", {}).get("root_path", "")).startswith("/Workspace/Shared"):
        yield "workspace.root_path: all users of the workspace may write there"


def _volume_paths(made: Bundle) -> Iterator[str]:
    """bundle/config/validate/validate_volume_path.go."""
    for name, path in made["target"].get("workspace", {}).items():
        if name != "artifact_path" and str(path).startswith("/Volumes/"):
            yield f"workspace.{name}: only artifact_path may be in a Volume"


def _no_git_source(made: Bundle) -> Iterator[str]:
    """A job that takes its notebooks from Git does not run what was deployed."""
    yield from (f"jobs.{name}.git_source: beside a bundle" for name, job in _jobs(made) if "git_source" in job)


def _grants(made: Bundle) -> Iterator[str]:
    """Stage, history and rejects hold addresses: readers get no right on the whole schema."""
    readers = made["variables"].get("readers", {}).get("default")
    for name, schema in made["resources"].get("schemas", {}).items():
        for grant in schema.get("grants", []):
            if grant.get("principal") == readers and "SELECT" in grant.get("privileges", []):
                yield f"schemas.{name}.grants: readers may read stage, history and rejects"


def _jobs(made: Bundle) -> Iterator[tuple[str, Bundle]]:
    yield from made["resources"].get("jobs", {}).items()


_RULES: tuple[Callable[[Bundle], Iterator[str]], ...] = (
    _paused_in_development, _run_as, _permissions, _volume_paths, _no_git_source, _grants,
)  # fmt: skip


def _one_copy(raw: Bundle, target: str) -> Iterator[str]:
    """bundle/config/mutator/resourcemutator/validate_target_mode.go."""
    chosen = raw["targets"][target]
    if chosen.get("mode") not in ("development", "production", None):
        yield f"targets.{target}.mode: must be development or production"
    if chosen.get("mode") == "production":
        root = chosen.get("workspace", {}).get("root_path", "")
        if not root:
            yield f"targets.{target}.workspace.root_path: production must set it"
        elif "workspace.current_user" in root:
            yield f"targets.{target}.workspace.root_path: everybody who deploys makes a copy of production"


def _files(made: Bundle, files: Collection[str]) -> Iterator[str]:
    """bundle/config/mutator/translate_paths_jobs.go and bundle/libraries: what is named must be in the folder."""
    for name, job in _jobs(made):
        for task in job.get("tasks", []):
            notebook = task.get("notebook_task", {})
            if notebook and notebook["notebook_path"].removeprefix("./") not in files:
                yield f"jobs.{name}.{task['task_key']}: there is no notebook {notebook['notebook_path']}"
        for environment in job.get("environments", []):
            for one in environment["spec"].get("dependencies", []):
                if one.startswith(".") and one.removeprefix("./") not in files:
                    yield f"jobs.{name}.environments: there is no file {one}"
