"""Filters of tables in a small language of their own, such as `uncertainty_xy_nm < 20 and photons > 300`.

Grammar, loosest first: `or |`, `and &`, `not !`, comparisons (`0.2 < probability <= 1` is a chain), `+ -`, `* /`,
unary minus, then numbers, columns and parentheses: Python's own precedence, so Python's parser builds the tree once the
order of the words has been checked here. Nothing of Python is ever run.
"""

import ast
import difflib
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from varcli.emitters.table import EmitterTable
from varcli.emitters.tables.base import spread_xy_nm
from varcli.errors import UsageError

Numbers = Callable[[EmitterTable], np.ndarray]
# Rows for which a condition holds, and those for which it does not: a row with a NaN is in neither.
Truths = Callable[[EmitterTable], tuple[np.ndarray, np.ndarray]]

_FIELDS = {
    "frame": "frame",
    "x_nm": "x_nm",
    "y_nm": "y_nm",
    "photons": "photons",
    "background": "background",
    "background_std": "background_std",
    "sigma_nm": "psf_sigma_nm",
    "uncertainty_x_nm": "sd_x_nm",
    "uncertainty_y_nm": "sd_y_nm",
    "uncertainty_xy_nm": "",
    "uncertainty_photons": "sd_photons",
    "uncertainty_background": "sd_background",
    "crlb_xy_nm": "crlb_xy_nm",
    "probability": "probability",
}
COLUMNS = tuple(_FIELDS)
# Every name that is understood, and the one that it stands for: without its unit, or as the table itself calls it.
_NAMES = {
    **{name.removesuffix("_nm"): name for name in COLUMNS},
    **{field: name for name, field in _FIELDS.items() if field},
    **{name: name for name in COLUMNS},
    "uncertainty": "uncertainty_xy_nm",
    "uncertainty_nm": "uncertainty_xy_nm",
}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign><=|>=|==|!=|[-+*/<>()&|!]))"
)
_COMPARE: dict[type[ast.cmpop], Callable[..., np.ndarray]] = {
    **{ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt},
    **{ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne},
}
_ARITHMETIC: dict[type[ast.operator], Callable[..., np.ndarray]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
}
_WORDS = {"and": "&", "or": "|", "not": "!"}
_PYTHON = {sign: word for word, sign in _WORDS.items()}
_BETWEEN = frozenset(("<", "<=", ">", ">=", "==", "!=", *"+-*/&|"))
_DEEPEST = 50  # parentheses, minus signs and nots within each other
_MOST_ARITHMETIC = 200  # signs; a sum is as deep a tree as it is long
_EXAMPLE = 'for example "uncertainty_xy_nm < 20 and photons > 300"'


@dataclass(frozen=True)
class Filter:
    """A condition on rows: its text, the columns that it names, and how it is worked out."""

    text: str
    columns: tuple[str, ...]
    _truths: Truths

    def apply(self, table: EmitterTable) -> np.ndarray:
        """Mask [E] of the rows that pass; only a row whose numbers meet the condition does, so a NaN never helps.

        `frame` counts from 0. Raises UsageError where the table lacks a column that is named.
        """
        for name in self.columns:
            if _column(table, name) is None:
                there = ", ".join(name for name in COLUMNS if _column(table, name) is not None)
                raise UsageError(f"filter {self.text!r}: the table has no column {name}", f"it has: {there}")
        with np.errstate(all="ignore"):
            holds, _ = self._truths(table)
        return np.broadcast_to(holds, len(table)).copy()


def parse_filter(text: str) -> Filter:
    """Read a filter; raises UsageError with the position of what cannot be read, and the nearest column's name."""
    parser = _Parser(text)
    truths = parser.truths(parser.tree)
    return Filter(text, tuple(parser.columns), truths)


def _column(table: EmitterTable, name: str) -> np.ndarray | None:
    return spread_xy_nm(table) if name == "uncertainty_xy_nm" else getattr(table, _FIELDS[name])


class _Token(NamedTuple):
    """A number, name or sign, or the end, and the character where it begins."""

    kind: str
    word: str
    at: int


