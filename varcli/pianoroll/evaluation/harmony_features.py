"""Features of harmony and sound: of texture, of chords and of key.

Every function takes an Excerpt with a note at least and returns a number per name, NaN where it is undefined.
Legend: C pitch classes, H half bars, K chords, B bars, T steps.
"""

import numpy as np

from varcli.pianoroll.evaluation.excerpt import Excerpt, correlation, entropy, mean, spread
from varcli.pianoroll.harmony import key_of

_HIGH = 72  # from C5 on
_DRONE_BARS = 4
_KINDS = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6), "seventh": (0, 4, 7, 10)}
_CHORDS = np.array([[(c - root) % 12 in kind for c in range(12)] for kind in _KINDS.values() for root in range(12)])
_RECOGNISED = 0.9  # of what sounds in half a bar that lies in one chord
_SEGMENT_BARS = 4


def texture_features(music: Excerpt) -> dict[str, float]:
    """How many notes, how many at once, how high, how far apart, and what is struck again or held on."""
    sounding, groups, pitch = music.sounding_PT, music.groups, music.pitch
    at_once, struck = sounding.sum(0), np.bincount(music.start)[groups]
    filled = at_once > 0
    lowest = np.argmax(sounding, 0)[filled]
    highest = len(sounding) - 1 - np.argmax(sounding[::-1], 0)[filled]
    by_pitch = np.lexsort((music.start, pitch))
    again = (np.diff(pitch[by_pitch]) == 0) & (music.start[by_pitch][1:] == music.end[by_pitch][:-1])
    chord = np.diff(pitch)[np.diff(music.start) == 0]
    bar = music.metre.steps_per_bar
    held = np.lib.stride_tricks.sliding_window_view(
        np.cumsum(np.pad(sounding, ((0, 0), (1, 0))), axis=1)[:, ::bar], min(_DRONE_BARS, music.bars) + 1, axis=1
    )
    drones = (held[..., -1] - held[..., 0]).max(0) / (bar * min(_DRONE_BARS, music.bars))
    return {
        "notes_per_bar": len(pitch) / music.bars,
        "at_once": mean(at_once[filled]),
        "at_once_spread": spread(at_once[filled]),
        "silence": mean(~filled),
        "struck_together": mean(struck),
        "single_onsets": mean(struck == 1),
        "pitch": mean(pitch),
        "pitch_spread": spread(pitch),
        "pitch_range": float(np.ptp(pitch)),
        "high_notes": mean(pitch >= _HIGH),
        "width": mean(highest - lowest),
        "octaves_struck": mean(chord == 12),
        "struck_again_at_once": np.count_nonzero(again) / len(pitch),
        "bass_pitch": mean(pitch[music.bass]),
        "bass_duration_beats": mean((music.end - music.start)[music.bass]) / music.metre.steps_per_beat,
        "drone": float(drones.max()),
    }


def chord_features(music: Excerpt) -> dict[str, float]:
    """Half bars as chords: which are recognised, how they follow each other, and how rough the sound is."""
    half = max(music.metre.steps_per_bar // 2, 1)
    per_bar = music.metre.steps_per_bar // half
    chroma_HC = music.chroma_BSC[:, : per_bar * half].reshape(-1, half, 12).sum(1)
    total = chroma_HC.sum(1)
    filled = np.flatnonzero(total > 0)
    shares = chroma_HC[filled] @ _CHORDS.T / total[filled, None]
    # Of chords that cover equally much the one with fewer notes, and then the lowest root.
    chord = np.argmax(shares - 1e-6 * _CHORDS.sum(1), axis=1)
    cover, root, kind = shares.max(1), chord % 12, chord // 12
    moved = (np.diff(root) % 12)[np.diff(chord) != 0]
    after = 2 * _SEGMENT_BARS  # half bars
    classes = chroma_HC[filled] > 0
    kept = (classes[1:] & classes[:-1]).sum(1) / np.maximum((classes[1:] | classes[:-1]).sum(1), 1)
    downbeat = music.bass[music.place[music.bass] == 0]
    place = np.searchsorted(filled, music.bar[downbeat] * per_bar)
    scale = music.key.scale
    return {
        "recognised": mean(cover >= _RECOGNISED),
        "major": mean(kind == 0),
        "different": len(np.unique(chord)) / len(chord),
        "change": mean(np.diff(chord) != 0),
        "fifths": mean((moved == 5) | (moved == 7)),
        "diatonic": mean(~np.any(_CHORDS[chord] & ~scale, axis=1)),
        "on_the_tonic": mean(root == music.key.tonic),
        "as_four_bars_before": mean(chord[after:] == chord[:-after]),
        "bass_is_root_on_one": mean(music.pitch[downbeat] % 12 == root[place]),
        "classes_per_half_bar": mean((chroma_HC[filled] > 0).sum(1)),
        "common_tones": mean(kept),
        "semitones": _semitones(music),
    }


def _semitones(music: Excerpt) -> float:
    """The share of semitones among the pairs of pitch classes that sound together at onsets."""
    sounds = (music.chroma_BSC.reshape(-1, 12) > 0)[music.groups].astype(int)
    classes = sounds.sum(1)
    pairs = int((classes * (classes - 1)).sum()) // 2
    return int((sounds * np.roll(sounds, 1, axis=1)).sum()) / pairs if pairs else float("nan")


def key_features(music: Excerpt) -> dict[str, float]:
    """How well one key fits, and what lies outside it, over all of the music and by four bars."""
    key, classes = music.key, music.pitch % 12
    chroma_BC = music.chroma_BSC.sum(1)
    counts = np.bincount(classes, minlength=12)
    parts = [chroma_BC[first : first + _SEGMENT_BARS].sum(0) for first in range(0, music.bars, _SEGMENT_BARS)]
    local = [key_of(part) for part in parts if part.any()]
    shared = [np.count_nonzero(one.scale & key.scale) for one in local]
    outside = np.bincount(music.bar, ~key.scale[classes], minlength=music.bars)
    return {
        "outside": mean(~key.scale[classes]),
        "bars_that_leave": mean(outside > 0),
        "fit": key.fit,
        "margin": key.margin,
        "local_scale_shared": mean(np.array(shared, float)),
        "pitch_class_entropy": entropy(counts),
        "classes_used": float(np.count_nonzero(counts)),
        "tonic": mean(classes == key.tonic),
        "half_alike": correlation(*(chroma_BC[part].sum(0) for part in _halves(music.bars))),
    }


def _halves(bars: int) -> tuple[slice, slice]:
    return slice(0, max(bars // 2, 1)), slice(bars // 2, bars)
