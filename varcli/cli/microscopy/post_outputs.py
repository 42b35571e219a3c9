"""Files that the steps after localisation leave, for `var post` and `var super-resolve` alike, and their figures."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varcli.emitters.events import PairsCorrelated, StepsPlanned, StepStarted

if TYPE_CHECKING:
    from varcli.cli.progress import Display
    from varcli.emitters.figures.render import Rendering
    from varcli.emitters.post.pipeline import Processed, Steps
    from varcli.emitters.post.quality import Quality
    from varcli.emitters.tables import Field

READING, _MEASURING, _WRITING, _DRAWING = "read", "precision and resolution", "write", "draw"
_REPORT_NM = 10.0
# Of a table's provenance: what reading it added, and what its field says anew.
_NOT_CARRIED = {"format", "columns", "ignored_columns", "pixel_size_nm", "frames", "height", "width", "camera"}


@dataclass(frozen=True)
class PostOutputs:
    """What is wanted of a table called `name`: the steps, formats of the table, the rendering, the page."""

    folder: Path
    name: str
    steps: "Steps"
    formats: tuple[str, ...]
    rendering: "Rendering"
    report: bool

    @property
    def stem(self) -> str:
        """What the names of all files begin with."""
        return f"{self.name}_post"

    @property
    def quality(self) -> Path:
        """Every figure, histogram and curve."""
        return self.folder / f"{self.stem}_quality.json"

    @property
    def drift(self) -> Path | None:
        """The drift at every frame."""
        return self.folder / f"{self.stem}_drift.csv" if self.steps.drift else None

    @property
    def renders(self) -> tuple[Path, Path] | None:
        """The rendered image, as TIFF and PNG."""
        if self.rendering.pixel_nm is None:
            return None
        return self.folder / f"{self.stem}_render.tif", self.folder / f"{self.stem}_render.png"

    @property
    def page(self) -> Path | None:
        """The page of it all."""
        return self.folder / f"{self.stem}_report.png" if self.report else None

    def paths(self) -> list[Path]:
        """Every file that will be written."""
        from varcli.emitters.tables import file_names

        tables = [self.folder / name for token in self.formats for name in file_names(token, self.stem)]
        others = (self.quality, self.drift, *(self.renders or ()), self.page)
        return [*tables, *(path for path in others if path is not None)]


def stem_of_table(path: Path) -> str:
    """The name of a table without what its format adds."""
    from varcli.emitters.tables import FORMATS

    for format in FORMATS.values():
        ending = format.file_name("")
        if path.name.endswith(ending) and path.name != ending:
            return path.name.removesuffix(ending)
    return path.stem


def planned(outputs: PostOutputs) -> StepsPlanned:
    """What `carry_out` will do, step by step, once the tables are read."""
    drawn = [_DRAWING] if outputs.renders or outputs.page else []
    return StepsPlanned((READING, *outputs.steps.names, _MEASURING, _WRITING, *drawn))


def carry_out(
    steps: "Iterator[StepStarted | PairsCorrelated | Processed]",
    outputs: PostOutputs,
    field: "Field",
    sources: list[Path],
    display: "Display",
) -> dict[str, Any]:
    """Take the `steps` on the tables `sources`, measure what is left and write every output; returns JSON's figures."""
    from varcli.emitters.post.pipeline import Processed
    from varcli.emitters.post.quality import measure

    *_, done = display.follow(steps)
    assert isinstance(done, Processed)
    display.show(StepStarted(_MEASURING, len(done.table)))
    quality = measure(done.table, unlinked=done.unlinked)
    display.show(StepStarted(_WRITING, len(done.table)))
    _write_tables(done, outputs, field, sources)
    _write_figures(done, quality, outputs)
    if outputs.renders or outputs.page:
        display.show(StepStarted(_DRAWING, len(done.table)))
        _draw(done, quality, outputs, field, sources, display.warn)
    written = list(map(str, outputs.paths()))
    return {"tables": list(map(str, sources)), "outputs": written, "assumed": {}} | _figures(done, quality)


def _write_tables(done: "Processed", outputs: PostOutputs, field: "Field", sources: list[Path]) -> None:
    from varcli.emitters.tables import TableWriter

    meta = {key: value for key, value in done.table.meta.items() if key not in _NOT_CARRIED}
    meta["post"] = {"tables": list(map(str, sources)), "steps": asdict(outputs.steps), "rows": done.rows}
    for format in outputs.formats:
        with TableWriter(format, outputs.folder, outputs.stem, field) as writer:
            writer.append(done.table)
            writer.finish(meta)


def _write_figures(done: "Processed", quality: "Quality", outputs: PostOutputs) -> None:
    """Write the quality, and the drift if there is one."""
    from varcli.files import write_text

    write_text(outputs.quality, json.dumps(quality.document(), indent=1, allow_nan=False) + "\n")
    if outputs.drift is not None and done.drift is not None:
        curve = zip(done.drift.frame, done.drift.x_nm, done.drift.y_nm, strict=True)
        rows = "".join(f"{frame},{x:.3f},{y:.3f}\n" for frame, x, y in curve)
        write_text(outputs.drift, "frame,x_nm,y_nm\n" + rows)


def _draw(
    done: "Processed",
    quality: "Quality",
    outputs: PostOutputs,
    field: "Field",
    sources: list[Path],
    warn: Callable[[str], None],
) -> None:
    """Render the table, and write the image and the page where they are wanted."""
    from varcli.emitters.figures.page import TableSummary, draw_page
    from varcli.emitters.figures.render import Renderer

    rendering = outputs.rendering
    pixel_nm = rendering.pixel_nm or _REPORT_NM
    renderer = Renderer(field.height * field.pixel_size_nm, field.width * field.pixel_size_nm, pixel_nm)
    unsure = done.table.sd_x_nm is None or done.table.sd_y_nm is None
    if unsure and rendering.style is None:
        warn("the table says no uncertainties: every localisation counts in one pixel of the image")
    renderer.count(done.table) if unsure or rendering.style == "histogram" else renderer.add(done.table)
    if renderer.left_out:
        warn(f"{renderer.left_out} emitters without a finite position or uncertainty are not in the image")
    if outputs.renders:
        renderer.save(*outputs.renders, rendering)
    if outputs.page:
        name = sources[0].name + (f" and {len(sources) - 1} more" if len(sources) > 1 else "")
        summary = TableSummary(name, field.pixel_size_nm, _taken(done, outputs.steps), rendering.colormap)
        draw_page(quality, summary, renderer, done.drift, outputs.page)


def _taken(done: "Processed", steps: "Steps") -> tuple[str, ...]:
    """The steps in words, for the page."""
    taken = [f"filter {steps.filter}"] if steps.filter else []
    taken += ["drift corrected"] if done.drift is not None else []
    if steps.least_neighbours:
        taken.append(f"{steps.least_neighbours} neighbours within {steps.neighbour_radius_nm:g} nm")
    return (*taken, *(["blinks linked"] if steps.link else []))


def _figures(done: "Processed", quality: "Quality") -> dict[str, Any]:
    """The figures that JSON and people get."""
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


def post_lines(document: dict[str, Any]) -> list[str]:
    """The figures for people; what is not measured is said last."""
    from varcli.cli.output import table

    shown = [(key.replace("_", " "), value) for key, value in document.items() if key not in ("missing", "assumed")]
    missing = [(f"no {name.replace('_', ' ')}", why) for name, why in document["missing"].items()]
    return table([*shown, *((f"assumed {name}", why) for name, why in document["assumed"].items()), *missing])
