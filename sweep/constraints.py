"""Constraints between the settings of a trial: expressions that must hold, checked before it starts."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from simpleeval import EvalWithCompoundTypes, InvalidExpression

from sweep.config import Tree
from sweep.errors import InputError, did_you_mean

CONSTRAINTS = "constraints"  # the key in the search space, beside its paths
_EXAMPLE = "trainer.learning_rate * trainer.global_batch_size <= 0.02"
_FUNCTIONS = {"min": min, "max": max, "abs": abs, "len": len}


@dataclass(frozen=True)
class Constraint:
    """An expression of Python's comparisons and arithmetic over config paths.

    Attributes:
        text: as it was written.
        paths: those that it names.
    """

    text: str
    paths: frozenset[str]

    def holds(self, tree: Tree) -> bool:
        """Whether it holds for a trial's config.

        Raises:
            InputError: it has no value there.
        """
        try:
            return bool(EvalWithCompoundTypes(functions=_FUNCTIONS, names=tree).eval(self.text))
        except (InvalidExpression, TypeError, ValueError, ArithmeticError) as error:
            raise InputError(
                f"space.{CONSTRAINTS}: '{self.text}' has no value: {error}. Write for instance '{_EXAMPLE}'."
            ) from None


def parse_constraints(node: Any, known: Collection[str]) -> list[Constraint]:
    """The constraints of a search space.

    Args:
        node: a list of expressions, or None.
        known: the paths they may name.

    Raises:
        InputError: no list, an expression that does not parse, or an unknown path in it.
    """
    if node is None:
        return []
    if not isinstance(node, list) or not all(isinstance(text, str) for text in node):
        raise InputError(f"space.{CONSTRAINTS}={node!r} must be a list of expressions: ['{_EXAMPLE}'].")
    found = []
    for text in node:
        try:
            parsed = ast.parse(text.strip(), mode="eval")
        except SyntaxError as error:
            raise InputError(
                f"space.{CONSTRAINTS}: '{text}' cannot be read ({error.msg}). "
                f"Write for instance '{_EXAMPLE}'."
            ) from None
        paths = frozenset(_paths(parsed))
        for path in sorted(paths):
            if path not in known:
                raise InputError(
                    f"space.{CONSTRAINTS}: '{text}' names the unknown path '{path}'."
                    f"{did_you_mean(path, list(known))}"
                )
        found.append(Constraint(text, paths))
    return found


def _paths(node: ast.AST) -> Iterator[str]:
    """The dotted names in an expression; functions are none."""
    if isinstance(node, ast.Attribute | ast.Name):
        yield ast.unparse(node)
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Call) and child is node.func):
            yield from _paths(child)
