"""The bundle for Databricks: does it say what Databricks takes, and does the check of that find every mistake?"""

from __future__ import annotations

import ast
import filecmp
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from msgspec.structs import replace
from packaging.requirements import Requirement

from ordertrail.cli import cli
from ordertrail.config import DEFAULT_CONTRACT, load_config, parse_config, template
from ordertrail.databricks import task
from ordertrail.databricks.bundle import OWN_WHEEL, Bundle, BundleOptions, bundle_files, deploy
from ordertrail.databricks.bundle_config import databricks_toml, with_settings, without_section
from ordertrail.errors import ConfigError, UsageError
from ordertrail.look.plan import plan_files
from tests.bundle_check import job_problems, problems, resolved
from tests.bundle_rules import PRINCIPAL, pause_states, problems_of
from tests.notebooks import cells

OPTIONS = BundleOptions(requirement="ordertrail==0.1.0", emails=("desk@example.com",))
WORKFLOW = ".github/workflows/orders.yml"
SOURCE, ARCHIVE = (f"/Volumes/incremental_load/default/{name}/" for name in ("orders_in", "orders_archive"))
ENVIRONMENTS = Path(__file__).parents[1] / "golden" / "environments"
CUSTOM = """\
[pipeline]
source = "in" # theirs
archive = "out"
warehouse = "tables"
catalog = "sales"

[contract]
status = ""

[[contract.columns]]
name = "tracking_num"
type = "string"

[[contract.columns]]
name = "last_update_timestamp"
type = "timestamp"

[[vendors]]
name = "acme" # pays late
files = "acme/*.txt"
"""


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return bundle_files(OPTIONS)


@pytest.fixture(params=["dev", "prod"])
def bundle(request: pytest.FixtureRequest, files: dict[str, str]) -> dict[str, Any]:
    return at(files["databricks.yml"], request.param)


def at(text: str, target: str, **variables: object) -> dict[str, Any]:
    """The bundle for a target, with the variables that its deployment gives."""
    return resolved(text, target, {**(PRINCIPAL if target == "prod" else {}), **variables})


