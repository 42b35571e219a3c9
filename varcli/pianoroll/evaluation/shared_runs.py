"""How much of a piece was there before: the longest run of notes that it shares with any piece of a corpus.

A run is a row of onset groups (the notes that begin on one step). Two runs are shared if the same steps lie between
their groups and every group has the same pitches, all moved by one and the same interval. How long and how loud notes
are does not matter. Silence is not shared: a run begins and ends with an onset, and it breaks where more than a bar
passes without one. Either all voices must agree, or only the highest note of each group: a melody may come back over
another accompaniment.

Every group becomes a token (steps and interval of the lowest note since the group before, pitches above the lowest),
which is the same in every transposition. The longest runs from all groups are then found at once, in a suffix array
made by doubling (Karp, Miller and Rosenberg, 1972; Manber and Myers, 1993).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from varcli.pianoroll.roll import PITCHES, Vocabulary, note_arrays


class Voices(StrEnum):
    """Which notes of a group must agree."""

    all = "all_voices"
    top = "top_line"


@dataclass(frozen=True)
class SharedRun:
    """A run of `notes` notes over `steps` steps, from its first onset to its last, both included.

    It begins at step `step` of the canvas looked at and at step `found_step` of the canvas `found` (an index into those
    searched), and is `transposition` semitones higher than there.
    """

    steps: int
    notes: int
    step: int
    found: int
    found_step: int
    transposition: int


NOTHING = SharedRun(0, 0, 0, -1, 0, 0)


@dataclass(frozen=True)
class Shared:
    """What one canvas shares with those searched: the run of the most steps, and that of the most notes."""

    longest: SharedRun = NOTHING
    richest: SharedRun = NOTHING


@dataclass(frozen=True)
class _Groups:
    """Onset groups of many canvases, one after the other: columns i64 [G].

    `canvas` and `step` say where each is, `low` is its lowest pitch, `notes` how many it has, `shape` numbers the
    pitches above the lowest, `token` numbers shape, steps and interval since the group before. A token that no run may
    go through, because nothing or too much silence lies before it, is unique.
    """

    canvas: np.ndarray
    step: np.ndarray
    low: np.ndarray
    notes: np.ndarray
    shape: np.ndarray
    token: np.ndarray


def shared_runs(
    canvases: Sequence[np.ndarray],
    searched: Sequence[np.ndarray],
    vocabulary: Vocabulary,
    *,
    voices: Voices = Voices.all,
    steps_per_bar: int = 16,
) -> list[Shared]:
    """What each canvas u8 [P, T] shares with any of those searched, in any transposition.

    Of equally long runs it is the one with more of the other (notes or steps), and of those the earliest. Searching
    650 songs for 500 windows takes a second or two.
    """
    groups = _groups([*canvases, *searched], vocabulary, voices, steps_per_bar)
    asked = np.flatnonzero(groups.canvas < len(canvases))
    found = [Shared()] * len(canvases)
    if not len(asked):
        return found
    ranks = _prefix_ranks(groups.token, int(np.bincount(groups.canvas[asked]).max()))
    length, partner = _longest_from(groups, ranks, asked)
    asked, length, partner = asked[length > 0], length[length > 0], partner[length > 0]
    total = np.cumsum(groups.notes)
    last = asked + length - 1
    steps = groups.step[last] - groups.step[asked] + 1
    notes = total[last] - total[asked] + groups.notes[asked]

    def run(at: int) -> SharedRun:
        mine, theirs = asked[at], partner[at]
        return SharedRun(
            steps=int(steps[at]),
            notes=int(notes[at]),
            step=int(groups.step[mine]),
            found=int(groups.canvas[theirs]) - len(canvases),
            found_step=int(groups.step[theirs]),
            transposition=int(groups.low[mine] - groups.low[theirs]),
        )

    owner, begin = groups.canvas[asked], groups.step[asked]
    longest = _first_of_each(owner, np.lexsort((begin, -notes, -steps, owner)))
    richest = _first_of_each(owner, np.lexsort((begin, -steps, -notes, owner)))
    for one, other in zip(longest, richest, strict=True):
        found[int(owner[one])] = Shared(run(one), run(other))
    return found


def _first_of_each(owner: np.ndarray, order: np.ndarray) -> list[int]:
    return order[np.unique(owner[order], return_index=True)[1]].tolist()


def _groups(canvases: Sequence[np.ndarray], vocabulary: Vocabulary, voices: Voices, steps_per_bar: int) -> _Groups:
    found = [note_arrays(cells, vocabulary) for cells in canvases]
    canvas = np.repeat(np.arange(len(found)), [len(notes.pitch) for notes in found])
    step = np.concatenate([notes.start for notes in found])
    pitch = np.concatenate([notes.pitch for notes in found])
    order = np.lexsort((pitch, step, canvas))
    canvas, step, pitch = canvas[order], step[order], pitch[order]
    same_step = (np.diff(canvas) == 0) & (np.diff(step) == 0)
    if voices is Voices.top:
        highest = np.flatnonzero(np.r_[~same_step, True][: len(step)])
        canvas, step, pitch = canvas[highest], step[highest], pitch[highest]
        same_step = np.zeros(max(len(highest) - 1, 0), bool)
    first = np.flatnonzero(np.r_[True, ~same_step][: len(step)])
    notes = np.diff(np.r_[first, len(step)])
    canvas, step, low = canvas[first], step[first], pitch[first]
    shape = _shapes(pitch - np.repeat(low, notes), first)
    since, interval = np.diff(step, prepend=0), np.diff(low, prepend=0)
    through = np.r_[False, np.diff(canvas) == 0][: len(first)] & (since <= steps_per_bar)
    key = (shape * (steps_per_bar + 1) + since) * 2 * PITCHES + interval + PITCHES
    token = np.unique(np.where(through, key, -1 - np.arange(len(first))), return_inverse=True)[1]
    return _Groups(canvas, step, low, notes, shape, token)


def _shapes(above: np.ndarray, first: np.ndarray) -> np.ndarray:
    """A number per group for its set of pitches above the lowest; groups start at `first`."""
    if not len(first):
        return first
    # The sum of random words stands for a set: among a million of sets, two alike have odds of one in ten million.
    words = np.random.default_rng(0).integers(0, 1 << 64, PITCHES, np.uint64)
    return np.unique(np.add.reduceat(words[above], first), return_inverse=True)[1]


def _prefix_ranks(token: np.ndarray, most: int) -> list[np.ndarray]:
    """Row k, i64 [G + 1], is the alphabetical rank of the 2**k tokens from each place on; the last rows reach `most`.

    Place G is the end, which is like nothing else.
    """
    rows = [np.r_[token + 1, 0]]
    width = 1
    while width < most:
        row = rows[-1]
        later = np.r_[row[width:], np.zeros(min(width, len(row)), np.int64)]
        rows.append(np.unique(row * (len(row) + 1) + later, return_inverse=True)[1])
        width *= 2
    return rows


def _longest_from(groups: _Groups, ranks: list[np.ndarray], asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups in the longest shared run from each asked group on (0 if none), and where it is found: i64 [A] each.

    The first group of a run only has to have the same shape; from the next on tokens must agree. In alphabetical order
    the likest of the groups searched is the next one before or after.
    """
    order = np.lexsort((ranks[-1][1:], groups.shape))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    is_asked = np.zeros(len(order), bool)
    is_asked[asked] = True
    known = np.arange(len(order))
    before = np.maximum.accumulate(np.where(is_asked[order], -1, known))
    after = np.minimum.accumulate(np.where(is_asked[order], len(order), known)[::-1])[::-1]
    best, partner = np.zeros_like(asked), np.full_like(asked, -1)
    for neighbour in (before[place[asked]], after[place[asked]]):
        inside = (neighbour >= 0) & (neighbour < len(order))
        theirs = order[np.where(inside, neighbour, 0)]
        alike = inside & (groups.shape[theirs] == groups.shape[asked])
        length = np.where(alike, 1 + _in_common(ranks, asked + 1, theirs + 1), 0)
        partner = np.where(length > best, theirs, partner)
        best = np.maximum(best, length)
    return best, partner


def _in_common(ranks: list[np.ndarray], one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How many tokens two places i64 [A] have in common from there on."""
    end = len(ranks[0]) - 1
    length = np.zeros_like(one)
    for level in reversed(range(len(ranks))):
        here, there = np.minimum(one + length, end), np.minimum(other + length, end)
        length += np.where(ranks[level][here] == ranks[level][there], 1 << level, 0)
    return length
