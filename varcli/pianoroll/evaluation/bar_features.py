"""Features of time: of returning bars, of rhythm, and of how the music ends.

Every function takes an Excerpt with a note at least and returns a number per name, NaN where it is undefined.
Legend: B bars, S steps per bar, P pitches.
"""

import numpy as np

from varcli.pianoroll.evaluation.excerpt import Excerpt, correlation, entropy, mean
from varcli.pianoroll.form import likeness

_LAGS = (1, 2, 4, 8)  # bars back
_BANDS = ((4, 7), (8, 15), (16, 31), (32, 63))
_RETURNS = 0.7  # from this likeness on a bar returns
_TRANSPOSITIONS = tuple(number for number in range(-7, 8) if number)
_TAIL = 2  # bars of an ending


def repetition_features(music: Excerpt) -> dict[str, float]:
    """How much of each bar was there before: by lag, at best, transposed, in one voice, in rhythm and harmony."""
    onsets = music.onsets_BSP
    like = likeness(onsets)
    best = best_earlier(like)
    rhythm, melody = likeness(np.any(onsets, axis=2)), likeness(music.struck(music.top))
    moved = [likeness(onsets, np.roll(onsets, shift, axis=2)) for shift in _TRANSPOSITIONS]
    chroma = music.chroma_BSC.sum(1)
    chroma = chroma / np.maximum(np.linalg.norm(chroma, axis=1, keepdims=True), 1e-9)
    harmony = chroma @ chroma.T
    return {
        **{f"lag_{lag}": mean(np.diagonal(like, -lag)) for lag in _LAGS},
        **{f"best_{low}_to_{high}_back": mean(best_earlier(like, low, high)) for low, high in _BANDS},
        "best": mean(best),
        "best_of_all": float(np.nanmax(best, initial=0)) if np.isfinite(best).any() else float("nan"),
        "bars_that_return": _share(best > _RETURNS, best),
        "best_transposed": mean(np.fmax.reduce([best_earlier(one) for one in moved])),
        "best_melody": mean(best_earlier(melody)),
        "melody_lag_8": mean(np.diagonal(melody, -8)),
        "best_rhythm": mean(best_earlier(rhythm)),
        "rhythm_lag_1": mean(np.diagonal(rhythm, -1)),
        "harmony_lag_1": mean(np.diagonal(harmony, -1)),
        "harmony_lag_4": mean(np.diagonal(harmony, -4)),
    }


def best_earlier(like_BB: np.ndarray, least: int = 1, most: int | None = None) -> np.ndarray:
    """The likeness of each bar to the likest of those `least` to `most` bars before it, f64 [B]; NaN of none."""
    back = np.subtract.outer(np.arange(len(like_BB)), np.arange(len(like_BB)))
    asked = (back >= least) & (back <= (len(like_BB) if most is None else most)) & np.isfinite(like_BB)
    best = np.where(asked, like_BB, -1).max(1)
    return np.where(best < 0, np.nan, best)


def rhythm_features(music: Excerpt) -> dict[str, float]:
    """Where notes begin in the bar, how far apart, how long they are, and how even bars are."""
    beat, bar = music.metre.steps_per_beat, music.metre.steps_per_bar
    groups, duration = music.groups, music.end - music.start
    between = np.diff(groups)
    struck = np.bincount(music.start, minlength=music.sounding_PT.shape[1]).astype(float)
    grid = struck.reshape(music.bars, bar)
    per_bar, on = grid.sum(1), grid > 0
    lengths = np.bincount(np.minimum(duration, 2 * bar))
    until_next = np.append(groups[1:], music.sounding_PT.shape[1])[np.searchsorted(groups, music.start)] - music.start
    rhythms = np.unique(on, axis=0)
    return {
        "onset_steps_per_bar": len(groups) / music.bars,
        "on_the_downbeat": mean(groups % bar == 0),
        "on_the_beat": mean(groups % beat == 0),
        "on_half_beats": mean((groups % beat != 0) & (2 * groups % beat == 0)),
        "syncopation": mean((groups[:-1] % beat != 0) & (groups[:-1] // beat != groups[1:] // beat) & (between > 1)),
        "onset_interval_entropy": entropy(np.bincount(between)),
        "same_interval_again": mean(np.diff(between) == 0),
        "duration": mean(duration) / beat,
        "duration_entropy": entropy(lengths),
        "single_steps": mean(duration == 1),
        "ends_with_the_next_onset": mean(duration == until_next),
        "uneven_bars": float(per_bar.std() / per_bar.mean()),
        "different_bar_rhythms": len(rhythms) / music.bars,
        "periodic_by_beat": correlation(struck[beat:], struck[:-beat]),
        "periodic_by_bar": correlation(struck[bar:], struck[:-bar]),
    }


def ending_features(music: Excerpt) -> dict[str, float]:
    """The last bars against the rest: fewer, longer, softer notes, a close on the tonic, silence."""
    bar, duration = music.metre.steps_per_bar, (music.end - music.start).astype(float)
    last = music.bar >= music.bars - _TAIL
    tonic = music.key.tonic
    final = np.flatnonzero(music.sounding_PT[:, music.end.max() - 1])
    best = best_earlier(likeness(music.onsets_BSP))
    sounded = int(music.end.max())
    return {
        "silent_bars_after": max(music.canvas_steps - sounded, 0) / bar,
        "last_onset_bars_before": (music.canvas_steps - int(music.start[-1])) / bar,
        "density": np.count_nonzero(last) / _TAIL / (len(last) / music.bars),
        "duration": mean(duration[last]) / mean(duration),
        "velocity": mean(music.velocity[last]) - mean(music.velocity),
        "notes_at_the_end": float(len(final)),
        "bass_on_the_tonic": float(music.pitch[music.bass[-1]] % 12 == tonic),
        "melody_on_the_tonic": float(music.pitch[music.top[-1]] % 12 == tonic),
        "likeness_of_the_last_bar": float(best[-1]),
    }


def _share(those: np.ndarray, among: np.ndarray) -> float:
    """The share of true ones where `among` is defined."""
    return mean(those[np.isfinite(among)])
