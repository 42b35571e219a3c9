"""The plan of the harmony: what is read from the notes, how it is written, and a model that writes and hears it."""

from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import follow, tiny

from varcli.pianoroll.constants import CHORD_KINDS, PLAN_OF_DENSITY, PLAN_OF_KEY
from varcli.pianoroll.form import Plan
from varcli.pianoroll.harmony import NO_CHORD, QUALITIES, Harmony, key_of, places, rows_allowed
from varcli.pianoroll.inference.packing import Order
from varcli.pianoroll.model.canvas import Limits
from varcli.pianoroll.model.context import harmony_said, relative
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import HELD, ONSET
from varcli.pianoroll.training.given_masks import draw_given

KINDS = list(QUALITIES)


def struck(*chords: tuple[int, ...]) -> np.ndarray:
    """A voice u8 [1, 128, T] of chords, each half a bar of 16 steps long."""
    cells = np.zeros((1, 128, 8 * len(chords)), np.uint8)
    for half, pitches in enumerate(chords):
        cells[0, list(pitches), 8 * half] = ONSET
        cells[0, list(pitches), 8 * half + 1 : 8 * half + 8] = HELD
    return cells


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("root", [0, 5, 11])
def test_a_chord_in_root_position_is_what_it_is(kind: int, root: int) -> None:
    tones = QUALITIES[KINDS[kind]]
    harmony = Harmony.of(struck(tuple(48 + root + tone for tone in tones), ()), 16)
    assert harmony.chords.tolist() == [[12 * kind + root, NO_CHORD]]


def test_key_and_density_of_a_cadence() -> None:
    voices = struck((48, 60, 64, 67), (53, 60, 65, 69), (55, 59, 62, 67), (48, 60, 64, 67))
    harmony = Harmony.of(voices, 16)
    assert harmony.key.tolist() == [0, 0]
    assert harmony.chords.tolist() == [[0, 5], [7, 0]]
    assert harmony.density.tolist() == [4, 4], "eight notes: 7 or 8"
    assert key_of(np.array([2.0, 0, 1, 0, 1, 1, 0, 1, 0, 3, 0, 1])).minor


def test_what_is_written_is_in_its_places() -> None:
    harmony = Harmony.of(struck((50, 53, 57), (), (55, 59, 62), (55, 59, 62)), 16)
    cells = harmony.cells(28, 16)
    assert cells.shape == (48, 28)
    assert not cells[~rows_allowed(28, 16)].any()
    assert (cells > 0).sum(0).tolist() == [int(step % 16 in places(16)) for step in range(28)]
    assert cells[2, 4] == ONSET + KINDS.index("min")
    assert cells[12, 8] == ONSET
    assert cells[7, 20] == ONSET + KINDS.index("maj")


def test_a_transposed_canvas_has_its_harmony_transposed() -> None:
    planes = Planes(("a",), plan_rows=96)
    canvas = planes.canvas_of(struck((50, 53, 57, 60), (55, 59, 62, 65))[0], None, 16)
    moved = planes.write_plan(planes.transpose(canvas.copy(), 5), 16)
    rows = slice(48, 60)
    for at in (0, 4, 8):
        assert np.array_equal(np.roll(canvas[rows, at], 5), moved[rows, at])
    assert np.array_equal(canvas[:48], moved[:48])