@pytest.fixture
def job(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["resources"]["jobs"]["orders"]
    return found


def tasks_of(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["task_key"]: one for one in job["tasks"]}


def parameters_of(job: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["default"] for one in job["parameters"]}


# --- the resources -----------------------------------------------------------------------------------------------


def test_databricks_takes_every_resource(bundle: dict[str, Any]) -> None:
    assert set(bundle["resources"]) == {"jobs", "schemas", "volumes"}
    assert problems(bundle["resources"]) == []


def test_databricks_takes_it_with_webhooks_and_no_emails(files: dict[str, str]) -> None:
    found = at(files["databricks.yml"], "prod", alert_webhooks=[{"id": "pager"}], alert_emails=[])["resources"]
    assert problems(found) == []
    assert found["jobs"]["orders"]["webhook_notifications"]["on_failure"] == [{"id": "pager"}]


def test_the_two_tasks_follow_each_other_and_are_retried(job: dict[str, Any]) -> None:
    tasks = tasks_of(job)
    assert list(tasks) == [task.STAGE_TASK, task.LOAD_TASK, task.ATTENTION_TASK]
    assert tasks[task.LOAD_TASK]["depends_on"] == [{"task_key": task.STAGE_TASK}]
    for name in (task.STAGE_TASK, task.LOAD_TASK):
        assert tasks[name]["max_retries"] > 0
        assert tasks[name]["retry_on_timeout"]
        assert "run_if" not in tasks[name]
    assert sum(t["timeout_seconds"] * (1 + t["max_retries"]) for t in tasks.values()) <= job["timeout_seconds"]


def test_the_task_that_alerts_runs_last_whatever_happened_and_once(job: dict[str, Any]) -> None:
    told = tasks_of(job)[task.ATTENTION_TASK]
    assert told["depends_on"] == [{"task_key": task.LOAD_TASK}]
    assert told["run_if"] == "ALL_DONE"
    assert (told["max_retries"], told["disable_auto_optimization"]) == (0, True)


def test_one_run_at_a_time_triggered_by_files_of_the_source(job: dict[str, Any]) -> None:
    assert job["max_concurrent_runs"] == 1
    assert job["queue"] == {"enabled": True}
    arrival = job["trigger"]["file_arrival"]
    assert arrival == {"url": SOURCE, "min_time_between_triggers_seconds": 60}
    assert (parameters_of(job)["source"], parameters_of(job)["archive"]) == (arrival["url"], ARCHIVE)


def test_it_tells_when_a_run_fails_or_takes_too_long(job: dict[str, Any]) -> None:
    assert job["health"]["rules"] == [{"metric": "RUN_DURATION_SECONDS", "op": "GREATER_THAN", "value": 1800}]
    for kind in ("on_failure", "on_duration_warning_threshold_exceeded"):
        assert job["email_notifications"][kind] == ["desk@example.com"]
        assert job["webhook_notifications"][kind] == []


def test_the_job_gives_the_parameters_that_the_tasks_read(job: dict[str, Any]) -> None:
    found = parameters_of(job)
    assert set(found) == set(task.PARAMETERS)
    assert (found["config"], found["fail_on_attention"]) == ("../ordertrail.toml", "true")
    assert (found["catalog"], found["schema"]) == ("incremental_load", "default")


def test_the_environment_installs_our_wheel_and_no_spark(job: dict[str, Any]) -> None:
    (environment,) = job["environments"]
    assert environment["spec"] == {"environment_version": "5", "dependencies": ["ordertrail==0.1.0"]}
    assert {one["environment_key"] for one in job["tasks"]} == {environment["environment_key"]}


def test_dev_and_prod_run_the_files_that_were_deployed(files: dict[str, str], bundle: dict[str, Any]) -> None:
    for one in bundle["resources"]["jobs"]["orders"]["tasks"]:
        assert one["notebook_task"]["source"] == "WORKSPACE"
        assert one["notebook_task"]["notebook_path"].removeprefix("./") in files
    assert "git_source" not in bundle["resources"]["jobs"]["orders"]


def test_nothing_starts_by_itself_in_dev_and_all_does_in_prod(files: dict[str, str]) -> None:
    dev, prod = (at(files["databricks.yml"], name) for name in ("dev", "prod"))
    assert pause_states(dev) == {"orders": "PAUSED", "orders_sweep": "PAUSED"}
    assert pause_states(prod) == {"orders": "UNPAUSED", "orders_sweep": "UNPAUSED"}
    paused = at(files["databricks.yml"], "prod", trigger_status="PAUSED")
    assert set(pause_states(paused).values()) == {"PAUSED"}


def test_prod_is_one_copy_of_the_service_principal_that_the_team_may_run(files: dict[str, str]) -> None:
    target = at(files["databricks.yml"], "prod")["target"]
    principal = PRINCIPAL["service_principal"]
    assert target["workspace"]["root_path"] == f"/Workspace/Users/{principal}/.bundle/ordertrail-orders/prod"
    assert target["run_as"] == {"service_principal_name": principal}
    assert {"group_name": "orders_team", "level": "CAN_RUN"} in target["permissions"]


def test_prod_grants_what_each_group_needs_and_keeps_the_data(files: dict[str, str]) -> None:
    dev, prod = (at(files["databricks.yml"], name)["resources"] for name in ("dev", "prod"))
    schema, volumes = prod["schemas"]["orders_schema"], prod["volumes"]
    granted = {one["principal"]: one["privileges"] for one in schema["grants"]}
    assert granted == {
        "orders_team": ["USE_SCHEMA", "SELECT"], "orders_readers": ["USE_SCHEMA"], "orders_senders": ["USE_SCHEMA"],
    }  # fmt: skip
    senders = {name for name, one in volumes.items() if any(g["principal"] == "orders_senders" for g in one["grants"])}
    assert senders == {"orders_in"}, "who sends files cannot delete the archive"
    assert all(one["lifecycle"] == {"prevent_destroy": True} for one in (schema, *volumes.values()))
    assert parameters_of(prod["jobs"]["orders"])["readers"] == "orders_readers"
    assert parameters_of(dev["jobs"]["orders"])["readers"] == ""
    assert "grants" not in dev["schemas"]["orders_schema"]


def test_one_volume_is_the_layout_of_the_notebooks_before_ordertrail() -> None:
    made = bundle_files(replace(OPTIONS, layout="one-volume"))
    found = at(made["databricks.yml"], "prod")
    job, volume = found["resources"]["jobs"]["orders"], "/Volumes/incremental_load/default/orders_data"
    assert set(found["resources"]["volumes"]) == {"orders_data"}
    assert job["trigger"]["file_arrival"]["url"] == parameters_of(job)["source"] == f"{volume}/source/"
    assert parameters_of(job)["archive"] == f"{volume}/archive/"
    assert (problems(found["resources"]), problems_of(made)) == ([], [])
    assert f'source = "{volume}/source/"' in made["ordertrail.toml"]
    assert "Make the folder `source`" in made["README.md"]


def test_a_sweep_starts_the_job_for_files_that_fire_no_trigger(bundle: dict[str, Any]) -> None:
    sweep = bundle["resources"]["jobs"]["orders_sweep"]
    assert sweep["tasks"] == [{"task_key": "run_orders", "run_job_task": {"job_id": 42}}]
    assert sweep["schedule"]["timezone_id"] == "UTC"


# --- the check itself --------------------------------------------------------------------------------------------


def rename(job: dict[str, Any], old: str, new: str) -> None:
    job[new] = job.pop(old)


MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown field": (lambda j: j.update(retries=3), "job.retries: there is no such field"),
    "misspelt field": (lambda j: rename(j, "health", "heatlh"), "job.heatlh: there is no such field"),
    "unknown field far below": (
        lambda j: j["trigger"]["file_arrival"].update(min_time=60),
        "job.trigger.file_arrival.min_time: there is no such field",
    ),
    "text for a number": (lambda j: j.update(timeout_seconds="60"), "job.timeout_seconds: must be int, not '60'"),
    "truth for a number": (lambda j: j.update(timeout_seconds=True), "job.timeout_seconds: must be int, not True"),
    "number for text": (
        lambda j: j["parameters"][0].update(default=1),
        "job.parameters[0].default: must be str, not 1",
    ),
    "number for a version": (
        lambda j: j["environments"][0]["spec"].update(environment_version=4),
        "job.environments[0].spec.environment_version: must be str, not 4",
    ),
    "one for a list": (
        lambda j: j["email_notifications"].update(on_failure="a@example.com"),
        "job.email_notifications.on_failure: must be a list, not 'a@example.com'",
    ),
    "wrong in a list": (
        lambda j: j["webhook_notifications"].update(on_failure=["pager"]),
        "job.webhook_notifications.on_failure[0]: must be a map, not 'pager'",
    ),
    "list for a map": (lambda j: j.update(queue=[]), "job.queue: must be a map, not []"),
    "wrong in a map": (lambda j: j.update(tags={"team": 1}), "job.tags.team: must be str, not 1"),
    "bad value of an enum": (
        lambda j: j["health"]["rules"][0].update(op="LESS_THAN"),
        "job.health.rules[0].op: 'LESS_THAN' is none of GREATER_THAN",
    ),
    "bad case of an enum": (
        lambda j: j["tasks"][2].update(run_if="all_done"),
        "job.tasks[2].run_if: 'all_done' is none of ALL_DONE, ALL_FAILED",
    ),
    "missing field": (lambda j: j["tasks"][0].pop("task_key"), "job.tasks[0].task_key: is missing"),
    "missing field far below": (
        lambda j: j["trigger"]["file_arrival"].pop("url"),
        "job.trigger.file_arrival.url: is missing",
    ),
    "null": (lambda j: j.update(name=None), "job.name: must be str, not None"),
    "task that waits for nobody": (
        lambda j: j["tasks"][1].update(depends_on=[{"task_key": "stage"}]),
        "job.tasks[1].depends_on: there is no task stage before it",
    ),
    "environment that is not there": (
        lambda j: j["tasks"][0].update(environment_key="other"),
        "job.tasks[0].environment_key: there is no environment other",
    ),
    "task of two kinds": (
        lambda j: j["tasks"][0].update(run_job_task={"job_id": 1}),
        "job.tasks[0]: a task does one thing",
    ),
    "two triggers": (
        lambda j: j.update(schedule={"quartz_cron_expression": "0 0 0 * * ?", "timezone_id": "UTC"}),
        "job: only one of trigger, schedule and continuous",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_check_finds(mistake: str, files: dict[str, str]) -> None:
    job = at(files["databricks.yml"], "prod")["resources"]["jobs"]["orders"]
    change, problem = MISTAKES[mistake]
    change(job)
    found = job_problems(job)
    assert any(one.startswith(problem) for one in found), found


@pytest.mark.parametrize(
    ("kind", "name", "change", "problem"),
    [
        ("volumes", "orders_in", {"volume_type": "LOCAL"}, "'LOCAL' is none of EXTERNAL, MANAGED"),
        ("volumes", "orders_in", {"schema": "x"}, "volumes.orders_in.schema: there is no such field"),
        (
            "schemas",
            "orders_schema",
            {"lifecycle": {"keep": True}},
            "schemas.orders_schema.lifecycle.keep: there is no such field",
        ),
        (
            "schemas",
            "orders_schema",
            {"grants": [{"privileges": ["READ"], "principal": "x"}]},
            "'READ' is none of ACCESS",
        ),
        (
            "schemas",
            "orders_schema",
            {"grants": [{"privileges": ["SELECT"]}]},
            "schemas.orders_schema.grants[0].principal: is missing",
        ),
    ],
)
def test_the_check_finds_in_schema_and_volume(
    kind: str, name: str, change: dict[str, object], problem: str, files: dict[str, str]
) -> None:
    resources = at(files["databricks.yml"], "prod")["resources"]
    resources[kind][name].update(change)
    (found,) = problems(resources)
    assert problem in found


def test_the_check_finds_a_missing_field_and_an_unknown_kind(files: dict[str, str]) -> None:
    resources = at(files["databricks.yml"], "prod")["resources"]
    del resources["volumes"]["orders_in"]["catalog_name"]
    assert problems({**resources, "tables": {}}) == [
        "volumes.orders_in.catalog_name: is missing",
        "tables: no kind of resource that this check knows",
    ]


@pytest.mark.parametrize("reference", ["${var.alert_email}", "${resources.schemas.order.name}", "${bundle.git.origin}"])
def test_a_reference_that_leads_nowhere_is_found(reference: str, files: dict[str, str]) -> None:
    with pytest.raises(LookupError):
        at(files["databricks.yml"].replace("${var.readers}", reference), "prod")


# --- the other files ---------------------------------------------------------------------------------------------


def test_the_notebooks_are_few_lines_that_compile(files: dict[str, str]) -> None:
    notebooks = {path: text for path, text in files.items() if path.startswith("notebooks/")}
    assert len(notebooks) == 5
    for path, text in notebooks.items():
        first, *rest = cells(text)
        assert first.language == "md"
        code = "\n".join(one.text for one in rest)
        called = {node.module for node in ast.walk(ast.parse(code, path)) if isinstance(node, ast.ImportFrom)}
        modules = ("task", "adopting", "migrating")
        assert called <= {f"ordertrail.databricks.{module}" for module in modules}
        assert len(called) == 1
        assert len([line for line in code.splitlines() if line]) <= 4
        assert f"# {Path(path).stem}" in first.text


def test_the_config_is_that_of_databricks(tmp_path: Path, files: dict[str, str]) -> None:
    file = tmp_path / "ordertrail.toml"
    file.write_text(files["ordertrail.toml"])
    config = load_config(file, environ={})
    assert (config.engine, config.spark.tables) == ("spark", "three-level")
    assert (config.source, config.archive) == (Path(SOURCE), Path(ARCHIVE))
    assert config.settle_s == 0
    assert config.contract == DEFAULT_CONTRACT


def test_the_config_of_the_user_keeps_contract_vendors_and_comments() -> None:
    made = databricks_toml(CUSTOM, "sales", "parcels", ("/Volumes/sales/parcels/in/", "/Volumes/sales/parcels/out/"))
    before, after = (parse_config(text, base=Path("/"), environ={}) for text in (CUSTOM, made))
    assert (after.contract, after.vendors) == (before.contract, before.vendors)
    assert (after.catalog, after.schema) == ("sales", "parcels")
    assert after.source == Path("/Volumes/sales/parcels/in")
    assert 'name = "acme" # pays late' in made


def test_a_config_that_cannot_be_changed_line_by_line_is_refused() -> None:
    text = 'pipeline = { source = "in", archive = "out", warehouse = "tables" }\n'
    with pytest.raises((UsageError, ConfigError)):
        databricks_toml(text, "a", "b", ("/Volumes/a/b/in/", "/Volumes/a/b/out/"))


SECRETS = """
[spark] # t0p
remote = "sc://server:15002/;token=s3cret"
master = "local[2]"
driver_max_mb = 7
# password: s3cret

[ "spark" . conf ]
"fs.s3a.secret.key" = "s3cret"

[spark.more]
x = "s3cret"

[maintenance]
retention_h = 200
"""


def test_no_password_of_the_session_gets_into_the_bundle() -> None:
    """The session is the workspace's: what the config says of another one is not for the bundle, which is committed."""
    text = CUSTOM + SECRETS.replace('[ "spark" . conf ]', "[spark.conf]").replace('[spark.more]\nx = "s3cret"\n', "")
    made = bundle_files(BundleOptions("ordertrail", toml=text))
    assert not [path for path, content in made.items() if "s3cret" in content or "fs.s3a" in content]
    config = parse_config(made["ordertrail.toml"], base=Path("/"), environ={})
    assert (config.spark.remote, config.spark.conf, config.spark.driver_max_bytes) == ("", (), 7 << 20)
    assert config.maintenance.retention_h == 200


@pytest.mark.parametrize(
    "spark",
    [
        'spark = { remote = "sc://s;token=s3cret" }\n',
        'spark.remote = "sc://s;token=s3cret"\n',
        'spark.conf."fs.s3a.secret.key" = "s3cret"\n',
    ],
)
def test_a_password_that_cannot_be_taken_out_is_not_written(spark: str) -> None:
    with pytest.raises((UsageError, ConfigError)) as refused:
        bundle_files(BundleOptions("ordertrail", toml=spark + CUSTOM))
    assert "s3cret" not in str(refused.value)


def test_a_section_is_taken_out_with_those_below_it() -> None:
    assert without_section(f"[a]\nx = 1\n{SECRETS}", "spark") == "[a]\nx = 1\n\n[maintenance]\nretention_h = 200\n"


def test_settings_are_set_in_their_own_section_only() -> None:
    text = "[a]\nx = 1\n\n[b] # two\nx = 2 # old\n\n[[c]]\nx = 3\n"
    assert with_settings(text, "b", {"x": 5, "y": "z"}) == '[a]\nx = 1\n\n[b] # two\nx = 5\ny = "z"\n\n[[c]]\nx = 3\n'
    assert with_settings("[a]\n", "d", {"x": 1}) == "[a]\n\n[d]\nx = 1\n"


def test_the_workflow_lints_plans_validates_and_deploys(files: dict[str, str]) -> None:
    workflow = yaml.safe_load(files[WORKFLOW])
    jobs = workflow["jobs"]
    runs = {name: [step["run"] for step in one["steps"] if "run" in step] for name, one in jobs.items()}
    assert runs["check"][0] == "python -m pip install ordertrail==0.1.0"
    assert runs["check"][2] == "ordertrail doctor"
    assert "ordertrail plan" in runs["check"][3]
    assert runs["validate"] == ["databricks bundle validate --target dev"]
    assert runs["deploy"] == ["databricks bundle validate --target prod", "databricks bundle deploy --target prod"]
    assert (jobs["validate"]["needs"], jobs["deploy"]["needs"]) == ("check", "validate")
    assert jobs["deploy"]["if"] == "github.event_name == 'push'"
    assert workflow["permissions"] == {"contents": "read"}
    for name in ("validate", "deploy"):
        assert jobs[name]["permissions"] == {"contents": "read", "id-token": "write"}
        assert jobs[name]["env"]["DATABRICKS_AUTH_TYPE"] == "github-oidc"
    assert jobs["deploy"]["env"]["BUNDLE_VAR_service_principal"] == "${{ vars.DATABRICKS_CLIENT_ID }}"
    assert "env" not in workflow
    assert not any("DATABRICKS" in key for key in jobs["check"]["env"])


def planned(folder: Path) -> list[tuple[str, str | None, str | None]]:
    """What the check of the workflow makes of the samples: its commands as they stand there, in a shell."""
    check = yaml.safe_load((folder / WORKFLOW).read_text())["jobs"]["check"]
    environ = {k: v.replace("${{ github.workspace }}", str(folder)) for k, v in check["env"].items()}
    steps = {step["name"]: step["run"] for step in check["steps"] if "name" in step}
    subprocess.run(["bash", "-ec", steps["Lay out the sample files"]], cwd=folder, check=True)
    listed, _, plan = steps["Plan the sample files"].partition(" | ")
    assert plan == "xargs -0 -r ordertrail plan"
    found = subprocess.run(["bash", "-ec", listed], cwd=folder, capture_output=True, text=True, check=True)
    config = load_config(folder / "ordertrail.toml", environ=environ)
    report = plan_files(config, [folder / one for one in sorted(found.stdout.split("\0")) if one])
    return [(Path(one.path).name, one.vendor, one.state) for one in report.files]


def test_the_check_of_the_workflow_runs_where_there_is_no_databricks(tmp_path: Path) -> None:
    made = deploy(tmp_path / "repo", tmp_path / "none.toml", OPTIONS, force=False)
    assert planned(made.folder) == [("order_tracking_2026_11_23.csv", "default", "loaded")]


def test_the_check_of_the_workflow_plans_samples_of_two_vendors(tmp_path: Path) -> None:
    """Both files have one name: the folder says whose each is."""
    config = tmp_path / "two.toml"
    vendors = (
        '[[vendors]]\nname = "acme"\nfiles = "acme/*.csv"\n\n[[vendors]]\nname = "blue"\nfiles = "blue/**/*.csv"\n'
    )
    config.write_text(f"{CUSTOM.partition('[[vendors]]')[0]}{vendors}")
    made = deploy(tmp_path / "repo", config, OPTIONS, force=False)
    folders = [one.path for one in made.files if one.path.startswith("samples/")]
    assert folders == ["samples/acme/.gitkeep", "samples/blue/.gitkeep"]
    for vendor in ("acme", "blue"):
        sample = made.folder / "samples" / vendor / "day_2026_11_23.csv"
        sample.write_text(f"tracking_num,last_update_timestamp\n{vendor},2026-11-23 10:00:00\n")
    assert planned(made.folder) == [("day_2026_11_23.csv", "acme", "loaded"), ("day_2026_11_23.csv", "blue", "loaded")]


def test_actions_are_pinned_by_commit(files: dict[str, str]) -> None:
    used = [
        step["uses"]
        for job in yaml.safe_load(files[WORKFLOW])["jobs"].values()
        for step in job["steps"]
        if "uses" in step
    ]
    assert len(used) == 6
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one)] == []


