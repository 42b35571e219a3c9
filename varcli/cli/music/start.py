"""What a sample starts from: nothing, or a prompt of which some is kept; read and checked before any model loads."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varcli.cli.music.constraints import Constraints, check_pitches
from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.pianoroll.config import PianorollConfig
    from varcli.pianoroll.sampling.constraints import CanvasConstraints
    from varcli.pianoroll.sampling.prompt import Kept
    from varcli.pianoroll.score.midi import MidiPiece

DEFAULT_WIDTH = 256
DEFAULT_TEMPO = 120.0
FAR_OFF_GRID = 0.15
"""Mean distance of a prompt's onsets from the grid, in steps, that is worth a warning."""


class Mode(StrEnum):
    """What a sample starts from."""

    unconditional = "unconditional"
    continuation = "continuation"
    inpainting = "inpainting"
    harmonise = "harmonise"


ModeOption = Annotated[
    Mode,
    typer.Option("--mode", help="Write from nothing, go on after a prompt, rewrite regions of it, or add to a voice."),
]
PromptOption = Annotated[
    Path | None, typer.Option("--prompt", metavar="FILE.mid", help="The piece to go on from, rewrite or harmonise.")
]
PromptSteps = Annotated[
    int | None,
    typer.Option("--prompt-steps", min=1, metavar="N", help="Continuation: keep the first N steps; all by default."),
]
RegionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--region",
        metavar="START:END[,LOW:HIGH]",
        help="Inpainting: write these steps (END excluded) and pitches (both included) anew; may be repeated.",
    ),
]
KeepTrack = Annotated[
    str | None,
    typer.Option("--keep-track", metavar="NAME", help="Harmonise: the track to keep; the top voice by default."),
]


@dataclass(frozen=True)
class Start:
    """The options that say what to start from, as they were given."""

    mode: Mode
    prompt: Path | None
    prompt_steps: int | None
    regions: tuple[str, ...]
    keep_track: str | None
    constraints: Constraints
    width: int | None
    tempo_bpm: float | None


@dataclass(frozen=True)
class Ready:
    """The same, read and checked: width in steps, tempo, constraints, bars, and the name of a voice that is kept."""

    start: Start
    width: int
    tempo_bpm: float
    constraints: "CanvasConstraints | None"
    steps_per_bar: int | None = None
    downbeats: tuple[int, ...] | None = None
    voice: str | None = None
    warnings: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """What --json says of it."""
        given = None if self.start.prompt is None or self.constraints is None else self.constraints.given
        return {
            "prompt": None if self.start.prompt is None else str(self.start.prompt),
            "kept_cells": 0 if given is None else int(given.sum()),
            "written_cells": 128 * self.width if given is None else int((~given).sum()),
            "tempo": self.tempo_bpm,
            "constraints": self.start.constraints.document(),
        }


def prepare(start: Start, config: "PianorollConfig") -> Ready:
    """Read the prompt and work out what is kept and what may sound.

    Raises UsageError for options that do not go together or with the prompt, VarError for an unreadable prompt.
    """
    _check_mode(start)
    allowed = start.constraints.pitches()
    if start.prompt is None:
        width = DEFAULT_WIDTH if start.width is None else start.width
        constraints = start.constraints.limits(config, width)
        return Ready(start, width, DEFAULT_TEMPO if start.tempo_bpm is None else start.tempo_bpm, constraints)

    from varcli.pianoroll.generation.settings import check_conditioning
    from varcli.pianoroll.sampling.constraints import CanvasConstraints
    from varcli.pianoroll.sampling.prompt import bars_of

    check_conditioning(config)
    check_pitches(config)
    piece, kept = _keep(start, start.prompt, config)
    width, roll = kept.given.shape[1], piece.roll
    constraints = CanvasConstraints(
        kept.given,
        kept.codes,
        allowed[:, None].repeat(width, 1),
        start.constraints.max_polyphony,
        binary=roll.vocabulary.binary,
    )
    return Ready(
        start,
        width,
        roll.tempo_bpm if start.tempo_bpm is None else start.tempo_bpm,
        constraints,
        roll.steps_per_bar,
        bars_of(roll, width),
        (start.keep_track or "Top voice") if start.mode is Mode.harmonise else None,
        tuple(_warnings(piece, start.prompt, config)),
    )


def _check_mode(start: Start) -> None:
    mode = start.mode
    if mode is Mode.unconditional and start.prompt is not None:
        raise UsageError("--prompt means nothing to --mode unconditional", "choose another --mode, or leave it out")
    if mode is not Mode.unconditional and start.prompt is None:
        raise UsageError(f"--mode {mode.value} needs a --prompt", f"for example --mode {mode.value} --prompt song.mid")
    for option, given, wanted in (
        ("--prompt-steps", start.prompt_steps is not None, Mode.continuation),
        ("--region", bool(start.regions), Mode.inpainting),
        ("--keep-track", start.keep_track is not None, Mode.harmonise),
    ):
        if given and mode is not wanted:
            raise UsageError(f"{option} is for --mode {wanted.value}", f"leave it out of --mode {mode.value}")
    if mode is Mode.inpainting and not start.regions:
        raise UsageError("--mode inpainting needs a --region", "for example --region 64:128, or --region 64:128,48:72")


def _keep(start: Start, path: Path, config: "PianorollConfig") -> "tuple[MidiPiece, Kept]":
    """The prompt, and what of it is kept."""
    from varcli.pianoroll.sampling.prompt import (
        continuation,
        harmonising,
        inpainting,
        parse_region,
        read_prompt,
        read_voice,
    )

    if start.mode is Mode.harmonise:
        piece, voice = read_voice(path, start.keep_track, config)
        return piece, harmonising(voice, start.width or piece.roll.steps)
    regions = [parse_region(text) for text in start.regions]
    piece = read_prompt(path, config)
    if start.mode is Mode.inpainting:
        return piece, inpainting(piece.roll, regions, start.width or piece.roll.steps)
    return piece, continuation(piece.roll, start.prompt_steps, start.width or DEFAULT_WIDTH)


def _warnings(piece: "MidiPiece", path: Path, config: "PianorollConfig") -> Iterator[str]:
    roll, bar = piece.roll, config.model.steps_per_bar
    if piece.loss.off_grid > FAR_OFF_GRID:
        off = f"{piece.loss.off_grid:.2f} of a step"
        yield f"{path}: onsets lie {off} off the grid on average; the model reads them where the grid puts them"
    if any(step % bar for step in roll.downbeats or ()):
        yield f"{path}: bars are not those of {bar} steps, from the first step on, that the model knows"
