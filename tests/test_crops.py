"""What training is fed: crops that begin at bars, transposed, and a loss that is their price."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fractal_support import config_of, price, some_canvas, tiny, tiny_config

from varcli.errors import UsageError
from varcli.events import Warned
from varcli.pianoroll import roll
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.corpus.arrays import Split
from varcli.pianoroll.corpus.corpus import Corpus, Piece
from varcli.pianoroll.form import Plan
from varcli.pianoroll.metre import BarColumns
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Roll, Vocabulary, merge
from varcli.pianoroll.score.midi import write_midi
from varcli.pianoroll.train_config import DataConfig
from varcli.pianoroll.training.task import CropBatch, PianorollTask


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


# --- voices and form

NAMES = ("melody", "piano")
BAR = 4


def planned_config(conditioning: bool = False, **options) -> PianorollConfig:
    """A model of two voices with a plan, bars of four steps and crops of four bars."""
    model = {"voices": NAMES, "form": True, "velocity_bins": 4, "conditioning": conditioning}
    shapes = "48x4>8x2>1x1"
    data = DataConfig.model_validate({"crop_steps": 16, **options})
    return tiny_config("ar", shapes, 128, notes=True, model=model, data=data)


def piece_in_voices(*bars: int, steps_per_bar: int = BAR, name: str = "train0", split: Split = "train") -> Piece:
    """A piece of bars by number: bars of one number are alike, in the melody and in the piano."""
    melody, piano = np.zeros((2, 128, BAR * len(bars)), np.uint8)
    for index, number in enumerate(bars):
        melody[70 + number, index * BAR : index * BAR + 3] = (2, 1, 1)
        piano[40 + number, index * BAR + 2], piano[45 - number, index * BAR] = 4, 3
    cells = merge([melody, piano], Vocabulary(4))
    downbeats = np.arange(0, cells.shape[1], steps_per_bar, dtype=np.int32)
    return Piece(name, cells, downbeats, 0.0, split, steps_per_bar, {"melody": melody, "piano": piano})


def planned_task(config: PianorollConfig, *bars: int) -> PianorollTask:
    pieces = piece_in_voices(*bars), piece_in_voices(*bars, name="valid1", split="valid")
    return PianorollTask(config, Corpus(pieces, (), Vocabulary(4), 4, "digest"))


def test_crops_of_voices_are_stacked_planes_over_the_plan_of_the_crop() -> None:
    bars = (1, 2, 3, 1, 2, 3, 9)
    task = planned_task(planned_config(transpose_down=3, transpose_up=3), *bars)
    planes, piece = task.planes, task.pieces[0]
    assert piece.voices is not None
    starts, moves = [], set()
    for step in range(60):
        for crop in task.batch(step, 0, 2).codes.numpy():
            assert crop.shape == (48 + 2 * 144, 16)
            voices = planes.split(crop)
            low = int(np.flatnonzero(voices["melody"][:, 0])[0])
            (start,) = [
                s for s in range(4) if any(low == 70 + bars[s] + m for m in range(-3, 4)) and _fits(crop, task, s)
            ]
            move = low - 70 - bars[start]
            for name, cells in piece.voices.items():
                assert np.array_equal(voices[name], np.roll(cells[:, 4 * start : 4 * start + 16], move, axis=0))
            back = {0: [0, 0, 0, 3], 1: [0, 0, 0, 3], 2: [0, 0, 0, 3], 3: [0, 0, 0, 0]}[start]
            assert np.array_equal(crop[:48], Plan(np.array(back), 3 * (np.array(back) > 0)).cells(16, BAR))
            starts.append(start)
            moves.add(move)
    assert set(starts) == {0, 1, 2, 3} and moves == set(range(-3, 4))
    assert starts.count(0) > 30  # a fifth more than the downbeats alone would give
    for batch in task.validation_batches(2):
        assert all(planes.split(crop)["melody"].any() for crop in batch.codes.numpy())


def _fits(crop: np.ndarray, task: PianorollTask, start: int) -> bool:
    """Whether a crop begins at bar `start` of the piece, in whatever transposition."""
    rows = [np.flatnonzero(crop[48:, 4 * bar])[-1] for bar in range(4)]
    piece = task.planes.stack(task.pieces[0].voices or {})
    there = [np.flatnonzero(piece[48:, 4 * (start + bar)])[-1] for bar in range(4)]
    return len({a - b for a, b in zip(rows, there, strict=True)}) == 1


def test_pieces_in_another_metre_are_left_out_of_a_training_with_form(tmp_path: Path) -> None:
    for number, bar in ((11, 4), (12, 4), (13, 3), (14, 3), (15, 4)):
        piece = piece_in_voices(1, 2, 1, 3, 3, 3)
        voices = piece.voices if number != 15 else None
        roll = Roll(piece.cells, Vocabulary(4), steps_per_bar=bar, voices=voices)
        write_midi(roll, tmp_path / f"{number}.mid")
    for form, names in ((True, ["12.mid", "15.mid"]), (False, ["12.mid", "13.mid", "14.mid", "15.mid"])):
        config = planned_config()
        config = config.model_copy(update={"model": config.model.model_copy(update={"form": form})})
        *events, task = PianorollTask.read(config, tmp_path)
        assert isinstance(task, PianorollTask) and [piece.name for piece in task.pieces] == names
        said = [event.message for event in events if isinstance(event, Warned)]
        assert said[:-1] == (
            ["2 of 5 pieces are left out for their metre, such as 13.mid: its bars are of 3 steps, not 4"]
            if form
            else []
        )
        assert said[-1].startswith(f"1 of {5 - 2 * form} pieces are shared out over voices, such as 15.mid: ")
        assert task.provenance["skipped"] == 2 * form and task.provenance["shared_out"] == 1
        assert task.provenance["notes"] == {"melody": 6 * len(names), "piano": 12 * len(names)}


def test_given_cells_of_planes_are_voices_regions_and_what_the_plan_knows_of_them() -> None:
    task = planned_task(planned_config(conditioning=True, holes_share=0.4), 1, 2, 1, 2)
    seen = set()
    for step in range(60):
        batch = task.batch(step, 0, 4)
        assert batch.given is not None
        for codes, known in zip(batch.codes.numpy(), batch.given.numpy(), strict=True):
            plan, planes = known[:48], known[48:].reshape(2, 144, 16)
            whole = planes.all((1, 2))
            if planes.any() and not whole.any():
                seen.add(
                    "regions in one plane" if (~planes).all((1, 2)).any() or planes.all((1, 2)).any() else "regions"
                )
            elif whole.sum() == 1:
                seen.add("voice")
            if not planes.any():
                seen.add("plan alone" if plan.all() else "nothing")
                assert plan.all() or not plan.any()
            by_bar = planes.reshape(2, 144, 4, BAR).all((0, 1, 3))
            back = Plan.read(codes[:48], BAR).bars_back
            derived = by_bar & by_bar[np.arange(4) - back]
            assert plan.all() or np.array_equal(plan, np.broadcast_to(derived.repeat(BAR), plan.shape))
            assert not derived.any() or plan.any()
    assert seen >= {"regions", "voice", "plan alone", "nothing"}


def test_pieces_without_the_voices_of_the_model_are_refused() -> None:
    piece = piece_in_voices(1, 2)
    plain = [Piece(f"{split}0", piece.cells, piece.downbeats, 0.0, split) for split in ("train", "valid")]
    with pytest.raises(UsageError, match=r"train0 has voices \(\), the model \('melody', 'piano'\)"):
        PianorollTask(planned_config(), Corpus(tuple(plain), (), Vocabulary(4), 4, "digest"))


def test_crops_of_models_with_metre_begin_at_bars_of_any_length() -> None:
    config = planned_config(conditioning=True, holes_share=0.4, crop_steps=20)
    config = config.model_copy(update={"model": config.model.model_copy(update={"metre": True})})
    downbeats = (0, 1, 4, 7, 10, 16, 20, 23, 26, 29)
    whole = piece_in_voices(*range(8))
    piece = replace(whole, downbeats=np.array(downbeats, np.int32), steps_per_bar=4, beat_units={3: 8})
    task = PianorollTask(config, Corpus((piece, replace(piece, split="valid")), (), Vocabulary(4), 4, "digest"))
    lengths = (1, 3, 3, 3, 4, 2, 4, 3, 3, 3, 3)
    model = FractalModel(task.config).eval()
    starts = np.cumsum((0, *lengths))
    seen = set()
    for step in range(30):
        batch = task.batch(step, 0, 2)
        assert batch.metres is not None and batch.given is not None and batch.allowed is not None
        frames = 0
        for codes, steps, given, bars in zip(
            batch.codes.numpy(), batch.steps.tolist(), batch.given.numpy(), batch.metres.tolist(), strict=True
        ):
            told = tuple(length - 4 if length > 4 else length for length in bars)
            assert all((length > 4) == (length - 4 == 3) for length in bars)
            (first,) = (c for c in (0, 1, 2, 3, 4, 6) if lengths[c : c + 5] == told)
            own = BarColumns(4, told, (True,) * 5, (False,) * 5, min(int(starts[first + 5]), 32) - int(starts[first]))
            assert own.canvas_steps == steps
            planes = replace(task.planes, bars=own)
            voices = {
                name: roll.crop(cells, int(starts[first]), int(starts[first]) + own.steps, Vocabulary(4))
                for name, cells in (piece.voices or {}).items()
            }
            assert np.array_equal(codes[48:, :steps], planes.stack(voices)[48:])
            given, known = given[:, :steps], codes[:, :steps] * given[:, :steps]
            again = planes.spread_given(given, known)
            assert np.array_equal(again[0], given) and np.array_equal(again[1], known)
            frames += own.steps
            seen.add(first)
        assert batch.frames == frames
        if step < 3:
            loss = task.loss(model, batch, Draw(torch.Generator()))
            assert np.isfinite(loss.nats_per_frame)
    assert seen == {0, 1, 2, 3, 4, 6}
