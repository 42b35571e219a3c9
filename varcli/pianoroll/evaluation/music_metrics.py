"""What a window of music is like, in the numbers of MusPy, so that figures compare with published ones.

Definitions and quirks are those of MusPy 0.5.0 (Dong et al., ISMIR 2020, https://github.com/salu133445/muspy) at a
resolution of one tick per step, wherever it has the metric. Its quirks, kept so that equal notes give equal numbers:

- A window ends with its last note, not with its canvas: silence at the end does not count.
- Bars (and beats) are counted as end // bar + 1: music that ends on a bar line has one bar more, without an onset.
- A bar (or beat) is empty if no note sounds in it *or ends where it begins*.
- The polyphony rate counts steps where more than two pitches sound, that is three at least.
- A window without a note has pitch range 0 and uses no pitch; all else is NaN. Groove needs two bars, or it is NaN.

MusPy has no note density, no durations and no velocities; these are ours. Without a note the density is 0.
MusPy itself is not imported: a dozen functions would bring music21, matplotlib, pypianoroll and requests with them. The
tests hold its own values for some pieces.
"""

from dataclasses import dataclass

import numpy as np

from varcli.pianoroll.roll import HELD, ONSET, NoteArrays, Vocabulary, note_arrays

DURATION_BARS = 2  # durations up to this many bars have a class each; one more holds the longer ones
_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_ZERO_IN_SILENCE = {"pitch_range", "pitches_used", "pitch_classes_used", "note_density"}
_MANY = 2  # MusPy's threshold: pitches that must be exceeded


@dataclass(frozen=True)
class Metric:
    """A number per window: how it is called and counted, and its `quantum`, a difference that hardly means anything.

    A window of 16 bars with one note or one bar otherwise differs by about a quantum; no density is drawn finer.
    None is negative, and none more than `most`. `core` metrics make up the mean overlap; the others tell nearly the
    same story again.
    """

    name: str
    label: str
    unit: str
    quantum: float
    core: bool = False
    needs_velocity: bool = False

    @property
    def most(self) -> float:
        """The largest value that it can have."""
        return 1.0 if self.unit.startswith("share") else float("inf")


METRICS = (
    Metric("pitch_range", "Pitch range", "semitones", 1.0, core=True),
    Metric("pitch_class_entropy", "Pitch-class entropy", "bits", 0.01, core=True),
    Metric("scale_consistency", "Scale consistency", "share of notes", 0.005, core=True),
    Metric("polyphony", "Polyphony", "pitches at once", 0.02, core=True),
    Metric("note_density", "Note density", "notes per bar", 0.1, core=True),
    Metric("groove_consistency", "Groove consistency", "share of steps", 0.005, core=True),
    Metric("empty_bar_rate", "Empty bars", "share of bars", 1 / 16, core=True),
    Metric("pitches_used", "Pitches used", "pitches", 1.0),
    Metric("pitch_classes_used", "Pitch classes used", "pitch classes", 1.0),
    Metric("pitch_entropy", "Pitch entropy", "bits", 0.01),
    Metric("polyphony_rate", "Polyphony rate", "share of steps", 0.005),
    Metric("mean_duration", "Mean duration", "beats", 0.02),
    Metric("mean_velocity", "Mean velocity", "MIDI velocity", 1.0, needs_velocity=True),
    Metric("velocity_spread", "Velocity spread", "standard deviation", 1.0, needs_velocity=True),
    Metric("empty_beat_rate", "Empty beats", "share of beats", 1 / 64),
)

DURATIONS = Metric("durations", "Durations", "steps", 1.0, core=True)
VELOCITIES = Metric("velocities", "Velocities", "MIDI velocity", 1.0, core=True, needs_velocity=True)
HISTOGRAMS = (DURATIONS, VELOCITIES)


@dataclass(frozen=True)
class Metre:
    """How many steps a beat and a bar have."""

    steps_per_beat: int = 4
    steps_per_bar: int = 16


