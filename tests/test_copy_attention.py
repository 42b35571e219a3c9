"""Copying: what pointers find, that they see nothing they may not, and that the model stays an exact one."""

from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import all_canvases, codes_of, follow, price, samples, some_canvas, tiny

from varcli.pianoroll.constants import GIVEN
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.context import Context
from varcli.pianoroll.model.copy_attention import Sides, candidates_of, find
from varcli.pianoroll.model.decisions import Draw

ECHO = {"echo": {"candidates": 3, "pitches_around": 1, "steps_before": 1, "steps_after": 1}}
MLP = {"network": "mlp"}


def found(cells: np.ndarray, *, column: int = 1, count: int = 4, sides: Sides = "past") -> Any:
    known = torch.from_numpy(cells)[None]
    return find(known, column=column, count=count, bar=4, binary=True, sides=sides)


def melody(*pitches: int) -> np.ndarray:
    cells = np.zeros((8, len(pitches)), np.uint8)
    cells[list(pitches), range(len(pitches))] = 1
    return cells


def test_a_column_points_to_where_the_longest_equal_stretch_ended():
    cells = melody(0, 1, 2, 3, 7, 2, 6, 5, 0, 1, 2, 4)
    assert found(cells).shift[0, 11, 0] == 3 - 11


def test_of_equally_long_stretches_the_latest_comes_first():
    cells = melody(0, 1, 2, 0, 1, 3, 0, 1, 4)
    assert found(cells).shift[0, 8, 0] == 5 - 8


def test_columns_point_only_back_where_only_the_past_is_known():
    shift = found(melody(*np.random.default_rng(0).integers(0, 8, 20))).shift[0]
    column = torch.arange(20)[:, None]
    assert bool(((shift <= 0) & (shift + column >= 0)).all())
    assert int((shift[0] != 0).sum()) == 0
    assert all(len(set(row[row != 0].tolist())) == int((row != 0).sum()) for row in shift)


def test_columns_point_both_ways_where_both_sides_are_known():
    shift = found(melody(0, 1, 2, 3, 0, 1, 2, 3), sides="both").shift[0]
    assert shift[1, 0] == 4
    assert shift[5, 0] == -4


@pytest.mark.parametrize("sides", ["past", "given", "both"])
def test_what_comes_later_does_not_move_a_pointer_to_the_past(sides: Sides):
    rng = np.random.default_rng(1)
    cells = (rng.random((8, 16)) < 0.3).astype(np.uint8)
    other = cells.copy()
    other[:, 10:] = rng.random((8, 6)) < 0.5
    a, b = found(cells, sides=sides), found(other, sides=sides)
    same = all(torch.equal(getattr(a, name)[:, :10], getattr(b, name)[:, :10]) for name in ("shift", "traits", "below"))
    assert same == (sides != "both")


def test_what_is_given_later_is_pointed_to_and_compared():
    cells = melody(0, 1, 2, 7, 6, 5, 3, 0, 1, 4, 6, 5)
    cells[:, 7:] |= GIVEN
    alone = found(cells[:, :4], sides="given").shift[0, 3]
    assert (alone <= 0).all()
    assert found(cells, sides="given").shift[0, 2, 0] == 9 - 2  # after 0, 1: there too, and later
    around = melody(7, 0, 3, 7, 2, 3, 7, 1, 3)
    around[:, 8:] |= GIVEN
    by_the_past = found(around[:, :8], sides="given", count=2)
    assert found(around, sides="given", count=2).traits[0, 7, 0, 0] > by_the_past.traits[0, 7, 0, 0]


SHAPES = [
    ("ar", "2x1>1x1", 2, 3, False, {}),
    ("ar", "2x1>1x1", 2, 3, False, MLP),
    ("ar", "2x2>1x1", 2, 3, False, {}),
    ("ar", "4x1>2x1>1x1", 4, 2, False, MLP),
    ("ar", "2x1>1x1", 2, 2, True, MLP),
]


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_sum_to_1_with_pointers(case: tuple, seed: int):
    kinds, shapes, pitches, steps, notes, level = case
    model = tiny(kinds, shapes, pitches, notes=notes, seed=seed, level=level, model=ECHO)
    nats = price(model, all_canvases(pitches, steps, codes_of(model)))
    assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "case", [*SHAPES, ("ar", "8x1>4x1>1x1", 8, 12, True, MLP), ("ar", "4x4>2x2>1x1", 8, 14, True, {})]
)
@pytest.mark.parametrize("polyphony", [True, False])
def test_sampling_prices_what_the_walk_prices(case: tuple, polyphony: bool):
    kinds, shapes, pitches, steps, notes, level = case
    polyphony = polyphony and shapes.split(">")[0].endswith("x1")
    options = ECHO | {"polyphony": polyphony, "tonality": True}
    model = tiny(kinds, shapes, pitches, notes=notes, level=level, model=options)
    canvases = np.stack([some_canvas(model, steps, seed=seed, density=0.4) for seed in range(3)])
    assert follow(model, canvases) == pytest.approx(price(model, canvases), rel=1e-4)
    alone = [follow(model, canvas[None])[0] for canvas in canvases]
    assert alone == pytest.approx(price(model, canvases), rel=1e-4)