def test_nodes_get_what_is_said_relative_to_themselves() -> None:
    harmony = Harmony.of(struck((48, 52, 55), (57, 60, 64), (53, 57, 60), ()), 16)
    said = harmony_said(torch.from_numpy(harmony.cells(32, 16))[None], 16)[0]
    minor_on_a, f_major = 1 + 12 + 9, 1 + 5
    assert said[0].tolist() == [0, 0, 0, 0]
    assert said[1:, 0].tolist() == [1, minor_on_a, f_major, CHORD_KINDS - 1]
    assert said[1:, 1].tolist() == [minor_on_a, 0, CHORD_KINDS - 1, 0], "the next bar is not known"
    rows = relative(said[[2]], torch.tensor([9 + 60])).tolist()[0]
    assert rows[0] == 1 + 12
    assert rows[1] == CHORD_KINDS
    assert rows[2] == PLAN_OF_KEY + 1 + (int(harmony.key[0]) % 12 - 9) % 12 + 12 * (int(harmony.key[0]) // 12)
    assert rows[3] == PLAN_OF_DENSITY + 1 + int(harmony.density[0])
    codes = harmony.cells(32, 16)
    codes[codes > 0] |= 128
    given = harmony_said(torch.from_numpy(codes)[None], 16)[0]
    assert given[2, 1] == f_major, "what is given is known beforehand"


def song(planes: Planes, seed: int) -> np.ndarray:
    """A canvas of four bars of 4 steps with its plan; the third bar is the first again."""
    rng = np.random.default_rng(seed)
    voices = {name: np.zeros((24, 16), np.uint8) for name in planes.names}
    for cells in voices.values():
        for bar in range(4):
            cells[rng.integers(0, 24, 3), 4 * bar + rng.integers(0, 4, 3)] = ONSET + rng.integers(0, 4, 3)
        cells[:, 8:12] = cells[:, :4]
    return planes.write_plan(planes.stack(voices), 4)


def model_that_hears(kind: str = "ar", **options: Any) -> FractalModel:
    echo = {"candidates": 2, "pitches_around": 1, "steps_before": 1, "steps_after": 1}
    config = {"voices": ["melody", "piano"], "form": True, "harmony": True, "tonality": True, "echo": echo}
    model = tiny(
        kind, "16x4>4x2>1x1", 24, notes=True, velocity_bins=12, model=config | options.pop("model", {}), **options
    )
    return model


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_sampling_prices_what_the_walk_prices(kind: str) -> None:
    masked = kind == "mar"
    model = model_that_hears(kind, level={"network": "mlp"} if masked else {})
    canvases = np.stack([song(Planes.of(model.config.model), seed) for seed in range(2)])
    walked, draw = np.zeros(2), Draw(torch.Generator(), scan=masked)
    with torch.inference_mode():
        for part in model.walk(torch.from_numpy(canvases), draw):
            np.add.at(walked, part.canvas.numpy(), part.nats.double().numpy())
    order = Order(order="time") if masked else None
    assert follow(model, canvases, order=order) == pytest.approx(walked, rel=1e-4)


def test_the_notes_of_a_bar_hang_on_its_harmony_and_no_earlier_ones_do() -> None:
    model = model_that_hears()
    cells = song(Planes.of(model.config.model), 0)
    other = cells.copy()
    other[48:96, 8:12] = np.roll(cells[48:96, 8:12], 1, axis=0)
    before, after = priced(model, cells), priced(model, other)
    moved = {node for node in before if before[node] != after.get(node)}
    assert all(t >= 8 for _, _, t in moved)
    assert any(8 <= t < 12 and p >= 96 for _, p, t in moved)
    assert all(p >= 48 for _, p, t in moved if t < 12)


def priced(model: FractalModel, cells: np.ndarray) -> dict[tuple[int, int, int], float]:
    planes, config = Planes.of(model.config.model), model.config.model
    allowed = torch.from_numpy(planes.allowed(np.ones(24, bool), cells.shape[1], config.steps_per_bar))[None]
    found = {}
    with torch.inference_mode():
        for part in model.walk(torch.from_numpy(cells)[None], Draw(torch.Generator()), limits=Limits(allowed=allowed)):
            rows = zip(part.pitch.tolist(), part.step.tolist(), part.nats.tolist(), strict=True)
            found |= {(part.level, p, t): nats for p, t, nats in rows}
    return found


def test_parts_of_the_plan_are_given_by_themselves() -> None:
    planes = Planes(("melody", "piano"), 24, 96)
    canvas, rng = song(planes, 1), np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        given = draw_given(canvas, rng, planes=planes, steps_per_bar=4)
        parts = [given[:48, 3].all(), *(given[48:96, at].all() for at in range(4))]
        seen.add(tuple(map(bool, parts)))
    assert (False, True, False, False, False) in seen, "the key alone"
    assert (False, False, True, True, False) in seen, "the chords alone"
    assert (True, True, True, True, True) in seen


def test_the_harmony_of_bars_that_are_given_is_known() -> None:
    planes = Planes(("melody", "piano"), 24, 96)
    canvas = song(planes, 2)
    given = np.zeros(canvas.shape, bool)
    given[96:, :6] = True
    known = planes.plan_known(canvas, given, 4)
    assert known[48:, :4].all()
    assert not known[48:, 4:].any()
    assert Plan.read(canvas[:48], 4).bars_back[2] == 2
