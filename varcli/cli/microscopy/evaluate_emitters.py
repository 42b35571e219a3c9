"""`var evaluate emitters`: how near a table of emitters comes to the truth."""

from pathlib import Path
from typing import Annotated, Any

import typer

from varcli.cli.options import JsonOption
from varcli.cli.output import emit, table, warn
from varcli.errors import UsageError

Found = Annotated[Path, typer.Argument(metavar="FOUND", help="Table of emitters to score, in any format that is read.")]
Truth = Annotated[Path, typer.Argument(metavar="TRUTH", help="Table of the true emitters of the same frames.")]
Radius = Annotated[float, typer.Option("--radius", metavar="NM", min=1e-3, help="How far apart a pair may lie.")]
Border = Annotated[float, typer.Option("--border", metavar="NM", min=0.0, help="Margin of the field left unscored.")]
SizeNm = Annotated[
    str | None,
    typer.Option("--size-nm", metavar="W,H", help="Size of the field; by default what the tables say of it."),
]
PixelSize = Annotated[
    float | None,
    typer.Option(
        "--pixel-size",
        metavar="NM",
        min=1e-3,
        help="Camera pixel, for gridding, and for tables in pixels that do not say it.",
    ),
]
LeastPhotons = Annotated[
    float, typer.Option("--least-photons", min=0.0, help="Dimmer true emitters count neither for nor against.")
]


def emitters(
    found: Found,
    truth: Truth,
    radius: Radius = 250.0,
    border: Border = 450.0,
    size_nm: SizeNm = None,
    pixel_size: PixelSize = None,
    least_photons: LeastPhotons = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Score a table of emitters against the truth: as many pairs as possible within a radius, frame by frame.

    JSON keys: found, truth, radius_nm, border_nm, least_photons, size_nm [width, height], pixel_size_nm, assumed (names
    of values that neither options nor tables say, and how they were made), emitters {found, truth}, frames (that hold
    an emitter on either side), true_positives, false_positives, missed, precision, recall, jaccard (percent), rmse_nm
    (lateral), rmse_axis_nm, efficiency, bias_x_nm, bias_y_nm, photon_ratio (median), gridding_x, gridding_y,
    within_1_sd, within_2_sd, z_std_robust, probability_error. Null stands for what the tables do not allow.
    """
    from varcli.api.microscopy import evaluate_emitters

    done = evaluate_emitters(
        found,
        truth,
        radius_nm=radius,
        border_nm=border,
        size_nm=None if size_nm is None else _parse_size(size_nm),
        pixel_size_nm=pixel_size,
        least_photons=least_photons,
    )
    if "size_nm" in done.assumed:
        ends = f"{done.size_nm[0]:.0f} x {done.size_nm[1]:.0f} nm, where the furthest emitter lies"
        warn(f"the size of the field is assumed: {ends}; see --size-nm")
    document = {"found": str(found), "truth": str(truth), **done.document()}
    emit(document, _lines(document), as_json)


def _parse_size(text: str) -> tuple[float, float]:
    """Read "W,H" in nm; raises UsageError."""
    try:
        width, height = (float(part) for part in text.split(","))
    except ValueError:
        width = height = 0.0
    if not 0 < min(width, height) <= max(width, height) < float("inf"):
        raise UsageError(f"--size-nm {text!r}: not a width and a height", "for example --size-nm 4000,4000")
    return width, height


def _lines(document: dict[str, Any]) -> list[str]:
    """The figures for people; what is not defined is left out."""
    named = ("found", "truth", "radius_nm", "border_nm", "pixel_size_nm")
    said = [(key.replace("_", " "), document[key]) for key in named]
    counts = [("emitters", document["emitters"]), ("frames", document["frames"])]
    keys = list(document)
    scores = [(key.replace("_", " "), document[key]) for key in keys[keys.index("frames") + 1 :]]
    size = " x ".join(f"{side:g}" for side in document["size_nm"])
    shown = [*said, ("field nm", size), *counts, *scores]
    return table((name, value) for name, value in shown if value == value)
