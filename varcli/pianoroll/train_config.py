"""What a generator of music is trained on, and how; importable without torch."""

from typing import Any

from pydantic import Field, field_validator

from varcli.schema import Section, TrainConfig

EVERYTHING_ELSE = "*"
"""The pattern of `data.voices` for tracks that no other voice has."""


class DataConfig(Section):
    """What is read, and how it meets the grid."""

    path: str | None = Field(default=None, description="Folder or zip of MIDI, a .mat or an .npz; or give --data.")
    drums: bool = Field(default=False, description="Keep drum tracks.")
    voices: dict[str, tuple[str, ...]] = Field(
        default={},
        description="Names of the tracks of each of model.voices beside its own, as shell patterns, '*' for all "
        "tracks that fit no other, which else are the last voice's.",
    )
    max_off_grid: float | None = Field(
        default=None,
        gt=0,
        le=0.5,
        description="Leave out a file whose onsets are farther than this off the grid on average, in steps.",
    )
    upbeats: bool = Field(
        default=False,
        description="Guess from the notes how long the first bar is where a file has bars of one length alone: for "
        "scores that leave out the rest before an upbeat.",
    )
    transpose_down: int = Field(
        default=0, ge=0, le=24, description="Largest downward transposition in training, semitones."
    )
    transpose_up: int = Field(
        default=0, ge=0, le=24, description="Largest upward transposition in training, semitones."
    )
    crop_steps: int = Field(default=256, ge=1, description="Steps in a training crop.")
    holes_share: float = Field(
        default=0.2,
        ge=0,
        le=0.7,
        description="Share of training crops of which all but some holes is given, for models with conditioning.",
    )

    @field_validator("voices", mode="before")
    @classmethod
    def _patterns(cls, voices: Any) -> Any:
        if not isinstance(voices, dict):
            return voices
        return {name: [each] if isinstance(each, str) else each for name, each in voices.items()}


class MusicTrainConfig(TrainConfig):
    """How a generator of music is trained."""

    parents_per_level: int = Field(
        default=256,
        ge=1,
        description="Parents of the inner levels drawn per step; the reported nats stay unbiased.",
    )
    top_nodes: int | None = Field(
        default=None,
        ge=1,
        description="Nodes of a first level without attention that are drawn per step; all if absent.",
    )
    in_order_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of training in the order of time: of steps where masked levels have no attention, else of "
        "masked siblings.",
    )
