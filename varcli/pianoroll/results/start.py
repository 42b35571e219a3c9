"""What a sample starts from: nothing, or a prompt of which some is kept; read and checked before any model loads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

import numpy as np

from varcli.errors import UsageError, at_least, one_of
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.generation.settings import SampleSettings, check_conditioning
from varcli.pianoroll.metre import parse_metre
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.results.constraints import Constraints, check_pitches
from varcli.pianoroll.results.plan import NOTHING_ASKED, PlanOptions
from varcli.pianoroll.roll import PITCHES, Roll, Vocabulary, top_line
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.prompt import (
    Kept,
    Region,
    bar_start,
    bars_of,
    continuation,
    harmonising,
    inpainting,
    parse_region,
    read_prompt,
    read_voice,
)
from varcli.pianoroll.score.arrangement import Arrangement
from varcli.pianoroll.score.midi import LossReport, MidiPiece, share_out

DEFAULT_WIDTH = 256
DEFAULT_TEMPO = 120.0
FAR_OFF_GRID = 0.15
"""Mean distance of a prompt's onsets from the grid, in steps, that is worth a warning."""

Mode = Literal["unconditional", "continuation", "inpainting", "harmonise"]
Prompt = Roll | np.ndarray | Path


@dataclass(frozen=True)
class Start:
    """What to start from, as it was given: a prompt is a MIDI file, a roll, or cell codes [128, T] of one."""

    mode: Mode
    prompt: Prompt | None
    prompt_steps: int | None
    regions: tuple[Region | str, ...]
    keep_track: str | None
    constraints: Constraints
    width: int | None
    tempo_bpm: float | None
    bars: int | None = None
    plan: PlanOptions = NOTHING_ASKED
    metre: str | None = None
    drums: bool | None = None


@dataclass(frozen=True)
class Ready:
    """The same, read and checked: width in steps, tempo, constraints, bars, and the name of a voice that is kept.

    `kept` bool [P, T] are the cells of the roll that were known before the others are written, None without a prompt.
    `arrangement` is what else is kept of a prompt, None where that is a single track of piano in one tempo.
    """

    start: Start
    width: int
    tempo_bpm: float
    constraints: CanvasConstraints | None
    kept: np.ndarray | None = None
    steps_per_bar: int | None = None
    downbeats: tuple[int, ...] | None = None
    beat_units: Mapping[int, int] = field(default_factory=dict)
    voice: str | None = None
    warnings: tuple[str, ...] = ()
    arrangement: Arrangement | None = None

    def settings(self, asked: SampleSettings) -> SampleSettings:
        """How to sample: as asked, from this start."""
        return replace(
            asked,
            target_width=self.width,
            tempo_bpm=self.tempo_bpm,
            constraints=self.constraints,
            kept=self.kept,
            steps_per_bar=self.steps_per_bar,
            downbeats=self.downbeats,
            beat_units=self.beat_units,
        )

    def facts(self) -> Iterator[str]:
        """What was asked for, in words for the head of a page."""
        document = self.document()
        asked = {name: document.get(name) for name in ("prompt", "form", "chords", "key", "metre")}
        asked["prompt"] = document["prompt"] and PurePath(document["prompt"]).name
        for name, value in (asked | document["constraints"]).items():
            if value is not None:
                yield f"{name.replace('_', ' ')} {value}"

    def document(self) -> dict[str, Any]:
        """For JSON."""
        prompt, kept = self.start.prompt, self.kept
        return {
            "prompt": None if prompt is None else _name(prompt),
            "kept_cells": 0 if kept is None else int(kept.sum()),
            "written_cells": PITCHES * self.width - (0 if kept is None else int(kept.sum())),
            "tempo": self.tempo_bpm,
            **self.start.plan.document(),
            "metre": self.start.metre,
            "constraints": self.start.constraints.document(),
        }


