"""Cells given beforehand while a model learns to be conditioned: a beginning, all but some holes, or one voice.

Shapes: P pitches, T steps.
"""

import numpy as np

SMALLEST_HOLE = 4


def draw_given(codes: np.ndarray, rng: np.random.Generator, holes: float = 0.2) -> np.ndarray:
    """Cells given beforehand of a canvas u8 [P, T], bool [P, T].

    For a share `holes` of all canvases that is all but some holes, for 0.7 less that share it is nothing, and otherwise
    a beginning, a voice, or some regions.
    """
    kinds = ("nothing", "beginning", "surroundings", "voice", "scattered")
    kind = rng.choice(kinds, p=(0.7 - holes, 0.1, holes, 0.12, 0.08))
    given = np.zeros(codes.shape, bool)
    if kind == "beginning":
        given[:, : rng.integers(1, max(2, codes.shape[1]))] = True
    elif kind == "surroundings":
        given[:] = True
        for _ in range(rng.integers(1, 4)):
            given[_hole(codes, rng)] = False
    elif kind == "voice":
        given = _voice(codes, rng)
    elif kind == "scattered":
        for _ in range(rng.integers(1, 6)):
            given[_hole(codes, rng)] = True
    return given


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
