"""What the columns of a canvas know of the whole, compiled: passages to copy from, and pitch classes.

The same as `copy_attention.find` and `count_pitch_classes`, for one column at a time, when level 0 comes to it.

Shapes: P pitches, w steps of a column, C columns, K candidates.
"""

import numpy as np

from varcli.compiled import kernel
from varcli.pianoroll.config import CLOSENESS, HARMONY_PLACES
from varcli.pianoroll.constants import (
    CHORD_KINDS,
    FAST,
    GIVEN,
    LONGEST_RUN,
    METRE,
    NEAR_COLUMNS_IN_STEPS,
    REACH,
    ROW,
    SLOW,
    TRAITS,
)
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays
from varcli.pianoroll.inference.nodes import CODE
from varcli.pianoroll.inference.tokens import HIDDEN, sounds
from varcli.pianoroll.roll import ONSET

SLOWER = np.array([SLOW ** (j - 1) for j in range(1, REACH + 1)], np.float32)
FASTER = np.array([FAST ** (j - 1) for j in range(1, REACH + 1)], np.float32)
LEAST = np.array([0.25, 0.0], np.float32)
"""How alike two empty columns are: known ones a little, others not."""
RECENT, RUN_SLOW, NONE = np.float32(1e-5), np.float32(0.02), np.float32(-1e30)
BARS = np.array(METRE)
PITCH_CLASSES = 12
ZERO, ONE, TWO, FOUR = np.float32(0), np.float32(1), np.float32(2), np.float32(4)


@kernel(allocates=False)
def refresh(model: ModelArrays, sample: SampleArrays, column: int) -> None:
    """Find anew what a column knows, by all that level 0 knows now."""
    if model.run[f.CANDIDATES]:
        _find(model, sample, column)
    if model.run[f.HEARS]:
        _hear_all(model, sample, column)
    if model.run[f.PLAN_ROWS] > model.run[f.FORM_ROWS]:
        for other in range(max(0, column - 1), column + 1):
            _read_harmony(model, sample, other)


@kernel(allocates=False)
def known(model: ModelArrays, sample: SampleArrays, at: int) -> np.uint8:
    """The code of a cell of the flat canvas, UNKNOWN where level 0 does not know it, as `Canvas.known_at_top`."""
    code = sample.codes[at]
    if model.run[f.COLUMNS_IN_ORDER] or sample.reveal[at] == 0 or code >= GIVEN:
        return code
    return HIDDEN


@kernel(allocates=False)
def take_patterns(model: ModelArrays, sample: SampleArrays, column: int) -> None:
    """Write to `patterns` which cells of all columns begin a note, as far as a column knows them."""
    run = model.run
    w, P, least = run[f.COLUMN], run[f.PITCHES] - run[f.PLAN_ROWS], 0 if run[f.BINARY] else 1
    for other in range(run[f.COLUMNS]):
        pattern, count, given = sample.patterns[other], 0, 0
        for p in range(P):
            first = (p + run[f.PLAN_ROWS]) * run[f.STRIDE] + other * w + run[f.ORIGIN]
            for i in range(w):
                code = known(model, sample, first + i)
                is_given = code >= GIVEN and code != HIDDEN
                given += is_given
                if run[f.SIDES] == f.GIVEN_LATER and other >= column and not is_given:
                    code = HIDDEN
                begins = code != HIDDEN and code & CODE > least
                pattern[p * w + i] = begins
                count += begins
        sample.counted[other, 0], sample.counted[other, 1] = count, given


@kernel(allocates=False)
def _alike(model: ModelArrays, sample: SampleArrays, a: int, b: int, column: int) -> tuple[np.float32, bool]:
    """How alike two columns are (Dice's coefficient), and whether they are known to be equal."""
    one, other, joint = sample.patterns[a], sample.patterns[b], 0
    for i in range(len(one)):
        joint += one[i] & other[i]
    both = sample.counted[a, 0] + sample.counted[b, 0]
    in_past = model.run[f.SIDES] != f.BOTH and a < column and b < column
    whole = in_past or sample.counted[b, 1] == len(one)
    alike = TWO * np.float32(joint) / np.float32(both) if both else LEAST[0 if in_past else 1]
    return alike, whole and 2 * joint == both


