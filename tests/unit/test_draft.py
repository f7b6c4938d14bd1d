"""Drafting a contract from a sample: no guess may change a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordertrail.begin.draft import Draft, draft_config
from ordertrail.config import Config, parse_config
from ordertrail.errors import UsageError
from ordertrail.pipeline import Pipeline

ORDERS = """\
order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp
0001,1Z1,2024-11-20,,PICKED_UP,"1 Elm St, Springfield",2024-11-20 10:00:00
0002,1Z2,2024-11-20,2024-11-21,DELIVERED,2 Elm St,2024-11-21 10:00:00
"""


def drafted(tmp_path: Path, text: str | bytes, encoding: str | None = None, name: str = "sample.csv") -> Draft:
    sample = tmp_path / name
    sample.write_bytes(text if isinstance(text, bytes) else text.encode())
    return draft_config(sample, encoding=encoding)


def types(draft: Draft) -> dict[str, str]:
    return {column.name: column.type for column in draft.contract.columns}


def config_of(draft: Draft, base: Path) -> Config:
    return parse_config(draft.config_text, base=base, environ={"ORDERTRAIL_PIPELINE_SETTLE_S": "0"})


def test_the_feeds_own_file_gives_the_feeds_contract(tmp_path: Path) -> None:
    draft = drafted(tmp_path, ORDERS)
    config = config_of(draft, tmp_path)
    default = parse_config(
        '[pipeline]\nsource = "s"\narchive = "a"\nwarehouse = "w"\n', base=tmp_path, environ={}
    ).contract
    assert config.contract == default
    assert config.vendors[0].aliases == ()


FIXED = """\
Shipments of the day

