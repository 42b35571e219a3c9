"""What holds before a roll is written: cells that are kept, where the others may sound, and how many at a time.

Shapes: P pitches, T steps.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from varcli.errors import UsageError, at_least
from varcli.pianoroll.config import ModelConfig
from varcli.pianoroll.metre import BarColumns
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import HELD


@dataclass(frozen=True)
class CanvasConstraints:
    """`given` bool [P, T]: cells known beforehand; `codes` u8 [P, T]: what they hold, 0 elsewhere; `allowed` bool
    [P, T]: where a free cell may sound; `max_polyphony`: most cells that sound at one step, those of the first
    `plan_rows` rows apart, which do not sound; `bars`: what lies beyond them is no decision, whatever its code.

    Given cells are exempt from `allowed`, but count as polyphony. `binary` canvases have no held cells.
    Raises UsageError for constraints that contradict one another.
    """

    given: np.ndarray
    codes: np.ndarray
    allowed: np.ndarray
    max_polyphony: int | None = None
    binary: bool = False
    plan_rows: int = 0
    bars: BarColumns | None = None

    def __post_init__(self) -> None:
        if not self.given.shape == self.codes.shape == self.allowed.shape:
            raise ValueError(f"shapes {self.given.shape}, {self.codes.shape} and {self.allowed.shape} differ")
        if self.codes[~self.given].any():
            raise ValueError("free cells have no code")
        self._check_carried()
        self._check_polyphony()
        self._check_room()

    @classmethod
    def limits(
        cls, allowed: np.ndarray, max_polyphony: int | None = None, *, binary: bool = False
    ) -> "CanvasConstraints":
        """Constraints without given cells."""
        return cls(np.zeros(allowed.shape, bool), np.zeros(allowed.shape, np.uint8), allowed, max_polyphony, binary)

    @classmethod
    def on_planes(
        cls,
        model: ModelConfig,
        planes: Planes,
        steps: int,
        *,
        pitches: np.ndarray | None = None,
        max_polyphony: int | None = None,
        given: np.ndarray | None = None,
        codes: np.ndarray | None = None,
        most_back: np.ndarray | None = None,
    ) -> "CanvasConstraints":
        """Constraints of a canvas [R, T] of a model, whose layout `planes` limits where it may sound.

        `pitches` bool [P] are those that may (None: all); without `given` and `codes` [R, T] nothing is known. A bar
        may return from `most_back` i64 [B] bars before it, see `Planes.allowed`.
        """
        pitches = np.ones(planes.pitches, bool) if pitches is None else pitches
        allowed = planes.allowed(pitches, steps, model.steps_per_bar, most_back)
        given = np.zeros(allowed.shape, bool) if given is None else given
        codes = np.zeros(allowed.shape, np.uint8) if codes is None else codes
        binary = model.vocabulary == "binary"
        return cls(given, codes, allowed, max_polyphony, binary, planes.plan_rows, planes.bars)

    @cached_property
    def in_bar(self) -> np.ndarray:
        """Cells that do not lie beyond a bar, bool [P, T]."""
        found = np.ones(self.given.shape, bool)
        if self.bars is not None:
            found[self.plan_rows :] = self.bars.inside
        return found

    @cached_property
    def tied(self) -> np.ndarray:
        """Free cells that must sound, bool [P, T]: the next one is kept and held, and would else have no beginning."""
        found = np.zeros(self.given.shape, bool)
        if not self.binary:
            found[:, :-1] = ~self.given[:, :-1] & self.given[:, 1:] & (self.codes[:, 1:] == HELD)
        return found

    @cached_property
    def must(self) -> np.ndarray:
        """Cells that sound in any case, bool [P, T]."""
        return ((self.codes > 0) | self.tied) & self.in_bar

    @cached_property
    def can(self) -> np.ndarray:
        """Cells that sound or may, whatever the polyphony, bool [P, T]."""
        return np.where(self.given, self.codes > 0, self.allowed)

    @cached_property
    def settled(self) -> np.ndarray:
        """Cells of each step that sound in any case, i64 [T]."""
        return self.must[self.plan_rows :].sum(0)

    def violation(self, codes: np.ndarray) -> str | None:
        """Why a canvas u8 [P, T] cannot be under these constraints, or None if it can."""
        wrong = np.argwhere(self.given & (codes != self.codes))
        if len(wrong):
            return f"pitch {wrong[0, 0]} at step {wrong[0, 1]} is not what was given"
        wrong = np.argwhere((codes > 0) & ~self.can & self.in_bar)
        if len(wrong):
            return f"pitch {wrong[0, 0]} at step {wrong[0, 1]} sounds where nothing may"
        wrong = np.argwhere(self.tied & (codes == 0))
        if len(wrong):
            return f"pitch {wrong[0, 0]} at step {wrong[0, 1]} is silent before a cell that is held"
        voices = (codes[self.plan_rows :] > 0).sum(0)
        if self.max_polyphony is not None and voices.max(initial=0) > self.max_polyphony:
            return f"{voices.max()} notes sound at step {voices.argmax()}, more than {self.max_polyphony}"
        return None

    def _check_carried(self) -> None:
        wrong = np.argwhere(self.tied & ~self.allowed)
        if len(wrong):
            pitch, step = map(int, wrong[0])
            raise UsageError(
                f"pitch {pitch} must sound at step {step}, for it is held in what is kept after it, but is not allowed",
                "let the region end where the note does, or widen the scale or pitch range",
            )

    def _check_polyphony(self) -> None:
        most = self.max_polyphony
        if most is None:
            return
        at_least("--max-polyphony", most, 1)
        if self.settled.max(initial=0) > most:
            step = int(self.settled.argmax())
            raise UsageError(
                f"{self.settled[step]} kept notes sound at step {step}, more than --max-polyphony {most}",
                f"give --max-polyphony {self.settled.max()} or more",
            )

    def _check_room(self) -> None:
        room = ~self.given & self.allowed
        if self.max_polyphony is not None:
            room &= (self.settled < self.max_polyphony) | self.tied
        if not room.any() and not self.given.all():
            raise UsageError(
                "nothing may sound where the roll is to be written", "loosen the scale, pitch range or polyphony"
            )
