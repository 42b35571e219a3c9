"""What training is fed: crops that begin at bars, transposed, and a loss that is their price."""

import numpy as np
import pytest
import torch
from fractal_support import config_of, price, some_canvas, tiny
from roll_support import notes_to_cells

from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.corpus.corpus import Corpus, Piece
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Note, Vocabulary
from varcli.pianoroll.training.task import CropBatch, PianorollTask, shift


def task_of(config: PianorollConfig, *cells: np.ndarray, downbeats: tuple[int, ...] = ()) -> PianorollTask:
    """A task over given canvases, each of them in both splits."""
    binary = config.model.vocabulary == "binary"
    vocabulary = Vocabulary(binary=True) if binary else Vocabulary(config.model.velocity_bins)
    bars = np.array(downbeats, np.int32)
    pieces = tuple(
        Piece(f"{split}{i}", canvas, bars, 0.0, split) for split in ("train", "valid") for i, canvas in enumerate(cells)
    )
    return PianorollTask(config, Corpus(pieces, (), vocabulary, 4, "digest"))


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_one_batch_is_learnt_by_heart(kind) -> None:
    torch.manual_seed(0)
    config = config_of(kind, notes=True)
    model = FractalModel(config).train()
    cells = some_canvas(tiny("ar", "4x1>1x1", 128, notes=True), 16, density=0.03)
    batch = CropBatch(torch.from_numpy(cells)[None].repeat(2, 1, 1), torch.tensor([16, 16]))
    task = task_of(config, cells)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    nats = []
    for _ in range(60):
        result = task.loss(model, batch, Draw(generator))
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        nats.append(result.nats_per_frame)
    assert np.mean(nats[-10:]) < 0.4 * np.mean(nats[:3])


def test_the_loss_of_ar_levels_is_their_exact_price() -> None:
    model = tiny("ar", "64x4>8x2>1x1", 128, notes=True)
    task = task_of(config_of(notes=True), np.ones((128, 16), np.uint8))
    cells = np.stack([some_canvas(model, 16, seed=s, density=0.05) for s in range(2)])
    cells[1, :, 8:] = 0
    steps = torch.tensor([16, 8])
    exact = price(model, cells, steps_B=steps).sum() / 24
    with torch.no_grad():
        batch = CropBatch(torch.from_numpy(cells), steps)
        result = task.loss(model, batch, Draw(torch.Generator()))
        assert result.nats_per_frame == pytest.approx(exact, rel=1e-5)
        assert sum(result.nats_per_level) == pytest.approx(exact, rel=1e-5)
        generator = torch.Generator().manual_seed(0)
        drawn = np.array([task.loss(model, batch, Draw(generator, 12)).nats_per_frame for _ in range(150)])
        assert abs(drawn.mean() - exact) < 4 * drawn.std() / 150**0.5
        alone = CropBatch(batch.codes[:1], steps[:1])
        loss = task.loss(model, alone, Draw(generator)).loss
        assert float(loss) == pytest.approx(price(model, cells[:1])[0] / 16, rel=1e-5)


def test_batches_depend_on_seed_step_and_rank_alone() -> None:
    rng = np.random.default_rng(0)
    cells = [(rng.random((128, steps)) < 0.1).astype(np.uint8) for steps in (60, 10, 100)]
    task, again = (task_of(config_of(data={"transpose_up": 3}), *cells) for _ in range(2))
    first = task.batch(4, 0, 3)
    task.batch(5, 0, 3)
    assert torch.equal(first.codes, again.batch(4, 0, 3).codes)
    assert not torch.equal(first.codes, task.batch(4, 1, 3).codes)
    assert not torch.equal(first.codes, task.batch(5, 0, 3).codes)
    assert not torch.equal(first.codes, task_of(config_of(seed=1), *cells).batch(4, 0, 3).codes)
    once, twice = (list(task.validation_batches(2)) for _ in range(2))
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(once, twice, strict=True))


def test_crops_begin_at_bars_and_what_lies_beyond_a_piece_does_not_count() -> None:
    long = np.zeros((128, 70), np.uint8)
    long[np.random.default_rng(0).integers(0, 128, 70), np.arange(70)] = 1
    task = task_of(config_of(), long, downbeats=(3, 15, 27, 39, 51, 63))
    starts = set()
    for step in range(30):
        batch = task.batch(step, 0, 2)
        assert batch.steps.tolist() == [16, 16]
        for crop in batch.codes.numpy():
            (start,) = [s for s in range(55) if np.array_equal(crop, long[:, s : s + 16])]
            starts.add(start)
    assert starts == {3, 15, 27, 39, 51}
    batch = task_of(config_of(), long[:, :10]).batch(0, 0, 2)
    assert (batch.steps.tolist(), batch.codes.shape) == ([10, 10], (2, 128, 10))


def test_crops_are_transposed_as_far_as_asked() -> None:
    cells = np.zeros((128, 16), np.uint8)
    cells[60, 0::4] = cells[67, 1::3] = 1
    task = task_of(config_of(data={"transpose_down": 2, "transpose_up": 3}), cells)
    lowest = set()
    for step in range(40):
        for crop in task.batch(step, 0, 2).codes.numpy():
            low = int(np.flatnonzero(crop.any(1))[0])
            assert np.array_equal(crop, np.roll(cells, low - 60, axis=0))
            lowest.add(low)
    assert lowest == {58, 59, 60, 61, 62, 63}
    for batch in task.validation_batches(2):
        assert all(np.array_equal(crop, cells) for crop in batch.codes.numpy())


def test_transposing_keeps_every_note_or_does_nothing() -> None:
    notes = [Note(2, 0, 3, 40), Note(120, 4, 2, 90)]
    cells, _ = notes_to_cells(notes, 8, Vocabulary())
    up = notes_to_cells([Note(n.pitch + 7, n.start_step, n.duration_steps, n.velocity) for n in notes], 8, Vocabulary())
    assert np.array_equal(shift(cells, 7), up[0])
    assert np.array_equal(shift(shift(cells, -2), 2), cells) and shift(cells, -2)[0].any()
    for impossible in (-3, 8):
        assert np.array_equal(shift(cells, impossible), cells)
    assert not shift(np.zeros((128, 4), np.uint8), 5).any()
