"""What a result rests on: the same dictionary stands in the JSON of the command line and beside every table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from varcli.emitters.camera.values import Provenanced
from varcli.emitters.pipeline.localize import Settings
from varcli.emitters.pipeline.resume import State
from varcli.emitters.pipeline.survey import Microscope
from varcli.emitters.stack.stack import Stack
from varcli.version import __version__

if TYPE_CHECKING:
    from varcli.checkpoint import Header


@dataclass(frozen=True)
class Source:
    """Where the model comes from: what it was called by, and what its file says of itself."""

    name: str
    header: "Header"

    @property
    def scales(self) -> tuple[int, ...]:
        """The scales of the model, coarse to fine."""
        return tuple(int(scale) for scale in self.header.config["model"]["scales"])

    def document(self) -> dict[str, Any]:
        """For JSON."""
        header = self.header
        said = {"version": header.version, "steps": header.steps, "seed": header.seed, "digest": header.digest}
        return {"name": self.name, **said}


def assumed_of(stack: Stack, microscope: Microscope) -> list[dict[str, Any]]:
    """Everything that the user did not say, of the microscope and of the stack's pages."""
    pages = (Provenanced("frames", stack.frames, "", "default", sentence) for sentence in stack.assumed)
    return [known.document() for known in (*pages, *microscope.assumed)]


def provenance(
    stack: Stack,
    settings: Settings,
    microscope: Microscope,
    source: Source,
    state: State,
    scale: int,
    warnings: Sequence[str],
    stopped: str | None,
) -> dict[str, Any]:
    """Input, model, options, the microscope with all that is assumed, warnings, and whether the stack was whole."""
    window = settings.window
    return {
        "software": f"varcli {__version__}",
        "command": "super-resolve",
        "input": {
            "files": [str(path) for path in stack.paths],
            "kind": stack.metadata["kind"],
            "dtype": stack.dtype.name,
            "fingerprint": stack.fingerprint(),
        },
        "checkpoint": source.document(),
        "options": {
            "to": scale,
            "threshold": settings.threshold,
            "polish": settings.polish,
            "batch_size": settings.chunk,
            "frames": [window.first, window.last],
            "roi": {"x": [window.left, window.right], "y": [window.top, window.bottom]},
        },
        "microscope": microscope.document(),
        "assumed": assumed_of(stack, microscope),
        "scales": {scale: {"cells_active": at[0], "cells_total": at[1]} for scale, at in state.cells.items()},
        "emitters": state.rows,
        "frames_done": state.frames,
        "complete": stopped is None,
        "stopped": stopped,
        "warnings": list(warnings),
    }
