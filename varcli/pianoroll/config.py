"""Options of the piano-roll family, every one a sentence; importable without torch."""

import re
from dataclasses import dataclass
from itertools import pairwise
from sys import float_info
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from varcli.pianoroll.train_config import EVERYTHING_ELSE, DataConfig, MusicTrainConfig
from varcli.schema import Section

ScanOrder = Literal["row_major", "column_major"]
PerLevel = float | tuple[float, ...]
FORM_ROWS = 48
"""Rows of the plan of a piece's form: one for a new bar, and one for each number of bars back."""
HARMONY_ROWS = 48
"""Rows of the plan of its harmony: one for each pitch class and one for no chord; as many as let octaves lie alike."""
PLANE_UNIT = 48
"""Rows of stacked planes are a multiple of this: patches of 16 pitches and octaves of 12 both fit."""
CLOSENESS = (0.45, 0.65, 0.85, 0.999)
"""Bounds of the classes of closeness in a plan: how much of a bar that returns, the Jaccard index of their onsets."""
DENSITIES = (1, 3, 5, 7, 9, 12, 16, 21, 28)
"""Bounds of the classes of density in a plan: how many notes begin in a bar."""
HARMONY_PLACES = 4
"""Places in a bar, evenly apart, at which its plan says the key, the chord of each half, and the density."""


@dataclass(frozen=True)
class LevelKind:
    """A kind of level by its name in configs and what networks and canvases must know of it.

    Children of an `is_causal` level are decided in scan order, each by all that comes before it. Those of any other
    are decided in whatever order: canvases keep which of them are known, and a child's window and attention show both
    sides.
    """

    name: str
    is_causal: bool


AR, MAR = LevelKind("ar", is_causal=True), LevelKind("mar", is_causal=False)
LEVEL_KINDS = {kind.name: kind for kind in (AR, MAR)}
"""Kinds that a config may name; one more whose children come in any order is a further entry."""