@dataclass(frozen=True)
class MusicMetrics:
    """The metrics of one window, named as in METRICS, and two histograms of its notes (see `classes_of`)."""

    pitch_range: float
    pitch_class_entropy: float
    scale_consistency: float
    polyphony: float
    note_density: float
    groove_consistency: float
    empty_bar_rate: float
    pitches_used: float
    pitch_classes_used: float
    pitch_entropy: float
    polyphony_rate: float
    mean_duration: float
    mean_velocity: float
    velocity_spread: float
    empty_beat_rate: float
    durations: np.ndarray
    velocities: np.ndarray


def classes_of(histogram: Metric, vocabulary: Vocabulary, metre: Metre) -> np.ndarray:
    """What the classes of a histogram stand for, i64 [X]: steps (the last: or more), or the velocities of bins."""
    if histogram is DURATIONS:
        return np.arange(1, DURATION_BARS * metre.steps_per_bar + 2)
    return vocabulary.velocities[_first_onset(vocabulary) :].astype(np.int64)


def measure_window(cells: np.ndarray, vocabulary: Vocabulary, metre: Metre) -> MusicMetrics:
    """The metrics of a canvas u8 [P, T] whose step 0 is the start of a bar; those that are undefined are NaN."""
    notes = note_arrays(cells, vocabulary)
    count = len(notes.pitch)
    longest = DURATION_BARS * metre.steps_per_bar + 1
    durations = np.bincount(np.minimum(notes.end - notes.start, longest), minlength=longest + 1)[1:]
    first = _first_onset(vocabulary)
    struck = vocabulary.codes[notes.velocity].astype(np.int64) - first
    velocities = np.bincount(struck, minlength=vocabulary.size - first)
    if not count:
        values = {metric.name: 0.0 if metric.name in _ZERO_IN_SILENCE else float("nan") for metric in METRICS}
        return MusicMetrics(**values, durations=durations, velocities=velocities)
    end = int(notes.end.max())
    sounding = np.count_nonzero(cells[:, :end], axis=0)
    pitches, classes = np.bincount(notes.pitch, minlength=128), np.bincount(notes.pitch % 12, minlength=12)
    return MusicMetrics(
        pitch_range=float(np.ptp(notes.pitch)),
        pitch_class_entropy=_entropy(classes),
        scale_consistency=max(float(np.roll(classes, -root)[list(_MAJOR)].sum()) for root in range(12)) / count,
        polyphony=float(sounding[sounding > 0].mean()),
        note_density=count * metre.steps_per_bar / end,
        groove_consistency=_groove(notes, metre.steps_per_bar),
        empty_bar_rate=_empty_rate(notes, metre.steps_per_bar),
        pitches_used=float(np.count_nonzero(pitches)),
        pitch_classes_used=float(np.count_nonzero(classes)),
        pitch_entropy=_entropy(pitches),
        polyphony_rate=float(np.mean(sounding > _MANY)),
        mean_duration=float(np.mean(notes.end - notes.start)) / metre.steps_per_beat,
        mean_velocity=float(notes.velocity.mean()),
        velocity_spread=float(notes.velocity.std()),
        empty_beat_rate=_empty_rate(notes, metre.steps_per_beat),
        durations=durations,
        velocities=velocities,
    )


def _first_onset(vocabulary: Vocabulary) -> int:
    return HELD if vocabulary.binary else ONSET


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(np.sum(shares * np.log2(1 / shares)))


def _empty_rate(notes: NoteArrays, steps: int) -> float:
    """Share of stretches of `steps` steps in which no note sounds, nor ends at the beginning."""
    changes = np.zeros(int(notes.end.max()) // steps + 2, np.int64)
    np.add.at(changes, notes.start // steps, 1)
    np.add.at(changes, notes.end // steps + 1, -1)
    return float(np.mean(np.cumsum(changes)[:-1] == 0))


def _groove(notes: NoteArrays, steps_per_bar: int) -> float:
    """Mean likeness of neighbouring bars: 1 minus the Hamming distance of where onsets stand, over the bar's steps."""
    bars = int(notes.end.max()) // steps_per_bar + 1
    if bars < 2:
        return float("nan")
    struck = np.zeros(bars * steps_per_bar, bool)
    struck[notes.start] = True
    struck = struck.reshape(bars, steps_per_bar)
    return float(1 - np.mean(struck[:-1] != struck[1:]))
