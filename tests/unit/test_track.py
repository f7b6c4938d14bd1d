"""`track` by case, order number and part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ordertrail.cli import cli
from ordertrail.errors import UsageError
from ordertrail.look.status import Reader
from ordertrail.look.track import MOST_MATCHES, Match, Track, order_numbers
from tests.harness import House, open_house

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
KEYS = ("AbC-1", "abx", "ABX", "xabx", "007", "17", "100%_a")


def row(order: str, key: str) -> str:
    return f"{order},{key},,,IN_TRANSIT,Elm St,2026-11-20 08:00:00\n"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Keys that differ in case, one that is another one's order number, and many with one part. Only to read."""
    house = open_house(tmp_path_factory.mktemp("track"))
    rows = [row(f"O-{key}", key) for key in KEYS]
    rows += [row("Many", f"part{i:02}-PART") for i in range(MOST_MATCHES + 3)]
    rows += [row("007", "other"), row("Lone", "alone")]
    house.drop("order_tracking_2026_11_20.csv", HEADER + "".join(rows))
    house.run()
    return house


def track(house: House, text: str) -> Track:
    with Reader(house.config) as reader:
        return reader.track(text)


def found(house: House, text: str) -> tuple[str, list[str], str | None]:
    """The key that is shown, the matches, and how they were found."""
    it = track(house, text)
    shown = "" if it.current is None else str(it.current["tracking_num"])
    return shown, [one.key for one in it.matches], it.matches[0].found_by if it.matches else None


@pytest.mark.parametrize("key", KEYS)
def test_an_exact_key_always_wins(house: House, key: str) -> None:
    assert found(house, f" {key} ") == (key, [], None)


def test_any_case(house: House) -> None:
    assert found(house, "aBc-1") == ("AbC-1", ["AbC-1"], "case")
    assert found(house, "aBx") == ("", ["ABX", "abx"], "case")


def test_order_numbers_in_any_case(house: House) -> None:
    assert found(house, "o-007") == ("007", ["007"], "order_num")
    it = track(house, "lone")
    assert (it.key, it.matches[0].found_by, len(it.history)) == ("alone", "order_num", 1)


def test_parts_from_three_characters_on_ends_first_then_beginnings(house: House) -> None:
    assert found(house, "bC-") == ("AbC-1", ["AbC-1"], "part")
    assert found(house, "bC") == ("", [], None)
    assert found(house, "%_a") == ("100%_a", ["100%_a"], "end")
    assert found(house, "___") == ("", [], None)
    shown, keys, by = found(house, "art")
    assert (shown, len(keys), by) == ("", MOST_MATCHES, "end")
    assert track(house, "art").more == 3
    assert found(house, "PART2") == ("", ["part20-PART", "part21-PART", "part22-PART"], "start")
    assert found(house, "xab") == ("xabx", ["xabx"], "start")
    assert found(house, "1-pArT") == ("", ["part01-PART", "part11-PART", "part21-PART"], "end")
    assert found(house, "art1") == ("", [f"part1{i}-PART" for i in range(10)], "part")


def test_a_match_says_who_what_and_when(house: House) -> None:
    match = track(house, "aBx").matches[0]
    assert (match.vendor, match.status, str(match.time)[:16]) == ("default", "IN_TRANSIT", "2026-11-20 08:00")
    assert isinstance(match, Match)


def test_nothing_is_found_and_nothing_is_sql(house: House) -> None:
    assert track(house, "'; DROP TABLE x").matches == ()
    with pytest.raises(UsageError, match="blank"):
        track(house, "  ")


def test_keys_of_several_columns_and_marked_columns(tmp_path: Path) -> None:
    house = open_house(
        tmp_path,
        '[contract]\nkey = ["carrier", "number"]\norder_by = "at"\nstatus = ""\nstatus_rank = []\n'
        '[[contract.columns]]\nname = "carrier"\ntype = "string"\n'
        '[[contract.columns]]\nname = "number"\ntype = "bigint"\n'
        '[[contract.columns]]\nname = "invoice"\ntype = "string"\nidentifier = true\n'
        '[[contract.columns]]\nname = "order_num"\ntype = "int"\n'
        '[[contract.columns]]\nname = "note"\ntype = "string"\n'
        '[[contract.columns]]\nname = "at"\ntype = "timestamp"\n',
    )
    house.drop("a.csv", "carrier,number,invoice,order_num,note,at\nUps,12,INV1,500,N1,2026-11-20\n")
    house.run()
    assert order_numbers(house.config.contract) == ("invoice", "order_num")
    for text in ("UPS/12", "inv1", "500", "ps/1"):
        it = track(house, text)
        assert (it.key, len(it.history), len(it.matches)) == ("Ups/12", 1, 1), text
        assert it.matches[0].status is None
    with pytest.raises(UsageError, match="parts"):
        track(house, "N1")
    with Reader(house.config) as reader:
        assert reader.track(["ups", "12"]).matches == ()


# -- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def command(house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs `ordertrail track` on the house; the exit code and stdout."""
    folders = "".join(f'{name} = "{getattr(house.config, name)}"\n' for name in ("source", "archive", "warehouse"))
    toml = tmp_path / "ordertrail.toml"
    toml.write_text(f"[pipeline]\n{folders}")

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main(["track", *words, "--config", str(toml)])
        code = caught.value.code
        return (code if isinstance(code, int) else -1), capsys.readouterr().out

    return run


def test_the_command_lists_matches(command: Callable[..., tuple[int, str]]) -> None:
    code, text = command("art")
    assert code == 0
    assert "these are with that at the end" in text
    assert text.count("-PART  ") == MOST_MATCHES
    assert "and 3 more" in text
    code, text = command("aBc-1")
    assert (code, "the one written otherwise" in text, "AbC-1" in text) == (0, True, True)
    code, text = command("many")
    assert (code, "these are with that order_num" in text) == (0, True)
    code, text = command("xx")
    assert (code, text) == (0, "No row that was loaded or rejected ever spoke of xx.\n")


def test_the_commands_document(command: Callable[..., tuple[int, str]]) -> None:
    document = json.loads(command("007", "--json", "--as-of", "Batch 1")[1])
    assert list(document) == ["tracking_num", "current", "history", "rejected", "matches", "more", "as_of"]
    assert (document["matches"], document["more"], document["as_of"]["batch"]) == ([], 0, 1)
    document = json.loads(command("art", "--json")[1])
    assert (document["current"], document["history"], document["more"], document["as_of"]) == (None, [], 3, None)
    assert document["matches"][0] == {
        "tracking_num": "part00-PART",
        "found_by": "end",
        "vendor": "default",
        "status": "IN_TRANSIT",
        "time": "2026-11-20T08:00:00Z",
    }


@pytest.mark.parametrize("moment", ["batch 0", "batch 2", "1999-01-01", "soon", "batch", "batch -1"])
def test_a_moment_that_is_none_is_wrong_usage(command: Callable[..., tuple[int, str]], moment: str) -> None:
    code, text = command("007", "--json", "--as-of", moment)
    assert (code, json.loads(text)["error"]["code"]) == (2, "E_USAGE")