def parse_shape(text: str) -> tuple[int, int]:
    """Read a child shape "PITCHESxSTEPS", such as "16x16"; raises ValueError on anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip())
    if not match or "0" in (match[1], match[2]):
        raise ValueError(f"{text!r} is no shape; write PITCHESxSTEPS, such as 16x16")
    return int(match[1]), int(match[2])


def rows_of_plane(pitches: int, voices: int, plan_rows: int) -> int:
    """Rows of a canvas that one of so many voices takes: its pitches, and some more unless it is alone and unplanned.

    They are a multiple of PLANE_UNIT then, so that patches and octaves lie alike in all planes.
    """
    return -(-pitches // PLANE_UNIT) * PLANE_UNIT if voices > 1 or plan_rows else pitches


def at_levels(value: PerLevel, levels: int) -> tuple[float, ...]:
    """One number for each of `levels` levels, coarse to fine, from one for all or one each."""
    return value if isinstance(value, tuple) else (value,) * levels


class LevelConfig(Section):
    """One level: how it divides its parent and the transformer that decides about the children."""

    kind: str = Field(default="ar", description="Autoregressive in scan order, or masked in random order.")
    shape: str | None = Field(
        default=None,
        description="Shape of one child, PITCHESxSTEPS; absent for the last level, the value of a cell.",
    )
    network: Literal["transformer", "mlp"] = Field(
        default="transformer",
        description="Children attend to their siblings, or a perceptron decides each from its window.",
    )
    width: int = Field(default=256, ge=8, description="Width of the network.")
    blocks: int = Field(default=4, ge=1, description="Number of its blocks.")
    heads: int = Field(default=4, ge=1, description="Number of attention heads; divides the width.")
    steps_before: int = Field(
        default=16, ge=0, description="Steps before the child that its window of known cells shows."
    )
    steps_after: int = Field(default=0, ge=0, description="Steps after the child that its window of known cells shows.")
    pitches_around: int = Field(
        default=16, ge=0, description="Pitches below and above the child that its window shows."
    )
    lags: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="Steps back at which further small windows lie, for patterns that repeat."
    )

    @property
    def is_causal(self) -> bool:
        """Whether children are decided in scan order, see `LevelKind`."""
        return LEVEL_KINDS[self.kind].is_causal

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in LEVEL_KINDS:
            raise ValueError(f"must be {' or '.join(map(repr, LEVEL_KINDS))}, got {kind!r}")
        return kind

    @model_validator(mode="after")
    def _check(self) -> "LevelConfig":
        if self.shape is not None:
            parse_shape(self.shape)
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class CopyConfig(Section):
    """Copy attention: attention to similar passages of the same piece, from which nodes may copy."""

    candidates: int = Field(default=0, ge=0, le=32, description="Passages that a column may attend to; 0: none.")
    pitches_around: int = Field(
        default=6, ge=0, description="Pitches below and above a child that are compared and shown."
    )
    steps_before: int = Field(default=1, ge=0, description="Steps before the child that are compared and shown.")
    steps_after: int = Field(default=2, ge=0, description="Steps after the child that are compared and shown.")


class ModelConfig(Section):
    """A fractal generator over 128 pitches and any number of steps."""

    vocabulary: Literal["notes", "binary"] = Field(
        default="notes", description="Cells hold onset, held or silent; or just on and off."
    )
    pitches: int = Field(default=128, ge=1, le=128, description="Rows of the canvas.")
    velocity_bins: int = Field(default=16, ge=1, le=127, description="Velocity classes of an onset.")
    steps_per_beat: int = Field(
        default=4, ge=1, le=96, description="Grid steps in a quarter note; 4 makes a 16th note one step."
    )
    steps_per_bar: int = Field(default=16, ge=1, description="Steps of the metre that positions are counted in.")
    scan_order: ScanOrder = Field(
        default="column_major", description="Order of AR children: by time first, or by pitch first."
    )
    context_steps: int = Field(
        default=512, ge=1, description="Steps that attention of the first level reaches back (AR) or around (MAR)."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout in the transformer blocks.")
    tonality: bool = Field(
        default=False,
        description="Nodes get the counts of pitch classes so far, relative to their own; not for row_major.",
    )
    members: int = Field(
        default=1, ge=1, le=8, description="Models whose probabilities are averaged per decision; AR, to score with."
    )
    voices: tuple[str, ...] = Field(
        default=(),
        description="Names of the voices of a piece, each a plane of the canvas, in the order they are written in a "
        "bar; none: one canvas of all notes.",
    )
    form: bool = Field(
        default=False,
        description="A plan says of each bar, before it is written, whether it is new or which earlier one returns.",
    )
    metre: bool = Field(
        default=False,
        description="Every bar begins a first patch, whatever its length: nodes get the number of its steps and "
        "whether it is told in eighths, and nothing is decided beyond it; without it bars are all of steps_per_bar.",
    )
    harmony: bool = Field(
        default=False,
        description="The plan also says of each bar its key, a chord for each half of it and how many notes begin; for "
        "models with form.",
    )
    polyphony: bool = Field(
        default=False,
        description="Nodes get the number of notes below them in their step; for first patches one step wide.",
    )
    velocity_attention: bool = Field(
        default=False, description="Velocities attend to those of the notes around; for vocabulary 'notes'."
    )
    echo: CopyConfig = Field(default=CopyConfig(), description="Copy attention to similar passages of the piece.")
    note_dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of window cells hidden in training.")
    conditioning: bool = Field(
        default=False,
        description="Train with some cells known beforehand, so that the model can continue, inpaint and harmonise.",
    )
    levels: tuple[LevelConfig, ...] = Field(
        default=(
            LevelConfig(shape="16x16", width=256, blocks=8, heads=4),
            LevelConfig(shape="4x4", width=256, blocks=4, heads=2),
            LevelConfig(shape="1x1", width=128, blocks=2, heads=1),
            LevelConfig(shape=None, width=64, blocks=1, heads=1),
        ),
        description="The levels, coarse to fine; the last shape is 1x1, then one level without a shape unless binary.",
    )

    @property
    def plane_rows(self) -> int:
        """Rows of the canvas that one voice takes, see `rows_of_plane`."""
        return rows_of_plane(self.pitches, len(self.voices), self.plan_rows)

    @property
    def plan_rows(self) -> int:
        """Rows of the canvas, its first, that the plan takes."""
        return FORM_ROWS * self.form + HARMONY_ROWS * self.harmony

    @property
    def rows(self) -> int:
        """Rows of the canvas: the plan, then the planes of the voices."""
        return self.plan_rows + max(1, len(self.voices)) * self.plane_rows

    @field_validator("voices", mode="before")
    @classmethod
    def _named(cls, voices: Any) -> Any:
        if isinstance(voices, bool):
            raise ValueError("must be names of voices; the number of notes below a node is `polyphony`")
        plain = [str(voice).strip().casefold() for voice in voices] if isinstance(voices, list | tuple) else []
        if len(set(plain)) < len(plain) or "" in plain:
            raise ValueError(f"must be different names, got {voices!r}")
        return voices

    @field_validator("levels")
    @classmethod
    def _nested(cls, levels: tuple[LevelConfig, ...]) -> tuple[LevelConfig, ...]:
        shapes = [parse_shape(level.shape) for level in levels if level.shape is not None]
        if not shapes or shapes[-1] != (1, 1):
            raise ValueError("the last shape of levels must be 1x1")
        for (h0, w0), (h1, w1) in pairwise(shapes):
            if h0 % h1 or w0 % w1 or (h0, w0) == (h1, w1):
                raise ValueError(f"a child {h1}x{w1} does not divide its parent {h0}x{w0}")
        return levels

    @model_validator(mode="after")
    def _value_level(self) -> "ModelConfig":
        shapes = [level.shape for level in self.levels]
        if None in shapes[:-1]:
            raise ValueError("only the last level may have no shape")
        if self.members > 1 and not all(level.is_causal for level in self.levels):
            raise ValueError("members above 1 needs AR levels: masked ones have no decisions in common")
        if self.conditioning and self.velocity_bins > 124:
            raise ValueError("conditioning needs velocity_bins of 124 or less: codes must stay below 127")
        if self.tonality and self.scan_order == "row_major" and self.levels[0].is_causal:
            raise ValueError("tonality needs whole columns in the past, so scan_order column_major")
        if self.echo.candidates and self.scan_order == "row_major" and self.levels[0].is_causal:
            raise ValueError("echo needs whole columns in the past, so scan_order column_major")
        in_steps = parse_shape(str(shapes[0]))[1] == 1 and self.scan_order == "column_major"
        if self.polyphony and not (in_steps and all(level.is_causal for level in self.levels)):
            raise ValueError("polyphony needs AR levels, first patches one step wide and scan_order column_major")
        if self.vocabulary == "notes" and shapes[-1] is not None:
            raise ValueError("vocabulary 'notes' needs a last level without a shape, for a cell's value")
        if self.vocabulary == "binary" and self.velocity_attention:
            raise ValueError("velocity_attention needs vocabulary 'notes'")
        if self.vocabulary == "binary" and shapes[-1] is None:
            raise ValueError("vocabulary 'binary' has no level for a cell's value; drop the last level")
        if self.pitches % parse_shape(str(shapes[0]))[0] and not (self.voices or self.form):
            raise ValueError(f"first shape {shapes[0]} does not divide {self.pitches} pitches")
        return self

    @model_validator(mode="after")
    def _planes(self) -> "ModelConfig":
        if self.harmony and not self.form:
            raise ValueError("harmony needs form: both are one plan")
        if not (self.voices or self.form or self.metre):
            return self
        h, w = parse_shape(str(self.levels[0].shape))
        what = "voices" if self.voices else "form" if self.form else "metre"
        if self.vocabulary != "notes":
            raise ValueError(f"{what} needs vocabulary 'notes'")
        if self.scan_order != "column_major" or w != self.steps_per_bar:
            raise ValueError(
                f"{what} needs scan_order column_major and first patches a bar wide: {h}x{self.steps_per_bar}"
            )
        if self.plane_rows % h or self.plan_rows % h:
            raise ValueError(f"first shape {h}x{w} does not divide planes of {self.plane_rows} rows")
        if self.metre and not all(level.is_causal for level in self.levels):
            raise ValueError("metre needs AR levels: what lies beyond a bar is known as soon as the bar is")
        if self.form and self.velocity_bins < len(CLOSENESS):
            raise ValueError(f"form needs {len(CLOSENESS)} velocity_bins: they say how close a bar returns")
        if self.harmony and (self.velocity_bins <= len(DENSITIES) or w < HARMONY_PLACES):
            raise ValueError(f"harmony needs {len(DENSITIES) + 1} velocity_bins and bars of {HARMONY_PLACES} steps")
        return self


class SampleConfig(Section):
    """Defaults of sampling, stored with the weights."""

    num_iter_list: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None, description="MAR: iterations per level, coarse to fine; absent for AR."
    )
    batch_generate_size: int = Field(default=16, ge=1, description="MAR: patches of the first level written together.")
    order: Literal["random", "inner", "scan", "time"] = Field(
        default="random",
        description="MAR: children are unmasked in random order, in that of time below level 0, or at every level; "
        "'time' unmasks one by one unless iterations are given, for masked levels without attention.",
    )
    temperature: PerLevel = Field(
        default=1.0, description="Divides the logits; one number, or one per level, coarse to fine."
    )
    top_p: PerLevel = Field(
        default=1.0,
        description="Keeps the likeliest values up to this probability; one number, or one per level, coarse to fine.",
    )

    @field_validator("temperature", "top_p", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        most = 1.0 if info.field_name == "top_p" else float_info.max
        numbers = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(one, int | float) and type(one) is not bool and 0 < one <= most for one in numbers):
            bound = " and at most 1" if most == 1 else ""
            raise ValueError(f"must be a number above 0{bound}, or one per level, got {value!r}")
        return value


class PianorollConfig(Section):
    """The whole config of a piano-roll model: what a preset or config.toml holds."""

    task: Literal["pianoroll"] = "pianoroll"
    name: str = Field(default="fractal", description="What the run is called.")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: MusicTrainConfig = MusicTrainConfig()
    sample: SampleConfig = SampleConfig()

    @model_validator(mode="after")
    def _fits(self) -> "PianorollConfig":
        levels = len(self.model.levels)
        for name, value in (("temperature", self.sample.temperature), ("top_p", self.sample.top_p)):
            if len(at_levels(value, levels)) != levels:
                raise ValueError(f"sample.{name} has {len(at_levels(value, levels))} numbers for {levels} levels")
        unknown = [name for name in self.data.voices if name not in self.model.voices]
        if unknown:
            raise ValueError(f"data.voices has {unknown[0]!r}, which is none of model.voices {self.model.voices}")
        if sum(EVERYTHING_ELSE in patterns for patterns in self.data.voices.values()) > 1:
            raise ValueError("data.voices: only one voice can take all other tracks ('*')")
        if self.sample.order == "time" and not all(x.network == "mlp" for x in self.model.levels if not x.is_causal):
            raise ValueError("sample.order 'time' needs masked levels of network 'mlp'")
        return self
