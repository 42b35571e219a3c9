"""A simulated acquisition in memory or as files: the camera stack, the truth with its provenance, and the camera."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from varcli.emitters.camera.camera import Camera
from varcli.emitters.camera.file import camera_of, dump_camera
from varcli.emitters.events import FramesSimulated
from varcli.emitters.simulation.acquisition import simulate_stack
from varcli.emitters.simulation.config import StackConfig
from varcli.emitters.stack.stack import Stack
from varcli.emitters.stack.writer import stack_writer
from varcli.emitters.table import EmitterTable, concatenate
from varcli.emitters.tables import FORMATS, Field, read_table
from varcli.emitters.tables.writer import Append, row_writer
from varcli.events import Event
from varcli.files import write_text
from varcli.version import __version__


@dataclass(frozen=True)
class SimulationFiles:
    """The files of a simulation whose stack is `stack`."""

    stack: Path

    @property
    def truth(self) -> Path:
        """Every molecule in every frame."""
        return self.stack.with_name(f"{self.stack.stem}_truth.csv")

    @property
    def camera(self) -> Path:
        """The camera.toml."""
        return self.stack.with_name(f"{self.stack.stem}_camera.toml")

    def paths(self) -> list[Path]:
        """All of them."""
        return [self.stack, self.truth, self.truth.with_suffix(".json"), self.camera]


@dataclass(frozen=True)
class Simulation:
    """A simulated acquisition; what is not held in memory is read from its files."""

    config: StackConfig
    camera: Camera
    seed: int
    emitters: int
    files: SimulationFiles | None
    held: tuple[np.ndarray, EmitterTable] | None = field(repr=False)

    @property
    def frames_adu(self) -> np.ndarray:
        """The camera's numbers, u16 [n, Y, X]."""
        if self.held is not None:
            return self.held[0]
        assert self.files is not None
        return Stack.open([self.files.stack]).read(0, self.config.frames)

    @property
    def truth(self) -> EmitterTable:
        """Every molecule in every frame."""
        if self.held is not None:
            return self.held[1]
        assert self.files is not None
        return read_table(self.files.truth)


def simulate(
    config: StackConfig, seed: int, device: str, folder: Path, files: SimulationFiles | None
) -> Iterator[Event | Simulation]:
    """Simulate to `files`, which appear when all is done, or in memory where there are none; the result comes last.

    Maps of the camera are read from paths relative to `folder`.
    """
    camera = camera_of(config.camera, folder)
    field = Field.of(camera, config.frames, config.height, config.width)
    meta: dict[str, Any] = {"simulated": config.model_dump(mode="json"), "seed": seed, "version": __version__}
    held_frames: list[np.ndarray] = []
    held_rows: list[EmitterTable] = []
    add_frames: Callable[[np.ndarray], None] = held_frames.append
    add_rows: Append = held_rows.append
    done = emitters = 0
    with ExitStack() as opened:
        if files is not None:
            about = {"stack": files.stack.name, "truth": True, **meta}
            add_rows = opened.enter_context(row_writer(FORMATS["csv"], files.truth, field, about))
            size = config.frames, config.height, config.width
            add_frames = opened.enter_context(stack_writer(files.stack, *size, camera.pixel_size_nm))
        for frames, rows in simulate_stack(config, seed, device, folder):
            add_frames(frames)
            add_rows(rows)
            done, emitters = done + len(frames), emitters + len(rows)
            yield FramesSimulated(done, config.frames, emitters)
    held = None
    if files is not None:
        write_text(files.camera, dump_camera(config.camera, folder))
    else:
        table = concatenate(held_rows)
        table.meta.update(field.provenance({"truth": True, **meta}))
        held = np.concatenate(held_frames), table
    yield Simulation(config, camera, seed, emitters, files, held)
