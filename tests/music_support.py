"""Small made-up pieces and comparisons of them."""

import numpy as np
from roll_support import notes_to_cells

from varcli.pianoroll.corpus.arrays import Split
from varcli.pianoroll.corpus.corpus import Piece
from varcli.pianoroll.evaluation.comparison import MusicComparison, Options, compare_music
from varcli.pianoroll.evaluation.windows import bar_windows, first_step_windows
from varcli.pianoroll.roll import Note, Vocabulary

V = Vocabulary()
WINDOW = 64
QUICK = Options(resamples=30)


def melody(
    seed: int, steps: int = 2 * WINDOW, low: int = 55, scale: tuple[int, ...] = (0, 2, 4, 5, 7, 9, 11)
) -> np.ndarray:
    """A canvas u8 [128, steps] of a random melody in a scale with a bass note per bar."""
    rng = np.random.default_rng(seed)
    notes = [Note(36 + int(rng.choice(scale)), bar, 12, int(rng.integers(40, 70))) for bar in range(0, steps, 16)]
    step = 0
    while step < steps:
        long = min(int(rng.choice((1, 2, 2, 4))), steps - step)
        pitch = low + 12 * int(rng.integers(0, 3)) + int(rng.choice(scale))
        notes.append(Note(pitch, step, long, int(rng.integers(50, 110))))
        step += long + int(rng.choice((0, 0, 0, 2)))
    return notes_to_cells(notes, steps, V)[0]


def piece(cells: np.ndarray, name: str = "a", split: Split = "test") -> Piece:
    """A piece whose bars start every 16 steps."""
    return Piece(name, cells, np.arange(0, cells.shape[1], 16, dtype=np.int32), 0.0, split)


def pieces(count: int, first_seed: int, split: Split = "test") -> list[Piece]:
    """Random melodies."""
    return [piece(melody(seed), f"{seed}.mid", split) for seed in range(first_seed, first_seed + count)]


def compare(
    generated: list[Piece],
    reference: list[Piece],
    training: list[Piece] | None = None,
    *,
    options: Options = QUICK,
    vocabulary: Vocabulary = V,
) -> MusicComparison:
    """The comparison of all windows of 64 steps."""
    ours, theirs = first_step_windows(generated, vocabulary, WINDOW), bar_windows(reference, vocabulary, WINDOW)
    *_, found = compare_music(ours, theirs, training or [], vocabulary, options)
    assert isinstance(found, MusicComparison)
    return found


def binary(one: Piece) -> Piece:
    """The same piece without onsets and velocities."""
    return Piece(one.name, (one.cells > 0).astype(np.uint8), one.downbeats, 0.0, one.split)
