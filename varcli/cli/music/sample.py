"""`var sample`: a trained model writes piano rolls, as MIDI, a picture and an animation of how it wrote them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from varcli.cli.music.constraints import ConstraintOptions
from varcli.cli.music.outputs import OutputOptions
from varcli.cli.options import (
    DeviceOption,
    JsonOption,
    OutputDirOption,
    OverwriteOption,
    SeedOption,
    complete_checkpoint,
    grouped,
    parse_counts,
    parse_every,
    parse_levels,
    parse_per_level,
)
from varcli.cli.output import emit
from varcli.cli.progress import Display

if TYPE_CHECKING:
    from varcli.pianoroll.figures.terminal import RollView

ModeOption = Annotated[
    Literal["unconditional", "continuation", "inpainting", "harmonise"],
    typer.Option("--mode", help="Write from nothing, go on after a prompt, rewrite regions of it, or add to a voice."),
]


@dataclass(frozen=True)
class ModelOptions:
    """Which model writes, how much, and how it draws."""

    checkpoint: Annotated[
        str,
        typer.Option("--checkpoint", help="A model's name, file or run folder.", autocompletion=complete_checkpoint),
    ] = "fractal-ar"
    num_samples: Annotated[int, typer.Option("--num-samples", min=1, help="How many rolls.")] = 1
    index: Annotated[
        int | None, typer.Option("--index", min=0, metavar="K", help="Write the roll of that number alone, from 0.")
    ] = None
    best_of: Annotated[
        int | None,
        typer.Option(
            "--best-of", min=1, metavar="N", help="Write the best of N, by the model's own likelihood a note."
        ),
    ] = None
    vary: Annotated[
        int | None,
        typer.Option("--vary", min=0, metavar="K", help="More like the roll of that number: its plan, other notes."),
    ] = None
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Rolls written together.")] = 1
    target_width: Annotated[
        int | None,
        typer.Option(
            "--target-width",
            min=1,
            help="Length in steps, 16th notes by default: 256, or for inpainting and harmonise that of the prompt.",
        ),
    ] = None
    bars: Annotated[
        int | None, typer.Option("--bars", min=1, metavar="N", help="Length in bars, in place of --target-width.")
    ] = None
    num_iter_list: Annotated[
        str | None,
        typer.Option("--num-iter-list", help='Masked models: iterations per level, such as "12 8 4 1".'),
    ] = None
    scan_order: Annotated[
        Literal["row_major", "column_major"] | None,
        typer.Option("--scan-order", help="Order of children; the checkpoint's own by default."),
    ] = None
    form: Annotated[
        str | None,
        typer.Option(
            "--form", metavar="AABA", help="Sections of equal length; one returns to the last of its letter, A' varied."
        ),
    ] = None
    chords: Annotated[
        str | None,
        typer.Option(
            "--chords",
            metavar='"C Am F G"',
            help="A chord for each bar, over and over; or a file of lines START END CHORD, in seconds.",
        ),
    ] = None
    key: Annotated[
        str | None, typer.Option("--key", metavar="Am", help="The key that the music is to be in: C, F#m, Bb minor.")
    ] = None
    metre: Annotated[
        str | None,
        typer.Option(
            "--metre", "--meter", metavar="N/D", help="Length of bars, such as 3/4; the prompt's own, or 4/4."
        ),
    ] = None
    temperature: Annotated[
        str | None,
        typer.Option("--temperature", help='Divides the logits; a number, or one per level, such as "1,1,0.9,1".'),
    ] = None
    top_p: Annotated[
        str | None,
        typer.Option(
            "--top-p", help='Keep the likeliest up to this share; a number, or one per level: "1,1,0.95,0.98".'
        ),
    ] = None
    tempo: Annotated[
        float | None,
        typer.Option(
            "--tempo", min=4, max=1000, metavar="BPM", help="Quarter notes a minute; the prompt's own, or 120."
        ),
    ] = None


@dataclass(frozen=True)
class PromptOptions:
    """A piece, and what of it is kept."""

    prompt: Annotated[
        Path | None, typer.Option("--prompt", metavar="FILE.mid", help="The piece to go on from, rewrite or harmonise.")
    ] = None
    prompt_steps: Annotated[
        int | None,
        typer.Option(
            "--prompt-steps", min=1, metavar="N", help="Continuation: keep the first N steps; all by default."
        ),
    ] = None
    region: Annotated[
        list[str] | None,
        typer.Option(
            "--region",
            metavar="START:END[,LOW:HIGH]",
            help="Inpainting: write these steps, or bars such as bar5:bar9 (END excluded), and pitches (both included) "
            "anew; may be repeated.",
        ),
    ] = None
    keep_track: Annotated[
        str | None,
        typer.Option("--keep-track", metavar="NAME", help="Harmonise: the track to keep; the top voice by default."),
    ] = None
    drums: Annotated[
        bool | None,
        typer.Option(
            "--drums/--no-drums",
            help="Read drums of the prompt into the roll, if the model was trained with them; others stay as they are.",
        ),
    ] = None


@dataclass(frozen=True)
class RecordingOptions:
    """What is recorded while the model writes."""

    gif: Annotated[bool, typer.Option("--gif/--no-gif", help="Animate how the model wrote the roll.")] = False
    gif_samples: Annotated[
        Literal["first", "all"], typer.Option("--gif-samples", help="Which samples are animated.")
    ] = "first"
    fps: Annotated[float, typer.Option("--fps", min=0.1, max=100, help="Frames a second of the animation.")] = 2
    record_levels: Annotated[
        str, typer.Option("--record-levels", help='Levels whose patches make a frame, such as "0,1".')
    ] = "0"
    record_every: Annotated[
        str, typer.Option("--record-every", metavar="auto|N", help="Keep each N-th frame; auto keeps at most 48.")
    ] = "auto"
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the roll in the terminal while it is written, if it has colours.")
    ] = False
    save_frames: Annotated[bool, typer.Option("--save-frames", help="Keep frames.npz, which `var gif` reads.")] = False


@grouped
def sample(
    mode: ModeOption,
    *,
    model: ModelOptions,
    start: PromptOptions,
    constraints: ConstraintOptions,
    recording: RecordingOptions,
    outputs: OutputOptions,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    output_dir: OutputDirOption = Path("outputs"),
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write new piano rolls: MODE_000.mid and .png, with --gif MODE_000_process.gif, with --audio the sound, for each.

    With --html MODE.html shows and plays them all.
    What is kept of a prompt stays as it is, cell by cell. The same seed gives the same bytes on the same machine.
    JSON keys: mode, checkpoint, seed, prompt, kept_cells, written_cells, tempo, form, chords, key, metre,
    constraints {scale, pitch_range, max_polyphony}, samples [{index, midi, picture, gif, frames, audio, score, notes,
    steps, nats_per_note, seconds}], page, ranking [{index, nats_per_note, faults}] and seconds, with null for what was
    not asked for.
    """
    _compile_beside()
    from varcli.api.music import sample_events
    from varcli.pianoroll.results.samples import Recordings, Samples

    levels = parse_levels(recording.record_levels, "--record-levels")
    every = parse_every(recording.record_every, "--record-every")
    animated = recording.gif_samples if recording.gif else "none"
    events = sample_events(
        mode,
        checkpoint=model.checkpoint,
        num_samples=model.num_samples,
        batch_size=model.batch_size,
        index=model.index,
        best_of=model.best_of,
        vary=model.vary,
        target_width=model.target_width,
        temperature=parse_per_level(model.temperature, "--temperature"),
        top_p=parse_per_level(model.top_p, "--top-p"),
        num_iter_list=parse_counts(model.num_iter_list, "--num-iter-list"),
        scan_order=model.scan_order,
        tempo_bpm=model.tempo,
        bars=model.bars,
        form=model.form,
        chords=model.chords,
        key=model.key,
        metre=model.metre,
        **asdict(start),
        **asdict(constraints),
        recordings=Recordings(animated, recording.fps, levels, every, recording.save_frames, **asdict(outputs)),
        seed=seed,
        device=device,
        output_dir=output_dir,
        overwrite=overwrite,
    )
    with Display(view=_view(model.checkpoint) if recording.watch else None) as display:
        document = display.result(events, Samples).document()
    emit(document, _lines(document), as_json)


def _view(checkpoint: str) -> "RollView":
    """What `--watch` shows."""
    from varcli.loading import config_of
    from varcli.pianoroll.figures.terminal import RollView
    from varcli.pianoroll.roll import Vocabulary

    return RollView(Vocabulary.of(config_of(checkpoint).model))


def _compile_beside() -> None:
    """Begin to compile the engine's larger pieces, if need be, before the rest is imported, which takes its time."""
    from varcli.compiled import compile_beside
    from varcli.pianoroll.inference import engine

    for example in (engine.advance_example, engine.look_example):
        compile_beside(example)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    for said in document["samples"]:
        files = [said[key] for key in ("midi", "picture", "gif", "frames", "audio", "score") if said[key]]
        yield f"{'  '.join(files)}  ({said['notes']} notes, {said['seconds']:.1f} s)"
    if document["page"]:
        yield document["page"]
    for place, one in enumerate(document["ranking"] or [], 1):
        nats = "no note" if one["nats_per_note"] is None else f"{one['nats_per_note']:.2f} nats a note"
        yield f"{place}. number {one['index']}: {', '.join([nats, *one['faults']])}"
