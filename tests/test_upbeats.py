"""Upbeats told from the notes: where harmonies change and long notes begin, bars do."""

from pathlib import Path

import numpy as np
import pytest
from roll_support import notes_to_cells

from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.corpus.corpus import Corpus, read_corpus_of
from varcli.pianoroll.corpus.upbeats import upbeat_of
from varcli.pianoroll.roll import Note, Roll, Vocabulary
from varcli.pianoroll.score.midi import write_midi

VOCABULARY = Vocabulary()


def waltz(upbeat: int, bars: int = 12) -> np.ndarray:
    """A bass note on the first beat, chords on the others and a melody, after an upbeat of the melody alone."""
    notes = [Note(79, step, 2, 80) for step in range(0, upbeat, 2)]
    for bar in range(bars):
        root, start = (0, 5, 7, 0)[bar % 4], upbeat + 12 * bar
        notes += [Note(48 + root, start, 4, 80), Note(72 + root, start, 8, 80), Note(74 + root, start + 8, 4, 80)]
        notes += [Note(60 + root + third, start + beat, 4, 80) for beat in (4, 8) for third in (0, 4, 7)]
    return notes_to_cells(notes, upbeat + 12 * bars, VOCABULARY)[0]


@pytest.mark.parametrize("upbeat", [0, 2, 4, 8])
def test_an_upbeat_is_found(upbeat: int) -> None:
    assert upbeat_of(waltz(upbeat), VOCABULARY, 12) == upbeat


def test_nothing_is_guessed_of_silence_and_of_few_bars() -> None:
    assert upbeat_of(waltz(4, bars=4), VOCABULARY, 12) == 0
    assert upbeat_of(np.zeros((128, 200), np.uint8), VOCABULARY, 12) == 0


def test_upbeats_are_guessed_on_request(tmp_path: Path) -> None:
    for name, upbeat, bar in (("waltz 2", 4, 12), ("waltz 3", 0, 12)):
        write_midi(Roll(waltz(upbeat), steps_per_bar=bar), tmp_path / f"{name}.mid")
    config = PianorollConfig.model_validate({"data": {"upbeats": True}})
    *_, found = read_corpus_of(config, tmp_path)
    assert isinstance(found, Corpus)
    assert [piece.downbeats[:3].tolist() for piece in found.pieces] == [[0, 4, 16], [0, 12, 24]]
    *_, plain = read_corpus_of(PianorollConfig(), tmp_path)
    assert isinstance(plain, Corpus) and [piece.downbeats[1] for piece in plain.pieces] == [12, 12]
