"""No character that a person does not see reaches one as it is."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from ordertrail.rules.filekey import clean_name
from ordertrail.rules.unseen import shown, shown_json

PRINTED = {*range(0x600, 0x606), 0x6DD, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}
"""Format characters that have a shape: Arabic, Kaithi and Egyptian signs around numbers and names."""


def test_everything_without_a_shape_is_escaped() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs") and code not in PRINTED:
            assert character not in shown(f"a{character}b"), hex(code)
            assert shown(f"a{character}b").startswith("a\\")


@pytest.mark.parametrize("text", ["abc", "Königstraße 5", "東京", "مرحبا", "a b", "\u00a0", "🚚", "नमस्ते"])
def test_text_with_a_shape_stays(text: str) -> None:
    assert shown(text) == text


def test_names_that_look_alike_are_told_apart() -> None:
    names = [
        "A100.csv",
        "A100\u200b.csv",
        "A1\u206000.csv",
        "A100\U000e0041.csv",
        "A100\ufe0f.csv",
        "A1\u2060\u2060.csv",
    ]
    assert len({shown(name) for name in names}) == len(names)
    assert all(shown(name).isascii() for name in names)


def test_json_keeps_its_meaning() -> None:
    document = {"name\u200b": "x\U000e0041\u202e\ufeff\x9b y"}
    text = shown_json(json.dumps(document, ensure_ascii=False))
    assert text.isascii()
    assert json.loads(text) == document


def test_the_path_that_the_total_order_compares_never_changes() -> None:
    """A file whose name has such a character is sent again after an upgrade: it must not move in the order."""
    assert clean_name("a\u200b\u2060\U000e0041.csv") == "a\u200b\u2060\U000e0041.csv"
    assert clean_name("a\u202e.csv") == "a\\u202e.csv"
