"""What follows localisation, from tables to files: read and merge them, take the steps, measure, write and draw."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from varcli.emitters.events import StepsPlanned, StepStarted
from varcli.emitters.figures.render import Renderer, Rendering
from varcli.emitters.post.merge import merge, sort_by_frame
from varcli.emitters.post.pipeline import Processed, Steps, process
from varcli.emitters.post.quality import Quality, measure
from varcli.emitters.results.files import Files
from varcli.emitters.table import EmitterTable
from varcli.emitters.tables import READ_META, Field, read_table, table_writer
from varcli.emitters.tables.base import whole
from varcli.errors import UsageError
from varcli.events import Event, Warned
from varcli.files import ensure_output_dir, write_text

_READ, _MEASURE, _WRITE, _DRAW = "read", "precision and resolution", "write", "draw"
_REPORT_NM = 10.0


@dataclass(frozen=True)
class Merged:
    """Tables as one, what they are called, the field that they belong to, sentences about what of it is assumed, by
    name, and what is to be warned of."""

    table: EmitterTable
    sources: tuple[str, ...]
    field: Field
    assumed: dict[str, str]
    warnings: tuple[str, ...] = ()


def merged(
    sources: Sequence[EmitterTable | Path], pixel_size_nm: float | None, frames: Literal["append", "keep"], sort: bool
) -> Merged:
    """Read tables and merge them, `frames` of each after those before or as they are.

    `sort` sorts frames that are out of order. Raises UsageError for those otherwise, and where no one knows the pixel
    size.
    """
    names = tuple("the table" if isinstance(source, EmitterTable) else str(source) for source in sources)
    read = [source if isinstance(source, EmitterTable) else read_table(source, pixel_size_nm) for source in sources]
    ignored = [(name, one.meta.get("ignored_columns")) for name, one in zip(names, read, strict=True)]
    for name, one in zip(names, read, strict=True):
        back = np.flatnonzero(np.diff(one.frame) < 0)
        if len(back) and not sort:
            row = int(back[0]) + 1
            message = f"{name}: frames out of order: row {row + 1} is of frame {one.frame[row]}, counted from 0"
            raise UsageError(f"{message}, the row before of {one.frame[row - 1]}", "--sort sorts them")
    read = [sort_by_frame(one) for one in read] if sort else read
    table = merge(read, frames, [whole(one.meta, "frames") for one in read])
    field, assumed = Field.of_tables(read, pixel_size_nm, follow=frames == "append")
    warnings = (
        f"{name}: columns that are not carried over: {', '.join(columns)}" for name, columns in ignored if columns
    )
    return Merged(table, names, field, assumed, tuple(warnings))


@dataclass(frozen=True)
class Postprocessed:
    """What the steps made of the tables `sources`: `table` is left, `processed` says what each step found."""

    processed: Processed
    quality: Quality
    sources: tuple[str, ...]
    field: Field
    assumed: dict[str, str]
    files: Files | None

    @property
    def table(self) -> EmitterTable:
        """The table that is left."""
        return self.processed.table

    def document(self) -> dict[str, Any]:
        """The figures, for JSON."""
        done, quality = self.processed, self.quality
        drift = None
        if done.drift is not None:
            drift = {
                "segments": len(done.drift.segment_frame),
                "pairs": done.drift.pairs,
                "pairs_left_out": done.drift.pairs_left_out,
                "residual_nm": done.drift.residual_nm,
                "span_x_nm": float(done.drift.x_nm.max() - done.drift.x_nm.min()),
                "span_y_nm": float(done.drift.y_nm.max() - done.drift.y_nm.min()),
            }
        histograms = {name: getattr(quality, name) for name in ("photons", "background", "uncertainty_xy_nm")}
        return {
            "tables": list(self.sources),
            "outputs": list(map(str, self.files.paths() if self.files else ())),
            "assumed": self.assumed,
            "rows": done.rows,
            "drift": drift,
            "localizations_per_blink": None if done.linked is None else float(done.linked.localizations_K.mean()),
            "localizations": quality.localizations,
            "frames": quality.last_frame - quality.first_frame + 1,
            "localizations_per_frame": quality.localizations_per_frame,
            **{name: None if shown is None else shown.median for name, shown in histograms.items()},
            "nena_nm": None if quality.nena is None else quality.nena.precision_nm,
            "frc_nm": None if quality.frc is None else quality.frc.resolution_nm,
            "missing": quality.missing | ({"frc": quality.frc.reason} if quality.frc and quality.frc.reason else {}),
        }


def carry_out(
    load: Callable[[], Merged], steps: Steps, rendering: Rendering, files: Files | None
) -> Iterator[Event | Postprocessed]:
    """Take `steps` on what `load` gives, measure what is left and write it to `files`, if any; the result comes last.

    Raises what the steps raise, and UsageError where Gaussians are to be drawn of a table without uncertainties.
    """
    drawn = files is not None and (files.renders or files.find("_report.png"))
    writing = [_WRITE, *([_DRAW] if drawn else [])] if files else []
    yield StepsPlanned((_READ, *steps.names, _MEASURE, *writing))
    yield StepStarted(_READ, None)
    read = load()
    yield from map(Warned, read.warnings)
    if rendering.style == "gaussian" and (read.table.sd_x_nm is None or read.table.sd_y_nm is None):
        message = "--render-style gaussian: the table says no uncertainties"
        raise UsageError(message, "--render-style histogram counts localisations")
    if files is not None:
        ensure_output_dir(files.folder)
    sources, field, assumed, events = read.sources, read.field, read.assumed, process(read.table, steps)
    del read  # a filter's table takes its place
    done: Processed | None = None
    for event in events:
        if isinstance(event, Processed):
            done = event
        else:
            yield event
    assert done is not None
    yield StepStarted(_MEASURE, len(done.table))
    result = Postprocessed(done, measure(done.table, unlinked=done.unlinked), sources, field, assumed, files)
    if files is not None:
        yield StepStarted(_WRITE, len(done.table))
        _write(result, steps, files)
    if files is not None and drawn:
        yield StepStarted(_DRAW, len(done.table))
        yield from map(Warned, _draw(result, steps, rendering, files))
    yield result


def _write(result: Postprocessed, steps: Steps, files: Files) -> None:
    """Write the table, the quality, and the drift if there is one."""
    done = result.processed
    meta = {key: value for key, value in done.table.meta.items() if key not in READ_META}
    meta["post"] = {"tables": list(result.sources), "steps": asdict(steps), "rows": done.rows}
    for format in files.formats:
        with table_writer(format, files.folder, files.stem, result.field, meta) as append:
            append(done.table)
    quality = json.dumps(result.quality.document(), indent=1, allow_nan=False)
    write_text(files.folder / f"{files.stem}_quality.json", quality + "\n")
    drift = files.find("_drift.csv")
    if drift is not None and done.drift is not None:
        curve = zip(done.drift.frame, done.drift.x_nm, done.drift.y_nm, strict=True)
        rows = "".join(f"{frame},{x:.3f},{y:.3f}\n" for frame, x, y in curve)
        write_text(drift, "frame,x_nm,y_nm\n" + rows)


def _draw(result: Postprocessed, steps: Steps, rendering: Rendering, files: Files) -> Iterator[str]:
    """Render the table, and write the image and the page where they are wanted; yields what is to be warned of."""
    from varcli.emitters.figures.page import TableSummary, draw_page

    table, field = result.table, result.field
    height_nm, width_nm = (side * field.pixel_size_nm for side in (field.height, field.width))
    renderer = Renderer(height_nm, width_nm, rendering.pixel_nm or _REPORT_NM)
    if not renderer.draw(table, rendering.style) and rendering.style is None:
        yield "the table says no uncertainties: every localisation counts in one pixel of the image"
    if renderer.left_out:
        yield f"{renderer.left_out} emitters without a finite position or uncertainty are not in the image"
    if files.renders:
        renderer.save(*files.renders, rendering)
    page = files.find("_report.png")
    if page is not None:
        sources = result.sources
        name = Path(sources[0]).name + (f" and {len(sources) - 1} more" if len(sources) > 1 else "")
        summary = TableSummary(name, field.pixel_size_nm, _in_words(result.processed, steps), rendering.colormap)
        draw_page(result.quality, summary, renderer, result.processed.drift, page)


def _in_words(done: Processed, steps: Steps) -> tuple[str, ...]:
    taken = [f"filter {steps.filter}"] if steps.filter else []
    taken += ["drift corrected"] if done.drift is not None else []
    if steps.least_neighbours:
        taken.append(f"{steps.least_neighbours} neighbours within {steps.neighbour_radius_nm:g} nm")
    return (*taken, *(["blinks linked"] if steps.link else []))
