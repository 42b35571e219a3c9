"""Statistics that tell music from noise: what a window sounds like, in six numbers."""

from dataclasses import dataclass

import numpy as np

from varcli.pianoroll.roll import Vocabulary, note_arrays


@dataclass(frozen=True)
class WindowStatistics:
    """Six numbers about one window; all are 0 where it holds no note.

    `notes_per_bar`; `polyphony`, notes sounding on average where any sounds; `pitch_class_entropy` of the onsets in
    bits (0..3.58); `off_beat_share` of onsets that are not on a beat (0..1); `median_duration` in steps;
    `velocity_spread`, the standard deviation of the onsets' MIDI velocities.
    """

    notes_per_bar: float
    polyphony: float
    pitch_class_entropy: float
    off_beat_share: float
    median_duration: float
    velocity_spread: float


def window_statistics(
    cells: np.ndarray, vocabulary: Vocabulary, steps_per_bar: int = 16, steps_per_beat: int = 4
) -> WindowStatistics:
    """Statistics of a canvas u8 [P, T] whose step 0 is the start of a bar."""
    notes = note_arrays(cells, vocabulary)
    count = len(notes.pitch)
    if not count:
        return WindowStatistics(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    sounding = np.count_nonzero(cells, axis=0)
    shares = np.bincount(notes.pitch % 12) / count
    shares = shares[shares > 0]
    return WindowStatistics(
        notes_per_bar=count * steps_per_bar / cells.shape[1],
        polyphony=float(sounding[sounding > 0].mean()),
        pitch_class_entropy=float(np.sum(shares * np.log2(1 / shares))),
        off_beat_share=float(np.mean(notes.start % steps_per_beat != 0)),
        median_duration=float(np.median(notes.end - notes.start)),
        velocity_spread=float(notes.velocity.std()),
    )