def test_the_bundle_names_no_host_and_holds_no_secret(files: dict[str, str]) -> None:
    for path, text in files.items():
        assert not re.search(r"https?://", text), path
        assert not re.search(r"\b(dapi[0-9a-f]{8,}|[\w-]+\.(cloud\.)?databricks\.(com|net))", text), path
        assert not re.search(r"(?i)\b(token|password|secret)\s*[:=]\s*\S", text.replace("id-token: write", "")), path
        assert "secrets." not in text, path
        assert "<<" not in text, path
    assert "host" not in yaml.safe_load(files["databricks.yml"])["targets"]["prod"]["workspace"]


def test_a_contract_of_ones_own_gets_no_sample_of_the_order_feed() -> None:
    made = bundle_files(BundleOptions("ordertrail", toml=CUSTOM))
    assert [path for path in made if path.startswith("samples/")] == ["samples/acme/.gitkeep"]
    assert at(made["databricks.yml"], "prod")["variables"]["catalog"]["default"] == "sales"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (BundleOptions("ordertrail", emails=("desk",)), "'desk' is no e-mail address"),
        (BundleOptions("ordertrail", emails=('a@b.c"]',)), "is no e-mail address"),
        (BundleOptions("ordertrail; rm -r x"), "is nothing that pip installs"),
        (BundleOptions("ordertrail", layout="three"), "there is no layout 'three'"),
        (BundleOptions("ordertrail", catalog="a b"), "is not a plain name"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: BundleOptions, said: str) -> None:
    with pytest.raises((UsageError, ConfigError), match=re.escape(said)):
        bundle_files(options)