Tracking    Order Status     Address            Last Updated
1Z00000001  1     PICKED_UP  1 Elm St, Rome     2024-11-20 10:00:00
1Z00000002  22    DELIVERED                     2024-11-20 10:00:01
1Z00000003  333   IN_TRANSIT 3 Lindenstraße 5   2024-11-20 10:00:02
1Z00000004  4     DELIVERED  4 Elm St, Oslo     2024-11-20 10:00:03
1Z00000005        PICKED_UP  5 Elm St           2024-11-20 10:00:04
"""


def test_the_widths_of_aligned_columns_are_drafted(tmp_path: Path) -> None:
    draft = drafted(tmp_path, FIXED)
    assert draft.vendor.widths == (12, 6, 11, 19, 19)
    assert any("widths were read off" in note for note in draft.notes)
    (tmp_path / "ordertrail.toml").write_text(draft.config_text)
    config = config_of(draft, tmp_path)
    config.source.mkdir(parents=True, exist_ok=True)
    (config.source / "sample.csv").write_text(FIXED)
    rows = Pipeline(config).run().rows
    assert (rows.parsed, rows.rejected) == (5, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("PICKED_UP  5 Elm St", " PICKED_UP 5 Elm St"),
        ("1 Elm St, Rome     2024", "123456789 Elm Road 2024"),
        ("Order Status", "Order;Status"),
        ("Status     Address", "2024-11-20 Address"),
    ],
)
def test_widths_that_are_not_certain_are_left_to_a_person(tmp_path: Path, old: str, new: str) -> None:
    """A cell that begins to the right, a cell without a blank before the next one, a delimiter, no header."""
    assert old in FIXED
    assert drafted(tmp_path, FIXED.replace(old, new.replace("Road 2024", "Roadxx2024"))).vendor.widths == ()


def test_other_spellings_become_aliases(tmp_path: Path) -> None:
    draft = drafted(
        tmp_path, "Order No;TrackingNumber;Shipment Status;Last Updated\n1;A1;DELIVERED;2024-11-20T10:00:00Z\n"
    )
    assert dict(draft.vendor.aliases) == {
        "order_num": ("Order No",),
        "tracking_num": ("TrackingNumber",),
        "status": ("Shipment Status",),
        "last_update_timestamp": ("Last Updated",),
    }
    config = config_of(draft, tmp_path)
    assert config.vendors[0].delimiter == ";"
    assert config.contract.key == ("tracking_num",)
    assert config.contract.status == "status"


def test_types_hold_every_value(tmp_path: Path) -> None:
    text = (
        "parcel_id,updated_at,day,pieces,weight,zip,depot,price,note\n"
        "P1,2024-11-20 10:00,2024-11-20,1,1.5,04109,007,1.20,\n"
        "P2,2024-11-20T11:00:00+01:00,2024-11-21,12,2,60601,12,12345678901234567890,x\n"
    )
    draft = drafted(tmp_path, text)
    assert types(draft) == {
        "tracking_num": "string",
        "last_update_timestamp": "timestamp",
        "day": "date",
        "pieces": "bigint",
        "weight": "double",
        "zip": "string",
        "depot": "string",
        "price": "string",
        "note": "string",
    }


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2"], "bigint"),
        (["-5", "0"], "bigint"),
        (["-0"], "string"),
        (["007", "12"], "string"),
        (["+1"], "string"),
        (["9" * 19], "string"),
        (["1.5", "2"], "double"),
        (["1.23E+11"], "string"),
        (["0.1234567890123456789"], "string"),
        (["1,234"], "string"),
        (["12", "13", "A"], "string"),
        (["2024-02-30"], "string"),
        (["0001-01-01"], "string"),
        (["2024-11-20", "x"], "string"),
        (["٣"], "string"),
        (["true"], "string"),
        (["N/A", "12"], "bigint"),
        (["1,5", "2,25"], "double"),
        (["1 000", "12 500"], "bigint"),
        (["1", "2", "3", "4", "5.5.5"], "bigint"),
        (["yes", "no"], "boolean"),
        (["ja", "nein", "x"], "boolean"),
        ([""], "string"),
    ],
)
def test_what_is_doubtful_stays_text(tmp_path: Path, values: list[str], kind: str) -> None:
    rows = "".join(f'K{n};2024-11-20 10:00:00;"{value}"\n' for n, value in enumerate(values))
    assert types(drafted(tmp_path, "tracking_num;last_update_timestamp;thing\n" + rows))["thing"] == kind


def test_dates_of_one_reading_get_their_format(tmp_path: Path) -> None:
    draft = drafted(
        tmp_path, "tracking_num,scan_time,day\nA,20.11.2024 10:00:00,13/11/2024\nB,01.02.2024 10:00:00,01/02/2024\n"
    )
    assert dict(draft.vendor.formats) == {"scan_time": ("%d.%m.%Y %H:%M:%S",), "day": ("%d/%m/%Y",)}
    assert draft.contract.order_by == "scan_time"


def test_dates_of_two_readings_wait_for_a_decision(tmp_path: Path) -> None:
    draft = drafted(tmp_path, "tracking_num,last_update_timestamp,day\nA,2024-11-20 10:00,01/02/2024\n")
    assert types(draft)["day"] == "date"
    assert dict(draft.vendor.formats) == {}
    for line in ('#formats = { day = ["%d/%m/%Y"] }', '#formats = { day = ["%m/%d/%Y"] }'):
        assert f"\n{line}\n" in draft.config_text
        taken = parse_config(draft.config_text.replace(line, line[1:]), base=tmp_path, environ={})
        assert dict(taken.vendors[0].formats)["day"]
    assert any("day or month first?" in note for note in draft.notes)


def test_the_other_dates_of_a_file_say_which_comes_first(tmp_path: Path) -> None:
    draft = drafted(tmp_path, "tracking_num,last_scan,day\nA,11/20/2024 10:00 PM,01/02/2024\n")
    assert dict(draft.vendor.formats) == {"last_update_timestamp": ("%m/%d/%Y %I:%M %p",), "day": ("%m/%d/%Y",)}


def test_a_day_can_order_rows_when_there_is_no_time(tmp_path: Path) -> None:
    draft = drafted(tmp_path, "waybill_no,changed_on\nA,2024-11-20\nB,2024-11-21\n")
    assert draft.contract.order_by == "changed_on"
    assert types(draft)["changed_on"] == "timestamp"


def test_headers_become_names_and_a_stranger_gets_an_alias(tmp_path: Path) -> None:
    draft = drafted(
        tmp_path, "tracking_num,last_update_timestamp,Weight (kg),2nd line,Größe,,class\nA,2024-11-20,1.5,x,L,?,y\n"
    )
    assert [c.name for c in draft.contract.columns] == [
        "tracking_num", "last_update_timestamp", "weight_kg", "c_2nd_line", "größe", "class",
    ]  # fmt: skip
    assert dict(draft.vendor.aliases) == {"weight_kg": ("Weight (kg)",), "c_2nd_line": ("2nd line",)}
    config_of(draft, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        (b"PK\x03\x04\x00\x00", "cut off"),
        ("<html><body>log in", "an HTML page"),
    ],
)
def test_what_is_no_sample_is_said(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        drafted(tmp_path, text)


def test_a_file_without_a_time_is_drafted_all_the_same(tmp_path: Path) -> None:
    draft = drafted(tmp_path, "tracking_num,state\nA1234,x\nB1234,y\n")
    assert (draft.contract.key, draft.contract.order_by) == (("tracking_num",), "last_update_timestamp")
    assert "# TODO: no column of the sample tells when a row was last updated" in draft.config_text
    config_of(draft, tmp_path)


def test_a_key_that_is_blank_in_some_rows_stays_the_key(tmp_path: Path) -> None:
    draft = drafted(tmp_path, "shop,Tracking Number,Updated\n1,,2024-11-20\n2,A1,2024-11-20\n3,A2,2024-11-20\n")
    assert draft.contract.key == ("tracking_num",)
    assert "1 of 3 rows have no tracking_num: they will be rejects" in draft.notes


def test_a_name_that_is_there_twice_is_no_end(tmp_path: Path) -> None:
    rest = drafted(tmp_path, "tracking_num,a b,A_B,scan_time\nX1,1,2,2024-11-20 10:00\n")
    assert types(rest) == {"tracking_num": "string", "scan_time": "timestamp"}
    key = drafted(tmp_path, "Tracking No,Tracking No,scan_time\nX1,1,2024-11-20 10:00\n")
    assert (key.vendor.header, key.vendor.skip_lines) == (False, 1)
    assert key.vendor.columns == ("Tracking No", "Tracking No 2", "scan_time")
    config_of(key, tmp_path)


def test_an_odd_value_stands_beside_its_column(tmp_path: Path) -> None:
    rows = "".join(f"K{n},2024-11-20 10:00,{n}\n" for n in range(1, 9))
    draft = drafted(tmp_path, f"tracking_num,last_update_timestamp,pieces\n{rows}K9,soon,1.2.3\n")
    assert types(draft)["pieces"] == "bigint"
    assert "# TODO: no bigint, so these would be rejects: '1.2.3'\n[[contract.columns]]\nname = \"pieces\"" in (
        draft.config_text
    )
    assert "'soon'" in draft.config_text


def test_statuses_are_mapped_where_they_are_certain(tmp_path: Path) -> None:
    text = "tracking_num,last_update_timestamp,status\n"
    said = ("Delivered", "Out for Delivery", "Delivered, Front Door/Porch", "At the zoo", "IN_TRANSIT")
    text += "".join(f'K{n},2024-11-20 10:00,"{status}"\n' for n, status in enumerate(said))
    draft = drafted(tmp_path, text)
    config = config_of(draft, tmp_path)
    mapped = {"Delivered": "DELIVERED", "Out for Delivery": "OUT_FOR_DELIVERY"}
    assert dict(config.vendors[0].status_map) == mapped
    assert '#"Delivered, Front Door/Porch" = "DELIVERED"\n#"At the zoo" = ""\n' in draft.config_text
    whole = draft.config_text.replace('#"Delivered, F', '"Delivered, F')
    assert len(parse_config(whole, base=tmp_path, environ={}).vendors[0].status_map) == 3


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Zürich,Müller,Straße", "cp1252"),
        ("Łódź,Żółć,Kraków,Gdańsk", "cp1250"),
        ("Zürich,Müller", "cp850"),
        ("Zürich,Müller,Café", "mac_roman"),
        ("Москва,Привет", "cp1251"),
    ],
)
def test_an_encoding_is_found_by_its_letters(tmp_path: Path, text: str, encoding: str) -> None:
    names = text.split(",")
    rows = "".join(f"K{n},2024-11-20 10:00,{name}\n" for n, name in enumerate(names))
    draft = drafted(tmp_path, f"tracking_num,last_update_timestamp,town\n{rows}".encode(encoding))
    assert draft.vendor.encoding == encoding


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("scan_2026_11_22.csv", []),
        ("scan_22112026.csv", ['file_date = "%d%m%Y"']),
        ("scan_22-Nov-2026.csv", ['file_date = "%d-%b-%Y"']),
        ("scan_03042026.csv", ['#file_date = "%d%m%Y"', '#file_date = "%m%d%Y"']),
        ("scan.csv", []),
    ],
)
def test_the_date_in_a_name_is_said_where_it_is_one(tmp_path: Path, name: str, lines: list[str]) -> None:
    draft = drafted(tmp_path, ORDERS, name=name)
    vendors = draft.config_text[draft.config_text.rindex("\n[[vendors]]") :]
    assert [line for line in vendors.splitlines() if "file_date" in line] == lines
    config_of(draft, tmp_path)


def test_a_missing_sample_and_a_wrong_encoding_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        draft_config(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="no encoding"):
        drafted(tmp_path, ORDERS, encoding="klingon")


SAMPLES = {
    "orders": (ORDERS, None),
    "german": (
        "Auftrag;Sendungsnummer;Abholdatum;Status;Empfängeradresse;Letzte Änderung\r\n"
        "007;0034;20.11.2024;PICKED_UP;Königstraße 1, Köln;20.11.2024 14:05:00\r\n"
        "008;0035;;X;Am Mühlbach 2;01.12.2024 08:00:00\r\n".encode("cp1252"),
        "cp1252",
    ),
    "own": ("\ufeffid|scanned at|amount|n\n0001|2024-11-20T10:00:00Z|1.5|4\n0002|2024-11-20T10:00:00.123|2|5\n", None),
    "one column more": (ORDERS.replace("timestamp\n", "timestamp,Box Size\n").replace(":00\n", ":00,=1\n"), None),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_sample_itself_loads_without_a_reject(tmp_path: Path, name: str) -> None:
    text, encoding = SAMPLES[name]
    draft = drafted(tmp_path, text, encoding)
    config = config_of(draft, tmp_path)
    config.source.mkdir(parents=True)
    (tmp_path / "sample.csv").rename(config.source / "sample.csv")
    report = Pipeline(config).run()
    assert (report.rows.parsed, report.rows.inserted) == (2, 2), report