def prepare(start: Start, config: PianorollConfig) -> Ready:
    """Read the prompt and work out what is kept and what may sound.

    Raises UsageError for options that do not go together or with the prompt, VarError for an unreadable prompt.
    """
    _check_mode(start)
    start.constraints.pitches()
    bar, units = _metre(start.metre, config)
    if start.prompt is None:
        return _from_nothing(start, config, bar, units)
    check_conditioning(config)
    check_pitches(config)
    piece, voice = _read(start, start.prompt, config)
    roll, model = piece.roll, config.model
    width = start.width or (DEFAULT_WIDTH if start.mode == "continuation" else roll.steps)
    if start.bars is not None:
        width = bar_start(start.bars + 1, roll, bar)
    downbeats = bars_of(roll, width, bar)
    units = {**roll.beat_units, **units}
    planes = Planes.over(model, width, bar or roll.steps_per_bar, downbeats, units)
    kept = _keep(start, roll, voice, width, planes, model.steps_per_bar)
    tempo = roll.tempo_bpm if start.tempo_bpm is None else start.tempo_bpm
    planned = start.plan.on_canvas(config, planes, kept.given, kept.codes, tempo)
    piece = _arranged(piece, start, width)
    return Ready(
        start,
        width,
        tempo,
        start.constraints.keeping(config, planes, width, **planned),
        planes.merge_kept(kept.given, kept.codes),
        bar or roll.steps_per_bar,
        downbeats,
        units,
        (start.keep_track or "Top voice") if start.mode == "harmonise" else None,
        tuple(_warnings(piece, _name(start.prompt), config)),
        None if piece.arrangement is None or piece.arrangement.is_plain else piece.arrangement,
    )


def _from_nothing(start: Start, config: PianorollConfig, bar: int | None, units: dict[int, int]) -> Ready:
    """A start without a prompt, in bars of `bar` steps; the default width is of whole bars."""
    whole = bar if bar and bar < DEFAULT_WIDTH else 1
    width = DEFAULT_WIDTH // whole * whole if start.width is None else start.width
    if start.bars is not None:
        width = start.bars * (bar or config.model.steps_per_bar)
    planes = Planes.over(config.model, width, bar, beat_units=units)
    constraints = start.constraints.on_canvas(config, planes, width)
    tempo = DEFAULT_TEMPO if start.tempo_bpm is None else start.tempo_bpm
    if start.plan:
        nothing = np.zeros((config.model.rows, planes.canvas_steps(width)), np.uint8)
        planned = start.plan.on_canvas(config, planes, nothing, nothing, tempo)
        constraints = start.constraints.keeping(config, planes, width, **planned)
    return Ready(start, width, tempo, constraints, steps_per_bar=bar, beat_units=units)


def _metre(text: str | None, config: PianorollConfig) -> tuple[int | None, dict[int, int]]:
    """The steps of a bar that are asked for, and its denominator; raises UsageError if the model knows none such."""
    if text is None:
        return None, {}
    model = config.model
    bar, unit = parse_metre(text, model.steps_per_beat)
    if not model.metre and bar != model.steps_per_bar:
        raise UsageError(
            f"{config.name} knows bars of {model.steps_per_bar} steps alone, and {text} has {bar}",
            "leave out --metre, or take a checkpoint with model.metre",
        )
    return bar, {bar: unit}


def _check_mode(start: Start) -> None:
    mode = start.mode
    one_of("--mode", mode, get_args(Mode))
    for option, number in (("--prompt-steps", start.prompt_steps), ("--bars", start.bars)):
        if number is not None:
            at_least(option, number, 1)
    if start.bars is not None and start.width is not None:
        raise UsageError("--bars and --target-width say the same", "give one of them")
    if mode == "unconditional" and start.prompt is not None:
        raise UsageError("--prompt means nothing to --mode unconditional", "choose another --mode, or leave it out")
    if mode != "unconditional" and start.prompt is None:
        raise UsageError(f"--mode {mode} needs a --prompt", f"for example --mode {mode} --prompt song.mid")
    if start.drums is not None and not isinstance(start.prompt, Path):
        raise UsageError("--drums is for a MIDI file", "give one as --prompt, or leave it out")
    for option, given, wanted in (
        ("--prompt-steps", start.prompt_steps is not None, "continuation"),
        ("--region", bool(start.regions), "inpainting"),
        ("--keep-track", start.keep_track is not None, "harmonise"),
    ):
        if given and mode != wanted:
            raise UsageError(f"{option} is for --mode {wanted}", f"leave it out of --mode {mode}")
    if mode == "inpainting" and not start.regions:
        raise UsageError("--mode inpainting needs a --region", "for example --region 64:128, or --region 64:128,48:72")


def _read(start: Start, prompt: Prompt, config: PianorollConfig) -> tuple[MidiPiece, np.ndarray | None]:
    """The prompt, and the voice u8 [P, T] of it that is to be kept, if one is."""
    if start.drums and not config.data.drums:
        raise UsageError(
            f"{config.name} was not trained with drums", "leave out --drums, and those of the prompt stay as they are"
        )
    if start.mode == "harmonise":
        return _voice(prompt, start.keep_track, config, start.drums)
    return read_prompt(prompt, config, start.drums) if isinstance(prompt, Path) else _piece(prompt, config), None


