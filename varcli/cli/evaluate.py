"""`var evaluate`: figures that say how good a model is."""

from collections.abc import Iterable
from enum import StrEnum
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varcli import loading
from varcli.cli.microscopy.evaluate_emitters import emitters
from varcli.cli.music.constraints import Constraints, MaxPolyphonyOption, PitchRangeOption, ScaleOption
from varcli.cli.music.evaluate_music import music
from varcli.cli.options import (
    Device,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    SeedOption,
    complete_checkpoint,
    config_of,
)
from varcli.cli.output import emit, table
from varcli.cli.progress import Display
from varcli.errors import UsageError, VarError

if TYPE_CHECKING:
    from varcli.pianoroll.config import PianorollConfig
    from varcli.pianoroll.corpus.corpus import Corpus, Piece
    from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, PieceLikelihood

app = typer.Typer(no_args_is_help=True, help="Measure a model, or what it made.")
app.command("music")(music)
app.command("emitters")(emitters)


class Split(StrEnum):
    """Which pieces are scored."""

    train = "train"
    valid = "valid"
    test = "test"


class Order(StrEnum):
    """The order in which masked levels decide."""

    random = "random"
    time = "time"


@app.callback()
def evaluate() -> None:
    """Measure a model on held-out music, the music that it made, or the emitters that it found."""


CheckpointArgument = Annotated[
    str, typer.Argument(help="A model's name, a .safetensors file or a run folder.", autocompletion=complete_checkpoint)
]
DataArgument = Annotated[Path, typer.Argument(help="Folder or zip of MIDI, a .mat or an .npz.")]
SplitOption = Annotated[Split, typer.Option("--split", help="Which pieces to score.")]
SurpriseMap = Annotated[
    Path | None, typer.Option("--surprise-map", metavar="DIR", help="Draw where each piece surprised the model.")
]
Passes = Annotated[int, typer.Option("--passes", min=1, help="Random orders averaged, for masked levels.")]
OrderOption = Annotated[
    Order, typer.Option("--order", help="Order of masked levels: random ones, averaged, or that of time, exactly.")
]


