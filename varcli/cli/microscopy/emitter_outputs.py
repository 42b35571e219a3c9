"""Files that `var super-resolve` leaves: their names, checked before any work, and how each is written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varcli.errors import UsageError

if TYPE_CHECKING:
    from varcli.emitters.figures.maps import Progress
    from varcli.emitters.figures.render import Rendering
    from varcli.emitters.pipeline.resume import Partial
    from varcli.emitters.pipeline.survey import Microscope
    from varcli.emitters.stack.window import Window
    from varcli.emitters.tables import Field

_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".ome")


@dataclass(frozen=True)
class Outputs:
    """What is wanted: formats of the table, the map's scale and kind, the rendering, pictures of the scales."""

    folder: Path
    stem: str
    formats: tuple[str, ...]
    scale: int
    map_kind: str
    rendering: "Rendering"
    progressive: bool
    gif: bool
    fps: float

    @property
    def partial(self) -> Path:
        """The folder of the state while it runs."""
        return self.folder / f"{self.stem}_partial"

    @property
    def map(self) -> Path | None:
        """The map of expected emitters."""
        return None if self.map_kind == "none" else self.folder / f"{self.stem}_to{self.scale}.tif"

    @property
    def renders(self) -> tuple[Path, Path] | None:
        """The rendered image, as TIFF and PNG."""
        if self.rendering.pixel_nm is None:
            return None
        return self.folder / f"{self.stem}_render.tif", self.folder / f"{self.stem}_render.png"

    @property
    def picture(self) -> Path | None:
        """Every scale side by side."""
        return self.folder / f"{self.stem}_progressive.png" if self.progressive else None

    @property
    def animation(self) -> Path | None:
        """Scale after scale."""
        return self.folder / f"{self.stem}_progressive.gif" if self.gif else None

    def tables(self) -> list[Path]:
        """The tables and what lies beside them."""
        from varcli.emitters.tables import file_names

        return [self.folder / name for format in self.formats for name in file_names(format, self.stem)]

    def paths(self) -> Iterator[Path]:
        """Every file that will be written."""
        yield from self.tables()
        for path in (self.map, *(self.renders or ()), self.picture, self.animation):
            if path is not None:
                yield path


def stem_of(path: Path) -> str:
    """The name of a stack without the endings of its format."""
    name = path.name
    while name.lower().endswith(_SUFFIXES):
        name = name[: name.rindex(".")]
    return name or path.stem


def read_formats(text: str) -> tuple[str, ...]:
    """Tokens of formats of tables, separated by commas; raises UsageError for an unknown one."""
    from varcli.emitters.tables import FORMATS

    tokens = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [token for token in tokens if token not in FORMATS]
    if unknown or not tokens:
        raise UsageError(f"--format {text!r}: no format {(unknown or [''])[0]!r}", f"formats: {', '.join(FORMATS)}")
    return tokens


def write_tables(outputs: Outputs, partial: "Partial", field: "Field", meta: dict[str, Any]) -> None:
    """Write the table in every format."""
    from varcli.emitters.tables import TableWriter

    for format in outputs.formats:
        with TableWriter(format, outputs.folder, outputs.stem, field) as writer:
            for table in partial.tables():
                writer.append(table)
            writer.finish(meta)


def write_map(outputs: Outputs, partial: "Partial", window: "Window", pixel_nm: float) -> None:
    """Write the map of expected emitters, if it is wanted."""
    if outputs.map is None:
        return
    from varcli.emitters.config import FIELD_PX
    from varcli.emitters.figures.maps import save_map
    from varcli.emitters.pipeline.localize import map_shape

    frames = partial.state.frames if outputs.map_kind == "frames" else 1
    unit = "expected emitters per cell" + (", all frames" if outputs.map_kind == "sum" else " and frame")
    cell_nm = pixel_nm * FIELD_PX / outputs.scale
    save_map(outputs.map, partial.maps(), frames, map_shape(window, outputs.scale), cell_nm, unit)


def write_render(outputs: Outputs, partial: "Partial", window: "Window", pixel_nm: float) -> int:
    """Render the emitters of the window, if wanted; returns how many could not be drawn."""
    rendering = outputs.rendering
    if outputs.renders is None or rendering.pixel_nm is None:
        return 0
    from dataclasses import replace

    from varcli.emitters.figures.render import Renderer

    renderer = Renderer(window.height * pixel_nm, window.width * pixel_nm, rendering.pixel_nm)
    left, top = window.left * pixel_nm, window.top * pixel_nm
    for table in partial.tables():
        moved = replace(table, x_nm=table.x_nm - left, y_nm=table.y_nm - top)
        renderer.count(moved) if rendering.style == "histogram" else renderer.add(moved)
    renderer.save(*outputs.renders, rendering)
    return renderer.left_out


def write_progress(outputs: Outputs, progress: "Progress", title: str, show: Callable[[object], None]) -> None:
    """Draw how the network goes from coarse to fine, as a picture and as an animation, where wanted."""
    from varcli.emitters.figures.maps import progress_frames, save_progress

    if outputs.picture is not None:
        save_progress(outputs.picture, progress, title)
    if outputs.animation is None:
        return
    import numpy as np

    from varcli.animation import AnimationOptions, FramesMeta, Recording, animate

    frames, labels = progress_frames(progress)
    none = np.zeros(len(frames))
    level = np.arange(-1, len(frames) - 1, dtype=np.int32)
    zeros = none.astype(np.int32)
    recording = Recording(frames, labels, level, zeros, zeros, none, FramesMeta(kind="image", title=title))
    # Counts of drawn cells would say nothing of emitters: every cell of a coarse scale expects a little.
    options = AnimationOptions(colormap="inferno", stats=False)
    for event in animate([recording], outputs.animation, outputs.fps, options):
        show(event)


def field_of(microscope: "Microscope", stack: Any, frames: int) -> "Field":
    """The field that tables say they belong to."""
    from varcli.emitters.tables import Field

    return Field.of(microscope.camera, frames, stack.height, stack.width)