# --- writing -----------------------------------------------------------------------------------------------------


def actions(bundle: Bundle) -> set[str]:
    return {one.action for one in bundle.files}


def test_it_is_written_and_written_again_without_a_change(tmp_path: Path, files: dict[str, str]) -> None:
    first = deploy(tmp_path / "b", tmp_path / "none.toml", OPTIONS, force=False)
    assert actions(first) == {"written"}
    assert {path: (tmp_path / "b" / path).read_text() for path in files} == files
    again = deploy(tmp_path / "b", tmp_path / "none.toml", OPTIONS, force=False)
    assert actions(again) == {"unchanged"}
    assert sorted(p.name for p in tmp_path.rglob("*.tmp")) == []


def test_it_can_be_written_again_from_its_own_config(tmp_path: Path) -> None:
    deploy(tmp_path, tmp_path / "none.toml", OPTIONS, force=False)
    again = deploy(tmp_path, tmp_path / "ordertrail.toml", OPTIONS, force=False)
    assert actions(again) == {"unchanged"}


def test_a_file_that_was_changed_is_replaced_only_with_force(tmp_path: Path) -> None:
    deploy(tmp_path, tmp_path / "none.toml", OPTIONS, force=False)
    changed, gone = tmp_path / "databricks.yml", tmp_path / "README.md"
    changed.write_text("mine\n")
    gone.unlink()
    with pytest.raises(UsageError, match=r"other content: databricks\.yml") as refused:
        deploy(tmp_path, tmp_path / "none.toml", OPTIONS, force=False)
    assert "--force" in refused.value.hint
    assert changed.read_text() == "mine\n"
    assert not gone.exists(), "nothing is written when one file is refused"
    found = deploy(tmp_path, tmp_path / "none.toml", OPTIONS, force=True)
    assert {one.path: one.action for one in found.files if one.action != "unchanged"} == {
        "databricks.yml": "replaced",
        "README.md": "written",
    }


