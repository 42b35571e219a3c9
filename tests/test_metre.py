"""Metre: bars of any length on a canvas of columns, each of which begins with a bar or within a long one."""

import numpy as np
import pytest
import torch
from fractal_support import all_canvases, price, tiny
from roll_support import notes_to_cells

from varcli.pianoroll.config import ModelConfig
from varcli.pianoroll.metre import BarColumns, shares
from varcli.pianoroll.model.canvas import Limits
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import Note, Vocabulary

MODEL = ModelConfig(voices=("melody", "piano"), form=True, metre=True)
WALTZ = BarColumns.of(40, 16, 4, 12)


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        (16, (16,)),  # 4/4
        (12, (12,)),  # 3/4 and 6/8
        (8, (8,)),
        (3, (3,)),
        (24, (12, 12)),  # 12/8 and 6/4
        (20, (12, 8)),  # 5/4
        (18, (12, 6)),  # 9/8
        (28, (16, 12)),  # 7/4
        (22, (12, 10)),  # 11/8
        (17, (9, 8)),
        (32, (16, 16)),
        (48, (16, 16, 16)),
    ],
)
def test_long_bars_are_cut_at_beats(bar: int, expected: tuple[int, ...]) -> None:
    assert shares(bar, 16, 4) == expected


def test_every_bar_begins_a_column() -> None:
    assert WALTZ.lengths == (12, 12, 12, 12) and WALTZ.canvas_steps == 48 + 4
    assert WALTZ.starts.tolist() == [0, 12, 24, 36]
    assert WALTZ.source[[0, 11, 12, 15, 16, 51]].tolist() == [0, 11, 11, 11, 12, 39]
    assert [WALTZ.piece_step(step) for step in (0, 11, 12, 15, 16, 52)] == [0, 11, 12, 12, 12, 40]
    upbeat = BarColumns.of(100, 16, 4, 12, [0, 4, 16, 28, 52, 72, 84])
    assert upbeat.lengths == (4, 12, 12, 12, 12, 12, 8, 12, 16)
    assert upbeat.begins == (True, True, True, True, False, True, False, True, True)
    assert BarColumns.of(100, 16, 4, 12, range(0, 100, 16)).lengths == (16,) * 7


def test_models_are_told_what_a_bar_is() -> None:
    assert WALTZ.metres.tolist() == [12] * 4
    bars = BarColumns.of(60, 16, 4, 12, (0, 2, 14, 38), {12: 8, 24: 4})
    assert bars.lengths == (2, 12, 12, 12, 12, 12) and bars.metres.tolist() == [18, 28, 12, 12, 12, 12]


def test_the_last_bar_is_as_long_as_it_would_be() -> None:
    """Nothing tells where a piece ends."""
    for steps in (37, 40, 48):
        assert BarColumns.of(steps, 16, 4, 12).lengths == (12,) * 4
    assert BarColumns.of(26, 16, 4, 24).lengths == (12, 12, 12)
    assert BarColumns.of(20, 16, 4, 12, [0, 4]).lengths == (4, 16)


@pytest.mark.parametrize("seed", range(5))
def test_a_piece_comes_back_from_its_canvas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    downbeats = np.cumsum(rng.choice([3, 6, 8, 12, 16, 20, 24], 12))
    steps = int(downbeats[-1] + rng.integers(1, 9))
    cells = rng.integers(0, 5, (128, steps)).astype(np.uint8) * (rng.random((128, steps)) < 0.1)
    planes = Planes.over(MODEL, steps, 12, downbeats.tolist())
    canvas = planes.stack({"melody": cells, "piano": cells[::-1]})
    assert canvas.shape == (planes.rows, planes.canvas_steps(steps))
    voices = planes.split(canvas)
    assert np.array_equal(voices["melody"], cells) and np.array_equal(voices["piano"], cells[::-1])
    allowed = planes.allowed(np.ones(128, bool), canvas.shape[1], 16)
    assert allowed[48].sum() == steps and not (canvas[48:] >= 2)[~allowed[48:]].any()
    assert allowed[0, 15:-1:16].all()  # the plan is written in the last step of a column, in the bar or beyond
    bars = planes.bars
    assert bars is not None
    part = bars.crop(3, 4)
    first = int(bars.starts[3])
    own = cells[:, first : first + part.steps]
    assert np.array_equal(part.spread(own), canvas[planes.pitch_rows("melody")][:, 48 : 48 + part.canvas_steps])
    nats = rng.random((4, canvas.shape[1]))
    assert bars.gather(nats).shape == (4, steps)
    assert np.allclose(bars.gather(nats).sum(1), nats.sum(1))


def test_a_note_over_the_bar_line_goes_on_as_held() -> None:
    vocabulary = Vocabulary()
    cells = notes_to_cells([Note(60, 10, 8, 80), Note(64, 8, 4, 80), Note(67, 12, 2, 80)], 24, vocabulary)[0]
    canvas = WALTZ.spread(np.pad(cells, ((0, 0), (0, 16))))
    assert (canvas[60, 11:18] == 1).all()
    assert (canvas[64, 9:16] == 1).all() and canvas[64, 16] == 0  # no one knows yet that it ends
    assert not canvas[67, 12:16].any() and canvas[67, 16] >= 2


def test_what_is_given_beyond_a_bar_follows_from_what_is_given() -> None:
    codes = np.zeros((4, 52), np.uint8)
    codes[0, 8], codes[0, 9:18] = 3, 1
    codes[1, 11] = 3
    codes[1, 12:16] = 1
    given = np.zeros(codes.shape, bool)
    given[:2, :12] = True
    after, known = WALTZ.spread_given(given, codes * given)
    assert after[:2, 12:16].all() and (known[:2, 12:16] == 1).all() and not after[2:].any()
    given = np.zeros(codes.shape, bool)
    given[:, 16:] = True
    after, known = WALTZ.spread_given(given, codes * given)
    assert after[0, 12:16].all() and (known[0, 12:16] == 1).all()  # what is held began somewhere
    assert not after[1:, 12:16].any() and not known[1:, 12:16].any()
    assert after[:, 28:32].all() and not known[:, 28:32].any()


def test_metre_has_its_needs() -> None:
    assert Planes.over(ModelConfig(voices=("a", "b")), 40, 12).bars is None
    with pytest.raises(ValueError, match="metre needs"):
        ModelConfig.model_validate({"metre": True, "steps_per_bar": 12})


def test_probabilities_of_all_pieces_add_up_to_one() -> None:
    """What lies beyond a bar is no decision, and leaks nothing of one."""
    options = {"steps_per_bar": 2, "metre": True, "steps_per_beat": 1}
    model = tiny("ar", "2x2>1x1", 2, notes=True, model=options)
    planes = Planes.over(model.config.model, 4, 2, (0, 1, 3))
    assert planes.bars is not None and planes.bars.lengths == (1, 2, 2)
    canvases = np.array([planes.stack_piece(cells, None) for cells in all_canvases(2, 4, 3).numpy()])
    assert (canvases[:, :, 1] == (canvases[:, :, 0] > 0)).all()
    shape = (len(canvases), -1, -1)
    allowed = torch.from_numpy(planes.allowed(np.ones(2, bool), 5, 2)).expand(*shape)
    limits = Limits(allowed=allowed, metres=torch.from_numpy(planes.bars.metres).expand(shape[:2]))
    nats = price(model, canvases, limits=limits)
    assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-4)
    assert np.isfinite(nats[(canvases[:, :, 1] == 1).all(1) & (canvases[:, :, 2] == 1).all(1)]).any()