@app.command("likelihood")
def likelihood(
    checkpoint: CheckpointArgument,
    data: DataArgument,
    split: SplitOption = Split.test,
    surprise_map: SurpriseMap = None,
    passes: Passes = 1,
    order: OrderOption = Order.random,
    scale: ScaleOption = None,
    pitch_range: PitchRangeOption = None,
    max_polyphony: MaxPolyphonyOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """The likelihood of held-out pieces under a model, in nats per frame (a frame is one step of the grid).

    Exact for autoregressive models; for masked ones an upper bound, averaged over random orders, or, where no masked
    level has attention, exact in the order of time (--order time). Padding is never scored. Under a scale, pitch range
    or limit on polyphony it is that among the pieces that keep to it; those that do not have none, and are left out.
    JSON keys: checkpoint, data, split, nats_per_frame, nats_per_frame_from_2 (without the first frame of each piece;
    null where frames are not visited one by one), frames, bits_per_level, exact, passes, order, constraints {scale,
    pitch_range, max_polyphony}, skipped and impossible ([name, reason] each), pieces [{name, frames, nats_per_frame,
    surprise_map}].
    """

    if not data.exists():
        raise UsageError(f"no data at {data}", "give a folder or zip of MIDI, a .mat or an .npz")
    config = config_of(checkpoint)
    constraints = Constraints(scale, pitch_range, max_polyphony)
    constraints.limits(config, 1)
    if surprise_map is not None:
        from varcli.files import ensure_output_dir

        ensure_output_dir(surprise_map)
    model, _ = loading.load_model(checkpoint, loading.pick_device(device))
    from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score

    with Display() as display:
        corpus = _read(display, data, config)
        pieces = corpus.split(split.value)
        if not pieces:
            raise UsageError(f"{data}: no pieces in the split {split.value!r}", "choose another --split")
        for name, reason in corpus.skipped:
            display.warn(f"{name} is left out: {reason}")
        pieces, impossible = _possible(pieces, constraints, config)
        if not pieces:
            name, reason = impossible[0]
            why = f"{name}: {reason}"
            raise VarError(f"{data}: none of {len(impossible)} pieces keeps to the constraints; {why}", "loosen them")
        for name, reason in impossible:
            display.warn(f"{name} is left out: {reason}")
        maps = _maps(surprise_map, pieces, overwrite)
        limits = partial(constraints.on_canvas, config) if constraints else None
        *_, report = display.follow(
            score(model, pieces, passes=passes, seed=seed, constraints=limits, in_order=order is Order.time)
        )
        assert isinstance(report, LikelihoodReport)
        for path, piece, scored in zip(maps, pieces, report.pieces, strict=bool(maps)):
            _draw(path, piece, scored, config)
    document = {"checkpoint": checkpoint, "data": str(data), "split": split.value, "passes": passes}
    document |= {"order": order.value}
    document |= _figures(report, maps) | {"skipped": [list(skipped) for skipped in corpus.skipped]}
    document |= {"constraints": constraints.document(), "impossible": [list(pair) for pair in impossible]}
    unsaid = {"passes", "order", "pieces", "skipped", "impossible", "constraints"}
    rows = [(key, value) for key, value in document.items() if key not in unsaid]
    rows += [(key.replace("_", " "), value) for key, value in constraints.document().items()]
    lines = table([*rows, ("pieces", len(report.pieces)), ("surprise maps", surprise_map)])
    emit(document, lines, as_json)


def _possible(
    pieces: "list[Piece]", constraints: Constraints, config: "PianorollConfig"
) -> "tuple[list[Piece], list[tuple[str, str]]]":
    """The pieces that keep to the constraints, and (name, reason) of those that do not."""
    kept, impossible = [], []
    for piece in pieces:
        limits = constraints.limits(config, piece.cells.shape[1])
        reason = None if limits is None else limits.violation(piece.cells)
        if reason is None:
            kept.append(piece)
        else:
            impossible.append((piece.name, reason))
    return kept, impossible


def _read(display: Display, data: Path, config: "PianorollConfig") -> "Corpus":
    """Read the data onto the grid and vocabulary that the model knows."""
    from varcli.pianoroll.corpus.corpus import Corpus, read_corpus_of

    *_, corpus = display.follow(read_corpus_of(config, data))
    assert isinstance(corpus, Corpus)
    return corpus


def _maps(folder: Path | None, pieces: "Iterable[Piece]", overwrite: bool) -> list[Path]:
    """Where the surprise map of each piece goes; the number keeps apart names that differ only in their folder."""
    from varcli.files import refuse_existing

    if folder is None:
        return []
    paths = [folder / f"{number:03d}_{PurePath(piece.name).stem}.png" for number, piece in enumerate(pieces)]
    refuse_existing(paths, overwrite)
    return paths


def _draw(path: Path, piece: "Piece", scored: "PieceLikelihood", config: "PianorollConfig") -> None:
    from varcli.files import write_bytes
    from varcli.pianoroll.figures.picture import png_bytes
    from varcli.pianoroll.figures.surprise import draw_surprise

    image = draw_surprise(
        scored.cells_nats,
        title=f"Surprise in {piece.name}",
        steps_per_beat=config.model.steps_per_beat,
        steps_per_bar=config.model.steps_per_bar,
        downbeats=piece.downbeats.tolist() or None,
    )
    write_bytes(path, png_bytes(image))


def _figures(report: "LikelihoodReport", maps: list[Path]) -> dict[str, Any]:
    pieces = [
        {"name": piece.name, "frames": piece.frames, "nats_per_frame": piece.nats / piece.frames}
        for piece in report.pieces
    ]
    for piece, path in zip(pieces, maps, strict=bool(maps)):
        piece["surprise_map"] = str(path)
    return {
        "nats_per_frame": report.nats_per_frame,
        "nats_per_frame_from_2": report.nats_per_frame_from_2,
        "frames": report.frames,
        "bits_per_level": dict(report.bits_per_level),
        "exact": report.exact,
        "pieces": pieces,
    }
