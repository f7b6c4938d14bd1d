"""What docs/ and the README say must be what the code does."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from docs import generate
from docs.generate import REFERENCE, cell_rules, errors, rules_in_code
from ordertrail.cli import PROGRAM, cli
from ordertrail.config import DEFAULT_CONTRACT, SETTINGS
from ordertrail.model import Outcome, State
from ordertrail.rules.tables import DELIVERIES, INCIDENTS, REJECTS, history_columns, stage_columns, target_columns

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
WRITTEN = [path for path in DOCS if path.parent != REFERENCE]
READ_FIRST = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


pages = cache(generate.pages)
CALLS = generate.commands()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("path", [*READ_FIRST, *DOCS], ids=name)


@pytest.mark.parametrize("page", sorted(pages()))
def test_reference_is_what_the_generator_prints(page: str) -> None:
    assert text_of(REFERENCE / page) == pages()[page], "run: python -m docs.generate"


def test_reference_has_no_page_that_nobody_generates() -> None:
    assert {path.name for path in REFERENCE.glob("*.md")} == set(pages())


# --- all there is, is documented ---------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: one.key)
def test_a_setting_is_documented(setting: object) -> None:
    key, variable, help_ = (getattr(setting, one) for one in ("key", "environment", "help"))
    page = pages()["settings.md"]
    section, _, plain = key.rpartition(".")
    heading = re.compile(rf"^## `\[+{re.escape(section)}\]+`$", re.MULTILINE)
    match = heading.search(page)
    assert match, section
    assert f"| `{plain}` |" in page[match.end() :].partition("\n## ")[0]
    assert help_.replace("|", "\\|") in page
    assert variable is None or f"`{variable}`" in page


@pytest.mark.parametrize("command", CALLS)
def test_a_command_and_its_options_are_documented(command: str) -> None:
    page = pages()["commands.md"]
    part = page.partition(f"## `{PROGRAM} {command}`")[2].partition("\n## ")[0]
    assert part
    for option in (p for p in CALLS[command].params if isinstance(p, click.Option)):
        common = option.name in ("config_file", "as_json", "debug")
        assert f"`{option.opts[0]}" in (page if common else part), option.opts
    # The person who looks for a task, not for a name, must meet the command too.
    assert any(f"{PROGRAM} {command}" in text_of(path) for path in [*WRITTEN, ROOT / "README.md"]), command


def test_the_help_of_a_command_shows_no_marks_of_the_writers() -> None:
    root = click.Context(cli, info_name=PROGRAM)
    for command, found in CALLS.items():
        assert "\\b" not in found.get_help(click.Context(found, parent=root, info_name=command)), command


@pytest.mark.parametrize("error", list(errors()), ids=lambda one: one.code)
def test_an_error_code_is_documented(error: type) -> None:
    assert f"| `{vars(error)['code']}` | `{error.__name__}` |" in pages()["errors.md"]


def test_a_reject_rule_is_documented() -> None:
    missing = [rule for rule in {*rules_in_code(), *cell_rules()} if f"| `{rule}` |" not in pages()["rejects.md"]]
    assert missing == []


def test_a_table_column_is_documented() -> None:
    page = pages()["tables.md"]
    tables = (
        target_columns(DEFAULT_CONTRACT),
        history_columns(DEFAULT_CONTRACT),
        stage_columns(DEFAULT_CONTRACT),
        REJECTS,
        DELIVERIES,
        INCIDENTS,
    )
    missing = [c.name for table in tables for c in table if f"| `{c.name}` |" not in page]
    assert missing == []


@pytest.mark.parametrize("word", [*Outcome, *State])
def test_an_outcome_or_state_is_documented(word: str) -> None:
    assert f"| `{word}` |" in pages()["tables.md"]


# --- all that is documented, is there ----------------------------------------------------------------------------


@every_page
def test_relative_links_lead_somewhere(path: Path) -> None:
    dead = [
        link
        for link in LINK.findall(text_of(path))
        if not link.startswith(("http:", "https:", "mailto:", "#"))
        and not (path.parent / link.partition("#")[0]).exists()
    ]
    assert dead == []


@every_page
def test_tests_that_are_named_are_there(path: Path) -> None:
    for file, test in TEST_NAME.findall(text_of(path)):
        assert (ROOT / file).is_file(), file
        assert not test or f"def {test}(" in text_of(ROOT / file), f"{file}::{test}"


def calls(path: Path) -> Iterator[list[str]]:
    """The words of the `ordertrail ...` calls in code of a page."""
    text = text_of(path)
    blocks = re.findall(r"(?ms)^```(?:sh|console)\n(.*?)^```", text)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    lines += re.findall(rf"`({PROGRAM} [^`\n]+)`", text)
    for line in lines:
        if line.startswith(f"{PROGRAM} "):
            yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("path", [ROOT / "README.md", *WRITTEN], ids=name)
def test_a_command_that_is_shown_is_there(path: Path) -> None:
    for words in calls(path):
        if words[0].startswith("-"):
            assert words[0] in ("--help", "--version", "-h"), words
            continue
        command = next((one for one in (" ".join(words[:2]), words[0]) if one in CALLS), None)
        assert command is not None, f"{PROGRAM} {' '.join(words)}"
        options = {text for p in CALLS[command].params for text in p.opts} | {"--help", "-h"}
        given = {word.partition("=")[0] for word in words[1:] if word.startswith("-")}
        assert given <= options, f"{PROGRAM} {' '.join(words)}"


@pytest.mark.parametrize("path", [ROOT / "README.md", *WRITTEN], ids=name)
def test_a_file_is_copied_with_its_own_time(path: Path) -> None:
    """The time of an undated file is its place in the order: a plain copy would be the newest of all."""
    bare = [line for line in text_of(path).splitlines() if re.search(r"(?:^|[\s`;&|])cp (?!-[a-zA-Z]*[pa])", line)]
    assert bare == []


def test_a_hint_to_bring_a_file_again_says_how() -> None:
    texts = [text_of(path) for path in (ROOT / "src").rglob("*.py")]
    told = [
        found
        for text in texts
        for found in re.findall(
            r"(?:copy|drop|bring)(?: \"\n\s*\")? ?(?:it|the file) (?:in again|back)[^\n]*\n?[^\n]*", text
        )
    ]
    assert len(told) >= 1
    assert [one for one in told if "cp -p" not in one] == []


def test_a_make_target_that_is_shown_is_there() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", text_of(ROOT / "Makefile")))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        shown = set(re.findall(r"(?m)(?:^|`)make ([a-z]+)", text_of(path)))
        assert shown <= targets
        assert shown


def test_the_readme_shows_calls() -> None:
    assert len(list(calls(ROOT / "README.md"))) > 3