def _keep(start: Start, roll: Roll, voice: np.ndarray | None, width: int, planes: Planes, steps_per_bar: int) -> Kept:
    """What of the prompt is kept."""
    if voice is not None:
        return harmonising(voice, width, planes, start.keep_track)
    if start.mode == "inpainting":
        regions = [parse_region(region, roll) if isinstance(region, str) else region for region in start.regions]
        return inpainting(roll, regions, width, planes, steps_per_bar)
    return continuation(roll, start.prompt_steps, width, planes, steps_per_bar)


def _voice(
    prompt: Prompt, track: str | None, config: PianorollConfig, drums: bool | None
) -> tuple[MidiPiece, np.ndarray]:
    """The prompt, and the voice of it that is kept, u8 [P, T]."""
    if isinstance(prompt, Path):
        return read_voice(prompt, track, config, drums)
    if track is not None:
        raise UsageError(f"--keep-track {track!r}: a roll has no tracks", "leave it out to keep the top voice")
    piece = _piece(prompt, config)
    return piece, top_line(piece.roll.cells, piece.roll.vocabulary)


def _piece(prompt: Roll | np.ndarray, config: PianorollConfig) -> MidiPiece:
    """A roll, or cells on the grid of the model, in its voices; raises UsageError for one that is on another grid."""
    model, vocabulary = config.model, Vocabulary.of(config.model)
    roll = prompt if isinstance(prompt, Roll) else Roll(prompt, vocabulary, model.steps_per_beat, model.steps_per_bar)
    if (roll.vocabulary, roll.steps_per_beat) != (vocabulary, model.steps_per_beat):
        grid = f"{model.steps_per_beat} steps per beat, {vocabulary}"
        raise UsageError(f"the prompt is not on the grid of {config.name}: {grid}", "give its MIDI file")
    cells = np.asarray(roll.cells)
    if cells.ndim != 2 or cells.shape[0] != PITCHES or cells.dtype.kind not in "bui" or cells.max() >= vocabulary.size:
        codes = f"cells are [{PITCHES}, T] of whole numbers from 0 to {vocabulary.size - 1}"
        raise UsageError(f"the prompt has shape {cells.shape} of {cells.dtype}", codes)
    roll, names = replace(roll, cells=cells.astype(np.uint8)), model.voices
    if len(names) < 2 or tuple(roll.voices or ()) == names:
        return MidiPiece(roll if roll.voices else share_out(roll, names), LossReport())
    note = f"a roll without the voices of the model: the top line is read as {names[0]}, the rest as {names[-1]}"
    return MidiPiece(share_out(roll, names), LossReport(), note=note)


def _arranged(piece: MidiPiece, start: Start, width: int) -> MidiPiece:
    """The prompt with what is kept of its arrangement."""
    arrangement, steps = piece.arrangement, piece.roll.steps
    if arrangement is None:
        return piece
    if start.tempo_bpm is not None:
        arrangement = arrangement.at_one_tempo()
    end = (start.prompt_steps or steps) if start.mode == "continuation" else None if width >= steps else width
    return replace(piece, arrangement=replace(arrangement, end=end))


def _name(prompt: Prompt) -> str:
    """What a prompt is called in what is said of it."""
    return str(prompt) if isinstance(prompt, Path) else getattr(prompt, "title", "") or "the prompt"


def _warnings(piece: MidiPiece, name: str, config: PianorollConfig) -> Iterator[str]:
    roll, bar, loss = piece.roll, config.model.steps_per_bar, piece.loss
    if piece.note:
        yield f"{name}: {piece.note}"
    left_out, merged, cut = "", loss.merged, loss.cut
    if piece.arrangement is not None:
        left_out = ", ".join(sorted(piece.arrangement.score.left_out))
        merged, cut = max(0, merged - piece.arrangement.doublings), piece.arrangement.cut(roll)
    counts = {"moved to the grid": loss.moved, "merged": merged, "cut short": cut, "left out": loss.dropped}
    notes = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if left_out or notes:
        of_notes = notes and f"of {loss.notes_read} notes {notes}"
        yield f"{name}: " + "; ".join(filter(None, [left_out and f"without its {left_out}", of_notes]))
    if piece.loss.off_grid > FAR_OFF_GRID:
        off = f"{piece.loss.off_grid:.2f} of a step"
        yield f"{name}: onsets lie {off} off the grid on average; the model reads them where the grid puts them"
    if not config.model.metre and any(step % bar for step in roll.downbeats or ()):
        yield f"{name}: bars are not those of {bar} steps, from the first step on, that the model knows"
