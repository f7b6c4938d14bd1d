"""docs/explanation/architecture.md and the table of layers in CONTRIBUTING.md name the code as it is."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "ordertrail"
PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
PICTURE = (ROOT / "docs" / "img" / "architecture.svg").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`\n]+)`")
STEP = re.compile(r"(?m)^\| [a-z]+ \| `([\w/]+\.py)` \| (`[^|]+`) \|")
PARTS = re.compile(r"(?<!\w)(?:[A-Z][a-z]+)*(?:Weighing|Applier|Recorder|Tables)(?!\w)")


def layers() -> list[set[str]]:
    """The layers of import-linter, from the top: names below `ordertrail`."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    return [set(re.split(r"[|: ]+", one)) for one in next(c for c in contracts if c["id"] == "layers")["layers"]]


def defined(path: Path) -> set[str]:
    """Functions, classes and values of a module; methods as `Class.method`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.ClassDef():
                found |= {node.name, *(f"{node.name}.{m.name}" for m in node.body if isinstance(m, ast.FunctionDef))}
            case ast.FunctionDef():
                found.add(node.name)
    return found


def steps() -> Iterator[tuple[str, str]]:
    """(file, function) of each step of the row."""
    for file, functions in STEP.findall(PAGE):
        yield from ((file, name) for name in CODE.findall(functions))


def test_every_file_and_folder_that_it_names_is_there() -> None:
    named = [text for text in CODE.findall(PAGE) if re.fullmatch(r"[\w/]+(\.py|\.toml|/)", text)]
    assert len(named) > 40
    missing = [text for text in named if not (PACKAGE / text).exists() and not (ROOT / text).exists()]
    assert [text for text in missing if text != "ordertrail.toml"] == []


def test_every_function_of_the_row_is_in_its_file() -> None:
    found = list(steps())
    assert len(found) >= 20
    assert [(file, name) for file, name in found if name not in defined(PACKAGE / file)] == []


def test_every_part_of_an_engine_that_it_names_is_there() -> None:
    classes = {name for path in (PACKAGE / "engines").rglob("*.py") for name in defined(path)}
    named = {part for text in CODE.findall(PAGE) for part in PARTS.findall(text)}
    assert len(named) >= 9
    assert named <= classes


def test_every_package_and_root_module_is_on_it_and_in_the_picture() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.name for path in PACKAGE.glob("*.py")}
    assert {f"`{name}/`" for name in packages} | {f"`{name}`" for name in modules} <= {
        f"`{text}`" for text in CODE.findall(PAGE)
    }
    shown = set(re.findall(r"[a-z_]+", " ".join(re.findall(r'class="name mid"[^>]*>([^<]+)<', PICTURE))))
    assert packages <= shown
    assert {name.removesuffix(".py") for name in modules if not name.startswith("__")} <= shown


def test_every_package_of_engines_is_on_it() -> None:
    for package in (PACKAGE / "engines").glob("*/__init__.py"):
        assert f"`engines/{package.parent.name}/`" in PAGE


def test_the_layers_of_contributing_are_those_that_are_checked() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## Layers")[2].partition("\n## ")[0]
    rows = [set(CODE.findall(row.split("|")[1])) for row in re.findall(r"(?m)^\| `.*$", table)]
    assert rows == layers()


def test_the_layers_of_the_page_are_those_that_are_checked() -> None:
    table = PAGE.partition("| layer |")[2].partition("\n\n")[0]
    rows = [
        {name.rstrip("/").removesuffix(".py") for name in CODE.findall(row.split("|")[1])}
        for row in re.findall(r"(?m)^\| `.*$", table)
    ]
    assert rows == [layer for layer in layers() if layer != {"__main__"}]