def test_a_wheel_is_copied_and_both_job_and_workflow_install_it(tmp_path: Path) -> None:
    wheel = tmp_path / "ordertrail-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"zip")
    deploy(tmp_path / "b", tmp_path / "none.toml", BundleOptions(str(wheel)), force=False)
    assert (tmp_path / "b" / "wheels" / wheel.name).read_bytes() == b"zip"
    found = at((tmp_path / "b" / "databricks.yml").read_text(), "prod")["resources"]
    (environment,) = found["jobs"]["orders"]["environments"]
    assert environment["spec"]["dependencies"] == [f"./wheels/{wheel.name}"]
    assert f"pip install ./wheels/{wheel.name}" in (tmp_path / "b" / WORKFLOW).read_text()
    with pytest.raises(UsageError, match="there is no wheel"):
        deploy(tmp_path / "c", tmp_path / "none.toml", BundleOptions("dist/none.whl"), force=False)


def test_without_a_wheel_the_installed_ordertrail_comes_along(tmp_path: Path) -> None:
    """pip installs it with no index that has it, and what it installs is this code."""
    made = deploy(tmp_path / "b", tmp_path / "none.toml", BundleOptions(), force=False)
    texts = {one.path: "" for one in made.files} | {"databricks.yml": (made.folder / "databricks.yml").read_text()}
    assert problems_of(texts) == []
    assert f"pip install {OWN_WHEEL}\n" in (made.folder / WORKFLOW).read_text()
    wheel = made.folder / OWN_WHEEL
    options = ["--quiet", "--no-index", "--no-deps", "--disable-pip-version-check", "--target", str(tmp_path / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    root = Path(task.__file__).parents[1]
    ours = {path.relative_to(root) for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    theirs = {p for p in ours if filecmp.cmp(root / p, tmp_path / "site" / "ordertrail" / p, shallow=False)}
    assert theirs == ours
    assert (tmp_path / "site" / "bin" / "ordertrail").is_file()
    assert actions(deploy(tmp_path / "b", tmp_path / "none.toml", BundleOptions(), force=False)) == {"unchanged"}


@pytest.mark.parametrize(("version", "replaced"), [("4", {"pyarrow"}), ("5", {"deltalake", "filelock"})])
def test_our_bounds_take_what_the_serverless_environment_has(version: str, replaced: set[str]) -> None:
    """But for what pip must replace there: of environment 5 nothing that its session runs on, of 4 Arrow."""
    lines = (ENVIRONMENTS / f"serverless-{version}.txt").read_text().splitlines()
    known = dict(line.split() for line in lines if not line.startswith("#"))
    project = tomllib.loads((ENVIRONMENTS.parents[2] / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(one) for one in project["dependencies"]]
    refused = {one.name for one in wanted if one.name in known and not one.specifier.contains(known[one.name])}
    assert {"pyarrow", "rich", "click", "numpy"} <= {one.name for one in wanted if one.name in known}
    assert refused <= replaced
    assert ("pyarrow" in refused) == (version == "4"), "environment 5 is the first one that we name"


def test_a_wheel_in_a_volume_is_not_for_the_workflow(tmp_path: Path) -> None:
    path = "/Volumes/a/b/c/ordertrail-0.1.0-py3-none-any.whl"
    found = deploy(tmp_path, tmp_path / "none.toml", BundleOptions(path), force=False)
    assert any("CI cannot reach that wheel" in note for note in found.notes)
    assert path not in (tmp_path / WORKFLOW).read_text()


def test_the_command_says_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ordertrail.toml").write_text(template())
    result = CliRunner().invoke(cli, ["deploy", "databricks", "b", "--json", "--schema", "parcels"])
    assert result.exit_code == 0, result.output
    told = yaml.safe_load(result.stdout)
    assert (told["catalog"], told["schema"], told["config"]) == ("incremental_load", "parcels", "ordertrail.toml")
    assert any("nobody is alerted" in note for note in told["notes"])
    assert {one["path"] for one in told["files"]} == {
        str(p.relative_to("b")) for p in Path("b").rglob("*") if p.is_file()
    }
    text = CliRunner().invoke(cli, ["deploy", "databricks", "b", "--schema", "parcels"])
    assert "unchanged" in text.output
    assert "databricks bundle validate" in text.output
    again = CliRunner().invoke(cli, ["deploy", "databricks", "b"])
    assert again.exit_code == 2
    assert "--force" in again.output
