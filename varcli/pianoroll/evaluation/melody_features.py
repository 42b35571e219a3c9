"""Features of melody and of touch: of the top line, and of velocities.

Every function takes an Excerpt with a note at least and returns a number per name, NaN where it is undefined.
"""

import numpy as np

from varcli.pianoroll.evaluation.excerpt import Excerpt, correlation, entropy, mean, spread

_STEP, _LEAP, _OCTAVE = 2, 7, 12  # semitones: a step is no wider, a leap is wider
_WIDEST = 24  # intervals beyond count as this one


def melody_features(music: Excerpt) -> dict[str, float]:
    """The top line: how it moves, how far it goes, where it lies and rests."""
    top = music.top
    pitch, start = music.pitch[top], music.start[top]
    moves = np.diff(pitch)
    size, turns = np.abs(moves), moves[moves != 0]
    leaps = np.flatnonzero(size[:-1] > _STEP) if len(size) > 1 else np.zeros(0, int)
    resolved = (size[leaps + 1] <= _STEP) & (np.sign(moves[leaps + 1]) == -np.sign(moves[leaps]))
    between = np.diff(start)
    sounds = np.minimum(music.end[top], np.append(start[1:], music.end[top[-1]])) - start
    chroma = music.chroma_BSC.reshape(-1, 12)[start]
    beat = music.metre.steps_per_beat
    bars = np.arange(music.bars)
    means = [pitch[music.bar[top] == bar].mean() for bar in bars[np.isin(bars, music.bar[top])]]
    clipped = np.clip(moves, -_WIDEST, _WIDEST) + _WIDEST
    return {
        "notes_per_bar": len(top) / music.bars,
        "repeats": mean(size == 0),
        "steps": mean((size > 0) & (size <= _STEP)),
        "skips": mean((size > _STEP) & (size <= _LEAP)),
        "leaps": mean((size > _LEAP) & (size < _OCTAVE)),
        "octaves_and_wider": mean(size >= _OCTAVE),
        "interval_entropy": entropy(np.bincount(clipped)),
        "leaps_answered_by_a_step_back": mean(resolved),
        "turns": mean(np.sign(turns[1:]) != np.sign(turns[:-1])),
        "range": float(np.ptp(pitch)),
        "pitch": float(pitch.mean()),
        "spread_of_bar_means": spread(np.array(means)),
        "pitches_per_note": len(np.unique(pitch)) / len(pitch),
        "outside_key": mean(~music.key.scale[pitch % 12]),
        "doubled_in_another_octave": mean(chroma[np.arange(len(top)), pitch % 12] > 1),
        "rests": 1 - float(sounds.sum()) / music.sounding_PT.shape[1],
        "onset_interval_entropy": entropy(np.bincount(between)),
        "on_the_beat": mean(start % beat == 0),
    }


def velocity_features(music: Excerpt) -> dict[str, float]:
    """Touch: how velocities follow one another, the pitch, the voice and the beat."""
    velocity = music.velocity.astype(float)
    top, bass = (np.isin(np.arange(len(velocity)), line) for line in (music.top, music.bass))
    inner = ~top & ~bass
    by_pitch = np.lexsort((music.start, music.pitch))
    again = np.diff(music.pitch[by_pitch]) == 0
    same_pitch = np.diff(velocity[by_pitch])[again]
    change = np.diff(velocity)
    together = np.diff(music.start) == 0
    on_beat = music.start % music.metre.steps_per_beat == 0
    beat = music.start // music.metre.steps_per_beat
    beats, bars = (_means(velocity, index) for index in (beat, music.bar))
    groups = _means(velocity, music.start)
    return {
        "mean": float(velocity.mean()),
        "spread": float(velocity.std()),
        "entropy": entropy(np.bincount(music.velocity)),
        "same_as_pitch_before": mean(same_pitch == 0),
        "same_as_note_before": mean(change == 0),
        "same_within_chord": mean(change[together] == 0),
        "change_between_onsets": mean(np.abs(np.diff(groups))),
        "same_in_melody": mean(np.diff(velocity[top]) == 0),
        "onsets_follow_the_one_before": correlation(groups[1:], groups[:-1]),
        "spread_of_beat_means": spread(beats),
        "spread_of_bar_means": spread(bars),
        "follows_pitch": correlation(velocity, music.pitch.astype(float)),
        "follows_duration": correlation(velocity, (music.end - music.start).astype(float)),
        "beat_over_offbeat": mean(velocity[on_beat]) - mean(velocity[~on_beat]),
        "melody_over_inner": mean(velocity[top]) - mean(velocity[inner]),
        "bass_over_inner": mean(velocity[bass]) - mean(velocity[inner]),
    }


def _means(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The mean of the values of each index that occurs, in the order of the indices."""
    count = np.bincount(index)
    return np.bincount(index, values)[count > 0] / count[count > 0]
