from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ordertrail.config import (
    DEFAULT_CONTRACT,
    LOG_LEVELS,
    SETTINGS,
    Config,
    Maintenance,
    Tables,
    load_config,
    log_format,
    log_level,
    parse_config,
    template,
)
from ordertrail.errors import ConfigError
from ordertrail.model import Column, Contract, Vendor

BASE = Path("/srv/pipeline")
PATHS = 'source = "in"\narchive = "done"\nwarehouse = "tables"\n'
PIPELINE = f"[pipeline]\n{PATHS}"
COLUMNS = """
[[contract.columns]]
name = "tracking_num"
type = "string"
[[contract.columns]]
name = "last_update_timestamp"
type = "timestamp"
"""


def parse(text: str, environ: dict[str, str] | None = None) -> Config:
    return parse_config(text, base=BASE, environ=environ or {}, file=BASE / "ordertrail.toml")


def refusal(text: str, environ: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text, environ)
    return caught.value


def pipeline(lines: str) -> str:
    """A config whose `[pipeline]` says these lines; they take the place of the paths they name."""
    given = {line.partition("=")[0].strip() for line in lines.splitlines()}
    paths = "".join(f"{line}\n" for line in PATHS.splitlines() if line.partition("=")[0].strip() not in given)
    return f"[pipeline]\n{paths}{lines}\n"


def maintenance(lines: str) -> str:
    return f"{PIPELINE}\n[maintenance]\n{lines}\n"


def contract(lines: str = "", columns: str = COLUMNS) -> str:
    return f"{PIPELINE}\n[contract]\n{lines}\n{columns}"


def column(lines: str, kind: str = "string") -> str:
    return contract(columns=f'{COLUMNS}\n[[contract.columns]]\nname = "extra"\ntype = "{kind}"\n{lines}\n')


def vendor(lines: str) -> str:
    return f'{PIPELINE}\n[[vendors]]\nname = "acme"\n{lines}\n'


# --- defaults and the template -----------------------------------------------------------------------------------


def test_only_the_folders_must_be_given() -> None:
    assert parse(PIPELINE) == Config(
        name="orders",
        engine="embedded",
        source=BASE / "in",
        archive=BASE / "done",
        warehouse=BASE / "tables",
        catalog="incremental_load",
        schema="default",
        tables=Tables("orders_stage", "orders_target", "orders_history", "orders_rejects", "orders_deliveries"),
        settle_s=1.0,
        max_reject_share=0.2,
        deletion_vectors=True,
        threads=0,
        memory_limit_mb=1024,
        contract=DEFAULT_CONTRACT,
        vendors=(Vendor("default"),),
        file=BASE / "ordertrail.toml",
        maintenance=Maintenance(True, 8, 0.1, 256 << 20, 168.0, 720.0),
    )


def test_the_default_contract_is_that_of_the_feed() -> None:
    assert [(c.name, c.type) for c in DEFAULT_CONTRACT.columns] == [
        ("order_num", "string"),
        ("tracking_num", "string"),
        ("pck_recieved_date", "date"),
        ("package_deliver_date", "date"),
        ("status", "string"),
        ("address", "string"),
        ("last_update_timestamp", "timestamp"),
    ]
    assert {c.name for c in DEFAULT_CONTRACT.columns if c.required} == {"tracking_num", "last_update_timestamp"}
    assert {c.name for c in DEFAULT_CONTRACT.columns if c.identifier} == {"order_num", "tracking_num"}
    assert DEFAULT_CONTRACT.key == ("tracking_num",)
    assert DEFAULT_CONTRACT.max_future_s == 48 * 3600


def test_a_table_is_a_folder_below_catalog_and_schema() -> None:
    config = parse(pipeline('catalog = "c"\nschema = "s"\ntarget = "t"'))
    assert config.table_path(config.tables.target) == BASE / "tables" / "c" / "s" / "t"


def test_the_template_reads_back_as_the_defaults() -> None:
    config = parse(template())
    defaults = parse(pipeline('source = "data/source"\narchive = "data/archive"\nwarehouse = "data/warehouse"'))
    assert config == defaults


def test_what_is_off_in_the_template_can_be_taken_up() -> None:
    config = parse(re.sub(r"(?m)^#(?=\S)", "", template()))
    assert [v.name for v in config.vendors] == ["acme"]
    assert config.vendors[0].encoding == "cp1252"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_in_the_template_with_its_help(setting) -> None:
    text = template()
    assert re.search(rf"(?m)^#? *{setting.name} = ", text)
    assert setting.help in text


PLAIN = ("pipeline", "maintenance")


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.section in PLAIN], ids=lambda s: s.key)
def test_the_settings_table_says_the_default(setting) -> None:
    written = tomllib.loads(template())[setting.section][setting.name]
    assert setting.required == (setting.name in ("source", "archive", "warehouse"))
    assert written == (setting.example if setting.required else setting.default)
    variable = f"ORDERTRAIL_PIPELINE_{setting.name.upper()}" if setting.section == "pipeline" else None
    assert setting.environment == variable


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
rich_columns = st.builds(
    Column,
    name=st.sampled_from(["weight", "Größe"]),
    type=st.just("string"),
    required=st.booleans(),
    identifier=st.booleans(),
    pattern=st.one_of(st.none(), texts.map(re.escape)),
    min=st.one_of(st.none(), st.just("A")),
    max=st.one_of(st.none(), st.just("Z")),
    allowed=st.lists(texts, max_size=2).map(tuple),
)


@given(
    extra=rich_columns,
    rank=st.lists(texts, unique=True, max_size=3).map(tuple),
    key=st.sampled_from([("tracking_num",), ("tracking_num", "order_num")]),
    unknown=st.sampled_from(["strict", "rescue"]),
    hours=st.integers(0, 500),
)
def test_the_template_of_any_contract_reads_back_as_it(extra, rank, key, unknown, hours) -> None:
    columns = (*(replace(c, required=c.required or c.name in key) for c in DEFAULT_CONTRACT.columns), extra)
    wanted = Contract(columns, key, "last_update_timestamp", "status", rank, unknown, hours * 3600)
    assert parse(template(wanted)).contract == wanted


