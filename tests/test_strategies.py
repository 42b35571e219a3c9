"""A third kind of level is one class and one registration: it trains, samples, and has a likelihood."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fractal_support import all_canvases, codes_of, config_of, follow, samples, some_canvas, tiny

from varcli.events import TrainStep
from varcli.loading import load_model
from varcli.pianoroll.config import LEVEL_KINDS, LevelConfig, LevelKind
from varcli.pianoroll.corpus.corpus import Piece
from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score
from varcli.pianoroll.events import PatchDone
from varcli.pianoroll.generation.generate import SampleSettings, generate
from varcli.pianoroll.generation.plans import STRATEGIES, register
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.model.level import STATE_EMPTY, STATE_OCCUPIED
from varcli.pianoroll.sampling.siblings import Siblings
from varcli.pianoroll.sampling.strategy import Decoder, Descend, LevelPlan, Request, Response
from varcli.train.loop import train


class RandomOrder:
    """Decides children one by one in random order, and fills each before the next."""

    kind = LevelKind("random", is_causal=False)

    def fill(self, plan: LevelPlan, siblings: Siblings, descend: Descend) -> Decoder:
        sample, n, any_occupied = siblings.sample, len(siblings.exists), plan.level == 0
        siblings.begin_masked()
        plan.started(siblings, n)
        order = siblings.exists[
            sample.policy.order(plan.level, siblings.p[siblings.exists], siblings.t[siblings.exists])
        ]
        for number, index in enumerate(order.tolist(), 1):
            response = yield Request(siblings, 0, len(siblings.p), np.array([index]))
            assert isinstance(response, Response)
            (p, t), forced = siblings.place(index), number == n and not any_occupied
            logits = response.logits[[index]]
            occupied = bool(sample.policy.each(plan.level, np.array([p]), np.array([t]), logits, forced)[0])
            if occupied:
                any_occupied = True
                yield from descend(sample, p, t, response.hidden[index])
            sample.finish(plan.level, p, t, plan.shape, empty=not occupied)
            siblings.state[index] = STATE_OCCUPIED if occupied else STATE_EMPTY
            plan.done(siblings, number, (number, n, 1), (siblings.box(index, plan.shape),))


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register(RandomOrder())
    yield
    del LEVEL_KINDS["random"], STRATEGIES["random"]


def test_a_kind_is_known_once_it_is_registered() -> None:
    assert not LevelConfig(kind="random", shape="1x1").is_causal
    with pytest.raises(ValueError, match="must be 'ar' or 'mar' or 'random', got 'chance'"):
        LevelConfig(kind="chance", shape="1x1")


def test_it_trains_and_its_checkpoint_samples_and_scores(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train_000, train_001, valid_002 = (rng.random((3, 24, 88)) < 0.1).astype(np.uint8)
    np.savez(tmp_path / "pieces.npz", train_000=train_000, train_001=train_001, valid_002=valid_002)
    config = config_of("random", steps=1)
    events = list(train(config, data=tmp_path / "pieces.npz", output_dir=tmp_path))
    assert [event.step for event in events if isinstance(event, TrainStep)] == [1]
    model, _ = load_model(tmp_path)
    assert isinstance(model, FractalModel) and model.masked
    done = [event for event in generate(model, SampleSettings(target_width=12)) if isinstance(event, PatchDone)]
    assert {event.kind for event in done} == {"random"}
    piece = Piece("one", some_canvas(model, 12, density=0.1), np.zeros(0, np.int32), 0.0, "test")
    report = list(score(model, [piece]))[-1]
    assert isinstance(report, LikelihoodReport) and not report.exact
    assert np.isfinite(report.nats_per_frame)


@pytest.mark.parametrize("kinds", [("random", "random"), ("ar", "random"), ("random", "mar")], ids="-".join)
def test_probabilities_of_all_canvases_sum_to_one_in_a_fixed_order(kinds: tuple[str, str]) -> None:
    model = tiny(kinds, "2x2>1x1", 2)
    assert np.exp(-follow(model, all_canvases(2, 4, codes_of(model)))).sum() == pytest.approx(1, abs=1e-5)


def test_its_price_is_that_of_masks_that_show_one_child_at_a_time() -> None:
    cells = some_canvas(tiny("mar", "4x4>2x2>1x1", 8, notes=True), 10)[None]
    prices = [follow(tiny(kind, "4x4>2x2>1x1", 8, notes=True), cells) for kind in ("random", "mar")]
    np.testing.assert_allclose(*prices, rtol=1e-6)


def test_a_sample_is_the_same_alone_and_in_company() -> None:
    model = tiny("random", "8x4>2x2>1x1", 16, notes=True, velocity_bins=3)
    together = samples(model, num_samples=3, batch_size=3, target_width=14)
    alone = samples(model, num_samples=3, batch_size=1, target_width=14)
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))
    assert any(cells.any() for cells in alone)
