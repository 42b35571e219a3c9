"""`var evaluate`: figures that say how good a model is."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from varcli.cli.microscopy.evaluate_emitters import emitters
from varcli.cli.music.constraints import ConstraintOptions
from varcli.cli.music.evaluate_music import music
from varcli.cli.options import (
    DeviceOption,
    JsonOption,
    OverwriteOption,
    SeedOption,
    complete_checkpoint,
    grouped,
)
from varcli.cli.output import emit, table
from varcli.cli.progress import Display

app = typer.Typer(no_args_is_help=True, help="Measure a model, or what it made.")
app.command("music")(music)
app.command("emitters")(emitters)


@app.callback()
def evaluate() -> None:
    """Measure a model on held-out music, the music that it made, or the emitters that it found."""


CheckpointArgument = Annotated[
    str, typer.Argument(help="A model's name, a .safetensors file or a run folder.", autocompletion=complete_checkpoint)
]
DataArgument = Annotated[Path, typer.Argument(help="Folder or zip of MIDI, a .mat or an .npz.")]
SplitOption = Annotated[Literal["train", "valid", "test"], typer.Option("--split", help="Which pieces to score.")]
SurpriseMap = Annotated[
    Path | None, typer.Option("--surprise-map", metavar="DIR", help="Draw where each piece surprised the model.")
]
Passes = Annotated[int, typer.Option("--passes", min=1, help="Random orders averaged, for masked levels.")]
OrderOption = Annotated[
    Literal["random", "time"],
    typer.Option("--order", help="Order of masked levels: random ones, averaged, or that of time, exactly."),
]


@app.command("likelihood")
@grouped
def likelihood(
    checkpoint: CheckpointArgument,
    data: DataArgument,
    *,
    split: SplitOption = "test",
    surprise_map: SurpriseMap = None,
    passes: Passes = 1,
    order: OrderOption = "random",
    constraints: ConstraintOptions,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
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
    from varcli.api.music import evaluate_likelihood_events
    from varcli.pianoroll.results.likelihood import Likelihood

    events = evaluate_likelihood_events(
        checkpoint,
        data,
        split=split,
        passes=passes,
        order=order,
        **asdict(constraints),
        surprise_maps=surprise_map,
        seed=seed,
        device=device,
        overwrite=overwrite,
    )
    with Display() as display:
        document = display.result(events, Likelihood).document()
    unsaid = {"passes", "order", "pieces", "skipped", "impossible", "constraints"}
    rows = [(key, value) for key, value in document.items() if key not in unsaid]
    rows += [(key.replace("_", " "), value) for key, value in document["constraints"].items()]
    emit(document, table([*rows, ("pieces", len(document["pieces"])), ("surprise maps", surprise_map)]), as_json)
