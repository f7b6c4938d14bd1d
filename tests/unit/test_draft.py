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
        (["1,5"], "string"),
        (["1 000"], "string"),
        (["2024-02-30"], "string"),
        (["0001-01-01"], "string"),
        (["2024-11-20", "x"], "string"),
        (["٣"], "string"),
        (["true"], "string"),
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
    formats = {column.name: column.formats for column in draft.contract.columns}
    assert formats == {"tracking_num": (), "scan_time": ("%d.%m.%Y %H:%M:%S",), "day": ("%d/%m/%Y",)}
    assert draft.contract.order_by == "scan_time"


def test_dates_of_two_readings_stay_text_and_are_told(tmp_path: Path) -> None:
    draft = drafted(tmp_path, "tracking_num,last_update_timestamp,day\nA,2024-11-20 10:00,01/02/2024\n")
    assert types(draft)["day"] == "string"
    assert any("day stays text" in note for note in draft.notes)


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
        ("tracking_num,status\nA,x\n", "last updated"),
        ("a b,A_B,scan_time\n1,2,2024-11-20 10:00\n", "two columns"),
        (b"tracking_num,last_update_timestamp\nM\xfcller,2024-11-20\n", "not utf-8"),
        (b"PK\x03\x04\x00\x00", "cut off"),
    ],
)
def test_what_is_no_sample_is_said(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        drafted(tmp_path, text)


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
