"""Ensembles: the mean of the members' probabilities is an exact model, and it scores but does not sample."""

import numpy as np
import pytest
import torch
from fractal_support import all_canvases, config_of, price, some_canvas, tiny_config

from varcli.errors import UsageError
from varcli.pianoroll.corpus.corpus import Corpus, Piece
from varcli.pianoroll.generation.generate import generate
from varcli.pianoroll.generation.settings import SampleSettings
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.ensemble import Ensemble, build
from varcli.pianoroll.roll import Vocabulary
from varcli.pianoroll.training.task import PianorollTask


def wild(shapes: str, pitches: int, **options) -> Ensemble:
    model = build(tiny_config("ar", shapes, pitches, model={"members": 3}, **options)).eval()
    assert isinstance(model, Ensemble)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.4, generator=generator)
    return model


@pytest.mark.parametrize(("shapes", "notes"), [("2x1>1x1", False), ("2x1>1x1", True), ("2x2>1x1", False)])
def test_probabilities_sum_to_1(shapes: str, notes: bool):
    nats = price(wild(shapes, 2, notes=notes), all_canvases(2, 2, 3 if notes else 2))
    assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-5)


def test_an_ensemble_is_never_worse_than_the_mean_of_its_members():
    model = wild("4x4>2x2>1x1", 8)
    cells = some_canvas(model.parts[0], 12)[None]
    members = [price(part, cells)[0] for part in model.parts]
    assert len({round(nats, 3) for nats in members}) == 3
    assert price(model, cells)[0] < np.mean(members)


def test_an_ensemble_of_equals_is_its_member():
    model = wild("4x4>2x2>1x1", 8)
    for part in model.parts[1:]:
        part.load_state_dict(model.parts[0].state_dict())
    cells = some_canvas(model.parts[0], 12)[None]
    assert price(model, cells) == pytest.approx(price(model.parts[0], cells), rel=1e-6)


def test_members_learn_each_for_itself():
    config = config_of(model={"members": 2})
    rng = np.random.default_rng(0)
    pieces = [
        Piece(f"{split}{i}", (rng.random((128, 24)) < 0.05).astype(np.uint8), np.zeros(0, np.int32), 0.0, split)
        for split in ("train", "valid")
        for i in range(2)
    ]
    task = PianorollTask(config, Corpus(tuple(pieces), (), Vocabulary(binary=True), 4, "noise"))
    model = build(config).train()
    batch = task.batch(0, 0, 2)
    both = task.loss(model, batch, Draw(torch.Generator()))
    alone = [task.loss(part, batch, Draw(torch.Generator())) for part in model.parts]
    assert float(both.loss.detach()) == pytest.approx(sum(float(one.loss.detach()) for one in alone), rel=1e-5)
    assert both.nats_per_frame == pytest.approx(np.mean([one.nats_per_frame for one in alone]), rel=1e-5)


def test_an_ensemble_does_not_sample():
    model = wild("4x4>2x2>1x1", 8)
    with pytest.raises(UsageError, match="averages 3 models"):
        generate(model, SampleSettings())


def test_masked_levels_have_no_decisions_in_common():
    with pytest.raises(ValueError, match="members"):
        tiny_config("mar", "4x4>1x1", 8, model={"members": 2})
