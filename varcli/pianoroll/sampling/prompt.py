"""Prompts: what of a piece is kept when the rest is written, in each of the three modes that start from one.

Shapes: P pitches, T steps, R rows of the model's canvas (see `planes`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from varcli.errors import UsageError
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.corpus.sources import beats_beside
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import PITCHES, Roll, Vocabulary, top_line
from varcli.pianoroll.score.midi import MidiPiece, read_midi, split_top_line
from varcli.pianoroll.score.scales import parse_pitches
from varcli.pianoroll.score.voices import TrackRule


@dataclass(frozen=True)
class Kept:
    """Cells of a canvas that are kept: `given` bool [R, K], and `codes` u8 [R, K] of what they hold, 0 elsewhere."""

    given: np.ndarray
    codes: np.ndarray

    @classmethod
    def of(cls, canvas: np.ndarray, given: np.ndarray, planes: Planes, steps_per_bar: int) -> "Kept":
        """What is `given` bool [R, T] of a canvas u8 [R, K], and the plan of the bars of which that is enough to know
        it."""
        given = planes.spread(given)
        given, known = planes.spread_given(given, np.where(given, canvas, 0).astype(np.uint8))
        planned = planes.write_plan(known.copy(), steps_per_bar)
        given[: planes.plan_rows] = planes.plan_known(planned, given, steps_per_bar)
        return cls(given, np.where(given, planned, 0).astype(np.uint8))


@dataclass(frozen=True)
class Region:
    """Cells to be written anew: steps `start` to `end`, half-open, and pitches `low` to `high`, both inclusive."""

    start: int
    end: int
    low: int = 0
    high: int = PITCHES - 1


def parse_region(text: str, roll: Roll | None = None) -> Region:
    """Read START:END[,LOW:HIGH], such as 64:128, 64:128,C4:C6 or bar5:bar9 of a roll (None: in bars of 16 steps).

    Bars count from 1, and END is the first one that is not written anew. Raises UsageError for anything else, also for
    a region of no size.
    """
    steps, _, pitches = text.partition(",")
    match = re.fullmatch(r"\s*(bar)?(\d+)\s*:\s*(bar)?(\d+)\s*", steps)
    if match is None or match[1] != match[3] or (match[1] and "0" in (match[2], match[4])):
        raise UsageError(
            f"--region {text!r}: not START:END[,LOW:HIGH]", "for example --region 64:128, 64:128,48:72, or bar5:bar9"
        )
    start, end = int(match[2]), int(match[4])
    if start >= end:
        raise UsageError(f"--region {text}: holds no step", "END is the first step, or bar, after it")
    if match[1]:
        start, end = (bar_start(bar, roll or Roll(np.zeros((PITCHES, 0), np.uint8))) for bar in (start, end))
    low, high = parse_pitches(pitches, f"--region {text}") if "," in text else (0, PITCHES - 1)
    return Region(start, end, low, high)


def bar_start(bar: int, roll: Roll, steps_per_bar: int | None = None) -> int:
    """The step at which a bar of a roll begins; the first is 1, and a pickup lies before it.

    After the last bar that the roll knows follow one of its usual length and bars of `steps_per_bar` (None: of that).
    """
    known = roll.downbeats or (0,)
    if bar <= len(known):
        return known[bar - 1]
    return known[-1] + roll.steps_per_bar + (bar - len(known) - 1) * (steps_per_bar or roll.steps_per_bar)


def read_prompt(path: Path, config: PianorollConfig, drums: bool | None = None) -> MidiPiece:
    """Read a MIDI file onto the grid and vocabulary of a model, by its beat annotation if there is one beside it.

    For a model with voices the roll has them; one voice alone is shared out, see `split_top_line`. `drums` are read if
    asked for, by default (None) if the model was trained with them.
    Raises UsageError or VarError as read_midi.
    """
    return split_top_line(read_midi(path, **_grid(path, config, drums), voices=TrackRule.of(config)))


def _grid(path: Path, config: PianorollConfig, drums: bool | None) -> dict[str, Any]:
    model, read = config.model, config.data.drums if drums is None else drums
    options = {"steps_per_beat": model.steps_per_beat, "vocabulary": Vocabulary.of(model), "drums": read}
    return {**options, "beats": beats_beside(path)}


def read_voice(
    path: Path, track: str | None, config: PianorollConfig, drums: bool | None = None
) -> tuple[MidiPiece, np.ndarray]:
    """Read a prompt, and the voice of it that is to be kept: that of `track`, or the top voice; u8 [P, T]."""
    if track is None:
        piece = read_prompt(path, config, drums)
        return piece, top_line(piece.roll.cells, piece.roll.vocabulary)
    piece = read_midi(path, **_grid(path, config, drums), voices=TrackRule.only(track))
    assert piece.roll.voices is not None
    voice = piece.roll.voices[track]
    if not voice.any():
        others = list(piece.tracks.values())[-1]
        there = ", ".join(filter(None, others)) or "none of them has a name"
        raise UsageError(f"{path}: no track {track!r} with notes", f"tracks with notes: {there}")
    return piece, voice


def continuation(roll: Roll, steps: int | None, width: int, planes: Planes, steps_per_bar: int) -> Kept:
    """Keep the first `steps` steps of a roll (None: all), to be continued up to `width`."""
    kept = roll.steps if steps is None else steps
    if kept > roll.steps:
        raise UsageError(f"--prompt-steps {kept}: the prompt has {roll.steps} steps", f"give at most {roll.steps}")
    if kept >= width:
        raise UsageError(
            f"{kept} steps of the prompt leave nothing to write of --target-width {width}",
            f"give a --target-width above {kept}, or keep less with --prompt-steps",
        )
    given = np.zeros((planes.rows, width), bool)
    given[planes.plan_rows :, :kept] = True
    return Kept.of(_canvas(roll, width, planes), given, planes, steps_per_bar)


def inpainting(roll: Roll, regions: Sequence[Region], width: int, planes: Planes, steps_per_bar: int) -> Kept:
    """Keep everything but the cells in `regions`, of all voices; what lies beyond the end of the roll stays silent."""
    given = np.ones((planes.rows, width), bool)
    for region in regions:
        if region.end > width:
            raise UsageError(
                f"--region {region.start}:{region.end} goes beyond the roll, which has {width} steps",
                f"end it at {width}, or make the roll longer with --target-width",
            )
        for name in planes.names:
            given[planes.pitch_rows(name)][region.low : region.high + 1, region.start : region.end] = False
    return Kept.of(_canvas(roll, width, planes), given, planes, steps_per_bar)


def harmonising(voice: np.ndarray, width: int, planes: Planes, name: str | None = None) -> Kept:
    """Keep a voice u8 [P, T]: of a model with voices that called `name`, else its first, as a whole.

    Of a model without voices, the cells in which it sounds are kept and the silent one after each note, which ends the
    note where it ends in the voice; all other cells are free.
    """
    codes = fit(voice, width)
    if not codes.any():
        raise UsageError(f"no note of the voice begins in the first {width} steps", "raise --target-width")
    if len(planes.names) > 1:
        canvas, given = np.zeros((2, planes.rows, width), np.uint8)
        rows = planes.pitch_rows(name if name in planes.names else planes.names[0])
        canvas[rows] = codes
        given[rows.start : rows.start + planes.plane_rows] = 1
        return Kept(*planes.spread_given(planes.spread(given.astype(bool)), planes.spread(canvas)))
    given = codes > 0
    given[:, 1:] |= codes[:, :-1] > 0
    return Kept(*planes.spread_given(planes.stack_piece(given, None), planes.stack_piece(codes, None)))


def _canvas(roll: Roll, width: int, planes: Planes) -> np.ndarray:
    """The canvas u8 [R, K] of a roll cut or extended with silence to `width` steps."""
    voices = {name: fit(cells, width) for name, cells in (roll.voices or {}).items()}
    return planes.stack_piece(fit(roll.cells, width), voices)


def fit(cells: np.ndarray, width: int) -> np.ndarray:
    """A canvas u8 [P, T] cut or extended with silence to `width` steps."""
    return np.pad(cells[:, :width], ((0, 0), (0, max(0, width - cells.shape[1]))))


def bars_of(roll: Roll, width: int, steps_per_bar: int | None = None) -> tuple[int, ...] | None:
    """Steps of a roll's bar starts up to `width`; after the last one it knows follow a bar of its usual length, and
    bars of `steps_per_bar` (None: of that length)."""
    if not roll.downbeats:
        return None
    after = roll.downbeats[-1] + roll.steps_per_bar
    return tuple(
        bar for bar in (*roll.downbeats, *range(after, width, steps_per_bar or roll.steps_per_bar)) if bar < width
    )
