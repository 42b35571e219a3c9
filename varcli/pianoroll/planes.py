"""The canvas of a model with voices: a plane of pitches for each voice, and the plan of form and harmony below them.

Legend: P pitches, T steps, R rows: those of the plan first, then the planes, in the order in which a bar is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from varcli.pianoroll.config import FORM_ROWS, ModelConfig, rows_of_plane
from varcli.pianoroll.form import Plan, whole_bars
from varcli.pianoroll.harmony import Harmony, rows_allowed
from varcli.pianoroll.metre import BarColumns
from varcli.pianoroll.roll import PITCHES, Vocabulary, merge

ONE_VOICE = "piano"
"""The name of the only plane of a model without voices."""


@dataclass(frozen=True)
class Planes:
    """The layout of a canvas [R, T]: the rows of a plan, if there are any, then one plane for each of `names`.

    A plane alone without a plan is as high as the pitches, so that the canvas is that of a roll. Others are somewhat
    higher (`rows_of_plane`); the rows above the pitches are silent. For models that know metre, `bars` of the piece say
    which steps of its roll those of the canvas are; else they are the same.
    """

    names: tuple[str, ...] = (ONE_VOICE,)
    pitches: int = PITCHES
    plan_rows: int = 0
    bars: BarColumns | None = None

    @classmethod
    def of(cls, config: ModelConfig) -> "Planes":
        """The layout of a model's canvas."""
        return cls(config.voices or (ONE_VOICE,), config.pitches, config.plan_rows)

    @classmethod
    def over(
        cls,
        config: ModelConfig,
        steps: int,
        steps_per_bar: int | None = None,
        downbeats: Sequence[int] | None = None,
        beat_units: Mapping[int, int] | None = None,
    ) -> "Planes":
        """The layout of a model's canvas of a piece of so many steps, with its bars if the model knows metre.

        They begin at `downbeats`, or, if those are unknown, each `steps_per_bar` (None: those of the config);
        `beat_units` are those of `Roll`.
        """
        if not config.metre:
            return cls.of(config)
        usual = steps_per_bar or config.steps_per_bar
        grid = config.steps_per_bar, config.steps_per_beat
        bars = BarColumns.of(steps, *grid, usual, downbeats or (), beat_units)
        return replace(cls.of(config), bars=bars)

    @property
    def is_roll(self) -> bool:
        """Whether a canvas is the roll itself."""
        return self.rows == self.pitches and self.bars is None

    def roll_step(self, step: int) -> int:
        """The step of the roll that a step of the canvas is; beyond a bar that of the next."""
        return step if self.bars is None else self.bars.piece_step(step)

    def canvas_steps(self, steps: int) -> int:
        """Steps of the canvas of a roll of so many steps."""
        return steps if self.bars is None else self.bars.canvas_steps

    @property
    def plane_rows(self) -> int:
        """Rows of one plane."""
        return rows_of_plane(self.pitches, len(self.names), self.plan_rows)

    @property
    def has_harmony(self) -> bool:
        """Whether the plan says more than the form."""
        return self.plan_rows > FORM_ROWS

    @property
    def rows(self) -> int:
        """R, the rows of the canvas."""
        return self.plan_rows + len(self.names) * self.plane_rows

    def pitch_rows(self, voice: str) -> slice:
        """The rows of the pitches of a voice; raises ValueError for a voice that the canvas has not."""
        first = self.plan_rows + self.names.index(voice) * self.plane_rows
        return slice(first, first + self.pitches)

    def place_of(self, row: int) -> tuple[int | None, int]:
        """The voice, by its index, and the pitch of a row; of a row of the plan None and the row."""
        voice, pitch = divmod(row - self.plan_rows, self.plane_rows)
        return (None, row) if row < self.plan_rows else (voice, pitch)

    def stack(self, voices: Mapping[str, np.ndarray]) -> np.ndarray:
        """The canvas [R, T] of voices [P, T] of one type; those that are missing and the plan are 0.

        With bars it is of other width, see `BarColumns.spread`.
        """
        some = next(iter(voices.values()))
        canvas = np.zeros((self.rows, some.shape[1]), some.dtype)
        for name, cells in voices.items():
            canvas[self.pitch_rows(name)] = cells
        return self.spread(canvas)

    def spread(self, cells: np.ndarray) -> np.ndarray:
        """Rows [R, T] over the steps of a roll, codes or bools, as those of a canvas."""
        return cells if self.bars is None else self.bars.spread(cells)

    def stack_piece(self, cells: np.ndarray, voices: Mapping[str, np.ndarray] | None) -> np.ndarray:
        """The canvas [R, T] of a piece or roll with these voices, or of its cells [P, T] on the first plane.

        That is where there is one plane alone, or where it has no voices.
        """
        first, *others = self.names
        return self.stack(voices if voices and others else {first: cells})

    def canvas_of(self, cells: np.ndarray, voices: Mapping[str, np.ndarray] | None, steps_per_bar: int) -> np.ndarray:
        """The same with the plan of its bars."""
        return self.write_plan(self.stack_piece(cells, voices), steps_per_bar)

    def allowed(
        self, pitches: np.ndarray, steps: int, steps_per_bar: int, most_back: np.ndarray | None = None
    ) -> np.ndarray:
        """Where a canvas may sound, bool [R, T]: at some pitches, bool [P], and in the last step of a bar at the rows
        of the plan that say a bar is new or point to an earlier one that there is, `most_back` i64 [B] bars back."""
        allowed = np.zeros((self.rows, steps), bool)
        for name in self.names:
            allowed[self.pitch_rows(name)] = pitches[:, None]
        if self.plan_rows:
            bar = np.arange(-(-steps // steps_per_bar))
            last = np.minimum((bar + 1) * steps_per_bar, steps) - 1
            allowed[:FORM_ROWS, last] = np.arange(FORM_ROWS)[:, None] <= (bar if most_back is None else most_back)
        if self.bars is not None:
            allowed[self.plan_rows :] &= self.bars.inside[:steps]
        if self.has_harmony:
            allowed[FORM_ROWS : self.plan_rows] = rows_allowed(steps, steps_per_bar)
        return allowed

    def write_plan(self, canvas: np.ndarray, steps_per_bar: int) -> np.ndarray:
        """The same canvas u8 [R, T] with the plan of its bars, the first of which starts at step 0, if it has one."""
        if self.plan_rows:
            plan = Plan.of(canvas[self.plan_rows :], steps_per_bar)
            canvas[:FORM_ROWS] = plan.cells(canvas.shape[1], steps_per_bar)
        if self.has_harmony:
            inside = True if self.bars is None else self.bars.inside
            harmony = Harmony.of(self.by_voice(canvas) * inside, steps_per_bar)
            canvas[FORM_ROWS : self.plan_rows] = harmony.cells(canvas.shape[1], steps_per_bar)
        return canvas

    def spread_given(self, given: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which cells of a canvas are given, bool [R, T], and their codes, with those beyond bars that follow."""
        if self.bars is None:
            return given, codes
        own, plan = slice(self.plan_rows, None), slice(0, self.plan_rows)
        pair = self.bars.spread_given(given[own], codes[own])
        return np.concatenate([given[plan], pair[0]]), np.concatenate([codes[plan], pair[1]])

    def plan_known(self, canvas: np.ndarray, given: np.ndarray, steps_per_bar: int) -> np.ndarray:
        """Where the plan in a canvas u8 [R, T] is known from given cells of it, bool [R, T]: bool [plan rows, T].

        That of the form is in bars that are given as a whole, if what they return from is too; that of the harmony in
        all that are given as a whole.
        """
        known, of = np.zeros((self.plan_rows, given.shape[1]), bool), given[self.plan_rows :]
        if self.plan_rows:
            known[:FORM_ROWS] = Plan.read(canvas[:FORM_ROWS], steps_per_bar).known(of, steps_per_bar)
            known[FORM_ROWS:] = whole_bars(of, steps_per_bar)
        return known

    def by_voice(self, canvas: np.ndarray) -> np.ndarray:
        """The planes of a canvas [R, T], a view [V, rows of a plane, T]."""
        return canvas[self.plan_rows :].reshape(len(self.names), self.plane_rows, canvas.shape[1])

    def split(self, canvas: np.ndarray, start: int = 0, stop: int | None = None) -> dict[str, np.ndarray]:
        """The voices [P, T] of a canvas [R, T], or of these of its steps; views of it unless there are bars."""
        inside = slice(None) if self.bars is None else self.bars.inside[start:stop]
        canvas = canvas[:, start:stop][:, inside]
        return {name: canvas[self.pitch_rows(name)] for name in self.names}

    def only(self, canvas: np.ndarray) -> np.ndarray:
        """The cells [P, T] of the only voice of a canvas [R, T]."""
        (cells,) = self.split(canvas).values()
        return cells

    def merge(self, canvas: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
        """The notes of all voices of a canvas u8 [R, T] on one of 128 pitches, u8 [128, T], see `roll.merge`."""
        return merge(self.split(canvas).values(), vocabulary)

    def merge_kept(self, given: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Which cells of the roll are known if those of a canvas, `codes` u8 [R, T], are where `given` bool [R, T].

        bool [P, T]: where some voice is known to sound, and where all are known.
        """
        known, sounding = self.split(given).values(), self.split(codes).values()
        some = np.any([one & (cells > 0) for one, cells in zip(known, sounding, strict=True)], 0)
        return some | np.all(list(known), 0)

    def transpose(self, canvas: np.ndarray, semitones: int) -> np.ndarray:
        """Transpose every plane of a canvas u8 [R, T]; it is left alone if a note would leave the pitches."""
        planes = self.by_voice(canvas)
        used = np.flatnonzero(planes.any((0, 2)))
        if semitones == 0 or len(used) == 0 or used[0] + semitones < 0 or used[-1] + semitones >= self.pitches:
            return canvas
        moved = np.roll(planes, semitones, axis=1).reshape(-1, canvas.shape[1])
        return np.concatenate([canvas[: self.plan_rows], moved]) if self.plan_rows else moved
