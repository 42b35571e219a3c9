"""The form of whole pieces: how much of each bar an earlier one held, by how many bars lie between.

Two bars match by the Jaccard index of their sets of (step in the bar, pitch) of onsets, untransposed; bars without an
onset are left out. Legend: B bars of a piece, 64 at most, L lags in bars, S steps per bar, P pitches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from varcli.pianoroll.evaluation.bar_features import best_earlier
from varcli.pianoroll.evaluation.excerpt import mean
from varcli.pianoroll.evaluation.overlap import Interval, interval, resample
from varcli.pianoroll.evaluation.windows import Window, pieces_of
from varcli.pianoroll.form import likeness
from varcli.pianoroll.roll import PITCHES, Vocabulary, note_arrays

MOST_BARS = 64
LAGS = np.arange(1, MOST_BARS)
RECALL_LAG = 16  # bars: a section, not a phrase, lies between
RETURNS = 0.6  # from this match on a bar returns
_RESAMPLES = 1000


@dataclass(frozen=True)
class Form:
    """The form of the pieces of one side, means over bars; NaN where no piece is long enough.

    For every lag `best` f64 [L] is the best match of a bar with one at least that many bars back, `at_lag` f64 [L] the
    match with the one exactly that many back. `recall` is `best` at RECALL_LAG with a 95% interval (pieces drawn
    again), `returns` the share of its bars that return.
    """

    pieces: int
    bars: int
    best: np.ndarray
    at_lag: np.ndarray
    recall: Interval
    returns: float


def compare_forms(
    generated: Sequence[Window],
    reference: Sequence[Window],
    vocabulary: Vocabulary,
    steps_per_bar: int,
    rng: np.random.Generator,
) -> tuple[Form, Form]:
    """The form of the pieces that windows come from, each from where its first window starts.

    Of real pieces no more bars count than the longest generated one has: in more bars there is more to match.
    """
    ours, theirs = (
        [onsets_of(*one, vocabulary, steps_per_bar) for one in _starts(side)] for side in (generated, reference)
    )
    most = max(len(onsets) for onsets in ours)
    return form_of(ours, rng), form_of([onsets[:most] for onsets in theirs], rng)


def _starts(windows: Sequence[Window]) -> list[tuple[np.ndarray, int]]:
    """The canvas u8 [P, T] of every piece, and the step at which its first window starts."""
    return [
        (piece.cells, min(window.start for window in windows if window.piece is piece)) for piece in pieces_of(windows)
    ]


def form_of(onsets: Sequence[np.ndarray], rng: np.random.Generator) -> Form:
    """The form of pieces, onsets bool [B, S, P] each."""
    matches = [likeness(each) for each in onsets]
    lags: list[int] = LAGS.tolist()
    recalled = [best_earlier(match, RECALL_LAG)[RECALL_LAG:] for match in matches]
    recalled = [best[np.isfinite(best)] for best in recalled]
    return Form(
        pieces=len(matches),
        bars=sum(len(each) for each in onsets),
        best=np.array([mean(np.concatenate([best_earlier(match, lag)[lag:] for match in matches])) for lag in lags]),
        at_lag=np.array([mean(np.concatenate([np.diagonal(match, -lag) for match in matches])) for lag in lags]),
        recall=_mean_of_bars(recalled, rng),
        returns=mean(np.concatenate(recalled) >= RETURNS),
    )


def onsets_of(cells: np.ndarray, start: int, vocabulary: Vocabulary, steps_per_bar: int) -> np.ndarray:
    """Where notes of a canvas u8 [P, T] begin in the bars from step `start` on, bool [B, S, P]."""
    notes = note_arrays(cells, vocabulary)
    bars = min(max(-(-(cells.shape[1] - start) // steps_per_bar), 0), MOST_BARS)
    inside = (notes.start >= start) & (notes.start < start + bars * steps_per_bar)
    onsets = np.zeros((bars, steps_per_bar, PITCHES), bool)
    bar, place = np.divmod(notes.start[inside] - start, steps_per_bar)
    onsets[bar, place, notes.pitch[inside]] = True
    return onsets


def _mean_of_bars(values: Sequence[np.ndarray], rng: np.random.Generator) -> Interval:
    """The mean over the bars of all pieces, f64 [B] each, with an interval of pieces drawn again."""
    sums, counts = (np.array([of(each) for each in values], float) for of in (np.sum, len))
    if not counts.sum():
        return Interval(float("nan"), float("nan"), float("nan"))
    times = resample(len(values), _RESAMPLES, rng)
    drawn = times @ counts
    means = np.divide(times @ sums, drawn, out=np.full(_RESAMPLES, np.nan), where=drawn > 0)
    return interval(float(sums.sum() / counts.sum()), means)
