"""The figures of this code base that are worth guarding."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "ordertrail"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 50
MAX_PARAMETERS = 8
MAX_ROOT_MODULES = 12
BROAD_EXCEPTS_A_THOUSAND_LINES = 0.5
CONFIG_READER = PACKAGE / "config" / "load.py"
PROCESS_START = PACKAGE / "__main__.py"
SPARK_START = PACKAGE / "engines" / "spark" / "session.py"
PAGES_START = PACKAGE / "web" / "sparing.py"
MIXING_PLACES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
TEXT_SUFFIXES = {"", ".cfg", ".csv", ".ini", ".json", ".lock", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
SKIPPED_FOLDERS = {".git", ".venv", "__pycache__", "build", "dist", "data"}
# Put together, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(
    r"(?<![\w.~-])/(?:" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + r"me/\w+", "Us" + r"ers/\w+"]) + r")(?:/|\b)"
)
INDEX_HOSTS = re.compile(r"--(?:extra-)?index-url|--find-links|https?://")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def code_lines(function: Function) -> int:
    """Lines of a function without its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or 0) - docstring.lineno + 1)


def parameters(function: Function) -> int:
    """How many a function has, without `self` and `cls`."""
    arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return len([a for a in arguments if a.arg not in ("self", "cls")])


def public(path: Path) -> Iterator[Function | ast.ClassDef]:
    """What a module offers: its classes and functions, and the methods and properties of its classes."""
    for node in tree(path).body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (m for m in node.body if isinstance(m, Function) and not m.name.startswith("_"))


def uses(path: Path) -> set[str]:
    """Dotted names that a module imports or reads off a module."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        match node:
            case ast.Import():
                found |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module)):
                found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
            case ast.Attribute(value=ast.Name(id=owner), attr=attribute):
                found.add(f"{owner}.{attribute}")
    return found


def module(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Dotted names that a module may load when it is imported or used; imports for types alone load nothing."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree(path)]
    while waiting:
        match node := waiting.pop():
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                waiting += node.orelse
                continue
            case ast.Import():
                found |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(origin)):
                found |= {origin} | {f"{origin}.{alias.name}" for alias in node.names}
        waiting += ast.iter_child_nodes(node)
    return found


def text_files() -> list[Path]:
    """Files of the project: those git knows or would take; without git, all but what a build leaves."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [ROOT / part.decode("utf-8", "surrogateescape") for part in listed.stdout.split(b"\0") if part]
    else:
        paths = [p for p in ROOT.rglob("*") if not SKIPPED_FOLDERS & set(p.relative_to(ROOT).parts)]
    return sorted(p for p in paths if p.is_file() and not p.is_symlink() and p.suffix in TEXT_SUFFIXES)


def test_there_is_something_to_look_at() -> None:
    assert CONFIG_READER in MODULES
    assert ROOT / "pyproject.toml" in text_files()


def test_modules_are_short() -> None:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > MAX_MODULE_LINES} == {}


def test_functions_are_short() -> None:
    lines = {f"{name(path)}:{one.lineno} {one.name}": code_lines(one) for path in MODULES for one in functions(path)}
    assert {where: count for where, count in lines.items() if count > MAX_FUNCTION_LINES} == {}


def test_functions_take_few_parameters() -> None:
    taken = {f"{name(path)}:{one.lineno} {one.name}": parameters(one) for path in MODULES for one in functions(path)}
    assert {where: count for where, count in taken.items() if count > MAX_PARAMETERS} == {}


def test_what_is_exported_is_documented() -> None:
    assert [name(path) for path in MODULES if not ast.get_docstring(tree(path))] == [], "modules without a docstring"
    found = ((path, node) for path in MODULES for node in public(path) if not ast.get_docstring(node))
    assert [f"{name(path)}:{node.lineno} {node.name}" for path, node in found] == []


def test_the_root_of_the_package_is_easy_to_see() -> None:
    """A module that belongs to a word of the commands, or to a layer, lives in the package of that name."""
    assert len(list(PACKAGE.glob("*.py"))) <= MAX_ROOT_MODULES


def test_engines_are_packages_over_a_few_modules() -> None:
    """What every engine shares stands beside their packages; whatever one engine does, inside one."""
    modules = {path.stem for path in (PACKAGE / "engines").glob("*.py")} - {"__init__"}
    assert modules == {"base", "batch_rows", "choice", "ledger", "load"}
    packages = {path.parent.name for path in (PACKAGE / "engines").glob("*/__init__.py")}
    assert packages == {"embedded", "local", "spark"}


def test_imports_make_no_ring() -> None:
    """No module reaches itself by imports, those inside functions included."""
    known = {module(path): path for path in MODULES}
    imports = {one: imported(path) & known.keys() - {one} for one, path in known.items()}
    while free := {one for one, others in imports.items() if not others & imports.keys()}:
        imports = {one: others for one, others in imports.items() if one not in free}
    assert imports == {}, "these modules import each other, or one that does"


def test_no_module_is_a_place_where_everything_goes() -> None:
    parts = {name(path): set(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES}
    assert [path for path, found in parts.items() if MIXING_PLACES & found] == []


def test_only_config_reads_the_environment_and_toml() -> None:
    reads = {path: uses(path) & {"os.environ", "os.environb", "os.getenv", "os.getenvb", "tomllib"} for path in MODULES}
    for path in (PROCESS_START, SPARK_START, PAGES_START):
        reads[path] -= {"os.environ"}  # it sets what the libraries read
    assert [name(path) for path, found in reads.items() if found and path != CONFIG_READER] == []


def test_broad_excepts_are_rare() -> None:
    handlers = [node for path in MODULES for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)]
    broad = [h for h in handlers if h.type is None or ast.unparse(h.type) in ("Exception", "BaseException")]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES)
    assert len(broad) <= max(1, BROAD_EXCEPTS_A_THOUSAND_LINES * lines / 1000)


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    found = [
        f"{name(path)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "requirements-web.lock", "requirements-dev.lock", "requirements-mutation.lock"]
)
def test_locks_have_hashes_and_name_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert not INDEX_HOSTS.search(text)
    pins = re.findall(r"(?m)^([a-z0-9][\w.-]*)==.*?(\\?)$", text)
    assert len(pins) > 10
    assert all(continued for _, continued in pins), "a pin without hashes"


def test_the_locks_agree() -> None:
    core, web, dev = (
        set(re.findall(r"(?m)^[a-z0-9][\w.-]*==[^\\\s]+", (ROOT / lock).read_text(encoding="utf-8")))
        for lock in ("requirements.lock", "requirements-web.lock", "requirements-dev.lock")
    )
    assert core <= web <= dev