def test_the_template_of_a_contract_without_status_reads_back() -> None:
    wanted = parse(contract()).contract
    assert wanted.status is None
    assert wanted.status_rank == ()
    assert parse(template(wanted)).contract == wanted


# --- the file ----------------------------------------------------------------------------------------------------


def test_folders_are_relative_to_the_file(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "a" / "orders.toml"
    file.parent.mkdir()
    file.write_text(pipeline('source = "../in"\narchive = "/var/done"'), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = load_config("a/orders.toml", environ={})
    assert (config.source, config.archive, config.warehouse) == (
        tmp_path / "in",
        Path("/var/done"),
        tmp_path / "a" / "tables",
    )
    assert config.file == file


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "ordertrail.toml"
    file.write_bytes(b"\xef\xbb\xbf" + PIPELINE.encode())
    assert load_config(file, environ={}).name == "orders"


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: there is no such config file .*ordertrail init"):
        load_config(tmp_path / "nowhere.toml", environ={})


def test_a_folder_is_no_config_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, environ={})


def test_a_file_that_is_not_utf_8_is_refused_with_the_place(tmp_path: Path) -> None:
    file = tmp_path / "ordertrail.toml"
    file.write_bytes(b"# gr\xfc\xdfe\n")
    with pytest.raises(ConfigError, match=r"ordertrail\.toml: byte 4 is not UTF-8"):
        load_config(file, environ={})


def test_broken_toml_says_the_line() -> None:
    error = refusal("[pipeline]\nname = orders\n")
    assert "ordertrail.toml: not valid TOML" in error.message
    assert "line 2" in error.message


# --- every refusal names file, key, value, and what to do ---------------------------------------------------------

REFUSALS: list[tuple[str, str, str, str]] = [
    # config, key and value as shown, the problem, the hint
    ("", "[pipeline]", "the section [pipeline] is missing", "add the section|write"),
    ("pipeline = 3", "pipeline = 3", "must be a section [pipeline]", "on a line of its own"),
    (f"{PIPELINE}\n[vendors]\nname = 'x'", "vendors = {'name': 'x'}", "must be a section [[vendors]]", "[[vendors]]"),
    (f"{PIPELINE}\n[contracts]", "contracts = {}", "no such setting", "did you mean contract?"),
    ("[pipeline]\narchive = 'a'\nwarehouse = 'w'", "pipeline.source", "is missing", 'source = "data/source"'),
    (pipeline("sorce = 'in'"), "pipeline.sorce = 'in'", "no such setting", "did you mean source?"),
    ("[pipeline]\nsorce = 'in'", "pipeline.sorce = 'in'", "no such setting", "did you mean source?"),
    (pipeline("timezone = 'UTC'"), "pipeline.timezone = 'UTC'", "no such setting", "belongs below [[vendors]]"),
    (pipeline("zzz = 1"), "pipeline.zzz = 1", "no such setting", "take it out"),
    (maintenance("auto = 1"), "maintenance.auto = 1", "must be true or false", "auto = true"),
    (maintenance("max_small_file = 9"), "maintenance.max_small_file = 9", "no such setting", "max_small_files"),
    (maintenance("max_small_files = 0"), "maintenance.max_small_files = 0", "at least 1", "8"),
    (maintenance("max_deleted_share = 1.1"), "maintenance.max_deleted_share = 1.1", "from 0 to 1", "0.1"),
    (maintenance("file_size_mb = 0"), "maintenance.file_size_mb = 0", "at least 1", "256"),
    (maintenance("retention_h = -1"), "maintenance.retention_h = -1", "not be negative", "0 or more"),
    (maintenance("log_retention_h = -0.5"), "maintenance.log_retention_h = -0.5", "not be negative", "0 or more"),
    (maintenance("consumer_keep_d = -1"), "maintenance.consumer_keep_d = -1", "not be negative", "0 or more"),
    (pipeline("retention_h = 1"), "pipeline.retention_h = 1", "no such setting", "belongs below [maintenance]"),
    (pipeline("name = 7"), "pipeline.name = 7", "must be text", 'name = "orders"'),
    (pipeline("name = '../x'"), "pipeline.name = '../x'", "not usable as a name", "letters"),
    (pipeline("settle_s = '1'"), "pipeline.settle_s = '1'", "must be a number", "settle_s = 1.0"),
    (pipeline("settle_s = nan"), "pipeline.settle_s = nan", "must be a finite number", "settle_s = 1.0"),
    (pipeline("settle_s = true"), "pipeline.settle_s = True", "must be a number", "settle_s = 1.0"),
    (pipeline("waiting_warn_h = -1"), "pipeline.waiting_warn_h = -1", "must not be negative", "hours, or 0"),
    (pipeline("settle_s = -1"), "pipeline.settle_s = -1", "must not be negative", "0 or more seconds"),
    (pipeline("umask = '0888'"), "pipeline.umask = '0888'", "is no umask that leaves the owner", 'umask = "0027"'),
    (pipeline("umask = '0700'"), "pipeline.umask = '0700'", "is no umask that leaves the owner", 'umask = "0027"'),
    (pipeline("change_feed = 'full'"), "pipeline.change_feed = 'full'", "no such choice", '"pairs"'),
    (pipeline("source_marker = 'maybe'"), "pipeline.source_marker = 'maybe'", "no such choice", '"require"'),
    (pipeline("max_reject_share = 1.1"), "pipeline.max_reject_share = 1.1", "from 0 to 1", "0.2 for 20 %"),
    (pipeline("max_reject_share = -0.1"), "pipeline.max_reject_share = -0.1", "from 0 to 1", "0.2 for 20 %"),
    (pipeline("min_rejects = 0"), "pipeline.min_rejects = 0", "at least 1", "5 is the default"),
    (pipeline("max_file_ahead_d = -1"), "pipeline.max_file_ahead_d = -1", "not be negative", "366 days"),
    (pipeline("threads = 1.5"), "pipeline.threads = 1.5", "must be a whole number", "threads = 0"),
    (pipeline("threads = -1"), "pipeline.threads = -1", "must not be negative", "0 for all cores"),
    (pipeline("memory_limit_mb = 1"), "pipeline.memory_limit_mb = 1", "too little", "at least 64"),
    (pipeline("engine = 'flink'"), "pipeline.engine = 'flink'", "no such engine", 'engine = "spark"'),
    ("[spark]\ntables = 'four-level'\n" + pipeline(""), "spark.tables = 'four-level'", "not found that way", "path"),
    ("[spark]\nremote = 'http://x'\n" + pipeline(""), "spark.remote = 'http://x'", "Spark Connect address", "sc://"),
    ("[spark]\ndriver_max_mb = -1\n" + pipeline(""), "spark.driver_max_mb = -1", "not be negative", "64"),
    (pipeline("engine = 'x'"), "pipeline.engine = 'x'", "no such engine", 'engine = "embedded"'),
    (pipeline("current = 'orders target'"), "pipeline.current = 'orders target'", "not a plain name", "letters"),
    (pipeline("current = 'ORDERS_target'"), "pipeline.current = 'ORDERS_target'", "the target table", "its own name"),
    (pipeline("mode = 'x'"), "pipeline.mode = 'x'", "no such mode", 'mode = "upsert"'),
    (pipeline("target = 'a-b'"), "pipeline.target = 'a-b'", "not a plain name", "letters, digits and underscores"),
    (pipeline("catalog = 'a/b'"), "pipeline.catalog = 'a/b'", "not a plain name", "letters"),
    (pipeline("schema = ''"), "pipeline.schema = ''", "not a plain name", "letters"),
    (pipeline("history = 'ORDERS_target'"), "pipeline.history = 'ORDERS_target'", "also the target", "its own name"),
    (pipeline("source = ''"), "pipeline.source = ''", "is not a folder", "name a folder"),
    (pipeline("source = 's3://b/x'"), "pipeline.source = 's3://b/x'", "not built yet", "local folder"),
    (pipeline("archive = 'x/../in'"), "pipeline.archive = 'x/../in'", "same folder as source", "a folder of its own"),
    (pipeline("warehouse = 'done'"), "pipeline.warehouse = 'done'", "same folder as archive", "a folder of its own"),
    (pipeline("archive = 'in/done'"), "pipeline.archive = 'in/done'", "lies inside source", "side by side"),
    (pipeline("warehouse = 'in/a/b'"), "pipeline.warehouse = 'in/a/b'", "lies inside source", "side by side"),
    (pipeline("source = 'done/in'"), "pipeline.source = 'done/in'", "lies inside archive", "side by side"),
    (pipeline("source = 'tables/in'"), "pipeline.source = 'tables/in'", "lies inside warehouse", "side by side"),
    (contract("key = 'tracking'"), "contract.key = 'tracking'", "no such column", "did you mean tracking_num?"),
    (contract("key = []"), "contract.key = []", "needs a key", "at least one"),
    (contract("key = 3"), "contract.key = 3", "must be text or a list of texts", 'key = "tracking_num"'),
    (contract("key = ['tracking_num', 'tracking_num']"), "contract.key", "there twice", "once"),
    (contract("order_by = 'zzz'"), "contract.order_by = 'zzz'", "no such column", "use tracking_num, last_update"),
    (
        contract("order_by = 'tracking_num'\nkey = 'last_update_timestamp'"),
        "contract.order_by = 'tracking_num'",
        "is a string column",
        "type timestamp",
    ),
    (contract("key = 'last_update_timestamp'"), "contract.order_by", "part of the key", "not in the key"),
    (contract("status = 'state'"), "contract.status = 'state'", "no such column", 'status = ""'),
    (contract("status = 'last_update_timestamp'"), "contract.status", "a timestamp column", "type string"),
    (contract("status_rank = ['A']"), "contract.status_rank = ['A']", "no status column", "name the column"),
    (contract("status_rank = ['A', 'A']", ""), "contract.status_rank", "'A' is there twice", "one place"),
    (contract("status_rank = ['A', 1]", ""), "contract.status_rank", "must be a list of texts", "status_rank = ["),
    (contract("unknown_columns = 'x'"), "contract.unknown_columns = 'x'", "no such choice", '"strict" or "add"'),
    (contract("max_added_columns = 0"), "contract.max_added_columns = 0", "no sensible number", "1 to 1000"),
    (contract("max_added_columns = 1001"), "contract.max_added_columns = 1001", "no sensible number", "1 to 1000"),
    (contract("max_future_h = -1"), "contract.max_future_h = -1", "must not be negative", "48 is the default"),
    (contract("max_future = 1"), "contract.max_future = 1", "no such setting", "did you mean max_future_h?"),
    (
        contract(columns=COLUMNS.replace('type = "timestamp"', "")),
        "contract.columns[last_update_timestamp].type",
        "is missing",
        'type = "string"',
    ),
    (contract(columns="[[contract.columns]]\ntype = 'int'"), "contract.columns[#1].name", "is missing", "name = "),
    (column("requird = true"), "contract.columns[extra].requird = True", "no such setting", "required?"),
    (column("required = 'yes'"), "contract.columns[extra].required = 'yes'", "must be true or false", "= true"),
    (
        contract(columns=COLUMNS.replace('type = "timestamp"', 'type = "timestamp"\nrequired = false')),
        "contract.columns[last_update_timestamp].required = False",
        "always rejected",
        "take the line out",
    ),
    (
        contract(columns=COLUMNS.replace('type = "string"', 'type = "string"\nidentifier = false')),
        "contract.columns[tracking_num].identifier = False",
        "always guarded",
        "take the line out",
    ),
    (column("", "strng"), "contract.columns[extra].type = 'strng'", "no such type", "did you mean string?"),
    (column("", "blob"), "contract.columns[extra].type = 'blob'", "no such type", "use one of string, bigint"),
    (column("", "decimal(39,2)"), "contract.columns[extra].type = 'decimal(39,2)'", "39 digits", "1 to 38"),
    (column("", "decimal(0,0)"), "contract.columns[extra].type = 'decimal(0,0)'", "0 digits", "1 to 38"),
    (column("", "decimal(4,5)"), "contract.columns[extra].type = 'decimal(4,5)'", "5 decimals", "0 to 4"),
    (column("identifier = true", "int"), "contract.columns[extra].identifier", "not for int", 'type = "string"'),
    (column("formats = ['%d/%m/%Y']"), "contract.columns[extra].formats", "not for string", "date and timestamp"),
    (column("nulls = ['N/A', ' ']"), "contract.columns[extra].nulls", "blank text", "take it out"),
    (column("formats = ['epoch']", "date"), "contract.columns[extra].formats = 'epoch'", "year", "did you mean epoch_"),
    (vendor("nulls = ['']"), "vendors[acme].nulls", "blank text", "take it out"),
    (vendor("key_case = 'uper'"), "vendors[acme].key_case = 'uper'", "no such choice", "did you mean upper?"),
    (vendor("key_strip = ' x'"), "vendors[acme].key_strip", "letter or a digit", "signs only"),
    (vendor("decimal = ';'"), "vendors[acme].decimal = ';'", "no sign of decimals", 'use "." or ","'),
    (vendor("thousands = 'k'"), "vendors[acme].thousands = 'k'", "no sign of thousands", "a blank"),
    (vendor("thousands = '.'"), "vendors[acme].thousands = '.'", "sign of decimals, too", "two different"),
    (vendor("true_words = ['ja']"), "vendors[acme].false_words", "is missing", "say both"),
    (
        vendor("true_words = ['ja']\nfalse_words = ['JA']"),
        "vendors[acme].false_words = 'JA'",
        "means true as well",
        "one meaning",
    ),
    (vendor("combine = { adress = ['a', 'b'] }"), "vendors[acme].combine = 'adress'", "no such column", "address?"),
    (vendor("combine = { address = ['a'] }"), "vendors[acme].combine.address", "not made of several", "use aliases"),
    (
        vendor("combine = { address = ['a', 'b'] }\nconstants = { address = 'x' }"),
        "vendors[acme].constants = 'address'",
        "comes from combine already",
        "take it out of one",
    ),
    (
        vendor("aliases = { address = ['a'] }\nconstants = { address = 'x' }"),
        "vendors[acme].constants = 'address'",
        "comes from aliases already",
        "take it out of one",
    ),
    (
        vendor("absent = ['address']\nconstants = { address = 'x' }"),
        "vendors[acme].constants = 'address'",
        "is absent, too",
        "take it out of absent",
    ),
    (vendor("constants = { tracking_num = 'x' }"), "vendors[acme].constants", "one key", "use an alias"),
    (
        vendor("constants = { last_update_timestamp = '2026-11-20' }"),
        "vendors[acme].constants",
        "time of its own",
        "use combine",
    ),
    (
        vendor("constants = { pck_recieved_date = 'soon' }"),
        "vendors[acme].constants.pck_recieved_date = 'soon'",
        "not a value of type date",
        "2026-11-23",
    ),
    (vendor("from_name = '('"), "vendors[acme].from_name = '('", "not a regular expression", "correct it"),
    (vendor("from_name = '_x_'"), "vendors[acme].from_name = '_x_'", "no named group", "(?P<depot>"),
    (vendor("from_name = '(?P<adress>x)'"), "vendors[acme].from_name = 'adress'", "no such column", "address?"),
    (column("trim = false", "int"), "contract.columns[extra].trim = False", "not for int", "take the line out"),
    (column("trim = false\nidentifier = true"), "contract.columns[extra].trim", "identifier", "take the line out"),
    (column("formats = ['%d/%m']", "date"), "contract.columns[extra].formats = '%d/%m'", "year", "%d/%m/%Y"),
    (column("formats = ['%d/%m/%Y %Q']", "date"), "contract.columns[extra].formats", "%Q means nothing", "strptime"),
    (column("formats = ['%d/%m/%Y%']", "date"), "contract.columns[extra].formats", "% means nothing", "strptime"),
    (column("pattern = '('"), "contract.columns[extra].pattern = '('", "not a regular expression", "correct it"),
    (column("pattern = '(?=a)b'"), "contract.columns[extra].pattern = '(?=a)b'", "RE2", "write it without"),
    (column(r"pattern = '(a)\1'"), r"contract.columns[extra].pattern", "RE2", "write it without"),
    (column("pattern = '(?#note)a'"), "contract.columns[extra].pattern = '(?#note)a'", "RE2", "write it without"),
    (column("pattern = '(?x)a b'"), "contract.columns[extra].pattern = '(?x)a b'", "the flags (?x)", "without"),
    (column("pattern = 'a{2}+'"), "contract.columns[extra].pattern = 'a{2}+'", "possessive {2}+", "without"),
    (column("pattern = 'a{,3}'"), "contract.columns[extra].pattern = 'a{,3}'", "has {,3}", "without"),
    (column("pattern = 'a{1001}'"), "contract.columns[extra].pattern = 'a{1001}'", "more than 1000 times", "RE2"),
    (column(r"pattern = 'a\Z'"), r"contract.columns[extra].pattern = 'a\\Z'", r"has \Z", "without"),
    (
        contract(
            columns=COLUMNS + "".join(f'[[contract.columns]]\nname = "x{i}"\ntype = "int"\n' for i in range(1199))
        ),
        "contract.columns",
        "are 1201 columns",
        "at most 1200",
    ),
    (column("pattern = '1'", "int"), "contract.columns[extra].pattern = '1'", "not for int", "min, max or allowed"),
    (column("min = 'x'", "int"), "contract.columns[extra].min = 'x'", "not a value of type int", "in a file"),
    (column("max = 2147483648", "int"), "contract.columns[extra].max = 2147483648", "type int", "in a file"),
    (column("max = '1_0'", "bigint"), "contract.columns[extra].max = '1_0'", "type bigint", "in a file"),
    (column("max = 9223372036854775807\nmin = -9223372036854775809", "bigint"), "[extra].min", "bigint", "in a file"),
    (column("min = 'inf'", "double"), "contract.columns[extra].min = 'inf'", "type double", "in a file"),
    (column("min = '0.123'", "decimal(5,2)"), "contract.columns[extra].min = '0.123'", "decimal(5,2)", "in a file"),
    (column("max = '1000'", "decimal(5,2)"), "contract.columns[extra].max = '1000'", "decimal(5,2)", "in a file"),
    (column("max = 'NaN'", "decimal(5,2)"), "contract.columns[extra].max = 'NaN'", "decimal(5,2)", "in a file"),
    (column("min = 'x'", "decimal(5,2)"), "contract.columns[extra].min = 'x'", "decimal(5,2)", "in a file"),
    (column("min = '23.11.2026'", "date"), "contract.columns[extra].min = '23.11.2026'", "type date", "2026-11-23"),
    (column("min = 'now'", "timestamp"), "contract.columns[extra].min = 'now'", "type timestamp", "2026-11-23"),
    (column("min = 'a'", "boolean"), "contract.columns[extra].min = 'a'", "not for boolean", "use allowed"),
    (column("min = true", "int"), "contract.columns[extra].min = True", "text, a number or a date", "min = "),
    (column("min = 3\nmax = 2", "int"), "contract.columns[extra].min = 3", "above max = 2", "swap"),
    (column("allowed = ['1', 'x']", "int"), "contract.columns[extra].allowed = 'x'", "type int", "in a file"),
    (
        column("allowed = ['maybe']", "boolean"),
        "contract.columns[extra].allowed = 'maybe'",
        "type boolean",
        "in a file",
    ),
    (
        contract(columns=COLUMNS + '[[contract.columns]]\nname = "Tracking Num"\ntype = "int"'),
        "contract.columns[Tracking Num].name = 'Tracking Num'",
        "cannot be the name",
        "alias",
    ),
    (
        contract(columns=COLUMNS + '[[contract.columns]]\nname = "TrackingNum"\ntype = "int"'),
        "contract.columns[TrackingNum].name = 'TrackingNum'",
        "the same as tracking_num",
        "its own name",
    ),
    (
        contract(columns=COLUMNS + '[[contract.columns]]\nname = "_batch"\ntype = "int"'),
        "contract.columns[_batch].name = '_batch'",
        "cannot be the name",
        "beginning with a letter",
    ),
    (
        contract(columns=COLUMNS + '[[contract.columns]]\nname = "File_Index"\ntype = "int"'),
        "contract.columns[File_Index].name = 'File_Index'",
        "readers of Parquet files",
        "another name",
    ),
    (f"{PIPELINE}[[vendors]]", "vendors[#1].name", "is missing", 'name = "acme"'),
    (vendor("[[vendors]]\nname = 'acme'"), "vendors[acme].name = 'acme'", "there twice", "its own name"),
    (f"{PIPELINE}[[vendors]]\nname = ' '", "vendors.name = ' '", "not usable", 'name = "acme"'),
    (vendor("delimitr = ';'"), "vendors[acme].delimitr = ';'", "no such setting", "did you mean delimiter?"),
    (vendor("files = ''"), "vendors[acme].files = ''", "takes no file", "*.csv"),
    (vendor("files = '/x/*.csv'"), "vendors[acme].files = '/x/*.csv'", "leaves the source", "acme/*.csv"),
    (vendor("files = '../*.csv'"), "vendors[acme].files = '../*.csv'", "leaves the source", "acme/*.csv"),
    (vendor("delimiter = ''"), "vendors[acme].delimiter = ''", "1 to 8 characters", "such as , or ;"),
    (vendor("delimiter = '123456789'"), "vendors[acme].delimiter = '123456789'", "1 to 8 characters", "such as"),
    (vendor(r'delimiter = "\n"'), r"vendors[acme].delimiter = '\n'", "1 to 8 characters", "such as , or ;"),
    (vendor(r'delimiter = "|\u001f"'), r"vendors[acme].delimiter = '|\x1f'", "1 to 8 characters", "such as , or ;"),
    (vendor("quote = '§'"), "vendors[acme].quote = '§'", "one ASCII character, or none", 'quote = ""'),
    (vendor("delimiter = '|\"|'"), "vendors[acme].quote = '\"'", "is the delimiter too", "two different"),
    (vendor("escape = 'xy'"), "vendors[acme].escape = 'xy'", "one ASCII character, or none", 'escape = ""'),
    (vendor("escape = '\"'"), "vendors[acme].escape = '\"'", "is the quote", "take it out"),
    (vendor("escape = 'n'"), "vendors[acme].escape = 'n'", "or a letter", "that the vendor uses"),
    (
        vendor("quote = ''\nnewlines_in_cells = false"),
        "newlines_in_cells = False",
        "files without quoting",
        "take it out",
    ),
    (vendor("widths = [3, 0]"), "vendors[acme].widths = 0", "is no width", "count the characters"),
    (vendor("widths = [3, 4]\ndelimiter = ';'"), "vendors[acme].delimiter = ';'", "divides rows", "take one of them"),
    (vendor("widths = [3]\nheader = false\ncolumns = ['a', 'b']"), "vendors[acme].columns", "1 widths", "a width"),
    (vendor("widths = [3]\nnewlines_in_cells = false"), "newlines_in_cells = False", "fixed width", "take it out"),
    (vendor("rows = 'newest'"), "vendors[acme].rows = 'newest'", "no such choice", "mean newest_first"),
    (vendor("short_rows = 'full'"), "vendors[acme].short_rows = 'full'", "no such choice", "mean fill"),
    (vendor("trailer = '(TRL'"), "vendors[acme].trailer = '(TRL'", "no regular expression", "trailer = "),
    (vendor("trailer = 'x*'"), "vendors[acme].trailer = 'x*'", "fits every line", "begin it with"),
    (vendor("manifest = 'x.done'"), "vendors[acme].manifest = 'x.done'", "one {name} or {stem}", "manifest.json"),
    (vendor("manifest = '{name}'"), "vendors[acme].manifest = '{name}'", "name of the file itself", "add to it"),
    (vendor("expect_rows = 'all'"), "vendors[acme].expect_rows = 'all'", "no such choice", 'or "learn"'),
    (vendor("expect_rows = [5, 2]"), "vendors[acme].expect_rows = [5, 2]", "the fewest and the most", "[100, 100000]"),
    (vendor("max_new_share = 20"), "vendors[acme].max_new_share = 20", "from 0 to 1", "for 20 % write 0.2"),
    (vendor("max_stale_share = -0.1"), "vendors[acme].max_stale_share = -0.1", "from 0 to 1", "half of the keys"),
    (vendor("expect_rows = [5]"), "vendors[acme].expect_rows = [5]", "the fewest and the most", "[100, 100000]"),
    (vendor("quote = ','"), "vendors[acme].quote = ','", "is the delimiter too", "two different"),
    (vendor("skip_lines = -1"), "vendors[acme].skip_lines = -1", "negative", "how many lines"),
    (vendor("columns = ['a']"), "vendors[acme].columns = ['a']", "without a header line", "header = false"),
    (vendor("header = false"), "vendors[acme].header = False", "what the files hold", "columns = ["),
    (
        vendor("header = false\ncolumns = ['tracking_num', 'status']"),
        "vendors[acme].columns",
        "has no column 'order_num'",
        "add an alias",
    ),
    (
        vendor("header = false\ncolumns = ['tracking_num', 'Tracking Num']"),
        "vendors[acme].columns",
        "two columns of the file are tracking_num",
        "send one of them",
    ),
    (vendor("compression = 'gzip'"), "vendors[acme].compression = 'gzip'", "no such choice", '"auto"'),
    (vendor("max_unpacked_mb = 0"), "vendors[acme].max_unpacked_mb = 0", "no size", "1 at least"),
    (vendor("encoding = 'utf8x'"), "vendors[acme].encoding = 'utf8x'", "no such text encoding", "mean utf-8?"),
    (vendor("encoding = 'base64'"), "vendors[acme].encoding = 'base64'", "no such text encoding", "use such as"),
    (vendor("timezone = 'America/Chicgo'"), "vendors[acme].timezone", "no such time zone", "America/Chicago?"),
    (vendor("timezone = 'America'"), "vendors[acme].timezone = 'America'", "no such time zone", "mean|IANA"),
    (vendor("timezone = '../x'"), "vendors[acme].timezone = '../x'", "no such time zone", "mean|IANA"),
    (vendor("zones = { EST = 'America/New_York' }"), "vendors[acme].zones.EST", "not an offset", 'EST = "-05:00"'),
    (vendor("zones = { EST = '-16:00' }"), "vendors[acme].zones.EST = '-16:00'", "not an offset", "at most 15:59"),
    (vendor("zones = { '' = '-05:00' }"), "vendors[acme].zones = ''", "name of a zone", "zones = {"),
    (
        vendor("zones = { EST = '-05:00', est = '-05:00' }"),
        "vendors[acme].zones.est = '-05:00'",
        "same as EST",
        "every zone once",
    ),
    (
        vendor("formats = { pck_recieved_date = ['%Y%m%d %z %z'] }"),
        "vendors[acme].formats.pck_recieved_date = '%Y%m%d %z %z'",
        "%z beside another one",
        "one offset",
    ),
    (
        vendor("formats = { pck_recieved_date = ['%Y%m%d %f %n'] }"),
        "vendors[acme].formats.pck_recieved_date = '%Y%m%d %f %n'",
        "%n beside another one",
        "one fraction",
    ),
    (vendor("timezone = 'CST'"), "vendors[acme].timezone = 'CST'", "is an abbreviation", "America/Chicago"),
    (vendor("timezone = 'BST'"), "vendors[acme].timezone = 'BST'", "other places and seasons", "Europe/London"),
    (vendor("aliases = { tracking = ['x'] }"), "vendors[acme].aliases = 'tracking'", "no such column", "tracking_num?"),
    (vendor("aliases = { status = 'x' }"), "vendors[acme].aliases", "lists of texts", "aliases = {"),
    (vendor("aliases = { status = ['_'] }"), "vendors[acme].aliases.status = '_'", "not a header", "as the vendor"),
    (
        vendor("aliases = { status = ['Code'], address = ['c_o de'] }"),
        "vendors[acme].aliases.address = 'c_o de'",
        "stands for status already",
        "one column",
    ),
    (
        vendor("aliases = { status = ['Address'] }"),
        "vendors[acme].aliases.status = 'Address'",
        "stands for address already",
        "one column",
    ),
    (vendor("expect_by = '7.30'"), "vendors[acme].expect_by = '7.30'", "no time of the day", '"07:30"'),
    (vendor("expect_by = ['07:30', '24:00']"), "expect_by = '24:00'", "no time of the day", "00:00 to 23:59"),
    (vendor("expect_by = ['07:30', '07:30']"), "expect_by = '07:30'", "there twice", "every time once"),
    (vendor("expect_by = ['07:30', '07:45']"), "['07:30', '07:45']", "less than 20m apart", "use expect_every"),
    (vendor("expect_every = 'daily'"), "expect_every = 'daily'", "is no duration", '"15m", "4h", "1d"'),
    (vendor("expect_every = '400d'"), "expect_every = '400d'", "longer than a year", "shorter"),
    (vendor("expect = 'lern'"), "vendors[acme].expect = 'lern'", "no such choice", '"learn"'),
    (
        vendor("expect = 'learn'\nexpect_by = '07:30'"),
        "vendors[acme].expect = 'learn'",
        "expect_by says already",
        "take expect_by or expect out",
    ),
    (vendor("expect_days = ['mon']"), "vendors[acme].expect_days", "nothing says when", 'expect_by = "07:30"'),
    (vendor("expect_grace = '1h'"), "vendors[acme].expect_grace = '1h'", "nothing says when", 'expect = "learn"'),
    (vendor("expect = 'learn'\nexpect_days = ['Monday']"), "= 'Monday'", "no day of the week", "did you mean mon?"),
    (vendor("expect = 'learn'\nexpect_days = ['mon-fri']"), "= 'mon-fri'", "no day of the week", "mon"),
    (vendor("expect = 'learn'\nexpect_days = ['mon', 'mon']"), "= 'mon'", "there twice", "every day once"),
    (vendor("expect = 'learn'\nexpect_holidays = ['xmas']"), "expect_holidays", "a list of dates", "2026-12-25"),
    (vendor("expect = 'learn'\nexpect_timezone = 'CST'"), "expect_timezone = 'CST'", "abbreviation", "Chicago"),
    (
        vendor("expect_by = '07:30'\nexpect_grace = '13h'"),
        "vendors[acme].expect_grace = '13h'",
        "more than half of the 1d between",
        "shorter",
    ),
    (vendor("absent = ['adress']"), "vendors[acme].absent = 'adress'", "no such column", "did you mean address?"),
    (vendor("absent = ['tracking_num']"), "vendors[acme].absent = 'tracking_num'", "key and its time", "alias"),
    (vendor("absent = ['last_update_timestamp']"), "vendors[acme].absent", "key and its time", "alias"),
    (
        column("required = true") + "\n[[vendors]]\nname = 'acme'\nabsent = ['extra']",
        "vendors[acme].absent = 'extra'",
        "required column",
        "do not require",
    ),
    (vendor("formats = { adress = ['%Y'] }"), "vendors[acme].formats = 'adress'", "no such column", "mean address?"),
    (vendor("formats = { address = ['%Y'] }"), "vendors[acme].formats = 'address'", "string column", "timestamp"),
    (
        vendor("formats = { pck_recieved_date = ['%Y'] }"),
        "vendors[acme].formats.pck_recieved_date = '%Y'",
        "a year, a month and a day",
        "%d/%m/%Y",
    ),
    (vendor("file_date = '%Y%m'"), "vendors[acme].file_date = '%Y%m'", "whole date", "%Y%m%d"),
    (vendor("file_date = '%Y%m%Q'"), "vendors[acme].file_date = '%Y%m%Q'", "whole date", "%Y%m%d"),
    (
        contract() + "\n[[vendors]]\nname = 'acme'\nstatus_map = { a = 'B' }",
        "vendors[acme].status_map",
        "no status column",
        "[contract]",
    ),
]


@pytest.mark.parametrize(("text", "place", "problem", "hint"), REFUSALS)
def test_a_mistake_is_refused_with_file_key_value_and_hint(text: str, place: str, problem: str, hint: str) -> None:
    error = refusal(text)
    assert error.message.startswith(f"{BASE}/ordertrail.toml: ")
    assert place in error.message
    assert problem in error.message
    assert any(part in error.hint for part in hint.split("|")), error.hint
    assert error.exit_code == 2


# --- what is taken -----------------------------------------------------------------------------------------------


def test_key_and_order_are_required_and_text_keys_are_identifiers() -> None:
    columns = {c.name: c for c in parse(contract("key = ['tracking_num', 'leg']", COLUMNS + LEG)).contract.columns}
    assert columns["tracking_num"] == Column("tracking_num", "string", required=True, identifier=True)
    assert columns["leg"] == Column("leg", "int", required=True)
    assert columns["last_update_timestamp"] == Column("last_update_timestamp", "timestamp", required=True)


LEG = '[[contract.columns]]\nname = "leg"\ntype = "int"\n'


def test_another_key_of_the_default_columns_is_required_too() -> None:
    found = parse(contract("key = 'order_num'", "")).contract
    assert found.key == ("order_num",)
    assert next(c for c in found.columns if c.name == "order_num").required


@pytest.mark.parametrize(
    ("kind", "low", "high", "wanted"),
    [
        ("int", "0", "10", ("0", "10")),
        ("double", "0.5", "'1e3'", ("0.5", "1e3")),
        ("decimal(5, 2)", "'-999.99'", "1.10", ("-999.99", "1.1")),
        ("date", "2020-01-01", "'2030-12-31'", ("2020-01-01", "2030-12-31")),
        ("timestamp", "2020-01-01T00:00:00Z", "'2030-01-01 00:00'", ("2020-01-01T00:00:00+00:00", "2030-01-01 00:00")),
        ("string", "'A'", "'Z'", ("A", "Z")),
    ],
)
def test_bounds_may_stand_as_toml_values_or_as_text(kind: str, low: str, high: str, wanted: tuple[str, str]) -> None:
    found = parse(column(f"min = {low}\nmax = {high}", kind)).contract.columns[-1]
    assert (found.min, found.max) == wanted
    assert found.type == kind.replace(" ", "")


def test_a_column_takes_all_its_rules() -> None:
    found = parse(column(r"identifier = true" "\n" r"pattern = '[(?=]\\\(?=[A-Z]+'" "\nallowed = ['A', 1]"))
    wanted = Column("extra", "string", identifier=True, pattern=r"[(?=]\\\(?=[A-Z]+", allowed=("A", "1"))
    assert found.contract.columns[-1] == wanted


def test_a_vendor_takes_all_its_settings() -> None:
    text = vendor(
        r"""files = "acme/**/*.txt"
delimiter = "\t"
quote = "'"
encoding = "Windows-1252"
timezone = "America/Chicago"
aliases = { tracking_num = ["TrackingNo", "tracking number", "tracking_num"] }
status_map = { "Delivered - Front Door" = "DELIVERED" }
absent = ["address"]
formats = { pck_recieved_date = ["%d/%m/%Y", "%-d.%-m.%y"], last_update_timestamp = ["%d %b %Y %I:%M %p"] }
file_date = "%d-%b-%y"
compression = "none"
max_unpacked_mb = 100
skip_lines = 3
escape = "\\"
newlines_in_cells = false
rows = "newest_first"
short_rows = "fill"
continuation_lines = true
trailer = "^TRL"
manifest = "{stem}.done"
final_newline = true
nulls = ["N/A"]
key_case = "upper"
key_strip = " "
decimal = ","
thousands = "."
true_words = ["ja"]
false_words = ["nein"]
combine = { last_update_timestamp = ["Day", "Time"] }
constants = { package_deliver_date = "2026-11-20" }
from_name = "_(?P<order_num>[A-Z]+)_"
"""
    )
    assert parse(text).vendors == (
        Vendor(
            name="acme",
            files="acme/**/*.txt",
            delimiter="\t",
            quote="'",
            encoding="cp1252",
            timezone="America/Chicago",
            aliases=(("tracking_num", ("TrackingNo", "tracking number", "tracking_num")),),
            status_map=(("Delivered - Front Door", "DELIVERED"),),
            absent=("address",),
            formats=(
                ("pck_recieved_date", ("%d/%m/%Y", "%-d.%-m.%y")),
                ("last_update_timestamp", ("%d %b %Y %I:%M %p",)),
            ),
            file_date="%d-%b-%y",
            compression="none",
            max_unpacked_mb=100,
            skip_lines=3,
            escape="\\",
            newlines_in_cells=False,
            rows="newest_first",
            short_rows="fill",
            continuation_lines=True,
            trailer="^TRL",
            manifest="{stem}.done",
            final_newline=True,
            nulls=("N/A",),
            key_case="upper",
            key_strip=" ",
            decimal=",",
            thousands=".",
            true_words=("ja",),
            false_words=("nein",),
            combine=(("last_update_timestamp", ("Day", "Time")),),
            constants=(("package_deliver_date", "2026-11-20"),),
            from_name="_(?P<order_num>[A-Z]+)_",
        ),
    )


def test_vendors_keep_their_order() -> None:
    text = PIPELINE + "".join(f"[[vendors]]\nname = '{name}'\n" for name in ("zeta", "acme", "mid"))
    assert [v.name for v in parse(text).vendors] == ["zeta", "acme", "mid"]


def test_folders_whose_names_only_begin_alike_are_apart() -> None:
    config = parse(pipeline("source = 'data'\narchive = 'data-done'\nwarehouse = 'data.tables'"))
    assert config.archive == BASE / "data-done"


def test_a_link_does_not_hide_that_the_archive_is_inside_the_source(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "done").symlink_to(tmp_path / "in", target_is_directory=True)
    with pytest.raises(ConfigError, match="same folder as source"):
        parse_config(PIPELINE, base=tmp_path, environ={})


def test_whole_numbers_do_for_numbers() -> None:
    config = parse(pipeline("settle_s = 0\nmax_reject_share = 1"))
    assert (config.settle_s, config.max_reject_share) == (0.0, 1.0)


def test_maintenance_takes_all_its_settings() -> None:
    lines = "auto = false\nmax_small_files = 3\nmax_deleted_share = 0.5\nfile_size_mb = 1\nretention_h = 0\n"
    wanted = Maintenance(False, 3, 0.5, 1 << 20, 0.0, 1.5, 2.5)
    assert parse(maintenance(lines + "log_retention_h = 1.5\nconsumer_keep_d = 2.5")).maintenance == wanted


def test_half_hours_of_the_future() -> None:
    assert parse(contract("max_future_h = 0.5")).contract.max_future_s == 1800


# --- the environment ---------------------------------------------------------------------------------------------


def test_the_environment_overrides_the_file() -> None:
    environ = {
        "ORDERTRAIL_PIPELINE_SETTLE_S": "2.5",
        "ORDERTRAIL_PIPELINE_THREADS": "3",
        "ORDERTRAIL_PIPELINE_SOURCE": "elsewhere",
        "ORDERTRAIL_PIPELINE_SCHEMA": "night",
        "PATH": "/bin",
        "ORDERTRAIL_OTHER": "is nobody's",
    }
    config = parse(pipeline("settle_s = 9"), environ)
    assert (config.settle_s, config.threads, config.source, config.schema) == (2.5, 3, BASE / "elsewhere", "night")


def test_the_environment_may_give_the_folders_alone() -> None:
    environ = {f"ORDERTRAIL_PIPELINE_{name}": name.lower() for name in ("SOURCE", "ARCHIVE", "WAREHOUSE")}
    assert parse("", environ).archive == BASE / "archive"


def test_the_process_environment_is_the_default(monkeypatch) -> None:
    monkeypatch.setenv("ORDERTRAIL_PIPELINE_NAME", "night")
    assert parse_config(PIPELINE, base=BASE).name == "night"
    assert parse_config(PIPELINE, base=BASE, environ={}).name == "orders"


@pytest.mark.parametrize(
    ("variable", "value", "problem", "hint"),
    [
        ("SETLE_S", "1", "there is no such setting", "did you mean ORDERTRAIL_PIPELINE_SETTLE_S?"),
        ("SETTLE_S", "soon", "must be a number", "1.0"),
        ("THREADS", "1.5", "must be a whole number", "0"),
        ("SETTLE_S", "-1", "must not be negative", "0 or more seconds"),
        ("SETTLE_S", "nan", "must be a finite number", "settle_s = 1.0"),
        ("MODE", "x", "no such mode", "upsert"),
        ("ARCHIVE", "in/x", "lies inside source", "side by side"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(variable: str, value: str, problem: str, hint: str) -> None:
    error = refusal(PIPELINE, {f"ORDERTRAIL_PIPELINE_{variable}": value})
    assert error.message.startswith(f"environment: ORDERTRAIL_PIPELINE_{variable} = ")
    assert problem in error.message
    assert hint in error.hint


@pytest.mark.parametrize("level", LOG_LEVELS)
def test_log_level(level: str) -> None:
    assert log_level({"ORDERTRAIL_LOG": level.upper()}) == level


def test_log_level_is_info_unless_set() -> None:
    assert log_level({}) == "info"


def test_an_unknown_log_level_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ORDERTRAIL_LOG = 'loud'.*use one of debug, info, warning, error"):
        log_level({"ORDERTRAIL_LOG": "loud"})


def test_the_form_of_the_log_is_text_or_json() -> None:
    assert [log_format(one) for one in ({}, {"ORDERTRAIL_LOG_FORMAT": "JSON"})] == ["text", "json"]
    with pytest.raises(ConfigError, match=r"ORDERTRAIL_LOG_FORMAT = 'xml'.*use one of text, json"):
        log_format({"ORDERTRAIL_LOG_FORMAT": "xml"})


# --- what nobody knows is not printed whole -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        (pipeline("sftp_password = 'hunter2'"), {}),
        (pipeline("sftp = { password = 'hunter2', user = 'u' }"), {}),
        (pipeline("url = 'https://me:hunter2@host/x'"), {}),
        (vendor("api_key = 'hunter2'"), {}),
        (pipeline("pasword = 'hunter2'"), {}),
        (vendor("login = ['hunter2']"), {}),
        (PIPELINE, {"ORDERTRAIL_PIPELINE_PASWORD": "hunter2"}),
        (PIPELINE, {"ORDERTRAIL_PIPELINE_TOKEN": "hunter2"}),
    ],
)
def test_a_secret_in_a_setting_that_nobody_knows_is_masked(text: str, environ: dict[str, str]) -> None:
    error = refusal(text, environ)
    assert "there is no such setting" in error.message
    assert "***" in error.message
    assert "hunter2" not in str(error)


def test_a_long_value_of_a_setting_that_nobody_knows_is_cut() -> None:
    error = refusal(pipeline(f"sorce = '{'x' * 5000}'"))
    assert "pipeline.sorce = 'xxx" in error.message
    assert len(error.message) < 300
