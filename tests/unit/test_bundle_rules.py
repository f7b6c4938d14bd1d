"""What Databricks' command line would find between the parts of a bundle; every rule has a mistake that it finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ordertrail.databricks.bundle import BundleOptions, bundle_files
from tests.bundle_rules import problems_of


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return bundle_files(BundleOptions("ordertrail==0.1.0", emails=("desk@example.com",)))


def test_the_cli_finds_nothing_between_the_parts(files: dict[str, str]) -> None:
    assert problems_of(files) == []


def prod(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["targets"]["prod"]
    return found


def jobs(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["resources"]["jobs"]
    return found


RULES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "one key in two kinds": (
        lambda b: jobs(b).update(orders_schema=jobs(b).pop("orders_sweep")),
        "jobs.orders_schema and schemas.orders_schema: one key for two resources",
    ),
    "one key in a kind and a script": (
        lambda b: b.update(scripts={"orders": {"content": "true"}}),
        "jobs.orders and scripts.orders: one key for two resources",
    ),
    "explicit pause_status": (
        lambda b: jobs(b)["orders"]["trigger"].update(pause_status="UNPAUSED"),
        "jobs.orders: starts by itself in development",
    ),
    "explicit pause_status of a schedule": (
        lambda b: jobs(b)["orders_sweep"]["schedule"].update(pause_status="${var.trigger_status}"),
        "jobs.orders_sweep: starts by itself in development",
    ),
    "preset that starts all in dev": (
        lambda b: b["targets"]["dev"].update(presets={"trigger_pause_status": "UNPAUSED"}),
        "presets.trigger_pause_status: development cannot be UNPAUSED by default",
    ),
    "no CLI version": (
        lambda b: b["bundle"].pop("databricks_cli_version"), "bundle.databricks_cli_version: is missing",
    ),
    "CLI version that is no constraint": (
        lambda b: b["bundle"].update(databricks_cli_version="0.268+"),
        "bundle.databricks_cli_version: '0.268+' is no constraint",
    ),
    "CLI version that is too old": (
        lambda b: b["bundle"].update(databricks_cli_version=">= 0.267.0"),
        "bundle.databricks_cli_version: prevent_destroy needs 0.268.0",
    ),
    "no root path": (
        lambda b: prod(b).pop("workspace"), "targets.prod.workspace.root_path: production must set it",
    ),
    "root path of whoever deploys": (
        lambda b: prod(b)["workspace"].update(root_path="/Workspace/Users/${workspace.current_user.userName}/b"),
        "targets.prod.workspace.root_path: everybody who deploys makes a copy",
    ),
    "root path that all may write to": (
        lambda b: prod(b)["workspace"].update(root_path="/Workspace/Shared/b"),
        "workspace.root_path: all users of the workspace may write there",
    ),
    "root path in a Volume": (
        lambda b: prod(b)["workspace"].update(root_path="/Volumes/a/b/c"),
        "workspace.root_path: only artifact_path may be in a Volume",
    ),
    "mode that is none": (
        lambda b: prod(b).update(mode="prod"), "targets.prod.mode: must be development or production",
    ),
    "no run_as": (lambda b: prod(b).pop("run_as"), "run_as: production runs as a person"),
    "run_as of two": (
        lambda b: prod(b)["run_as"].update(user_name="me@example.com"), "run_as: must specify exactly one identity",
    ),
    "no permissions": (lambda b: prod(b).pop("permissions"), "permissions: no group may see or repair"),
    "permission without the deployer": (
        lambda b: prod(b)["permissions"].pop(0), "permissions: does not include who deploys with CAN_MANAGE",
    ),
    "permission of no such level": (
        lambda b: prod(b)["permissions"][1].update(level="CAN_MANAGE_RUN"),
        "permissions[1].level: 'CAN_MANAGE_RUN' is none of",
    ),
    "permission of two": (
        lambda b: prod(b)["permissions"][1].update(user_name="me"), "permissions[1]: must specify exactly one identity",
    ),
    "git_source": (
        lambda b: jobs(b)["orders"].update(git_source={"git_url": "u", "git_provider": "gitHub", "git_branch": "main"}),
        "jobs.orders.git_source: beside a bundle",
    ),
    "readers of the whole schema": (
        lambda b: prod(b)["resources"]["schemas"]["orders_schema"]["grants"][1]["privileges"].append("SELECT"),
        "schemas.orders_schema.grants: readers may read stage, history and rejects",
    ),
    "variable without a value": (
        lambda b: b["targets"]["dev"].pop("variables"), "variables.service_principal: no value assigned",
    ),
    "resource that is empty": (
        lambda b: b["resources"]["volumes"].update(orders_more=None), "resources.volumes.orders_more: is empty",
    ),
    "reference in a key": (
        lambda b: jobs(b).update({"orders_${var.schema}": {"name": "x"}}),
        "resources.jobs.orders_${var.schema}: a key must not hold a reference",
    ),
    "reference in the bundle's name": (
        lambda b: b["bundle"].update(name="orders-${var.schema}"), "bundle.name: must not hold a reference",
    ),
    "reference in the host": (
        lambda b: prod(b)["workspace"].update(host="${var.schema}"),
        "targets.prod.workspace.host: must not hold a reference",
    ),
    "notebook that is not there": (
        lambda b: jobs(b)["orders"]["tasks"][0]["notebook_task"].update(notebook_path="./notebooks/stage.py"),
        "jobs.orders.order_stage_load: there is no notebook ./notebooks/stage.py",
    ),
    "wheel that is not there": (
        lambda b: jobs(b)["orders"]["environments"][0]["spec"].update(dependencies=["./wheels/none.whl"]),
        "jobs.orders.environments: there is no file ./wheels/none.whl",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", RULES)
def test_the_rules_find(mistake: str, files: dict[str, str]) -> None:
    change, problem = RULES[mistake]
    found = problems_of(files, change)
    assert any(one.startswith(problem) for one in found), found
