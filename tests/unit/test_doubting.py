"""Numbers that a spreadsheet rounded are told from those that end in zeros by chance."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable

import pytest

from ordertrail.parse.doubting import FileDoubts
from ordertrail.parse.records import RecordReader
from ordertrail.rules.doubts import doubts_from, doubts_json


def doubts(keys: Iterable[str]) -> tuple[str, ...]:
    reader = RecordReader(io.BytesIO(b"at,key\n" + "".join(f"x,{key}\n" for key in keys).encode()))
    reader.header()
    found = FileDoubts([("tracking_num", 1)])
    for block in reader.blocks():
        found.see(block)
    return found.texts()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["940011189922385000000"], "row 1: tracking_num 940011189922385000000 has zeros alone"),
        (
            ["1", "940011189922385000000", "", "940011189922386000000"],
            "row 2: tracking_num 940011189922385000000 and 1 ",
        ),
        (["123456789012345000"], "row 1"),
        (["123456789012345600", "12345678901234500", "000000000000000000", "A23456789012345000"], None),
        (["123456789012345678901", "12345678901234500000A", "123456789012345000.000"], None),
        ([], None),
    ],
)
def test_zeros_alone_after_the_fifteenth_digit(keys: list[str], told: str | None) -> None:
    texts = doubts(keys)
    assert [told] == [text[: len(told)] for text in texts] if told else texts == ()


@pytest.mark.parametrize("digits", [18, 20, 22])
def test_numbers_that_end_so_by_chance_are_no_doubt(digits: int) -> None:
    pick = random.Random(digits)
    numbers = [str(pick.randrange(10 ** (digits - 1), 10**digits)) for _ in range(20_000)]
    assert doubts(numbers) == ()
    by_chance = [numbers[0][:15] + "0" * (digits - 15)] if digits == 18 else []
    assert doubts(by_chance + numbers) == ()
    assert len(doubts(number[:15] + "0" * (digits - 15) for number in numbers)) == 1


def test_doubts_are_kept_as_json() -> None:
    assert doubts_from(doubts_json(["a", "ü"])) == ("a", "ü")
    assert (doubts_json([]), doubts_from(None)) == (None, ())
