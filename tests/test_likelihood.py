"""Likelihood of pieces: what is summed, where it falls, and what is never counted."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import price, some_canvas, tiny, tiny_config

from varcli.errors import UsageError, VarError
from varcli.pianoroll.corpus.corpus import Piece
from varcli.pianoroll.evaluation import likelihood
from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score
from varcli.pianoroll.events import PieceScored
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel


def piece(cells: np.ndarray, name: str = "a") -> Piece:
    return Piece(name, cells, np.zeros(0, np.int32), 0.0, "test")


def report_of(model: FractalModel, *pieces: Piece, **options: Any) -> LikelihoodReport:
    *_, report = score(model, pieces, **options)
    assert isinstance(report, LikelihoodReport)
    return report


def pieces_for(model: FractalModel, *steps: int) -> list[Piece]:
    return [piece(some_canvas(model, count, seed=count), f"piece {count}") for count in steps]


@pytest.mark.parametrize("order", ["column_major", "row_major"])
def test_a_report_adds_up(order) -> None:
    model = tiny("ar", "4x4>2x2>1x1", 8, notes=True, velocity_bins=3, scan_order=order)
    pieces = pieces_for(model, 11, 3, 1, 16)
    *progress, report = score(model, pieces)
    assert isinstance(report, LikelihoodReport) and report.exact
    assert [(event.done, event.total) for event in progress if isinstance(event, PieceScored)] == [
        (n, 4) for n in range(1, 5)
    ]
    assert progress[-1].nats_per_frame == pytest.approx(report.nats_per_frame)
    assert report.frames == 31
    assert [part.name for part in report.pieces] == [p.name for p in pieces]
    assert [part.frames for part in report.pieces] == [11, 3, 1, 16]
    assert report.nats_per_frame * 31 == pytest.approx(sum(part.nats for part in report.pieces))
    assert list(report.bits_per_level) == ["L0", "L1", "L2", "L3"]
    assert sum(report.bits_per_level.values()) * math.log(2) == pytest.approx(report.nats_per_frame)
    for part, given in zip(report.pieces, pieces, strict=True):
        assert part.nats == pytest.approx(price(model, given.cells[None])[0], rel=1e-5)
        assert part.cells_nats.shape == given.cells.shape and part.cells_nats.dtype == np.float32
        assert part.cells_nats.sum() == pytest.approx(part.nats, rel=1e-5)
        assert (part.cells_nats >= 0).all()


def test_nats_fall_where_their_decisions_lie() -> None:
    model = tiny("ar", "4x4>2x2>1x1", 8, notes=True)
    cells = some_canvas(model, 11, density=0.2)
    (part,) = report_of(model, piece(cells)).pieces
    expected = np.zeros(cells.shape)
    for decisions in model.walk(torch.from_numpy(cells)[None], Draw(torch.Generator())):
        h, w = model.tree.shapes[min(decisions.level, 2)]
        rows = zip(decisions.nats.tolist(), decisions.pitch.tolist(), decisions.step.tolist(), strict=True)
        for nats, p, t in rows:
            area = expected[p : p + h, t : t + w]
            area += nats / area.size
    np.testing.assert_allclose(part.cells_nats, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_a_piece_costs_the_same_alone_and_in_company_and_padding_is_never_scored(kind) -> None:
    model = tiny(kind, "4x4>2x2>1x1", 8, notes=True)
    pieces = pieces_for(model, 13, 2, 6)
    together = report_of(model, *pieces, passes=3, seed=4)
    for part, given in zip(together.pieces, pieces, strict=True):
        (alone,) = report_of(model, given, passes=3, seed=4).pieces
        assert alone.nats == pytest.approx(part.nats, rel=1e-6)
    silence = [report_of(model, piece(np.zeros((8, steps), np.uint8))).frames for steps in (5, 8)]
    assert silence == [5, 8]


def test_pieces_may_be_scored_in_parts_that_fit_the_memory(monkeypatch) -> None:
    model = tiny("ar", "4x4>2x2>1x1", 8, notes=True)
    pieces = pieces_for(model, 21)
    whole = report_of(model, *pieces)
    monkeypatch.setattr(likelihood, "PARENTS_AT_ONCE", 2)
    assert report_of(model, *pieces).nats_per_frame == pytest.approx(whole.nats_per_frame, rel=1e-5)


@pytest.mark.parametrize("notes", [False, True])
def test_nats_from_the_second_frame_on_leave_out_the_first_of_every_piece(notes) -> None:
    model = tiny("ar", "8x1>2x1>1x1", 8, notes=notes)
    pieces = pieces_for(model, 9, 4, 1)
    report = report_of(model, *pieces)
    by_hand = 0.0
    for given in pieces:
        for decisions in model.walk(torch.from_numpy(given.cells)[None], Draw(torch.Generator())):
            by_hand += float(decisions.nats[decisions.step > 0].detach().sum())
    assert report.nats_per_frame_from_2 == pytest.approx(by_hand / (8 + 3), rel=1e-5)
    # The chain rule: the first frame costs the same however the piece goes on.
    first = [price(model, given.cells[None, :, :1])[0] for given in pieces]
    assert [part.first_frame_nats for part in report.pieces] == pytest.approx(first, rel=1e-4)
    assert report_of(model, *pieces_for(model, 1)).nats_per_frame_from_2 is None


@pytest.mark.parametrize(
    ("kinds", "shapes", "order"),
    [
        ("ar", "4x4>1x1", "column_major"),
        ("ar", "4x1>1x1", "row_major"),
        ("mar", "8x1>1x1", "column_major"),
        (("ar", "mar"), "8x1>1x1", "column_major"),
    ],
)
def test_where_frames_are_not_visited_one_by_one_there_is_no_such_figure(kinds, shapes, order) -> None:
    model = tiny(kinds, shapes, 8, scan_order=order)
    report = report_of(model, *pieces_for(model, 6))
    assert report.nats_per_frame_from_2 is None
    assert report.pieces[0].first_frame_nats is None
    assert report.exact == (kinds == "ar")


def test_masked_models_are_estimated_from_passes_that_a_seed_repeats() -> None:
    model = tiny("mar", "4x4>2x2>1x1", 8, notes=True)
    pieces = pieces_for(model, 9, 5)
    report = report_of(model, *pieces, passes=4, seed=1)
    assert not report.exact
    assert report_of(model, *pieces, passes=4, seed=1).nats_per_frame == report.nats_per_frame
    assert report_of(model, *pieces, passes=4, seed=2).nats_per_frame != report.nats_per_frame
    for part in report.pieces:
        assert part.cells_nats.sum() == pytest.approx(part.nats, rel=1e-5)
    singles = [report_of(model, *pieces, seed=seed).nats_per_frame for seed in range(60)]
    fours = [report_of(model, *pieces, passes=4, seed=100 + seed).nats_per_frame for seed in range(30)]
    error = math.hypot(np.std(singles) / 60**0.5, np.std(fours) / 30**0.5)
    assert abs(np.mean(singles) - np.mean(fours)) < 4 * error
    assert np.std(fours) < 0.8 * np.std(singles)


def test_an_untrained_model_knows_nothing_but_that_most_is_empty() -> None:
    torch.manual_seed(0)
    model = FractalModel(tiny_config("ar", "8x1>1x1", 8)).eval()
    with torch.no_grad():
        for level in model.level_models:
            for table in (level.head, level.row_bias, level.row_head):
                for parameter in table.parameters():
                    parameter.zero_()
    cells = np.zeros((8, 4), np.uint8)
    assert report_of(model, piece(cells)).nats_per_frame == pytest.approx(math.log(2))
    cells[:] = 1
    assert report_of(model, piece(cells)).nats_per_frame == pytest.approx(9 * math.log(2))
    cells[:7] = 0
    # The last cell of a frame that is not empty is no question.
    assert report_of(model, piece(cells)).nats_per_frame == pytest.approx(8 * math.log(2))


def test_nothing_to_score_and_impossible_pieces_are_said_by_name() -> None:
    model = tiny("ar", "2x2>1x1", 4, notes=True)
    with pytest.raises(UsageError, match="no pieces"):
        report_of(model)
    orphan = np.zeros((4, 6), np.uint8)
    orphan[1, 3] = 1
    with pytest.raises(VarError, match="the odd one"):
        report_of(model, piece(orphan, "the odd one"))