@pytest.mark.parametrize("kinds", ["mar", ["mar", "ar"], ["ar", "mar"]])
@pytest.mark.parametrize("level", [{}, MLP])
def test_masked_probabilities_with_pointers_sum_to_1_in_a_fixed_order(kinds: Any, level: dict):
    model = tiny(kinds, "2x1>1x1", 2, level=level, model=ECHO)
    nats = follow(model, all_canvases(2, 3, 2))
    assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("level", [{}, MLP])
@pytest.mark.parametrize("shapes", ["4x1>2x1>1x1", "4x2>2x2>1x1"])
def test_no_decision_moves_when_a_later_cell_changes(shapes: str, level: dict):
    model = tiny("ar", shapes, 8, level=level, model=ECHO | {"tonality": True})
    rng = np.random.default_rng(0)
    for _ in range(6):
        cells = some_canvas(model, 12, seed=int(rng.integers(1000)), density=0.4)
        column = int(rng.integers(2, 5)) * 2
        other = cells.copy()
        other[:, column:] = rng.random(other[:, column:].shape) < 0.5
        before, after = priced(model, cells, column), priced(model, other, column)
        assert before.keys() == after.keys()
        assert list(before.values()) == pytest.approx(list(after.values()), abs=1e-6)


def priced(model: Any, cells: np.ndarray, stop: int) -> dict[tuple[int, int, int], float]:
    """Prices of all decisions before a step, by (level, pitch, step)."""
    prices = {}
    with torch.inference_mode():
        for part in model.walk(torch.from_numpy(cells)[None], Draw(torch.Generator())):
            rows = zip(part.pitch.tolist(), part.step.tolist(), part.nats.tolist(), strict=True)
            prices |= {(part.level, p, t): nats for p, t, nats in rows if t < stop}
    return prices


def test_what_a_pointer_shows_changes_the_price():
    model = tiny("ar", "4x1>2x1>1x1", 8, level={"steps_before": 0, "lags": ()}, model=ECHO)
    cells = some_canvas(model, 12, density=0.4)
    codes = torch.from_numpy(cells)[None]
    shift = candidates_of(codes, model.config.model).shift[0, 11]
    assert int((shift != 0).sum()) == 3
    other = cells.copy()
    source = int(shift[0]) + 11
    other[:, source] = 1 - other[:, source]
    assert priced(model, cells, 99)[0, 0, 11] != priced(model, other, 99)[0, 0, 11]


def test_candidates_of_a_piece_are_those_found_on_the_way():
    model = tiny("ar", "4x1>2x1>1x1", 8, model=ECHO)
    codes = torch.from_numpy(some_canvas(model, 12, density=0.4))[None]
    context = Context(model.config.model, Canvas(model.layout, codes))
    context.find_candidates()
    assert context.candidates is not None
    known = candidates_of(codes, model.config.model)
    assert torch.equal(known.shift, context.candidates.shift)
    assert price(model, codes, candidates=known) == pytest.approx(price(model, codes), rel=1e-6)


def test_where_nothing_sounds_there_is_nothing_to_point_for():
    model = tiny("mar", "4x4>2x2>1x1", 8, notes=True, model=ECHO)
    assert np.isfinite(price(model, np.zeros((1, 8, 12), np.uint8))).all()
    ar = tiny("ar", "4x4>2x2>1x1", 8, notes=True, level=MLP, model=ECHO)
    assert np.isfinite(price(ar, np.zeros((1, 8, 12), np.uint8))).all()


@pytest.mark.parametrize("kinds", ["ar", "mar"])
def test_a_sample_that_copies_is_the_same_alone_and_in_company(kinds: str):
    # Others ask while it is in the midst of writing, which must not change what it knows of itself.
    model = tiny(kinds, "8x4>2x2>1x1", 16, notes=True, velocity_bins=3, model=ECHO | {"tonality": True})
    common: dict[str, Any] = {"num_samples": 3, "target_width": 20}
    together = samples(model, batch_size=3, **common)
    assert all(np.array_equal(a, b) for a, b in zip(samples(model, batch_size=1, **common), together, strict=True))
