"""Cells given beforehand while a model learns to be conditioned: a beginning, all but some holes, or one voice.

Shapes: V voices, P pitches of a plane, T steps, R rows of a canvas of planes and a plan.
"""

import numpy as np

from varcli.pianoroll.config import FORM_ROWS
from varcli.pianoroll.harmony import places, rows_allowed
from varcli.pianoroll.planes import Planes

SMALLEST_HOLE = 4
IN_ALL_PLANES = 0.6
"""Share of the holes that lie in all voices."""
ALL_BUT_ONE = 0.4
"""Share of the given voices that are all but one."""
PLAN_ALONE = 0.4
"""Share of crops, of those with nothing or a voice given, whose plan is given."""
PART_GIVEN = 0.6
"""Share in which each part of such a plan is given, of several: form, key, chords, density."""


def draw_given(
    canvas: np.ndarray,
    rng: np.random.Generator,
    holes: float = 0.2,
    planes: Planes | None = None,
    steps_per_bar: int = 16,
) -> np.ndarray:
    """Cells given beforehand of a canvas u8 [R, T], bool [R, T]; its layout is `planes` (None: a plane alone).

    For a share `holes` of all canvases that is all but some holes, for 0.7 less that share it is nothing, and otherwise
    a beginning, a voice, or some regions. Of several planes a voice is one or all but one of them, whole, and holes and
    regions lie in all planes or in one. A plan is given where it is known from what is given (see `Plan.known`), and
    sometimes by itself.
    """
    planes = planes or Planes(pitches=len(canvas))
    codes = planes.by_voice(canvas)
    kinds = ("nothing", "beginning", "surroundings", "voice", "scattered")
    kind = str(rng.choice(kinds, p=(0.7 - holes, 0.1, holes, 0.12, 0.08)))
    given = _given(codes, kind, rng)
    found = np.concatenate([np.zeros((planes.plan_rows, canvas.shape[1]), bool), given.reshape(-1, canvas.shape[1])])
    if planes.plan_rows and kind in ("nothing", "voice") and rng.random() < PLAN_ALONE:
        found[: planes.plan_rows] = _plan_given(planes, canvas.shape[1], steps_per_bar, rng)
    else:
        found[: planes.plan_rows] = planes.plan_known(canvas, found, steps_per_bar)
    return found


def _plan_given(planes: Planes, steps: int, steps_per_bar: int, rng: np.random.Generator) -> np.ndarray:
    """Cells given of a plan, bool [plan rows, T]: of one of the form all, of others each part at random."""
    given = np.ones((planes.plan_rows, steps), bool)
    if planes.has_harmony:
        form, key, chords, density = rng.random(4) < PART_GIVEN
        given[:FORM_ROWS] = form
        given[FORM_ROWS:] = ~rows_allowed(steps, steps_per_bar).any(0)
        for at, part in zip(places(steps_per_bar), (key, chords, chords, density), strict=True):
            given[FORM_ROWS:, at::steps_per_bar] = part
    return given


def _given(codes: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Cells given of planes u8 [V, P, T], bool [V, P, T]."""
    given = np.zeros(codes.shape, bool)
    if kind == "beginning":
        given[..., : rng.integers(1, max(2, codes.shape[2]))] = True
    elif kind == "surroundings":
        given[:] = True
        for _ in range(rng.integers(1, 4)):
            given[_region(codes, rng)] = False
    elif kind == "voice" and len(codes) > 1:
        used = np.flatnonzero(codes.any((1, 2)))
        chosen = int(rng.choice(used)) if len(used) else 0
        all_but = rng.random() < ALL_BUT_ONE
        given[:] = all_but
        given[chosen] = not all_but
    elif kind == "voice":
        given[0] = _voice(codes[0], rng)
    elif kind == "scattered":
        for _ in range(rng.integers(1, 6)):
            given[_region(codes, rng)] = True
    return given


def _region(codes: np.ndarray, rng: np.random.Generator) -> tuple[slice, slice, slice]:
    """A region of planes u8 [V, P, T]: a hole in all of them or in one."""
    hole = _hole(codes.max(0), rng)
    if len(codes) == 1 or rng.random() < IN_ALL_PLANES:
        return slice(None), *hole
    plane = int(rng.integers(len(codes)))
    return slice(plane, plane + 1), *hole


def _hole(codes: np.ndarray, rng: np.random.Generator) -> tuple[slice, slice]:
    """A region of random size: often all pitches, else a band of them."""
    pitches, steps = codes.shape
    length = int(min(steps, np.exp(rng.uniform(np.log(SMALLEST_HOLE), np.log(max(SMALLEST_HOLE, steps) + 1)))))
    start = int(rng.integers(0, steps - length + 1))
    low, high = 0, pitches
    if rng.random() < 0.4:
        used = np.flatnonzero(codes.any(1))
        middle = int(rng.choice(used)) if len(used) else pitches // 2
        low, high = max(0, middle - int(rng.integers(1, 25))), min(pitches, middle + int(rng.integers(1, 25)))
    return slice(low, high), slice(start, start + length)


def _voice(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The highest or lowest notes of each step, or every note of a band of pitches: sounding cells only."""
    on = codes > 0
    kind = rng.choice(("top", "bottom", "band"), p=(0.6, 0.2, 0.2))
    if kind == "band":
        used = np.flatnonzero(on.any(1))
        split = int(rng.choice(used)) if len(used) else 0
        on[:split] = False
        return on
    order = on[::-1] if kind == "top" else on
    edge = (np.cumsum(order, 0) == 1) & order
    return _whole_notes(codes, edge[::-1] if kind == "top" else edge)


def _whole_notes(codes: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Add what makes given cells notes: all cells before a held one, back to its onset."""
    kept = cells.copy()
    for step in range(codes.shape[1] - 2, -1, -1):
        kept[:, step] |= kept[:, step + 1] & (codes[:, step + 1] == 1) & (codes[:, step] > 0)
    return kept
