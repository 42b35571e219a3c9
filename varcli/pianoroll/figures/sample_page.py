"""Samples as one page for a browser: rolls, how they were written, their sound, files to take; it needs no network.

What is drawn and played is data in the page, and `sample_page.html` holds the rest.
Legend: P pitches, T steps, F frames.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from varcli.colours import RGB, Theme, make_theme
from varcli.pianoroll.figures.painter import BLACK_KEYS, Bounds, visible_pitches
from varcli.pianoroll.roll import PITCHES, Roll, note_arrays

_TEMPLATE = Path(__file__).with_suffix(".html")
_SHADES = 32  # of each hue
_KEPT, _FIRST_VOICE = 1, 2  # hues, after that of notes alone


@dataclass(frozen=True)
class Progress:
    """How a sample was written: cells u8 [F, P, T], 0 where nothing sounds yet, a label and new patches per frame."""

    frames: np.ndarray
    labels: Sequence[str]
    patches: Sequence[Sequence[Bounds]]


def entry(
    roll: Roll,
    written: Progress,
    *,
    stem: str,
    midi: bytes,
    sound: bytes,
    nats_per_note: float | None,
    tempos: Sequence[tuple[float, float]] = (),
) -> dict[str, Any]:
    """What the page knows of one sample; `sound` is an MP3 file, `stem` what files taken from the page are called.

    `tempos` are (step, microseconds a beat) where it changes, none if all is in the tempo of the roll.
    """
    bars = range(0, roll.steps, roll.steps_per_bar) if roll.downbeats is None else roll.downbeats
    return {
        "name": stem,
        "steps": roll.steps,
        "beat": roll.steps_per_beat,
        "bars": sorted({0, *(int(step) for step in bars if 0 <= step < roll.steps)}),
        "tempo": roll.tempo_bpm,
        "tempos": list(_tempos(tempos or [(0, 60e6 / roll.tempo_bpm)], roll.steps_per_beat)),
        "notes": list(_notes(roll, written.frames)),
        "labels": list(written.labels),
        "patches": [[list(map(int, area)) for area in areas] for areas in written.patches],
        "nats": nats_per_note,
        "midi": b64encode(midi).decode(),
        "sound": b64encode(sound).decode(),
    }


def _tempos(tempos: Sequence[tuple[float, float]], steps_per_beat: int) -> Iterator[tuple[float, float, float]]:
    """(step, second, steps a second) of each tempo."""
    before, second, per_second = 0.0, 0.0, 1.0
    for step, beat_us in tempos:
        second += (step - before) / per_second
        before, per_second = step, 1e6 * steps_per_beat / beat_us
        yield step, second, per_second


def _notes(roll: Roll, frames: np.ndarray) -> Iterator[list[Any]]:
    """(pitch, start, velocity, hue, [steps, first frame in which they sound]...) of each note."""
    born = np.where(frames.any(0), (frames > 0).argmax(0), len(frames) - 1)
    hues = np.zeros(roll.cells.shape, np.int64)
    if roll.voices is not None and len(roll.voices) > 1:
        sounding = np.stack([cells > 0 for cells in roll.voices.values()])
        hues = np.where(sounding.any(0), _FIRST_VOICE + sounding.argmax(0), 0)
    if roll.kept is not None:
        hues = np.where(roll.kept, _KEPT, hues)
    notes = note_arrays(roll.cells, roll.vocabulary)
    columns = (notes.pitch, notes.start, notes.end, notes.velocity)
    for pitch, start, end, velocity in zip(*(column.tolist() for column in columns), strict=True):
        when = born[pitch, start:end]
        edges = [0, *(np.flatnonzero(np.diff(when)) + 1).tolist(), end - start]
        parts = [[after - before, int(when[before])] for before, after in pairwise(edges)]
        yield [pitch, start, velocity, int(hues[pitch, start]), *parts]


def sample_page(
    title: str,
    facts: Sequence[str],
    samples: Sequence[Mapping[str, Any]],
    voices: Sequence[str] = (),
    kept: bool = False,
) -> str:
    """The page of some samples, as HTML; `facts` stand under the title, `voices` and `kept` tell what hues mean."""
    theme = make_theme()
    names = voices if len(voices) > 1 else ()
    hues = [theme.notes, theme.kept, *theme.voices(len(names))]
    data = {
        "samples": samples,
        "hues": [[_hex(colours[at]) for at in range(0, 256, 256 // _SHADES)] for colours in hues],
        "legend": [*([["kept", _KEPT]] if kept else []), *([name, _FIRST_VOICE + at] for at, name in enumerate(names))],
        "black": sorted(BLACK_KEYS),
    }
    used = np.zeros(PITCHES, bool)
    used[[note[0] for sample in samples for note in sample["notes"]]] = True
    data["pitches"] = visible_pitches(used)
    # Within a script element, only the beginning of a closing tag needs care.
    script = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = _TEMPLATE.read_text(encoding="utf-8").replace("__TITLE__", escape(title))
    page = page.replace("__FACTS__", escape(" · ".join(facts))).replace("__INKS__", _inks(theme))
    return page.replace("__DATA__", script)


def _inks(theme: Theme) -> str:
    """The theme as style variables: --ink-N is N hundredths of the way from background to ink."""
    amounts = (0, 4, 9, 13, 20, 30, 45, 60, 75, 95)
    return "".join(f"--ink-{amount}:{_hex(theme.mix(amount / 100))};" for amount in amounts)


def _hex(colour: RGB | np.ndarray) -> str:
    return "#" + "".join(f"{int(channel):02x}" for channel in colour)
