"""Filters of tables in a small language of their own, such as `uncertainty_xy_nm < 20 and photons > 300`.

Grammar, loosest first: `or |`, `and &`, `not !`, comparisons (`0.2 < probability <= 1` is a chain), `+ -`, `* /`,
unary minus, then numbers, columns and parentheses. Nothing of Python is ever run.
"""

import difflib
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
_COMPARE = {
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt},
    **{">=": operator.ge, "==": operator.eq, "!=": operator.ne},
}
_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_WORDS = {"and": "&", "or": "|", "not": "!"}
_DEEPEST = 50  # parentheses, minus signs and nots within each other
_EXAMPLE = 'for example "uncertainty_xy_nm < 20 and photons > 300"'


@dataclass(frozen=True)
class Filter:
    """A condition on rows: its text, the columns that it names, and how it is worked out."""

    text: str
    columns: tuple[str, ...]
    _truths: Truths

    def apply(self, table: EmitterTable) -> np.ndarray:
        """Mask [E] of the rows that pass; a row passes only where its numbers say so, so a NaN never helps it.

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
    return _Parser(text).parse()


def _column(table: EmitterTable, name: str) -> np.ndarray | None:
    return spread_xy_nm(table) if name == "uncertainty_xy_nm" else getattr(table, _FIELDS[name])


@dataclass(frozen=True)
class _Part:
    """A part of a filter that has been read: where it begins, and either its numbers or its truths."""

    at: int
    numbers: Numbers | None = None
    truths: Truths | None = None


class _Parser:
    """Reads by recursive descent: one method per row of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns: list[str] = []
        self.tokens = list(self._split())
        self.place = self.depth = 0

    def parse(self) -> Filter:
        part = self._either()
        kind, word, at = self.tokens[self.place]
        if kind != "end":
            raise self._error(at, f"{word!r} is not expected here")
        return Filter(self.text, tuple(self.columns), self._truths(part))

    def _split(self) -> Iterator[tuple[str, str, int]]:
        end, at = len(self.text.rstrip()), 0
        while at < end:
            found = _TOKEN.match(self.text, at)
            if found is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                unknown = self.text[at]
                raise self._error(at, f"{unknown!r} is not understood", "equal is ==" if unknown == "=" else None)
            kind = str(found.lastgroup)
            word = found[kind]
            sign = _WORDS.get(word.lower())
            yield ("sign" if sign else kind), sign or word, found.start(kind)
            at = found.end()
        yield "end", "", end

    def _error(self, at: int, what: str, hint: str | None = None) -> UsageError:
        return UsageError(f"filter {self.text!r}: at character {at + 1}: {what}", hint or _EXAMPLE)

    def _take(self, *signs: str) -> str | None:
        """The next token if it is one of these signs."""
        kind, word, _ = self.tokens[self.place]
        if kind != "sign" or word not in signs:
            return None
        self.place += 1
        return word

    def _either(self) -> _Part:
        part = self._both()
        while self._take("|"):
            left, right = self._truths(part), self._truths(self._both())
            part = _Part(part.at, truths=_joined(left, right))
        return part

    def _both(self) -> _Part:
        part = self._not()
        while self._take("&"):
            left, right = _inverted(self._truths(part)), _inverted(self._truths(self._not()))
            part = _Part(part.at, truths=_inverted(_joined(left, right)))
        return part

    def _not(self) -> _Part:
        at = self.tokens[self.place][2]
        if not self._take("!"):
            return self._comparison()
        self._descend(at)
        part = _Part(at, truths=_inverted(self._truths(self._not())))
        self.depth -= 1
        return part

    def _comparison(self) -> _Part:
        left = self._sum()
        chain: Truths | None = None
        at = left.at
        while sign := self._take(*_COMPARE):
            right = self._sum()
            link = _compared(sign, self._numbers(left), self._numbers(right))
            chain = link if chain is None else _inverted(_joined(_inverted(chain), _inverted(link)))
            left = right
        return left if chain is None else _Part(at, truths=chain)

    def _sum(self) -> _Part:
        part = self._product()
        while sign := self._take("+", "-"):
            part = _Part(part.at, _combined(sign, self._numbers(part), self._numbers(self._product())))
        return part

    def _product(self) -> _Part:
        part = self._signed()
        while sign := self._take("*", "/"):
            part = _Part(part.at, _combined(sign, self._numbers(part), self._numbers(self._signed())))
        return part

    def _signed(self) -> _Part:
        at = self.tokens[self.place][2]
        if not (sign := self._take("-", "+")):
            return self._atom()
        self._descend(at)
        part = self._numbers(self._signed())
        self.depth -= 1
        return _Part(at, part if sign == "+" else lambda table: -part(table))

    def _atom(self) -> _Part:
        kind, word, at = self.tokens[self.place]
        self.place += 1
        if kind == "number":
            number = np.asarray(float(word))
            return _Part(at, lambda table: number)
        if kind == "name":
            return _Part(at, self._named(word, at))
        if word != "(":
            raise self._error(at, f"a number or a column is missing{f' before {word!r}' if word else ''}")
        self._descend(at)
        part = self._either()
        if not self._take(")"):
            raise self._error(self.tokens[self.place][2], f"the parenthesis of character {at + 1} is not closed")
        self.depth -= 1
        return _Part(at, part.numbers, part.truths)

    def _descend(self, at: int) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._error(at, f"more than {_DEEPEST} parentheses or signs within each other")

    def _named(self, word: str, at: int) -> Numbers:
        name = _NAMES.get(word.lower())
        if name is None:
            near = difflib.get_close_matches(word.lower(), _NAMES, n=1)
            nearest = f"did you mean {_NAMES[near[0]]}? " if near else ""
            raise self._error(at, f"no column {word!r}", f"{nearest}columns: {', '.join(COLUMNS)}")
        if name not in self.columns:
            self.columns.append(name)
        return lambda table: np.asarray(_column(table, name), np.float64)

    def _numbers(self, part: _Part) -> Numbers:
        if part.numbers is None:
            raise self._error(part.at, "a condition stands where a number is needed")
        return part.numbers

    def _truths(self, part: _Part) -> Truths:
        if part.truths is None:
            raise self._error(part.at, "a number stands where a condition is needed, such as photons > 300")
        return part.truths


def _combined(sign: str, left: Numbers, right: Numbers) -> Numbers:
    return lambda table: _ARITHMETIC[sign](left(table), right(table))


def _compared(sign: str, left: Numbers, right: Numbers) -> Truths:
    def truths(table: EmitterTable) -> tuple[np.ndarray, np.ndarray]:
        a, b = left(table), right(table)
        known = ~(np.isnan(a) | np.isnan(b))
        holds = _COMPARE[sign](a, b)
        return holds & known, ~holds & known

    return truths


def _joined(left: Truths, right: Truths) -> Truths:
    """Either of them: holds where one does, does not where neither does."""

    def truths(table: EmitterTable) -> tuple[np.ndarray, np.ndarray]:
        (yes_a, no_a), (yes_b, no_b) = left(table), right(table)
        return yes_a | yes_b, no_a & no_b

    return truths


def _inverted(condition: Truths) -> Truths:
    def truths(table: EmitterTable) -> tuple[np.ndarray, np.ndarray]:
        yes, no = condition(table)
        return no, yes

    return truths
