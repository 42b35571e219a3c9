"""What a plan is asked to say: a form, chords and a key, written into the plan of a canvas before it is sampled."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from varcli.errors import UsageError
from varcli.pianoroll.config import FORM_ROWS, PianorollConfig
from varcli.pianoroll.form import Sections, whole_bars
from varcli.pianoroll.generation.settings import check_conditioning
from varcli.pianoroll.harmony import NO_CHORD, Harmony, places
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.score.chords import parse_chords, parse_key, read_chords

_UNSAID = NO_CHORD - 1
_COVERED = 0.5
"""Share of half a bar that an annotated chord must last to be that of the half."""


@dataclass(frozen=True)
class PlanOptions:
    """A form such as AABA, chords ("C Am F G" or a file of them) and a key, as they are written; None says nothing."""

    form: str | None = None
    chords: str | None = None
    key: str | None = None

    def __bool__(self) -> bool:
        return self != NOTHING_ASKED

    def document(self) -> dict[str, str | None]:
        """For JSON."""
        return asdict(self)

    def on_canvas(
        self, config: PianorollConfig, planes: Planes, given: np.ndarray, codes: np.ndarray, tempo_bpm: float
    ) -> dict[str, np.ndarray | None]:
        """What is known of a canvas, `given` bool [R, T] and `codes` u8 [R, T], and the plan where that is not known.

        `most_back` i64 [B] says how far back bars may return. Chords stand one to a bar, over and over from the first
        bar on that is not given as a whole; those of a file where they are at `tempo_bpm` quarter notes a minute.
        Raises UsageError for a model that plans no such thing, and for what is no form, chord or key.
        """
        if not self:
            return {"given": given, "codes": codes}
        check_conditioning(config)
        given, codes = given.astype(bool), codes.copy()
        most_back = None if self.form is None else _write_form(self.form, config, given, codes)
        if self.chords is not None or self.key is not None:
            self._write_harmony(config, planes, given, codes, tempo_bpm)
        return {"given": given, "codes": codes, "most_back": most_back}

    def _write_harmony(
        self, config: PianorollConfig, planes: Planes, given: np.ndarray, codes: np.ndarray, tempo_bpm: float
    ) -> None:
        if not config.model.harmony:
            option = "--chords" if self.chords is not None else "--key"
            raise UsageError(f"{config.name} plans no harmony", f"leave out {option}, or take one with model.harmony")
        bar, steps = config.model.steps_per_bar, given.shape[1]
        columns = -(-steps // bar)
        chords = np.full((columns, 2), _UNSAID)
        if self.chords is not None:
            first = int(np.argmin(np.append(whole_bars(given[planes.plan_rows :], bar)[::bar], False)))
            chords[first:] = self._chords(config, planes, columns, tempo_bpm, first)[first:]
        key = np.full(columns, 0 if self.key is None else parse_key(self.key))
        says = np.column_stack([np.full(columns, self.key is not None), chords != _UNSAID])
        harmony = Harmony(key, np.maximum(chords, NO_CHORD), np.zeros(columns, np.int64)).cells(steps, bar)
        rows = slice(FORM_ROWS, planes.plan_rows)
        for at, said in zip(places(bar), says.T, strict=False):
            where = np.arange(columns)[said] * bar + at
            where = where[where < steps]
            where = where[~given[rows, where].any(0)]
            given[rows, where], codes[rows, where] = True, harmony[:, where]

    def _chords(
        self, config: PianorollConfig, planes: Planes, columns: int, tempo_bpm: float, first: int
    ) -> np.ndarray:
        """The chords of the halves of all columns, i64 [C, 2]."""
        assert self.chords is not None
        file = Path(self.chords)
        if not (file.suffix or file.is_file()):
            begins = np.ones(columns, bool) if planes.bars is None else np.array(planes.bars.begins)
            named, bar = parse_chords(self.chords), np.cumsum(begins)
            return named[(bar - bar[min(first, columns - 1)]) % len(named)][:, None].repeat(2, 1)
        edges, named = read_chords(file)
        width = config.model.steps_per_bar
        halves = (np.arange(columns)[:, None] * width + (0, width // 2)).ravel()
        steps = np.array([planes.roll_step(step) for step in (*halves.tolist(), columns * width)])
        times = steps * 60 / tempo_bpm / config.model.steps_per_beat
        shared = np.minimum(edges[:, 1], times[1:, None]) - np.maximum(edges[:, 0], times[:-1, None])
        best = shared.argmax(1)
        lasts = shared.max(1) >= _COVERED * np.diff(times)
        return np.where(lasts & (np.diff(times) > 0), named[best], _UNSAID).reshape(-1, 2)


NOTHING_ASKED = PlanOptions()


def _write_form(form: str, config: PianorollConfig, given: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Write the plan of a form into the bars whose plan is not known; returns how far back the others may return."""
    model, steps = config.model, given.shape[1]
    if not model.form:
        raise UsageError(f"{config.name} plans no form", "leave out --form, or take a checkpoint with model.form")
    sections = Sections.parse(form, -(-steps // model.steps_per_bar))
    returns = sections.returns.repeat(model.steps_per_bar)[:steps]
    rows = slice(0, FORM_ROWS)
    codes[rows] = np.where(~given[rows] & returns, sections.plan.cells(steps, model.steps_per_bar), codes[rows])
    given[rows] |= returns
    return sections.most_back
