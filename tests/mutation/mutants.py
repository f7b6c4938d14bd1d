"""The mutants of a module: its source with one small fault each."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import parso
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

from tests.mutation import sql

PYTHON = (
    *(f"core/ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(f"core/ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt")),
    *(f"core/ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_FloorDiv", "FloorDiv_Mul")),
    *(f"core/ReplaceBinaryOperator_{pair}" for pair in ("Div_Mul", "Mod_Add", "BitAnd_BitOr", "BitOr_BitAnd")),
    *(f"core/ReplaceBinaryOperator_{pair}" for pair in ("BitXor_BitAnd", "LShift_RShift", "RShift_LShift")),
    *(f"core/Replace{pair}" for pair in ("AndWithOr", "OrWithAnd", "TrueWithFalse", "FalseWithTrue")),
    *(f"core/Replace{pair}" for pair in ("BreakWithContinue", "ContinueWithBreak")),
    *(f"core/ReplaceUnaryOperator_Delete_{sign}" for sign in ("Not", "USub", "Invert")),
    *(f"core/{name}" for name in ("AddNot", "NumberReplacer", "ExceptionReplacer", "ZeroIterationForLoop")),
)
"""Operators of cosmic-ray: of each kind those that say something else than another one."""


class SqlFault(Operator):  # type: ignore[misc]  # untyped
    """An operator of cosmic-ray that mutates SQL in strings."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        for _ in self._edits(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.value = self._edits(node)[index].apply(node.value)
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()

    @staticmethod
    def _edits(node: Any) -> list[sql.Edit]:
        if node.type == "string":
            whole, documentation = node.value, node.parent.type == "simple_stmt"
        elif node.type == "fstring_string":
            whole, documentation = node.parent.get_code(include_prefix=False), False
        else:
            return []
        return [] if documentation or not sql.SQL.search(whole) else list(sql.edits(node.value))


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault.

    Attributes:
        line: Where it is, from 1.
        was: What stood there: the lines that differ, without indentation.
        now: What stands there in the mutant.
        kind: `sql` or `python`.
        source: The whole module.
    """

    line: int
    was: str
    now: str
    kind: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module that differ from it and from each other, annotations aside."""
    seen = {_meaning(source)}
    found = []
    for kind, text in _texts(source):
        try:
            meaning = _meaning(text)
        except SyntaxError:
            continue
        if meaning not in seen:
            seen.add(meaning)
            found.append(_mutant(source, text, kind))
    # That values are frozen, and how many are cached, is no behaviour that a test could miss.
    found = [mutant for mutant in found if not mutant.was.startswith(("@dataclass", "@lru_cache"))]
    return sorted(found, key=lambda mutant: (mutant.line, mutant.was, mutant.now))


def sample(all_of_them: list[Mutant], kind: str, at_most: int, seed: str) -> list[Mutant]:
    """Some mutants of one kind, the same ones every time."""
    of_kind = [mutant for mutant in all_of_them if mutant.kind == kind]
    if len(of_kind) <= at_most:
        return of_kind
    chosen = sorted(random.Random(seed).sample(range(len(of_kind)), at_most))
    return [of_kind[place] for place in chosen]


def _texts(source: str) -> Iterator[tuple[str, str]]:
    operators = [("sql", SqlFault()), *(("python", get_operator(name)()) for name in PYTHON)]
    tree = parso.parse(source)
    for kind, operator in operators:
        positions = sum(1 for node in _nodes(tree) for _ in operator.mutation_positions(node))
        for occurrence in range(positions):
            # cosmic-ray's operator for exceptions knows no names with a dot.
            with suppress(AttributeError):
                if (text := mutate_code(source, operator, occurrence)) is not None:
                    yield kind, text


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in getattr(node, "children", ()):
        yield from _nodes(child)


class _WithoutAnnotations(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = ast.Constant(None)
        self.generic_visit(node)
        return node


def _meaning(source: str) -> str:
    return ast.dump(_WithoutAnnotations().visit(ast.parse(source)))


def _mutant(source: str, text: str, kind: str) -> Mutant:
    before, after = source.splitlines(), text.splitlines()
    changed = [
        code for code in SequenceMatcher(None, before, after, autojunk=False).get_opcodes() if code[0] != "equal"
    ]
    first, last = changed[0], changed[-1]

    def shown(lines: list[str], start: int, end: int) -> str:
        return " ".join(line.strip() for line in lines[start:end])

    return Mutant(first[1] + 1, shown(before, first[1], last[2]), shown(after, first[3], last[4]), kind, text)
