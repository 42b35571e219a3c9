"""The form of pieces built by hand: where bars return, and from how far back."""

import numpy as np
import pytest
from music_support import V, piece, pieces
from roll_support import notes_to_cells

from varcli.pianoroll.evaluation.form import LAGS, compare_forms, form_of, onsets_of
from varcli.pianoroll.evaluation.windows import bar_windows, first_step_windows
from varcli.pianoroll.roll import Note

RNG = np.random.default_rng(0)


def section(seed: int, bars: int = 8) -> list[np.ndarray]:
    """Bars of four notes, bool [S, P] each, none like another."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(bars):
        bar = np.zeros((16, 128), bool)
        bar[[0, 4, 8, 12], rng.choice(np.arange(20, 110), 4, replace=False)] = True
        found.append(bar)
    return found


A, B = section(0), section(1)


def test_aaba() -> None:
    form = form_of([np.array([*A, *A, *B, *A])], RNG)
    assert (form.pieces, form.bars) == (1, 32)
    at_lag = dict(zip(LAGS.tolist(), form.at_lag, strict=True))
    expected = {8: 8 / 24, 16: 8 / 16, 24: 1}
    assert {lag: at_lag[lag] for lag in expected} == pytest.approx(expected, abs=0.03)  # bars are alike by chance too
    assert at_lag[4] < 0.05 and np.isnan(at_lag[32])
    best = dict(zip(LAGS.tolist(), form.best, strict=True))
    assert best[1] == pytest.approx(16 / 31, abs=0.05) and best[9] == pytest.approx(8 / 23, abs=0.05)
    assert best[16] == pytest.approx(form.recall.value) == pytest.approx(0.5, abs=0.05)
    assert best[24] == pytest.approx(1) and np.isnan(best[32])
    assert form.returns == 0.5
    assert form.recall.low == pytest.approx(form.recall.high)  # of a single piece


def test_variation_empty_bars_and_pieces_that_differ() -> None:
    varied = [bar.copy() for bar in A]
    for bar in varied:
        bar[12] = np.roll(bar[12], 1)  # three of five notes are the same
    silent = [np.zeros((16, 128), bool)] * 8
    form = form_of([np.array([*A, *silent, *varied])], RNG)
    assert form.recall.value == pytest.approx(3 / 5) and form.returns == 1
    assert np.isnan(form.at_lag[7]) and form.at_lag[15] == pytest.approx(3 / 5)
    assert form_of([np.array([*A, *silent, *silent])], RNG).returns != form.returns
    both = form_of([np.array([*A, *B, *A]), np.array([*A, *B, *section(2)])] * 6, RNG)
    assert both.returns == 0.5 and both.recall.low < 0.4 < 0.6 < both.recall.high


def test_transposed_bars_do_not_match() -> None:
    form = form_of([np.array([*A, *B, *np.roll(A, 2, axis=2)])], RNG)
    assert form.recall.value < 0.05 and form.returns == 0


def test_onsets_of_a_canvas() -> None:
    cells = notes_to_cells([Note(60, 0, 10, 80), Note(62, 8, 4, 80), Note(64, 27, 3, 80)], 30, V)[0]
    onsets = onsets_of(cells, 8, V, 16)
    assert onsets.shape == (2, 16, 128)
    assert np.argwhere(onsets).tolist() == [[0, 0, 62], [1, 3, 64]]  # the held note is no onset
    assert len(onsets_of(np.zeros((128, 2000), np.uint8), 0, V, 16)) == 64


def test_real_pieces_are_as_long_as_generated_ones() -> None:
    short, long = pieces(3, 0), [piece(np.tile(one.cells, (1, 5))) for one in pieces(3, 10)]
    ours, theirs = first_step_windows(short, V, 64), bar_windows(long, V, 64)
    generated, real = compare_forms(ours, theirs, V, 16, RNG)
    assert generated.bars == real.bars == 24 and np.isnan(real.recall.value)
    real, generated = compare_forms(theirs, ours, V, 16, RNG)
    assert (real.bars, generated.bars) == (120, 24)
    assert real.recall.value == pytest.approx(1) and real.at_lag[7] == pytest.approx(1) and real.returns == 1
