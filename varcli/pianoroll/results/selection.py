"""Which samples are written: one of a run alone, the best of many, or others with the plan of one.

Legend: P pitches, T steps.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from varcli.errors import UsageError, at_least
from varcli.pianoroll.config import ModelConfig, PianorollConfig
from varcli.pianoroll.generation.settings import SampleSettings, check_conditioning
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import Roll, note_arrays
from varcli.pianoroll.sampling.constraints import CanvasConstraints

_DRONE, _DRONE_BARS = 0.9, 4
_SILENT_BARS = 2


@dataclass(frozen=True)
class Selection:
    """Of samples numbered from 0: `index` alone, or the likeliest of `best_of`; of others that have the plan of the one
    numbered `vary`. Raises UsageError for numbers that are none."""

    index: int | None = None
    best_of: int | None = None
    vary: int | None = None

    def __post_init__(self) -> None:
        for option, value, least in (
            ("--index", self.index, 0),
            ("--best-of", self.best_of, 1),
            ("--vary", self.vary, 0),
        ):
            if value is not None:
                at_least(option, value, least)
        if self.index is not None and self.best_of is not None:
            raise UsageError("--index and --best-of do not go together", "--index writes the sample of that number")

    def settings(self, asked: SampleSettings, config: PianorollConfig) -> SampleSettings:
        """Settings for these samples; raises UsageError for more than there are, and for a model without a plan."""
        count = asked.num_samples
        if self.index is not None and count > 1:
            raise UsageError("--index writes one sample", "leave out --num-samples")
        if self.best_of is not None and self.best_of < count:
            raise UsageError(f"--best-of {self.best_of} are fewer than --num-samples {count}", "write more")
        if self.vary is not None:
            if not config.model.form:
                raise UsageError(
                    f"{config.name} plans nothing that others could share", "take a checkpoint with model.form"
                )
            check_conditioning(config)
        return replace(asked, numbers=None if self.index is None else (self.index,), varied=self.vary)


@dataclass(frozen=True)
class Candidate:
    """A sample by its number: how little the model expected it, in nats per new note, and the faults it has."""

    number: int
    nats_per_note: float | None
    faults: tuple[str, ...]

    @property
    def order(self) -> tuple[int, float]:
        """Fewer faults come first, then fewer nats; what has no note or no probability comes last."""
        return len(self.faults), np.inf if self.nats_per_note is None else self.nats_per_note

    def document(self) -> dict[str, Any]:
        """For JSON."""
        nats = self.nats_per_note
        return {"index": self.number, "nats_per_note": nats and round(nats, 4), "faults": list(self.faults)}


def faults_of(roll: Roll) -> tuple[str, ...]:
    """What is plainly wrong with a roll: nothing new in it, a pitch that drones on for four bars, bars of silence."""
    sounding, bar = roll.cells > 0, roll.steps_per_bar
    notes = note_arrays(roll.cells, roll.vocabulary)
    new = np.ones(len(notes.pitch), bool) if roll.kept is None else ~roll.kept[notes.pitch, notes.start]
    found = [] if new.any() else ["nothing new"]
    length = _DRONE_BARS * bar
    if roll.steps >= length:
        held = np.lib.stride_tricks.sliding_window_view(sounding, length, axis=1)[:, ::bar].mean(2)
        found += ["a drone"] if held.max() >= _DRONE else []
    silence = np.diff(np.flatnonzero(np.concatenate([[True], sounding.any(0), [True]]))).max(initial=1) - 1
    return (*found, *(["silence"] if silence >= _SILENT_BARS * bar else []))


def with_plan_of(roll: Roll, settings: SampleSettings, model: ModelConfig) -> SampleSettings:
    """The same settings with the plan of a roll known beforehand, that of all of its bars."""
    planes = Planes.over(model, settings.target_width, settings.steps_per_bar, settings.downbeats, settings.beat_units)
    canvas = planes.canvas_of(roll.cells, roll.voices, model.steps_per_bar)
    limits = settings.constraints or CanvasConstraints.on_planes(model, planes, canvas.shape[1])
    given, codes, plan = limits.given.copy(), limits.codes.copy(), slice(0, planes.plan_rows)
    codes[plan] = np.where(given[plan], codes[plan], canvas[plan])
    given[plan] = True
    return replace(settings, constraints=replace(limits, given=given, codes=codes))