@kernel(allocates=False)
def _score(model: ModelArrays, sample: SampleArrays, column: int, other: int) -> None:
    """Write to `scores` how well the surroundings of two columns agree: in the long view, the short, and equal columns
    on end."""
    C, sides = model.run[f.COLUMNS], model.run[f.SIDES]
    slow = fast = run = ZERO
    on_end = sides != f.BOTH
    for j in range(1, min(max(REACH, LONGEST_RUN), C - 1) + 1):
        if column >= j and other >= j and (j <= REACH or on_end):
            alike, same = _alike(model, sample, column - j, other - j, column)
            if j <= REACH:
                slow += SLOWER[j - 1] * alike
                fast += FASTER[j - 1] * alike
            on_end = on_end and same
        else:
            on_end = False
        run += np.float32(on_end)
        if sides != f.PAST and j <= REACH and max(column, other) + j < C:
            alike, same = _alike(model, sample, column + j, other + j, column)
            slow += SLOWER[j - 1] * alike
            fast += FASTER[j - 1] * alike
    if sides != f.PAST:
        alike, same = _alike(model, sample, column, other, column)
        slow += alike
        fast += alike
    scores = sample.scores[other]
    scores[0], scores[1], scores[2] = slow, fast, run


@kernel(allocates=False)
def _find(model: ModelArrays, sample: SampleArrays, column: int) -> None:
    """Write the candidates of a column to `shift` and `traits`."""
    run = model.run
    K, C, sides = run[f.CANDIDATES], run[f.COLUMNS], run[f.SIDES]
    take_patterns(model, sample, column)
    for other in range(C):
        later = other > column and (sides == f.BOTH or (sides == f.GIVEN_LATER and sample.counted[other, 1] > 0))
        sample.scores[other, 3] = ONE if other < column or later else ZERO
        if sample.scores[other, 3]:
            _score(model, sample, column, other)
    planned = run[f.PLAN_ROWS] > 0
    exact = 0 if sides == f.BOTH else min((K - planned) // 2, C)
    for k in range(K - planned):
        best, most = -1, NONE
        for other in range(C):
            scores = sample.scores[other]
            if scores[3]:
                score = scores[2] + RUN_SLOW * scores[0] if k < exact else scores[0]
                score -= np.float32(abs(column - other)) * RECENT
                if score > most:
                    best, most = other, score
        sample.shift[column, k] = (best - column) * run[f.COLUMN] if best >= 0 else 0
        if best >= 0:
            sample.scores[best, 3] = ZERO
            _describe(model, sample, column, k, best)
    if planned:
        _find_planned(model, sample, column)


@kernel(allocates=False)
def _describe(model: ModelArrays, sample: SampleArrays, column: int, k: int, other: int) -> None:
    """Write the traits of a candidate."""
    traits, scores = sample.traits[column * model.run[f.CANDIDATES] + k], sample.scores[other]
    away = abs(sample.shift[column, k])
    traits[0], traits[1], traits[2] = scores[0] / FOUR, scores[1], np.log1p(scores[2]) / TWO
    traits[3] = np.float32(np.log2(np.float64(max(away, 1))) / 8)
    traits[4] = ONE if other > column else ZERO
    for i in range(len(BARS)):
        bars = max(1, int(np.rint(model.run[f.STEPS_PER_BAR] * BARS[i])))
        traits[5 + i] = ONE if away % bars == 0 else ZERO


@kernel(allocates=False)
def _find_planned(model: ModelArrays, sample: SampleArrays, column: int) -> None:
    """Write the candidate that the plan says, the last one, and how closely the bar returns to the traits of all."""
    run, K, back = model.run, model.run[f.CANDIDATES], 0
    for row in range(1, run[f.FORM_ROWS]):
        if _planned(model, sample, column, row) > _planned(model, sample, column, back):
            back = row
    if back > column:
        back = 0
    how = min(max(_planned(model, sample, column, back) - ONSET, 0), len(CLOSENESS) - 1)
    sample.shift[column, K - 1] = -back * run[f.COLUMN]
    if back:
        _describe(model, sample, column, K - 1, column - back)
    for k in range(K):
        traits = sample.traits[column * K + k]
        traits[TRAITS] = ONE if k + 1 == K else ZERO
        for i in range(len(CLOSENESS)):
            traits[TRAITS + 1 + i] = ONE if i == how else ZERO


@kernel(allocates=False)
def _planned(model: ModelArrays, sample: SampleArrays, column: int, row: int) -> int:
    """The largest code in a column of a row of the plan."""
    most, first = 0, row * model.run[f.STRIDE] + column * model.run[f.COLUMN] + model.run[f.ORIGIN]
    for at in range(first, first + model.run[f.COLUMN]):
        code = known(model, sample, at)
        if code != HIDDEN:
            most = max(most, code & CODE)
    return int(most)


@kernel(allocates=False)
def _read_harmony(model: ModelArrays, sample: SampleArrays, column: int) -> None:
    """Write to `said` what the plan says of the harmony of a column, as `harmony_said`."""
    key, minor = _read(model, sample, column, 0, False)
    first, second = _chord(model, sample, column, 1, False), _chord(model, sample, column, 2, False)
    after = _chord(model, sample, column + 1, 1, True) if column + 1 < model.run[f.COLUMNS] else 0
    said, density = sample.said, _read(model, sample, column, 3, False)[1]
    for half in (1 + 2 * column, 2 + 2 * column):
        said[half, 2] = 1 + key + PITCH_CLASSES * minor if key >= 0 else 0
        said[half, 3] = 1 + density
    said[1 + 2 * column, 0], said[1 + 2 * column, 1] = first, second
    said[2 + 2 * column, 0], said[2 + 2 * column, 1] = second, after


@kernel(allocates=False)
def _chord(model: ModelArrays, sample: SampleArrays, column: int, place: int, given: bool) -> int:
    root, kind = _read(model, sample, column, place, given)
    if root < 0:
        return 0
    return 1 + kind * PITCH_CLASSES + root if root < PITCH_CLASSES else CHORD_KINDS - 1


@kernel(allocates=False)
def _read(model: ModelArrays, sample: SampleArrays, column: int, place: int, given: bool) -> tuple[int, int]:
    """The row that holds something at one of the places of a column's plan, and its class; -1 for both if none does.

    With `given` no other cells than such count.
    """
    run, row, most = model.run, -1, 0
    t = column * run[f.COLUMN] + place * run[f.COLUMN] // HARMONY_PLACES
    for r in range(PITCH_CLASSES + 1):
        code = known(model, sample, (run[f.FORM_ROWS] + r) * run[f.STRIDE] + t + run[f.ORIGIN])
        if code != HIDDEN and code & CODE > most and (code >= GIVEN or not given):
            row, most = r, code & CODE
    return row, int(max(most - ONSET, 0)) if row >= 0 else -1


@kernel(allocates=False)
def count_below(model: ModelArrays, sample: SampleArrays, p: int, t: int) -> None:
    """Count in the rows under a node, whole eights of them, cells that sound in its column and in each candidate's,
    here alone, and there alone; in all rows where level 0 knows both sides. Kept for the node of level 0 it lies in."""
    run, column, patch = model.run, t // model.run[f.COLUMN], p // model.run[f.PATCH_HEIGHT]
    both_sides = run[f.SIDES] == f.BOTH
    plan_rows = run[f.PLAN_ROWS]
    rows = max((p if run[f.KNOWS_BELOW] else patch * run[f.PATCH_HEIGHT]) - plan_rows, 0) // ROW * ROW
    place = (patch * run[f.COLUMNS] + column) * run[f.CANDIDATES]
    for k in range(run[f.CANDIDATES]):
        shift = sample.shift[column, k]
        both = here_only = there_only = 0
        if shift != 0:
            for pitch in range(plan_rows, run[f.PITCHES] if both_sides else plan_rows + rows):
                first = pitch * run[f.STRIDE] + column * run[f.COLUMN] + run[f.ORIGIN]
                for at in range(first, first + run[f.COLUMN]):
                    one, other = known(model, sample, at), known(model, sample, at + shift)
                    if shift > 0 and other < GIVEN and not both_sides:
                        other = HIDDEN
                    if one != HIDDEN and other != HIDDEN:
                        here, there = sounds(one), sounds(other)
                        both += here and there
                        here_only += here and not there
                        there_only += there and not here
        below = sample.below[place + k]
        below[0], below[1], below[2] = min(both, 255), min(here_only, 255), min(there_only, 255)


@kernel(allocates=False)
def _hear_all(model: ModelArrays, sample: SampleArrays, column: int) -> None:
    """Write to `heard` the shares of the pitch classes near a column and in all it knows, and how much there is."""
    run, counts = model.run, sample.numbers
    w, C = run[f.COLUMN], run[f.COLUMNS]
    reach = max(1, NEAR_COLUMNS_IN_STEPS // w)
    for i in range(2 * PITCH_CLASSES):
        counts[i] = 0.0
    for p in range(run[f.PLAN_ROWS], run[f.PITCHES]):
        for other in range(C):
            if other >= column and run[f.COLUMNS_IN_ORDER] and not run[f.CONDITIONING]:
                break
            first, sounding = p * run[f.STRIDE] + other * w + run[f.ORIGIN], 0
            for i in range(w):
                code = known(model, sample, first + i)
                later = other >= column and run[f.COLUMNS_IN_ORDER]
                sounding += sounds(code) and (not later or code >= GIVEN)
            pitch_class = (p - run[f.PLAN_ROWS]) % PITCH_CLASSES
            counts[PITCH_CLASSES + pitch_class] += sounding
            if abs(other - column) <= reach:
                counts[pitch_class] += sounding
    heard = sample.heard[column]
    for part in range(2):
        total = 0.0
        for i in range(PITCH_CLASSES):
            total += counts[part * PITCH_CLASSES + i]
        for i in range(PITCH_CLASSES):
            share = np.float32(counts[part * PITCH_CLASSES + i]) * FOUR / (np.float32(total) + FOUR)
            heard[part * PITCH_CLASSES + i] = share
        heard[2 * PITCH_CLASSES + part] = np.float32(np.log1p(total)) / FOUR
