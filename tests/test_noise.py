"""A model trained on independent noise cannot say more of it than there is to know: the surest sign of a leak."""

from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import tiny_config

from varcli.pianoroll.corpus.corpus import Corpus, Piece
from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Vocabulary
from varcli.pianoroll.train_config import MusicTrainConfig
from varcli.pianoroll.training.task import PianorollTask
from varcli.train.loop import learning_rate

KEYS, SHARE = 88, 0.05
HELD_OUT, PIECE_STEPS = 4_096, 512


def noise(rng: np.random.Generator, pieces: int, split: Any) -> list[Piece]:
    """Pieces u8 [88, 512] in which every cell sounds on its own with probability 0.05."""
    cells = (rng.random((pieces, KEYS, PIECE_STEPS)) < SHARE).astype(np.uint8)
    return [Piece(f"{split}{i}", canvas, np.zeros(0, np.int32), 0.0, split) for i, canvas in enumerate(cells)]


def own_nats_per_frame(pieces: list[Piece]) -> float:
    """What the process that made the pieces says of them itself."""
    on = np.mean([piece.cells.mean() for piece in pieces])
    return float(-KEYS * (on * np.log(SHARE) + (1 - on) * np.log(1 - SHARE)))


def trained(model: FractalModel, task: PianorollTask) -> FractalModel:
    """A plain loop, without files."""
    options = task.config.train
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=options.learning_rate)
    generator = torch.Generator().manual_seed(0)
    for step in range(options.steps):
        result = task.loss(model, task.batch(step, 0, options.batch_size), Draw(generator, options.parents_per_level))
        optimizer.param_groups[0]["lr"] = learning_rate(options, step)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
    return model.eval()


ECHO = {"candidates": 4, "pitches_around": 3, "steps_before": 2, "steps_after": 4}
EXTRAS = {"echo": ECHO, "tonality": True, "conditioning": True}


@pytest.mark.parametrize(
    ("shapes", "order", "extras"),
    [
        ("88x1>8x1>1x1", "column_major", {}),
        ("8x8>4x4>1x1", "row_major", {}),
        ("88x1>8x1>1x1", "column_major", EXTRAS | {"polyphony": True}),
        ("8x8>4x4>1x1", "column_major", EXTRAS),
    ],
)
def test_nothing_is_learnt_from_noise_that_is_not_in_it(shapes, order, extras) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    # Windows reach far into what comes later, so that a mistake in what is hidden would show.
    level = {"steps_before": 3, "steps_after": 3, "pitches_around": 6, "lags": (), "heads": 2}
    options = {"steps": 100, "batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 10, "parents_per_level": 256}
    config = tiny_config(
        "ar",
        shapes,
        KEYS,
        scan_order=order,
        level=level,
        model={"context_steps": 16} | extras,
        data={"crop_steps": 64},
        train=MusicTrainConfig.model_validate(options),
    )
    pieces = noise(rng, 40, "train") + noise(rng, 1, "valid")
    task = PianorollTask(config, Corpus(tuple(pieces), (), Vocabulary(binary=True), 4, "noise"))
    model = trained(FractalModel(config), task)
    held_out = noise(rng, HELD_OUT // PIECE_STEPS, "test")
    *_, report = score(model, held_out)
    assert isinstance(report, LikelihoodReport) and report.frames == HELD_OUT
    own = own_nats_per_frame(held_out)
    assert own - 0.02 < report.nats_per_frame < own + 0.6
