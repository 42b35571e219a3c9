"""What may sound, by names: a scale, a range of pitches and a limit on polyphony."""

from dataclasses import asdict, dataclass

import numpy as np

from varcli.errors import UsageError
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import PITCHES
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.score.scales import parse_pitch_range, parse_scale


@dataclass(frozen=True)
class Constraints:
    """What may sound: a scale, a pitch range and a limit on polyphony, as they are written; None limits nothing."""

    scale: str | None = None
    pitch_range: str | None = None
    max_polyphony: int | None = None

    def __bool__(self) -> bool:
        return self != Constraints()

    def document(self) -> dict[str, str | int | None]:
        """For JSON."""
        return asdict(self)

    def pitches(self) -> np.ndarray:
        """The pitches that may sound, bool [128]; raises UsageError for what is no scale or range, or holds none."""
        allowed = np.ones(PITCHES, bool) if self.scale is None else parse_scale(self.scale)
        if self.pitch_range is not None:
            allowed = allowed & parse_pitch_range(self.pitch_range)
        if not allowed.any():
            raise UsageError(
                f"no pitch of --scale {self.scale} lies in --pitch-range {self.pitch_range}", "widen the range"
            )
        return allowed

    def on_canvas(self, config: PianorollConfig, planes: Planes, steps: int) -> CanvasConstraints | None:
        """The same for a model's canvas of a roll of so many steps, nothing given; None if nothing is limited, nor the
        layout of the canvas."""
        return None if planes.is_roll and not self else self.keeping(config, planes, steps)

    def keeping(
        self, config: PianorollConfig, planes: Planes, steps: int, **kept: np.ndarray | None
    ) -> CanvasConstraints:
        """The same with what is `kept`: `given`, `codes` and `most_back` of `CanvasConstraints.on_planes`."""
        if self:
            check_pitches(config)
        pitches, most = self.pitches() if self else None, self.max_polyphony
        return CanvasConstraints.on_planes(
            config.model, planes, planes.canvas_steps(steps), pitches=pitches, max_polyphony=most, **kept
        )


def check_pitches(config: PianorollConfig) -> None:
    """Raise UsageError for a model whose rows are not the 128 pitches of MIDI."""
    if config.model.pitches != PITCHES:
        raise UsageError(
            f"{config.name} knows {config.model.pitches} rows, not the 128 pitches of MIDI",
            "prompts, scales and ranges need a model with model.pitches=128",
        )
