"""Models of voices: planes, the plan of the form and velocities that attend to others stay one exact model."""

import numpy as np
import pytest
import torch
from fractal_support import all_canvases, follow, price, tiny

from varcli.pianoroll.model.copy_attention import METRE, find
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import HELD, ONSET

VOICES = {"voices": ["melody", "piano"], "form": True, "velocity_attention": True, "tonality": True}
ECHO = {"candidates": 2, "pitches_around": 1, "steps_before": 1, "steps_after": 1}


def model_of_voices(**model: object) -> FractalModel:
    return tiny("ar", "16x4>4x2>1x1", 24, notes=True, velocity_bins=4, model=VOICES | {"echo": ECHO} | model)


def song(seed: int, bars: int = 4) -> np.ndarray:
    """A canvas of two voices whose third bar is the first again, with its plan."""
    rng, planes = np.random.default_rng(seed), Planes(("melody", "piano"), 24, 48)
    voices = {name: np.zeros((24, 4 * bars), np.uint8) for name in planes.names}
    for cells in voices.values():
        for bar in range(bars):
            pitch, start = rng.integers(0, 24, 2), 4 * bar + rng.integers(0, 3, 2)
            cells[pitch, start] = ONSET + rng.integers(0, 4, 2)
            cells[pitch[0], start[0] + 1] = HELD
        cells[:, 8:12] = cells[:, :4]
    return planes.write_plan(planes.stack(voices), 4)


@pytest.mark.parametrize("conditioning", [True, False])
def test_sampling_prices_what_the_walk_prices(conditioning: bool) -> None:
    model, canvases = model_of_voices(conditioning=conditioning), np.stack([song(seed) for seed in range(2)])
    assert canvases[0, 2, 11] >= ONSET, "the third bar is two bars back"
    assert follow(model, canvases) == pytest.approx(price(model, canvases), rel=1e-4)


def test_no_decision_knows_what_comes_after_it() -> None:
    model, cells = model_of_voices(), song(0)
    planes = Planes.of(model.config.model)
    melody, piano = (planes.pitch_rows(name) for name in planes.names)
    for later in (piano, melody, slice(0, planes.plan_rows)):
        other = cells.copy()
        other[later, 8:12] = 0
        other[later.start + 1, 11] = ONSET
        before, after = priced(model, cells), priced(model, other)
        moved = {node for node in before if before[node] != after.get(node)}
        assert moved
        first = later.start // 16 * 16
        assert all(t >= 12 or (t >= 8 and p >= first) for _, p, t in moved)


def priced(model: FractalModel, cells: np.ndarray) -> dict[tuple[int, int, int], float]:
    from varcli.pianoroll.model.decisions import Draw

    with torch.inference_mode():
        walk = list(model.walk(torch.from_numpy(cells)[None], Draw(torch.Generator())))
    return {
        (part.level, p, t): round(nats, 4)
        for part in walk
        for nats, p, t in zip(part.nats.tolist(), part.pitch.tolist(), part.step.tolist(), strict=True)
    }


def test_a_plan_adds_the_bar_that_returns_to_the_candidates() -> None:
    cells = song(0)
    found = find(torch.from_numpy(cells)[None], column=4, count=2, bar=4, binary=False, sides="past", plan_rows=48)
    assert found.shift[0, :, -1].tolist() == [0, 0, -8, 0]
    is_planned = found.traits[0, 2, :, 5 + len(METRE)]
    assert is_planned.tolist() == [0, 0, 1]
    assert found.traits[0, 2, -1, -4:].tolist() == [0, 0, 0, 1], "it returns as it was"


def test_a_plan_that_points_before_the_beginning_points_nowhere() -> None:
    cells = song(0)
    cells[:48], cells[40, 11] = 0, ONSET
    found = find(torch.from_numpy(cells)[None], column=4, count=2, bar=4, binary=False, sides="past", plan_rows=48)
    assert not found.shift[0, :, -1].any()


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_probabilities_sum_to_1_where_velocities_attend(kind: str) -> None:
    model = tiny(kind, "2x1>1x1", 2, notes=True, velocity_bins=2, model={"velocity_attention": True})
    assert np.exp(-follow(model, all_canvases(2, 2, 4))).sum() == pytest.approx(1, abs=1e-5)


def test_a_velocity_prefers_at_first_what_it_hears_around() -> None:
    torch.manual_seed(0)
    config = tiny("ar", "4x4>1x1", 8, notes=True, velocity_bins=16, model={"velocity_attention": True}).config
    model = FractalModel(config).eval()
    cells = np.zeros((8, 8), np.uint8)
    cells[3, [0, 2, 4]] = ONSET + 11
    prices = []
    for velocity in (11, 4):
        cells[5, 5] = ONSET + velocity
        prices.append(price(model, cells[None])[0])
    assert prices[0] < prices[1] - 0.5
