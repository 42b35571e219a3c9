"""Scales and pitch ranges by name: which of the 128 pitches may sound."""

import difflib
import re

import numpy as np

from varcli.errors import UsageError

PITCHES = 128
SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic_minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic_minor": (0, 2, 3, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "major_pentatonic": (0, 2, 4, 7, 9),
    "minor_pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "whole_tone": (0, 2, 4, 6, 8, 10),
    "chromatic": tuple(range(12)),
}
"""Semitones above the tonic; the melodic minor is the ascending one."""
ALIASES = {
    "natural_minor": "minor",
    "aeolian": "minor",
    "ionian": "major",
    "pentatonic": "major_pentatonic",
    "pentatonic_major": "major_pentatonic",
    "pentatonic_minor": "minor_pentatonic",
    "maj": "major",
    "min": "minor",
}
_LETTERS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_ACCIDENTALS = {"#": 1, "♯": 1, "b": -1, "♭": -1}


def parse_scale(text: str) -> np.ndarray:
    """Read a scale TONIC:NAME, such as C:major or f#:harmonic_minor: the pitches in it, bool [128].

    Capitals do not matter, nor do spaces and dashes in a name. Raises UsageError for a tonic or name there is not.
    """
    tonic, colon, name = text.partition(":")
    if not colon:
        raise UsageError(f"--scale {text!r}: not TONIC:NAME", "for example --scale C:major, or --scale F#:dorian")
    wanted = re.sub(r"[\s_-]+", "_", name.strip().lower())
    steps = SCALES.get(ALIASES.get(wanted, wanted))
    if steps is None:
        near = difflib.get_close_matches(wanted, [*SCALES, *ALIASES], n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"--scale {text!r}: no scale {name.strip()!r}", f"{hint}there are {', '.join(SCALES)}")
    root = pitch_class(tonic.strip().lower())
    if root is None:
        raise UsageError(f"--scale {text!r}: no tonic {tonic.strip()!r}", "a letter A to G, with # or b: C, F#, Bb")
    return np.isin((np.arange(PITCHES) - root) % 12, steps)


def parse_pitch_range(text: str) -> np.ndarray:
    """Read a range LOW:HIGH of MIDI numbers or note names (C4 is 60), both inclusive: its pitches, bool [128].

    Raises UsageError for anything else, and for a range that holds no pitch or leaves 0..127.
    """
    low, high = parse_pitches(text, f"--pitch-range {text}")
    return (np.arange(PITCHES) >= low) & (np.arange(PITCHES) <= high)


def parse_pitches(text: str, what: str) -> tuple[int, int]:
    """The two pitches of LOW:HIGH, both inclusive; raises UsageError, under the name `what`."""
    first, _, second = text.partition(":")
    low, high = _pitch(first), _pitch(second)
    if low is None or high is None:
        raise UsageError(f"{what}: not LOW:HIGH", "MIDI numbers or note names, both inclusive: 36:84, or C2:C6")
    for pitch in (low, high):
        if not 0 <= pitch < PITCHES:
            raise UsageError(f"{what}: there is no pitch {pitch}", "pitches go from 0 to 127; C4 is 60")
    if low > high:
        raise UsageError(f"{what}: holds no pitch", f"the lower one comes first: {high}:{low}")
    return low, high


def _pitch(text: str) -> int | None:
    text = text.strip().lower()
    if text.isdecimal():
        return int(text)
    match = re.fullmatch(r"([a-g][#♯b♭]*)(-?\d)", text)
    root = pitch_class(match[1]) if match else None
    return None if match is None or root is None else root + 12 * (int(match[2]) + 1)


def pitch_class(text: str) -> int | None:
    """Semitones above C of a letter with accidentals, such as f# or bb; not wrapped to 0..11."""
    if not text or text[0] not in _LETTERS or any(mark not in _ACCIDENTALS for mark in text[1:]):
        return None
    return _LETTERS[text[0]] + sum(_ACCIDENTALS[mark] for mark in text[1:])
