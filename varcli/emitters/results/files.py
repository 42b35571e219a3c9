"""What is written of a stack or a table of emitters, and what the files are called: known before any work begins."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from varcli.emitters.figures.render import Rendering
from varcli.emitters.pipeline.resume import MapKind
from varcli.emitters.post.pipeline import Steps
from varcli.emitters.tables import FORMATS, file_names
from varcli.errors import UsageError

_STACK_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".ome")


@dataclass(frozen=True)
class Outputs:
    """What is written: `formats` of the table, how it is rendered; of a stack also the `map` of expected emitters
    (their sum over frames, every frame's or none) with `scale` cells per 40 camera pixels, and the first
    frame at every scale as a picture (`progressive`) and as an animation (`gif`) of `fps` frames a second.

    Raises UsageError for a format that there is not.
    """

    formats: tuple[str, ...] = ("csv",)
    rendering: Rendering = field(default_factory=lambda: Rendering(10.0))
    map: MapKind = "sum"
    scale: int = 80
    progressive: bool = False
    gif: bool = False
    fps: float = 2.0

    def __post_init__(self) -> None:
        unknown = [token for token in self.formats if token not in FORMATS]
        if unknown or not self.formats:
            raise UsageError(f"--format: no format {(unknown or [''])[0]!r}", f"formats: {', '.join(FORMATS)}")

    @property
    def map_scale(self) -> int | None:
        """The scale of the map, None where there is none."""
        return None if self.map == "none" else self.scale

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"formats": list(self.formats)}


@dataclass(frozen=True)
class Files:
    """The files of a table in `formats` and those beside it, whose names begin with `stem` and end with `endings`."""

    folder: Path
    stem: str
    formats: tuple[str, ...]
    endings: tuple[str, ...]

    @classmethod
    def of_stack(cls, folder: Path, stem: str, outputs: Outputs) -> "Files":
        """What localising a stack leaves."""
        endings = [] if outputs.map == "none" else [f"_to{outputs.scale}.tif"]
        endings += [] if outputs.rendering.pixel_nm is None else ["_render.tif", "_render.png"]
        endings += ["_progressive.png"] if outputs.progressive else []
        endings += ["_progressive.gif"] if outputs.gif else []
        return cls(folder, stem, outputs.formats, tuple(endings))

    @classmethod
    def of_steps(cls, folder: Path, name: str, outputs: Outputs, steps: Steps, *, report: bool) -> "Files":
        """What the steps after localisation leave of a table called `name`; a `report` is the page of it all."""
        endings = ["_quality.json", *(["_drift.csv"] if steps.drift else [])]
        endings += [] if outputs.rendering.pixel_nm is None else ["_render.tif", "_render.png"]
        endings += ["_report.png"] if report else []
        return cls(folder, f"{name}_post", outputs.formats, tuple(endings))

    @property
    def partial(self) -> Path:
        """The folder of the state while it runs."""
        return self.folder / f"{self.stem}_partial"

    @property
    def tables(self) -> list[Path]:
        """The tables and what their formats put beside them."""
        return [self.folder / name for format in self.formats for name in file_names(format, self.stem)]

    @property
    def renders(self) -> tuple[Path, Path] | None:
        """The rendered image, as TIFF and PNG."""
        tiff, png = self.find("_render.tif"), self.find("_render.png")
        return (tiff, png) if tiff and png else None

    def find(self, ending: str) -> Path | None:
        """The file whose name ends so; None where it is not written."""
        return self.folder / (self.stem + ending) if ending in self.endings else None

    def paths(self) -> list[Path]:
        """Every file that will be written."""
        return [*self.tables, *(self.folder / (self.stem + ending) for ending in self.endings)]


def stem_of_stack(path: Path) -> str:
    """The name of a stack without the endings of its format."""
    name = path.name
    while name.lower().endswith(_STACK_SUFFIXES):
        name = name[: name.rindex(".")]
    return name or path.stem


def stem_of_table(path: Path) -> str:
    """The name of a table without what its format adds."""
    for format in FORMATS.values():
        ending = format.file_name("")
        if path.name.endswith(ending) and path.name != ending:
            return path.name.removesuffix(ending)
    return path.stem
