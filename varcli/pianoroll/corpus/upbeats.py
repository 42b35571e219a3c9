"""Upbeats of scores that are written without the rest before them: how long a first bar is, told from the notes.

Harmonies change at bar lines, and long notes begin there. Where both are strongest, bars begin.

Legend: P pitches, T steps, S steps of a bar.
"""

import numpy as np

from varcli.pianoroll.roll import Vocabulary, note_arrays

_FEWEST_BARS = 6
# Fitted to scores whose metre changes, which tells of their upbeats; a guess that is wrong for some scores.
_CHANGE, _LENGTH, _NONE = 3.2, 1.7, 2.0


def upbeat_of(cells: np.ndarray, vocabulary: Vocabulary, bar: int) -> int:
    """Steps before the first whole bar of a piece u8 [P, T] in bars of one length; 0 if its first bar is whole."""
    steps = cells.shape[1]
    if bar < 2 or steps < _FEWEST_BARS * bar:
        return 0
    notes = note_arrays(cells, vocabulary)
    length = np.bincount(notes.start % bar, np.minimum(notes.end - notes.start, 2 * bar), bar)
    change = _harmonic_change(cells, bar)
    score = _CHANGE * _log_share(change) + _LENGTH * _log_share(length)
    score[0] += _NONE
    return int(score.argmax())


def _log_share(strength_S: np.ndarray) -> np.ndarray:
    return np.log(strength_S / max(strength_S.mean(), 1e-9) + 0.1)


def _harmonic_change(cells: np.ndarray, bar: int) -> np.ndarray:
    """How much the pitch classes of a third of a bar differ from those of the third before, by place in the bar [S]."""
    steps, reach = cells.shape[1], max(2, bar // 3)
    sounding = np.pad(cells > 0, ((0, -len(cells) % 12), (0, 0)))
    chroma = sounding.reshape(-1, 12, steps).sum(0)
    until = np.pad(chroma.cumsum(1), ((0, 0), (1, 0))).astype(float)
    at = np.arange(reach, steps - reach)
    before, after = until[:, at] - until[:, at - reach], until[:, at + reach] - until[:, at]
    alike = (before * after).sum(0) / np.sqrt((before**2).sum(0) * (after**2).sum(0) + 1e-9)
    return np.bincount(at % bar, 1 - alike, bar) / np.maximum(1, np.bincount(at % bar, minlength=bar))
