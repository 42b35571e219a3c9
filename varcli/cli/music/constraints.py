"""Options that say what may sound at all, shared by sampling and likelihood."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from varcli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from varcli.pianoroll.config import PianorollConfig
    from varcli.pianoroll.sampling.constraints import CanvasConstraints


def complete_scale(incomplete: str) -> list[str]:
    """Scales of the tonic that is there, or of C."""
    from varcli.pianoroll.score.scales import SCALES

    tonic = incomplete.partition(":")[0] or "C"
    return [f"{tonic}:{name}" for name in SCALES if f"{tonic}:{name}".startswith(incomplete or "C")]


ScaleOption = Annotated[
    str | None,
    typer.Option(
        "--scale",
        metavar="TONIC:NAME",
        autocompletion=complete_scale,
        help="Only pitches of a scale sound, such as C:major or F#:dorian.",
    ),
]
PitchRangeOption = Annotated[
    str | None,
    typer.Option("--pitch-range", metavar="LOW:HIGH", help="Only these pitches sound, such as 36:84 or C2:C6."),
]
MaxPolyphonyOption = Annotated[
    int | None, typer.Option("--max-polyphony", min=1, metavar="N", help="At most so many notes sound at a time.")
]


@dataclass(frozen=True)
class Constraints:
    """What may sound: a scale, a pitch range and a limit on polyphony, as they were written; None limits nothing."""

    scale: str | None = None
    pitch_range: str | None = None
    max_polyphony: int | None = None

    def __bool__(self) -> bool:
        return self.document() != dict.fromkeys(self.document())

    def document(self) -> dict[str, str | int | None]:
        """What --json says of them."""
        return {"scale": self.scale, "pitch_range": self.pitch_range, "max_polyphony": self.max_polyphony}

    def pitches(self) -> "np.ndarray":
        """The pitches that may sound, bool [128]; raises UsageError for what is no scale or range, or holds none."""
        import numpy as np

        from varcli.pianoroll.score.scales import PITCHES, parse_pitch_range, parse_scale

        allowed = np.ones(PITCHES, bool) if self.scale is None else parse_scale(self.scale)
        if self.pitch_range is not None:
            allowed = allowed & parse_pitch_range(self.pitch_range)
        if not allowed.any():
            raise UsageError(
                f"no pitch of --scale {self.scale} lies in --pitch-range {self.pitch_range}", "widen the range"
            )
        return allowed

    def limits(self, config: "PianorollConfig", steps: int) -> "CanvasConstraints | None":
        """The same for a canvas of a model, nothing given; None if nothing is limited."""
        return self.on_canvas(config, steps) if self else None

    def on_canvas(self, config: "PianorollConfig", steps: int) -> "CanvasConstraints":
        """The same, whether anything is limited or not."""
        from varcli.pianoroll.roll import Vocabulary
        from varcli.pianoroll.sampling.constraints import CanvasConstraints

        check_pitches(config)
        allowed = self.pitches()[:, None].repeat(steps, 1)
        return CanvasConstraints.limits(allowed, self.max_polyphony, binary=Vocabulary.of(config.model).binary)


def check_pitches(config: "PianorollConfig") -> None:
    """Raise UsageError for a model whose rows are not the 128 pitches of MIDI."""
    if config.model.pitches != 128:
        raise UsageError(
            f"{config.name} knows {config.model.pitches} rows, not the 128 pitches of MIDI",
            "prompts, scales and ranges need a model with model.pitches=128",
        )