class _Parser:
    """Splits and checks a text, has Python build its tree, and makes functions of a table of the tree's nodes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns: list[str] = []
        self.tokens = list(self._split())
        self.closed_by: dict[int, int] = {}  # tokens: parentheses that open, and the ones that close them
        self._check_order()
        # Operands are named by their place, so that any number is fine and a leaf tells which token it is.
        words = [
            _PYTHON.get(token.word, token.word) if token.kind == "sign" else f"_{place}"
            for place, token in enumerate(self.tokens[:-1])
        ]
        starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
        self.token_at = {start: place for place, start in enumerate(starts)}
        self.tree = ast.parse(" ".join(words), mode="eval").body

    def _split(self) -> Iterator[_Token]:
        end, at = len(self.text.rstrip()), 0
        while at < end:
            found = _TOKEN.match(self.text, at)
            if found is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                unknown = self.text[at]
                raise self._error(at, f"{unknown!r} is not understood", "equal is ==" if unknown == "=" else None)
            kind = str(found.lastgroup)
            sign = _WORDS.get(found[kind].lower())
            yield _Token("sign" if sign else kind, sign or found[kind], found.start(kind))
            at = found.end()
        yield _Token("end", "", end)

    def _error(self, at: int, what: str, hint: str | None = None) -> UsageError:
        return UsageError(f"filter {self.text!r}: at character {at + 1}: {what}", hint or _EXAMPLE)

    def _check_order(self) -> None:
        """Raise UsageError where an operand or a sign between operands is missing, or what is nested is too deep."""
        waiting: list[int] = []  # tokens: parentheses that are open, and signs before what they apply to
        complete, arithmetic = False, 0

        def settle(signs: str) -> None:
            while waiting and self.tokens[waiting[-1]].word in signs:
                waiting.pop()

        for place, (kind, word, at) in enumerate(self.tokens):
            before = self.tokens[place - 1].word if place else "("
            if not complete:
                if kind in ("number", "name"):
                    complete = True
                    settle("+-")
                elif word in ("(", "+", "-") or (word == "!" and before in "(&|!"):
                    waiting.append(place)
                    if len(waiting) > _DEEPEST:
                        raise self._error(at, f"more than {_DEEPEST} parentheses or signs within each other")
                else:
                    raise self._error(at, f"a number or a column is missing{f' before {word!r}' if word else ''}")
                continue
            if word in _BETWEEN:
                complete = False
                settle("!" if word in "&|" else "")
                arithmetic += word in "+-*/"
                if arithmetic > _MOST_ARITHMETIC:
                    raise self._error(at, f"more than {_MOST_ARITHMETIC} of + - * /")
                continue
            settle("!")
            if word == ")" and waiting:
                self.closed_by[waiting.pop()] = place
                settle("+-")
            elif waiting:
                opened = self.tokens[waiting[-1]].at + 1
                raise self._error(at, f"the parenthesis of character {opened} is not closed")
            elif kind != "end":
                raise self._error(at, f"{word!r} is not expected here")

    def _start(self, node: ast.expr) -> int:
        """The character where a node begins, with the parentheses around it."""
        first, after = self.token_at[node.col_offset], self.token_at[(node.end_col_offset or 0) + 1]
        while self.closed_by.get(first - 1) == after:
            first, after = first - 1, after + 1
        return self.tokens[first].at

    def truths(self, node: ast.expr) -> Truths:
        """The function of a condition; raises UsageError where the node is a number or holds what is not known."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return _inverted(self.truths(node.operand))
        if isinstance(node, ast.BoolOp):
            parts = [self.truths(value) for value in node.values]
            return _any(parts) if isinstance(node.op, ast.Or) else _all(parts)
        if isinstance(node, ast.Compare):
            sides = [self.numbers(side) for side in (node.left, *node.comparators)]
            links = zip(node.ops, sides, sides[1:], strict=False)
            return _all([_compared(_COMPARE[type(sign)], left, right) for sign, left, right in links])
        raise self._error(self._start(node), "a number stands where a condition is needed, such as photons > 300")

    def numbers(self, node: ast.expr) -> Numbers:
        """The function of a number per row; raises UsageError where the node is a condition or no column."""
        if isinstance(node, ast.Name):
            kind, word, at = self.tokens[int(node.id[1:])]
            return self._named(word, at) if kind == "name" else lambda table: np.asarray(float(word))
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
            part = self.numbers(node.operand)
            return part if isinstance(node.op, ast.UAdd) else lambda table: -part(table)
        if isinstance(node, ast.BinOp):
            apply, left, right = _ARITHMETIC[type(node.op)], self.numbers(node.left), self.numbers(node.right)
            return lambda table: apply(left(table), right(table))
        raise self._error(self._start(node), "a condition stands where a number is needed")

    def _named(self, word: str, at: int) -> Numbers:
        name = _NAMES.get(word.lower())
        if name is None:
            near = difflib.get_close_matches(word.lower(), _NAMES, n=1)
            nearest = f"did you mean {_NAMES[near[0]]}? " if near else ""
            raise self._error(at, f"no column {word!r}", f"{nearest}columns: {', '.join(COLUMNS)}")
        if name not in self.columns:
            self.columns.append(name)
        return lambda table: np.asarray(_column(table, name), np.float64)


def _compared(compare: Callable[..., np.ndarray], left: Numbers, right: Numbers) -> Truths:
    def truths(table: EmitterTable) -> tuple[np.ndarray, np.ndarray]:
        a, b = left(table), right(table)
        known = ~(np.isnan(a) | np.isnan(b))
        holds = compare(a, b)
        return holds & known, ~holds & known

    return truths


def _any(parts: Sequence[Truths]) -> Truths:
    """Holds where one of the parts does, does not where none does."""

    def truths(table: EmitterTable) -> tuple[np.ndarray, np.ndarray]:
        return reduce(lambda a, b: (a[0] | b[0], a[1] & b[1]), (part(table) for part in parts))

    return truths


def _all(parts: Sequence[Truths]) -> Truths:
    return _inverted(_any([_inverted(part) for part in parts]))


def _inverted(condition: Truths) -> Truths:
    def truths(table: EmitterTable) -> tuple[np.ndarray, np.ndarray]:
        holds, fails = condition(table)
        return fails, holds

    return truths
