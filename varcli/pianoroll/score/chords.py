"""Chords and keys by name: what `--chords` and `--key` say, and chords annotated beside a song."""

import re
from pathlib import Path

import numpy as np

from varcli.errors import UsageError, VarError
from varcli.pianoroll.harmony import NO_CHORD, QUALITIES
from varcli.pianoroll.score.scales import pitch_class

_KINDS = list(QUALITIES)
_NAMES = {
    "maj": ("", "maj", "M", "major", "maj6", "6", "add9"),
    "min": ("m", "min", "-", "minor", "min6", "m6", "minmaj7", "mM7"),
    "dim": ("dim", "°", "o", "dim7", "hdim7", "m7b5", "min7b5", "ø"),
    "aug": ("aug", "+"),
    "sus4": ("sus4", "sus", "sus2", "sus4(b7)", "7sus4"),
    "7": ("7", "9", "11", "13", "dom7"),
    "maj7": ("maj7", "M7", "Δ", "maj9"),
    "min7": ("min7", "m7", "-7", "min9", "m9", "min11"),
}
"""How each kind of chord may be written; those with more notes than it has are read as the nearest one."""
_KIND_OF = {name: _KINDS.index(kind) for kind, names in _NAMES.items() for name in names}
_HINT = f"a root and a kind: C, F#m, Bb7, or C:min7; kinds are {', '.join(_KINDS)}; N for no chord"


def parse_chords(text: str) -> np.ndarray:
    """Read chords such as "C Am F G" (also with commas or bars between): i64 as in `Harmony.chords`.

    Raises UsageError for what is no chord, and for none.
    """
    words = re.split(r"[\s,|]+", text.strip(" \t|,"))
    if words == [""]:
        raise UsageError("--chords holds no chord", _HINT)
    return np.array([_chord(word, f"--chords: {word!r} is no chord") for word in words])


def read_chords(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read annotated chords, a line each of start and end in seconds and a name such as C#:maj7/5 or N.

    Returns edges f64 [N, 2] and the chords i64 [N]. Raises VarError for anything else.
    """
    try:
        lines = [line.split() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise VarError(f"{path}: cannot be read: {error}") from None
    edges, chords = [], []
    for number, words in enumerate(lines, 1):
        try:
            start, end, name = float(words[0]), float(words[1]), words[2]
        except (ValueError, IndexError):
            raise VarError(f"{path}: line {number} is not START END CHORD", "seconds, such as 2.7 4.1 Bb:min") from None
        if not 0 <= start <= end < np.inf:
            raise VarError(f"{path}: line {number} ends before it starts, or is no time")
        edges.append((start, end))
        chords.append(_chord(name, f"{path}: line {number}: {name!r} is no chord"))
    if not chords:
        raise VarError(f"{path}: holds no chords")
    return np.array(edges), np.array(chords)


def parse_key(text: str) -> int:
    """Read a key such as C, F#m, "A minor" or Bb:major: its tonic, 12 more if it is minor; raises UsageError."""
    match = re.fullmatch(r"([A-Ga-g])([#♯b♭]*)[\s:]*(\S*)", text.strip())
    kinds = {"": 0, "maj": 0, "major": 0, "m": 1, "min": 1, "minor": 1}
    tonic = None if match is None else pitch_class((match[1] + match[2]).lower())
    if match is None or tonic is None or match[3] not in kinds:
        raise UsageError(f"--key {text!r} is no key", 'a tonic, and whether it is minor: C, F#m, or "Bb minor"')
    return tonic % 12 + 12 * kinds[match[3]]


def _chord(word: str, wrong: str) -> int:
    if word in ("N", "N.C.", "NC", "X"):
        return NO_CHORD
    match = re.fullmatch(r"([A-G])([#♯b♭]*):?([^/]*)(/\S+)?", word)
    root = None if match is None else pitch_class((match[1] + match[2]).lower())
    if match is None or root is None:
        raise UsageError(wrong, _HINT)
    kind = _KIND_OF.get(match[3])
    if kind is None:  # annotations add notes in brackets: C:maj(9)
        kind = _KIND_OF.get(re.sub(r"\(.*\)$", "", match[3]))
    if kind is None:
        raise UsageError(wrong, _HINT)
    return 12 * kind + root % 12
