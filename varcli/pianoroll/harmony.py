"""Harmony as a plan says it of each bar before it is written: the key, a chord for each half, and how many notes begin.

Legend: B bars, H halves of bars, V voices, P pitches, T steps, S steps per bar, C the 12 pitch classes, K chords.
"""

from dataclasses import dataclass

import numpy as np

from varcli.pianoroll.config import DENSITIES, HARMONY_PLACES, HARMONY_ROWS
from varcli.pianoroll.roll import ONSET

QUALITIES = {
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "dim": (0, 3, 6),
    "aug": (0, 4, 8),
    "sus4": (0, 5, 7),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "min7": (0, 3, 7, 10),
}
"""Kinds of chords: semitones above the root."""
NO_CHORD = -1
_PITCH_CLASSES = 12
_CHORDS = np.array(
    [[(c - root) % 12 in tones for c in range(12)] for tones in QUALITIES.values() for root in range(12)], float
)
# How a chord is judged: notes outside it, its root in the bass, missing tones, and rare kinds; chosen by how often root
# and kind are those of POP909's annotations.
_OUTSIDE, _BASS, _MISSING = 0.5, 0.35, 0.3
_RARE = np.repeat([0, 0, 0.03, 0.05, 0.15, 0.25, 0.25, 0.25], _PITCH_CLASSES)

# Krumhansl and Kessler (1982), probe-tone ratings of pitch classes above the tonic, major and minor.
_PROFILES = np.array(
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
    ]
)
_SCALES = np.array([[1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1], [1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0]], bool)
_KEY_PROFILES = np.stack([np.roll(profile, tonic) for profile in _PROFILES for tonic in range(12)])


@dataclass(frozen=True)
class Key:
    """A key: tonic 0..11, whether minor, its correlation with the notes and how far that is above the second best."""

    tonic: int
    minor: bool
    fit: float
    margin: float

    @property
    def scale(self) -> np.ndarray:
        """The pitch classes in it, bool [C]; a minor key has its natural scale."""
        return np.roll(_SCALES[int(self.minor)], self.tonic)


def key_of(weights_C: np.ndarray) -> Key:
    """The key whose profile correlates best with weights of pitch classes (Krumhansl's algorithm)."""
    profiles = _KEY_PROFILES - _KEY_PROFILES.mean(1, keepdims=True)
    weights = weights_C - weights_C.mean()
    size = np.linalg.norm(weights)
    fits = profiles @ weights / (np.linalg.norm(profiles, axis=1) * size) if size > 0 else np.zeros(24)
    best, second = np.argsort(-fits, kind="stable")[:2].tolist()
    return Key(best % 12, best >= 12, float(fits[best]), float(fits[best] - fits[second]))


@dataclass(frozen=True)
class Harmony:
    """What a plan says of each bar beside its form.

    `key` i64 [B] is the tonic, 12 more if minor; `chords` i64 [B, 2] are 12 times the place in QUALITIES and the root,
    of each half, or NO_CHORD; `density` i64 [B] is the class of how many notes begin, by the bounds DENSITIES.
    """

    key: np.ndarray
    chords: np.ndarray
    density: np.ndarray

    @classmethod
    def of(cls, voices: np.ndarray, steps_per_bar: int) -> "Harmony":
        """The harmony of voices u8 [V, P, T] in which a bar starts at step 0; the key is that of all of it."""
        bars = -(-voices.shape[2] // steps_per_bar)
        pad = ((0, 0), (0, bars * steps_per_bar - voices.shape[2]))
        sounding = np.pad((voices > 0).any(0), pad)
        begun = np.pad((voices >= ONSET).sum(0), pad).sum(0).reshape(bars, steps_per_bar).sum(1)
        octaves = np.pad(sounding, ((0, -len(sounding) % _PITCH_CLASSES), (0, 0)))
        chroma_CT = octaves.reshape(-1, _PITCH_CLASSES, octaves.shape[1]).sum(0)
        key = key_of(chroma_CT.sum(1).astype(float))
        halves = _halves(bars, steps_per_bar)
        bass_CT = _bass(sounding)
        chroma_HC, bass_HC = (np.add.reduceat(each, halves, axis=1).T.astype(float) for each in (chroma_CT, bass_CT))
        keys = np.full(bars, key.tonic + 12 * key.minor)
        return cls(keys, chords_of(chroma_HC, bass_HC).reshape(bars, 2), np.searchsorted(DENSITIES, begun, "right"))

    def cells(self, steps: int, steps_per_bar: int) -> np.ndarray:
        """The same as cells u8 [HARMONY_ROWS, steps], an onset at each place of a bar.

        The key is in the row of its tonic, a chord in that of its root (no chord in the row above all), the density in
        the first; velocities say whether the key is minor, the kind of the chord, and the class of density.
        """
        cells = np.zeros((HARMONY_ROWS, len(self.key) * steps_per_bar), np.uint8)
        key, first, second, density = (np.arange(len(self.key)) * steps_per_bar + at for at in places(steps_per_bar))
        cells[self.key % 12, key] = ONSET + self.key // 12
        for chord, at in zip(self.chords.T, (first, second), strict=True):
            known = chord != NO_CHORD
            cells[np.where(known, chord % 12, _PITCH_CLASSES), at] = ONSET + np.where(known, chord // 12, 0)
        cells[0, density] = ONSET + self.density
        return cells[:, :steps]


def places(steps_per_bar: int) -> tuple[int, ...]:
    """The steps of a bar at which its plan says the key, the chords of its halves, and the density."""
    return tuple(index * steps_per_bar // HARMONY_PLACES for index in range(HARMONY_PLACES))


def rows_allowed(steps: int, steps_per_bar: int) -> np.ndarray:
    """Where a plan may say something of the harmony, bool [HARMONY_ROWS, steps]."""
    allowed = np.zeros((HARMONY_ROWS, steps), bool)
    for at, rows in zip(places(steps_per_bar), (12, 13, 13, 1), strict=True):
        allowed[:rows, at::steps_per_bar] = True
    return allowed


def chords_of(chroma_HC: np.ndarray, bass_HC: np.ndarray) -> np.ndarray:
    """The likeliest chord of each half bar, i64 [H], from how long pitch classes sound in it, and as the lowest."""
    total, low = chroma_HC.sum(1, keepdims=True), bass_HC.sum(1, keepdims=True)
    shares, bass = chroma_HC / np.maximum(total, 1), bass_HC / np.maximum(low, 1)
    inside = shares @ _CHORDS.T
    there = (chroma_HC > 0) @ _CHORDS.T / _CHORDS.sum(1)
    rooted = np.tile(bass, (1, len(QUALITIES)))
    score = inside - _OUTSIDE * (1 - inside) + _BASS * rooted - _MISSING * (1 - there) - _RARE
    return np.where(total[:, 0] > 0, score.argmax(1), NO_CHORD)


def _halves(bars: int, steps_per_bar: int) -> np.ndarray:
    """The first step of each half of a bar."""
    return (np.arange(bars)[:, None] * steps_per_bar + (0, steps_per_bar // 2)).ravel()


def _bass(sounding: np.ndarray) -> np.ndarray:
    """The pitch class of the lowest note of each step of cells bool [P, T], as bool [C, T]."""
    lowest = sounding.argmax(0)
    return (np.arange(_PITCH_CLASSES)[:, None] == lowest % _PITCH_CLASSES) & sounding.any(0)
