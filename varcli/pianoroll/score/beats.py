"""Beat annotations and grids: where the steps and bars of a piece lie.

A grid puts times on steps. A MIDI file brings one in ticks (its time signatures say where bars begin); an annotation
beside it, such as POP909's `beat_midi.txt`, brings a better one in seconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from varcli.errors import VarError
from varcli.pianoroll.roll import Roll

_SHORTEST_BEAT, _LONGEST = 1e-3, 1e6  # seconds
_EDGE_BEATS = 4  # beats whose median length carries the grid on beyond its first and last beat


@dataclass(frozen=True)
class BeatGrid:
    """Annotated beats: `seconds` f64 [N], increasing, and `downbeats`, the indices (i64) of those that start a bar."""

    seconds: np.ndarray
    downbeats: np.ndarray

    @property
    def beats_per_bar(self) -> int:
        """The commonest distance of two downbeats, in beats; 4 where that is unknown."""
        lengths = np.diff(self.downbeats)
        return int(np.bincount(lengths).argmax()) if len(lengths) else 4

    def beats_at(self, seconds: np.ndarray) -> np.ndarray:
        """Position of times on the beat count, f64: linear between beats and beyond the first and last one."""
        lengths = np.diff(self.seconds)
        head, tail = np.median(lengths[:_EDGE_BEATS]), np.median(lengths[-_EDGE_BEATS:])
        inside = np.interp(seconds, self.seconds, np.arange(len(self.seconds)))
        before = np.minimum(seconds - self.seconds[0], 0) / head
        after = np.maximum(seconds - self.seconds[-1], 0) / tail
        return inside + before + after

    def origin(self, first_beat: float) -> int:
        """The last beat, on or before `first_beat`, that starts a bar; may be negative.

        Bars of the usual length stand before the first and after the last annotated downbeat.
        """
        known = self._known
        at = int(np.searchsorted(known, first_beat, side="right"))
        if 0 < at < len(known):
            return int(known[at - 1])
        anchor = int(known[0] if at == 0 else known[-1])
        return anchor + self.beats_per_bar * int(np.floor((first_beat - anchor) / self.beats_per_bar))

    def bar_starts(self, first: int, last: int) -> np.ndarray:
        """Beats that start a bar, i64, from the bar start `first` up to and without beat `last` (see `origin`)."""
        bar, known = self.beats_per_bar, self._known
        head = np.arange(known[0] - (known[0] - first) // bar * bar, min(int(known[0]), last), bar)
        past = max(1, -((known[-1] - first) // bar))
        tail = np.arange(known[-1] + past * bar, last, bar)
        starts = np.concatenate([head, known, tail])
        return starts[(starts >= first) & (starts < last)]

    @property
    def _known(self) -> np.ndarray:
        return self.downbeats if len(self.downbeats) else np.array([0])


def parse_beats(text: str, name: str) -> BeatGrid:
    """Read an annotation: a line per beat, seconds first, the last of at least two columns not 0 where a bar starts.

    Raises VarError for anything else; `name` says in it which file it was.
    """
    hint = "each line holds the seconds of a beat and a flag that is 1 where a bar starts"
    try:
        rows = [[float(word) for word in line.replace(",", " ").split()] for line in text.splitlines() if line.strip()]
    except ValueError:
        raise VarError(f"{name}: not lines of numbers", hint) from None
    if len(rows) < 2 or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        raise VarError(f"{name}: fewer than two beats, or lines of unequal length", hint)
    table = np.array(rows)
    seconds = table[:, 0]
    if not np.all(np.isfinite(table)) or np.any(np.diff(seconds) < _SHORTEST_BEAT) or np.ptp(seconds) > _LONGEST:
        raise VarError(f"{name}: the beats do not follow one another in time", hint)
    return BeatGrid(seconds, np.flatnonzero(table[:, -1] != 0))


@dataclass(frozen=True)
class TempoMap:
    """Tempo changes of a MIDI file: from `ticks` (i64, first 0) on, a quarter note lasts `beat_us` microseconds."""

    ticks: np.ndarray
    beat_us: np.ndarray
    ticks_per_beat: int

    def seconds(self, ticks: np.ndarray) -> np.ndarray:
        """Times of ticks, f64."""
        per_tick = self.beat_us * 1e-6 / self.ticks_per_beat
        starts = np.r_[0.0, np.cumsum(np.diff(self.ticks) * per_tick[:-1])]
        at = np.searchsorted(self.ticks, ticks, side="right") - 1
        return starts[at] + (ticks - self.ticks[at]) * per_tick[at]

    def bpm(self, end_tick: int) -> float:
        """Mean tempo up to `end_tick` in beats per minute, each tempo weighted by the time it lasts."""
        end = max(end_tick, 1)
        seconds = float(self.seconds(np.array([end]))[0])
        return 60.0 * end / self.ticks_per_beat / seconds


def signature_bars(signatures: list[tuple[int, int, int]], ticks_per_beat: int, end_tick: int) -> np.ndarray:
    """Ticks (f64) of bar starts up to the first one at or after `end_tick`.

    `signatures` are (tick, numerator, denominator). 4/4 holds until the first one; each starts a bar where it stands.
    Those with bars shorter than a 16th note are no music and do not count. Where no whole number of bars comes before
    the second one, the first bar is short, an upbeat; later ones are cut short where the next signature stands.
    """
    usable = {tick: 4 * top / bottom for tick, top, bottom in signatures if 16 * top >= bottom and tick < end_tick}
    changes = sorted(({0: 4.0} | usable).items())
    bars = [np.arange(tick, stop, beats * ticks_per_beat) for (tick, beats), (stop, _) in pairwise(changes)]
    if len(changes) > 1 and (upbeat := changes[1][0] % (changes[0][1] * ticks_per_beat)):
        bars[0] = np.r_[0.0, np.arange(upbeat, changes[1][0], changes[0][1] * ticks_per_beat)]
    tick, beats = changes[-1]
    length = beats * ticks_per_beat
    bars.append(tick + length * np.arange(np.ceil((end_tick - tick) / length) + 1))
    return np.concatenate(bars)


def signatures_of(roll: Roll, told: Sequence[tuple[float, int, int]]) -> Iterator[tuple[int, int, int]]:
    """(step, numerator, denominator) of the time signatures that put bar starts where the roll has them.

    Those `told` are taken for bars that are of their length.
    """
    bars = sorted({0, *(roll.downbeats or ())})
    rest_of_roll = roll.steps - bars[-1] if roll.downbeats else 0
    lengths = [b - a for a, b in pairwise(bars)] + [max(rest_of_roll, roll.steps_per_bar)]
    before = None
    for bar, length in zip(bars, lengths, strict=True):
        top, bottom = next((each[1:] for each in reversed(told) if each[0] < bar + 0.5), (0, 1))
        units = (roll.beat_units.get(length, 4), 4, 8, 16, 32, 64)
        signature = None
        for denominator in (bottom, *units) if length * bottom == 4 * top * roll.steps_per_beat else units:
            numerator, rest = divmod(length * denominator, 4 * roll.steps_per_beat)
            if not rest and 0 < numerator < 256:
                signature = numerator, denominator
                break
        if signature is not None and signature != before:
            yield bar, *signature
        before = signature
