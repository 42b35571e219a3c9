"""Bars and note values: how what lies on steps is written, with ties, dots and beams.

Lengths are in steps; a metre's `group` is what beams join and values do not hide: a beat, or three in 6/8 and its like.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from varcli.errors import UsageError
from varcli.pianoroll.roll import Roll

TYPES = ("whole", "half", "quarter", "eighth", "16th", "32nd", "64th")
_DENOMINATORS = (4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Measure:
    """A bar from `start` to `stop`, of a metre such as 6/8; the first may be an `upbeat`, shorter than its metre."""

    start: int
    stop: int
    beats: int
    beat_unit: int
    upbeat: bool = False


@dataclass(frozen=True)
class Value:
    """How a note is written: its length in steps, name, and dots."""

    steps: int
    type: str
    dots: int


def check_grid(quarter: int) -> None:
    """Raise UsageError for a grid of so many steps a beat if these have no note values."""
    if quarter & (quarter - 1) or quarter > 16:
        raise UsageError(f"--score: a grid of {quarter} steps a beat has no note values", "1, 2, 4, 8 and 16 have")


def measures_of(roll: Roll) -> list[Measure]:
    """The bars of a roll, the last one in full; raises UsageError for a grid that has no note values."""
    check_grid(roll.steps_per_beat)
    downbeats = range(0, roll.steps, roll.steps_per_bar) if roll.downbeats is None else roll.downbeats
    starts = sorted({0, *(step for step in map(int, downbeats) if 0 <= step < roll.steps)})
    lengths = [after - before for before, after in pairwise(starts)]
    rest = roll.steps - starts[-1]
    lengths.append(next((bar for bar in (*lengths[-1:], roll.steps_per_bar) if bar >= rest), rest))
    upbeat = len(lengths) > 1 and lengths[0] < min(lengths[1], roll.steps_per_bar)
    written = [lengths[1], *lengths[1:]] if upbeat else lengths
    return [
        Measure(start, start + length, *_metre(bar, roll), upbeat and not start)
        for start, length, bar in zip(starts, lengths, written, strict=True)
    ]


def _metre(bar: int, roll: Roll) -> tuple[int, int]:
    for unit in (roll.beat_units.get(bar, 4), *_DENOMINATORS):
        beats, rest = divmod(bar * unit, 4 * roll.steps_per_beat)
        if beats and not rest:
            return beats, unit
    raise AssertionError(f"no metre has bars of {bar} steps")


def group_of(measure: Measure, quarter: int) -> int:
    """The steps that beams join in a bar, `quarter` of which are a quarter note."""
    unit = 4 * quarter // measure.beat_unit
    compound = measure.beat_unit >= 8 and measure.beats % 3 == 0
    return max(3 * unit if compound and unit else quarter, 1)


def values(place: int, length: int, measure: Measure, quarter: int) -> Iterator[Value]:
    """The values, tied to each other, that fill `length` steps from a place in a bar on."""
    bar, group = measure.stop - measure.start, group_of(measure, quarter)
    known = _values(quarter)
    while length:
        one = next(one for one in known if one.steps <= length and _fits(place, one.steps, bar, group, measure.upbeat))
        yield one
        place, length = place + one.steps, length - one.steps


def _values(quarter: int) -> list[Value]:
    """All values of whole steps, the longest first."""
    found = []
    for number, name in enumerate(TYPES):
        steps, rest = divmod(4 * quarter, 2**number)
        if steps and not rest:
            found.append(Value(steps, name, 0))
            if steps % 2 == 0:
                found.append(Value(steps * 3 // 2, name, 1))
    return sorted(found, key=lambda one: -one.steps)


def _fits(place: int, steps: int, bar: int, group: int, upbeat: bool) -> bool:
    """Whether a value can stand there without hiding where the beats are."""
    stop = place + steps
    if upbeat or steps == 1 or place // group == (stop - 1) // group:
        return True
    middle = bar // 2 if bar == 4 * group else bar
    if place % group:
        syncopated = 2 * (place % group) == group and steps == group
        return syncopated and not place < middle < stop
    return steps % group == 0 or (group % 3 != 0 and not place < middle < stop)


def beams(heads: Sequence[tuple[int, Value] | None], group: int) -> list[list[str]]:
    """The beams of each of the notes of a voice in a bar, (place, value), None where a rest or a gap is.

    The first of a note's beams is that of eighths.
    """
    found: list[list[str]] = [[] for _ in heads]
    for _, members in groupby(range(len(heads)), key=lambda at: _beam_key(heads, at, group)):
        run = list(members)
        if heads[run[0]] is None or len(run) < 2:
            continue
        levels = [_flags(heads[at]) for at in run]
        for number, at in enumerate(run):
            for level in range(1, levels[number] + 1):
                before = number > 0 and levels[number - 1] >= level
                after = number + 1 < len(run) and levels[number + 1] >= level
                hook = "forward hook" if number == 0 else "backward hook"
                found[at].append(
                    {(False, True): "begin", (True, True): "continue", (True, False): "end"}.get((before, after), hook)
                )
    return found


def _beam_key(heads: Sequence[tuple[int, Value] | None], at: int, group: int) -> tuple[int, int]:
    """What notes under one beam have in common: their group, and how many rests and long notes stand before them."""
    head = heads[at]
    broken = sum(_flags(heads[before]) == 0 for before in range(at + 1))
    return (-1 - at, 0) if head is None or not _flags(head) else (head[0] // group, broken)


def _flags(head: tuple[int, Value] | None) -> int:
    return 0 if head is None else max(TYPES.index(head[1].type) - 2, 0)
